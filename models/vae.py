"""The autoencoder of latent diffusion (kl-f8 and smaller): pixels in [-1, 1] to Gaussian latents and back.

arXiv 2112.10752, section 3.1. State-dict names are diffusers' AutoencoderKL.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ivmix.models.config import check_config, check_entries
from ivmix.models.layers import Attention, Downsample, Resnet, Upsample, normed_silu

EPS = 1e-6

# Entries of a config.json that change what a VAE means, with the one value that is read.
FIXED_ENTRIES = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
BLOCK_TYPES = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}


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

    def __post_init__(self) -> None:
        check_config(self)

    @property
    def factor(self) -> int:
        return 2 ** (len(self.block_out_channels) - 1)

    def to_dict(self) -> dict[str, Any]:
        """The config.json diffusers writes for the same network (AutoencoderKL)."""
        levels = len(self.block_out_channels)
        return {
            "_class_name": "AutoencoderKL",
            **asdict(self),
            **{name: [kind] * levels for name, kind in BLOCK_TYPES.items()},
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "VAEConfig":
        """Reads AutoencoderKL's config.json, of any version of diffusers.

        SD 1.5's own file lacks `scaling_factor`, and old ones `norm_num_groups`: diffusers' defaults then, which are
        theirs. `sample_size` and `force_upcast` are advice to diffusers' pipelines and change nothing here. Raises
        KeyError naming what is missing, ValueError for another architecture.
        """
        check_entries(raw, FIXED_ENTRIES)
        check_entries(raw, {name: [kind] * len(raw["block_out_channels"]) for name, kind in BLOCK_TYPES.items()})
        return cls(
            raw["in_channels"], raw["out_channels"], raw["latent_channels"], tuple(raw["block_out_channels"]),
            raw["layers_per_block"], raw.get("norm_num_groups", cls.norm_num_groups),
            raw.get("scaling_factor", cls.scaling_factor),
        )  # fmt: skip


class PixelAttention(Attention):
    """One head over the pixels of a frame, with its own norm: (n c h w) -> (n c h w)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels, heads=1, qkv_bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)                    # (n (h w) c)
        return x + super().forward(tokens).transpose(1, 2).reshape(x.shape)


def laid_out(x: Tensor) -> Tensor:
    """x (n c h w) as convolutions like it, on a CPU channels last, which they and norms hand on.

    Decoding is then 1.14 to 1.28 times as fast; the UNet, of small images and large weights, .92 to 1.08 times.
    """
    return x.to(memory_format=torch.channels_last) if x.device.type == "cpu" else x


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

    def layers(self) -> Iterator[nn.Module]:
        """One by one, so that what the level was given need not be there to its end."""
        yield from self.resnets
        yield from self.downsamplers or self.upsamplers or ()


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
        for layer in chain.from_iterable(level.layers() for level in self.down_blocks):  # type: ignore[operator]
            x = layer(x)
        return self.conv_out(normed_silu(self.conv_norm_out, self.mid_block(x)))


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
        for layer in chain.from_iterable(level.layers() for level in self.up_blocks):  # type: ignore[operator]
            x = layer(x)
        return self.conv_out(normed_silu(self.conv_norm_out, x))


class VAE(nn.Module):
    """The autoencoder: video (b c f H W) in [-1, 1] <-> latents (b c f h w) of std about 1, each frame by itself."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)

    @property
    def dtype(self) -> torch.dtype:
        return self.post_quant_conv.weight.dtype

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n c H W) -> mean and log-variance (n c h w) of the posterior, unscaled."""
        mean, logvar = self.quant_conv(self.encoder(laid_out(images))).chunk(2, dim=1)
        return mean, logvar.clamp(-30.0, 20.0)

    def decode_images(self, z: Tensor) -> Tensor:
        """Unscaled latents (n c h w) -> images (n c H W)."""
        return self.decoder(self.post_quant_conv(laid_out(z)))

    def encode(
        self, video: Tensor, frames_per_batch: int = 64, tile: int | None = None, overlap: float = 0.25
    ) -> Tensor:
        """Video (b c f H W) -> scaled posterior mean (b c f h w), `frames_per_batch` frames at a time.

        `tile` and `overlap` are as in `decode`, in latents too: a tile is `tile * config.factor` pixels.
        """
        self._check("video", video, self.config.in_channels, frames_per_batch)
        b, _, _, height, width = video.shape
        factor = self.config.factor
        if height % factor or width % factor:
            raise ValueError(f"video of {height}x{width}: height and width must be multiples of {factor}")
        encode = tiled(lambda part: self.moments(part)[0], tile, overlap, factor, 1)
        images = rearrange(video, "b c f h w -> (b f) c h w")
        mean = torch.cat([encode(part) for part in images.split(frames_per_batch)])
        return self.config.scaling_factor * rearrange(mean, "(b f) c h w -> b c f h w", b=b)

    def decode(
        self, latents: Tensor, frames_per_batch: int = 64, tile: int | None = None, overlap: float = 0.25
    ) -> Tensor:
        """Latents (b c f h w) -> video (b c f H W), nominally in [-1, 1], `frames_per_batch` frames at a time.

        With `tile`, every frame is decoded in squares of `tile` x `tile` latents, of which neighbours share at least
        `overlap` (0 to 0.5) of their side and are cross-faded linearly there: the memory of activations is a tile's,
        whatever the frame's size. A tile that covers a frame is the plain decode to the bit. Others approximate it: the
        mid block's attention and the group norms see a tile where they saw the frame, convolutions meet its edges.

        Measured with the embedded pair's VAE on 64x64 latents of 16 clips, against the plain decode in [-1, 1]: tile 48
        rms 0.014 (at most 0.10), tile 32 0.025 (0.20), tile 24 0.033 (0.36); without overlap tile 32 0.041 (0.42), a
        visible seam. The VAE itself is 0.031 rms from the clips. An overlap of 0.5 is no better than 0.25.
        """
        self._check("latents", latents, self.config.latent_channels, frames_per_batch)
        decode = tiled(self.decode_images, tile, overlap, 1, self.config.factor)
        z = rearrange(latents, "b c f h w -> (b f) c h w") / self.config.scaling_factor
        images = torch.cat([decode(part) for part in z.split(frames_per_batch)])
        return rearrange(images, "(b f) c h w -> b c f h w", b=len(latents))

    @staticmethod
    def _check(name: str, x: Tensor, channels: int, frames_per_batch: int) -> None:
        if x.ndim != 5 or x.shape[1] != channels or 0 in x.shape:
            raise ValueError(f"{name} has shape {tuple(x.shape)}: expected (b, {channels}, f, h, w)")
        if frames_per_batch < 1:
            raise ValueError(f"frames_per_batch={frames_per_batch}: expected at least 1")


Images = Callable[[Tensor], Tensor]


def tiled(network: Images, tile: int | None, overlap: float, step_in: int, step_out: int) -> Images:
    """`network` on overlapping squares of (n c h w), blended; itself where `tile` is None or covers the image.

    One latent is `step_in` pixels of what the network reads and `step_out` of what it returns.
    """
    if tile is None:
        return network
    if tile < 1:
        raise ValueError(f"tile={tile}: expected a number of latents, or None")
    if not 0 <= overlap <= 0.5:
        raise ValueError(f"overlap={overlap}: expected a share of the tile, 0 to 0.5")

    def blended(x: Tensor) -> Tensor:
        height, width = (size // step_in for size in x.shape[-2:])
        if max(height, width) <= tile:
            return network(x)
        out = None
        for top, left, share in tiles(height, width, tile, overlap, step_out, x.dtype, x.device):
            bottom, right = top + min(tile, height), left + min(tile, width)
            part = network(x[..., top * step_in : bottom * step_in, left * step_in : right * step_in])
            out = part.new_zeros(*part.shape[:2], height * step_out, width * step_out) if out is None else out
            place = out[..., top * step_out : bottom * step_out, left * step_out : right * step_out]
            place += part * share
        return out  # type: ignore[return-value]

    return blended


@lru_cache(maxsize=4)  # both ways of two autoencoders
def tiles(
    height: int, width: int, tile: int, overlap: float, step: int, dtype: torch.dtype, device: torch.device
) -> list[tuple[int, int, Tensor]]:
    """Tiles of height x width latents: where each begins, top and left, and its share of every pixel it covers, on the
    device. Made once for a size: a bridge between latent spaces asks for them at every evaluation."""
    with torch.inference_mode(False):                                             # which any mode may read
        rows, columns = (shares(size, tile, overlap, step) for size in (height, width))
        return [(top, left, (row[:, None] * column).to(device, dtype)) for top, row in rows for left, column in columns]


def shares(size: int, tile: int, overlap: float, step: int) -> list[tuple[int, Tensor]]:
    """Tiles along one axis of `size` latents, evenly spread: where each begins, and its share of every pixel it covers.

    Shares rise and fall linearly over the overlap and are 1 in sum at every one of the `size * step` pixels.
    """
    tile = min(tile, size)
    shared = round(overlap * tile)
    stride = max(tile - shared, 1)
    count = 1 + -(-(size - tile) // stride)
    begins = [round(k * (size - tile) / max(count - 1, 1)) for k in range(count)]
    position = torch.arange(tile * step, dtype=torch.float64) + 0.5
    hat = torch.minimum(position, tile * step - position).clamp(max=max(shared * step, 0.5))
    total = torch.zeros(size * step, dtype=torch.float64)
    for begin in begins:
        total[begin * step : (begin + tile) * step] += hat
    return [(begin, hat / total[begin * step : (begin + tile) * step]) for begin in begins]
