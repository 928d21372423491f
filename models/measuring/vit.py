"""The video transformer of VideoMAE-v2 and of UMT's vision: tubes of pixels as tokens, all of them attending to all.

arXiv 2303.16727, 2303.16058. State-dict names are those of both authors' code, which the public files have.
"""

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivmix.models.config import check_config
from ivmix.models.linear import Linear, product

EPS = 1e-6  # of every norm


@dataclass(frozen=True)
class ViTConfig:
    """Sizes; the defaults are ViT-g/14's. A token is a tube of `tubelet` frames of `patch` x `patch` pixels."""

    width: int = 1408
    depth: int = 40
    heads: int = 16
    inner: int = 6144  # of the two layers after attention
    patch: int = 14
    tubelet: int = 2
    frames: int = 16
    size: int = 224

    def __post_init__(self) -> None:
        check_config(self)
        for whole, part in (("width", "heads"), ("size", "patch"), ("frames", "tubelet")):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(f"{whole}={getattr(self, whole)} is not a multiple of {part}={getattr(self, part)}")

    @property
    def times(self) -> int:
        return self.frames // self.tubelet

    @property
    def tokens(self) -> int:
        return self.times * (self.size // self.patch) ** 2

    def to_dict(self) -> dict[str, Any]:
        return {"_class_name": "VideoMAE", **asdict(self)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "ViTConfig":
        return cls(**{name: raw[name] for name in cls.__dataclass_fields__})


@lru_cache(maxsize=4)
def positions(count: int, width: int) -> Tensor:
    """(count, width) float32: sines in even places, cosines in odd, of frequencies 10000^(-2i/width); arXiv 1706.03762.

    Of numpy's float64, rounded once, whatever the network runs in: so the networks were trained, and no file holds it.
    """
    angle = np.arange(count)[:, None] / np.power(10000, 2 * (np.arange(width) // 2) / width)
    return torch.from_numpy(np.where(np.arange(width) % 2, np.cos(angle), np.sin(angle))).float()


class Attention(nn.Module):
    """Queries and values have a bias; one of the keys would add the same to all that a softmax is of."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.proj = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = product(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1))               # (b n 3 heads d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)                                                      # (b heads n d) each
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class MLP(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = Linear(width, inner, gelu="none"), Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x))


class Block(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.width, EPS), nn.LayerNorm(config.width, EPS)
        self.attn = Attention(config.width, config.heads)
        self.mlp = MLP(config.width, config.inner)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        tube = (config.tubelet, config.patch, config.patch)
        self.proj = nn.Conv3d(3, config.width, tube, tube)

    def forward(self, clips: Tensor) -> Tensor:
        return self.proj(clips).flatten(2).transpose(1, 2)                                        # (b (f h w) c)


class VideoViT(nn.Module):
    """What the networks here have in common: from clips (b 3 f h w) to tokens (b, tokens, width), time by time."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))

    def tokens(self, clips: Tensor) -> Tensor:
        """Before any last norm. ValueError for clips of another shape than the config's: their positions are its."""
        config = self.config
        expected = (3, config.frames, config.size, config.size)
        if clips.shape[1:] != expected:
            raise ValueError(f"clips have shape {tuple(clips.shape)}: expected (b, {', '.join(map(str, expected))})")
        x = self.patch_embed(clips)
        x = x + positions(config.tokens, config.width).to(x)
        for block in self.blocks:
            x = block(x)
        return x


class VideoMAE(VideoViT):
    """VideoMAE-v2: clips (b 3 f h w) in [0, 1] -> features (b, width), the mean of all tokens, normed; no classes."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.fc_norm = nn.LayerNorm(config.width, EPS)

    def forward(self, clips: Tensor) -> Tensor:
        return self.fc_norm(self.tokens(clips).mean(1))


class NormedViT(VideoViT):
    """Tokens with a last norm: (b, tokens, width)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.norm = nn.LayerNorm(config.width, EPS)

    def forward(self, clips: Tensor) -> Tensor:
        return self.norm(self.tokens(clips))


class UMTVision(nn.Module):
    """UMT's vision: clips (b 3 f h w), normed as ImageNet's -> tokens (b, tokens, width), one a time (b, times, width).

    That of a time is the mean of its tokens, normed once more.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.encoder = NormedViT(config)
        self.pool_norm = nn.LayerNorm(config.width, EPS)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.encoder(clips)
        return tokens, self.pool_norm(tokens.unflatten(1, (self.encoder.config.times, -1)).mean(2))
