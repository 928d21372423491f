"""What a solver is: a frozen value with a pure step.

State goes in and comes out, so that two networks, two trajectories or a backward pass interleave freely, and the same
call goes both ways. The two ends of the sigma axis are the same for every solver and are handled here once.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ivmix.solvers.denoiser import Denoiser, Noise, level


def toward(x0: Tensor, x: Tensor, ratio: float | Tensor) -> Tensor:
    """x0 + ratio·(x - x0), one kernel: where the straight line from `x` at sigma to `x0` at 0 is at ratio·sigma.

    Exactly x at ratio 1 and exactly x0 at ratio 0.
    """
    return torch.lerp(x0, x, float(ratio))


@dataclass(frozen=True)
class Solver:
    """Base of all solvers: a solver adds its fields and `advance`.

    `order`: global order in the largest step, the weak one of a stochastic solver. `stages`: evaluations per step.
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
        unit normals of x's shape for stochastic solvers. A step to 0 returns x0 and a step from inf, where x is z,
        returns x0 + sigma_next·z: Euler's, one evaluation, for every solver. Starting from 0 or going up to inf is a
        ValueError.
        """
        sigma, sigma_next = level(sigma), level(sigma_next)
        begin, end = sigma.item(), sigma_next.item()
        if begin == 0 or math.isinf(end):
            raise ValueError(f"sigma, sigma_next: got {begin:g}, {end:g}; no step starts from 0 or ends at inf")
        if math.isinf(begin):
            return denoise(x, sigma).add(x, alpha=end), None
        if end == 0:
            return denoise(x, sigma), None
        return self.advance(denoise, x, sigma, sigma_next, memory, noise)

    def churn_at(self, sigma: Tensor) -> float:
        """The churn k of the SDE that a step from `sigma` solves; 0: the ODE, and no noise is drawn."""
        return 0.0

    def advance(
        self, denoise: Denoiser, x: Tensor, sigma: Tensor, sigma_next: Tensor, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        """One step between two finite levels above 0."""
        raise NotImplementedError
