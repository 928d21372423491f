"""Adaptive guidance: weights computed from the predictions at this x and sigma rather than given.

    y = w_c·c + w_u·u + w_m·m

c and u are what a network predicts with and without its condition, m is what the last step left in memory, and the
weights, one set a clip, are numbers made of c, u and m: a method is the few lines that make them. A method has a
*space*, what its formula means by a prediction. All four are affine in x0, y = gain·(share·x - x0):

| space | y | share | gain |
|---|---|---|---|
| "x0" | x0 | 0 | -1 |
| "epsilon" | eps | 1 | 1/sigma |
| "v" | alpha·eps - sigma_vp·x0 where alpha² + sigma_vp² = 1 | 1/(1 + sigma²) | sqrt(1 + sigma²)/sigma |
| "flow" | eps - x0 | 1/(1 + sigma) | (1 + sigma)/sigma |

so that x0 = w_c·x0_c + w_u·x0_u + (1 - w_c - w_u)·share·x - w_m·m/gain. Weights of sum 1 are the same ones in every
space; what they are computed from is not, nor is what a sum other than 1 does. The network's own kind of prediction
plays no part.

None of this is linear in the networks, so it is no part of a composite or a mixture.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ivmix.solvers.algebra.affine import Affine, Number, Weight, count_rows, evaluate, union, value_at
from ivmix.solvers.algebra.denoiser import Recalling, level
from ivmix.solvers.algebra.guidance import Guidable, Guided, check_scale
from ivmix.solvers.algebra.network import Prediction


class Weighed(NamedTuple):
    """The weights of c, u and m in one evaluation, each (b, 1, 1, 1, 1) or a number, and the next m."""

    cond: Number
    uncond: Number
    past: Number = 0.0
    memory: Tensor | None = None


@dataclass(frozen=True, eq=False)
class AdaptiveGuidance(Guidable):
    """Base of the methods: `guided` under weights that `weigh` makes of its two predictions, as `space` has them.

    A field of legs like a `Guided`, each leg under its own scale; `at(scale)` is a denoiser. A scale of 1 is the
    conditional prediction alone.
    """

    guided: Guided
    space: Prediction

    def __post_init__(self) -> None:
        if not isinstance(self.guided, Guided):
            raise TypeError(f"guided: got a {type(self.guided).__name__}, expected a Guided")
        if self.space not in ("epsilon", "x0", "v", "flow"):
            raise ValueError(f"space: got {self.space!r}, expected 'epsilon', 'x0', 'v' or 'flow'")

    @abstractmethod
    def weigh(self, cond: Tensor, uncond: Tensor, scale: Number, past: Tensor | None = None) -> Weighed:
        """The weights, from both predictions `b c f h w` in `space`; sums run over c f h w of each clip.

        `past` is the memory that the last step left, None at a run's first.
        """

    def at(self, scale: Weight) -> "AdaptiveDenoiser":
        """The denoiser under `scale`, a number or a function of sigma."""
        check_scale(scale)
        return AdaptiveDenoiser(self, scale)

    def still(self, sigma: Tensor) -> bool:
        """Whether y = 0 at this level whatever the network says, which is not asked."""
        return False

    @property
    def remembers(self) -> bool:
        """Whether `weigh` uses a memory."""
        return False

    @property
    def reach(self) -> tuple[float, float]:
        """The levels that the network accepts."""
        return self.guided.reach


@dataclass(frozen=True, eq=False)
class AdaptiveDenoiser(Recalling):
    """`method` under `scale`; a denoiser, unless the method remembers: then `integrate` keeps its memory.

    One guided evaluation.
    """

    method: AdaptiveGuidance
    scale: Weight

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0 of x's shape and dtype; x is `b c f h w`. ValueError for a method that remembers."""
        if self.method.remembers:
            raise ValueError(
                f"{type(self.method).__name__} has momentum, which needs a memory: make it the field of legs that "
                "integrate plays, or call recall(x, sigma, memory)"
            )
        return self.recall(x, sigma, None)[0]

    def recall(self, x: Tensor, sigma: float | Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x0 given the `memory` that the last step left, None at the first, and the memory that this one leaves."""
        sigma = level(sigma)
        parts = self._parts(sigma)
        if len(parts) == 1:
            return parts[0](x, sigma), memory
        share, gain = coordinates(self.method.space, sigma.item())
        if not parts:
            return share * x, memory
        uncond, cond = evaluate(parts, x, sigma)
        c, u = (gain * (share * x - x0) for x0 in (cond, uncond))
        weighed = self.method.weigh(c, u, value_at(self.scale, sigma), memory)
        x0 = weighed.cond * cond + weighed.uncond * uncond
        if share:
            x0 = x0 + (1 - weighed.cond - weighed.uncond) * share * x
        if memory is not None:
            x0 = x0 - weighed.past / gain * memory
        return x0, weighed.memory

    def cost(self, sigma: float | Tensor) -> dict[str, int]:
        """Rows that a call at `sigma` sends to each network, by name."""
        sigma = level(sigma)
        return count_rows(union(self._parts(sigma), sigma))

    @property
    def reach(self) -> tuple[float, float]:
        """The levels that the network accepts."""
        return self.method.reach

    def _parts(self, sigma: Tensor) -> Sequence[Affine]:
        """What is evaluated: both predictions; cond alone under a plain scale of 1; nothing where y = 0."""
        if self.method.still(sigma):
            return ()
        guided, scale = self.method.guided, value_at(self.scale, sigma)
        alone = not isinstance(scale, Tensor) and scale == 1
        return (guided.cond,) if alone else (guided.uncond, guided.cond)


def coordinates(space: Prediction, sigma: float) -> tuple[float, float]:
    """Share and gain of y = gain·(share·x - x0); at inf, where x is z, their limits.

    >>> coordinates("flow", 3.0), coordinates("flow", math.inf)
    ((0.25, 1.3333333333333333), (1.0, 1.0))
    """
    if space == "x0":
        return 0.0, -1.0
    if sigma == 0 or (space == "epsilon" and math.isinf(sigma)):
        other = "'x0'" if sigma == 0 else "'flow', 'v' or 'x0'"
        raise ValueError(f"space: got {space!r} at sigma {sigma:g}, where it says nothing of x0; expected {other}")
    match space:
        case "epsilon":
            return 1.0, 1 / sigma
        case "v":
            return 1 / (1 + sigma**2), math.hypot(1, 1 / sigma)
        case "flow":
            return (1.0 if math.isinf(sigma) else 1 / (1 + sigma)), 1 + 1 / sigma


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of every clip, (b, 1, 1, 1, 1), of `b c f h w`."""
    return (a * b).sum(tuple(range(1, a.ndim)), keepdim=True)


def norm(a: Tensor) -> Tensor:
    """The length of every clip, (b, 1, 1, 1, 1), of `b c f h w`."""
    return torch.linalg.vector_norm(a, dim=tuple(range(1, a.ndim)), keepdim=True)


def quotient(a: Number, b: Tensor) -> Tensor:
    """a/b, and 0 where b is 0."""
    zero = b == 0
    return torch.where(zero, 0.0, a / torch.where(zero, 1.0, b))
