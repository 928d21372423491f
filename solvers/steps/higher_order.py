"""What deterministic solvers of order 2 and more do at the ends of the sigma axis, where Euler's step would cost them
their order: they arrive at 0 with a remembered slope, and begin at inf in another time.

The change of variable s = sigma/(1 + sigma), z = x/(1 + sigma) = (1 - s)·x0 + s·eps leaves the ODE as it is,

    dx/dsigma = (x - x0)/sigma,      dz/ds = (z - x0)/s,

so `advance` knows no time: it is given states and levels of either. s = 1 is sigma = inf, where z exists and x does
not.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from ivmix.solvers.algebra.denoiser import Denoiser, Noise, level
from ivmix.solvers.steps.solver import Solver, toward

End = Literal["ab2", "euler"]
Time = Literal["sigma", "flow"]


@dataclass(frozen=True, eq=False)
class Past:
    """What a step leaves for the next: where it began (state, x0, sigma), in which time, and its rule's own memory."""

    x: Tensor
    x0: Tensor
    sigma: float
    flow: bool
    own: Any


@dataclass(frozen=True)
class HigherOrder(Solver):
    """Base of the deterministic solvers of order 2 and more.

    `end`, the step to 0, is "ab2", second-order Adams-Bashforth in sigma with the slope that the last step began with,
    or "euler", which returns x0 as most peers do. Neither evaluates anything at 0. For smooth data eps is odd in sigma:
    Euler's last step errs as sigma², the other as sigma⁴. On trailing grids, whose last level falls as n^(-1/2), every
    solver is of first order in n with Euler's; with this one those in sigma are of second, and those in lam, whose last
    steps never get short there, of first with a fraction of the error. Where a grid ends low (karras, leading) only a
    floor of sigma_min² is lowered. Without a slope (a run of one step, a step after inf) it is Euler's. Take "euler"
    for a field that jumps at the last level above 0, as where an image weight (`late`) switches on: the slope is then
    another field's, and the last of 10 to 50 steps erred 1.3 to 5 times as much on closed forms. A step from 0, of a
    clean clip, is the trapezoidal rule with eps(0) = 0, evaluated at `sigma_next`; with "euler" it is the identity.

    `time` is what a step is taken in: "sigma", or "flow", s = sigma/(1 + sigma); then sigma = inf, which is s = 1, is a
    level like others, and in "sigma" a step from or to there is Euler's. None: "flow" for a run from or
    to inf (a rectified flow, zero terminal SNR), else "sigma".
    """

    end: End = field(default="ab2", kw_only=True)
    time: Time | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.end not in ("ab2", "euler"):
            raise ValueError(f"end: got {self.end!r}, expected 'ab2' or 'euler'")
        if self.time not in (None, "sigma", "flow"):
            raise ValueError(f"time: got {self.time!r}, expected 'sigma', 'flow' or None")

    def take(
        self, denoise: Denoiser, x: Tensor, begin: float, end: float, memory: Any, noise: Noise | None
    ) -> tuple[Tensor, Any]:
        if begin == end < math.inf:
            return x, memory
        past = memory if isinstance(memory, Past) else None
        flow = self._in_flow_time(begin, end, past)
        if math.inf in (begin, end) and (not flow or 0 in (begin, end) or begin == end):
            return super().take(denoise, x, begin, end, None, noise)
        if begin == 0:
            return self._leave(denoise, x, end), None
        x0 = denoise(x, level(begin))
        if end == 0:
            return self._arrive(x, x0, begin, past), None
        own = past.own if past and past.flow == flow else None
        if not flow:
            moved, own = self.advance(denoise, x, x0, begin, end, own, noise)
        else:
            s = FlowTime(begin, end)
            z, own = self.advance(s.seen(denoise), s.z(x, begin), x0, s.of(begin), s.of(end), own, noise)
            moved = s.x(z, end)
        return moved, Past(x, x0, begin, flow, own)

    def cost(self, sigma: float, sigma_next: float) -> int:
        if sigma == sigma_next:
            return 0
        if sigma == 0:
            return int(self.end == "ab2")
        euler = sigma_next == 0 or (self.time == "sigma" and math.inf in (sigma, sigma_next))
        return 1 if euler else self.stages

    def on(self, levels: list[float]) -> Solver:
        if self.time is None and any(map(math.isinf, levels)):
            return replace(self, time="flow")
        return self

    def _in_flow_time(self, begin: float, end: float, past: Past | None) -> bool:
        if self.time is None:
            return math.isinf(begin) or math.isinf(end) or (past is not None and past.flow)
        return self.time == "flow"

    def _arrive(self, x: Tensor, x0: Tensor, sigma: float, past: Past | None) -> Tensor:
        """The state at 0: x - sigma·(eps + sigma/2·(eps - eps_past)/(sigma_past - sigma)), eps = (x - x0)/sigma."""
        if self.end == "euler" or past is None or math.isinf(past.sigma) or past.sigma <= sigma:
            return x0
        ahead = sigma / (2 * (past.sigma - sigma))
        eps_past = (past.x - past.x0) * (sigma / past.sigma)  # in units of sigma
        return toward(x0, x, -ahead).add(eps_past, alpha=ahead)

    def _leave(self, denoise: Denoiser, x: Tensor, sigma_next: float) -> Tensor:
        """The state at `sigma_next` from a clean one: x + sigma_next/2·(0 + eps(x, sigma_next))."""
        if self.end == "euler":
            return x
        return toward(denoise(x, level(sigma_next)), x, 1.5)


@dataclass(frozen=True)
class FlowTime:
    """s = sigma/(1 + sigma) between two levels, which are told to networks to the bit."""

    begin: float
    end: float

    def of(self, sigma: float) -> float:
        return 1 / (1 + 1 / sigma)

    def z(self, x: Tensor, sigma: float) -> Tensor:
        """z = x/(1 + sigma); at inf the state is z."""
        return x if math.isinf(sigma) else x / (1 + sigma)

    def x(self, z: Tensor, sigma: float) -> Tensor:
        return z if math.isinf(sigma) else z * (1 + sigma)

    def seen(self, denoise: Denoiser) -> Denoiser:
        """`denoise` for z and s."""
        known = {self.of(sigma): sigma for sigma in (self.begin, self.end)}

        def in_flow_time(z: Tensor, s: Tensor) -> Tensor:
            at = s.item()
            sigma = known[at] if at in known else at / (1 - at)
            return denoise(self.x(z, sigma), level(sigma))

        return in_flow_time
