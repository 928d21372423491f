"""What a run does, as data: one dataclass a sampler, whose fields are its options and whose `plan` is fields and legs.

A new sampler is a new class here and a line in `SAMPLERS`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ivmix import solvers
from ivmix.samplers.solver_names import SOLVERS, SPACINGS, STOCHASTIC
from ivmix.solvers import (
    Field,
    GuidanceRamp,
    Guided,
    HigherOrder,
    IVMixed,
    Leg,
    LowPass,
    Progress,
    Schedule,
    Solver,
    composite,
    freeinit,
    mixture,
    parse_pattern,
    plain,
    zsampling,
)
from ivmix.solvers.methods.ivmixed import inside
from ivmix.solvers.methods.official import ENTRIES
from ivmix.solvers.plans.legs import progress
from ivmix.solvers.steps.stochastic import ReverseSDE
from ivmix.typed import short, whole

Plan = tuple[Field | dict[str, Field], list[Leg]]
Role = Literal["image", "video"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The option every sampler has, and what it says of a run."""

    name: ClassVar[str]
    lead: ClassVar[Role] = "video"  # whose schedule the run begins on
    models: ClassVar[tuple[Role, ...]] = ("image", "video")  # which it evaluates
    steps: int

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1, 1000)

    @property
    def outer_steps(self) -> int:
        """How many steps a whole run reports."""
        return self.steps

    def schedules(self, image: Schedule, video: Schedule) -> tuple[Schedule, Schedule]:
        """Under which schedules the networks are read: their own."""
        return image, video

    def grid(self, schedule: Schedule) -> Tensor:
        """The decreasing levels (steps + 1,) of a run, from the lead's schedule."""
        raise NotImplementedError

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        """Fields and legs of a run on the grid `sigmas` (steps + 1,); pure."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values that `sampling` reads back."""
        return {"sampler": self.name, **{f.name: _plain(getattr(self, f.name)) for f in fields(self)}}


@dataclass(frozen=True, kw_only=True)
class Solved(Sampling):
    """Options of all samplers with steps of one's own choice: the rule `solver` for the ordinary ones, by name or an
    instance, their grid's `spacing`, and how a solver of order 2 and more steps to 0, None: as it does by itself
    (`ivmix.solvers.HigherOrder`)."""

    solver: str | Solver = "euler"
    spacing: str = "trailing"
    end: Literal["ab2", "euler"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.solver, Solver):
            one_of("solver", self.solver, SOLVERS)
        one_of("spacing", self.spacing, SPACINGS)
        if self.end is not None:
            one_of("end", self.end, ("ab2", "euler"))
            if self.end != "euler" and not isinstance(self.rule, HigherOrder):
                raise ValueError(f"end {self.end!r} has no meaning for solver {self.solver!r}, which ends with Euler's")

    @property
    def rule(self) -> Solver:
        rule = self.solver if isinstance(self.solver, Solver) else SOLVERS[self.solver]
        return replace(rule, end=self.end) if self.end and isinstance(rule, HigherOrder) else rule

    def to_dict(self) -> dict[str, Any]:
        said, rule = super().to_dict(), self.rule
        if not isinstance(rule, HigherOrder):
            return said | {"end": None}
        return said | {"solver": _plain(replace(rule, end=type(rule).end)), "end": rule.end}  # whoever asked for it

    def grid(self, schedule: Schedule) -> Tensor:
        return schedule.grid(self.steps, self.spacing)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class VideoAlone(Solved):
    """The video model at guidance scale `guidance`; with Euler's solver this is DDIM."""

    name: ClassVar[str] = "ddim"
    models: ClassVar[tuple[Role, ...]] = ("video",)
    guidance: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_finite("guidance", self.guidance)

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        return {"video": video}, plain(sigmas, self.guidance, self.rule)


@dataclass(frozen=True, kw_only=True)
class FreeInit(VideoAlone):
    """The video model `iterations` times over, each time from the last clip's low frequencies (arXiv 2312.07537).

    Cut-offs are those of `ivmix.solvers.LowPass`; iterations·steps evaluations.
    """

    name: ClassVar[str] = "freeinit"
    iterations: int = 5
    spatial_cutoff: float = 0.25
    temporal_cutoff: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("iterations", self.iterations, 1, 100)
        for name in ("spatial_cutoff", "temporal_cutoff"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value < math.inf:
                raise ValueError(
                    f"{name}={short(value)}: expected a number above 0, such as 0.25; 1 is Nyquist's frequency"
                )

    @property
    def outer_steps(self) -> int:
        return self.iterations * self.steps

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        fields, legs = super().plan(image, video, sigmas)
        return fields, freeinit(legs, self.iterations, LowPass(self.spatial_cutoff, self.temporal_cutoff))


@dataclass(frozen=True, kw_only=True)
class ZSampling(VideoAlone):
    """The video model, its steps taken, undone at `inversion_guidance` and retaken (Z-Sampling, arXiv 2412.10891).

    The first `zigzags` steps do so, None: all but the last; steps + 2·zigzags evaluations.
    """

    name: ClassVar[str] = "zsampling"
    inversion_guidance: float = 0.0
    zigzags: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_finite("inversion_guidance", self.inversion_guidance)
        if self.zigzags is not None:
            whole("zigzags", self.zigzags, 0, self.steps - 1)

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        legs = zsampling(sigmas, self.guidance, self.inversion_guidance, self.zigzags, self.rule)
        return {"video": video}, legs


@dataclass(frozen=True, kw_only=True)
class ImageAlone(Solved):
    """The image model frame by frame, at guidance scale `image_guidance`."""

    name: ClassVar[str] = "image"
    lead: ClassVar[Role] = "image"
    models: ClassVar[tuple[Role, ...]] = ("image",)
    image_guidance: GuidanceRamp

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        return {"image": image}, plain(sigmas, self.image_guidance, self.rule, network="image")


@dataclass(frozen=True, kw_only=True)
class Mixed(VideoAlone):
    """What IV-Mixed Sampler and its limit share: `pattern`, the scales of the signed legs, and where they act.

    `interval` is the part (a, b) of progress that is mixed; every `period`-th step has the video model on the I legs.
    """

    models: ClassVar[tuple[Role, ...]] = ("image", "video")
    pattern: str = "IV-IV"
    image_guidance: GuidanceRamp
    video_guidance: GuidanceRamp
    interval: tuple[float, float] = (0.0, 1.0)
    period: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_pattern(self.pattern)
        _check_interval(self.interval)
        if self.period is not None:
            whole("period", self.period, 1, 1000)


@dataclass(frozen=True, kw_only=True)
class Zigzag(Mixed):
    """IV-Mixed Sampler as published (arXiv 2410.04171); its legs are Euler's, `solver` plays the ordinary steps."""

    name: ClassVar[str] = "zigzag"
    sequence: Literal["down-first", "up-first"] = "down-first"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("sequence", self.sequence, ("down-first", "up-first"))

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        mixed = IVMixed(
            self.pattern, self.sequence, self.guidance, self.image_guidance, self.video_guidance, self.interval,
            self.period, step_solver=self.rule,
        )  # fmt: skip
        reach = {"image": image.reach, "video": video.reach}
        return {"image": image, "video": video}, mixed.legs(sigmas, reach)


@dataclass(frozen=True, kw_only=True)
class Composite(Mixed):
    """The ODE that a zigzag converges to: one evaluation of each model a step, any solver.

    With R in its pattern it is an SDE of as much churn, for solvers of any: "sde-dpm++2m" and its kin.
    """

    name: ClassVar[str] = "composite"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.solver, Solver):
            return  # whose churn the run compares with the pattern's
        noisy = "R" in self.pattern
        fits = [n for n, rule in SOLVERS.items() if (isinstance(rule, ReverseSDE) if noisy else n not in STOCHASTIC)]
        if self.solver not in fits:
            raise ValueError(
                f"solver {self.solver!r}: pattern {self.pattern} brings {'' if noisy else 'no '}fresh noise into the "
                f"composite; expected one of {', '.join(fits)}"
            )

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        limit = composite(
            image, video, self.pattern, guidance=self.guidance, image_guidance=self.image_guidance,
            video_guidance=self.video_guidance, interval=self.interval, period=self.period,
            reference=sigmas, reach={"image": image.reach, "video": video.reach},
        )  # fmt: skip
        solver = self.rule
        if isinstance(solver, ReverseSDE) and solver is not self.solver:  # by name: of the pattern's churn
            solver = replace(solver, churn=limit.churn)
        return limit, plain(sigmas, solver=solver)


@dataclass(frozen=True, kw_only=True)
class Mixture(VideoAlone):
    """(1 - m) video(guidance) + m image(image_guidance), m = `image_weight` in `interval` of progress and 0 outside."""

    name: ClassVar[str] = "mixture"
    models: ClassVar[tuple[Role, ...]] = ("image", "video")
    image_guidance: GuidanceRamp
    image_weight: float
    interval: tuple[float, float] = (0.5, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_interval(self.interval)
        if not _is_number(self.image_weight) or not 0 <= self.image_weight <= 1:
            raise ValueError(f"image_weight={short(self.image_weight)}: expected a share from 0 to 1")

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        progress, m = Progress.of(sigmas), self.image_weight
        common = max(image.reach[0], video.reach[0]), min(image.reach[1], video.reach[1])
        gate = progress.gate(self.interval, common)
        share = (lambda sigma: m * gate(sigma)) if callable(gate) else m * gate

        def scale(sigma: Tensor) -> float:
            return self.image_guidance(progress(sigma))

        return mixture(image, video, self.guidance, scale, share), plain(sigmas, solver=self.rule)


@dataclass(frozen=True, kw_only=True)
class Official(Sampling):
    """The authors' own loop of `variant`, quirks included (`ivmix.solvers.Official`), both networks on their schedule.

    `variant` is animatediff, modelscope or videocrafter; 5·steps evaluations, of which some change nothing. `interval`
    is a part of progress, as of every sampler, where the authors' is the first and last mixed step: their (a, b) of n
    steps are a/n:(b + 1)/n. `period` is what they call zz, None: the loop's own (3 for videocrafter, else none).
    """

    name: ClassVar[str] = "official"
    variant: Literal["animatediff", "modelscope", "videocrafter"]
    guidance: float | None = None
    image_guidance: GuidanceRamp = GuidanceRamp(4.0)  # noqa: RUF009 - immutable
    video_guidance: GuidanceRamp = GuidanceRamp(4.0)  # noqa: RUF009 - immutable
    interval: tuple[float, float] = (0.0, 1.0)
    period: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.guidance is not None:
            _check_finite("guidance", self.guidance)
        _check_interval(self.interval)
        if self.period is not None:
            whole("period", self.period, 1, 1000)
            if self.variant == "modelscope":
                raise ValueError(f"period={self.period}: the loop of variant 'modelscope' has none, leave it out")
        self._loop()

    def schedules(self, image: Schedule, video: Schedule) -> tuple[Schedule, Schedule]:
        both = solvers.Official.schedule()
        return both, both

    def grid(self, schedule: Schedule) -> Tensor:
        sigmas = schedule.sigmas[self._loop().timesteps()]
        return torch.cat([sigmas, sigmas.new_zeros(1)])

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        return {"image": image, "video": video}, self._loop().legs(solvers.Official.schedule())

    def _loop(self) -> solvers.Official:
        n, name = self.steps, "interval={:g}:{:g}".format(*self.interval)
        mixed = [i for i in range(n) if inside(progress(i, n), self.interval)]
        if not mixed:
            raise ValueError(f"{name}: none of {n} steps begins in it, expected at least one")
        if mixed[-1] >= ENTRIES:
            raise ValueError(f"{name} mixes steps {mixed[0]} to {mixed[-1]} of {n}, but the authors' guidance tables "
                             f"end at step {ENTRIES - 1}: end it at {ENTRIES / n:.3g} or before")  # fmt: skip
        return solvers.Official(
            self.variant, n, self.guidance, self.image_guidance, self.video_guidance, (mixed[0], mixed[-1]), self.period
        )


SAMPLERS: dict[str, type[Sampling]] = {
    s.name: s for s in (VideoAlone, Zigzag, Composite, Mixture, ImageAlone, FreeInit, ZSampling, Official)
}
OPTIONS = tuple(dict.fromkeys(f.name for sampler in SAMPLERS.values() for f in fields(sampler)))


def _plain(value: Any) -> Any:
    """As JSON has it; a solver that has a name by that, another by how it is written in Python."""
    if hasattr(value, "item"):  # a number of NumPy's
        return value.item()
    if isinstance(value, Solver):
        return next((name for name, solver in SOLVERS.items() if solver == value), repr(value))
    return str(value) if isinstance(value, GuidanceRamp) else list(value) if isinstance(value, tuple) else value


def one_of(name: str, value: Any, accepted: Iterable[str]) -> None:
    if not isinstance(value, str) or value not in accepted:
        raise ValueError(f"{name} {short(value)}: expected one of {', '.join(accepted)}")


def _check_finite(name: str, value: float) -> None:
    if not _is_number(value) or not math.isfinite(value):
        raise ValueError(f"{name}={short(value)}: expected a finite number, such as 4")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_interval(interval: tuple[float, float]) -> None:
    if not 0 <= interval[0] < interval[1] <= 1:
        raise ValueError(f"interval={interval[0]:g}:{interval[1]:g}: expected A:B with 0 <= A < B <= 1")
