"""Runs that go back up to noise: part of the way, for what a teacher makes of it, or all of it, to be drawn again."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ivmix.samplers.alone import VideoAlone
from ivmix.samplers.base import Plan, Role
from ivmix.solvers import GuidanceRamp, Guided, LowPass, bivdiff, renewed, videoguide


@dataclass(frozen=True, kw_only=True)
class VideoGuide(VideoAlone):
    """The video model as its own teacher (VideoGuide, arXiv 2410.04364).

    In the part `interval` of the run, x0 is drawn by `teacher_weight` towards what `teacher_steps` steps of twice the
    length make of it, noised again, and what `ivmix.solvers.LowPass` of these cut-offs stops is fresh noise after each
    step; steps evaluations, and up to teacher_steps more in each guided step.
    """

    name: ClassVar[str] = "videoguide"
    interval: tuple[float, float] = (0.0, 0.1)
    teacher_weight: float = 0.2
    teacher_steps: int = 10
    spatial_cutoff: float = 0.125
    temporal_cutoff: float = 0.125

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        legs = videoguide(
            sigmas, self.guidance, self.guidance, self.teacher_weight, self.interval, self.teacher_steps,
            solver=self.rule,
        )  # fmt: skip
        return {"video": video}, renewed(legs, self.interval, LowPass(self.spatial_cutoff, self.temporal_cutoff))


@dataclass(frozen=True, kw_only=True)
class BIVDiff(VideoAlone):
    """The image model's frames, inverted by both models, mixed, and sampled by the video model (arXiv 2312.02813).

    `image_weight` is the share of the image model's noise; up to 2·steps - 1 evaluations of each model.
    """

    name: ClassVar[str] = "bivdiff"
    models: ClassVar[tuple[Role, ...]] = ("image", "video")
    image_guidance: GuidanceRamp
    image_weight: float
    inversion_guidance: float = 0.0

    @property
    def outer_steps(self) -> int:
        return (4 if 0 < self.image_weight < 1 else 3) * self.steps

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        reach = {"image": image.reach}
        legs = bivdiff(
            sigmas, self.guidance, self.image_guidance, self.image_weight, self.inversion_guidance, self.rule,
            reach=reach,
        )  # fmt: skip
        return {"image": image, "video": video}, legs
