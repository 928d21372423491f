"""A UNet that ends in frame averaging; its weights and config.json are a public UNet's, and a few entries more.

>>> from ivmix.models import load_unet
>>> from ivmix.pairs.description import EMBEDDED
>>> load_unet(EMBEDDED["sprites"] / "video" / "unet", layouts=[AVERAGING]).config.averaging
AveragingConfig(features=16, timesteps=1000)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ivmix.models import Condition, UNet, UNetConfig
from ivmix.models.checkpoints.layouts import DIFFUSERS_UNET
from ivmix.models.checkpoints.rules import Layout, same
from ivmix.sprites.averaging.layer import AveragingConfig, FrameAveraging


@dataclass(frozen=True)
class AveragingUNetConfig(UNetConfig):
    averaging: AveragingConfig = field(default_factory=AveragingConfig)

    @property
    def network(self) -> type[UNet]:
        return AveragingUNet

    def to_dict(self) -> dict[str, Any]:
        """What diffusers writes for the public part, and two entries that it ignores."""
        last = self.averaging
        return super().to_dict() | {"averaging_features": last.features, "averaging_timesteps": last.timesteps}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "AveragingUNetConfig":
        averaging = AveragingConfig(raw["averaging_features"], raw["averaging_timesteps"])
        return cls(**vars(UNetConfig.from_dict(raw)), averaging=averaging)


class AveragingUNet(UNet):
    """A UNet whose output is averaged over the frames where they agree; the image view leaves that out.

    Without `averaging.*`, its keys are a public UNet's: `load_unet(folder, drop=["averaging.*"])` is that UNet.
    """

    config: AveragingUNetConfig

    def __init__(self, config: AveragingUNetConfig) -> None:
        super().__init__(config)
        self.averaging = FrameAveraging(config.out_channels, 4 * config.block_out_channels[0], config.averaging)

    def forward(self, z: Tensor, t: Tensor, condition: Condition, temporal: bool = True) -> Tensor:
        """As of `UNet`."""
        y = super().forward(z, t, condition, temporal)
        return self.averaging(y, z, t, self.embed_time(z, t, condition)) if temporal else y


AVERAGING = Layout(
    "diffusers UNet", "unet", "averaging.clean",
    (*DIFFUSERS_UNET, *same("averaging.{clean|compare.weight|scale.weight|scale.bias}")), AveragingUNetConfig,
)  # fmt: skip
