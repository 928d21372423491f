"""Weights that are linear filters: what a prediction is multiplied by, frequency by frequency.

A sum of W_i·x0_i, with W_i linear maps of `b c f h w` that sum to 1, is a denoiser like others: as all denoisers of one
x share it, the same W_i combine eps, v, a flow's velocity and the score. So filters stand where numbers do, in `Affine`
and all that is made of it (guidance, composites, mixtures), and the limit of a plan has them where its legs have them.
A filter commutes with numbers, and with another filter if both are diagonal in frequency, as `LowPass` is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ivmix.solvers.algebra.denoiser import like
from ivmix.solvers.checks import check_number, whole

Linear = Callable[[Tensor], Tensor]
"""A linear map of `b c f h w` to the same shape, such as `LowPass()`."""

Number = float | Tensor


@dataclass(frozen=True, eq=False)
class Filter:
    """A weight of an `Affine` that is a linear map: a sum of numbers times products of maps, the empty one being 1.

    `Filter.of(low_pass)` is one map; +, - and * take numbers and other filters, a product being one map after the
    other, the right one first. Maps that are equal are added up, and what is left without any is a plain number, so
    that weights of sum 1 sum to 1 exactly. `filter * x` of a state is the filtered state.

    >>> from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork
    >>> image = GaussianNetwork("image", {"cat": Gaussian(1.0, 1.0)})("cat")
    >>> video = GaussianNetwork("video", {"cat": Gaussian(1.0, 2.0)})("cat")
    >>> W = Filter.of(LowPass())
    >>> mixed = W * video + (1 - W) * image  # how it moves and where things are from one, details from the other
    >>> mixed.total(1.0), mixed.cost(1.0), mixed(torch.ones(1, 4, 8, 2, 2), 1.0).shape
    (1.0, {'video': 1, 'image': 1}, torch.Size([1, 4, 8, 2, 2]))
    """

    terms: tuple[tuple[tuple[Linear, ...], Number], ...]

    @classmethod
    def of(cls, linear: Linear) -> "Filter":
        """`linear` as a weight; two of them are the same map if they are equal, as two `LowPass()` are."""
        if not callable(linear):
            raise TypeError(f"linear: got a {type(linear).__name__}, expected a map of `b c f h w`, such as LowPass()")
        return cls((((linear,), 1.0),))

    def __add__(self, other: Any) -> Any:
        return _collected((*self.terms, *_terms(other))) if _is_factor(other) else NotImplemented

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Tensor) and other.ndim:
            return self._apply(other)
        if not _is_factor(other):
            return NotImplemented
        return _collected((f + g, m * n) for f, m in self.terms for g, n in _terms(other))

    __radd__ = __add__

    def __rmul__(self, other: Any) -> Any:
        return self * other if _is_factor(other) else NotImplemented

    def __neg__(self) -> Any:
        return self * -1.0

    def __sub__(self, other: Any) -> Any:
        return self + -1.0 * other if _is_factor(other) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __float__(self) -> float:
        raise TypeError("a weight that is a filter is no number: expected weights that are, or sum to one")

    def __repr__(self) -> str:
        written = " + ".join(_written(maps, number) for maps, number in self.terms)
        return f"Filter({written.replace('+ -', '- ')})"

    def _apply(self, x: Tensor) -> Tensor:
        total: Tensor | None = None
        for maps, number in self.terms:
            y = x
            for linear in reversed(maps):
                y = like(x, linear(y), f"filter {linear!r}")
            total = number * y if total is None else total + number * y
        assert total is not None  # _collected
        return total


def _written(maps: tuple[Linear, ...], number: Number) -> str:
    shown = f"{number:g}" if isinstance(number, Real) else repr(number)
    product = "·".join(map(repr, maps))
    return product if product and shown == "1" else "·".join(filter(None, (shown, product)))


def _is_factor(value: Any) -> bool:
    return isinstance(value, Filter | Real) or (isinstance(value, Tensor) and value.ndim == 0)


def _terms(factor: Any) -> tuple[tuple[tuple[Linear, ...], Number], ...]:
    return factor.terms if isinstance(factor, Filter) else (((), factor),)


def _collected(terms: Iterable[tuple[tuple[Linear, ...], Number]]) -> Filter | Number:
    """The sum of `terms`: a number where no map is left."""
    numbers: dict[tuple[Linear, ...], Number] = {}
    for maps, number in terms:
        numbers[maps] = numbers[maps] + number if maps in numbers else number
    kept = {maps: n for maps, n in numbers.items() if isinstance(n, Tensor) or n != 0}
    return Filter(tuple(kept.items())) if any(kept) else kept.get((), 0.0)


class FrequencyFilter(ABC):
    """Base of filters over frames, rows and columns, called as `low_pass(x)` on x `b c f h w`, periodic at the edges.

    `response` is what each Fourier coefficient is multiplied by. Frequencies and cut-offs are in units of Nyquist's,
    half a cycle a sample.
    """

    @abstractmethod
    def response(self, frames: int, height: int, width: int) -> Tensor:
        """The factors (f, h, w), float64 on the CPU, in the order of `torch.fft.fftn`."""

    def __call__(self, x: Tensor) -> Tensor:
        size = x.shape[-3:]
        spectrum = torch.fft.rfftn(x, dim=(-3, -2, -1))
        return torch.fft.irfftn(self.response(*size).to(x)[..., : spectrum.shape[-1]] * spectrum, size, (-3, -2, -1))


@dataclass(frozen=True)
class CutOff(FrequencyFilter):
    """Base of low-passes whose factor at frequencies (u_f, u_h, u_w) is `gain(d²)`, d² = (u_f/temporal)² +
    (u_h/spatial)² + (u_w/spatial)²."""

    spatial: float = 0.25
    temporal: float = 0.25

    def __post_init__(self) -> None:
        for name in ("spatial", "temporal"):
            check_number(name, getattr(self, name), "a cut-off above 0, such as 0.25", lambda value: value > 0)

    @abstractmethod
    def gain(self, square: Tensor) -> Tensor:
        """The factor at the squared distances d² from rest."""

    def response(self, frames: int, height: int, width: int) -> Tensor:
        u_f, u_h, u_w = (2 * torch.fft.fftfreq(n, dtype=torch.float64) for n in (frames, height, width))
        f, h, w = torch.meshgrid(u_f / self.temporal, u_h / self.spatial, u_w / self.spatial, indexing="ij")
        return self.gain(f**2 + h**2 + w**2)


@dataclass(frozen=True)
class LowPass(CutOff):
    """Butterworth's filter, 1 / (1 + d^(2·order)): 1 at rest, one half at the cut-offs.

    d² = (u_f/temporal)² + (u_h/spatial)² + (u_w/spatial)² with frequencies in units of Nyquist's. Defaults are
    FreeInit's (arXiv 2312.07537).

    >>> LowPass().response(8, 16, 16)[0, [0, 2, 4], 0]  # at 0, 1/4 and 1/2
    tensor([1.0000, 0.5000, 0.0039], dtype=torch.float64)
    """

    order: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("order", self.order, 1)

    def gain(self, square: Tensor) -> Tensor:
        return 1 / (1 + square**self.order)


@dataclass(frozen=True)
class GaussianLowPass(CutOff):
    """exp(-d²/2): 1 at rest, 0.61 at the cut-offs, and no overshoot at an edge; d as of `LowPass`.

    FreeInit's other filter (arXiv 2312.07537) and VideoElevator's.

    >>> GaussianLowPass().response(8, 16, 16)[0, [0, 2, 4], 0]  # at 0, 1/4 and 1/2
    tensor([1.0000, 0.6065, 0.1353], dtype=torch.float64)
    """

    def gain(self, square: Tensor) -> Tensor:
        return (-square / 2).exp()


@dataclass(frozen=True)
class PowerComplement(FrequencyFilter):
    """sqrt(1 - L²) of a filter L between 0 and 1: independent noises of one spectrum mix to that very spectrum.

    >>> PowerComplement(LowPass()).response(8, 16, 16)[0, [0, 2, 4], 0]  # at 0, 1/4 and 1/2
    tensor([0.0000, 0.8660, 1.0000], dtype=torch.float64)
    """

    low: FrequencyFilter

    def __post_init__(self) -> None:
        if not isinstance(self.low, FrequencyFilter):
            raise TypeError(f"low: got a {type(self.low).__name__}, expected a filter of frequencies, as LowPass() is")

    def response(self, frames: int, height: int, width: int) -> Tensor:
        return (1 - self.low.response(frames, height, width) ** 2).sqrt()
