"""UniPC: a predictor, and a corrector that costs no evaluation.

The evaluation that begins a step also corrects the state the last step arrived at: the same integral of x0 over lam,
with one node more. Predicted and corrected state differ by a combination of x0 alone, so the memory holds no state.
"""

import math
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor

from ivmix.solvers.algebra.denoiser import Denoiser, Noise
from ivmix.solvers.steps.multistep import Multistep, Values, collect, exponential_weights
from ivmix.solvers.steps.quadrature import exponential_adams
from ivmix.solvers.steps.solver import Solver
from ivmix.solvers.steps.stages import combined

UNEVEN = 3.0  # neighbouring steps in lam from which on orders above 2 are warned about


@dataclass(frozen=True)
class UniPC(Multistep):
    """Base of UniPC-p, p = `window`: UniP-p and UniC-p in x0, B(h) = exp(h) - 1; order p + 1, one evaluation.

    UniP-1 is Euler's method, UniP-2 `DPMSolverPP2M` and UniP-3 `DPMSolverPP3M`. x0 is evaluated at the predicted state
    and not again at the corrected one. The state that a step returns is the predicted one, whose global order is p + 1
    too: the next step corrects it, if it begins where this one ended. With the ramp the order is min(p + 1, 3), and a
    `start` of order p restores p + 1. Source: arXiv 2302.04867, Algorithms 1 and 2, multistep, in data
    prediction.

    The corrector extrapolates over the steps before, so that orders above 2 want steps of like length in lam: where
    neighbours differ by a factor of 3 and more, as the last ones of "leading" and "linspace" grids, `UniPC3` errs up to
    17 times as much as `DPMSolverPP2M` at 6 to 10 steps and a guidance of 7.5 to 15, and a warning says so
    (`tests/figures/solver_choice.py`).
    """

    def on(self, levels: list[float]) -> Solver:
        uneven = unevenness(levels)
        if self.window > 2 and uneven > UNEVEN:
            warnings.warn(
                f"{type(self).__name__}: neighbouring steps of this grid differ by a factor of {uneven:.1f} in log "
                "sigma, where its errors grow; take UniPC2, or a karras or trailing grid",
                stacklevel=4,
            )
        return super().on(levels)

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        past, arrival = memory or ((), None)
        values = collect((x0, at), past, self.window)
        if self.start is not None and len(values) < self.window:
            moved, _ = self.start.advance(denoise, x, x0, at, to, None, noise)
            return moved, (values, None)
        levels, x0s = [level for _, level in values], [x0 for x0, _ in values]
        if arrival == at and all(old != at for _, old in past):
            x = combined(x, 1.0, correction(at, past), [x0, *(old for old, _ in past)])
        return combined(x, to / at, exponential_weights(to, levels), x0s), (values, to)


def unevenness(levels: list[float]) -> float:
    """The largest ratio of neighbouring steps in log sigma; of levels with inf in log s, s = sigma/(1 + sigma)."""
    flow = math.inf in levels
    logs = [-math.log1p(1 / level) if flow else math.log(level) for level in levels if level > 0]
    steps = [abs(a - b) for a, b in pairwise(logs)]
    return max((max(a / b, b / a) for a, b in pairwise(steps)), default=1.0)


def correction(arrival: float, past: Values) -> list[float]:
    """Weights of x0 at `arrival` and at the levels of `past`, which predicted it, in corrected - predicted state."""
    levels = [level for _, level in past]
    predictor = exponential_weights(arrival, levels)
    if len(levels) == 1:  # UniC-1: the mean of both ends
        return [predictor[0] / 2, -predictor[0] / 2]
    h = math.log(levels[0] / arrival)
    new, *old = exponential_adams([h, *(math.log(levels[0] / level) for level in levels)], h)
    return [new, *(c - p for c, p in zip(old, predictor, strict=True))]


@dataclass(frozen=True)
class UniPC1(UniPC):
    """UniPC-1; order 2: Euler's method with a corrector."""

    order: ClassVar[int] = 2
    window: ClassVar[int] = 1


@dataclass(frozen=True)
class UniPC2(UniPC):
    """UniPC-2; order 3, with the ramp as well."""

    order: ClassVar[int] = 3
    window: ClassVar[int] = 2
    lower: ClassVar[type[Solver]] = UniPC1


@dataclass(frozen=True)
class UniPC3(UniPC):
    """UniPC-3; order 4 (3 after the ramp)."""

    order: ClassVar[int] = 4
    window: ClassVar[int] = 3
    lower: ClassVar[type[Solver]] = UniPC2
