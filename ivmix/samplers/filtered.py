"""Samplers that filter: guidance by level of detail, noise of whole variance, clips that are smoothed on their way."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ivmix.samplers.alone import VideoAlone
from ivmix.samplers.base import Plan, Role, Solved
from ivmix.samplers.baselines import FreeInit
from ivmix.solvers import (
    Euler,
    GaussianLowPass,
    GuidanceRamp,
    Guided,
    LowPass,
    fdg,
    freqprior,
    plain,
    videoelevator,
)


@dataclass(frozen=True, kw_only=True)
class FreqPrior(FreeInit):
    """FreeInit with a mix of noises that keeps their variance (FreqPrior, arXiv 2502.03496)."""

    name: ClassVar[str] = "freqprior"
    iterations: int = 3

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        legs = plain(sigmas, self.guidance, self.rule)
        return {"video": video}, freqprior(legs, self.iterations, LowPass(self.spatial_cutoff, self.temporal_cutoff))


@dataclass(frozen=True, kw_only=True)
class FrequencyDecoupled(VideoAlone):
    """The video model, each frame's finest details at scale `detail_guidance`, all else at `guidance` (FDG, arXiv
    2506.19713)."""

    name: ClassVar[str] = "fdg"
    detail_guidance: float

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        return fdg(video, (self.detail_guidance, self.guidance)), plain(sigmas, solver=self.rule)


@dataclass(frozen=True, kw_only=True)
class VideoElevator(Solved):
    """The image model, its clip refined by the video model on its way (VideoElevator, arXiv 2403.05438).

    `refinements` steps, evenly from a tenth to seven tenths of the run, begin with `refining_steps` of the video model
    at scale `guidance`; the image model undoes them at `inversion_guidance` and goes on. Cut-offs are those of
    `ivmix.solvers.GaussianLowPass`.
    """

    name: ClassVar[str] = "videoelevator"
    lead: ClassVar[Role] = "image"
    guidance: float
    image_guidance: GuidanceRamp
    inversion_guidance: float = 0.0
    refinements: int = 4
    refining_steps: int = 8
    spatial_cutoff: float = 1.0
    temporal_cutoff: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule != Euler():
            raise ValueError(f"solver {self.solver!r}: videoelevator is made of Euler's steps, expected euler")

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        legs = videoelevator(
            sigmas, self.image_guidance, self.guidance, self.inversion_guidance,
            torch.linspace(0.1, 0.7, self.refinements, dtype=torch.float64).tolist(), self.refining_steps,
            GaussianLowPass(self.spatial_cutoff, self.temporal_cutoff),
            {"image": image.reach, "video": video.reach},
        )  # fmt: skip
        return {"image": image, "video": video}, legs
