"""transformers' networks that stand in for UMT's, with the weights of ours."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ivmix.models import ViTConfig
from ivmix.models.measuring.bert import BertConfig

State = dict[str, Tensor]

VISION = {  # ours in transformers' words, whose attention has its three projections apart
    r"^patch_embed\.proj": "embeddings.patch_embeddings.projection", r"^norm\.": "layernorm.",
    r"^blocks\.": "encoder.layer.", r"\.norm1\.": ".layernorm_before.", r"\.norm2\.": ".layernorm_after.",
    r"\.attn\.proj\.": ".attention.output.dense.", r"\.mlp\.fc1\.": ".intermediate.dense.",
    r"\.mlp\.fc2\.": ".output.dense.", r"\.attn\.q_bias": ".attention.attention.query.bias",
    r"\.attn\.v_bias": ".attention.attention.value.bias",
}  # fmt: skip


def in_their_words(state: State) -> State:
    theirs: State = {}
    for key, value in state.items():
        for ours, peer in VISION.items():
            key = re.sub(ours, peer, key)
        if key.endswith(".attn.qkv.weight"):
            for name, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                theirs[key.replace(".attn.qkv.", f".attention.attention.{name}.")] = part
        else:
            theirs[key] = value
    return theirs


def vision(config: ViTConfig, state: State) -> Any:
    """VideoMAE of a state with a last norm, or without: then that after the mean is not theirs."""
    import transformers

    state = {key: value for key, value in state.items() if not key.startswith("fc_norm")}
    model = transformers.VideoMAEModel(transformers.VideoMAEConfig(
        image_size=config.size, patch_size=config.patch, num_frames=config.frames, tubelet_size=config.tubelet,
        hidden_size=config.width, num_hidden_layers=config.depth, num_attention_heads=config.heads,
        intermediate_size=config.inner, layer_norm_eps=1e-6, use_mean_pooling="norm.weight" not in state,
    ))  # fmt: skip
    return filled(model, in_their_words(state))


def text(config: BertConfig, state: State) -> Any:
    """BERT of the layers before `fusion_layer`."""
    ours = {key: value for key, value in state.items() if _layer(key) < config.fusion_layer}
    return filled(_bert(config, config.fusion_layer, False), ours)


def fusion(config: BertConfig, state: State) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """What the other layers make of states (b, l, c), their mask (b, l), and a clip's tokens (b, m, c)."""
    first = config.fusion_layer
    ours = {
        re.sub(r"layer\.\d+", f"layer.{_layer(key) - first}", key): value
        for key, value in state.items() if _layer(key) >= first or _layer(key) < 0
    }  # fmt: skip
    model = filled(_bert(config, config.num_hidden_layers - first, True), ours)

    def fuse(states: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
        hidden = torch.zeros(len(mask), 1, 1, mask.shape[1], dtype=states.dtype)
        hidden.masked_fill_(~mask[:, None, None], torch.finfo(states.dtype).min)
        return model.encoder(states, attention_mask=hidden, encoder_hidden_states=tokens).last_hidden_state

    return fuse


def filled(model: Any, state: State) -> Any:
    dtype = next(iter(state.values())).dtype
    model = model.to(dtype).eval().requires_grad_(False)
    model.load_state_dict(state)
    return model


def _layer(key: str) -> int:
    """The number of a key's layer, -1 for the embeddings, which the peer has in both halves."""
    found = re.match(r"encoder\.layer\.(\d+)\.", key)
    return int(found[1]) if found else -1


def _bert(config: BertConfig, layers: int, crossed: bool) -> Any:
    import transformers

    return transformers.BertModel(transformers.BertConfig(
        vocab_size=config.vocab_size, hidden_size=config.hidden_size, num_hidden_layers=layers,
        num_attention_heads=config.num_attention_heads, intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_position_embeddings, is_decoder=crossed, add_cross_attention=crossed,
    ), add_pooling_layer=False)  # fmt: skip
