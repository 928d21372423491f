"""Runs of a benchmark: the same bytes whoever computes them and however often they are stopped; nothing is mixed."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from small_benchmark import (
    CAPTIONS,
    PROTOCOL,
    contents,
    report_of,
    write_description,
    write_prompts,
    write_script,
    write_videos,
)

from ivmix.benchmarks.clips import Sampled
from ivmix.benchmarks.run import NothingYet, evaluate
from ivmix.evaluation.features import FeatureSet
from ivmix.media import read_clip

ROWS = ("video-model-alone", "two-steps")


def copy(whole: Path, folder: Path) -> Path:
    return shutil.copytree(whole, folder)  # the times of files with them


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for name in ("parts", "videos") for path in (folder / name).rglob("*.*")}


def test_a_second_call_computes_nothing_and_leaves_the_same_bytes(task_of, whole):
    task = task_of(whole)
    assert task.check() == []
    before, report = stamps(whole), (whole / "report.json").read_bytes()
    report_of(task)
    assert stamps(whole) == before
    assert (whole / "report.json").read_bytes() == report


def forked(work: Callable[[], object], environment: Mapping[str, str] | None = None) -> int:
    """A process of this one's that works and ends."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        os.environ.update(environment or {})
        work()
        status = 0
    finally:
        os._exit(status)


def count(folder: Path, pattern: str) -> int:
    return len(list(folder.glob(pattern)))


MOMENTS: Mapping[str, Callable[[Path], bool]] = {
    "the reference is in part": lambda f: count(f, f"parts/{PROTOCOL}/real-*") > 0,
    "a video is there, its part is not": lambda f: count(f, "videos/*/1/*.mp4") > 0,
    "clips are drawn, not measured": lambda f: count(f, "parts/clips/[!.]*") > 1,
    "features are there": lambda f: count(f, f"parts/{PROTOCOL}/video-*") > 1,
    "half is there": lambda f: count(f, f"parts/{PROTOCOL}/two-*") > 1,
    "all is drawn": lambda f: count(f, "parts/clips/[!.]*") == 12,
    "files are read again": lambda f: count(f, f"parts/{PROTOCOL}/*-files-*") > 1,
    "a report is written": lambda f: (f / "report.json").exists(),
}


@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on_in_two_processes_to_the_same_bytes(task_of, whole, tmp_path, free_port):
    folder = tmp_path / "run"
    for moment, is_now in MOMENTS.items():
        pid = forked(lambda: report_of(task_of(folder)))
        end = time.monotonic() + 60
        while not is_now(folder):
            assert os.waitpid(pid, os.WNOHANG) == (0, 0), moment
            assert time.monotonic() < end, moment
            time.sleep(0.0005)
        os.kill(pid, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    for lost in (f"clips/{ROWS[0]}-2-000002", f"{PROTOCOL}/{ROWS[0]}-1-000000", f"{PROTOCOL}/{ROWS[1]}-1-000002"):
        (folder / "parts" / f"{lost}.safetensors").unlink()
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port)}
    ranks = [
        forked(lambda run=run: run(task_of(folder)), {**common, "RANK": str(rank)})
        for rank, run in enumerate((report_of, evaluate))
    ]
    assert [os.waitpid(pid, 0)[1] for pid in ranks] == [0, 0]
    assert contents(folder) == contents(whole)


# --- what is not the same ---------------------------------------------------------------------------------------------


def other_prompts(house, tmp_path):
    return {"prompts": str(write_prompts(tmp_path / "other.csv", CAPTIONS | {"red_01": "a red circle moving right"}))}


def other_script(house, tmp_path):
    (tmp_path / "x").mkdir()
    return {"extractors": {PROTOCOL: str(write_script(tmp_path / "x" / "i3d_torchscript.pt", 5))}}


def other_real(house, tmp_path):
    real = shutil.copytree(house.folder / "real", tmp_path / "real")
    write_videos(real, ["v_03.mp4"], seed=9)
    return {"real": (str(real),)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda *_: {"seed": 1}, r"video-model-alone-1-000000.safetensors was made with seeds \[\d+, \d+…, now \["),
        (lambda *_: {"batch_size": 3}, "batch 2, now 3"),
        (lambda *_: {"frames": 12}, "frames null, now 12"),
        (other_prompts, "captions"),
        (other_script, r"i3d_torchscript.pt \"\w+…, now \""),
        (other_real, "real-1-000000.safetensors was made with files"),
    ],
)
def test_other_settings_are_refused_naming_what_differs(change, message, house, task_of, whole, tmp_path):
    before = stamps(whole)
    with pytest.raises(ValueError, match=message) as caught:
        evaluate(task_of(whole, **change(house, tmp_path)))
    assert "another folder with -o" in str(caught.value)
    assert stamps(whole) == before


def test_other_weights_are_refused(pair, task_of, whole):
    bias = pair.pair.video.unet.conv_out.bias
    with torch.no_grad():
        bias += 1
    try:
        with pytest.raises(ValueError, match=r'weights "\w+", now "'):
            task_of(whole).check()
    finally:
        with torch.no_grad():
            bias -= 1


# --- parts of a run ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_first_prompts_are_a_part_of_all_of_them_which_shares_make_whole(task_of, whole, tmp_path):
    few = report_of(task_of(tmp_path, clips=3))
    assert few.complete == (6, 10)
    assert "A part: 6 of its 10 clips a row" in (tmp_path / "report.md").read_text()
    some, every = contents(tmp_path), contents(whole)
    parts = [name for name in some if name.startswith(("parts", "videos"))]
    assert set(parts) <= set(every)
    assert all(some[name] == every[name] for name in parts)
    features, all_features = (
        FeatureSet.load(folder / "features" / PROTOCOL / f"{ROWS[0]}-2.safetensors").features
        for folder in (tmp_path, whole)
    )
    assert torch.equal(features, all_features[:3])
    report = (tmp_path / "report.json").read_bytes()
    for share in ((1, 2), (0, 2)):
        assert evaluate(task_of(tmp_path), share=share) is None
    assert (tmp_path / "report.json").read_bytes() == report  # a share writes none
    assert task_of(tmp_path).check() == []
    report_of(task_of(tmp_path))
    assert contents(tmp_path) == every


def test_an_end_leaves_the_first_clips_of_all_rows_alike(task_of, whole, tmp_path):
    with pytest.raises(NothingYet, match="no batch of all rows yet: give more hours"):
        report_of(task_of(tmp_path / "none"), hours=1e-9)
    assert count(tmp_path / "none", "parts/*/*") == 0
    copy(whole, tmp_path / "run")
    for lost in (f"{ROWS[1]}-1-000002", f"{ROWS[0]}-2-000000"):
        for path in (tmp_path / "run" / "parts").glob(f"*/{lost}.safetensors"):
            path.unlink()
    found = report_of(task_of(tmp_path / "run"), hours=1e-9)
    assert found.complete == (2, 10)
    assert [result.main("fvd_styleganv").fake for result in found.results] == [(2,), (2,)]
    assert report_of(task_of(tmp_path / "run")).complete == (10, 10)
    with pytest.raises(ValueError, match=r"hours=0: expected more than 0"):
        evaluate(task_of(whole), hours=0)


def test_a_reference_that_is_not_complete_is_no_reference(task_of, whole, tmp_path):
    copy(whole, tmp_path / "run")
    (tmp_path / "run" / "parts" / PROTOCOL / "real-1-000000.safetensors").unlink()
    found = report_of(task_of(tmp_path / "run"), hours=1e-9)
    assert found.warnings == ("fvd_styleganv is not measured: the reference is not complete yet",)
    assert [dict(result.distances) for result in found.results] == [{}, {}]


def test_a_broken_part_is_made_again_and_its_files_are_read_again(task_of, whole, tmp_path):
    copy(whole, tmp_path / "run")
    part = tmp_path / "run" / "parts" / "clips" / f"{ROWS[0]}-1-000002.safetensors"
    part.write_bytes(part.read_bytes()[:-1])
    assert [(job.clips.label, job.batch.name) for job in task_of(tmp_path / "run").check()] == [
        ("video model alone", "1-000002")
    ]
    report_of(task_of(tmp_path / "run"))
    assert contents(tmp_path / "run") == contents(whole)


def test_files_that_are_gone_are_missed_by_name_and_nothing_else(task_of, whole, tmp_path):
    copy(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "videos")
    found = report_of(task_of(tmp_path / "run"))
    assert (found.written, found.complete) == (None, (10, 10))
    assert f"not known: some of {tmp_path}/run/videos/{ROWS[0]} are gone" in found.warnings[-1]


def test_files_are_named_by_prompts_where_the_layout_says_so_and_need_no_network(house, task_of, tmp_path):
    write_description(house.folder / "vbench.json", name="vbench", layout="{prompt}-{index}.mp4")
    found = report_of(task_of(tmp_path, "vbench.json", clips=2, samples=1, real=(), extractors={}))
    written = sorted(path.name for path in (tmp_path / "videos" / ROWS[0]).iterdir())
    assert len(written) == 2
    assert {name.removesuffix("-0.mp4") for name in written} < set(CAPTIONS.values())
    assert found.warnings == ("fvd_styleganv is not measured: --extractor cmvq-styleganv=FILE names its network",)


# --- features alone ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_features_alone_give_the_same_report(task_of, whole, tmp_path):
    """Also of clips that a kill left before they were forgotten, or that a run before was to keep."""
    report_of(task_of(tmp_path / "few", clips=2, samples=1, keep="features"))
    assert [one[1] for name, one in contents(tmp_path / "few").items() if name.startswith("parts/clips")] == [{}, {}]
    copy(whole, tmp_path / "run")
    report_of(task_of(tmp_path / "run", keep="features"))
    found, expected = contents(tmp_path / "run"), contents(whole)
    for name in [name for name in expected if name.startswith("parts/clips")]:
        assert (found.pop(name)[1], len(expected.pop(name)[1])) == ({}, 1)
    assert found == expected
    assert task_of(tmp_path / "run", keep="features").check() == []


def test_clips_that_were_forgotten_are_not_measured_otherwise_and_one_is_told_what_to_do(
    house, task_of, whole, tmp_path
):
    copy(whole, tmp_path / "run")
    report_of(task_of(tmp_path / "run", keep="features"))
    shutil.rmtree(tmp_path / "run" / "parts" / PROTOCOL)
    with pytest.raises(ValueError, match=r"holds no clips any more, as --keep features said: measure") as said:
        evaluate(task_of(tmp_path / "run"))
    assert count(tmp_path / "run", "parts/*/real-*") == 0
    files = str(said.value).partition("--videos ")[2].split()[0]
    assert report_of(task_of(tmp_path / "files", videos=(files,))).complete == (10, 10)


# --- clips, files and features ----------------------------------------------------------------------------------------


def test_clips_are_within_a_grey_level_whatever_the_batch(task_of, whole, tmp_path):
    report_of(task_of(tmp_path, batch_size=5, samples=1, real=(), extractors={}))
    parts = [f"parts/clips/{ROWS[1]}-1-00000{k}.safetensors" for k in (0, 2, 4)]
    together = load_file(tmp_path / parts[0])["frames"].int()
    apart = torch.cat([load_file(whole / part)["frames"] for part in parts]).int()
    assert together.shape == apart.shape == (5, 10, 16, 16, 3)
    assert (together - apart).abs().max() <= 1


def test_features_have_the_same_bits_whatever_the_batch(task_of, whole, tmp_path):
    videos = (str(whole / "videos" / ROWS[0]),)
    for size in (1, 3):
        report_of(task_of(tmp_path / str(size), videos=videos, batch_size=size, real=()))
    one, other = [
        {name: kept for name, kept in contents(tmp_path / size).items() if name.startswith("features")} for size in "13"
    ]
    assert sorted(Path(name).stem for name in one) == [f"{ROWS[0]}-1", f"{ROWS[0]}-2"]
    assert one == other


def test_files_of_our_own_give_what_the_report_says_that_writing_changes(task_of, whole, tmp_path):
    found = report_of(task_of(tmp_path, videos=(str(whole / "videos" / ROWS[0]),)))
    written = report_of(task_of(whole)).written
    lossless, files = written.distances["fvd_styleganv"]
    assert found.results[0].distances["fvd_styleganv"]["pooled"].full == pytest.approx(files, rel=1e-12)
    ours = [FeatureSet.load(whole / "features" / PROTOCOL / f"{ROWS[0]}-{k}.safetensors").features for k in (1, 2)]
    theirs = [FeatureSet.load(tmp_path / "features" / PROTOCOL / f"{ROWS[0]}-{k}.safetensors").features for k in (1, 2)]
    change = (torch.cat(theirs) - torch.cat(ours)).norm(dim=1).mean() / torch.cat(ours).norm(dim=1).mean()
    assert written.features[PROTOCOL] == pytest.approx(float(change))
    assert 0 < change < 0.1
    assert lossless != files
    assert found.written is None


def test_the_frames_that_are_drawn_are_those_of_the_files(task_of, whole):
    """But for what a codec loses."""
    task = task_of(whole)
    row = task.rows[0]
    assert isinstance(row, Sampled)
    batch = task.plan.batches[0]
    for clip, prompt in zip(row.frames(batch), batch.prompts, strict=True):
        written = read_clip(row.video(prompt, 1)).frames
        step = len(written[0]) // len(clip[0])  # small frames are enlarged
        assert np.abs(written[:, ::step, ::step].astype(int) - clip).mean() < 8


def test_what_made_a_part_is_in_it(whole):
    with safe_open(whole / "parts" / PROTOCOL / f"{ROWS[0]}-1-000000.safetensors", "pt") as file:
        said: Any = file.metadata()["settings"]
    for word in ("video model alone", "captions", "seeds", "sampling", "bn_eps", "cmvq-styleganv"):
        assert word in said


def test_rows_whose_files_would_be_one_are_refused(task_of, whole, tmp_path):
    task = task_of(whole)
    first, second = task.rows
    twin = replace(second, arm=replace(second.arm, label="Video model alone (files)"))
    with pytest.raises(ValueError, match="give them labels that differ more"):
        replace(task, rows=[first, twin])
