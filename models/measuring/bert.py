"""BERT in two halves, as UMT has it: layers that read a text, then layers that read it again beside a clip.

arXiv 1810.04805 and, for the second half, 2107.07651. State-dict names are transformers' BertModel's, without a pooler.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ivmix.models.config import check_config
from ivmix.models.linear import Linear

EPS = 1e-12  # of every norm


@dataclass(frozen=True)
class BertConfig:
    """Sizes; the defaults are BERT-large's. Layers from `fusion_layer` on attend to `encoder_width` channels too."""

    vocab_size: int = 30522
    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    max_position_embeddings: int = 512
    fusion_layer: int = 19
    encoder_width: int = 1024

    def __post_init__(self) -> None:
        check_config(self)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size={self.hidden_size} is not a multiple of {self.num_attention_heads} heads")
        if self.fusion_layer >= self.num_hidden_layers:
            raise ValueError(f"fusion_layer={self.fusion_layer}: expected one of {self.num_hidden_layers} layers")


class Heads(nn.Module):
    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = Linear(width, width), Linear(context, width), Linear(context, width)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        pairs = ((self.query, x), (self.key, context), (self.value, context))
        q, k, v = (layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer, y in pairs)    # (b heads l d)
        return F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(-2)


class Output(nn.Module):
    """A linear layer, then what it is added to, normed."""

    def __init__(self, inner: int, width: int) -> None:
        super().__init__()
        self.dense, self.LayerNorm = Linear(inner, width), nn.LayerNorm(width, EPS)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + residual)


class Attention(nn.Module):
    def __init__(self, config: BertConfig, context: int) -> None:
        super().__init__()
        self.self = Heads(config.hidden_size, context, config.num_attention_heads)
        self.output = Output(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        return self.output(self.self(x, context, mask), x)


class Intermediate(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.intermediate_size, gelu="none")

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x)


class Layer(nn.Module):
    def __init__(self, config: BertConfig, fusion: bool) -> None:
        super().__init__()
        self.attention = Attention(config, config.hidden_size)
        self.crossattention = Attention(config, config.encoder_width) if fusion else None
        self.intermediate = Intermediate(config)
        self.output = Output(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        x = self.attention(x, x, mask)
        if self.crossattention is not None and context is not None:
            x = self.crossattention(x, context, None)
        return self.output(self.intermediate(x), x)


class Embeddings(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(2, config.hidden_size)  # one text: its first row
        self.LayerNorm = nn.LayerNorm(config.hidden_size, EPS)

    def forward(self, ids: Tensor) -> Tensor:
        places = self.position_embeddings.weight[: ids.shape[1]] + self.token_type_embeddings.weight[0]
        return self.LayerNorm(self.word_embeddings(ids) + places)


class Encoder(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config, i >= config.fusion_layer) for i in range(config.num_hidden_layers))


class Bert(nn.Module):
    """Token ids (b, l) int64, and which are no padding (b, l) bool; their states (b, l, hidden_size)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)

    def text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The layers before `fusion_layer`. ValueError for more tokens than positions are known for."""
        if ids.ndim != 2 or ids.shape != mask.shape or ids.shape[1] > self.config.max_position_embeddings:
            most = self.config.max_position_embeddings
            raise ValueError(f"ids {tuple(ids.shape)} and mask {tuple(mask.shape)}: expected (b, l), l at most {most}")
        x = self.embeddings(ids)
        for layer in self.encoder.layer[: self.config.fusion_layer]:
            x = layer(x, mask[:, None, None])
        return x

    def fuse(self, states: Tensor, mask: Tensor, context: Tensor) -> Tensor:
        """The others: `states` of `text` beside `context` (b, m, encoder_width), all of which is attended to."""
        for layer in self.encoder.layer[self.config.fusion_layer :]:
            states = layer(states, mask[:, None, None], context)
        return states

