"""Few steps, for models distilled to tell in one where a run of theirs would end: x0, then fresh noise.

Such a consistency model has no scores: its x0 is no mean, and what follows its x0 as an ODE, or undoes a step of it,
follows nothing that it was taught (`ivmix.solvers.theory.consistency`). So an image model takes part by its own x0, of
which a share is taken, or in steps of its own, with fresh noise in between, where a zigzag would invert.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ivmix.samplers.alone import VideoAlone
from ivmix.samplers.base import Plan, Role
from ivmix.samplers.mixed import Mixture
from ivmix.solvers import Euler, GuidanceRamp, Guided, evs, few_step, jumps
from ivmix.solvers.checks import within
from ivmix.solvers.methods.ivmixed import inside
from ivmix.solvers.plans.legs import progress


@dataclass(frozen=True, kw_only=True)
class LCM(VideoAlone):
    """The video model's x0, then fresh noise up to the next level (arXiv 2303.01469, Algorithm 1; LCM, 2310.04378)."""

    name: ClassVar[str] = "lcm"
    spacing: str = "lcm"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule != Euler():
            raise ValueError(f"solver {self.solver!r}: {self.name} goes to x0 in one step, expected euler")

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        return {"video": video}, few_step(sigmas, self.guidance)


@dataclass(frozen=True, kw_only=True)
class Blend(LCM, Mixture):
    """As `LCM`, of what `Mixture` has in place of the video model."""

    name: ClassVar[str] = "blend"

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        fields, _ = Mixture.plan(self, image, video, sigmas)
        return fields, few_step(sigmas)


@dataclass(frozen=True, kw_only=True)
class Turns(LCM):
    """As `LCM`, the image model at `image_guidance` telling the x0 of every second step in `interval` of progress.

    The video model has the first turn, as it knows how things move, and in an even number of steps the image model the
    last one, as it knows how they look: n/2 evaluations of each.
    """

    name: ClassVar[str] = "turns"
    models: ClassVar[tuple[Role, ...]] = ("image", "video")
    image_guidance: GuidanceRamp
    interval: tuple[float, float] = (0.0, 1.0)

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        n, levels = self.steps, sigmas.tolist()
        seconds = [
            k for k in range(1, n, 2) if inside(progress(k, n), self.interval) and within(levels[k], *image.reach)
        ]
        steps = evs(sigmas, seconds, self.guidance, self.image_guidance, enlarge=1)
        return {"image": image, "video": video}, jumps(steps)
