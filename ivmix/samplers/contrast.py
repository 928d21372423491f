"""One model against the other. The video model is the strong one of both and the image model the weak one: what comes
out has to be a video, and of the two the image model is the one that lacks something for that, time. What it has that
the video model lacks, sharp frames, is pushed away too: a reason to take it at a low scale.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ivmix.samplers.alone import VideoAlone
from ivmix.samplers.base import Plan, Role
from ivmix.solvers import GuidanceRamp, Guided, Progress, autoguidance, plain, w2sd
from ivmix.typed import whole


@dataclass(frozen=True, kw_only=True)
class W2SD(VideoAlone):
    """The video model, its steps taken, undone by the image model and retaken (W2SD, arXiv 2502.00473).

    The image model's scale is `inversion_guidance`; the first `zigzags` steps do so, None: all but the last. Steps that
    the image model cannot reach are plain.
    """

    name: ClassVar[str] = "w2sd"
    models: ClassVar[tuple[Role, ...]] = ("image", "video")
    inversion_guidance: float
    zigzags: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.zigzags is not None:
            whole("zigzags", self.zigzags, 0, self.steps - 1)

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        reach = {"image": image.reach, "video": video.reach}
        legs = w2sd(sigmas, self.guidance, self.inversion_guidance, self.zigzags, self.rule, reach=reach)
        return {"image": image, "video": video}, legs


@dataclass(frozen=True, kw_only=True)
class Autoguidance(VideoAlone):
    """image(image_guidance) + contrast·(video(guidance) - image(image_guidance)) (arXiv 2406.02507); the limit of W2SD
    at `contrast` 2. The video model alone where the image model cannot reach."""

    name: ClassVar[str] = "autoguidance"
    models: ClassVar[tuple[Role, ...]] = ("image", "video")
    image_guidance: GuidanceRamp
    contrast: float = 2.0

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        progress = Progress.of(sigmas)
        gate = progress.gate((0.0, 1.0), image.reach)

        def scale(sigma: Tensor) -> float:
            return self.image_guidance(progress(sigma))

        def contrast(sigma: Tensor) -> float:
            return self.contrast if (gate(sigma) if callable(gate) else gate) else 1.0

        field = autoguidance(video.at(self.guidance), image.at(scale), contrast)
        return field, plain(sigmas, solver=self.rule)
