"""The blocks of a UNet: levels on the way down, in the middle and up."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ivmix.models.layers import Downsample, KeysValues, Resnet, SpatialTransformer, Upsample
from ivmix.models.unet.config import UNetConfig
from ivmix.models.unet.temporal import FrameTransformer, MotionConfig, SpaceTimeConfig, TemporalConv


class PassInputs(NamedTuple):
    """What every layer of one forward pass reads, besides what the layer before leaves."""

    embedding: Tensor  # (b, 4 c): the time, and what the condition adds to it
    keys_values: tuple[KeysValues, ...]
    frames: int
    temporal: bool
    normed_together: int  # how many rows a resnet's group norm takes its statistics over


class Block(nn.Module):
    """One level on the way down, in the middle or up: resnets, with what follows each of them.

    The first `attentions` resnets are followed by attention to the pixels and the text, the first `motions` by an
    AnimateDiff motion module where the config has them.
    """

    def __init__(
        self, widths: Sequence[tuple[int, int]], config: UNetConfig, level: int, attentions: int, motions: int
    ) -> None:
        super().__init__()
        groups, embedding, heads = config.norm_num_groups, 4 * config.block_out_channels[0], config.heads[level]
        outputs = [output for _, output in widths]
        self.resnets = nn.ModuleList(Resnet(i, o, groups, 1e-5, embedding) for i, o in widths)
        self.attentions = nn.ModuleList(
            SpatialTransformer(o, heads, config.cross_attention_dim, groups, config.depths[level])
            for o in outputs[:attentions]
        )
        self.motion_modules, self.temp_convs, self.temp_attentions = (nn.ModuleList() for _ in range(3))
        if isinstance(config.temporal, MotionConfig):
            m = config.temporal
            self.motion_modules.extend(
                FrameTransformer(o, groups, m.num_attention_heads, max_frames=m.max_frames, joint_norm=m.joint_norm)
                for o in outputs[:motions]
            )
        if isinstance(config.temporal, SpaceTimeConfig):
            self.temp_convs.extend(TemporalConv(o, groups) for o in outputs)
            self.temp_attentions.extend(FrameTransformer(o, groups, heads) for o in outputs[:attentions])

    def layer(self, j: int, x: Tensor, inputs: PassInputs) -> Tensor:
        x = self.resnets[j](x, inputs.embedding, inputs.normed_together)
        if inputs.temporal and j < len(self.temp_convs):
            x = self.temp_convs[j](x, inputs.frames)
        if j < len(self.attentions):
            x = self.attentions[j](x, inputs.keys_values)
        if inputs.temporal and j < len(self.temp_attentions):
            x = self.temp_attentions[j](x, inputs.frames)
        if inputs.temporal and j < len(self.motion_modules):
            x = self.motion_modules[j](x, inputs.frames)
        return x


class DownBlock(Block):
    def __init__(self, widths: Sequence[tuple[int, int]], config: UNetConfig, level: int) -> None:
        super().__init__(widths, config, level, len(widths) * config.attention_levels[level], len(widths))
        last = level == len(config.block_out_channels) - 1
        self.downsamplers = None if last else nn.ModuleList([Downsample(widths[-1][1])])

    def forward(self, x: Tensor, inputs: PassInputs) -> tuple[Tensor, list[Tensor]]:
        """The output, and the skips: what every layer and the downsampler leave for the way up."""
        skips = []
        for j in range(len(self.resnets)):
            x = self.layer(j, x, inputs)
            skips.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)
            skips.append(x)
        return x, skips


class UpBlock(Block):
    def __init__(self, widths: Sequence[tuple[int, int]], config: UNetConfig, level: int) -> None:
        super().__init__(widths, config, level, len(widths) * config.attention_levels[level], len(widths))
        self.upsamplers = None if level == 0 else nn.ModuleList([Upsample(widths[-1][1])])

    def forward(self, x: Tensor, skips: list[Tensor], inputs: PassInputs) -> Tensor:
        """Takes one skip a layer, the last one first."""
        for j in range(len(self.resnets)):
            x = self.layer(j, torch.cat([x, skips.pop()], dim=1), inputs)
        return x if self.upsamplers is None else self.upsamplers[0](x)


class MidBlock(Block):
    """Two layers on the coarsest level. Attention and AnimateDiff's motion module follow the first alone."""

    def __init__(self, config: UNetConfig) -> None:
        width = config.block_out_channels[-1]
        motion = isinstance(config.temporal, MotionConfig) and config.temporal.mid_block
        super().__init__([(width, width)] * 2, config, level=-1, attentions=1, motions=int(motion))

    def forward(self, x: Tensor, inputs: PassInputs) -> Tensor:
        return self.layer(1, self.layer(0, x, inputs), inputs)
