"""Stochastic solvers: the reverse SDE dx = (1 + k)·eps·dsigma + sqrt(2·k·sigma·|dsigma|)·xi, of churn k.

All churns have the same marginals where eps is exact (arXiv 2011.13456, section 4.3; 2206.00364, eq. 6); k = 0 is the
probability-flow ODE, k = 1 the ordinary reverse SDE, and a composite of k_R noise legs has churn k_R.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from ivmix.solvers.algebra.affine import Weight, value_at
from ivmix.solvers.algebra.denoiser import Denoiser, Noise, level
from ivmix.solvers.algebra.noise import draw
from ivmix.solvers.checks import check_number
from ivmix.solvers.steps.multistep import DPMSolverPP2M, DPMSolverPP3M, ExponentialAB2, Multistep, collect
from ivmix.solvers.steps.onestep import DPMSolverPP2S
from ivmix.solvers.steps.solver import Solver, toward


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
class ReverseSDE(Solver):
    """Base of the solvers of the reverse SDE of any `churn` k >= 0, a number or a function of sigma.

    Drift and noise are linear in x but for x0, and exact: with s = sigma^(1+k) the drift is dx/ds = (x - x0)/s, the ODE
    in another time, and the noise of a step is sigma'·sqrt(1 - (sigma'/sigma)^(2k))·xi. So data known exactly are
    sampled exactly with any steps, and no step is too long for its noise. Where k = 0 such a solver is that of the ODE,
    goes both ways and draws nothing; elsewhere it goes down only. `order` is the weak one, measured on Gaussians.
    """

    churn: Weight = 1.0

    def __post_init__(self) -> None:
        if not callable(self.churn):
            check_number("churn", self.churn, "a finite number >= 0, or a function of sigma", lambda churn: churn >= 0)

    def churn_at(self, sigma: Tensor) -> float:
        return float(value_at(self.churn, sigma))


def fresh(churn: float, sigma: float, sigma_next: float) -> float:
    """The standard deviation of the fresh noise of a step."""
    return sigma_next * math.sqrt(1 - (sigma_next / sigma) ** (2 * churn))


@dataclass(frozen=True)
class SDEMultistep(ReverseSDE):
    """Base of the multistep solvers of the SDE: an ODE's, without its `start`, in sigma^(1+k); one evaluation.

    What a draw does to x0 comes one step late, and is not lost: weak order 2 where ancestral sampling has 1. `window`:
    evaluations that a step uses, once there are as many.
    """

    window: ClassVar[int]
    stages: ClassVar[int] = 1

    def rule(self, known: int) -> Multistep:
        """The ODE's solver for a step with `known` evaluations."""
        raise NotImplementedError

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        churn = self.churn_at(level(at))
        power = 1 + churn
        values = collect((x0, at), memory or (), self.window)
        powers = tuple((value, sigma**power) for value, sigma in values)
        moved = self.rule(len(values)).extrapolate(x, x0, to**power, powers)
        if churn > 0:
            self.check_upward(at, to)
            moved = moved.add(draw(noise, x, level(at), level(to)), alpha=fresh(churn, at, to))
        return moved, values[: self.window - 1]


@dataclass(frozen=True)
class SDEDPMSolverPP2M(SDEMultistep):
    """SDE-DPM-Solver++(2M), midpoint form: `DPMSolverPP2M` with fresh noise; weak order 2, one evaluation.

    Its first step, and every step without memory, is at k = 1 that of SDE-DPM-Solver++1, which is `DDIM(1)`.
    `SDEDPMSolverPP2M(composite.churn)` follows a composite of R patterns. Source: arXiv 2211.01095,
    SDE-DPM-Solver++(2M), which is k = 1, the formula of the official VideoCrafter preset; k-diffusion's dpmpp_2m_sde of
    solver type midpoint, whose eta is k.
    """

    order: ClassVar[int] = 2
    window: ClassVar[int] = 2

    def rule(self, known: int) -> Multistep:
        return DPMSolverPP2M()


@dataclass(frozen=True)
class SDEExponentialAB2(SDEMultistep):
    """`ExponentialAB2` with fresh noise; weak order 2, one evaluation.

    x0 is extrapolated as by `SDEDPMSolverPP2M` and integrated rather than held: k-diffusion's dpmpp_2m_sde of solver
    type heun, whose eta is k.
    """

    order: ClassVar[int] = 2
    window: ClassVar[int] = 2

    def rule(self, known: int) -> Multistep:
        return ExponentialAB2()


@dataclass(frozen=True)
class SDEDPMSolverPP3M(SDEMultistep):
    """`DPMSolverPP3M` with fresh noise, after a step of `SDEExponentialAB2`; weak order 2, one evaluation.

    With `weight` "public" it is k-diffusion's dpmpp_3m_sde, whose eta is k.
    """

    weight: Literal["exact", "public"] = field(default="exact", kw_only=True)

    order: ClassVar[int] = 2
    window: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        DPMSolverPP3M(weight=self.weight)  # says what it does not know

    def rule(self, known: int) -> Multistep:
        return DPMSolverPP3M(weight=self.weight) if known == 3 else ExponentialAB2()


@dataclass(frozen=True)
class SDEDPMSolverPP2S(ReverseSDE):
    """`DPMSolverPP2S` with fresh noise; weak order 2, two evaluations, the second at lam + r·h, two draws.

    The noise of the step is that of its two parts, from sigma to the second evaluation and on, so that what the
    evaluation saw of it is in the step as well; r = 1 has one part. At k = 1 k-diffusion's dpmpp_sde, whose draws are
    those of a Brownian path in sigma; other eta than 1 are there steps of `DDIM`.
    """

    r: float = 0.5

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        DPMSolverPP2S(self.r)  # says what it does not know

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        churn = self.churn_at(level(at))
        power = 1 + churn
        between = to if self.r == 1 else at * (to / at) ** self.r
        drawn = None
        y = toward(x0, x, (between / at) ** power)
        if churn > 0:
            self.check_upward(at, to)
            drawn = fresh(churn, at, between) * draw(noise, x, level(at), level(between))
            y = y + drawn
        x0_between = denoise(y, level(between))
        middle = x0_between if self.r == 0.5 else x0 + (x0_between - x0) / (2 * self.r)
        moved = toward(middle, x, (to / at) ** power)
        if drawn is not None:
            moved = moved.add(drawn, alpha=(to / between) ** power)
            if between != to:
                moved = moved.add(draw(noise, x, level(between), level(to)), alpha=fresh(churn, between, to))
        return moved, None
