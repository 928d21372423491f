"""Windows: a network of one length or size, for states of any, by parts that overlap.

A state is cut along an axis into windows, each is evaluated as if it were a state by itself, and every entry is the
average of what the windows that hold it say, weighted by how far inside of each it lies:

    y_i = sum_k w_k(i)·y_k(i) / sum_k w_k(i)

That is the y that errs least, by weighted squares, from all windows at once (MultiDiffusion, arXiv 2302.08113, eq. 3 to
5: frames or pixels, it is one mechanism). At one x and sigma, x0, eps, v and a flow's velocity are affine functions of
each other, entry by entry, and the shares sum to 1: so the average of one is that of all, and a network may be cut
whatever it predicts, before what it says is read. What it costs: the windows are what is evaluated, in turn, so that
memory for activations is a window's; an entry that two of them hold is evaluated twice.

What is lost: a window knows nothing of what lies outside of it. Where x0_i depends on that given x, as the frames of
one scene do, the average is the denoiser of no distribution; where it does not, it is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ivmix.solvers.algebra.denoiser import like
from ivmix.solvers.checks import whole

Axis = Literal["frames", "height", "width"]
AXES: dict[str, int] = {"frames": 2, "height": 3, "width": 4}


@dataclass(frozen=True)
class Windows:
    """Windows of `length` entries along one axis of `b c f h w`, each sharing `overlap` or more with the next.

    They begin every `stride` = length - overlap entries, and the last ends where the state does, however near that is
    to the one before. Weights rise by one an entry to a window's middle and fall likewise, so that neighbours fade into
    each other.

    With `shift`, a function of what the network is told (its time, or sigma) that gives a share of the stride in
    [0, 1), all but the first and the last window begin that much later, so that seams lie elsewhere at every level.

    >>> windows = Windows(8, overlap=4)
    >>> windows.starts(21), windows.starts(8), windows.starts(5)
    ([0, 4, 8, 12, 13], [0], [0])
    """

    length: int
    overlap: int
    axis: Axis = "frames"
    shift: Callable[[Tensor], float] | None = None

    def __post_init__(self) -> None:
        whole("length", self.length, 1)
        whole("overlap", self.overlap, 0, self.length - 1, f", below the length {self.length}")
        if self.axis not in AXES:
            raise ValueError(f"axis: got {self.axis!r}, expected 'frames', 'height' or 'width'")

    @property
    def stride(self) -> int:
        """Entries from the beginning of a window to that of the next."""
        return self.length - self.overlap

    def starts(self, n: int, at: Any = None) -> list[int]:
        """Where the windows of `n` entries begin, at what the network is told; one at 0 where a window holds all."""
        last = n - self.length
        if last <= 0:
            return [0]
        share = 0.0 if self.shift is None else self.shift(at)
        if not 0 <= share < 1:
            raise ValueError(f"shift: got {share:g}, expected a share of the stride in [0, 1)")
        return sorted({0, last, *range(int(share * self.stride), last, self.stride)})

    def shares(self, n: int, at: Any = None) -> list[tuple[int, Tensor]]:
        """Where each window of `n` entries begins, and the share (length,) float64 of each of its entries: the shares
        of one entry sum to 1."""
        length = min(self.length, n)
        place = torch.arange(length, dtype=torch.float64)
        weight = 1 + torch.minimum(place, length - 1 - place)
        starts, total = self.starts(n, at), torch.zeros(n, dtype=torch.float64)
        for start in starts:
            total[start : start + length] += weight
        return [(start, weight / total[start : start + length]) for start in starts]


def windowed(function: Callable[..., Tensor], *windows: Windows) -> Callable[..., Tensor]:
    """`function` by windows: a network's `forward(z, t, condition)`, or a denoiser `(x, sigma)`, of `b c f h w`.

    Several `windows` are of several axes, evaluated all in all as the product of them. A state that one window holds is
    handed on as it is: the call is the plain one, bit for bit. Otherwise each window is a copy of its part, and the sum
    is in at least float32. Conditions are cut along (`cut_condition`); what is not laid out as the state, such as text,
    every window is told whole.

    A windowed network is one network: an evaluation of it counts once, as a row of a batch does, whatever its length.
    Views of it (`seen`) are windowed like it. Behind it a network meets one shape alone, so captured graphs hold one.

    >>> from ivmix.solvers.theory.analytic import Gaussian, exponential
    >>> eight = Gaussian(0.0, exponential(8))
    >>> long = windowed(eight, Windows(8, overlap=4))
    >>> long(torch.ones(1, 4, 64, 2, 2), 1.0).shape
    torch.Size([1, 4, 64, 2, 2])
    """
    for one in reversed(windows):
        function = partial(_by_windows, function, one)
    return function


def cut_condition(condition: Any, axis: Axis, n: int, start: int, length: int) -> Any:
    """What a window of a state of `n` entries along `axis` is told of a condition.

    A tensor `b c f h w` is cut where it has n entries and kept where it has one; an object whose class has
    `cut(axis, n, start, length)` cuts itself; all else, such as text, stays. ValueError for a `b c f h w` of another
    size.

    >>> cut_condition(torch.arange(6.0).reshape(1, 1, 6, 1, 1), "frames", 6, 2, 3).flatten()
    tensor([2., 3., 4.])
    """
    if hasattr(type(condition), "cut"):
        return condition.cut(axis, n, start, length)
    if not isinstance(condition, Tensor) or condition.ndim != 5 or condition.shape[AXES[axis]] == 1:
        return condition
    if condition.shape[AXES[axis]] != n:
        raise ValueError(f"condition: got shape {tuple(condition.shape)}, expected {n} or 1 along {axis}, as the state")
    return condition.narrow(AXES[axis], start, length)


def _by_windows(function: Callable[..., Tensor], windows: Windows, x: Tensor, at: Any, *conditions: Any) -> Tensor:
    if x.ndim != 5:
        raise ValueError(f"x: got shape {tuple(x.shape)}, expected b c f h w for a windowed network")
    dim, length = AXES[windows.axis], windows.length
    n = x.shape[dim]
    if n <= length:
        return function(x, at, *conditions)
    total: Tensor | None = None
    for start, share in windows.shares(n, at):
        part = x.narrow(dim, start, length).clone()  # which a network may write on, as on what it is told
        told = at.clone() if isinstance(at, Tensor) else at
        y = function(part, told, *(cut_condition(given, windows.axis, n, start, length) for given in conditions))
        y = like(part, y, "the windowed network")
        if total is None:
            total = torch.zeros_like(x, dtype=torch.promote_types(y.dtype, torch.float32))
        share = share.to(total.dtype).to(total.device, non_blocking=True)
        total.narrow(dim, start, length).add_(y * share.reshape(-1, *[1] * (4 - dim)))
    assert total is not None  # n > length > 0
    return total
