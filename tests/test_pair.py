"""A pair is a folder: it loads whole or says what is wrong with it."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from ivmix.pair import EMBEDDED, load_pair, locate

SPRITES = EMBEDDED["sprites"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(SPRITES, tmp_path / "pair")


def rewrite(folder: Path, **changes) -> None:
    raw = json.loads((folder / "pair.json").read_text())
    (folder / "pair.json").write_text(json.dumps(raw | changes))


def test_the_embedded_pair_loads_by_name_and_by_folder(copy):
    by_name, by_folder = load_pair("sprites"), load_pair(copy)
    for a, b in zip(by_name.video.unet.parameters(), by_folder.video.unet.parameters(), strict=True):
        assert torch.equal(a, b)
    assert by_name.video.unet.config.temporal is not None
    assert by_name.image.unet.config.temporal is None


def test_the_embedded_pair_is_small_enough_to_ship():
    assert sum(p.stat().st_size for p in SPRITES.rglob("*") if p.is_file()) <= 12e6


def test_folders_named_twice_are_loaded_once(copy):
    raw = json.loads((copy / "pair.json").read_text())
    rewrite(copy, image=raw["image"] | {"text_encoder": raw["video"]["text_encoder"]})
    pair = load_pair(copy)
    assert pair.image.text_encoder is pair.video.text_encoder


def test_dtype_is_the_callers_and_nothing_needs_gradients():
    pair = load_pair("sprites", dtype=torch.float64)
    assert pair.dtype == torch.float64
    assert not any(p.requires_grad for p in pair.video.unet.parameters())


@pytest.mark.parametrize("name", ["", "spirits", "/no/such/folder", "sprites/../sprites"])
def test_an_unknown_pair_names_those_that_exist(name, tmp_path):
    with pytest.raises(ValueError, match="expected one of sprites, or a folder with"):
        locate(tmp_path if name == "" else name)


def test_a_missing_network_is_named(copy):
    shutil.rmtree(copy / "vae")
    with pytest.raises(FileNotFoundError, match="vae"):
        load_pair(copy)


def test_a_missing_entry_is_named(copy):
    raw = json.loads((copy / "pair.json").read_text())
    del raw["video"]["prediction"]
    (copy / "pair.json").write_text(json.dumps(raw))
    with pytest.raises(ValueError, match="lacks the entry 'prediction'"):
        load_pair(copy)


def test_a_format_of_the_future_is_refused(copy):
    rewrite(copy, format=99)
    with pytest.raises(ValueError, match="format 99"):
        load_pair(copy)


def test_a_pair_file_that_is_no_json_is_refused(copy):
    (copy / "pair.json").write_text("<html>")
    with pytest.raises(ValueError, match="is not JSON"):
        load_pair(copy)


@pytest.mark.parametrize(
    ("frames", "height", "width", "message"),
    [(8, 33, 32, "height=33"), (8, 32, 0, "width=0"), (0, 32, 32, "frames=0"), (17, 32, 32, "frames=17.*1 to 16")],
)
def test_sizes_the_networks_cannot_take_are_refused(frames, height, width, message):
    with pytest.raises(ValueError, match=message):
        load_pair("sprites").latent_shape(frames, height, width)
