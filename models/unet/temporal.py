"""Layers that let frames speak to each other: attention over frames (AnimateDiff, ModelScope), and convolution.

Frames are rows, ((b f) c h w), before and after each of them. A fresh layer is the identity, so a fresh video model is
the image model whose spatial layers it has.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ivmix.models.config import check_config
from ivmix.models.layers import Attention, FeedForward, OverFrames
from ivmix.models.linear import Linear

TABLE = ".pos_embed.pe"  # how the key of a position table ends
MotionNorm = Literal["authors", "diffusers"]


@dataclass(frozen=True)
class MotionConfig:
    """An AnimateDiff motion module after every resnet (and attention) of the UNet (arXiv 2307.04725).

    `mid_block` is true for v2 and AnimateLCM (arXiv 2402.00769); `max_frames` is 24 for v1, 32 for v2 and v3, 64 for
    AnimateLCM. The two switches say which group norms take their statistics over all frames together rather than frame
    by frame. diffusers norms jointly in the motion modules alone; so do these defaults. The authors' code norms frame
    by frame everywhere (`joint_norm=False`); their v1 norms jointly in the resnets and before the output
    (`joint_norm=False, joint_resnet_norm=True`), and so does Hotshot-XL; AnimateDiff for SDXL norms as diffusers does.
    Weights and keys are the same; the outputs differ visibly.
    """

    num_attention_heads: int = 8
    max_frames: int = 32
    mid_block: bool = False
    joint_norm: bool = True
    joint_resnet_norm: bool = False

    def __post_init__(self) -> None:
        check_config(self)


def normed(config: MotionConfig, norm: MotionNorm, xl: bool = False) -> MotionConfig:
    """The modules with the group norms of the authors' code, which are those they were trained with, or of diffusers.

    Of v1 and of Hotshot-XL the authors' are joint in the resnets: they are told by their 24 frames and no module in the
    middle. Of AnimateDiff's others in an SDXL (`xl`) the authors' are diffusers'.
    """
    if norm not in get_args(MotionNorm):
        raise ValueError(f"motion_norm={norm!r}: expected {' or '.join(get_args(MotionNorm))}")
    first = config.max_frames == 24 and not config.mid_block
    theirs = norm == "authors" and (first or not xl)
    return replace(config, joint_norm=not theirs, joint_resnet_norm=theirs and first)


@dataclass(frozen=True)
class SpaceTimeConfig:
    """ModelScope's temporal layers (arXiv 2308.06571): a convolution over frames after every resnet, attention over
    frames after every spatial attention, and one more right after the first convolution.

    `fps=True` adds VideoCrafter2's embedding of the frame rate (arXiv 2401.09047). Any number of frames will do.
    """

    fps: bool = False

    def __post_init__(self) -> None:
        check_config(self)


def frame_positions(length: int, channels: int) -> Tensor:
    """(1, length, channels): sin and cos of p * 10000^(-2i/channels), interleaved (arXiv 1706.03762, section 3.5)."""
    position = torch.arange(length, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, channels, 2, dtype=torch.float32) * (-math.log(10000.0) / channels))
    angle = position * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[None]


def tables_left_out(keys: Collection[str], wanted: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The position tables among the shapes `wanted` if `keys`, what is stored, have none: constants, to be computed."""
    stored = any(key.endswith(TABLE) for key in keys)
    return {} if stored else {key: shape for key, shape in wanted.items() if key.endswith(TABLE)}


class FramePositions(nn.Module):
    """The table is a stored tensor, as in the public files: its length tells how many frames a module knows."""

    pe: Tensor

    def __init__(self, length: int, channels: int) -> None:
        super().__init__()
        pe = torch.empty(1, length, channels)
        self.register_buffer("pe", pe if pe.is_meta else pe.copy_(frame_positions(length, channels)))

    def forward(self, tokens: Tensor) -> Tensor:
        frames, known = tokens.shape[1], self.pe.shape[1]
        if frames > known:
            raise ValueError(f"{frames} frames, but this motion module knows positions for {known}: use fewer frames")
        return tokens + self.pe[:, :frames]


class FrameBlock(nn.Module):
    """Two self-attentions over frames and a feed-forward, residual, pre-norm: (n f c) -> (n f c).

    With `max_frames`, positions are added to what both attentions read; without, frames are a set.
    """

    def __init__(self, channels: int, heads: int, max_frames: int | None = None) -> None:
        super().__init__()
        self.pos_embed = None if max_frames is None else FramePositions(max_frames, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, heads)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def placed(self, tokens: Tensor) -> Tensor:
        return tokens if self.pos_embed is None else self.pos_embed(tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn1(self.placed(self.norm1(tokens)))
        tokens = tokens + self.attn2(self.placed(self.norm2(tokens)))
        return tokens + self.ff(self.norm3(tokens))


class FrameTransformer(OverFrames):
    """GN, projection, one `FrameBlock`, projection, + input: one sequence per pixel, its frames are the tokens.

    AnimateDiff's motion module (with positions) and ModelScope's temporal transformer (without; `inner` is the width
    between the projections, default `channels`).
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        heads: int,
        inner: int | None = None,
        max_frames: int | None = None,
        joint_norm: bool = True,
    ) -> None:
        super().__init__()
        inner = inner or channels
        self.joint_norm = joint_norm
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = Linear(channels, inner)
        self.transformer_blocks = nn.ModuleList([FrameBlock(inner, heads, max_frames)])
        self.proj_out = Linear(inner, channels)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        h, w = x.shape[-2:]
        if self.joint_norm:  # statistics over all frames; what the norm leaves is copied once, into tokens
            y = self.norm(rearrange(x, "(b f) c h w -> b c f h w", f=frames))
            tokens = rearrange(y, "b c f h w -> (b h w) f c")
        else:
            tokens = rearrange(self.norm(x), "(b f) c h w -> (b h w) f c", f=frames)
        tokens = self.proj_out(self.transformer_blocks[0](self.proj_in(tokens)))
        return x + rearrange(tokens, "(b h w) f c -> (b f) c h w", h=h, w=w)


class FrameConv(nn.Conv3d):
    """A convolution over three neighbouring frames, pixel by pixel: b c f h w, zeros beyond the ends."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        # The stored weight is of a convolution over f h w; over f and (h w) it is the same sum, by faster kernels.
        y = F.conv2d(x.flatten(3), self.weight[..., 0], self.bias, padding=(1, 0))
        return y.unflatten(3, x.shape[3:])


class TemporalConv(OverFrames):
    """Four times GN (over all frames together), SiLU, convolution over frames; + input: ((b f) c h w)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()

        def stage(*dropout: nn.Module) -> nn.Sequential:
            return nn.Sequential(nn.GroupNorm(groups, channels), nn.SiLU(inplace=True), *dropout, FrameConv(channels))

        # The public files number a dropout in all but the first; this network has none, so an Identity keeps its place.
        self.conv1, self.conv2, self.conv3, self.conv4 = stage(), *(stage(nn.Identity()) for _ in range(3))
        for parameter in self.conv4[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        y = rearrange(x, "(b f) c h w -> b c f h w", f=frames)
        y = self.conv4(self.conv3(self.conv2(self.conv1(y))))
        return x + rearrange(y, "b c f h w -> (b f) c h w")
