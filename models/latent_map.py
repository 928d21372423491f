"""A small learned map from one autoencoder's latents to another's, each frame by itself: what a bridge between latent
spaces may be made of (`ivmix.solvers.Bridge`) where decoding and encoding every step costs too much."""

from dataclasses import asdict, dataclass
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ivmix.models.config import check_config


@dataclass(frozen=True)
class LatentMapConfig:
    """Channels of both spaces and what their sides are multiplied by, `up`/`down`: one of the two is 1."""

    in_channels: int
    out_channels: int
    up: int = 1
    down: int = 1
    width: int = 64
    layers: int = 3

    def __post_init__(self) -> None:
        check_config(self)
        if 1 not in (self.up, self.down):
            raise ValueError(f"up is {self.up} and down {self.down}: expected one of them to be 1")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "LatentMapConfig":
        """Raises KeyError naming what is missing, ValueError for sizes that cannot be."""
        return cls(**{name: raw[name] for name in cls.__dataclass_fields__})


class LatentMap(nn.Module):
    """Latents (b c f h w) -> (b d f h·up/down w·up/down): residual convolutions at the coarser of both sizes."""

    def __init__(self, config: LatentMapConfig) -> None:
        super().__init__()
        self.config = config
        self.conv_in = nn.Conv2d(config.in_channels * config.down**2, config.width, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(config.width, config.width, 3, padding=1) for _ in range(config.layers))
        self.conv_out = nn.Conv2d(config.width, config.out_channels * config.up**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Raises ValueError for latents of other channels, or of a side that is no multiple of `down`."""
        config = self.config
        if z.ndim != 5 or z.shape[1] != config.in_channels or z.shape[3] % config.down or z.shape[4] % config.down:
            expected = f"(b, {config.in_channels}, f, h, w), h and w multiples of {config.down}"
            raise ValueError(f"latents have shape {tuple(z.shape)}: expected {expected}")
        x = self.conv_in(F.pixel_unshuffle(rearrange(z, "b c f h w -> (b f) c h w"), config.down))
        for layer in self.layers:
            x = x + layer(F.silu(x))
        return rearrange(F.pixel_shuffle(self.conv_out(F.silu(x)), config.up), "(b f) c h w -> b c f h w", b=len(z))
