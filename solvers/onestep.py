"""Deterministic one-step solvers of dx/dsigma = (x - x0(x, sigma)) / sigma."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ivmix.solvers.denoiser import Denoiser, Noise
from ivmix.solvers.solver import Solver, toward


@dataclass(frozen=True)
class Euler(Solver):
    """Euler's method in sigma; order 1, one evaluation.

    Also known as DDIM with eta = 0 (arXiv 2010.02502, eq. 13), DPM-Solver-1 and DPM-Solver++-1 (arXiv 2211.01095) and,
    on a flow schedule, Euler's method in t: the same map to rounding.
    """

    order: ClassVar[int] = 1
    stages: ClassVar[int] = 1

    def advance(
        self, denoise: Denoiser, x: Tensor, sigma: Tensor, sigma_next: Tensor, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        return toward(denoise(x, sigma), x, sigma_next / sigma), None


@dataclass(frozen=True)
class Heun(Solver):
    """Heun's method (the trapezoidal rule with an Euler predictor); order 2, two evaluations.

    Source: arXiv 2206.00364, Algorithm 1 without churn.
    """

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 2

    def advance(
        self, denoise: Denoiser, x: Tensor, sigma: Tensor, sigma_next: Tensor, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        slope = (x - denoise(x, sigma)) / sigma
        end = x + (sigma_next - sigma) * slope
        slope_end = (end - denoise(end, sigma_next)) / sigma_next
        return x + (sigma_next - sigma) / 2 * (slope + slope_end), None
