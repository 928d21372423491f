"""T5's encoder: what its numbers are by the definitions, and what it refuses. Beside the peer: tests/parity."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_t5 import TEXT, write_text
from torch import Tensor, nn

from ivmix.models import T5Config, T5Text, T5Tokenizer, encode_captions, inspect, load_text_encoder
from ivmix.models.text.t5 import buckets

Randomised = Callable[..., T5Text]


@pytest.fixture
def network(randomised: Randomised) -> T5Text:
    return randomised(T5Text(TEXT))


def test_half_of_the_buckets_are_for_each_side_near_ones_one_by_one_far_ones_by_powers() -> None:
    """32 buckets to 128: on a side 8 of one distance each, then 8 that a factor of 2 fills in two."""
    behind = buckets(-torch.arange(200), 32, 128)
    assert behind[:8].tolist() == list(range(8))
    assert [int((behind == k).nonzero()[0]) for k in (8, 10, 12, 14)] == [8, 16, 32, 64]
    assert behind[91:].unique().tolist() == [15]
    assert torch.equal(buckets(torch.arange(1, 200), 32, 128), behind[1:] + 16)


def test_padding_changes_nothing_of_the_text(network: T5Text) -> None:
    tokens = torch.arange(3, 12)[None]
    long = torch.cat([tokens, torch.zeros(1, 5, dtype=torch.int64)], dim=1)
    alone, padded = network(tokens, tokens > 0), network(long, long > 0)
    assert (padded[:, :9] - alone).abs().max() < 1e-13
    long[0, 9:] = 7  # whatever stands there
    assert torch.equal(network(long, torch.arange(14)[None] < 9)[:, :9], padded[:, :9])


def test_without_layers_it_is_the_embedding_with_a_mean_square_of_one(randomised: Randomised) -> None:
    """So no mean is taken off; and the first block alone knows distances."""
    one = randomised(T5Text(T5Config(9, 4, 2, 3, 1, 1)))
    for name, parameter in one.named_parameters():
        if name.endswith((".o.weight", ".wo.weight")):
            nn.init.zeros_(parameter)
    nn.init.ones_(one.encoder.final_layer_norm.weight)
    x = one.shared.weight[None]
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    tokens = torch.arange(9)[None]
    assert (one(tokens, tokens >= 0) - expected).abs().max() < 1e-14
    tables = [key for key in T5Text(TEXT).state_dict() if "relative" in key]
    assert tables == ["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]


def test_float16_is_refused_by_name(network: T5Text) -> None:
    tokens = torch.ones(1, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"T5 overflows float16: load it with dtype=torch\.bfloat16 or torch\.float32"):
        network.half()(tokens, tokens > 0)
    assert network.bfloat16()(tokens, tokens > 0).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("tokens", "mask"),
    [((1, 3), torch.ones(1, 4, dtype=torch.bool)), ((3,), torch.ones(3, dtype=torch.bool)), ((1, 3), torch.ones(1, 3))],
)
def test_a_mask_of_another_shape_or_type_is_refused(tokens: tuple[int, ...], mask: Tensor, network: T5Text) -> None:
    with pytest.raises(ValueError, match=r"expected \(b, n\) both, the mask bool"):
        network(torch.zeros(tokens, dtype=torch.int64), mask)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"feed_forward_proj": "relu"}, "feed_forward_proj is 'relu', only 'gated-gelu'"),
        ({"model_type": "umt5"}, "model_type is 'umt5'"),
        ({"relative_attention_num_buckets": 30}, "expected a multiple of 4"),
        ({"relative_attention_max_distance": 8}, "a distance beyond a quarter"),
        ({"d_kv": 0}, "d_kv is 0"),
    ],
)
def test_another_t5_is_refused(changed: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        T5Config.from_dict(T5Config().to_dict() | changed)


def test_the_oldest_config_files_leave_out_the_farthest_distance_and_t5_1_0_its_gate() -> None:
    raw = T5Config().to_dict()
    del raw["relative_attention_max_distance"]
    assert T5Config.from_dict(raw) == T5Config()
    del raw["feed_forward_proj"]
    with pytest.raises(ValueError, match="feed_forward_proj is 'relu'"):
        T5Config.from_dict(raw)
    with pytest.raises(KeyError, match="vocab_size"):
        T5Config.from_dict({"feed_forward_proj": "gated-gelu"})


def test_a_file_is_known_for_what_it_is_with_and_without_its_config(tmp_path: Path) -> None:
    write_text(tmp_path)
    file = tmp_path / "text_encoder" / "model.safetensors"
    (part,) = inspect(file.parent).parts
    assert (part.name, part.layout, part.config, part.problems) == ("text_encoder", "T5 text", TEXT, ())
    file.with_name("config.json").unlink()
    assert inspect(file).parts == (part,)
    with pytest.raises(ValueError, match=r"missing encoder\.block\.2"):
        load_text_encoder(file, config=replace(TEXT, num_layers=3))


def test_prompts_are_read_one_by_one_and_weighted_without_a_mean_to_keep(tmp_path: Path) -> None:
    write_text(tmp_path)
    encoder, tokenizer = load_text_encoder(tmp_path), T5Tokenizer.from_folder(tmp_path / "tokenizer", 12)
    assert isinstance(encoder, T5Text)
    text = encode_captions(tokenizer, encoder, ["a (red:1.5) circle", "", "A red circle"])
    alone = encode_captions(tokenizer, encoder, ["a red circle"]).states
    assert text.mask is not None
    assert (text.states.shape, text.mask.sum(dim=1).tolist()) == ((3, 12, 32), [4, 1, 4])
    assert torch.equal(text.states[2], alone[0])
    weights = torch.ones(12).index_fill(0, torch.tensor([1]), 1.5)
    assert torch.equal(text.states[0], alone[0] * weights[:, None])
    raw = encode_captions(tokenizer, encoder, ["a (red)"], raw=True)
    assert raw.mask is not None
    assert int(raw.mask.sum()) > 4
    assert not torch.equal(raw.states[0, 1], alone[0, 1])
