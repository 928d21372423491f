"""Multistep solvers: they extrapolate the denoiser from the levels it was evaluated at before.

Memory is the last (x0, sigma), not the last step's length, so that it stays right when steps of one lane do not join
end to end, as those of a zigzag's legs.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ivmix.solvers.denoiser import Denoiser, Noise
from ivmix.solvers.solver import Solver, toward


@dataclass(frozen=True)
class DPMSolverPP2M(Solver):
    """DPM-Solver++(2M); order 2 in lam = -ln sigma, one evaluation; its first step is Euler's.

    x0 is extrapolated linearly in lam to the middle of the step, then held: exact in x. One step of order 1 at the
    start costs no order. Source: arXiv 2211.01095, Algorithm 2.
    """

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 1

    def advance(
        self, denoise: Denoiser, x: Tensor, sigma: Tensor, sigma_next: Tensor, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        x0 = middle = denoise(x, sigma)
        if memory is not None and memory[1] != sigma:
            x0_last, sigma_last = memory
            middle = x0 + (sigma / sigma_next).log() / (2 * (sigma_last / sigma).log()) * (x0 - x0_last)
        return toward(middle, x, sigma_next / sigma), (x0, sigma)
