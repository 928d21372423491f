"""Stochastic solvers: the reverse SDE dx = (1 + k)·eps·dsigma + sqrt(2·k·sigma·|dsigma|)·xi, of churn k.

All churns have the same marginals where eps is exact (arXiv 2011.13456, section 4.3; 2206.00364, eq. 6); k = 0 is the
probability-flow ODE, k = 1 the ordinary reverse SDE, and a composite of k_R noise legs has churn k_R.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ivmix.solvers.affine import Weight, value_at
from ivmix.solvers.checks import check_number
from ivmix.solvers.denoiser import Denoiser, Noise, level
from ivmix.solvers.multistep import collect, to_middle
from ivmix.solvers.noise import draw
from ivmix.solvers.solver import Solver, toward


@dataclass(frozen=True)
class DDIM(Solver):
    """DDIM with stochasticity `eta` >= 0, a number or a function of sigma; order 1, one evaluation.

    sigma_up = eta·sigma_next·sqrt(1 - sigma_next²/sigma²) of fresh noise after an Euler step to sqrt(sigma_next² -
    sigma_up²): arXiv 2010.02502, eqs. 12 and 16, in VE coordinates. Its churn is eta²; eta = 1 is ancestral sampling,
    and `DDIM(composite.eta)` follows a composite of an R pattern. Where eta = 0 it is `Euler`, goes both ways and
    draws nothing; elsewhere it goes down only, and with eta > 1 a step that is too long for its noise is a ValueError
    (`SDEDPMSolverPP2M` has no such limit).
    """

    eta: Weight = 1.0

    order: ClassVar[int] = 1
    stages: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not callable(self.eta):
            check_number("eta", self.eta, "a finite number >= 0, or a function of sigma", lambda eta: eta >= 0)

    def churn_at(self, sigma: Tensor) -> float:
        return float(value_at(self.eta, sigma)) ** 2

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        ratio, churn = to / at, self.churn_at(level(at))
        if churn == 0:
            return toward(x0, x, ratio), None
        self.check_upward(at, to)
        fresh = churn * (1 - ratio**2)  # sigma_up² / sigma_next²
        if fresh > 1:
            raise ValueError(
                f"eta: {math.sqrt(churn):g} is too large for a step from {at:g} to {to:g}: "
                "more noise than the level holds; take more steps"
            )
        xi = draw(noise, x, level(at), level(to))
        return toward(x0, x, ratio * math.sqrt(1 - fresh)).add(xi, alpha=to * math.sqrt(fresh)), None


def EulerAncestral() -> DDIM:
    """Ancestral sampling (arXiv 2006.11239, Algorithm 2, with the posterior's variance): `DDIM(eta=1)`."""
    return DDIM(1.0)


@dataclass(frozen=True)
class SDEDPMSolverPP2M(Solver):
    """SDE-DPM-Solver++(2M), midpoint form, of the reverse SDE of any `churn` k >= 0, a number or a function of sigma;
    one evaluation.

    x0 is extrapolated in lam as in `DPMSolverPP2M`; the linear part and its noise are exact: with r = sigma'/sigma,

        x' = r^(1+k)·x + (1 - r^(1+k))·x0 + sigma'·sqrt(1 - r^(2k))·xi

    so that data known exactly are sampled exactly with any steps, and no step is too long for its noise. Its first
    step, and every step without memory, is at k = 1 that of SDE-DPM-Solver++1, which is `DDIM(1)`. Where k = 0 it is
    `DPMSolverPP2M`, goes both ways and draws nothing; elsewhere it goes down only. `SDEDPMSolverPP2M(composite.churn)`
    follows a composite of R patterns. `order` is the weak one, measured on Gaussians, where ancestral sampling has 1:
    what a draw does to x0 comes one step late, and is not lost. Source: arXiv 2211.01095, SDE-DPM-Solver++(2M), which
    is k = 1, the formula of the official VideoCrafter preset.
    """

    churn: Weight = 1.0

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not callable(self.churn):
            check_number("churn", self.churn, "a finite number >= 0, or a function of sigma", lambda churn: churn >= 0)

    def churn_at(self, sigma: Tensor) -> float:
        return float(value_at(self.churn, sigma))

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        churn, ratio = self.churn_at(level(at)), to / at
        values = collect((x0, at), memory or (), 2)
        moved = toward(to_middle(to, values), x, ratio ** (1 + churn))
        if churn > 0:
            self.check_upward(at, to)
            xi = draw(noise, x, level(at), level(to))
            moved = moved.add(xi, alpha=to * math.sqrt(1 - ratio ** (2 * churn)))
        return moved, values[:1]
