"""Grids by name: how a run of n steps picks its levels from a schedule.

| spacing | levels | elsewhere |
|---|---|---|
| "trailing", "leading", "linspace" | training levels, by their index | diffusers' DDIM (arXiv 2305.08891, table 2) |
| "dpm-linspace", "dpm-leading" | the first n of n + 1 training levels | diffusers' DPM-Solver++, UniPC and DEIS |
| "simple" | training levels, like "trailing" | ComfyUI |
| "beta" | training levels, dense at both ends | arXiv 2407.12173, ComfyUI |
| "lcm" | some of 50 even training levels | arXiv 2310.04378; diffusers' LCMScheduler |
| "normal", "sgm_uniform" | even in time, between training levels | k-diffusion, generative-models; ComfyUI |
| "karras" | even in sigma^(1/rho) | arXiv 2206.00364; everywhere |
| "uniform-lam" or "exponential" | even in log sigma | arXiv 2206.00927; k-diffusion, ComfyUI |
| "linear_quadratic" | even, then a parabola: in s on a flow, else in sigma | Mochi, ComfyUI |
| "shifted-flow" | even in s, shifted: flows only | arXiv 2403.03206 |

Where the last level is infinite, those by index or time begin there (but "leading" and "dpm-leading", which begin
below the last level anyway), and so do both of a flow; "karras", "uniform-lam" and, but for flows, "linear_quadratic"
have no level to begin at.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from ivmix.solvers.schedules import grids
from ivmix.solvers.schedules.paths import PATHS

if TYPE_CHECKING:
    from ivmix.solvers.schedules.schedule import Schedule

Spacing = Literal[
    "trailing", "leading", "linspace", "karras", "uniform-lam", "exponential", "dpm-linspace", "dpm-leading", "normal",
    "sgm_uniform", "simple", "beta", "lcm", "linear_quadratic", "shifted-flow",
]  # fmt: skip
Levels = Callable[..., Tensor]  # of a schedule, n and options: n levels above 0, decreasing


def _by_index(pick: Callable[..., list[int]]) -> Levels:
    def levels(schedule: "Schedule", n: int, **options: int) -> Tensor:
        trained = len(schedule.timesteps)
        if n > trained:
            raise ValueError(f"n: got {n} steps, expected at most the {trained} training levels")
        indices = pick(trained, n, **options)
        if len(set(indices)) < n:
            raise ValueError(f"n: got {n} steps, of which two would begin at one training level; expected fewer")
        return schedule.sigmas[indices]

    return levels


def _by_time(spread: Callable[[float, float, int], Tensor]) -> Levels:
    def levels(schedule: "Schedule", n: int) -> Tensor:
        first, *_, last = schedule.timesteps.tolist()
        return schedule.sigma(spread(first, last, n))

    return levels


def _between(name: str, place: Callable[..., Tensor]) -> Levels:
    def levels(schedule: "Schedule", n: int, **options: Any) -> Tensor:
        high, low = options.pop("sigma_max", schedule.sigma_max), options.pop("sigma_min", schedule.sigma_min)
        _check_finite(name, high, schedule, ", or a finite sigma_max")
        return place(high, low, n, **options)

    return levels


def _shifted_flow(schedule: "Schedule", n: int, shift: float = 1.0) -> Tensor:
    if schedule.path != "flow":
        raise ValueError(f"spacing='shifted-flow' is for rectified flows, got a schedule of path {schedule.path!r}")
    return _above_lowest(grids.shifted_flow(n, shift), schedule, f"n, shift: got {n}, {shift:g}")


def _linear_quadratic(schedule: "Schedule", n: int) -> Tensor:
    share = grids.linear_quadratic(n)
    if schedule.path == "flow":
        s = PATHS["flow"].warp(schedule.sigma_max) * share
        levels = s / (1 - s)
    else:
        _check_finite("linear_quadratic", schedule.sigma_max, schedule)
        levels = schedule.sigma_max * share
    return _above_lowest(levels, schedule, f"n: got {n}")


def _check_finite(name: str, high: float, schedule: "Schedule", otherwise: str = "") -> None:
    if high == schedule.sigma_max == math.inf:
        raise ValueError(
            f"spacing={name!r} has no level to begin at where the schedule's last is infinite: expected "
            f"'trailing', 'leading', 'linspace'{otherwise}"
        )


def _above_lowest(levels: Tensor, schedule: "Schedule", given: str) -> Tensor:
    if not schedule.sigma_min <= levels[-1]:
        raise ValueError(
            f"{given}, whose last level {float(levels[-1]):g} is below the schedule's lowest, {schedule.sigma_min:g}"
        )
    return levels


SPACINGS: dict[str, tuple[Levels, set[str]]] = {  # and which options each takes
    "trailing": (_by_index(grids.trailing), set()),
    "leading": (_by_index(grids.leading), {"offset"}),
    "linspace": (_by_index(grids.linspace), set()),
    "karras": (_between("karras", grids.karras), {"sigma_min", "sigma_max", "rho"}),
    "uniform-lam": (_between("uniform-lam", grids.uniform_lam), {"sigma_min", "sigma_max"}),
    "exponential": (_between("exponential", grids.uniform_lam), {"sigma_min", "sigma_max"}),
    "dpm-linspace": (_by_index(grids.dpm_linspace), set()),
    "dpm-leading": (_by_index(grids.dpm_leading), {"offset"}),
    "normal": (_by_time(grids.normal), set()),
    "sgm_uniform": (_by_time(grids.sgm_uniform), set()),
    "simple": (_by_index(grids.simple), set()),
    "beta": (_by_index(grids.beta), set()),
    "lcm": (_by_index(grids.lcm), set()),
    "linear_quadratic": (_linear_quadratic, set()),
    "shifted-flow": (_shifted_flow, {"shift"}),
}
