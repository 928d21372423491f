"""What a run does, as data: the sampler's name and options, turned into fields and legs for `integrate`."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from torch import Tensor

from ivmix.solvers import (
    DPMSolverPP2M,
    Euler,
    Field,
    GuidanceRamp,
    Guided,
    Heun,
    IVMixed,
    Leg,
    Progress,
    Solver,
    composite,
    mixture,
    parse_pattern,
    plain,
)

Sampler = Literal["ddim", "zigzag", "composite", "mixture", "image"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
SOLVERS: dict[str, Solver] = {"euler": Euler(), "heun": Heun(), "dpm++2m": DPMSolverPP2M()}
SPACINGS = ("trailing", "leading", "linspace", "karras", "uniform-lam")
SEQUENCES = ("down-first", "up-first")

# Which options a sampler takes beside steps, solver and spacing. Any other is an error rather than ignored.
TAKES: dict[str, tuple[str, ...]] = {
    "ddim": ("guidance",),
    "image": ("image_guidance",),
    "zigzag": ("guidance", "image_guidance", "video_guidance", "pattern", "sequence", "interval", "period"),
    "composite": ("guidance", "image_guidance", "video_guidance", "pattern", "interval", "period"),
    "mixture": ("guidance", "image_guidance", "image_weight", "interval"),
}


@dataclass(frozen=True)
class Sampling:
    """A sampler and its options; None where the sampler has no such option (see TAKES).

    `guidance`: the video model's scale w. `image_guidance`, `video_guidance`: the signed legs' scales gamma (zigzag and
    composite), or the image model's own scale (mixture and image). `interval`: progress (a, b) in which the image model
    takes part. `image_weight`: its share of a mixture there. `solver` plays the ordinary steps; a zigzag's legs are Euler's.
    """

    sampler: Sampler
    steps: int
    solver: str = "euler"
    spacing: str = "trailing"
    guidance: float | None = None
    image_guidance: GuidanceRamp | None = None
    video_guidance: GuidanceRamp | None = None
    pattern: str | None = None
    sequence: str | None = None
    interval: tuple[float, float] | None = None
    period: int | None = None
    image_weight: float | None = None

    @classmethod
    def resolve(cls, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> "Sampling":
        """The pair's defaults with what was given (None: not given) on top; texts such as "4:2" and "0:0.5" are read.

        Raises ValueError naming the option: unknown, without meaning for this sampler, or out of range.
        """
        options = {name: value for name, value in given.items() if value is not None}
        sampler = options.pop("sampler", defaults["sampler"])
        _one_of("sampler", sampler, SAMPLERS)
        for name in options:
            _one_of("option", name, [f.name for f in fields(cls)])
            if name not in ("steps", "solver", "spacing", *TAKES[sampler]):
                takers = ", ".join(s for s in SAMPLERS if name in TAKES[s])
                raise ValueError(f"{name} has no meaning for sampler {sampler!r}: it belongs to {takers}")
        return cls(sampler, **{k: _read(k, v) for k, v in {**defaults.get(sampler, {}), **options}.items()})

    def __post_init__(self) -> None:
        _one_of("solver", self.solver, tuple(SOLVERS))
        _one_of("spacing", self.spacing, SPACINGS)
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or not 1 <= self.steps <= 1000:
            raise ValueError(f"steps={self.steps!r}: expected a whole number from 1 to 1000")
        for name in TAKES[self.sampler]:
            if getattr(self, name) is None and name != "period":
                raise ValueError(f"{name} is missing: sampler {self.sampler!r} needs it")
        if self.guidance is not None and not math.isfinite(self.guidance):
            raise ValueError(f"guidance={self.guidance}: expected a finite number, such as 4")
        if self.pattern is not None:
            parse_pattern(self.pattern)
        if self.sequence is not None:
            _one_of("sequence", self.sequence, SEQUENCES)
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1] <= 1:
            a, b = self.interval
            raise ValueError(f"interval={a:g}:{b:g}: expected A:B with 0 <= A < B <= 1")
        if self.image_weight is not None and not 0 <= self.image_weight <= 1:
            raise ValueError(f"image_weight={self.image_weight:g}: expected a share from 0 to 1")

    def to_dict(self) -> dict[str, Any]:
        """What `resolve` reads back, without the options this sampler has not."""
        raw = {name: value for name, value in asdict(self).items() if value is not None}
        ramps = {f.name: str(getattr(self, f.name)) for f in fields(self) if isinstance(getattr(self, f.name), GuidanceRamp)}
        return raw | ramps

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> tuple[Field | dict[str, Field], list[Leg]]:
        """Fields and legs of this run on the decreasing grid `sigmas` (steps + 1,); pure."""
        solver, reach = SOLVERS[self.solver], {"image": image.reach, "video": video.reach}
        match self.sampler:
            case "ddim":
                return {"video": video}, plain(sigmas, self.guidance, solver)
            case "image":
                return {"image": image}, plain(sigmas, self.image_guidance, solver, network="image")
            case "zigzag":
                assert self.pattern and self.interval and self.guidance is not None
                mixed = IVMixed(
                    self.pattern, self.sequence, self.guidance, self.image_guidance, self.video_guidance,  # type: ignore[arg-type]
                    self.interval, self.period, step_solver=solver,
                )  # fmt: skip
                return {"image": image, "video": video}, mixed.legs(sigmas, reach)
            case "composite":
                assert self.pattern and self.interval
                ode = composite(
                    image, video, self.pattern, guidance=self.guidance, image_guidance=self.image_guidance,
                    video_guidance=self.video_guidance, interval=self.interval, period=self.period,
                    reference=sigmas, reach=reach,
                )  # fmt: skip
                return ode, plain(sigmas, solver=solver)
            case "mixture":
                assert self.image_weight is not None and self.interval and self.guidance is not None
                progress, weight = Progress.of(sigmas), self.image_weight
                common = max(image.reach[0], video.reach[0]), min(image.reach[1], video.reach[1])
                gate = progress.gate(self.interval, common)
                share = (lambda sigma: weight * gate(sigma)) if callable(gate) else weight * gate
                scale = progress.bind(self.image_guidance)
                assert scale is not None
                return mixture(image, video, self.guidance, scale, share), plain(sigmas, solver=solver)


def _one_of(name: str, value: Any, accepted: Any) -> None:
    if value not in accepted:
        raise ValueError(f"{name} {value!r}: expected one of {', '.join(accepted)}")


def _read(name: str, value: Any) -> Any:
    """Texts and lists, as a command line or a JSON file give them, as the dataclass holds them."""
    if name in ("image_guidance", "video_guidance") and not isinstance(value, GuidanceRamp):
        try:
            return GuidanceRamp.parse(str(value))
        except ValueError as error:
            raise ValueError(f"{name}={value!s}: {error}") from None
    if name == "interval":
        parts = value.split(":") if isinstance(value, str) else list(value)
        try:
            begin, end = (float(part) for part in parts)
        except ValueError:
            raise ValueError(f"interval={value!s}: expected A:B, such as 0:0.5") from None
        return begin, end
    return value
