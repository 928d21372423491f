"""The spatial vocabulary of Stable Diffusion's UNet: resnets, attention, feed-forward, resampling.

Every module works on frames, `(b f) c h w` or tokens `(b f) (h w) c`; parameter names are diffusers' names, so that a
state dict is the public checkpoint. Architecture: arXiv 2112.10752 (latent diffusion) and 2006.11239 (resnet blocks).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivmix.models.linear import Gated, Linear

KeysValues = tuple[Tensor, Tensor]  # (b, heads, l, d) each

GRID = 65_535  # rows that CUDA's fused attention takes at once: the most blocks a grid has along its last two axes


def to_device(t: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Times of any shape as `dtype` on `device`. A number on the CPU goes along with the launch that fills in its copy:
    copied itself, it would wait for the device, and a float64 cannot go to MPS."""
    return torch.empty((), device=device, dtype=dtype).fill_(t) if t.ndim == 0 else t.to(device, dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, rows: int = GRID, mask: Tensor | None = None) -> Tensor:
    """Attention of (n, heads, l, d) to (n, heads, m, d), `rows` of the n at a time (pytorch issues 142228 and 146704).

    Attention over frames has a row a pixel: 8 guided clips of 512x512 are one too many. Where a `mask` (n, 1, 1, m) is
    False nobody looks; rows are then never so many.
    """
    if mask is not None:
        return F.scaled_dot_product_attention(q, k, v, mask)
    if len(q) <= rows:
        return F.scaled_dot_product_attention(q, k, v)
    if q.is_meta:  # where only sizes are asked for: two parts and their whole take what many do, in no time
        rows = max(rows, len(q) // 2 + 1)
    parts = zip(q.split(rows), k.split(rows), v.split(rows), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*part) for part in parts])


def sinusoid(t: Tensor, channels: int) -> Tensor:
    """Timestep features: `t` (b,) -> (b, channels), cosines first, in float32 whatever the network runs in.

    Frequencies 10000^(-i/(channels/2)); arXiv 2006.11239, in the order Stable Diffusion was trained with. The division
    comes last, as in the peers: their float32 angles are then ours to the bit.
    """
    half = channels // 2
    frequency = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angle = t.to(torch.float32)[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def group_norm(norm: nn.GroupNorm, x: Tensor, frames: int = 1) -> Tensor:
    """`norm` of ((b f) c h w) with statistics over `frames` rows together; 1: each frame on its own."""
    if frames == 1:
        return norm(x)
    return norm(x.unflatten(0, (-1, frames)).transpose(1, 2)).transpose(1, 2).flatten(0, 1)


def normed_silu(norm: nn.GroupNorm, x: Tensor, frames: int = 1) -> Tensor:
    """SiLU of `group_norm`, in its place: one tensor less at the dearest moment, and on a CPU half the time of both."""
    return F.silu(group_norm(norm, x, frames), inplace=True)


class TimestepEmbedding(nn.Module):
    """Two linear layers: (b, channels) features -> (b, dim)."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.linear_1 = Linear(channels, dim)
        self.linear_2 = Linear(dim, dim)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(features)))


class Resnet(nn.Module):
    """GN, SiLU, conv3x3, + embedding, GN, SiLU, conv3x3, + shortcut: (n c h w) -> (n out h w).

    `embedding_dim=None` leaves the embedding out (the VAE's resnets). `frames` rows are normed together.
    """

    def __init__(self, channels: int, out: int, groups: int, eps: float, embedding_dim: int | None = None) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=eps)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time_emb_proj = Linear(embedding_dim, out) if embedding_dim else None
        self.norm2 = nn.GroupNorm(groups, out, eps=eps)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels, out, 1) if channels != out else None

    def forward(self, x: Tensor, embedding: Tensor | None = None, frames: int = 1) -> Tensor:
        y = self.conv1(normed_silu(self.norm1, x, frames))
        if self.time_emb_proj is not None and embedding is not None:
            # One row an example, however many frames it has: project once, then repeat.
            shift = self.time_emb_proj(F.silu(embedding))                         # (b, out)
            y = y + shift.repeat_interleave(len(y) // len(shift), dim=0)[:, :, None, None]
        y = self.conv2(normed_silu(self.norm2, y, frames))
        return y + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    """Multi-head attention over tokens: queries (n, l, c) against keys and values of (n, m, context) or given ones."""

    def __init__(self, channels: int, heads: int, context_dim: int | None = None, qkv_bias: bool = False) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels={channels} is not a multiple of heads={heads}")
        self.heads = heads
        self.to_q = Linear(channels, channels, bias=qkv_bias)
        self.to_k = Linear(context_dim or channels, channels, bias=qkv_bias)
        self.to_v = Linear(context_dim or channels, channels, bias=qkv_bias)
        self.to_out = nn.ModuleList([Linear(channels, channels)])

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)                  # (n, heads, l, d)

    def keys_values(self, context: Tensor) -> KeysValues:
        return self.split(self.to_k(context)), self.split(self.to_v(context))

    def forward(self, x: Tensor, keys_values: KeysValues | None = None, mask: Tensor | None = None) -> Tensor:
        k, v = self.keys_values(x) if keys_values is None else keys_values
        y = attend(self.split(self.to_q(x)), k, v, mask=mask)                     # (n, heads, l, d)
        return self.to_out[0](y.transpose(1, 2).flatten(-2))


class GEGLU(nn.Module):
    """(... channels) -> (... inner): value * gelu(gate), both projections (arXiv 2002.05202)."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = Gated(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class FeedForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(channels, 4 * channels), nn.Identity(), Linear(4 * channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class OverFrames(nn.Module):
    """A layer in which frames speak to each other: the image view of a network leaves it out."""


class CrossAttentionBlock(nn.Module):
    """Self-attention within a frame, cross-attention of all frames to the text, feed-forward; residual, pre-norm.

    `tokens` is ((b f), l, c). The text's keys and values are (b, heads, m, d): queries of all frames of one example
    are laid in one row, b (f l) c, so that nothing is repeated per frame.
    """

    def __init__(self, channels: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, heads, context_dim)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, tokens: Tensor, text: KeysValues) -> Tensor:
        tokens = tokens + self.attn1(self.norm1(tokens))
        rows = self.norm2(tokens).reshape(len(text[0]), -1, tokens.shape[-1])     # (b, (f l), c)
        tokens = tokens + self.attn2(rows, text).reshape(tokens.shape)
        return tokens + self.ff(self.norm3(tokens))


class SpatialTransformer(nn.Module):
    """GN, projection, `CrossAttentionBlock`s on the pixels of each frame, projection, + input: ((b f) c h w)."""

    def __init__(self, channels: int, heads: int, context_dim: int, groups: int, depth: int = 1) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = Linear(channels, channels)
        blocks = (CrossAttentionBlock(channels, heads, context_dim) for _ in range(depth))
        self.transformer_blocks = nn.ModuleList(blocks)
        self.proj_out = Linear(channels, channels)
        self.index = -1  # the entry of a Condition that is its first block's; set by the UNet

    def keys_values(self, context: Tensor) -> list[KeysValues]:
        """What each block's cross-attention reads of text features (b l d): constant over the steps of a run.

        Contiguous, as joined ones are: a compiled network then sees one layout.
        """
        read = [block.attn2.keys_values(context) for block in self.transformer_blocks]  # type: ignore[operator, union-attr]
        return [(keys.contiguous(), values.contiguous()) for keys, values in read]

    def forward(self, x: Tensor, keys_values: tuple[KeysValues, ...]) -> Tensor:
        tokens = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))            # ((b f), (h w), c)
        for entry, block in enumerate(self.transformer_blocks, self.index):
            tokens = block(tokens, keys_values[entry])
        return x + self.proj_out(tokens).transpose(1, 2).reshape(x.shape)


class Downsample(nn.Module):
    """3x3 convolution of stride 2. The VAE pads right and bottom only (`padding=0`), the UNet all round."""

    def __init__(self, channels: int, padding: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.conv.padding[0] else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest x2, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
