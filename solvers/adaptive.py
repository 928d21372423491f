"""Adaptive solvers: embedded Runge-Kutta pairs that divide each interval as the tolerance asks.

To `integrate` such a step is one leg like any other; what it spent is in the run's `nfe`. It reads its error estimate
from the device, once an attempt.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from ivmix.solvers.checks import check_number, whole
from ivmix.solvers.denoiser import Denoiser, Noise, level
from ivmix.solvers.higher_order import End, HigherOrder
from ivmix.solvers.stages import Tableau, combined, x0_weights


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
class Embedded(HigherOrder):
    """Base of the adaptive pairs: a step is subdivided until each part's error estimate is within tolerance.

    The root mean square over each sample of error / (atol + rtol·max(|x|, |x'|)) is at most 1 for every sample, so
    results of different batches agree within tolerance only. `atol` is in units of the data; in flow time x is z. A
    part that fails is rejected and shortened; the next one tries 0.9·error^(-1/order) times its length, by a factor of
    0.2 to 5 (Hairer, Nørsett and Wanner, II.4). Its memory is the length last proposed. More than `max_steps` attempts
    in one interval: ValueError. Where a network gives NaN or inf, so does the step.

    `order` is the pair's own, that of its steps; `stages` counts one attempt, later ones in an interval spend one
    evaluation less. Gradients flow through the accepted parts. The step to 0 is Euler's unless `end` says otherwise:
    the slope that it would use is that of the interval's beginning, not of the last part's.
    """

    rtol: float = 1e-3
    atol: float = 1e-4
    max_steps: int = 1000
    end: End = field(default="euler", kw_only=True)

    tableau: ClassVar[Pair]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rtol", "atol"):
            check_number(name, getattr(self, name), "a number >= 0", lambda value: value >= 0)
        if not self.rtol + self.atol > 0:
            raise ValueError("rtol, atol: got 0 for both, expected one above 0")
        whole("max_steps", self.max_steps, 1)

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        begin, length = at, memory
        for _ in range(self.max_steps):
            left = abs(to - at)
            whole = length is None or length >= left * (1 - 1e-12)
            tried = left if whole else length
            part = to if whole else at + (tried if to > at else -tried)
            moved, x0_moved, error = self._attempt(denoise, x, x0, at, part)
            if not error < float("inf"):
                return x * float("nan"), None
            proposal = tried * min(5.0, max(0.2, 0.9 * (error or 1e-12) ** (-1 / self.order)))
            if error > 1:
                length = proposal
                continue
            length = max(proposal, length or 0.0) if whole else proposal  # a part cut short says little
            if part == to:
                return moved, length
            x, x0, at = moved, x0_moved, part
        raise ValueError(
            f"max_steps: {self.max_steps} attempts from {begin:g} towards {to:g} reached {at:g} at "
            f"rtol={self.rtol:g}, atol={self.atol:g}; loosen these, raise max_steps, or is the field not smooth?"
        )

    def _attempt(self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float) -> tuple[Tensor, Tensor, float]:
        """The state at `to`, its x0, and the scaled error."""
        stages = self.tableau.play(denoise, x, x0, at, to)
        moved = stages.y[-1]
        stages.x0.append(denoise(moved, level(to)))
        weights = x0_weights(self.tableau.error, stages.weights, stages.times, to - at)
        wrong = combined(x.detach(), 0.0, weights, (x0.detach() for x0 in stages.x0))
        scale = self.atol + self.rtol * x.detach().abs().maximum(moved.detach().abs())
        ratio = (wrong / scale).square()
        per_sample = ratio.flatten(1).mean(1) if ratio.ndim > 1 else ratio
        return moved, stages.x0[-1], per_sample.max().sqrt().item()


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
