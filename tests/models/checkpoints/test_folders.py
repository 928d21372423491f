"""A network on disk: what is written can be read back, and what cannot be read is one clear error."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ivmix.models import (
    VAE,
    CLIPText,
    CLIPTextConfig,
    MotionConfig,
    UNet,
    UNetConfig,
    VAEConfig,
    load_folder,
    save_folder,
)
from ivmix.models.checkpoints import folders
from ivmix.models.checkpoints.rules import LayoutError
from ivmix.models.checkpoints.state import StateError

TEXT_CONFIG = CLIPTextConfig(
    vocab_size=30, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    max_position_embeddings=7,
)  # fmt: skip
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def vae(vae_config: VAEConfig, randomised: Callable[..., VAE]) -> VAE:
    return randomised(VAE(vae_config), dtype=torch.float32)


@pytest.fixture
def saved(vae: VAE, tmp_path: Path) -> Path:
    save_folder(vae, tmp_path / "vae")
    return tmp_path / "vae"


def same_state(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(
        first[k].dtype == second[k].dtype and torch.equal(first[k], second[k]) for k in first
    )


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrites the tensors of a file through `change`, which edits the dictionary."""
    state = load_file(path)
    change(state)
    save_file(state, path)


# --- there and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_what_is_saved_comes_back_bit_by_bit(dtype: torch.dtype, vae: VAE, tmp_path: Path) -> None:
    save_folder(vae, tmp_path, dtype)
    loaded = load_folder(VAE, VAEConfig, tmp_path)
    assert loaded.config == vae.config
    assert same_state(loaded, vae.to(dtype))
    assert same_state(load_folder(VAE, VAEConfig, tmp_path, dtype=torch.float32), vae.to(dtype).to(torch.float32))


def test_every_kind_of_network_comes_back_under_its_peers_file_names(
    image_config: UNetConfig, motion: MotionConfig, vae_config: VAEConfig, randomised: Callable[..., nn.Module],
    tmp_path: Path,
) -> None:  # fmt: skip
    cases: list[tuple[nn.Module, Any, str]] = [
        (UNet(image_config), UNetConfig, WEIGHTS),
        (UNet(replace(image_config, temporal=replace(motion, joint_norm=False))), UNetConfig, WEIGHTS),
        (VAE(replace(vae_config, scaling_factor=0.7)), VAEConfig, WEIGHTS),
        (CLIPText(TEXT_CONFIG), CLIPTextConfig, "model.safetensors"),
    ]
    for i, (network, config, file) in enumerate(cases):
        randomised(network, dtype=torch.float32)
        save_folder(network, tmp_path / str(i))
        assert {p.name for p in (tmp_path / str(i)).iterdir()} == {"config.json", file}
        loaded = load_folder(type(network), config, tmp_path / str(i))
        assert loaded.config == network.config
        assert same_state(loaded, network)


def test_a_loaded_network_is_whole_frozen_and_in_evaluation_mode(saved: Path) -> None:
    loaded = load_folder(VAE, VAEConfig, saved)
    assert not loaded.training
    assert not any(p.requires_grad or p.is_meta for p in loaded.parameters())


def test_a_loaded_network_computes_what_the_saved_one_did(
    image_config: UNetConfig, motion: MotionConfig, randomised: Callable[..., UNet], tmp_path: Path,
    difference: Callable[[torch.Tensor, torch.Tensor], float],
) -> None:  # fmt: skip
    network = randomised(UNet(replace(image_config, temporal=motion)), dtype=torch.float32)
    save_folder(network, tmp_path)
    loaded = load_folder(UNet, UNetConfig, tmp_path)
    z, context = torch.ones(1, 4, 3, 4, 4), torch.ones(1, 5, 12)
    out = [n(z, torch.tensor(5), n.condition(context)) for n in (network, loaded)]
    # Memory-mapped weights lie at other alignments, where kernels may sum in another order: 5e-7 is seen.
    assert difference(out[1], out[0]) < 1e-5


def test_a_text_encoder_saved_without_the_prefix_is_accepted(
    randomised: Callable[..., CLIPText], tmp_path: Path
) -> None:
    network = randomised(CLIPText(TEXT_CONFIG), dtype=torch.float32)
    save_folder(network, tmp_path)
    bare = {k.removeprefix("text_model."): v for k, v in network.state_dict().items()}
    save_file(bare, tmp_path / "model.safetensors")
    assert same_state(load_folder(CLIPText, CLIPTextConfig, tmp_path), network)


# --- weights that do not fit ----------------------------------------------------------------------------------------


def test_every_missing_unexpected_and_misshapen_key_is_listed(saved: Path) -> None:
    def change(state: dict[str, torch.Tensor]) -> None:
        del state["encoder.conv_in.bias"], state["quant_conv.weight"]
        state["decoder.up_blocks.7.resnets.0.norm1.bias"] = torch.zeros(3)
        state["decoder.conv_out.bias"] = torch.zeros(7)
        state["post_quant_conv.bias"] = torch.zeros(4, dtype=torch.int64)

    edit(saved / WEIGHTS, change)
    with pytest.raises(StateError) as caught:
        load_folder(VAE, VAEConfig, saved)
    expected = (
        "missing encoder.conv_in.bias (8,)",
        "missing quant_conv.weight (8, 8, 1, 1)",
        "unexpected decoder.up_blocks.7.resnets.0.norm1.bias (3,)",
        "decoder.conv_out.bias is (7,), expected (3,)",
        "post_quant_conv.bias is torch.int64, expected floating point",
    )
    assert caught.value.problems == expected
    assert str(caught.value) == f"{saved / WEIGHTS} does not fit VAE: {'; '.join(expected)}"


def test_hundreds_of_problems_make_a_short_message_and_a_full_list(saved: Path, vae: VAE) -> None:
    anchor = "decoder.mid_block.attentions.0.to_q.weight"
    save_file({anchor: vae.state_dict()[anchor]}, saved / WEIGHTS)
    with pytest.raises(StateError, match="missing decoder") as caught:
        load_folder(VAE, VAEConfig, saved)
    keys = vae.state_dict().keys()
    assert {p.split()[1] for p in caught.value.problems} == keys - {anchor}
    assert f"{len(keys) - 6} more like this" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_another_network_s_weights_are_refused(saved: Path, image_config: UNetConfig, tmp_path: Path) -> None:
    save_folder(UNet(image_config), tmp_path / "unet")
    os.replace(tmp_path / "unet" / WEIGHTS, saved / WEIGHTS)
    with pytest.raises(LayoutError, match=r"it holds no vae, but a unet \(diffusers UNet\)"):
        load_folder(VAE, VAEConfig, saved)


class Other(nn.Linear):
    """A network of somebody else's, with a config and no layout but its own."""

    @dataclass(frozen=True)
    class Config:
        width: int = 3

        def to_dict(self) -> dict[str, Any]:
            return {"_class_name": "Other", "width": self.width}

        @classmethod
        def from_dict(cls, raw: dict[str, Any]) -> "Other.Config":
            return cls(raw["width"])

    def __init__(self, config: "Other.Config") -> None:
        super().__init__(config.width, 2)
        self.config = config


def test_any_network_with_a_config_can_be_saved_and_loaded(tmp_path: Path) -> None:
    other = Other(Other.Config(5))
    save_folder(other, tmp_path)
    loaded = load_folder(Other, Other.Config, tmp_path)
    assert loaded.config == other.config
    assert same_state(loaded, other)


# --- files that are missing or no config -----------------------------------------------------------------------------


def test_missing_files_are_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nowhere"):
        load_folder(VAE, VAEConfig, tmp_path / "nowhere")
    os.rename(saved / WEIGHTS, saved / "weights.bin")
    with pytest.raises(FileNotFoundError, match=f"holds no weight file for vae: expected {WEIGHTS} or model"):
        load_folder(VAE, VAEConfig, saved)
    os.rename(saved / "weights.bin", saved / WEIGHTS)
    (saved / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*config\.json"):
        load_folder(VAE, VAEConfig, saved)


def test_two_weight_files_are_not_guessed_between(saved: Path) -> None:
    (saved / "model.safetensors").write_bytes((saved / WEIGHTS).read_bytes())
    with pytest.raises(FileNotFoundError, match="holds 2 weight files"):
        load_folder(VAE, VAEConfig, saved)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[1, 2]", "holds a JSON list, expected an object"),
        (b"null", "holds a JSON NoneType, expected an object"),
        (b"", "is not JSON"),
        (b"<html>", "is not JSON"),
        (b'{"a": 1', "is not JSON"),
        (b'{"a": 1, "b": 2, "a": 3}', "is not JSON: 'a' occurs twice"),
        (b'{"a": NaN}', "is not JSON: NaN is no JSON"),
        (b"9" * 5000, "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
    ],
    ids=["list", "null", "empty", "html", "cut", "twice", "nan", "digits", "utf-16", "deep"],
)
def test_a_config_that_is_no_json_object_is_one_clear_error(text: bytes, message: str, saved: Path) -> None:
    (saved / "config.json").write_bytes(text)
    with pytest.raises(ValueError, match=rf"config\.json {message}"):
        load_folder(VAE, VAEConfig, saved)


@pytest.mark.parametrize("entry", ["block_out_channels", "latent_channels"])
def test_a_config_without_an_entry_names_it(entry: str, saved: Path) -> None:
    raw = json.loads((saved / "config.json").read_text())
    del raw[entry]
    (saved / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=rf"config\.json lacks the entry '{entry}'"):
        load_folder(VAE, VAEConfig, saved)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("block_out_channels", 8),
        ("block_out_channels", ["8", "16"]),
        ("block_out_channels", []),
        ("block_out_channels", [9, 16]),  # not a multiple of the groups
        ("norm_num_groups", 0),
        ("latent_channels", -4),
        ("layers_per_block", "1"),
        ("_class_name", "AutoencoderTiny"),
        ("layers_per_block", 10**6),  # more than 5,000 tensors
        ("block_out_channels", [10**9, 10**9]),
        ("norm_num_groups", 1e308),
    ],
)
def test_a_config_that_describes_no_network_is_one_clear_error(entry: str, value: object, saved: Path) -> None:
    raw = json.loads((saved / "config.json").read_text()) | {entry: value}
    (saved / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=r"config\.json describes no VAE: "):
        load_folder(VAE, VAEConfig, saved)


# --- writing --------------------------------------------------------------------------------------------------------


def test_a_save_that_breaks_off_leaves_the_old_files_whole(
    vae: VAE, saved: Path, monkeypatch: pytest.MonkeyPatch, randomised: Callable[..., VAE]
) -> None:
    before = {p.name: p.read_bytes() for p in saved.iterdir()}

    def half(state: dict[str, torch.Tensor], path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "save_file", half)
    with pytest.raises(OSError, match="No space left"):
        save_folder(randomised(VAE(vae.config), seed=1), saved)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def test_weights_are_not_replaced_before_their_config_is_written(
    vae: VAE, saved: Path, monkeypatch: pytest.MonkeyPatch, randomised: Callable[..., VAE]
) -> None:
    before = {p.name: p.read_bytes() for p in saved.iterdir()}

    def full(path: Path, text: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        save_folder(randomised(VAE(vae.config), seed=1), saved)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def test_saving_over_a_network_loaded_from_the_same_folder_keeps_both_whole(saved: Path, vae: VAE) -> None:
    loaded = load_folder(VAE, VAEConfig, saved)
    save_folder(loaded, saved)
    assert same_state(loaded, vae)
    assert same_state(load_folder(VAE, VAEConfig, saved), vae)


def test_loading_does_not_import_torch_s_compiler(
    image_config: UNetConfig, motion: MotionConfig, tmp_path: Path
) -> None:
    """Drawing initial weights on meta would: two seconds and more at every start."""
    save_folder(UNet(replace(image_config, temporal=motion)), tmp_path / "unet")
    save_folder(CLIPText(TEXT_CONFIG), tmp_path / "text")
    script = (
        "import sys; from ivmix.models import *; from pathlib import Path; folder = Path(sys.argv[1]);"
        "load_folder(UNet, UNetConfig, folder / 'unet'); load_folder(CLIPText, CLIPTextConfig, folder / 'text');"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=root, check=False).returncode == 0
