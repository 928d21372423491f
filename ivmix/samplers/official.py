"""The authors' own loops as samplers."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ivmix import solvers
from ivmix.samplers.base import Plan, Sampling
from ivmix.solvers import GuidanceRamp, Guided, Schedule
from ivmix.solvers.methods.ivmixed import inside
from ivmix.solvers.methods.official import ENTRIES
from ivmix.solvers.plans.legs import progress


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
        solvers.Official(self.variant)  # raises for one that it does not have
        super().__post_init__()
        if self.period is not None and self.variant == "modelscope":
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
