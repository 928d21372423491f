"""One diffusion transformer for image and video: PixArt-alpha's blocks, with Latte's over frames where the config has
them."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ivmix.models.condition import Condition
from ivmix.models.dit.blocks import FrameBlock, PatchBlock, ToPatches, modulated, table
from ivmix.models.dit.config import DiTConfig
from ivmix.models.dit.positions import Positions
from ivmix.models.layers import TimestepEmbedding, sinusoid, to_device
from ivmix.models.linear import Linear
from ivmix.models.predictor import Predictor

TIME_FEATURES = 256


class PatchEmbedding(nn.Module):
    """A linear map of patches, as a convolution: (n c h w) -> (n, width, h/p, w/p)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.in_channels, config.width, config.patch_size, stride=config.patch_size)

    def forward(self, z: Tensor) -> Tensor:
        return self.proj(z)


class TimeModulation(nn.Module):
    """Training times (b,) -> what is told of them to the last layer (b, c), and to all blocks (b, 6, c)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.emb = nn.ModuleDict({"timestep_embedder": TimestepEmbedding(TIME_FEATURES, width)})
        self.linear = Linear(width, 6 * width)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.emb["timestep_embedder"](features)
        return embedding, self.linear(F.silu(embedding)).unflatten(-1, (6, -1))


class CaptionProjection(nn.Module):
    """Text features (b m d) -> (b m c)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear_1 = Linear(channels, width, gelu="tanh")
        self.linear_2 = Linear(width, width)

    def forward(self, context: Tensor) -> Tensor:
        return self.linear_2(self.linear_1(context))


class DiT(Predictor):
    """Noise predictor of latent diffusion: z (b c f h w) at training time t -> the same shape.

    State-dict names are diffusers' (PixArtTransformer2DModel, LatteTransformer3DModel). What the network says of the
    variance is left out.
    """

    kind = "transformer"
    repeated = (PatchBlock, FrameBlock)
    config: DiTConfig

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        width = config.width
        self.pos_embed = PatchEmbedding(config)
        self.adaln_single = TimeModulation(width)
        self.caption_projection = CaptionProjection(config.caption_channels, width)
        self.transformer_blocks = nn.ModuleList(PatchBlock(config) for _ in range(config.num_layers))
        over_frames = config.num_layers if config.temporal else 0
        self.temporal_transformer_blocks = nn.ModuleList(FrameBlock(config) for _ in range(over_frames))
        self.scale_shift_table = table(2, width)
        self.proj_out = ToPatches(width, config.patch_size**2 * config.out_channels)
        self.positions = Positions(width, config.base_size, config.interpolation_scale)

    @property
    def reads_padding(self) -> bool:
        """Latte's, as its authors sample it (Vchitect/Latte, sample/sample_t2x.py), and diffusers of one clip.

        PixArt, whose blocks it has, was trained so: what stands for a caption that is left out is as long as it was
        (PixArt-alpha, nets/PixArt.py). But PixArt's pipeline in diffusers reads a negative prompt alone.
        """
        return self.config.temporal is not None

    def condition(self, context: Tensor, fps: float | None = None, mask: Tensor | None = None) -> Condition:
        """Text features (b l d) -> the keys and values of every cross-attention, computed once per prompt.

        `mask` (b, l) bool is True where there is text, None: everywhere; nothing else is looked at. No frame rate is
        told: ValueError for an `fps`, and for a row without text.
        """
        self.check_context(context)
        if fps is not None:
            raise ValueError(f"fps={fps}: expected none, this network is told no frame rate")
        if mask is not None:
            if mask.shape != context.shape[:2] or mask.dtype != torch.bool:
                expected = f"expected {tuple(context.shape[:2])}, of bool"
                raise ValueError(f"mask has shape {tuple(mask.shape)}, of {mask.dtype}: {expected}")
            if not mask.is_meta and not bool(mask.any(dim=1).all()):
                raise ValueError("mask: a row is False everywhere, expected text in each")
            mask = mask.to(context.device)[:, None, None]
        caption = self.caption_projection(context)
        keys_values = tuple(block.keys_values(caption) for block in self.transformer_blocks)  # type: ignore[operator]
        return Condition(self, keys_values, mask=mask)

    def forward(self, z: Tensor, t: Tensor, condition: Condition, temporal: bool = True) -> Tensor:
        """z (b c f h w), t 0-d or (b,), condition of b rows -> (b c f h w).

        `temporal=False` leaves the blocks over frames out: the image model that shares these spatial weights. Latte's
        own pipeline draws an image as a clip of one frame, through those blocks: this is an ablation.
        """
        self.check_inputs(z, t, condition)
        config, frames = self.config, z.shape[2]
        known = config.temporal
        if temporal and known and frames > known:
            raise ValueError(f"{frames} frames, but this transformer knows positions for {known}: use fewer frames")
        features = sinusoid(to_device(t, z.device, torch.float32).reshape(-1), TIME_FEATURES)
        time, modulation = self.adaln_single(features.to(z.dtype))                # (b or 1, c), (b or 1, 6, c)

        x = self.pos_embed(rearrange(z, "b c f h w -> (b f) c h w"))
        h, w = x.shape[-2:]
        x = rearrange(x, "(b f) c h w -> b f h w c", f=frames)
        x = (x + self.positions.of_patches(h, w, x)).flatten(2, 3)                # (b, f, (h w), c)
        over_frames = self.temporal_transformer_blocks if temporal else ()
        for i, block in enumerate(self.transformer_blocks):
            x = block(x, modulation, condition.keys_values[i], condition.mask)
            if i == 0 and over_frames and frames > 1:                             # an image has no place in time
                x = x + self.positions.of_frames(frames, x)[:, None]
            if over_frames:
                x = over_frames[i](x, modulation)
        shift, scale = (self.scale_shift_table + time[:, None])[:, :, None, None].unbind(1)
        x = self.proj_out(modulated(x, shift, scale))
        p, c = config.patch_size, config.in_channels
        return rearrange(x, "b f (h w) (p q c) -> b c f (h p) (w q)", h=h, p=p, q=p)[:, :c].contiguous()
