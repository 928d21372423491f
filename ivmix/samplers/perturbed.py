"""The video model guided by a worse one that is itself, without some of its attention or of its layers."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ivmix.samplers.alone import VideoAlone
from ivmix.samplers.base import Plan
from ivmix.solvers import Guided, pag, plain, seen, stg


@dataclass(frozen=True, kw_only=True)
class PAG(VideoAlone):
    """`guidance`, and `perturbed_guidance`·(cond - perturbed) (PAG, arXiv 2403.17377): perturbed is cond with identity
    attention in `perturbed_layers`, names of `ivmix.models.unet.perturbed` with commas between them. One pass of the
    video model more an evaluation."""

    name: ClassVar[str] = "pag"
    perturbed_layers: str
    perturbed_guidance: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.perturbed_layers, str) and all(self.layers)):
            raise ValueError(
                f"perturbed_layers={self.perturbed_layers!r}: expected names with commas between, such as mid_block"
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """The names one by one."""
        return tuple(name.strip() for name in self.perturbed_layers.split(","))

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        try:
            field = self.pushed(video)
        except ValueError as error:  # of skip or identity, as they are called there
            said = str(error).partition(": ")[2]
            raise ValueError(f"perturbed_layers={self.perturbed_layers}: {said}") from None
        return {"video": field}, plain(sigmas, self.guidance, self.rule)

    def pushed(self, video: Guided) -> Guided:
        """The video model with its push."""
        return pag(video, seen(video.cond, identity=self.layers), self.perturbed_guidance)


@dataclass(frozen=True, kw_only=True)
class STG(PAG):
    """As `PAG`, but perturbed is cond with `perturbed_layers` skipped (STG-R, arXiv 2411.18664)."""

    name: ClassVar[str] = "stg"
    perturbed_guidance: float = 1.0

    def pushed(self, video: Guided) -> Guided:
        return stg(video, seen(video.cond, skip=self.layers), self.perturbed_guidance)
