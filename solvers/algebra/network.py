"""Adapters: any network, with its schedule and its prediction, becomes a denoiser in VE coordinates.

With z = alpha·x, t = schedule.t(sigma) and y = forward(z, t, condition):

| prediction | y estimates | x0 = |
|---|---|---|
| "epsilon" | eps | x - sigma·y |
| "x0" | x0 | y |
| "v" | alpha·eps - sigma_vp·x0 (arXiv 2202.00512, appendix D) | (alpha·z - sigma_vp·y) / (alpha² + sigma_vp²) |
| "flow" | eps - x0 (arXiv 2209.03003, noise at t = 1) | (z - sigma_vp·y) / (alpha + sigma_vp) |

Networks of other packages need no code here, only a function of (z, t, condition); diffusers' modules, say, of which
these four stand for `UNet2DConditionModel`, `UNetMotionModel`, `UNet3DConditionModel` and a flow-matching transformer
such as `WanTransformer3DModel`, called as the real ones are:

>>> from types import SimpleNamespace
>>> def unet(z, t, encoder_hidden_states):  # noisy latents, a 0-d time, text features (rows, tokens, width)
...     return SimpleNamespace(sample=torch.zeros_like(z))
>>> def transformer(hidden_states, timestep, encoder_hidden_states):  # a time per row, 1000 at pure noise
...     return SimpleNamespace(sample=0 * hidden_states + timestep.reshape(-1, 1, 1, 1, 1))
>>> text, vp, x = torch.zeros(1, 7, 16), Schedule.scaled_linear(), torch.ones(1, 4, 8, 2, 2)

An image UNet, frame by frame, each frame with its sample's text (`sample` leaves diffusers' output object):

>>> def frames(z, t, text): return unet(z, t, encoder_hidden_states=text).sample
>>> image = Network(framewise(frames, repeat_rows), vp, "epsilon", "image")
>>> image(text)(x, 2.0).shape
torch.Size([1, 4, 8, 2, 2])

A motion UNet, which takes and gives `b c f h w` but wants a row of text per frame; AnimateDiff's schedule is linear:

>>> def clips(z, t, text): return unet(z, t, encoder_hidden_states=repeat_rows(text, z.shape[2])).sample
>>> video = Network(clips, Schedule.linear(0.00085, 0.012), "epsilon", "video")
>>> video(text)(x, 2.0).shape
torch.Size([1, 4, 8, 2, 2])

A 3-D UNet (ModelScope), in half precision while the state stays in its own:

>>> def clips(z, t, text): return unet(z, t, encoder_hidden_states=text.to(z.dtype)).sample
>>> video = Network(clips, vp, "epsilon", "video", dtype=torch.float16)
>>> video(text)(x, 2.0).dtype
torch.float32

A flow-matching transformer, which is told 1000·s and predicts eps - x0; it mixes with any of the above at equal sigma:

>>> def flow(z, t, text): return transformer(z, t.to(z).expand(len(z)), text).sample
>>> wan = Network(flow, Schedule.rectified_flow(t_max=1000.0), "flow", "video")
>>> wan(text)(x, 3.0).mean()  # s = 3/4: z = x/4, x0 = z - s·750
tensor(-562.2500)
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ivmix.solvers.algebra.affine import Affine, Atom
from ivmix.solvers.algebra.boundary import Boundary
from ivmix.solvers.algebra.denoiser import cast, like
from ivmix.solvers.checks import whole
from ivmix.solvers.schedules.schedule import Schedule

Forward = Callable[[Tensor, Tensor, Any], Tensor]
Prediction = Literal["epsilon", "x0", "v", "flow"]


def join_conditions(conditions: Sequence[Any]) -> Any:
    """One condition for a batch that stacks the rows of several: None stays None, tensors are concatenated on dim 0,
    objects whose class has a `cat(list)` are joined by it.

    >>> join_conditions([torch.zeros(2, 3), torch.ones(2, 3)]).shape
    torch.Size([4, 3])
    """
    first = conditions[0]
    if len(conditions) == 1 or all(condition is None for condition in conditions):
        return first
    kind = type(first)
    if all(isinstance(condition, Tensor) for condition in conditions):
        return torch.cat(list(conditions))
    if all(type(condition) is kind for condition in conditions) and hasattr(kind, "cat"):
        return kind.cat(list(conditions))
    kinds = ", ".join(type(condition).__name__ for condition in conditions)
    raise TypeError(f"join: got conditions of types {kinds}; expected all None, all tensors, or a class with cat(list)")


@dataclass(frozen=True, eq=False)
class Network:
    """A network as a source of atoms: `network(condition)` is an `Affine` of weight 1.

    `forward(z, t, condition) -> y`: z is `b c f h w` in `dtype` (None: the state's), t a 0-d float64 CPU tensor (the
    fractional training time, or with `timesteps="nearest"` the nearest training level), y of z's shape. Atoms of one
    Network that meet in a combination are evaluated in one batch: z is repeated, conditions are joined by `join`, once
    per set of conditions (they are compared by identity and must not be changed in place). y is cast to the state's
    dtype before anything is combined. `forward` may write on its z and t. Build one Network per run; it holds the
    joined conditions alive.

    `views(**how)` is the forward of the same weights seen differently, such as without some layers: see `seen`. A
    consistency model has its `boundary`: x0 is then where a trajectory ends rather than a mean, and of no ODE.

    Out of the schedule's range: ValueError. Autograd is left as the caller set it.

    >>> schedule = Schedule.scaled_linear()
    >>> network = Network(lambda z, t, condition: torch.zeros_like(z), schedule, "epsilon", "video")
    >>> network(None)(torch.ones(1, 4, 8, 2, 2), 1.5).mean()
    tensor(1.)
    """

    forward: Forward = field(repr=False)
    schedule: Schedule = field(repr=False)
    prediction: Prediction
    name: str
    dtype: torch.dtype | None = None
    timesteps: Literal["fractional", "nearest"] = "fractional"
    join: Callable[[Sequence[Any]], Any] = field(default=join_conditions, repr=False)
    views: Callable[..., Forward] | None = field(default=None, repr=False)
    boundary: Boundary | None = None
    _seen: dict[Any, "Network"] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise TypeError(f"schedule: got a {type(self.schedule).__name__}, expected a Schedule")
        if self.prediction not in ("epsilon", "x0", "v", "flow"):
            raise ValueError(f"prediction: got {self.prediction!r}, expected 'epsilon', 'x0', 'v' or 'flow'")
        if self.timesteps not in ("fractional", "nearest"):
            raise ValueError(f"timesteps: got {self.timesteps!r}, expected 'fractional' or 'nearest'")
        object.__setattr__(self, "join", remember(self.join))

    def __call__(self, condition: Any = None) -> Affine:
        return Affine(((Atom(self, condition), 1.0),))

    def seen(self, **how: Hashable) -> "Network":
        """The network whose forward is `views(**how)`, for one `how` always the same one: a source of atoms of its own.

        Evaluations of all views are counted under one name, "video perturbed". TypeError without `views`.
        """
        if self.views is None:
            raise TypeError(f"network {self.name!r} can be seen in one way alone: it has no views")
        key = frozenset(how.items())
        if key not in self._seen:
            forward, name = self.views(**how), f"{self.name} perturbed"
            self._seen[key] = replace(self, forward=forward, name=name, views=None)
        return self._seen[key]

    @property
    def reach(self) -> tuple[float, float]:
        """The levels it can be evaluated at: all of its schedule's, but epsilon says nothing where alpha = 0."""
        blind = self.prediction == "epsilon" and math.isinf(self.schedule.sigma_max)
        return self.schedule.sigma_min, self.schedule.sigmas[-2].item() if blind else self.schedule.sigma_max

    def predict(self, x: Tensor, sigma: Tensor, conditions: Sequence[Any]) -> list[Tensor]:
        """x0 `b c f h w` in x's dtype under each condition, from one call of `forward` with all rows stacked."""
        try:
            t, alpha = self.schedule.at(sigma)
        except ValueError as error:
            raise ValueError(f"network {self.name!r} cannot be evaluated at this level: {error}") from None
        if alpha == 0 and self.prediction == "epsilon":
            raise ValueError(f"network {self.name!r} predicts epsilon, which says nothing of x0 where alpha = 0")
        if self.timesteps == "nearest":
            t = self.schedule.nearest(t)
        dtype, n = self.dtype or x.dtype, len(conditions)
        # A network may write on its z and t, so they are never x itself, nor the schedule's.
        t, z = t.clone(), x.to(dtype, copy=True) if alpha == 0 else cast(alpha * x, dtype)
        rows = z if n == 1 else torch.cat([z] * n)
        y = self.forward(rows, t, self.join(tuple(conditions)))
        y = cast(like(rows, y, f"network {self.name!r}"), x.dtype)
        found = [self._x0(x, y_row, sigma.item(), alpha) for y_row in ((y,) if n == 1 else y.chunk(n))]
        if self.boundary is None:
            return found
        c_skip, c_out = self.boundary.at(t.item())
        return [(c_out * x0).add(x, alpha=c_skip * (alpha or 1.0)) for x0 in found]

    def _x0(self, x: Tensor, y: Tensor, sigma: float, alpha: float) -> Tensor:
        """The table's last column, from the state x = z / scale."""
        scale, sigma_vp = (alpha, alpha * sigma) if alpha > 0 else (1.0, self.schedule.sigma_vp[-1].item())
        match self.prediction:
            case "epsilon":
                return x.sub(y, alpha=sigma)
            case "x0":
                return y
            case "v":
                square = alpha**2 + sigma_vp**2
                return (alpha * scale / square * x).sub(y, alpha=sigma_vp / square)
            case "flow":
                return (scale / (alpha + sigma_vp) * x).sub(y, alpha=sigma_vp / (alpha + sigma_vp))


def seen(field: Affine, **how: Hashable) -> Affine:
    """`field` with all of its networks seen differently (`Network.seen`), under the same conditions and weights.

    >>> def views(skip): return lambda z, t, condition: z / 2  # of a network with names of layers
    >>> video = Network(lambda z, t, condition: z, Schedule.ve(0.1, 10.0), "x0", "video", views=views)
    >>> weak = seen(video(None), skip=("mid_block",))
    >>> weak(torch.ones(1, 1, 2, 1, 1), 1.0).mean(), (video(None) - weak).cost(1.0)
    (tensor(0.5000), {'video': 1, 'video perturbed': 1})
    """
    terms = []
    for atom, weight in field.terms:
        if not hasattr(atom.model, "seen"):
            raise TypeError(f"field: got a {type(atom.model).__name__} in it, expected a Network with views")
        terms.append((Atom(atom.model.seen(**how), atom.condition), weight))
    return Affine(tuple(terms))


def framewise(forward: Forward, repeat: Callable[[Any, int], Any] | None = None) -> Forward:
    """An image network `forward(z (b f) c h w, t, condition)` as a video network on `b c f h w`, frame by frame.

    Frames of one sample are neighbours in the batch. `repeat(condition, f)`, such as `repeat_rows`, gives every frame
    its sample's condition, once per condition; None: the condition is passed as it is (shared by all rows, or repeated
    by the caller).
    """
    widen = remember(lambda given: repeat(*given)) if repeat else lambda given: given[0]

    def forward_frames(z: Tensor, t: Tensor, condition: Any) -> Tensor:
        if z.ndim != 5:
            raise ValueError(f"x: got shape {tuple(z.shape)}, expected b c f h w for a framewise network")
        rows = z.transpose(1, 2).flatten(0, 1)  # (b f) c h w
        y = like(rows, forward(rows, t, widen((condition, z.shape[2]))), "the framewise network")
        return y.unflatten(0, (z.shape[0], z.shape[2])).transpose(1, 2)

    return forward_frames


def enlarged(forward: Forward, size: int) -> Forward:
    """`forward(z, t, condition)` of a network trained on latents of size x size, for states `b c f h w` of any.

    eps(z) = M·eps(U·z): U repeats every latent k x k times and M is the mean of such a block, with k = `enlargement`.
    Where k = 1, U and M are the identity.

    As M·U = 1, only the prediction is resampled, never the state: x0 = M·x0(U·x) for every kind of prediction, and
    weights, solvers and other networks know nothing of it. U keeps the variance of noise but makes k x k latents one
    draw, which no network was trained on; M evens out what it predicts for them. An evaluation costs k² times as much.

    The authors' loop does the same around its legs (`RESIZE_64`), but takes the first of each block: with `Euler` that
    is their leg but for the mean, which on the embedded image model at half its size errs less.
    """
    whole("size", size, 1)

    def forward_enlarged(z: Tensor, t: Tensor, condition: Any) -> Tensor:
        k = enlargement(z.shape[-2], z.shape[-1], size)
        if k == 1:
            return forward(z, t, condition)
        large = z.repeat_interleave(k, -2).repeat_interleave(k, -1)
        y = like(large, forward(large, t, condition), "the enlarged network")
        return y.unflatten(-1, (-1, k)).unflatten(-3, (-1, k)).mean((-3, -1))

    return forward_enlarged


def enlargement(height: int, width: int, size: int) -> int:
    """The whole number >= 1 that brings height x width latents nearest to size x size, as lengths go.

    >>> [enlargement(*latents, 64) for latents in ((32, 32), (40, 64), (24, 40), (96, 96))]
    [2, 1, 2, 1]
    """
    return max(1, round(size / math.sqrt(height * width)))


def repeat_rows(condition: Tensor | None, frames: int) -> Tensor | None:
    """Each row of a tensor `frames` times, neighbours together; None stays None."""
    return None if condition is None else condition.repeat_interleave(frames, 0)


def remember(function: Callable[[tuple[Any, ...]], Any], size: int = 8) -> Callable[[tuple[Any, ...]], Any]:
    """`function` of a tuple, remembered for the last `size` tuples whose members are the very same objects."""
    known: dict[tuple[int, ...], tuple[tuple[Any, ...], Any]] = {}

    def remembered(values: tuple[Any, ...]) -> Any:
        key = tuple(map(id, values))
        if key not in known:
            while len(known) >= size:
                known.pop(next(iter(known)))
            known[key] = values, function(values)  # holding `values` keeps their ids from being reused
        return known[key][1]

    return remembered
