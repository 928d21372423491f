"""The authors' loops as plans of legs, idle evaluations, clamps and mismatched levels included.

They walk DDIM on training timesteps, R = 1000 // n apart, whatever the grid; all three tell a network another level
than the state is at, or move z between levels it is not at. None of this is recommended:
`IVMixed` is the method, these plans make published numbers reproducible. Observed from the public code (see arXiv
2410.04171) and checked against recorded runs.

Their tables are of float32, whose bits torch leaves to the processor: without fused multiply-adds its linspace rounds
twice, its vectorised powers and square roots err by a unit in the last place, each kind in its own way. Here every
entry is the exact result of its operation rounded once, wherever it runs: the bits of the recorded runs, and of torch
with AVX2 or AVX512 but for those powers and roots.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ivmix.solvers.algebra.guidance import GuidanceRamp
from ivmix.solvers.checks import check_number, whole
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.plans.legs import Leg, View
from ivmix.solvers.schedules.schedule import Schedule
from ivmix.solvers.steps.onestep import Euler
from ivmix.solvers.steps.solver import Solver
from ivmix.solvers.steps.stochastic import SDEDPMSolverPP2M

METHOD = Method(
    "official IV-Mixed",
    papers=("2410.04171",),
    does="the authors' three loops, told levels and idle evaluations included: legs that act on z",
    evaluations={"video": "3n", "image": "2n"},
    limit="none, because its timesteps are whole and its tables have 50 entries",
    licence="none",
)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`b c f h w` to another (h, w), nearest neighbour."""
    frames = x.transpose(1, 2).flatten(0, 1)  # (b f) c h w
    y = torch.nn.functional.interpolate(frames, size, mode="nearest")
    return y.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


RESIZE_64 = View("64x64", lambda x: _resize(x, (64, 64)), lambda y, x: _resize(y, (x.shape[-2], x.shape[-1])))

# Leg by leg: label, network, timestep that the network is told, timesteps that z moves between, sign of the guidance.
# t is the grid's timestep, p = max(0, t - R), q = max(0, t - floor(2000 / n)).
_LEGS: dict[str, tuple[tuple[str, str, str, str, str, int], ...]] = {
    "animatediff": (
        ("I down 1", "image", "p", "p", "p-R", +1),
        ("V down 2", "video", "t", "t", "t-R", +1),
        ("I up 1", "image", "q", "p-R", "p", -1),
        ("V up 2", "video", "p", "t-R", "t", -1),
    ),
    "modelscope": (
        ("I down 1", "image", "t", "t", "t-R", +1),
        ("V down 2", "video", "p", "p", "p-R", +1),
        ("I up 1", "image", "q", "p-R", "p", -1),
        ("V up 2", "video", "p", "t-R", "t", -1),
    ),
}
_LEGS["videocrafter"] = _LEGS["modelscope"]
_GUIDANCE = {"animatediff": 7.5, "modelscope": 7.5, "videocrafter": 9.0}
_ZZ = {"animatediff": 1000, "modelscope": None, "videocrafter": 3}
ENTRIES = 50  # of a guidance table, whatever the steps


@dataclass(frozen=True)
class Official:
    """One of the authors' samplers; `legs(schedule)` is its plan of 5·steps evaluations.

    `interval`: first and last mixed step, inclusive. `guidance` of the ordinary steps, None: the script's own (7.5, for
    "videocrafter" 9). `zz`: steps i with i mod zz = zz - 1 use the video network on the image legs, with
    `video_guidance` ("animatediff") or `image_guidance` ("videocrafter"); None: the script's own (1000, which is never,
    and 3); "modelscope" has none. Guidance tables have 50 entries, read at the step's number: a mixed step 50 is a
    ValueError. Options that the released ModelScope and VideoCrafter scripts store but do not apply are applied here.

    "animatediff" and "modelscope" play DDIM on a linspace grid. "videocrafter" walks another grid, and its ordinary
    steps are those of `SDEDPMSolverPP2M` between float32 levels, the last one to 0: pass `noise` to `integrate`. At
    timestep 999 that level is a rounding above the schedule's own, which is taken in its place.

    A run begins at `schedule.start(z, legs[0].source)` and ends with z = alpha(legs[-1].target)·x, or x itself at 0;
    pass `schedule` to `integrate`.

    >>> legs = Official("animatediff").legs(Official.schedule())
    >>> from ivmix.solvers.plans.legs import planned_nfe
    >>> planned_nfe(legs)
    {'image': 100, 'video': 150}
    """

    variant: Literal["animatediff", "modelscope", "videocrafter"]
    steps: int = 50
    guidance: float | None = None
    image_guidance: GuidanceRamp = GuidanceRamp(4.0)  # noqa: RUF009 - immutable
    video_guidance: GuidanceRamp = GuidanceRamp(4.0)  # noqa: RUF009 - immutable
    interval: tuple[int, int] = (0, 49)
    zz: int | None = None

    def __post_init__(self) -> None:
        if self.variant not in _LEGS:
            raise ValueError(f"variant: got {self.variant!r}, expected one of {', '.join(map(repr, _LEGS))}")
        most = 998 if self.variant == "videocrafter" else 1000
        whole("steps", self.steps, 2, most)
        for name in ("image_guidance", "video_guidance"):
            if not isinstance(getattr(self, name), GuidanceRamp):
                raise TypeError(f"{name}: got {getattr(self, name)!r}, expected a GuidanceRamp")
        if self.guidance is not None:
            check_number("guidance", self.guidance, "a finite number, or None")
        name = "interval of first and last mixed step"
        if not (isinstance(self.interval, tuple | list) and len(self.interval) == 2):
            raise ValueError(f"{name}: got {self.interval!r}, expected two whole numbers, such as (0, 49)")
        whole(name, self.interval[1], whole(name, self.interval[0], 0))
        if min(self.interval[1], self.steps - 1) >= ENTRIES:
            raise ValueError(f"interval: got {self.interval}, but the guidance tables end at step {ENTRIES - 1}")
        if self.zz is not None:
            if self.variant == "modelscope":
                raise ValueError(f"zz: got {self.zz!r} for 'modelscope', expected None")
            whole("zz", self.zz, 1, otherwise=", or None")

    @staticmethod
    def schedule() -> Schedule:
        """The float32 table of cumulative alphas that the authors' schedulers compute, the same on every machine."""
        betas = _linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        return Schedule.from_alpha_bar((1.0 - betas).double().cumprod(0).float())

    def legs(self, schedule: Schedule) -> list[Leg]:
        """The plan on `schedule`, which has 1000 training levels; timesteps below 0 are level 0."""
        if len(schedule.timesteps) != 1000:
            raise ValueError(f"schedule: got {len(schedule.timesteps)} training levels, expected 1000")
        sigmas: list[float] = schedule.sigmas.tolist()
        R, R2 = 1000 // self.steps, 2000 // self.steps
        times = self.timesteps()
        scales = {"image": guidance_table(self.image_guidance), "video": guidance_table(self.video_guidance)}
        guidance = _GUIDANCE[self.variant] if self.guidance is None else self.guidance
        zz = _ZZ[self.variant] if self.zz is None else self.zz
        ddim: Solver = Euler()
        alpha_bar = (schedule.alpha[times] ** 2).to(torch.float32)
        squares = ((1 - alpha_bar) / alpha_bar).double()
        levels32 = [*squares.sqrt().float().double().clamp(max=sigmas[-1]).tolist(), 0.0]  # of the multistep scheduler
        plan = []
        for i, t in enumerate(times):
            p = max(0, t - R)
            k = {"t": t, "p": p, "q": max(0, t - R2), "t-R": max(0, t - R), "p-R": max(0, p - R)}
            if self.interval[0] <= i <= self.interval[1]:
                for label, network, told, begin, end, sign in _LEGS[self.variant]:
                    view = RESIZE_64 if (network, self.variant) == ("image", "modelscope") else None
                    table = scales[network]
                    if network == "image" and zz is not None and i % zz == zz - 1:
                        network = "video"
                        table = scales["image" if self.variant == "videocrafter" else "video"]
                    levels = sigmas[k[told]], sigmas[k[begin]], sigmas[k[end]]
                    plan.append(Leg(network, label, *levels, sign * table[i], ddim, i, view))
            source, target, solver = sigmas[t], sigmas[k["t-R"]], ddim
            if self.variant == "videocrafter":
                source, target, solver = levels32[i], levels32[i + 1], SDEDPMSolverPP2M()
            plan.append(Leg("video", "step", sigmas[t], source, target, guidance, solver, i))
        return plan

    def timesteps(self) -> list[int]:
        """The training timesteps of the grid, one a step, falling."""
        n = self.steps
        if self.variant == "videocrafter":
            return [1000 // (n + 1) * k + 1 for k in range(n, 0, -1)]
        return [round(999 * k / (n - 1)) for k in range(n - 1, -1, -1)]


def guidance_table(ramp: GuidanceRamp) -> list[float]:
    """The authors' 50 entries in float32 arithmetic: begin = end = 4 gives 4.000000953674316."""
    begin, end = ramp.begin ** (1 / ramp.rho), (ramp.begin if ramp.end is None else ramp.end) ** (1 / ramp.rho)
    entries = begin + _linspace(0, 1, ENTRIES) * (end - begin)
    powers: list[float] = (entries.double() ** ramp.rho).float().tolist()
    return powers


def _linspace(begin: float, end: float, n: int) -> Tensor:
    """`torch.linspace` in float32 as AVX2 and AVX512 have it: from both ends to the middle, an entry rounded once."""
    first, last = torch.tensor([begin, end], dtype=torch.float32)
    step = ((last - first) / (n - 1)).double()  # products of float32 and their sums are exact here
    k = torch.arange(n, dtype=torch.float64)
    return torch.where(k < n // 2, first + k * step, last - (n - 1 - k) * step).float()
