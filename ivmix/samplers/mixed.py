"""Both models in one run: IV-Mixed Sampler, the ODE that it converges to, convex mixtures, and one after the other."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from ivmix.samplers.alone import VideoAlone
from ivmix.samplers.base import Plan, Role
from ivmix.samplers.solver_names import SOLVERS, STOCHASTIC
from ivmix.solvers import (
    GuidanceRamp,
    Guided,
    IVMixed,
    Progress,
    Solver,
    composite,
    mixture,
    parse_pattern,
    plain,
    switch,
)
from ivmix.solvers.steps.stochastic import ReverseSDE


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


@dataclass(frozen=True, kw_only=True)
class Zigzag(Mixed):
    """IV-Mixed Sampler as published (arXiv 2410.04171); its legs are Euler's, `solver` plays the ordinary steps."""

    name: ClassVar[str] = "zigzag"
    sequence: Literal["down-first", "up-first"] = "down-first"

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

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        progress, m = Progress.of(sigmas), self.image_weight
        common = max(image.reach[0], video.reach[0]), min(image.reach[1], video.reach[1])
        gate = progress.gate(self.interval, common)
        share = (lambda sigma: m * gate(sigma)) if callable(gate) else m * gate

        def scale(sigma: Tensor) -> float:
            return self.image_guidance(progress(sigma))

        return mixture(image, video, self.guidance, scale, share), plain(sigmas, solver=self.rule)


@dataclass(frozen=True, kw_only=True)
class Switch(VideoAlone):
    """The video model at `guidance` above the level `switch_at`, the image model at `image_guidance` from there down.

    In this order, as the video model knows how things move, which is settled at high levels, and the image model how
    they look; frames that the image model began by itself would not belong together.
    """

    name: ClassVar[str] = "switch"
    models: ClassVar[tuple[Role, ...]] = ("image", "video")
    image_guidance: GuidanceRamp
    switch_at: float

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        scales = (self.guidance, self.image_guidance)
        legs = switch(sigmas, ("video", "image"), [self.switch_at], scales, self.rule)
        return {"image": image, "video": video}, legs
