"""SDXL's additions to the UNet: transformers of several blocks, pooled text and sizes in the time embedding."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ivmix.models import Condition, UNet, UNetConfig
from ivmix.models.cost import forward_cost
from ivmix.models.layers import sinusoid
from ivmix.models.unet.config import TextTimeConfig
from ivmix.models.unet.perturbed import perturbed

CONFIG = UNetConfig(
    block_out_channels=(8, 16), attention_levels=(False, True), layers_per_block=1, cross_attention_dim=12,
    num_attention_heads=2, norm_num_groups=4, transformer_depth=(1, 3), text_time=TextTimeConfig(5, 4),
)  # fmt: skip
SIZES = (64, 48, 2, 0, 32, 24)
Make = Callable[..., Tensor]


@pytest.fixture
def unet(randomised: Callable[..., UNet]) -> UNet:
    return randomised(UNet(CONFIG))


def test_a_condition_has_an_entry_a_block_and_each_block_reads_its_own(unet: UNet, normal: Make) -> None:
    context, pooled = normal(1, 7, 12), normal(1, 5, seed=1)
    condition = unet.condition(context, pooled=pooled, sizes=SIZES)
    blocks = [m for name, m in unet.named_modules() if name.endswith("attn2")]
    assert len(condition.keys_values) == len(blocks) == 3 * (1 + 1 + 2)  # down, middle, up
    for (keys, _), attention in zip(condition.keys_values, blocks, strict=True):
        assert torch.equal(keys, attention.keys_values(context)[0])  # type: ignore[operator]
    z, t = normal(1, 4, 2, 4, 4, seed=2), torch.tensor(500)
    out = unet(z, t, condition)
    for k in range(len(blocks)):  # none is left out, none read twice
        entries = list(condition.keys_values)
        entries[k] = (entries[k][0], 2 * entries[k][1])
        assert not torch.equal(unet(z, t, replace(condition, keys_values=tuple(entries))), out)


def test_pooled_text_and_sizes_are_added_to_the_time(unet: UNet, normal: Make) -> None:
    pooled = normal(2, 5)
    condition = unet.condition(normal(2, 7, 12), pooled=pooled, sizes=SIZES)
    features = torch.cat([sinusoid(torch.tensor([size]), 4)[0] for size in SIZES]).double()
    assert unet.add_embedding is not None
    expected = unet.add_embedding(torch.cat([pooled, features.expand(2, -1)], dim=1))
    assert condition.embedding is not None
    assert torch.equal(condition.embedding, expected)
    z, t = normal(2, 4, 1, 4, 4), torch.tensor(3)
    plain = unet.embed_time(z, t, replace(condition, embedding=None))
    assert torch.equal(unet.embed_time(z, t, condition), plain + expected)


def test_rows_of_joined_conditions_keep_their_own(unet: UNet, normal: Make) -> None:
    z, t = normal(2, 4, 1, 4, 4), torch.tensor(400)
    apart = [unet.condition(normal(1, 7, 12, seed=k), pooled=normal(1, 5, seed=k), sizes=SIZES) for k in (1, 2)]
    together = unet(z, t, Condition.cat(apart))
    alone = torch.cat([unet(z[k : k + 1], t, condition) for k, condition in enumerate(apart)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"pooled text of shape None: expected \(1, 5\)"),
        ({"pooled": (1, 4), "sizes": SIZES}, r"pooled text of shape \(1, 4\): expected \(1, 5\)"),
        ({"pooled": (2, 5), "sizes": SIZES}, r"pooled text of shape \(2, 5\): expected \(1, 5\)"),
        ({"pooled": (1, 5)}, "sizes=None: expected 6 numbers"),
        ({"pooled": (1, 5), "sizes": (64, 64)}, r"sizes=\(64, 64\): expected 6 numbers"),
    ],
)
def test_what_a_network_is_not_told_or_told_wrongly_is_named(
    unet: UNet, given: dict[str, Any], message: str, normal: Make
) -> None:
    told = {name: normal(*value) if name == "pooled" else value for name, value in given.items()}
    with pytest.raises(ValueError, match=message):
        unet.condition(normal(1, 7, 12), **told)


def test_a_network_without_them_is_told_neither(normal: Make) -> None:
    plain = UNet(replace(CONFIG, text_time=None)).double()
    for told in ({"pooled": normal(1, 5)}, {"sizes": SIZES}):
        with pytest.raises(ValueError, match="expected none, this network is told neither"):
            plain.condition(normal(1, 7, 12), **told)  # type: ignore[arg-type]


def test_one_block_of_several_can_be_left_out(unet: UNet, normal: Make) -> None:
    condition = unet.condition(normal(1, 7, 12), pooled=normal(1, 5), sizes=SIZES)
    z, t = normal(1, 4, 1, 4, 4), torch.tensor(400)
    without = [perturbed(unet, skip=[f"mid_block.attentions.0.transformer_blocks.{k}"]) for k in range(3)]
    outputs = [view(z, t, replace(condition, network=view)) for view in (*without, unet)]
    assert len({float(out.sum()) for out in outputs}) == 4


@pytest.mark.slow
def test_deeper_transformers_cost_more_and_what_is_told_once_does_not() -> None:
    deep, flat = (forward_cost(c, 2, 8, 8, tokens=7) for c in (CONFIG, replace(CONFIG, transformer_depth=1)))
    assert deep.flops["spatial layers"] > 2 * flat.flops["spatial layers"]
    told = forward_cost(replace(CONFIG, text_time=None), 2, 8, 8, tokens=7)
    assert deep.flops["spatial layers"] == told.flops["spatial layers"]
    assert deep.parameters - told.parameters == (29 + 1) * 32 + (32 + 1) * 32  # the two layers that read them


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"addition_embed_type": "text"}, "addition_embed_type is 'text', only 'text_time' is supported"),
        ({"projection_class_embeddings_input_dim": 20}, "pooled_dim is -4"),
        ({"transformer_layers_per_block": [1, [1, 2]]}, "transformer_depth is"),
        ({"transformer_layers_per_block": [1, 2, 3]}, "transformer_depth has 3 entries, block_out_channels 2"),
        ({"reverse_transformer_layers_per_block": [1, 2]}, "reverse_transformer_layers_per_block"),
    ],
)
def test_a_config_of_another_network_is_refused(entries: dict[str, Any], message: str) -> None:
    assert UNetConfig.from_dict(CONFIG.to_dict()) == CONFIG
    with pytest.raises(ValueError, match=message):
        UNetConfig.from_dict(CONFIG.to_dict() | entries)
