"""The autoencoder of latent diffusion (kl-f8 and smaller): pixels in [-1, 1] to Gaussian latents and back.

arXiv 2112.10752, section 3.1. State-dict names are diffusers' AutoencoderKL.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ivmix.models.folder import check_entries
from ivmix.models.layers import Attention, Downsample, Resnet, Upsample

EPS = 1e-6

# Entries of a config.json that change what a VAE means but no key or shape of its weights.
FIXED_ENTRIES = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
}


@dataclass(frozen=True)
class VAEConfig:
    """Sizes of the autoencoder; the defaults are Stable Diffusion's. Spatial factor 2^(levels - 1)."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215

    @property
    def factor(self) -> int:
        return 2 ** (len(self.block_out_channels) - 1)

    def to_dict(self) -> dict[str, Any]:
        """The config.json diffusers writes for the same network (AutoencoderKL)."""
        levels = len(self.block_out_channels)
        return {
            "_class_name": "AutoencoderKL",
            **asdict(self),
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "VAEConfig":
        """Reads `to_dict`'s form; SD 1.5's own file lacks `scaling_factor`, whose default is its value.

        Raises KeyError naming what is missing, ValueError for another architecture.
        """
        check_entries(raw, FIXED_ENTRIES)
        return cls(
            raw["in_channels"], raw["out_channels"], raw["latent_channels"], tuple(raw["block_out_channels"]),
            raw["layers_per_block"], raw["norm_num_groups"], raw.get("scaling_factor", cls.scaling_factor),
        )  # fmt: skip


class PixelAttention(Attention):
    """One head over the pixels of a frame, with its own norm: (n c h w) -> (n c h w)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels, heads=1, qkv_bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)                    # (n (h w) c)
        return x + super().forward(tokens).transpose(1, 2).reshape(x.shape)


class VAEMid(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([PixelAttention(width, groups)])
        self.resnets = nn.ModuleList([Resnet(width, width, groups, EPS), Resnet(width, width, groups, EPS)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class VAELevel(nn.Module):
    """Resnets, then one resampling layer unless it is the last level."""

    def __init__(self, channels: int, out: int, layers: int, groups: int, down: bool, last: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(channels if j == 0 else out, out, groups, EPS) for j in range(layers))
        self.downsamplers = nn.ModuleList([Downsample(out, padding=0)]) if down and not last else None
        self.upsamplers = nn.ModuleList([Upsample(out)]) if not down and not last else None

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        for resample in self.downsamplers or self.upsamplers or ():
            x = resample(x)
        return x


class Encoder(nn.Module):
    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            VAELevel(i, o, config.layers_per_block, groups, down=True, last=o_index == len(widths) - 1)
            for o_index, (i, o) in enumerate(zip((widths[0], *widths[:-1]), widths, strict=True))
        )
        self.mid_block = VAEMid(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = VAEMid(widths[0], groups)
        self.up_blocks = nn.ModuleList(
            VAELevel(i, o, config.layers_per_block + 1, groups, down=False, last=o_index == len(widths) - 1)
            for o_index, (i, o) in enumerate(zip((widths[0], *widths[:-1]), widths, strict=True))
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class VAE(nn.Module):
    """Frames are independent images: video (b c f H W) in [-1, 1] <-> latents (b c f h w), scaled to std about 1."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n c H W) -> mean and log-variance (n c h w) of the posterior, unscaled."""
        mean, logvar = self.quant_conv(self.encoder(images)).chunk(2, dim=1)
        return mean, logvar.clamp(-30.0, 20.0)

    def decode_images(self, z: Tensor) -> Tensor:
        """Unscaled latents (n c h w) -> images (n c H W)."""
        return self.decoder(self.post_quant_conv(z))

    def encode(self, video: Tensor, frames_per_batch: int = 64) -> Tensor:
        """Video (b c f H W) -> scaled posterior mean (b c f h w), `frames_per_batch` frames at a time."""
        self._check("video", video, self.config.in_channels, frames_per_batch)
        b, _, _, height, width = video.shape
        if height % self.config.factor or width % self.config.factor:
            raise ValueError(f"video of {height}x{width}: height and width must be multiples of {self.config.factor}")
        images = rearrange(video, "b c f h w -> (b f) c h w")
        mean = torch.cat([self.moments(part)[0] for part in images.split(frames_per_batch)])
        return self.config.scaling_factor * rearrange(mean, "(b f) c h w -> b c f h w", b=b)

    def decode(self, latents: Tensor, frames_per_batch: int = 64) -> Tensor:
        """Latents (b c f h w) -> video (b c f H W), nominally in [-1, 1], `frames_per_batch` frames at a time."""
        self._check("latents", latents, self.config.latent_channels, frames_per_batch)
        z = rearrange(latents, "b c f h w -> (b f) c h w") / self.config.scaling_factor
        images = torch.cat([self.decode_images(part) for part in z.split(frames_per_batch)])
        return rearrange(images, "(b f) c h w -> b c f h w", b=len(latents))

    @staticmethod
    def _check(name: str, x: Tensor, channels: int, frames_per_batch: int) -> None:
        if x.ndim != 5 or x.shape[1] != channels or 0 in x.shape:
            raise ValueError(f"{name} has shape {tuple(x.shape)}: expected (b, {channels}, f, h, w)")
        if frames_per_batch < 1:
            raise ValueError(f"frames_per_batch={frames_per_batch}: expected at least 1")
