"""Jobs: the same clips whoever computes them and however often they are stopped; nothing is mixed."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ivmix.evaluation import jobs as module
from ivmix.evaluation.arms import Arm
from ivmix.evaluation.design import Design
from ivmix.evaluation.jobs import (
    all_jobs,
    collect,
    pending,
)
from ivmix.evaluation.parts import read_metadata
from ivmix.pairs.pair import fingerprint
from ivmix.sprites.truth import TRUTHS, Truth
from ivmix.sprites.world import balanced_captions

CRISP = Truth("crisp clips")
ARMS = (CRISP, Arm("video model alone", {"sampler": "ddim", "steps": 1}))
DESIGN, PROMPTS = Design(clips=3, repeats=2, batch_size=2), balanced_captions()


def compute(maker, arms, design, folder, worker=0, workers=1):
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    jobs = all_jobs(arms, design, PROMPTS)
    todo = [job for job in pending(jobs, folder, maker) if job.turn % workers == worker]
    for job in todo:
        maker.compute(job, folder)
    return todo


def contents(folder: Path) -> dict[str, tuple]:
    """Everything a part holds but the time it took, bytes for tensors."""
    found = {}
    for path in (folder / "parts").glob("*.safetensors"):
        metadata = read_metadata(path)
        assert metadata is not None
        del metadata["cost"]["seconds"]
        tensors = {name: (t.dtype, t.shape, t.numpy().tobytes()) for name, t in load_file(path).items()}
        found[path.name] = metadata, tensors
    return found


@pytest.fixture(scope="module")
def whole(maker, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    compute(maker, ARMS, DESIGN, folder)
    return folder


@pytest.mark.parametrize("workers", range(1, 7))
@pytest.mark.parametrize("arms", range(1, 6))
def test_workers_share_all_jobs_and_every_arm_evenly(workers, arms):
    jobs = all_jobs([Truth(f"arm {k}") for k in range(arms)], Design(clips=37, repeats=1, batch_size=2), PROMPTS)
    shares = [[job for job in jobs if job.turn % workers == w] for w in range(workers)]
    assert Counter(id(job) for share in shares for job in share) == Counter(map(id, jobs))
    counts = [[sum(job.arm.label == f"arm {k}" for job in share) for share in shares] for k in range(arms)]
    assert all(max(row) - min(row) <= 1 for row in counts)


def test_parts_have_the_same_bits_whoever_computes_them(maker, whole, tmp_path):
    for worker in (2, 0, 1):
        compute(maker, ARMS, DESIGN, tmp_path, worker, workers=3)
    assert contents(tmp_path) == contents(whole)


@pytest.mark.slow
def test_a_run_whose_disk_is_full_keeps_what_there_is_and_goes_on_to_the_same_bits(maker, whole, tmp_path):
    """Every file may have 1000 bytes: the write stops halfway, and nothing of it is left."""
    done = compute(maker, ARMS[:1], DESIGN, tmp_path)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*: File too large; .* the same command goes on from it"):
            compute(maker, ARMS, DESIGN, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert len(contents(tmp_path)) == len(list((tmp_path / "parts").iterdir())) == len(done)
    assert len(compute(maker, ARMS, DESIGN, tmp_path)) == len(all_jobs(ARMS, DESIGN, PROMPTS)) - len(done)
    assert contents(tmp_path) == contents(whole)
    assert compute(maker, ARMS, DESIGN, tmp_path) == []


def test_parts_may_be_read_by_whom_the_umask_lets(whole, tmp_path):
    (tmp_path / "any").touch()
    assert {path.stat().st_mode for path in (whole / "parts").iterdir()} == {(tmp_path / "any").stat().st_mode}


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lambda b: b[:5000], lambda b: b[:-1], lambda b: b"", lambda b: b"<html>" * 99])
def test_a_broken_part_is_computed_again(maker, whole, tmp_path, damage):
    compute(maker, [CRISP], DESIGN, tmp_path)
    path = tmp_path / "parts" / "crisp-clips-000002.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert [job.rows.start for job in compute(maker, [CRISP], DESIGN, tmp_path)] == [2]
    assert contents(tmp_path).items() <= contents(whole).items()


def other_weights(maker):
    ours = maker.benchmark.networks["judge"]
    judge = type(ours)(ours.config)
    judge.load_state_dict({name: value + (name == "head.bias") for name, value in ours.state_dict().items()})
    return replace(maker, weights=fingerprint(maker.model.pair, judge=judge))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, a, d: (m, [replace(a[1], options={"sampler": "ddim", "steps": 2})], d), "steps 1, now 2"),
        (lambda m, a, d: (m, [replace(a[1], options={"sampler": "image", "steps": 1})], d), '"ddim", now "image"'),
        (lambda m, a, d: (m, a, replace(d, seed=500)), r"seeds \[1000, 1001\], now \[500, 501\]"),
        (lambda m, a, d: (m, a, replace(d, batch_size=3)), "batch 2, now 3"),
        (lambda m, a, d: (m, a, replace(d, clips=2)), "captions"),
        (lambda m, a, d: (other_weights(m), a, d), "weights"),
        (lambda m, a, d: (m, [replace(a[1], label="Video: model alone")], d), "arm"),
    ],
)
def test_parts_of_other_settings_are_refused_naming_what_differs_and_a_remedy(maker, whole, change, message):
    maker, arms, design = change(maker, ARMS, DESIGN)
    before = contents(whole)
    with pytest.raises(ValueError, match=message) as caught:
        pending(all_jobs(arms, design, PROMPTS), whole, maker)
    assert "another folder with -o" in str(caught.value)
    assert contents(whole) == before


def test_a_part_from_an_older_ivmix_or_torch_is_refused(maker, whole, monkeypatch):
    monkeypatch.setattr(module, "__version__", "99.0")
    with pytest.raises(ValueError, match=r'ivmix ".*", now "99\.0"'):
        pending(all_jobs(ARMS, DESIGN, PROMPTS), whole, maker)


def test_more_clips_of_whole_rounds_of_captions_keep_the_parts_there_are(maker):
    """With a multiple of 64 captions a clip's index decides its caption and noise, whatever the number of clips."""
    few, many = (all_jobs([CRISP], Design(clips=c, repeats=2), PROMPTS) for c in (64, 128))
    assert all(maker.settings(a) == maker.settings(b) for a, b in zip(few, many[: len(few)], strict=True))


def test_collected_clips_are_in_the_order_of_their_index(maker, whole):
    crisp, video = collect(all_jobs(ARMS, DESIGN, PROMPTS), whole)
    assert (crisp.arm, video.arm) == ARMS
    assert crisp.features.shape == (6, 256)
    for i in range(6):
        captions, seeds = DESIGN.captions(range(i, i + 1), PROMPTS), DESIGN.seeds(range(i, i + 1))
        drawn = CRISP.draw(maker.model, captions, seeds).frames
        torch.testing.assert_close(crisp.features[i : i + 1], maker.benchmark.features(drawn))
        assert crisp.columns["sharpness"][i] == pytest.approx(
            maker.benchmark.measure(drawn, captions, 8)["sharpness"][0]
        )
    assert (dict(video.nfe), dict(video.forwards)) == ({"video": 1}, {"video": 2})
    assert video.seconds > 0


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits_with_real_processes(tmp_path):
    arms = [{"label": f"ddim {n}", "options": {"sampler": "ddim", "steps": n}} for n in (2, 3)]
    (tmp_path / "arms.json").write_text(json.dumps(arms))
    common = ["--arms", str(tmp_path / "arms.json"), "--clips", "4", "--seeds", "2", "--batch-size", "1", "--quiet"]

    def command(name):
        return [sys.executable, "-m", "ivmix", "evaluate", "-o", str(tmp_path / name), "--references", "64", *common]

    subprocess.run(command("unbroken"), check=True)
    for parts in (3, 12, 25):  # three kills, each in the middle of one run's work
        with subprocess.Popen(command("broken")) as process:
            while len(list((tmp_path / "broken" / "parts").glob("*.safetensors"))) < parts:
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "broken" / "report.json").exists()
    subprocess.run(command("broken"), check=True)
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")
    assert len(contents(tmp_path / "broken")) == 1 + (len(TRUTHS) + len(arms)) * 8
    assert timeless(tmp_path / "broken") == timeless(tmp_path / "unbroken")


@pytest.mark.slow
def test_any_world_size_gives_the_same_bits_and_numbers_with_real_processes(tmp_path):
    arms = [{"label": n, "options": {"sampler": n, "steps": 2}} for n in ("ddim", "composite")]
    (tmp_path / "arms.json").write_text(json.dumps(arms))
    common = ["-m", "ivmix", "evaluate", "--arms", str(tmp_path / "arms.json"), "--clips", "5", "--seeds", "2",
              "--batch-size", "2", "--references", "128", "--quiet"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for world in (0, 1, 2):
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)] if world else []
        command = [sys.executable, *torchrun, *common, "-o", str(tmp_path / str(world))]
        subprocess.run(command, check=True, env=environment)
    for world in ("1", "2"):
        assert contents(tmp_path / world) == contents(tmp_path / "0")
        assert timeless(tmp_path / world) == timeless(tmp_path / "0")


def timeless(folder: Path) -> dict:
    """A report without the seconds."""
    report = json.loads((folder / "report.json").read_text())
    return report | {"arms": [row | {"seconds_per_clip": 0} for row in report["arms"]]}
