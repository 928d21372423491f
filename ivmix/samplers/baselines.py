"""Other training-free samplers of the video model alone, to compare with."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ivmix.samplers.alone import VideoAlone
from ivmix.samplers.base import Plan, Role, Solved
from ivmix.solvers import Euler, Guided, LowPass, cfgpp, freeinit, zsampling
from ivmix.typed import whole


@dataclass(frozen=True, kw_only=True)
class FreeInit(VideoAlone):
    """The video model `iterations` times over, each time from the last clip's low frequencies (arXiv 2312.07537).

    Cut-offs are those of `ivmix.solvers.LowPass`; iterations·steps evaluations.
    """

    name: ClassVar[str] = "freeinit"
    iterations: int = 5
    spatial_cutoff: float = 0.25
    temporal_cutoff: float = 0.25

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
        if self.zigzags is not None:
            whole("zigzags", self.zigzags, 0, self.steps - 1)

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        legs = zsampling(sigmas, self.guidance, self.inversion_guidance, self.zigzags, self.rule)
        return {"video": video}, legs


@dataclass(frozen=True, kw_only=True)
class CFGPP(Solved):
    """The video model by Euler's steps, guided in x0 alone (CFG++, arXiv 2406.08070)."""

    name: ClassVar[str] = "cfgpp"
    models: ClassVar[tuple[Role, ...]] = ("video",)
    x0_guidance: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule != Euler():
            raise ValueError(f"solver {self.solver!r}: cfgpp is made of Euler's steps, expected euler")

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        return {"video": video}, cfgpp(sigmas, self.x0_guidance)
