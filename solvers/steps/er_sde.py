"""ER-SDE solvers (arXiv 2309.06169): a reverse SDE that is chosen by its noise scale function rather than its churn.

For a function phi(sigma) the SDE of churn k = dln(phi)/dln(sigma) - 1 is linear in x but for x0. With r =
phi(sigma')/phi(sigma),

    x' = r·x + phi(sigma')·(the integral of x0/phi² dphi from sigma' to sigma) + sqrt(sigma'² - r²·sigma²)·xi

of which x0, a polynomial in sigma here (over lam in DPM-Solver++), is all that is not known. phi = sigma^(1+k) is the
SDE of constant churn k.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from ivmix.solvers.algebra.denoiser import Denoiser, Noise, level
from ivmix.solvers.algebra.noise import draw
from ivmix.solvers.checks import check_number
from ivmix.solvers.steps.multistep import collect
from ivmix.solvers.steps.quadrature import interpolatory
from ivmix.solvers.steps.solver import Solver
from ivmix.solvers.steps.stages import combined


@dataclass(frozen=True)
class ERSDE(Solver):
    """Base of ER-SDE-Solver-p, p = `window`: a polynomial in sigma through the last p values of x0, one evaluation.

    phi(sigma) = sigma·(exp(sigma^0.3) + 10)^eta, `eta` >= 0. With eta 1 it is the authors' default and that of
    ComfyUI's er_sde, whose max_stage is p: little noise where sigma is low, and a churn of 0.3·sigma^0.3 where it is
    high. eta 0 is the ODE, goes both ways and draws nothing; elsewhere these go down only. Data known exactly are
    sampled exactly with any steps. `order` is the weak one, measured on Gaussians. Source: arXiv 2309.06169; integrals
    that are sums of 100 or 200 terms in those codes are exact to rounding here.
    """

    eta: float = 1.0

    window: ClassVar[int]
    stages: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("eta", self.eta, "a finite number >= 0", lambda eta: eta >= 0)

    def churn_at(self, sigma: Tensor) -> float:
        power = sigma.item() ** 0.3
        return self.eta * 0.3 * power / (1 + 10 * math.exp(-power))

    def advance(
        self, denoise: Denoiser, x: Tensor, x0: Tensor, at: float, to: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        values = collect((x0, at), memory or (), self.window)
        nodes = [sigma / at - 1 for _, sigma in values]
        weights = interpolatory(nodes, self.moments(nodes, at, to))
        kept = self.excess(to, at)  # of the old noise, in units of the level
        moved = combined(x, to / at * kept, weights, (value for value, _ in values))
        if self.eta > 0:
            self.check_upward(at, to)
            moved = moved.add(draw(noise, x, level(at), level(to)), alpha=to * math.sqrt(1 - kept**2))
        return moved, values[: self.window - 1]

    def excess(self, sigma: float, other: float) -> float:
        """phi(sigma)/sigma in units of the same at `other`."""
        a, b = (power + math.log1p(10 * math.exp(-power)) for power in (sigma**0.3, other**0.3))
        return math.exp(self.eta * (a - b))

    def moments(self, nodes: list[float], at: float, to: float) -> list[float]:
        """What a step makes of x0 = t^m, t = sigma/at - 1, for m below the number of `nodes`.

        By parts, t'^m + m·(the integral of phi(sigma')/phi(sigma)·t^(m-1) from sigma' to sigma), in units of `at`.
        """
        end = to / at - 1
        found = [1 - to / at * self.excess(to, at)]
        for m in range(1, len(nodes)):

            def integrand(u: float, m: int = m) -> float:
                return self.excess(to, at * math.exp(u)) * math.expm1(u) ** (m - 1)

            panels = 1 + math.ceil(4 * abs(math.log(to / at)) * (1 + self.churn_at(level(max(at, to)))))
            found.append(end**m + m * to / at * integral(integrand, math.log(to / at), 0.0, panels))
        return found


@dataclass(frozen=True)
class ERSDE1(ERSDE):
    """ER-SDE-Solver-1; weak order 1, one evaluation."""

    order: ClassVar[int] = 1
    window: ClassVar[int] = 1


@dataclass(frozen=True)
class ERSDE2(ERSDE):
    """ER-SDE-Solver-2; weak order 2, one evaluation."""

    order: ClassVar[int] = 2
    window: ClassVar[int] = 2


@dataclass(frozen=True)
class ERSDE3(ERSDE):
    """ER-SDE-Solver-3; weak order 2, one evaluation.

    With `weight` "exact" the parabola in sigma through the last three x0 is integrated. "public", the authors' and
    ComfyUI's formula, takes the slope of its last chord for that at its end, which leaves its order for the ODE at 2.
    """

    weight: Literal["exact", "public"] = field(default="exact", kw_only=True)

    order: ClassVar[int] = 2
    window: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight not in ("exact", "public"):
            raise ValueError(f"weight: got {self.weight!r}, expected 'exact' or 'public'")

    def moments(self, nodes: list[float], at: float, to: float) -> list[float]:
        found = super().moments(nodes, at, to)
        if self.weight == "public" and len(found) == 3:
            found[2] += nodes[1] * found[1]
        return found


def integral(f: Callable[[float], float], a: float, b: float, panels: int) -> float:
    """Of `f` from a to b, by Gauss and Legendre's five points a panel."""
    half = (b - a) / (2 * panels)
    inner, outer = (math.sqrt(5 + sign * 2 * math.sqrt(10 / 7)) / 3 for sign in (-1, 1))
    light, heavy = ((322 + sign * 13 * math.sqrt(70)) / 900 for sign in (-1, 1))
    rule = ((-outer, light), (-inner, heavy), (0.0, 128 / 225), (inner, heavy), (outer, light))
    return half * sum(weight * f(a + half * (2 * panel + 1 + node)) for panel in range(panels) for node, weight in rule)
