"""Multistep solvers: they extrapolate what they evaluated at earlier levels; one evaluation a step.

Memory is a tuple of (value, level) pairs, newest first: levels (of the solver's time) rather than step lengths, so that
it stays right when the steps of one lane do not join end to end, as those of a zigzag's legs. Until it is full, a step
is either taken by `start` or, without one, by the same family at the order that the memory allows (the ramp).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from ivmix.solvers.algebra.denoiser import Denoiser, Noise
from ivmix.solvers.steps.higher_order import HigherOrder
from ivmix.solvers.steps.onestep import Euler
from ivmix.solvers.steps.quadrature import adams, curvature, exponential_adams
from ivmix.solvers.steps.solver import Solver, toward
from ivmix.solvers.steps.stages import combined

Values = tuple[tuple[Tensor, float], ...]
"""What was evaluated and at which sigma, newest first; the levels differ pairwise."""


@dataclass(frozen=True)
class Multistep(HigherOrder):
    """Base of the multistep solvers: a solver adds its facts, `extrapolate` and, if it is not x0, `value`.

    `start`: a one-step solver for the first `window` - 1 steps, whose evaluation at the step's beginning is shared, in
    this solver's time; None: the ramp, of one evaluation a step, whose first step is Euler's. `window`: evaluations
    that a step uses.
    """

    start: Solver | None = None

    window: ClassVar[int]
    stages: ClassVar[int] = 1
    lower: ClassVar[type[Solver]] = Euler  # the same family with a window shorter by 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start is not None and (not isinstance(self.start, Solver) or isinstance(self.start, Multistep)):
            raise ValueError(f"start: got {self.start!r}, expected a one-step solver, such as RK4(), or None")
        if getattr(self.start, "time", None) is not None:
            raise ValueError(f"start: got {self.start!r}, expected one without a time: it steps in this solver's")

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        values = collect((self.value(x, x0), at), memory or (), self.window)
        if self.start is not None and len(values) < self.window:
            moved, _ = self.start.advance(denoise, x, x0, at, to, None, noise)
        else:
            moved = self.extrapolate(x, x0, to, values)
        return moved, values[: self.window - 1]

    def lowered(self, order: int) -> Solver:
        if order >= self.window:
            return replace(self, end="euler") if order == 1 else self
        if not issubclass(self.lower, Multistep):
            return self.lower()
        return self.lower(self.start, end=self.end, time=self.time).lowered(order)

    def value(self, x: Tensor, x0: Tensor) -> Tensor:
        """What is remembered of an evaluation."""
        return x0

    def extrapolate(self, x: Tensor, x0: Tensor, sigma_next: float, values: Values) -> Tensor:
        """The state at `sigma_next`, from `x` at the newest value's level."""
        raise NotImplementedError


def collect(new: tuple[Tensor, float], values: Values, window: int) -> Values:
    """At most `window` values with `new` as the newest; an old one at the same level is replaced by it."""
    return (new, *(old for old in values if old[1] != new[1]))[:window]


def to_middle(sigma_next: float, values: Values) -> Tensor:
    """x0 extrapolated linearly in lam from the last two values to the middle of the step; held if there is but one."""
    x0, sigma = values[0]
    if len(values) == 1:
        return x0
    return x0 + _ahead(sigma_next, sigma, values[1][1]) * (x0 - values[1][0])


def _ahead(sigma_next: float, sigma: float, sigma_last: float) -> float:
    """Half the coming step, in units of the last one, in lam."""
    return math.log(sigma / sigma_next) / (2 * math.log(sigma_last / sigma))


def exponential_weights(sigma_next: float, levels: Sequence[float]) -> list[float]:
    """Weights of x0 in a step from levels[0] to `sigma_next`, given it at `levels`: DPM-Solver++'s multistep family.

    x' = sigma'/sigma·x + the integral over lam of exp(lam - lam')·x0. One value is held. Two are extrapolated to the
    middle of the step and held, as Algorithm 2 of arXiv 2211.01095 has it; three or more are interpolated by a
    polynomial in lam and integrated exactly.
    """
    h = math.log(levels[0] / sigma_next)
    if len(levels) > 2:
        return exponential_adams([math.log(levels[0] / level) for level in levels], h)
    held = -math.expm1(-h)
    if len(levels) == 1:
        return [held]
    ahead = _ahead(sigma_next, *levels)
    return [held * (1 + ahead), -held * ahead]


@dataclass(frozen=True)
class DPMSolverPP2M(Multistep):
    """DPM-Solver++(2M); order 2 in lam = -ln sigma, one evaluation.

    x0 is extrapolated linearly in lam to the middle of the step, then held: exact in x. One step of order 1 at the
    start costs no order. Source: arXiv 2211.01095, Algorithm 2.
    """

    order: ClassVar[int] = 2
    window: ClassVar[int] = 2

    def extrapolate(self, x: Tensor, x0: Tensor, sigma_next: float, values: Values) -> Tensor:
        return toward(to_middle(sigma_next, values), x, sigma_next / values[0][1])


@dataclass(frozen=True)
class DPMSolverPP3M(Multistep):
    """DPM-Solver++(3M); order 3 in lam = -ln sigma (2 after the ramp), one evaluation.

    With `weight` "exact" the parabola in lam through the last three x0 is integrated exactly: the third order of arXiv
    2211.01095, section 4, with its derivatives taken from multistep differences; also the predictor of `UniPC3`.
    "public" gives the second difference half its weight, as public codes of the name do, which is of second order.

    When to take which: errors of `tests/figures/solver_choice.py` at 10, 20, 40 and 100 steps on "karras" are

    | guidance | exact | public | `AdamsBashforth3` |
    |---|---|---|---|
    | 1 | .064, .0068, .0013, .00012 | .049, .0064, .0014, .00017 | .14, .018, .0028, .00027 |
    | 7.5 | .16, .0072, .00080, .000076 | .090, .0030, .00033, .000075 | .028, .0055, .00082, .000088 |
    | 15 | .63, .015, .0016, .00012 | .43, .0070, .00049, .000091 | .032, .0064, .00091, .000095 |

    so "public" under guidance, "exact" without or for many steps, and neither for 10 steps or fewer under guidance.
    """

    weight: Literal["exact", "public"] = field(default="exact", kw_only=True)

    order: ClassVar[int] = 3
    window: ClassVar[int] = 3
    lower: ClassVar[type[Solver]] = DPMSolverPP2M

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight not in ("exact", "public"):
            raise ValueError(f"weight: got {self.weight!r}, expected 'exact' or 'public'")

    def extrapolate(self, x: Tensor, x0: Tensor, sigma_next: float, values: Values) -> Tensor:
        levels = [sigma for _, sigma in values]
        weights = exponential_weights(sigma_next, levels)
        if self.weight == "public" and len(levels) == 3:
            excess = curvature([math.log(levels[0] / level) for level in levels], math.log(levels[0] / sigma_next))
            weights = [weight - less / 2 for weight, less in zip(weights, excess, strict=True)]
        return combined(x, sigma_next / levels[0], weights, (x0 for x0, _ in values))


@dataclass(frozen=True)
class AdamsBashforth(Multistep):
    """Base of the Adams-Bashforth methods: the polynomial in sigma through the last slopes eps, integrated exactly.

    Linear in eps = (x - x0)/sigma as a function of sigma (not in x0, nor over lam: those are DPM-Solver++'s). On any
    grid; known as LMS in k-diffusion, which integrates numerically and goes on so to 0, at an order that the last
    steps of a grid do not have. Order: `window`, or min(window, 2) after the ramp.
    Source: Hairer, Nørsett and Wanner, Solving Ordinary Differential Equations I, III.1 and III.5.
    """

    def value(self, x: Tensor, x0: Tensor) -> Tensor:
        return x - x0  # sigma·eps

    def extrapolate(self, x: Tensor, x0: Tensor, sigma_next: float, values: Values) -> Tensor:
        sigma = values[0][1]
        weights = adams([level - sigma for _, level in values], sigma_next - sigma)
        new, *old = (weight / level for weight, (_, level) in zip(weights, values, strict=True))
        return combined(x, 1 + new, [-new, *old], [x0, *(value for value, _ in values[1:])])


@dataclass(frozen=True)
class AdamsBashforth2(AdamsBashforth):
    """Adams-Bashforth in sigma; order 2, one evaluation."""

    order: ClassVar[int] = 2
    window: ClassVar[int] = 2


@dataclass(frozen=True)
class AdamsBashforth3(AdamsBashforth):
    """Adams-Bashforth in sigma; order 3, one evaluation."""

    order: ClassVar[int] = 3
    window: ClassVar[int] = 3
    lower: ClassVar[type[Solver]] = AdamsBashforth2


@dataclass(frozen=True)
class AdamsBashforth4(AdamsBashforth):
    """Adams-Bashforth in sigma; order 4, one evaluation."""

    order: ClassVar[int] = 4
    window: ClassVar[int] = 4
    lower: ClassVar[type[Solver]] = AdamsBashforth3


@dataclass(frozen=True)
class ExponentialAB2(Multistep):
    """Exponential Adams-Bashforth, order 2 in lam = -ln sigma, one evaluation.

    x0 is extrapolated linearly in lam as in `DPMSolverPP2M`, and integrated exactly rather than held at the middle.
    Known as res_multistep in ComfyUI, and as DPM-Solver++(2M) of solver type heun in diffusers. Source: Hochbruck and
    Ostermann, Exponential integrators, 2010, section 2.5.
    """

    order: ClassVar[int] = 2
    window: ClassVar[int] = 2

    def extrapolate(self, x: Tensor, x0: Tensor, sigma_next: float, values: Values) -> Tensor:
        sigma = values[0][1]
        weights = exponential_adams([math.log(sigma / level) for _, level in values], math.log(sigma / sigma_next))
        return combined(x, sigma_next / sigma, weights, (x0 for x0, _ in values))
