"""What a solver is: a frozen value with a pure step.

State goes in and comes out, so that two networks, two trajectories or a backward pass interleave freely, and the same
call goes both ways. What happens at the two ends of the sigma axis is decided here, once for all solvers.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ivmix.solvers.algebra.denoiser import Denoiser, Noise, level, number


def toward(x0: Tensor, x: Tensor, ratio: float) -> Tensor:
    """x0 + ratio·(x - x0), one kernel: where the straight line from `x` at sigma to `x0` at 0 is at ratio·sigma.

    Exactly x at ratio 1 and exactly x0 at ratio 0.
    """
    return torch.lerp(x0, x, ratio)


@dataclass(frozen=True)
class Solver:
    """Base of all solvers: a solver adds its fields and `advance`.

    `order`: global order in the largest step between levels above 0, the weak one of a stochastic solver. `stages`:
    evaluations per step. At the ends this base is Euler's: see `step`; `HigherOrder` does better.
    """

    order: ClassVar[int]
    stages: ClassVar[int]

    def step(
        self,
        denoise: Denoiser,
        x: Tensor,
        sigma: float | Tensor,
        sigma_next: float | Tensor,
        memory: Any = None,
        noise: Noise | None = None,
    ) -> tuple[Tensor, Any]:
        """From `x` at `sigma` to the state at `sigma_next`, in either direction.

        `x` has any shape. `memory` is what the last step returned, None at the first. `noise(sigma, sigma_next)` draws
        unit normals of x's shape for stochastic solvers. A step to 0 returns x0, one to inf eps; one from inf, where x
        is z, returns x0 + sigma_next·z; one from 0, where x is x0 and eps = 0, returns x and evaluates nothing; one of
        length 0 is the identity. ValueError for a step between 0 and inf.
        """
        return self.take(denoise, x, number("sigma", sigma), number("sigma_next", sigma_next), memory, noise)

    def take(
        self, denoise: Denoiser, x: Tensor, begin: float, end: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        """`step`, with both levels as plain numbers: the ends here, `advance` between them."""
        if begin == 0 and not math.isinf(end):
            self.check_upward(begin, end)
            return x, None
        if begin in (0, math.inf) and math.isinf(end):
            raise ValueError(f"sigma, sigma_next: got {begin:g}, inf; expected a level between 0 and inf to come from")
        x0 = denoise(x, level(begin))
        if end == 0:
            return x0, None
        if math.isinf(begin):
            return x0.add(x, alpha=end), None
        if math.isinf(end):
            self.check_upward(begin, end)
            return (x - x0) / begin, None
        return self.advance(denoise, x, x0, begin, end, memory, noise)

    def churn_at(self, sigma: Tensor) -> float:
        """The churn k of the SDE that a step from `sigma` solves; 0: the ODE, and no noise is drawn."""
        return 0.0

    def check_upward(self, sigma: float, sigma_next: float) -> None:
        """ValueError for a step of an SDE that goes up."""
        if sigma_next > sigma and self.churn_at(level(sigma)) > 0:
            raise ValueError(f"sigma_next: got {sigma_next:g} above {sigma:g}; a stochastic solver only goes down")

    def cost(self, sigma: float, sigma_next: float) -> int:
        """Evaluations of a step between these levels, once a multistep solver runs."""
        edge = sigma_next == 0 or math.inf in (sigma, sigma_next)
        return 0 if sigma == 0 else 1 if edge else self.stages

    def on(self, levels: list[float]) -> "Solver":
        """This solver as a run on the grid `levels` plays it."""
        return self

    def lowered(self, order: int) -> "Solver":
        """This solver for a run's last steps, the last but `order` - 1: of its family, of this order at most."""
        return self

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        """One step from `x` at the level `at` to the level `to`, both above 0, given its `x0`."""
        raise NotImplementedError
