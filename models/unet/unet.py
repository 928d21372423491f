"""One UNet for image and video: Stable Diffusion's blocks, with temporal layers where the config has them."""

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ivmix.models.condition import Condition
from ivmix.models.layers import (
    CrossAttentionBlock,
    Resnet,
    SpatialTransformer,
    TimestepEmbedding,
    normed_silu,
    sinusoid,
    to_device,
)
from ivmix.models.predictor import Predictor
from ivmix.models.unet.blocks import DownBlock, MidBlock, PassInputs, UpBlock
from ivmix.models.unet.config import SIZES, UNetConfig
from ivmix.models.unet.temporal import FrameTransformer, MotionConfig, SpaceTimeConfig, TemporalConv


class UNet(Predictor):
    """Noise predictor of latent diffusion: z (b c f h w) at training time t -> the same shape.

    State-dict names are diffusers' (UNet2DConditionModel, UNetMotionModel, UNet3DConditionModel) with linear
    projections; `fps_embedding` is VideoCrafter2's, under the name of its port to diffusers, `add_embedding` SDXL's.
    """

    kind = "UNet"
    repeated = (Resnet, CrossAttentionBlock, FrameTransformer, TemporalConv)
    config: UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        widths, layers, groups = config.block_out_channels, config.layers_per_block, config.norm_num_groups
        levels = len(widths)
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], 4 * widths[0])
        self.fps_embedding: TimestepEmbedding | None = None
        self.add_embedding: TimestepEmbedding | None = None
        self.transformer_in: FrameTransformer | None = None
        if isinstance(config.temporal, SpaceTimeConfig):
            heads, width = 8, config.head_width()
            self.transformer_in = FrameTransformer(widths[0], groups, heads, inner=heads * width)
            if config.temporal.fps:
                self.fps_embedding = TimestepEmbedding(widths[0], 4 * widths[0])
        if config.text_time is not None:
            self.add_embedding = TimestepEmbedding(config.text_time.features, 4 * widths[0])

        inputs = (widths[0], *widths[:-1])
        self.down_blocks = nn.ModuleList(
            DownBlock([(inputs[i], widths[i]), *[(widths[i], widths[i])] * (layers - 1)], config, i)
            for i in range(levels)
        )
        self.mid_block = MidBlock(config)

        # Every down layer and every downsampler leaves a skip; each up layer takes the last one left.
        skips = [widths[0]]
        for i, width in enumerate(widths):
            skips += [width] * (layers + (i < levels - 1))
        self.up_blocks = nn.ModuleList()
        x = widths[-1]
        for i in reversed(range(levels)):
            pairs = []
            for _ in range(layers + 1):
                pairs.append((x + skips.pop(), widths[i]))
                x = widths[i]
            self.up_blocks.append(UpBlock(pairs, config, i))
        self.conv_norm_out = nn.GroupNorm(groups, widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

        index = 0
        for layer in self._text_layers():
            layer.index = index
            index += len(layer.transformer_blocks)

    def _text_layers(self) -> list[SpatialTransformer]:
        return [m for m in self.modules() if isinstance(m, SpatialTransformer)]

    def told(self, rows: int) -> dict[str, Any]:
        rate = {} if self.fps_embedding is None else {"fps": 8}
        if (added := self.config.text_time) is None:
            return rate
        return {**rate, "pooled": self.conv_in.weight.new_zeros(rows, added.pooled_dim), "sizes": (0,) * SIZES}

    def condition(
        self,
        context: Tensor,
        fps: float | None = None,
        pooled: Tensor | None = None,
        sizes: Sequence[float] | None = None,
    ) -> Condition:
        """Text features (b l d) -> the keys and values of every cross-attention layer, computed once per prompt.

        `fps`, frames a second, is for networks with an fps embedding (VideoCrafter2: trained around 8 to 28) and
        needed there. `pooled` text (b p) and `sizes`, six numbers in pixels (height and width before a crop, its top
        and left, height and width after it), are for networks with `TextTimeConfig` (SDXL, arXiv 2307.01952, section
        2.2) and needed there. Conditional and unconditional rows are told the same rate and sizes.
        """
        self.check_context(context)
        if (fps is None) != (self.fps_embedding is None):
            expected = "a number, such as 24" if fps is None else "none, this network is told no frame rate"
            raise ValueError(f"fps={fps}: expected {expected}")
        embedding = None
        if self.fps_embedding is not None and fps is not None:
            features = sinusoid(torch.tensor([fps], device=context.device), self.config.block_out_channels[0])
            embedding = self.fps_embedding(features.to(context.dtype)).repeat(len(context), 1)
        added = self._text_time(len(context), pooled, sizes)
        if self.add_embedding is not None and added is not None:
            embedding = self.add_embedding(added)
        keys_values = (entry for layer in self._text_layers() for entry in layer.keys_values(context))
        return Condition(self, tuple(keys_values), embedding)

    def _text_time(self, rows: int, pooled: Tensor | None, sizes: Sequence[float] | None) -> Tensor | None:
        """What `add_embedding` reads: pooled text, then the sinusoids of the sizes, (b, features)."""
        config = self.config.text_time
        if config is None:
            if pooled is not None or sizes is not None:
                raise ValueError("pooled text and sizes are given: expected none, this network is told neither")
            return None
        shape = None if pooled is None else tuple(pooled.shape)
        if pooled is None or shape != (rows, config.pooled_dim):
            raise ValueError(f"pooled text of shape {shape}: expected {(rows, config.pooled_dim)}")
        if sizes is None or len(sizes) != SIZES:
            raise ValueError(f"sizes={sizes}: expected {SIZES} numbers, such as (1024, 1024, 0, 0, 1024, 1024)")
        features = sinusoid(torch.tensor(sizes, device=pooled.device), config.size_channels).flatten().to(pooled.dtype)
        return torch.cat([pooled, features.expand(rows, -1)], dim=1)

    def embed_time(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """What resnets are told of t, () or (b,), and what the condition adds: (b, 4 c), for z of b rows."""
        features = sinusoid(to_device(t, z.device, torch.float32).expand(len(z)), self.config.block_out_channels[0])
        embedding = self.time_embedding(features.to(z.dtype))
        return embedding if condition.embedding is None else embedding + condition.embedding

    def forward(self, z: Tensor, t: Tensor, condition: Condition, temporal: bool = True) -> Tensor:
        """z (b c f h w), t 0-d or (b,), condition of b rows -> (b c f h w).

        `temporal=False` leaves all that joins frames out: the image model that shares these spatial weights. For
        AnimateDiff that is a model on its own; for ModelScope and VideoCrafter2, trained as a whole, an ablation.
        """
        config = self.config
        self.check_inputs(z, t, condition)
        frames = z.shape[2]
        joint = temporal and isinstance(config.temporal, MotionConfig) and config.temporal.joint_resnet_norm
        together = frames if joint else 1
        inputs = PassInputs(self.embed_time(z, t, condition), condition.keys_values, frames, temporal, together)

        x = self.conv_in(rearrange(z, "b c f h w -> (b f) c h w"))                # frames are rows from here on
        if self.transformer_in is not None and temporal:
            x = self.transformer_in(x, frames)
        skips = [x]
        for down in self.down_blocks:
            x, left = down(x, inputs)
            skips += left
        x = self.mid_block(x, inputs)
        for up in self.up_blocks:
            x = up(x, skips, inputs)
        x = self.conv_out(normed_silu(self.conv_norm_out, x, together))
        return rearrange(x, "(b f) c h w -> b c f h w", f=frames)
