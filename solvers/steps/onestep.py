"""Deterministic one-step solvers of dx/dsigma = (x - x0(x, sigma)) / sigma."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ivmix.solvers.algebra.denoiser import Denoiser, Noise, level
from ivmix.solvers.steps.higher_order import HigherOrder
from ivmix.solvers.steps.solver import Solver, toward
from ivmix.solvers.steps.stages import Tableau, combined


@dataclass(frozen=True)
class Euler(Solver):
    """Euler's method in sigma; order 1, one evaluation.

    Also known as DDIM with eta = 0 (arXiv 2010.02502, eq. 13), DPM-Solver-1 and DPM-Solver++-1 (arXiv 2211.01095) and,
    on a flow schedule, Euler's method in t: the same map to rounding.
    """

    order: ClassVar[int] = 1
    stages: ClassVar[int] = 1

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        return toward(x0, x, to / at), None


DPMSolverPP1 = Euler
"""DPM-Solver++-1 (arXiv 2211.01095, section 4): sigma'/sigma·x - (exp(-h) - 1)·x0, which is Euler's method."""


@dataclass(frozen=True)
class RungeKutta(HigherOrder):
    """Base of the explicit Runge-Kutta methods in the solver's time: a solver adds its `tableau`."""

    tableau: ClassVar[Tableau]

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        return self.tableau.play(denoise, x, x0, at, to).y[-1], None


@dataclass(frozen=True)
class Heun(HigherOrder):
    """Heun's method (the trapezoidal rule with an Euler predictor); order 2, two evaluations.

    With r = sigma'/sigma, x' = r·x + (1 - r)·(x0 + (x0' - x0)/(2·r)): the same in weights of x0, x0' being that at the
    predicted end. Source: arXiv 2206.00364, Algorithm 1 without churn.
    """

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 2

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        ratio = to / at
        x0_end = denoise(toward(x0, x, ratio), level(to))
        return toward(toward(x0, x0_end, 1 / (2 * ratio)), x, ratio), None


@dataclass(frozen=True)
class Midpoint(RungeKutta):
    """The explicit midpoint rule in sigma; order 2, two evaluations, the second at (sigma + sigma_next)/2.

    Not to be confused with the midpoint in log sigma, which is `DPMSolverPP2S`'s. Source: Hairer, Nørsett and Wanner,
    Solving Ordinary Differential Equations I, II.1.
    """

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 2
    tableau: ClassVar[Tableau] = Tableau((1 / 2, 1.0), ((1 / 2,), (0.0, 1.0)))


@dataclass(frozen=True)
class RK4(RungeKutta):
    """The classical Runge-Kutta method in sigma; order 4, four evaluations: two in the middle, one at sigma_next.

    Source: Kutta, 1901; Hairer, Nørsett and Wanner, Solving Ordinary Differential Equations I, table II.1.2.
    """

    order: ClassVar[int] = 4
    stages: ClassVar[int] = 4
    tableau: ClassVar[Tableau] = Tableau(
        (1 / 2, 1 / 2, 1.0, 1.0), ((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6))
    )


@dataclass(frozen=True)
class DPMSolverPP2S(HigherOrder):
    """DPM-Solver++(2S); order 2 in lam = -ln sigma, two evaluations, the second at lam + r·h; exact in x.

    x0 is extrapolated linearly from both to the middle of the step, then held. `r` in (0, 1]: with 1/2 the second
    evaluation is the middle (the geometric mean of both levels) and is used as it is; with 1 it is the step's end.
    Source: arXiv 2211.01095, Algorithm 1 (r_i = r).
    """

    r: float = 0.5

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.r <= 1:
            raise ValueError(f"r: got {self.r}, expected a share of the step in (0, 1]")

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        between = to if self.r == 1 else at * (to / at) ** self.r
        x0_between = denoise(toward(x0, x, between / at), level(between))
        middle = x0_between if self.r == 0.5 else x0 + (x0_between - x0) / (2 * self.r)
        return toward(middle, x, to / at), None


@dataclass(frozen=True)
class DPM2(HigherOrder):
    """DPM-Solver-2; order 2, two evaluations, the second in the middle of the step in lam = -ln sigma.

    The slope eps found there, at the geometric mean of both levels, is taken for the whole step in sigma: `Midpoint`'s
    rule at another place, where `DPMSolverPP2S` holds x0 instead. Known as dpm_2 in k-diffusion. Source: arXiv
    2206.00927, Algorithm 1.
    """

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 2

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        middle = math.sqrt(at * to)
        x0_middle = denoise(toward(x0, x, middle / at), level(middle))
        share = (at - to) / middle
        return combined(x, to / at, [share * (middle / at - 1), share], [x0, x0_middle]), None
