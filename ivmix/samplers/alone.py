"""Either model by itself."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ivmix.samplers.base import Plan, Role, Solved
from ivmix.solvers import GuidanceRamp, Guided, plain


@dataclass(frozen=True, kw_only=True)
class VideoAlone(Solved):
    """The video model at guidance scale `guidance`; with Euler's solver this is DDIM."""

    name: ClassVar[str] = "ddim"
    models: ClassVar[tuple[Role, ...]] = ("video",)
    guidance: float

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        return {"video": video}, plain(sigmas, self.guidance, self.rule)


@dataclass(frozen=True, kw_only=True)
class ImageAlone(Solved):
    """The image model frame by frame, at guidance scale `image_guidance`."""

    name: ClassVar[str] = "image"
    lead: ClassVar[Role] = "image"
    models: ClassVar[tuple[Role, ...]] = ("image",)
    image_guidance: GuidanceRamp

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        return {"image": image}, plain(sigmas, self.image_guidance, self.rule, network="image")
