"""`ivmix evaluate --benchmark`: anyone's files to numbers; what cannot be is one line, and nothing is left of it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_benchmark import (
    ARMS,
    CAPTIONS,
    PROTOCOL,
    REAL,
    House,
    write_description,
    write_pair,
    write_prompts,
    write_script,
    write_umt,
    write_videos,
)

from ivmix.cli import main
from ivmix.evaluation.features import FeatureSet

pytestmark = pytest.mark.filterwarnings("default::UserWarning")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """With clips of two strangers beside it."""
    built = House.build(tmp_path_factory.mktemp("house"))
    for seed, name in enumerate(("a/videos", "b/videos")):
        write_videos(built.folder / name, names(2), frames=16, seed=seed + 1)
    return built


def said_by(capsys: pytest.CaptureFixture[str]) -> str:
    """What is on stderr, but that torch no longer cares for TorchScript, which it says where tests listen alone."""
    return "".join(line for line in capsys.readouterr().err.splitlines(True) if "`torch.jit" not in line)


def names(samples: int) -> list[str]:
    return [f"{sample}/{id}.mp4" for sample in range(1, samples + 1) for id in CAPTIONS]


def files(house: House, output: Path, *more: str, benchmark: str = "small.json", videos: str = "a/videos") -> list[str]:
    """Measures a stranger's, without a pair."""
    return ["evaluate", "--benchmark", str(house.folder / benchmark), "-o", str(output), "--quiet", "--videos",
            str(house.folder / videos), *more]  # fmt: skip


# --- what can be ------------------------------------------------------------------------------------------------------


def test_two_folders_are_two_rows_whose_features_distance_reads(house, tmp_path, capsys):
    both = files(house, tmp_path, "--videos", str(house.folder / "b/videos"), *house.measured)
    assert main(both) == 0
    out = capsys.readouterr()
    assert "a/videos" in out.out
    assert f"wrote {tmp_path}/report.md" in out.err
    assert "warning: 5 clips for features of length 9: with fewer clips" in out.err
    assert "warning: clips of 'a/videos' have 16 frames, the reference's 10: cmvq-styleganv takes all" in out.err
    raw = json.loads((tmp_path / "report.json").read_text())
    assert [row["label"] for row in raw["rows"]] == ["a/videos", "b/videos"]
    assert raw["rows"][0]["p_values"] == {}
    assert 1 / 200 <= raw["rows"][1]["p_values"]["fvd_styleganv"] <= 1
    features = tmp_path / "features" / PROTOCOL
    for row, name in zip(raw["rows"], ("a-videos", "b-videos"), strict=True):
        fakes = [str(features / f"{name}-{k}.safetensors") for k in (1, 2)]
        assert main(["distance", str(features / "real.safetensors"), *fakes, "--protocol", PROTOCOL, "--json"]) == 0
        found, said = json.loads(capsys.readouterr().out), row["distances"]["fvd_styleganv"]["parts"]
        assert said["value"] == pytest.approx(found["value"], rel=1e-5)
        assert said["full_error"] == pytest.approx(found["full_error"], rel=1e-4)


def test_a_dry_run_computes_nothing_and_says_what_is_missing(house, tmp_path, capsys):
    assert main(["evaluate", "--benchmark", "chronomagic-150", "-o", str(tmp_path / "run"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    for line in (
        "chronomagic-150: 450 clips a row", "download  prompts: to be downloaded from https://raw.githubuser",
        "MISSING   network of chronomagic-umt, for UMT-FVD, UMTScore: give it by --extractor chronomagic-umt=FILE",
        "MISSING   vocabulary, for UMTScore", "download  features of more real clips by chronomagic-umt",
        "pair sprites knows few words",
    ):  # fmt: skip
        assert line in out, line
    assert not (tmp_path / "run").exists()


def dry(house: House, *more: str) -> list[str]:
    return ["evaluate", "--benchmark", str(house.folder / "small.json"), "-o", str(house.folder / "dry"), "--dry-run",
            *more]  # fmt: skip


def test_a_dry_run_reads_what_is_given(house, capsys):
    assert main(dry(house, "--pair", str(house.folder / "pair"), *house.measured)) == 0
    out = capsys.readouterr().out
    for line in (
        "small: 10 clips a row", f"there     reference: {house.folder}/real: {REAL} videos",
        "there     network of cmvq-styleganv, for FVD (StyleGAN): ", "MB of lossless clips",
    ):  # fmt: skip
        assert line in out, out
    assert main(dry(house, "--videos", str(house.folder / "a/videos"), "--clips", "3")) == 0
    assert f"there     row 'videos': {house.folder}/a/videos: 6 videos" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--prompts", "{house}/small.json"], "prompts: {house}/small.json is {"),
        (["--prompts", "{house}/none.csv"], "prompts: no file or folder {house}/none.csv"),
        (["--real", "{house}/pair"], "reference: no video '*.mp4' in '{house}/pair'"),
        (["--real", "cmvq-styleganv={house}/none.pt"], "features of the reference by cmvq-styleganv: no file {house}"),
        (["--pool", "cmvq-styleganv={house}/none.pt"], "features of more real clips by cmvq-styleganv: no file"),
        (["--extractor", "cmvq-styleganv={house}/none.pt"], "network of cmvq-styleganv, for FVD (StyleGAN): no file "),
        (["--videos", "{house}/nowhere"], "row 'nowhere': no folder {house}/nowhere"),
        (["--videos", "{house}/pair"], "row 'pair': 10 of 10 videos are not in {house}/pair: 1/"),
    ],
)
def test_a_dry_run_says_missing_of_what_cannot_be_read(more, line, house, capsys):
    assert main(dry(house, *(one.replace("{house}", str(house.folder)) for one in more))) == 0
    out = capsys.readouterr().out
    assert f"MISSING   {line.replace('{house}', str(house.folder))}" in out, out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--clips", "1"], "clips=1: expected 2 to 5"), (["--clips", "6"], "clips=6: expected 2 to 5"),
        (["--seeds", "-2"], "samples (--seeds)=-2: expected 1"), (["--seeds", "10001"], "expected 1 to 10000"),
        (["--batch-size", "0"], "batch_size=0: expected 1"),
        (["--frames", "0"], "frames=0"), (["--seed", "-1"], "seed=-1: expected 0"),
        (["--hours", "nan"], "hours=nan: expected more than 0"),
        (["--real", "nowhere"], "--real nowhere: no such folder; expected one of videos, or PROTOCOL=FILE"),
        (["--extractor", "cd-fvd-i3d=x"], "--extractor cd-fvd-i3d: small is measured by cmvq-styleganv"),
        (["-o", "{house}/small.json"], "small.json is a file: expected a folder"),
        (["-o", "{house}/small.json/run"], "small.json is a file: expected a folder"),
    ],
)  # fmt: skip
def test_a_dry_run_refuses_what_a_run_refuses(more, message, house, capsys):
    assert main(dry(house, *(one.replace("{house}", str(house.folder)) for one in more))) == 2
    said = said_by(capsys)
    assert said.count("\n") == 1
    assert message in said, said


# --- what cannot ------------------------------------------------------------------------------------------------------


def other_features(house: House, **of: str) -> Path:
    path = house.folder / f"{'-'.join(of.values())}.safetensors"
    FeatureSet(torch.randn(8, 9), **of).save(path)
    return path


def prompts(house: House, id: str) -> str:
    return str(write_prompts(house.folder / "bad.csv", {id: "a", "b_01": "b"}))


def videos(house: House, name: str, damage: Callable[[Path], object]) -> str:
    """A stranger's clips, but one."""
    if not (house.folder / name).exists():
        shutil.copytree(house.folder / "a" / "videos", house.folder / name)
        damage(house.folder / name / "1" / "red_02.mp4")
    return name


def shorter(frames: int) -> Callable[[Path], object]:
    return lambda path: write_videos(path.parent, [path.name], frames=frames)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:700])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("uneven", shorter(12), r"uneven: \w+ has 1[26] frames, \w+ 1[26]: cmvq-styleganv takes all of a clip"),
        ("short", shorter(8), r"short/1/red_02.mp4': the clip has 8 frames: expected 10 or more"),
        ("lost", Path.unlink, r"1 of 10 videos are not in \S+lost: 1/red_02.mp4 \(looked for {sample}/{id}.mp4"),
        ("damaged", truncated, r"damaged/1/red_02.mp4"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_measured_are_named(name, damage, message, house, tmp_path, capsys):
    assert main(files(house, tmp_path / "run", *house.measured, videos=videos(house, name, damage))) == 2
    said = said_by(capsys)
    assert re.search(message, said), said
    assert [line for line in said.splitlines() if not line.startswith("ivmix evaluate: warning")] == [
        said.splitlines()[-1]
    ]
    assert not (tmp_path / "run" / "report.json").exists()
    assert list((tmp_path / "run").rglob("*.tmp")) == []


BAD: dict[str, tuple[Callable[[House], list[str]], str]] = {
    "other network": (
        lambda h: ["--real", f"{PROTOCOL}={other_features(h, extractor='i3d')}"],
        "real cmvq-styleganv: its features name extractor 'i3d', clips are measured by 'cmvq-styleganv': expected one"),
    "other weights": (
        lambda h: ["--real", f"{PROTOCOL}={other_features(h, extractor=PROTOCOL, weights='5f3a')}"],
        "real cmvq-styleganv: its features name weights '5f3a'"),
    "other length": (
        lambda h: ["--real", f"{PROTOCOL}={h.folder}/short.npy"], "features of length 5"),
    "long id": (lambda h: ["--prompts", prompts(h, "x" * 252)], "has 256 bytes, and a name 255 at most"),
    "path as id": (lambda h: ["--prompts", prompts(h, "../x")], "id '../x' holds a / or a \\"),
    "control as id": (lambda h: ["--prompts", prompts(h, "a\x07b")], "control characters"),
    "ids by case": (lambda h: ["--prompts", prompts(h, "B_01")], "would lie where another does"),
    "one prompt": (lambda h: ["--clips", "1"], "clips=1: expected 2 to 5"),
    "no samples": (lambda h: ["--seeds", "0"], "samples (--seeds)=0: expected 1 or more"),
    "endless samples": (lambda h: ["--seeds", "99999999999999"], "=99999999999999: expected 1 to 10000"),
    "no batch": (lambda h: ["--batch-size", "0"], "batch_size=0: expected 1 or more"),
    "no time": (lambda h: ["--hours", "0"], "hours=0.0: expected more than 0"),
    "no protocol": (lambda h: ["--extractor", "fvd=x.pt"], "--extractor fvd=x.pt: expected PROTOCOL=FILE with one of"),
    "not its protocol": (
        lambda h: ["--extractor", f"cd-fvd-i3d={h.folder}/i3d_torchscript.pt"],
        "--extractor cd-fvd-i3d: small is measured by cmvq-styleganv"),
    "no file of weights": (lambda h: ["--extractor", f"{PROTOCOL}={h.folder}/none.pt"], "none.pt"),
    "not its features": (
        lambda h: ["--real", f"cd-fvd-i3d={h.folder}/short.npy"], "--real cd-fvd-i3d: small is measured by cmvq-styl"),
    "not its pool": (
        lambda h: ["--pool", f"cd-fvd-i3d={h.folder}/short.npy"], "--pool cd-fvd-i3d: small is measured by cmvq-styl"),
    "no folder": (lambda h: ["--real", "nowhere"], "--real nowhere: no such folder; expected one of videos, or"),
    "two folders": (lambda h: ["--real", str(h.folder)], "--real names 2 folders: expected one"),
    "words for none": (lambda h: ["--vocabulary", f"{h.folder}/vocab.txt"], "no --extractor reads captions"),
    "eps for none": (lambda h: ["--bn-eps", "1e-3"], "--bn-eps 0.001: no --extractor is an I3D that has it"),
    "one folder twice": (lambda h: ["--videos", f"{h.folder}/a/videos"], "expected folders whose paths differ"),
    "sprites' references": (lambda h: ["--references", "4"], "--references is of the sprite world"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_one_line_before_anything_is_computed(case, house, tmp_path, capsys):
    more, message = BAD[case]
    np.save(house.folder / "short.npy", np.random.default_rng(0).normal(size=(REAL, 5)))
    measured = house.measured
    if any(part in case for part in ("other ", "no file")):
        measured = measured[2:] if "other" in case else []
    status = main(files(house, tmp_path / "run", *measured, *more(house)))
    said = said_by(capsys)
    assert (status, said.count("\n")) == (2, 1), said
    assert said.startswith("ivmix evaluate: error: ")
    assert message in said, said
    if case != "other length":  # which is known when clips were measured
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "ucf"], "benchmark 'ucf': expected one of ucf101, msrvtt, chronomagic-150, chrono"),
        (["--benchmark", "ucf101", "--videos", "."], "prompts: give its path by --prompts: classInd.txt"),
        (["--benchmark", "{house}/away.json", "--videos", "."], "prompts cannot be had (http://127.0.0.1:9/prompts"),
        (["--hours", "1"], "--hours is of public benchmarks: name one by --benchmark"),
        (["--videos", "."], "--videos is of public benchmarks"),
        (["--dry-run"], "--dry-run is of public benchmarks"),
        (["--benchmark", "{house}/small.json", "--videos", "{house}/a/videos"], "nothing measures these videos: name"),
        (["--benchmark", "{house}/cm.json", "--videos", "{house}/a/videos", "--prompts", "{house}/cm.csv", "--real",
          "{house}/real", "--extractor", "chronomagic-umt={house}/umt"], "names no real videos: give --real PROTOCOL="),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_line(arguments, message, house, tmp_path, capsys):
    away = {"prompts": {"file": {"source": "http://127.0.0.1:9/prompts.csv"}, "format": "table"}}
    write_description(house.folder / "away.json", **away)
    (house.folder / "cm.json").write_text('{"format": 1, "name": "cm", "from": "chronomagic-150"}')
    rows = "\n".join(f"{id},{text}" for id, text in CAPTIONS.items())
    (house.folder / "cm.csv").write_text(f"videoid,name\n{rows}\n")
    if not (house.folder / "umt").exists():
        write_umt(house.folder / "umt")
    write_videos(house.folder / "a" / "videos" / "3", [f"{id}.mp4" for id in CAPTIONS])
    given = [one.format(house=house.folder) for one in arguments]
    assert main(["evaluate", "-o", str(tmp_path / "run"), "--quiet", *given]) == 2
    said = [line for line in said_by(capsys).splitlines() if ": warning: " not in line]
    assert len(said) == 1
    assert message in said[0], said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--extractor", f"{PROTOCOL}=none.pt"], f"--extractor {PROTOCOL}: no file or folder none.pt"),
        (["--real", f"{PROTOCOL}=none.pt"], f"--real {PROTOCOL}: no file or folder none.pt"),
        (["--prompts", "none.csv"], "prompts: no file or folder none.csv"),
        (["--clips", "1"], "clips=1: expected 2 to 5"),
    ],
)
def test_what_is_missing_is_said_before_a_pair_is_fetched(more, message, house, tmp_path, capsys):
    """The pair is nobody's."""
    command = ["--benchmark", str(house.folder / "small.json"), "-o", str(tmp_path / "run"), "--quiet"]
    assert main(["evaluate", "--pair", str(tmp_path / "no-pair"), *command, *more]) == 2
    assert message in said_by(capsys)


def test_arms_that_cannot_be_drawn_are_refused_before_anything_is(house, tmp_path, capsys):
    arms = tmp_path / "arms.json"
    eight = write_pair(tmp_path / "eight", frames=8)
    for change, more, message in (
        ({"strength": 0.5}, [], "arm 'two steps': strength=0.5: a benchmark of prompts brings no clips"),
        ({"steps": 0}, [], "arm 'two steps': steps=0"),
        ({"frames": 0}, [], "frames=0"),
        ({}, ["--frames", "8"], "arm 'video model alone': the clip has 8 frames: expected 10 or more (--frames)"),
        ({}, ["--pair", str(eight)], "arm 'video model alone': the clip has 8 frames: expected 10 or more"),
    ):
        arms.write_text(json.dumps([ARMS[0], {**ARMS[1], "options": ARMS[1]["options"] | change}]))
        assert main(house.command(tmp_path / "run", "--arms", str(arms), *more)) == 2
        said = said_by(capsys)
        assert message in said, said
        assert said.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_a_folder_of_another_evaluation_is_refused(house, tmp_path, capsys):
    for name, text in (("sprites", '{"schema": 5}'), ("other", '{"benchmark": "ucf101"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(text)
        assert main(files(house, tmp_path / name, *house.measured)) == 2
        said = said_by(capsys)
        assert "report.json is of another evaluation than 'small': give another folder with -o" in said
        assert (tmp_path / name / "report.json").read_text() == text


def test_a_network_that_is_none_is_refused(house, tmp_path, capsys):
    write_script(tmp_path / "script.pt")
    (tmp_path / "script.pt").write_bytes((tmp_path / "script.pt").read_bytes()[:100])
    given = ["--extractor", f"{PROTOCOL}={tmp_path}/script.pt"]
    assert main(files(house, tmp_path / "run", *given)) == 2
    assert "script.pt is no TorchScript file" in said_by(capsys)
    assert not (tmp_path / "run").exists()
