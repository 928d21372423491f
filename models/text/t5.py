"""T5's encoder, version 1.1: a transformer with relative positions, gated GELU and norms without a mean.

arXiv 1910.10683, and 2002.05202 for the gate. State-dict names are transformers' T5EncoderModel's; the embeddings that
its files may hold twice are here once, as `shared`.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivmix.models.config import check_config, check_entries
from ivmix.models.linear import Linear


@dataclass(frozen=True)
class T5Config:
    """Sizes of the encoder; the defaults are those of T5 v1.1 XXL, which PixArt and Latte read."""

    vocab_size: int = 32128
    d_model: int = 4096
    d_kv: int = 64  # of each head
    d_ff: int = 10240
    num_layers: int = 24
    num_heads: int = 64
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128  # all that is farther is in the last bucket
    layer_norm_epsilon: float = 1e-6

    def __post_init__(self) -> None:
        check_config(self)
        buckets, farthest = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if buckets % 4 or farthest <= buckets // 4:
            raise ValueError(
                f"relative_attention_num_buckets={buckets} up to relative_attention_max_distance={farthest}: expected "
                "a multiple of 4, and a distance beyond a quarter of it"
            )

    @property
    def network(self) -> "type[T5Text]":
        return T5Text

    @property
    def channels(self) -> int:
        """Of what is said of a token."""
        return self.d_model

    @property
    def projection_dim(self) -> None:
        """Of pooled text: there is none."""
        return None

    def runs_in(self, dtype: torch.dtype) -> torch.dtype:
        """The type it is run in where the networks it reads for are run in this one: bfloat16 for float16, which the
        public XXL overflows."""
        return torch.bfloat16 if dtype == torch.float16 else dtype

    def check_clip_skip(self, clip_skip: int) -> None:
        """Raises ValueError for a layer that is not read: the last is, in every public model."""
        if clip_skip != 1:
            raise ValueError(f"clip_skip={clip_skip!r}: expected 1, T5's last layer is read")

    def to_dict(self) -> dict[str, Any]:
        """The config.json transformers writes for the same network."""
        kind = {"feed_forward_proj": "gated-gelu", "is_encoder_decoder": False, "tie_word_embeddings": False}
        return {"architectures": ["T5EncoderModel"], "model_type": "t5", **self.__dict__, **kind}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "T5Config":
        """Reads the config.json of an encoder or a whole T5 v1.1. Raises KeyError naming what is missing, ValueError
        for another architecture, T5 v1.0's plain ReLU among them."""
        check_entries({"feed_forward_proj": "relu"} | raw, {"model_type": "t5", "feed_forward_proj": "gated-gelu"})
        later = {"relative_attention_max_distance": 128}  # which the oldest files do not have
        return cls(**{name: (later | raw)[name] for name in cls.__dataclass_fields__})


def buckets(distances: Tensor, count: int, farthest: int) -> Tensor:
    """Which of `count` buckets a key at these distances from its query is in, int64 like them.

    A half is for keys behind the query, a half for those before it; of each, a half is a bucket a distance, the others
    grow as powers do up to `farthest` (arXiv 1910.10683, section 2.1). In float32, whose rounding decides at 16, 32 and
    64, as where the public models were trained.
    """
    half, exact = count // 2, count // 4
    far = distances.abs()
    grown = (far.clamp(min=1).float() / exact).log() / math.log(farthest / exact) * (half - exact)
    near = torch.where(far < exact, far, (exact + grown.long()).clamp(max=half - 1))
    return near + half * (distances > 0)


class T5Attention(nn.Module):
    """Attention without a scale: the initial weights have it."""

    def __init__(self, config: T5Config, first: bool) -> None:
        super().__init__()
        self.heads = config.num_heads
        inner = config.num_heads * config.d_kv
        self.q, self.k, self.v = (Linear(config.d_model, inner, bias=False) for _ in range(3))
        self.o = Linear(inner, config.d_model, bias=False)
        if first:
            self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, bias, scale=1.0)              # (b heads n d_kv)
        return self.o(y.transpose(1, 2).flatten(-2))


class T5SelfAttention(nn.Module):
    def __init__(self, config: T5Config, first: bool) -> None:
        super().__init__()
        self.SelfAttention = T5Attention(config, first)
        self.layer_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return x + self.SelfAttention(self.layer_norm(x), bias)


class T5Gated(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.wi_0 = Linear(config.d_model, config.d_ff, bias=False, gelu="tanh")
        self.wi_1 = Linear(config.d_model, config.d_ff, bias=False)
        self.wo = Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(self.wi_0(x) * self.wi_1(x))


class T5FeedForward(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.DenseReluDense = T5Gated(config)
        self.layer_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.DenseReluDense(self.layer_norm(x))


class T5Block(nn.Module):
    def __init__(self, config: T5Config, first: bool) -> None:
        super().__init__()
        self.layer = nn.ModuleList([T5SelfAttention(config, first), T5FeedForward(config)])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        attention, feed_forward = self.layer
        return feed_forward(attention(x, bias))


class T5Stack(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.block = nn.ModuleList(T5Block(config, i == 0) for i in range(config.num_layers))
        self.final_layer_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        for block in self.block:
            x = block(x, bias)
        return self.final_layer_norm(x)


class T5Text(nn.Module):
    """Token ids (b, n) int64, and which are no padding (b, n) bool -> text features (b, n, d_model).

    Those of padding are numbers like any other, which no reader should attend to. ValueError in float16, of which
    layers of the public XXL leave the range: bfloat16 or float32.
    """

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = T5Stack(config)

    @property
    def device(self) -> torch.device:
        return self.shared.weight.device

    def bias(self, mask: Tensor) -> Tensor:
        """What every block adds to its scores (b, heads, n, n): of the distance, and none of which is attended to."""
        config, n = self.config, mask.shape[1]
        places = torch.arange(n, device=mask.device)
        near = buckets(
            places[None] - places[:, None], config.relative_attention_num_buckets,
            config.relative_attention_max_distance,
        )  # fmt: skip
        table: nn.Embedding = self.encoder.block[0].layer[0].SelfAttention.relative_attention_bias  # type: ignore
        bias = table(near).permute(2, 0, 1)                                        # (heads n n)
        return bias.masked_fill(~mask[:, None, None], torch.finfo(bias.dtype).min)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        if tokens.ndim != 2 or tokens.shape != mask.shape or mask.dtype != torch.bool:
            raise ValueError(
                f"tokens have shape {tuple(tokens.shape)}, the mask {tuple(mask.shape)} of {mask.dtype}: expected "
                "(b, n) both, the mask bool"
            )
        if self.shared.weight.dtype == torch.float16:
            raise ValueError("T5 overflows float16: load it with dtype=torch.bfloat16 or torch.float32")
        return self.encoder(self.shared(tokens), self.bias(mask))
