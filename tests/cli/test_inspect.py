"""`ivmix inspect`: what it says of whole, faulty, unknown and unreadable files, and without reading their weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_pair import XL_TEXT

from ivmix.cli import main
from ivmix.models import CLIPText, MotionConfig, UNet, UNetConfig, inspect, save_folder
from ivmix.models.checkpoints.layouts import AUTHORS, LAYOUTS
from ivmix.models.cost import forward_cost
from ivmix.models.meta import build
from ivmix.pairs.description import EMBEDDED
from ivmix.sprites.averaging.unet import AVERAGING

VAE_FILE = EMBEDDED["sprites"] / "vae" / "diffusion_pytorch_model.safetensors"
SMALL = UNetConfig(block_out_channels=(32, 32), attention_levels=(True, False), layers_per_block=1)


def test_a_file_with_its_config_is_told_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(VAE_FILE)]) == 0
    said = capsys.readouterr().out
    for text in (
        f"{VAE_FILE}\n", "safetensors, 1.5 MB, 732,743 numbers in 152 tensors: 152 of float16", "diffusers VAE",
        "732,743 parameters", "VAEConfig(in_channels=3", "whole: no key is missing", "metadata       format=pt",
    ):  # fmt: skip
        assert text in said


def test_every_file_of_a_folder_has_a_block(capsys: pytest.CaptureFixture[str]) -> None:
    folder = EMBEDDED["sprites"]
    assert main(["inspect", str(folder / "video"), str(folder / "image")]) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert [Path(block.splitlines()[0]).parent.name for block in blocks] == ["text_encoder", "unet"] * 2
    assert "temporal=MotionConfig(" in blocks[1]


def test_sdxls_second_encoder_is_known_by_its_folder_and_all_stands_in_one_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its keys alone are those of a first encoder, of whose projection nobody has a use."""
    save_folder(CLIPText(XL_TEXT), tmp_path / "text_encoder_2")
    shutil.copytree(tmp_path / "text_encoder_2", tmp_path / "elsewhere")
    assert main(["inspect", str(tmp_path / "text_encoder_2"), str(tmp_path / "elsewhere")]) == 0
    second, first = capsys.readouterr().out.split("\n\n")
    assert "  text_encoder_2 transformers text, projected, " in second
    assert "projection_dim=20" in second
    assert "left out" not in second
    assert "  text_encoder   transformers text, " in first
    assert "  left out       text_projection.weight" in first
    lines = [line for block in (first, second) for line in block.splitlines()[1:]]
    assert all(line[16] == " " != line[17] for line in lines)


def test_the_embedded_pair_is_whole_its_own_judge_included(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(EMBEDDED["sprites"])]) == 0
    said = capsys.readouterr().out
    assert "judge          ivmix's measure of the sprite world, 44 tensors, 576,092 parameters" in said
    assert said.count("whole: no key is missing") == 6
    judge = EMBEDDED["sprites"] / "judge"
    state = load_file(judge / "diffusion_pytorch_model.safetensors")
    del state["head.bias"]
    save_file(state, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text((judge / "config.json").read_text())
    assert main(["inspect", str(tmp_path)]) == 1
    assert "missing head.bias (12,)" in capsys.readouterr().out


def test_the_fault_of_a_file_is_listed_and_is_the_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_file(VAE_FILE)
    del state["quant_conv.bias"]
    state["decoder.conv_in.bias"] = torch.zeros(7)
    save_file(state, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text((VAE_FILE.parent / "config.json").read_text())
    assert main(["inspect", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "missing quant_conv.bias (8,)" in said
    assert "decoder.conv_in.bias is (7,), expected (64,)" in said
    assert "whole" not in said


def test_a_file_of_no_known_layout_names_the_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    save_file({**load_file(VAE_FILE), "stranger": torch.zeros(1)}, tmp_path / "a.safetensors")
    assert main(["inspect", str(tmp_path / "a.safetensors")]) == 1
    said = capsys.readouterr().out
    assert "unknown        nearest layout diffusers VAE, which knows 152 of 153 keys, not: stranger" in said


def test_an_unreadable_file_hides_no_other(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_text("<html>")
    assert main(["inspect", str(tmp_path / "a.safetensors"), str(VAE_FILE), str(tmp_path / "none.ckpt")]) == 2
    said = capsys.readouterr()
    assert "diffusers VAE" in said.out
    errors = said.err.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith("ivmix inspect: error: ")
    assert "it is a web page" in errors[0]
    assert errors[1].endswith("no file or folder " + str(tmp_path / "none.ckpt"))


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--json", "--keys", str(VAE_FILE)]) == 0
    (raw,) = json.loads(capsys.readouterr().out)
    assert (raw["format"], raw["dtypes"], raw["problem"]) == ("safetensors", {"float16": 152}, None)
    assert raw["parts"][0]["config"]["block_out_channels"] == [32, 32, 64]
    assert raw["keys"]["quant_conv.bias"] == [8]
    assert main(["inspect", "--json", str(VAE_FILE)]) == 0
    assert "keys" not in json.loads(capsys.readouterr().out)[0]


def test_an_empty_folder_is_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["inspect", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("is a folder without files of weights\n")


def test_motion_modules_are_told_with_the_frames_they_know(tmp_path: Path) -> None:
    network = UNet(replace(SMALL, temporal=MotionConfig(max_frames=24)))
    save_file({k: v for k, v in network.state_dict().items() if ".motion_modules." in k}, tmp_path / "mm.safetensors")
    (part,) = inspect(tmp_path / "mm.safetensors").parts
    assert (part.name, part.layout, part.problems) == ("motion", "diffusers MotionAdapter", ())
    assert part.config == MotionConfig(max_frames=24)
    positions = sum(v.numel() for k, v in network.state_dict().items() if k.endswith(".pe"))
    assert part.parameters == inspect(tmp_path / "mm.safetensors").elements - positions


def test_the_heads_of_a_motion_adapter_are_those_of_its_folder(tmp_path: Path) -> None:
    network = UNet(replace(SMALL, temporal=MotionConfig(num_attention_heads=4, max_frames=24)))
    weights = {k: v for k, v in network.state_dict().items() if ".motion_modules." in k}
    save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors")
    raw = {"_class_name": "MotionAdapter", "motion_num_attention_heads": 4, "motion_norm_num_groups": 32}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert inspect(tmp_path).parts[0].config == MotionConfig(num_attention_heads=4, max_frames=24)
    (tmp_path / "config.json").write_text(json.dumps(raw | {"motion_num_attention_heads": "4"}))
    (part,) = inspect(tmp_path).parts
    assert (part.config, len(part.problems)) == (None, 1)
    assert "describes no MotionAdapter: num_attention_heads is '4'" in part.problems[0]


def test_motion_modules_of_the_authors_norm_as_their_code_does(tmp_path: Path) -> None:
    network = UNet(replace(SMALL, temporal=MotionConfig(max_frames=24)))
    ours = {k: v for k, v in network.state_dict().items() if ".motion_modules." in k}
    (layout,) = (layout for layout in LAYOUTS if layout.name == AUTHORS)
    save_file({name: v.clone() for k, v in ours.items() for name in layout.sources(k)}, tmp_path / "mm.safetensors")
    (part,) = inspect(tmp_path / "mm.safetensors").parts
    assert part.config == MotionConfig(max_frames=24, joint_norm=False, joint_resnet_norm=True)


@pytest.mark.parametrize(("levels", "joint"), [(3, True), (4, False)])
def test_the_authors_modules_for_sdxl_which_have_three_levels_norm_as_diffusers_does(
    levels: int, joint: bool, tmp_path: Path
) -> None:
    widths, none = (32,) * levels, (False,) * levels
    network = UNet(replace(SMALL, block_out_channels=widths, attention_levels=none, temporal=MotionConfig()))
    ours = {k: v for k, v in network.state_dict().items() if ".motion_modules." in k}
    (layout,) = (layout for layout in LAYOUTS if layout.name == AUTHORS)
    save_file({name: v.clone() for k, v in ours.items() for name in layout.sources(k)}, tmp_path / "mm.safetensors")
    (part,) = inspect(tmp_path / "mm.safetensors").parts
    assert part.config == MotionConfig(joint_norm=joint)


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    state = {f"model.diffusion_model.{k}": v for k, v in UNet(SMALL).state_dict().items()}
    extras = {"betas": torch.zeros(9), "model_ema.decay": torch.ones(())}
    torch.save({"state_dict": state | extras}, tmp_path / "a.ckpt")
    found = inspect(tmp_path / "a.ckpt")
    assert (found.format, found.dropped) == ("torch pickle", ("betas", "model_ema.decay"))
    assert found.parts[0].prefix == "model.diffusion_model."
    assert found.parts[0].config == SMALL
    assert found.problem is None


def test_a_lora_is_told_by_family_rank_and_modules(tmp_path: Path) -> None:
    down, up = (f"lora_unet_a.lora_{part}.weight" for part in ("down", "up"))
    save_file({down: torch.zeros(3, 2), up: torch.zeros(5, 3)}, tmp_path / "a.safetensors")
    [part] = inspect(tmp_path / "a.safetensors").parts
    assert (part.name, part.problems) == ("lora", ())
    assert part.layout == "LoRA (kohya) of rank 3 for 1 modules of a unet"
    save_file({down: torch.zeros(3, 2)}, tmp_path / "half.safetensors")
    [part] = inspect(tmp_path / "half.safetensors").parts
    assert "no up for it" in part.problems[0]


def test_a_file_of_23_gigabytes_is_inspected_in_no_time(tmp_path: Path) -> None:
    """Sparse on disk, and never read: in memory it would not fit."""
    shapes = {k: tuple(v.shape) for k, v in build(UNet, SMALL).state_dict().items()}
    shapes["conv_in.weight"] = (32, 4 * 10**7, 3, 3)
    header, end = {}, 0
    for key, shape in shapes.items():
        begin, end = end, end + 2 * torch.Size(shape).numel()
        header[key] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    with (tmp_path / "a.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)
    found = inspect(tmp_path / "a.safetensors")
    assert found.size > 2 * 10**10
    assert found.parts[0].config == replace(SMALL, in_channels=4 * 10**7)


# --- what a forward pass costs --------------------------------------------------------------------------------------

VIDEO = EMBEDDED["sprites"] / "video"


def test_the_cost_of_a_unet_is_what_forward_cost_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--cost", "--size", "8x16", "--frames", "3", "--json", str(VIDEO)]) == 0
    text, unet = json.loads(capsys.readouterr().out)
    config = inspect(VIDEO / "unet", layouts=[AVERAGING]).parts[0].config
    cost = forward_cost(config, 3, 8, 16, dtype=torch.float16)
    assert unet["cost"] == {
        "rows": 2, "frames": 3, "height": 8, "width": 16, "tokens": 77, "dtype": "float16", "flops": cost.flops,
        "total": cost.total, "activations": cost.activations, "weights": 2 * cost.parameters,
    }  # fmt: skip
    assert "cost" not in text
    assert main(["inspect", "--json", str(VIDEO / "unet")]) == 0
    assert "cost" not in json.loads(capsys.readouterr().out)[0]


def test_the_cost_is_told_in_words_at_the_sizes_taken_by_default(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = replace(SMALL, temporal=MotionConfig(max_frames=6))  # fewer than there are by default
    save_folder(UNet(config), tmp_path)
    assert main(["inspect", "--cost", str(tmp_path)]) == 0
    said, cost = capsys.readouterr().out, forward_cost(config, 6, 64, 64)
    what = f"{cost.total / 1e9:.3g} GFLOP, {cost.activations / 1e9:.3g} GB beside {4 * cost.parameters / 1e9:.3g} GB"
    assert f"cost           2 rows of 6 frames of 64x64 latents, 77 tokens, in float32: {what} of weights\n" in said
    assert f"convolutions {cost.flops['convolutions'] / cost.total:.1%}, spatial layers " in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cost", "--size", "10x8"], f"{VIDEO}/unet/diffusion_pytorch_model.safetensors: --cost: latents of 10x8"),
        (["--cost", "--frames", "17"], "--cost: 17 frames, but this motion module knows positions for 16"),
        (["--cost", "--size", f"{10**9}x{10**9}"], "--cost: Storage size calculation overflowed"),
        (["--cost", "--size", "64"], "--size 64: expected HEIGHTxWIDTH of the latents, such as 64x64"),
        (["--cost", "--size", "0x8"], "--size 0x8: expected HEIGHTxWIDTH of the latents"),
        (["--cost", "--frames", "0"], "--frames 0: expected 1 or more"),
        (["--size", "8x8"], "--size 8x8: it says what --cost counts; give --cost too"),
        (["--frames", "8"], "--frames 8: it says what --cost counts; give --cost too"),
    ],
)
def test_what_cannot_be_counted_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", *arguments, str(VIDEO)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ivmix inspect: error: ")
    assert said in line


def test_a_cost_of_no_unet_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--cost", str(VAE_FILE)]) == 2
    said = capsys.readouterr()
    assert said.err == f"ivmix inspect: error: --cost: {VAE_FILE} holds no UNet or transformer whose config is known\n"
    assert "diffusers VAE" in said.out
