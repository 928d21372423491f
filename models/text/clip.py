"""CLIP's text encoder: a causal transformer whose last hidden states condition the UNet (arXiv 2103.00020).

State-dict names are those of transformers' CLIPTextModel as public checkpoints store them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivmix.models.config import check_config, check_entries
from ivmix.models.linear import Linear
from ivmix.models.text.text import Text


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


PROJECTED = "CLIPTextModelWithProjection"  # transformers' class


@dataclass(frozen=True)
class CLIPTextConfig:
    """Sizes of the encoder; the defaults are ViT-L/14's, Stable Diffusion 1.5's text encoder."""

    vocab_size: int = 49408
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    projection_dim: int | None = None  # of pooled text, in an encoder that has its projection

    def __post_init__(self) -> None:
        check_config(self)
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act {self.hidden_act!r}: expected one of {sorted(ACTIVATIONS)}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size={self.hidden_size} is not a multiple of {self.num_attention_heads} heads")

    @property
    def network(self) -> "type[CLIPText]":
        return CLIPText

    @property
    def channels(self) -> int:
        """Of what is said of a token."""
        return self.hidden_size

    def runs_in(self, dtype: torch.dtype) -> torch.dtype:
        """The type it is run in where the networks it reads for are run in this one."""
        return dtype

    def check_clip_skip(self, clip_skip: int) -> None:
        """Raises ValueError for a layer that the encoder does not have."""
        if not isinstance(clip_skip, int) or not 1 <= clip_skip <= self.num_hidden_layers:
            raise ValueError(f"clip_skip={clip_skip!r}: expected 1 (the last layer) to {self.num_hidden_layers}")

    def to_dict(self) -> dict[str, Any]:
        """The config.json transformers writes for the same network."""
        kind = "CLIPTextModel" if self.projection_dim is None else PROJECTED
        sizes = {name: value for name, value in self.__dict__.items() if value is not None}
        return {"architectures": [kind], "model_type": "clip_text_model", **sizes}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "CLIPTextConfig":
        """Reads the config.json of transformers 4 and 5, or a whole CLIP's, ignoring what does not change the function.

        So are its token ids: many public files say begin 0, end 2, padding 1, which no released model used. All say a
        `projection_dim`; those of CLIPTextModelWithProjection alone have one. Raises KeyError naming what is missing,
        ValueError for another architecture.
        """
        projected = PROJECTED in (raw.get("architectures") or ())
        raw = raw.get("text_config", raw) if raw.get("model_type") == "clip" else raw
        check_entries(raw, {"model_type": "clip_text_model", "layer_norm_eps": 1e-5})
        left_out = () if projected else ("projection_dim",)
        return cls(**{name: raw[name] for name in cls.__dataclass_fields__ if name not in left_out})


class CLIPAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj = Linear(width, width), Linear(width, width)
        self.q_proj, self.out_proj = Linear(width, width), Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in projections)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)               # (b heads l d)
        return self.out_proj(y.transpose(1, 2).flatten(-2))


class CLIPMLP(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.act = ACTIVATIONS[config.hidden_act]
        self.fc1 = Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class CLIPLayer(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size)
        self.self_attn = CLIPAttention(config.hidden_size, config.num_attention_heads)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size)
        self.mlp = CLIPMLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class CLIPEmbeddings(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]


class CLIPEncoder(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CLIPLayer(config) for _ in range(config.num_hidden_layers))


class CLIPTransformer(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.embeddings = CLIPEmbeddings(config)
        self.encoder = CLIPEncoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size)

    def forward(self, tokens: Tensor, clip_skip: int = 1) -> Tensor:
        """What a layer leaves, counted from the end."""
        x = self.embeddings(tokens)
        for layer in self.encoder.layers[: len(self.encoder.layers) + 1 - clip_skip]:
            x = layer(x)
        return x

    def finish(self, x: Tensor, clip_skip: int) -> Tensor:
        """What the last layer leaves after that one, normed."""
        for layer in self.encoder.layers[len(self.encoder.layers) + 1 - clip_skip :]:
            x = layer(x)
        return self.final_layer_norm(x)


class CLIPText(nn.Module):
    """Token ids (b, l) int64 -> text features (b, l, hidden_size).

    `clip_skip` is the layer they are of, counted from the end, the final norm applied whatever it is: 1 the last, 2 the
    one before it, as users of web UIs number them; diffusers' `clip_skip` is this minus 1. Public files of OpenCLIP's
    ViT-H/14 hold 23 of its 24 layers, since Stable Diffusion 2 and the video models read the 23rd: it is 1 here.
    `read` has more to say, and a config with a `projection_dim` a projection of pooled text (OpenCLIP's ViT-bigG/14).
    """

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = CLIPTransformer(config)
        self.text_projection: Linear | None = None
        if config.projection_dim is not None:
            self.text_projection = Linear(config.hidden_size, config.projection_dim, bias=False)

    @property
    def device(self) -> torch.device:
        return self.text_model.final_layer_norm.weight.device

    def forward(self, tokens: Tensor, clip_skip: int = 1) -> Tensor:
        return self.read(tokens, clip_skip).states

    def read(self, tokens: Tensor, clip_skip: int = 1, norm: bool = True, ends: Tensor | None = None) -> Text:
        """The states of a layer, `norm` says whether the final norm is applied, as it is not for SDXL (arXiv
        2307.01952, section 2.1); and pooled text of an encoder with a projection: what the last layer leaves at the
        positions `ends` (b,) of the prompts' ends, normed and projected, whatever layer the states are of."""
        if tokens.ndim != 2:
            raise ValueError(f"tokens have shape {tuple(tokens.shape)}: expected (b, l)")
        self.config.check_clip_skip(clip_skip)
        if tokens.shape[1] > self.config.max_position_embeddings:
            raise ValueError(f"{tokens.shape[1]} tokens, at most {self.config.max_position_embeddings} are known")
        x = self.text_model(tokens, clip_skip)
        states = self.text_model.final_layer_norm(x) if norm else x
        if self.text_projection is None or ends is None:
            return Text(states)
        last = self.text_model.finish(x, clip_skip)                               # (b l d)
        return Text(states, self.text_projection(last[torch.arange(len(last), device=last.device), ends]))
