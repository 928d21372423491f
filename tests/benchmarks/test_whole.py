"""The whole way at the networks' full input: clips of the embedded pair, I3D and UMT in the files of their public
layouts, real processes that are killed, that share, that read files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_benchmark import CAPTIONS, WORDS, contents, timeless, write_description, write_prompts, write_videos

from ivmix.cli import main
from ivmix.evaluation.features import FeatureSet
from ivmix.models import I3D, UMT, I3DConfig, UMTConfig, ViTConfig
from ivmix.models.measuring.bert import BertConfig

pytestmark = pytest.mark.slow

I3D_BY, UMT_BY = "cmvq-videogpt", "chronomagic-umt"
ARMS = [{"label": name, "options": {"sampler": name, "steps": 3}} for name in ("ddim", "zigzag")]


def spread(network: torch.nn.Module) -> None:
    """Random weights that keep clips apart through all layers."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.3, generator=generator)


def write_networks(folder: Path) -> None:
    i3d = I3D(I3DConfig(1e-5))
    spread(i3d)
    torch.save(i3d.state_dict(), folder / "i3d_pretrained_400.pt")
    umt = UMT(UMTConfig(
        ViTConfig(width=1024, depth=1, heads=16, inner=64, patch=32, tubelet=1, frames=12, size=224),
        BertConfig(len(WORDS), 1024, 64, 2, 16, 32, 1, 1024), features=16,
    ))  # fmt: skip
    spread(umt)
    rest = {"temp": torch.tensor(0.07), "text_encoder.embeddings.position_ids": torch.arange(32)[None]}
    torch.save({"model": umt.state_dict() | rest, "epoch": 6}, folder / "ckpt_best.pth")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all is that a run needs."""
    folder = tmp_path_factory.mktemp("house")
    write_prompts(folder / "prompts.csv")
    write_videos(folder / "real", [f"{id}.mp4" for id in CAPTIONS], frames=20)
    write_networks(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "arms.json").write_text(json.dumps(ARMS))
    clip = {"frames": 16, "start": "random"}
    write_description(
        folder / "small.json", samples=1, comparisons=["parts", "pooled"], scores=["umt_score"], clip=clip,
        distances={"fvd_videogpt": I3D_BY, "umt_fvd": UMT_BY}, reference={"videos": "{id}.mp4", "clip": clip},
    )  # fmt: skip
    return folder


def arguments(folder: Path, output: Path, *more: str) -> list[str]:
    return ["evaluate", "--benchmark", str(folder / "small.json"), "-o", str(output), "--real", str(folder / "real"),
            "--extractor", f"{I3D_BY}={folder}/i3d_pretrained_400.pt", "--extractor",
            f"{UMT_BY}={folder}/ckpt_best.pth", "--vocabulary", str(folder / "vocab.txt"), "--batch-size", "2",
            "--device", "cpu", "--quiet", *more]  # fmt: skip


def command(folder: Path, output: Path, *launcher: str) -> list[str]:
    drawn = ["--frames", "16", "--arms", str(folder / "arms.json")]
    return [sys.executable, *launcher, "-m", "ivmix", *arguments(folder, output, *drawn)]


ALONE = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    subprocess.run(command(folder, folder / "whole"), check=True, env=ALONE)
    return folder / "whole"


def test_distances_and_scores_are_of_clips_that_differ(whole):
    raw = json.loads((whole / "report.json").read_text())
    assert raw["complete"] == [5, 5]
    assert [row["label"] for row in raw["rows"]] == ["ddim", "zigzag"]
    for row in raw["rows"]:
        assert all(row["distances"][metric]["parts"]["value"] > 0 for metric in ("fvd_videogpt", "umt_fvd"))
        low, high = row["scores"]["umt_score"]["interval"]
        assert low < row["scores"]["umt_score"]["mean"] < high
    assert raw["extractors"][I3D_BY]["bn_eps"] == 1e-5
    for protocol, length in ((I3D_BY, 400), (UMT_BY, 16)):
        features = FeatureSet.load(whole / "features" / protocol / "ddim-1.safetensors").features
        assert features.shape == (5, length)
        assert float(torch.pdist(features).min() / features.norm(dim=1).mean()) > 1e-3
    assert (whole / "distances.png").exists()


def test_a_run_killed_again_and_again_goes_on_to_the_same_bytes(folder, whole):
    broken = folder / "broken"
    for pattern, parts in ((f"parts/{I3D_BY}/real-*", 1), ("parts/clips/[!.]*", 1), (f"parts/{UMT_BY}/zigzag-*", 1)):
        with subprocess.Popen(command(folder, broken), env=ALONE) as process:
            while len(list(broken.glob(pattern))) < parts:
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not (broken / "report.json").exists()
    subprocess.run(command(folder, broken), check=True, env=ALONE)
    assert contents(broken) == contents(whole)


@pytest.mark.parametrize("world", [2, 4])
def test_any_world_size_makes_the_same_bytes(world, folder, whole):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    subprocess.run(command(folder, folder / str(world), *torchrun), check=True, env=ALONE)
    assert contents(folder / str(world)) == contents(whole)


def test_files_that_were_written_give_what_the_report_says_of_them(folder, whole):
    files = folder / "files"
    videos = arguments(folder, files, "--videos", str(whole / "videos" / "ddim"))
    subprocess.run([sys.executable, "-m", "ivmix", *videos], check=True, env=ALONE)
    (row,) = timeless(files)["rows"]
    for metric, (lossless, written) in timeless(whole)["written"]["distances"].items():
        assert row["distances"][metric]["pooled"]["full"] == pytest.approx(written, rel=1e-4)
        assert lossless != written


def test_clips_too_short_for_i3d_are_refused_before_they_are_drawn(folder, tmp_path, capsys):
    assert main(arguments(folder, tmp_path / "run", "--arms", str(folder / "arms.json"))) == 2
    said = capsys.readouterr().err
    assert said == "ivmix evaluate: error: arm 'ddim': the clip has 8 frames: expected 10 or more (--frames)\n"
    assert not (tmp_path / "run").exists()
