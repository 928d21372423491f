"""Previews: what a run shows of itself while it goes on, without becoming another run."""

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ivmix import TextToVideo
from ivmix.cli import main
from ivmix.generation.latent_rgb import NAME, LatentRGB, block_means, preview, write_map
from ivmix.generation.preview import Preview, fitted_to_piece, painter, stored_map
from ivmix.media import read_clip
from ivmix.pairs.description import EMBEDDED
from ivmix.pairs.pair import Pair, load_pair
from ivmix.solvers import Run

RED, BLUE = "a red circle moving left", "a blue cross moving up"
QUICK = ["--sampler", "ddim", "--steps", "3", "--frames", "2", "--size", "16x16", "--quiet"]
SMALL = {"sampler": "ddim", "steps": 3, "frames": 2, "height": 16, "width": 16}


@pytest.fixture(scope="module")
def model() -> TextToVideo:
    return TextToVideo.from_pair("sprites", "cpu")


@pytest.fixture
def command(tmp_path, capsys, monkeypatch):
    """`command("sample", …)` in an empty folder: the status and what was said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        return main(arguments), capsys.readouterr().err

    return run


def mapped_pair(folder: Path) -> Path:
    """The embedded pair with a map beside its autoencoder."""
    shutil.copytree(EMBEDDED["sprites"], folder)
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 8
    write_map(LatentRGB(weight, torch.zeros(3, dtype=torch.float64)), folder / "vae" / NAME, "a test", 0, 0)
    return folder


@pytest.fixture(scope="module")
def mapped(tmp_path_factory) -> Pair:
    return load_pair(mapped_pair(tmp_path_factory.mktemp("pairs") / "mapped"), "cpu")


def shown(latents: torch.Tensor | None) -> Run:
    """What a callback is shown of a run that found these clean latents."""
    return Run(torch.zeros(1), 0.0, {}, {}, x0=latents)


# --- the callback ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [True, False])
def test_every_step_replaces_the_file_by_what_the_run_has_found(model, mapped, tmp_path, stored):
    pair, path = mapped if stored else model.pair, tmp_path / "now.webp"
    paint, write, seen = painter(pair), Preview(pair, path), []

    def in_file() -> np.ndarray:
        return read_clip(path).frames[:, ::64, ::64]  # 4x4 latents, enlarged to 256 pixels

    def callback(step: int, total: int, run: Run) -> None:
        write(step, total, run)
        seen.append((in_file() == paint(run.x0)[0]).all())

    result = model(RED, **SMALL, callback=callback)
    assert seen == [True] * 3
    assert (in_file() == paint(result.latents)[0]).all()  # the clip itself, at the end
    assert [file.name for file in tmp_path.iterdir()] == ["now.webp"]


def test_a_map_beside_the_autoencoder_is_what_latents_are_shown_by(model, mapped):
    latents = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert stored_map(model.pair) is None
    assert (painter(mapped)(latents) == preview(latents, stored_map(mapped))).all()
    assert (painter(mapped)(latents) != painter(model.pair)(latents)).any()


@pytest.mark.parametrize("suffix", [".png", ".gif", ".webp", ".mp4"])
def test_all_clips_of_a_batch_are_shown_or_the_first_so_many(model, tmp_path, suffix):
    latents = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))

    def area(clips: int | None) -> int:
        write = Preview(model.pair, tmp_path / f"now{suffix}", clips)
        write(1, 2, shown(latents))
        frames = read_clip(tmp_path / f"now{suffix}").frames
        assert len(frames) == (1 if suffix == ".png" else 3)
        return frames[0].size

    assert area(None) == area(2) > 1.5 * area(1)


def test_without_a_map_every_clip_is_shown_as_well_as_a_map_of_it_could(model):
    """Nearly: a map of all its frames is the best there is, and errs by 1 to 4 % less over six clips, by a third or a
    quarter of what the map of the other clip does."""
    vae, latents = model.pair.vae, model([RED, BLUE], sampler="ddim", steps=3, seed=11).latents
    with torch.no_grad():
        true = block_means(vae.decode(latents), 16)
    shown = torch.from_numpy(painter(model.pair)(latents)).permute(0, 4, 1, 2, 3) / 127.5 - 1
    for k in range(2):
        one = slice(k, k + 1)
        best = (LatentRGB.fitted(latents[one], true[one])(latents[one]) - true[one]).square().mean()
        other = (LatentRGB.fitted(latents[1 - k, None], true[1 - k, None])(latents[one]) - true[one]).square().mean()
        error = (shown[one] - true[one]).square().mean()
        assert best < error < 1.2 * best < other


def test_a_piece_of_large_latents_is_their_middle(model):
    """What lies outside the 32x32 latents in the middle of the middle frame has no say."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 3, 40, 36, generator=generator)
    other = torch.randn(latents.shape, generator=generator)
    other[:, :, 1, 4:36, 2:34] = latents[:, :, 1, 4:36, 2:34]
    one, two = (fitted_to_piece(model.pair.vae, z) for z in (latents, other))
    assert torch.equal(one.weight, two.weight)
    other[:, :, 1, 4, 2] += 1
    assert not torch.equal(one.weight, fitted_to_piece(model.pair.vae, other).weight)


def test_what_cannot_be_shown_is_left_to_the_run_to_say(model, tmp_path):
    write = Preview(model.pair, tmp_path / "now.png")
    for latents in (None, torch.full((1, 4, 2, 4, 4), torch.nan)):
        write(1, 2, shown(latents))
    assert not list(tmp_path.iterdir())


def test_a_file_that_can_no_longer_be_written_ends_the_previews_and_not_the_run(model, tmp_path):
    (tmp_path / "gone").mkdir()
    write = Preview(model.pair, tmp_path / "gone" / "now.png")
    (tmp_path / "gone").rmdir()
    with pytest.warns(UserWarning, match=r"^no more previews: cannot write .*does not exist"):
        write(1, 2, shown(torch.zeros(1, 4, 2, 4, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write(2, 2, shown(torch.zeros(1, 4, 2, 4, 4)))


# --- `ivmix sample --preview` ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["now.png", "now.gif"])
def test_a_clip_that_is_watched_is_the_same_clip(command, tmp_path, name):
    mapped_pair(tmp_path / "mapped")
    assert command("sample", RED, "-o", "out.webp", *QUICK) == (0, "")
    for pair in ("sprites", "mapped"):
        assert command("sample", RED, "-o", "seen.webp", "--pair", pair, "--preview", name, *QUICK) == (0, "")
        assert (tmp_path / "seen.webp").read_bytes() == (tmp_path / "out.webp").read_bytes()
        assert Image.open(tmp_path / name).width > 200
        (tmp_path / name).unlink()
    records = [json.loads((tmp_path / f"{n}.webp.json").read_text()) for n in ("out", "seen")]
    assert not records[0].keys() ^ records[1].keys()


def test_a_batch_is_a_row_a_clip_and_copies_of_one_are_one(command, tmp_path):
    def height() -> int:
        return Image.open(tmp_path / "now.png").height

    watched = ["--preview", "now.png", "--quiet"]
    assert command("sample", RED, BLUE, "-o", "out.webp", "--batch-size", "2", *watched, *QUICK) == (0, "")
    both = height()
    assert command("sample", "--from", "out-001.webp.json", "-o", "again.webp", *watched) == (0, "")
    assert height() < 0.7 * both


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("now.txt", "cannot write 'now.txt': unknown suffix '.txt', accepted: .png, .gif, .webp, .mp4"),
        ("frames/", "cannot write 'frames/': unknown suffix ''"),
        ("none/now.png", "cannot write 'none/now.png': folder '{}/none' does not exist; create it first: mkdir -p"),
        ("./out.webp", "--preview ./out.webp would replace the run's own out.webp: choose another name"),
        ("", "cannot write ''"),
    ],
)
def test_a_preview_that_cannot_be_written_is_refused_before_anything_is_drawn(command, tmp_path, path, said):
    status, error = command("sample", RED, "-o", "out.webp", "--preview", path, *QUICK)
    assert status == 2
    assert error.startswith(f"ivmix sample: error: {said.format(tmp_path)}")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_broken_map_is_refused_before_anything_is_drawn_and_only_if_asked_for(command, tmp_path):
    (mapped_pair(tmp_path / "pair") / "vae" / NAME).write_text("{")
    status, error = command("sample", RED, "-o", "out.webp", "--pair", "pair", "--preview", "now.png", *QUICK)
    assert (status, error.count("\n")) == (2, 1)
    assert f"{NAME} is not JSON" in error
    assert [path.name for path in tmp_path.iterdir()] == ["pair"]
    assert command("sample", RED, "-o", "out.webp", "--pair", "pair", *QUICK) == (0, "")


# --- `ivmix preview-map` --------------------------------------------------------------------------------------------


def picture(path: Path, seed: int) -> str:
    """A picture of soft random colours."""
    rough = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(rough).resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return path.name


def test_a_map_is_fitted_beside_the_autoencoder_and_read_from_there(command, tmp_path):
    def how() -> str:
        return command("sample", RED, "-o", "out.webp", "--pair", "pair", "--preview", "now.png", *QUICK[:-1])[1]

    shutil.copytree(EMBEDDED["sprites"], tmp_path / "pair")
    clips = [picture(tmp_path / f"{k}.png", k) for k in range(4)]
    assert "previews in now.png, coloured by a decoded piece of each clip (`ivmix preview-map` fits" in how()
    status, said = command("preview-map", *clips, "--pair", "pair")
    assert status == 0
    assert re.search(r"fitted to 4 frames of 4 clips; .*% of the variance of clips that are not the map's own", said)
    raw = json.loads((tmp_path / "pair" / "vae" / NAME).read_text())
    assert raw["about"].endswith("preview-map, of 4 frames of 4 clips")
    assert f"{raw['r2']:.1%}" in said
    assert raw["r2"] > 0.5  # 0.87: soft colours are what a map can show
    assert f"coloured by {tmp_path / 'pair' / 'vae' / NAME}" in how()
    status, said = command("preview-map", clips[0], "--vae", "pair/vae", "-o", "one.json")
    assert status == 0
    assert re.search(r"one\.json: fitted to 1 frame of 1 clip; .*% of the variance of this one clip explained", said)


def test_an_autoencoder_of_the_hub_has_its_map_where_you_say(command, tmp_path, local_hub):
    local_hub.publish("o/vae", EMBEDDED["sprites"] / "vae")
    clip = picture(tmp_path / "one.png", 0)
    status, said = command("preview-map", clip, "--vae", "hub:o/vae")
    assert status == 2
    assert "hub:o/vae lies in the hub's cache: name a file with -o, for ivmix.generation.latent_rgb.read_map" in said
    assert command("preview-map", clip, "--vae", "hub:o/vae", "-o", "map.json")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.png"], "cannot read 'none.png': there is no such file"),
        (["one.png", "--vae", ""], "--vae '': expected a folder, a file or hub:owner/name"),
        (["one.png", "--pair", "none"], "pair 'none': expected one of sprites"),
        (["one.png", "-o", "map.png"], "cannot write 'map.png': unknown suffix '.png', accepted: .json"),
    ],
)
def test_a_map_that_cannot_be_is_one_line_and_leaves_nothing(command, tmp_path, arguments, said):
    picture(tmp_path / "one.png", 0)
    status, error = command("preview-map", "-o", "map.json", *arguments)
    assert (status, error.count("\n")) == (2, 1)
    assert error.startswith(f"ivmix preview-map: error: {said}")
    assert [path.name for path in tmp_path.iterdir()] == ["one.png"]
