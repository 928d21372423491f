"""Layers that let frames speak to each other: AnimateDiff's motion module (arXiv 2307.04725)."""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from ivmix.models.layers import Attention, FeedForward


@dataclass(frozen=True)
class MotionConfig:
    """An AnimateDiff motion module after every resnet (and attention) of the UNet.

    `mid_block` is true for v2; `max_frames` is 24 for v1, 32 for v2 and v3. `joint_norm` takes the module's group norm
    over all frames together, as diffusers does; the authors' code takes it frame by frame, and the two differ visibly.
    """

    num_attention_heads: int = 8
    max_frames: int = 32
    mid_block: bool = False
    joint_norm: bool = True


def frame_positions(length: int, channels: int) -> Tensor:
    """(1, length, channels): sin and cos of p * 10000^(-2i/channels), interleaved (arXiv 1706.03762, section 3.5)."""
    position = torch.arange(length, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, channels, 2, dtype=torch.float32) * (-math.log(10000.0) / channels))
    angle = position * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[None]


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


class MotionBlock(nn.Module):
    """Two self-attentions over frames, positions added before each, and a feed-forward: (n f c) -> (n f c)."""

    def __init__(self, channels: int, config: MotionConfig) -> None:
        super().__init__()
        self.pos_embed = FramePositions(config.max_frames, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, config.num_attention_heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, config.num_attention_heads)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn1(self.pos_embed(self.norm1(tokens)))
        tokens = tokens + self.attn2(self.pos_embed(self.norm2(tokens)))
        return tokens + self.ff(self.norm3(tokens))


class MotionModule(nn.Module):
    """One sequence per pixel, frames as tokens: ((b f) c h w) -> ((b f) c h w). It starts as the identity."""

    def __init__(self, channels: int, groups: int, config: MotionConfig) -> None:
        super().__init__()
        self.joint_norm = config.joint_norm
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([MotionBlock(channels, config)])
        self.proj_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        h, w = x.shape[-2:]
        if self.joint_norm:
            y = self.norm(rearrange(x, "(b f) c h w -> b c f h w", f=frames))
            tokens = rearrange(y, "b c f h w -> (b h w) f c")
        else:
            tokens = rearrange(self.norm(x), "(b f) c h w -> (b h w) f c", f=frames)
        tokens = self.proj_out(self.transformer_blocks[0](self.proj_in(tokens)))
        return x + rearrange(tokens, "(b h w) f c -> (b f) c h w", h=h, w=w)
