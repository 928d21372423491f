"""Every sampler by name: one dataclass each, whose fields are its options and whose `plan` is fields and legs.

A new sampler is a new class beside the others and a line in `SAMPLERS`, and one of its name in
`ivmix.samplers.options`; what an option means is declared there too.
"""

from ivmix.samplers.alone import ImageAlone, VideoAlone
from ivmix.samplers.base import Sampling as Sampling
from ivmix.samplers.baselines import CFGPP, FreeInit, ZSampling
from ivmix.samplers.contrast import W2SD, Autoguidance
from ivmix.samplers.few_steps import LCM, Blend, Turns
from ivmix.samplers.filtered import FreqPrior, FrequencyDecoupled, VideoElevator
from ivmix.samplers.mixed import Composite, Mixture, Switch, Zigzag
from ivmix.samplers.official import Official
from ivmix.samplers.perturbed import PAG, STG
from ivmix.samplers.stages import BIVDiff, VideoGuide

SAMPLERS: dict[str, type[Sampling]] = {
    s.name: s
    for s in (
        VideoAlone, Zigzag, Composite, Mixture, ImageAlone, FreeInit, FreqPrior, FrequencyDecoupled, VideoElevator,
        ZSampling, W2SD, Autoguidance, Switch, CFGPP, VideoGuide, BIVDiff, LCM, Blend, Turns,
        PAG, STG, Official,
    )
}  # fmt: skip
