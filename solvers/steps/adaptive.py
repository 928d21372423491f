"""Adaptive solvers: embedded pairs, of Runge-Kutta methods or exponential ones, that divide each interval as the
tolerance asks.

To `integrate` such a step is one leg like any other; what it spent is in the run's `nfe`. It reads its error estimate
from the device, once an attempt.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from ivmix.solvers.algebra.denoiser import Denoiser, Noise, level
from ivmix.solvers.checks import check_number, whole
from ivmix.solvers.steps.higher_order import End, HigherOrder
from ivmix.solvers.steps.quadrature import exponential_adams
from ivmix.solvers.steps.solver import Solver, toward
from ivmix.solvers.steps.stages import Tableau, combined, x0_weights


@dataclass(frozen=True)
class Pair(Tableau):
    """An explicit pair whose last stage is the next step's first; `error`, one weight a stage, is the difference of
    the step and its embedded companion."""

    error: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.error) != len(self.nodes) + 1 or abs(sum(self.error)) > 1e-14:
            raise ValueError(f"error: got {self.error}, expected {len(self.nodes) + 1} weights that sum to 0")


@dataclass(frozen=True)
class Adaptive(HigherOrder):
    """Base of the adaptive pairs: a step is subdivided until each part's error estimate is within tolerance.

    The root mean square over each sample of error / (atol + rtol·max(|x|, |x'|)) is at most 1 for every sample, so
    results of different batches agree within tolerance only. `atol` is in units of the data; in flow time x is z. A
    part that fails is rejected and shortened; the next one tries 0.9·error^(-1/order) times its length, by a factor of
    0.2 to 5 (Hairer, Nørsett and Wanner, II.4). Its memory is the length last proposed. More than `max_steps` attempts
    in one interval: ValueError. Where a network gives NaN or inf, so does the step.

    `order` is the pair's own, that of its steps. Gradients flow through the accepted parts. The step to 0 is Euler's
    unless `end` says otherwise: the slope that it would use is that of the interval's beginning, not of the last
    part's. So a step to or from 0 is never divided, and only a grid that has a low level before 0 keeps the tolerance:
    `schedule.grid(2, "karras")` is sigma_max, sigma_min, 0.
    """

    rtol: float = 1e-3
    atol: float = 1e-4
    max_steps: int = 1000
    end: End = field(default="euler", kw_only=True)

    control: ClassVar[tuple[float, float]] = (1.0, 0.0)
    """Shares of -1/order and 1/order, the powers of this part's error and of the last accepted one's."""
    first: ClassVar[float | None] = None
    """The length that a run tries first; None: its first interval."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rtol", "atol"):
            check_number(name, getattr(self, name), "a number >= 0", lambda value: value >= 0)
        if not self.rtol + self.atol > 0:
            raise ValueError("rtol, atol: got 0 for both, expected one above 0")
        whole("max_steps", self.max_steps, 1)

    def on(self, levels: list[float]) -> Solver:
        if len(levels) == 2 and 0 in levels:
            raise ValueError(
                f"sigmas: got {levels[0]:g}, {levels[1]:g}; a step to or from 0 is never divided: give "
                f"{type(self).__name__} a grid with a low level beside 0, such as schedule.grid(2, 'karras')"
            )
        return super().on(levels)

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        begin, last = at, 1.0
        length = self.first if memory is None else memory
        for _ in range(self.max_steps):
            left = self.distance(at, to)
            tried = left if length is None or length >= left * (1 - 1e-12) else length
            last_part = tried == left
            part = to if last_part else self.along(at, to, tried)
            moved, x0_moved, wrong = self.attempt(denoise, x, x0, at, part)
            error = self._scaled(wrong, x, moved)
            if not error < float("inf"):
                return x * float("nan"), None
            error = max(error, 1e-12)
            factor = 0.9 * error ** (-self.control[0] / self.order) * last ** (self.control[1] / self.order)
            proposal = tried * min(5.0, max(0.2, factor))
            if error > 1:
                length = proposal
                continue
            length = max(proposal, length or 0.0) if last_part else proposal  # a part cut short says little
            if part == to:
                return moved, length
            x, x0, at, last = moved, denoise(moved, level(part)) if x0_moved is None else x0_moved, part, error
        raise ValueError(
            f"max_steps: {self.max_steps} attempts from {begin:g} towards {to:g} reached {at:g} at "
            f"rtol={self.rtol:g}, atol={self.atol:g}; loosen these, raise max_steps, or is the field not smooth?"
        )

    def attempt(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """The state at `to`, its x0 if that was evaluated, and the detached error."""
        raise NotImplementedError

    def distance(self, at: float, to: float) -> float:
        """The length of a part."""
        return abs(to - at)

    def along(self, at: float, to: float, length: float) -> float:
        """The level `length` from `at` on the way to `to`."""
        return at + (length if to > at else -length)

    def _scaled(self, wrong: Tensor, x: Tensor, moved: Tensor) -> float:
        """`wrong` in units of the tolerance, of the worst sample."""
        scale = self.atol + self.rtol * x.detach().abs().maximum(moved.detach().abs())
        ratio = (wrong / scale).square()
        per_sample = ratio.flatten(1).mean(1) if ratio.ndim > 1 else ratio
        return per_sample.max().sqrt().item()


@dataclass(frozen=True)
class Embedded(Adaptive):
    """Base of the Runge-Kutta pairs; `stages` counts one attempt, later ones in an interval spend one evaluation
    less."""

    tableau: ClassVar[Pair]

    def attempt(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        stages = self.tableau.play(denoise, x, x0, at, to)
        moved = stages.y[-1]
        stages.x0.append(denoise(moved, level(to)))
        weights = x0_weights(self.tableau.error, stages.weights, stages.times, to - at)
        return moved, stages.x0[-1], combined(x.detach(), 0.0, weights, (x0.detach() for x0 in stages.x0))


@dataclass(frozen=True)
class BogackiShampine32(Embedded):
    """The pair of Bogacki and Shampine (1989, table 1), orders 3 and 2; three evaluations an attempt after the first.

    For tolerances of 1e-2 to 1e-3; `DormandPrince54` below.
    """

    order: ClassVar[int] = 3
    stages: ClassVar[int] = 4
    tableau: ClassVar[Pair] = Pair(
        nodes=(1 / 2, 3 / 4, 1.0),
        rows=((1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
        error=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
    )


@dataclass(frozen=True)
class DormandPrince54(Embedded):
    """The pair of Dormand and Prince (1980, table 2), orders 5 and 4; six evaluations an attempt after the first."""

    order: ClassVar[int] = 5
    stages: ClassVar[int] = 7
    tableau: ClassVar[Pair] = Pair(
        nodes=(1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
        rows=(
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    )


@dataclass(frozen=True)
class DPMSolverPP32(Adaptive):
    """DPM-Solver++(3S) with (2S) embedded, orders 3 and 2 in lam = -ln sigma, exact in x; three evaluations a part, two
    more where one is rejected.

    x0 is evaluated at a third and at two thirds of the part; the line in lam through the first two values, integrated
    exactly, gives the second stage and the embedded result, that through the first and the last the step. Lengths are
    in lam, from 0.3 on, under proportional-integral control (Hairer and Wanner, Solving Ordinary Differential Equations
    II, IV.2).

    Of the pairs here it takes the fewest evaluations: for an error of 8e-4 on mixtures of unit size at guidance 1 to
    15, from 14.6 to 0.03, it took 30 to 32, the same pair in eps, which is DPM-Solver-23 (arXiv 2206.00927, Algorithms
    1 and 2) and k-diffusion's dpm_adaptive, 41 to 69, and `BogackiShampine32` 68 to 113 (in flow time 35 to 54); on
    four narrow modes 198, 205, 279 and 206 (`tests/figures/adaptive.py`). The error is far below `rtol`, since the
    estimate is that of the embedded result: 1e-2 is a tolerance for sampling.
    """

    order: ClassVar[int] = 3
    stages: ClassVar[int] = 3
    control: ClassVar[tuple[float, float]] = (0.7, 0.4)
    first: ClassVar[float | None] = 0.3

    def attempt(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        h = math.log(at / to)

        def through(node: float, share: float) -> list[float]:
            return exponential_adams([0.0, node * h], share * h)

        early, late = (at * (to / at) ** share for share in (1 / 3, 2 / 3))
        x0_early = denoise(toward(x0, x, early / at), level(early))
        x0_late = denoise(combined(x, late / at, through(1 / 3, 2 / 3), [x0, x0_early]), level(late))
        step, embedded = through(2 / 3, 1), through(1 / 3, 1)
        moved = combined(x, to / at, step, [x0, x0_late])
        weights = [step[0] - embedded[0], -embedded[1], step[1]]
        x0s = [x0.detach() for x0 in (x0, x0_early, x0_late)]
        return moved, None, combined(x.detach(), 0.0, weights, x0s)

    def distance(self, at: float, to: float) -> float:
        return abs(math.log(at / to))

    def along(self, at: float, to: float, length: float) -> float:
        return at * math.exp(length if to > at else -length)
