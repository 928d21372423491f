"""CLIP's text encoder: public keys and sizes, causality, activations, and what is refused."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ivmix.models import CLIPText, CLIPTextConfig
from ivmix.models.meta import build
from ivmix.models.text.clip import ACTIVATIONS

SMALL = CLIPTextConfig(
    vocab_size=30, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=7,
)  # fmt: skip
VIT_H = CLIPTextConfig(
    hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act="gelu"
)
CLOSE = 1e-13  # float64 rounding through two layers of width 8


@pytest.fixture
def encoder(randomised: Callable[..., CLIPText]) -> CLIPText:
    return randomised(CLIPText(SMALL))


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(30, (3, 7), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "config", "total"),
    [
        ("clip_l_text_transformers", CLIPTextConfig(), 123_060_480),
        ("clip_h_text_transformers", VIT_H, 340_387_840),  # the 23 of 24 layers that public pipelines use
    ],
)
def test_the_public_encoders_key_by_key(
    name: str,
    config: CLIPTextConfig,
    total: int,
    manifest: Callable[[str], tuple[dict[str, tuple[int, ...]], int]],
    shapes_of: Callable[..., Any],
) -> None:
    network = build(CLIPText, config)
    public, published = manifest(name)
    public.pop("text_model.embeddings.position_ids", None)  # 0, 1, 2, …: written by transformers before 4.31
    assert shapes_of(network) == public
    assert sum(p.numel() for p in network.parameters()) == published == total


@pytest.mark.parametrize("config", [CLIPTextConfig(), VIT_H, SMALL, replace(SMALL, projection_dim=5)])
def test_config_survives_a_json_file(config: CLIPTextConfig) -> None:
    assert CLIPTextConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


COMMON = {
    "architectures": ["CLIPTextModel"], "attention_dropout": 0.0, "initializer_factor": 1.0, "initializer_range": 0.02,
    "layer_norm_eps": 1e-05, "max_position_embeddings": 77, "model_type": "clip_text_model", "vocab_size": 49408,
}  # fmt: skip
PUBLIC_L = {
    **COMMON, "_name_or_path": "openai/clip-vit-large-patch14", "bos_token_id": 0, "dropout": 0.0, "eos_token_id": 2,
    "hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
    "num_hidden_layers": 12, "pad_token_id": 1, "projection_dim": 768, "torch_dtype": "float32",
    "transformers_version": "4.22.0.dev0",
}  # fmt: skip
PUBLIC_H = {
    **COMMON, "bos_token_id": 49406, "dtype": "float16", "eos_token_id": 49407, "hidden_act": "gelu",
    "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 23,
    "pad_token_id": 1, "projection_dim": 512, "transformers_version": "5.23.0",
}  # fmt: skip
VIT_BIGG = CLIPTextConfig(
    hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, hidden_act="gelu",
    projection_dim=1280,
)  # fmt: skip
PUBLIC_BIGG = {
    **COMMON, "architectures": ["CLIPTextModelWithProjection"], "bos_token_id": 0, "dropout": 0.0, "eos_token_id": 2,
    "hidden_act": "gelu", "hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20,
    "num_hidden_layers": 32, "pad_token_id": 1, "projection_dim": 1280, "torch_dtype": "float16",
    "transformers_version": "4.32.0.dev0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "config"),
    [(PUBLIC_L, CLIPTextConfig()), (PUBLIC_H, VIT_H), (PUBLIC_BIGG, VIT_BIGG)],
    ids=["L", "H", "bigG"],
)
def test_config_files_as_transformers_4_and_5_write_them(raw: dict[str, Any], config: CLIPTextConfig) -> None:
    assert CLIPTextConfig.from_dict(raw) == config


@pytest.mark.parametrize("name", sorted(CLIPTextConfig.__dataclass_fields__.keys() - {"projection_dim"}))
def test_a_config_file_without_a_size_names_it(name: str) -> None:
    with pytest.raises(KeyError, match=name):
        CLIPTextConfig.from_dict({k: v for k, v in PUBLIC_L.items() if k != name})


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden_size=768 is not a multiple of 5 heads"):
        CLIPTextConfig(num_attention_heads=5)


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_clip_skip_leaves_out_the_last_layers_but_not_the_final_norm(
    clip_skip: int, encoder: CLIPText, tokens: Tensor
) -> None:
    shorter = CLIPText(replace(SMALL, num_hidden_layers=3 - clip_skip)).double()
    found = shorter.load_state_dict(encoder.state_dict(), strict=False)
    assert found.missing_keys == []
    ran = list[int]()
    for number, layer in enumerate(encoder.text_model.encoder.layers):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    assert torch.equal(encoder(tokens, clip_skip), shorter(tokens))
    assert ran == list(range(3 - clip_skip))
    assert torch.equal(encoder(tokens), encoder(tokens, 1))


@pytest.mark.parametrize("clip_skip", [0, -1, 3])
def test_layers_that_are_not_there_are_refused(clip_skip: int, encoder: CLIPText, tokens: Tensor) -> None:
    with pytest.raises(ValueError, match=rf"clip_skip={clip_skip}: expected 1 \(the last layer\) to 2"):
        encoder(tokens, clip_skip)


@pytest.mark.parametrize(("name", "value"), [("model_type", "clip"), ("layer_norm_eps", 1e-6)])
def test_an_entry_that_would_silently_change_the_function_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        CLIPTextConfig.from_dict(SMALL.to_dict() | {name: value})


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hidden_act 'relu': expected one of \['gelu', 'quick_gelu'\]"):
        CLIPTextConfig(hidden_act="relu")


def test_the_two_activations_are_the_two_gelus() -> None:
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)
    quick = [s / (1 + math.exp(-1.702 * s)) for s in x.tolist()]
    exact = [0.5 * s * (1 + math.erf(s / math.sqrt(2))) for s in x.tolist()]
    torch.testing.assert_close(ACTIVATIONS["quick_gelu"](x), x.new_tensor(quick), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(ACTIVATIONS["gelu"](x), x.new_tensor(exact), rtol=1e-14, atol=1e-15)


def test_a_token_is_read_by_those_after_it_only(
    encoder: CLIPText, tokens: Tensor, difference: Callable[..., float]
) -> None:
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 30
    before, after = encoder(tokens), encoder(changed)
    assert difference(after[:, :4], before[:, :4]) < CLOSE
    for position in (4, 5, 6):
        assert difference(after[:, position], before[:, position]) > 1e-3


def test_a_shorter_prompt_is_the_beginning_of_a_longer_one(
    encoder: CLIPText, tokens: Tensor, difference: Callable[..., float]
) -> None:
    assert difference(encoder(tokens[:, :3]), encoder(tokens)[:, :3]) < CLOSE


def test_the_same_token_differs_from_place_to_place(encoder: CLIPText, difference: Callable[..., float]) -> None:
    out = encoder(torch.full((1, 7), 5))
    assert difference(out[:, 3], out[:, 4]) > 1e-3


def test_rows_of_a_batch_are_independent(encoder: CLIPText, tokens: Tensor, difference: Callable[..., float]) -> None:
    rows = torch.cat([encoder(row[None]) for row in tokens])
    assert difference(rows, encoder(tokens)) < CLOSE


def test_prompts_longer_than_the_positions_are_refused(encoder: CLIPText) -> None:
    with pytest.raises(ValueError, match="8 tokens, at most 7 are known"):
        encoder(torch.zeros(1, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"tokens have shape \(7,\): expected \(b, l\)"):
        encoder(torch.zeros(7, dtype=torch.int64))


# --- a second encoder's -----------------------------------------------------------------------------------------------


@pytest.fixture
def projected(randomised: Callable[..., CLIPText]) -> CLIPText:
    return randomised(CLIPText(replace(SMALL, projection_dim=5)))


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_pooled_text_is_of_the_last_layer_normed_whatever_layer_the_states_are_of(
    clip_skip: int, projected: CLIPText, tokens: Tensor
) -> None:
    ends = torch.tensor([2, 6, 0])
    text = projected.read(tokens, clip_skip, norm=False, ends=ends)
    norm, last = projected.text_model.final_layer_norm, projected(tokens)
    assert projected.text_projection is not None
    assert text.pooled is not None
    assert torch.equal(text.pooled, projected.text_projection(last[torch.arange(3), ends]))
    assert torch.equal(norm(text.states), projected(tokens, clip_skip))


def test_an_encoder_without_its_projection_has_no_pooled_text(encoder: CLIPText, tokens: Tensor) -> None:
    text = encoder.read(tokens, ends=torch.tensor([2, 6, 0]))
    assert text.pooled is None
    assert torch.equal(text.states, encoder(tokens))
