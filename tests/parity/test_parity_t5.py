"""Our T5 encoder against transformers': small random networks, through files."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ivmix.models import T5Config, T5Text, load_text_encoder, save_folder
from ivmix.models.text.t5 import buckets

pytestmark = pytest.mark.slow

Agree = Callable[[Tensor, Tensor], None]

CONFIGS = [
    T5Config(50, 32, 8, 48, 3, 4),  # as XXL: heads that fill the width
    T5Config(50, 24, 6, 40, 2, 5, 16, 40),  # heads wider than it, other distances
]


@pytest.fixture(params=CONFIGS, ids=["as XXL", "other sizes"])
def config(request: pytest.FixtureRequest) -> T5Config:
    return request.param


@pytest.fixture
def tokens() -> tuple[Tensor, Tensor]:
    """As long as a prompt is read, and beyond the farthest distance: a full row, one of a few words, one of none."""
    ids = torch.randint(50, (3, 140), generator=torch.Generator().manual_seed(0))
    return ids, torch.arange(140) < torch.tensor([[140], [7], [1]])


def exact(theirs: Any) -> Any:
    """Theirs, its norms in the network's own dtype: transformers takes the mean of squares in float32 whatever it runs
    in, which alone is 1e-8 in float64."""
    for name, module in list(theirs.named_modules()):
        if type(module).__name__ == "T5LayerNorm":
            norm = nn.RMSNorm(len(module.weight), module.variance_epsilon)
            norm.weight = module.weight
            theirs.set_submodule(name, norm)
    return theirs


def test_transformers_opens_our_encoder_and_computes_the_same(
    config: T5Config, transformers: ModuleType, opened: Callable[..., Any], randomised: Callable[..., T5Text],
    tokens: tuple[Tensor, Tensor], agree: Agree, dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    ours = randomised(T5Text(config), dtype=dtype)
    save_folder(ours, tmp_path)
    theirs = exact(opened(transformers.T5EncoderModel, tmp_path, dtype=dtype))
    agree(ours(*tokens), theirs(*tokens).last_hidden_state)


@pytest.mark.parametrize("layout", ["saved", "twice", "whole", "single file", "shards"])
def test_we_open_transformers_encoder_in_every_layout_and_compute_the_same(
    layout: str, transformers: ModuleType, randomised: Callable[..., Any], tokens: tuple[Tensor, Tensor],
    agree: Agree, dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    """With the embeddings once, or under both of their names; with a decoder; without its config; in shards."""
    kind = transformers.T5ForConditionalGeneration if layout == "whole" else transformers.T5EncoderModel
    raw = transformers.T5Config(**CONFIGS[0].to_dict(), num_decoder_layers=1)
    theirs = randomised(kind(raw), dtype=dtype)
    theirs.save_pretrained(tmp_path, **({"max_shard_size": "50KB"} if layout == "shards" else {}))
    file = tmp_path / "model.safetensors"
    if layout == "twice":
        state = load_file(file)
        save_file(state | {"encoder.embed_tokens.weight": state["shared.weight"].clone()}, file)
    assert len(list(tmp_path.glob("model-*"))) > 2 or layout != "shards"
    ours = load_text_encoder(file if layout == "single file" else tmp_path)
    assert ours.config == CONFIGS[0]
    encoder = exact(theirs).encoder if layout == "whole" else exact(theirs)
    agree(ours(*tokens), encoder(*tokens).last_hidden_state)


def test_in_narrow_types_it_is_the_peer_as_it_stands(
    config: T5Config, transformers: ModuleType, randomised: Callable[..., Any], tokens: tuple[Tensor, Tensor],
    tmp_path: Path,
) -> None:  # fmt: skip
    """To 1e-5 in float32, a hundred roundings. Of bfloat16's one is 0.4 %: ours are to be as near to float64 as theirs,
    whose norms round once more."""
    theirs = randomised(transformers.T5EncoderModel(transformers.T5Config(**config.to_dict())), dtype=torch.float32)
    theirs.save_pretrained(tmp_path)
    true = load_text_encoder(tmp_path, dtype=torch.float64)(*tokens)

    def error(states: Tensor) -> float:
        return float((states.double() - true).norm() / true.norm())

    assert error(theirs(*tokens).last_hidden_state) < 1e-5
    assert error(load_text_encoder(tmp_path)(*tokens)) < 1e-5
    narrow = error(load_text_encoder(tmp_path, dtype=torch.bfloat16)(*tokens))
    assert narrow < 1.2 * error(theirs.to(torch.bfloat16)(*tokens).last_hidden_state) < 0.1


@pytest.mark.parametrize(("count", "farthest"), [(32, 128), (16, 40), (8, 1000)])
def test_every_distance_is_in_the_peer_s_bucket(count: int, farthest: int, transformers: ModuleType) -> None:
    distances = torch.arange(-1500, 1501)
    theirs = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket
    assert torch.equal(buckets(distances, count, farthest), theirs(distances, True, count, farthest))
