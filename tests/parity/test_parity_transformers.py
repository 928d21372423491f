"""Our text encoder against transformers' CLIPTextModel on small random networks, through real folders."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ivmix.models import CLIPText, CLIPTextConfig, load_folder, save_folder

pytestmark = pytest.mark.slow

Agree = Callable[[Tensor, Tensor], None]

CONFIGS = [
    CLIPTextConfig(40, 32, 64, 3, 4, 77, "quick_gelu"),  # as ViT-L/14
    CLIPTextConfig(40, 48, 96, 2, 3, 77, "gelu"),  # as OpenCLIP ViT-H/14
]


@pytest.fixture(params=CONFIGS, ids=lambda config: config.hidden_act)
def config(request: pytest.FixtureRequest) -> CLIPTextConfig:
    return request.param


@pytest.fixture
def tokens() -> Tensor:
    """Two full rows and one that is all padding after its first words."""
    ids = torch.randint(40, (3, 77), generator=torch.Generator().manual_seed(0))
    ids[2, 5:] = 39
    return ids


def build(transformers: ModuleType, config: CLIPTextConfig) -> Any:
    raw = transformers.CLIPTextConfig(**asdict(config), bos_token_id=38, eos_token_id=39, pad_token_id=39)
    return transformers.CLIPTextModel(raw)


def test_transformers_opens_our_encoder_and_computes_the_same(
    config: CLIPTextConfig, transformers: ModuleType, opened: Callable[..., Any],
    randomised: Callable[..., CLIPText], tokens: Tensor, agree: Agree, dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    ours = randomised(CLIPText(config), dtype=dtype)
    save_folder(ours, tmp_path)
    theirs = opened(transformers.CLIPTextModel, tmp_path, dtype=dtype)
    for length in (77, 9):
        agree(ours(tokens[:, :length]), theirs(tokens[:, :length]).last_hidden_state)


@pytest.mark.parametrize("prefixed", [False, True])
def test_we_open_transformers_encoder_and_compute_the_same(
    prefixed: bool, config: CLIPTextConfig, transformers: ModuleType, opened: Callable[..., Any],
    randomised: Callable[..., Any], tokens: Tensor, agree: Agree, dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    """transformers 5 saves a model under the names it was opened with: `text_model.` in public files, bare if built."""
    theirs = randomised(build(transformers, config), dtype=dtype)
    if prefixed:
        save_folder(randomised(CLIPText(config), dtype=dtype), tmp_path / "public")
        theirs = opened(transformers.CLIPTextModel, tmp_path / "public", dtype=dtype)
    theirs.save_pretrained(tmp_path / "saved")
    assert all(k.startswith("text_model.") for k in load_file(tmp_path / "saved" / "model.safetensors")) or not prefixed
    ours = load_folder(CLIPText, CLIPTextConfig, tmp_path / "saved")
    assert ours.config == config
    agree(ours(tokens), theirs(tokens).last_hidden_state)


def test_a_file_with_one_layer_less_is_the_penultimate_output(
    transformers: ModuleType, randomised: Callable[..., Any], tokens: Tensor, agree: Agree, dtype: torch.dtype,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Public ViT-H/14 files hold 23 of 24 layers: their output is the 23rd layer's, through the final norm."""
    config = CONFIGS[1]
    theirs = randomised(build(transformers, replace(config, num_hidden_layers=3)), dtype=dtype)
    theirs.save_pretrained(tmp_path)
    state = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in theirs.state_dict().items()}
    ours = CLIPText(config).to(dtype).requires_grad_(False)
    ours.load_state_dict({k: v for k, v in state.items() if "layers.2." not in k})
    penultimate = theirs(tokens, output_hidden_states=True).hidden_states[-2]
    norm = {k.split(".")[-1]: v for k, v in state.items() if ".final_layer_norm." in k}
    agree(ours(tokens), torch.nn.functional.layer_norm(penultimate, (48,), norm["weight"], norm["bias"], 1e-5))
