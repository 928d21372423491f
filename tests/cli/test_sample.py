"""`ivmix sample` beyond one prompt: several clips, clips from clips, records, what is written where."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ivmix.cli import main
from ivmix.devices import find_device
from ivmix.media import read_clip, to_frames, write_video
from ivmix.pairs.description import EMBEDDED
from ivmix.sprites.world import degrade, random_scenes, render

RED, BLUE = "a red circle moving left", "a blue cross moving up"
QUICK = ["--sampler", "ddim", "--steps", "3", "--frames", "2", "--size", "16x16"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def record(path: Path) -> dict:
    return json.loads(Path(f"{path}.json").read_text())


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """`run("out.webp", …)` in an empty folder: the status and what was said."""
    monkeypatch.chdir(tmp_path)

    def sample(output: str, *arguments: str) -> tuple[int, str]:
        status = main(["sample", "-o", output, *arguments])
        return status, capsys.readouterr().err

    return sample


@pytest.fixture(scope="module")
def soft(tmp_path_factory) -> Path:
    """A soft, watermarked clip of the world, as a file."""
    path = tmp_path_factory.mktemp("soft") / "soft.mp4"
    write_video(to_frames(degrade(render(random_scenes(1, torch.Generator().manual_seed(7), [RED]))))[0], path)
    return path


# --- prompts as people write them -----------------------------------------------------------------------------------


def test_white_space_makes_no_other_clip_and_the_record_has_the_text_that_was_read(run, tmp_path):
    assert run("out.webp", RED, *QUICK, "--quiet") == (0, "")
    assert run("spaced.webp", "\ta red\u00a0circle\n\nmoving\u3000left ", *QUICK, "--quiet") == (0, "")
    assert (tmp_path / "spaced.webp").read_bytes() == (tmp_path / "out.webp").read_bytes()
    assert record(tmp_path / "spaced.webp")["prompts"] == [RED]


def test_raw_prompts_take_brackets_as_text_and_so_does_their_record(run, tmp_path):
    """By a pair whose word for red has brackets, the clip is that of the pair itself."""
    shutil.copytree(EMBEDDED["sprites"], tmp_path / "pair")
    words = tmp_path / "pair" / "tokenizer" / "tokenizer.json"
    words.write_text(words.read_text().replace('"red"', '"(red:1.3)"'))
    raw = ["--pair", "pair", "a (red:1.3) circle moving left", *QUICK, "--quiet"]
    assert run("out.webp", RED, *QUICK, "--quiet") == (0, "")
    assert run("raw.webp", *raw, "--raw-prompts") == (0, "")
    assert (tmp_path / "raw.webp").read_bytes() == (tmp_path / "out.webp").read_bytes()
    assert record(tmp_path / "raw.webp")["raw_prompts"] is True
    assert run("again.webp", "--from", "raw.webp.json", "--quiet") == (0, "")
    assert (tmp_path / "again.webp").read_bytes() == (tmp_path / "raw.webp").read_bytes()
    for weighted in (["--from", "raw.webp.json", "--no-raw-prompts", "--quiet"], raw):
        status, said = run("not.webp", *weighted)
        assert status == 2
        assert "the prompt 'a (red:1.3) circle moving left' has words outside the vocabulary: 'red'" in said


def test_a_record_that_does_not_say_how_its_solver_ended_is_of_when_all_ended_with_eulers_step(run, tmp_path):
    heun = [RED, *QUICK, "--sampler", "ddim", "--solver", "heun", "--quiet"]
    assert run("euler.webp", *heun, "--end", "euler") == run("slope.webp", *heun) == (0, "")
    assert (tmp_path / "euler.webp").read_bytes() != (tmp_path / "slope.webp").read_bytes()
    for name, end in (("euler", "euler"), ("slope", "ab2")):
        assert record(tmp_path / f"{name}.webp")["sampling"]["end"] == end
        assert run("again.webp", "--from", f"{name}.webp.json", "--quiet") == (0, "")
        assert (tmp_path / "again.webp").read_bytes() == (tmp_path / f"{name}.webp").read_bytes()
    old = record(tmp_path / "euler.webp")
    del old["sampling"]["end"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert run("again.webp", "--from", "old.json", "--quiet") == (0, "")
    assert (tmp_path / "again.webp").read_bytes() == (tmp_path / "euler.webp").read_bytes()


# --- several clips --------------------------------------------------------------------------------------------------


def test_several_prompts_are_numbered_clips_with_a_record_each(run, tmp_path):
    assert run("out.webp", RED, BLUE, "--seed", "5", *QUICK, "--quiet") == (0, "")
    assert names(tmp_path) == ["out-000.webp", "out-000.webp.json", "out-001.webp", "out-001.webp.json"]
    made = [record(tmp_path / f"out-00{k}.webp") for k in (0, 1)]
    assert [(r["prompts"], r["seeds"]) for r in made] == [([RED], [5]), ([BLUE], [6])]


def test_every_clip_of_several_is_made_again_by_its_record_to_the_byte(run, tmp_path):
    run("out.webp", RED, BLUE, *QUICK, "--quiet")
    assert run("again.webp", "--from", "out-001.webp.json", "--quiet")[0] == 0
    assert (tmp_path / "again.webp").read_bytes() == (tmp_path / "out-001.webp").read_bytes()


def test_every_prompt_is_drawn_from_every_seed(run, tmp_path):
    run("out.webp", RED, BLUE, "--seeds", "3,9", *QUICK, "--quiet")
    made = [record(path.with_suffix("")) for path in sorted(tmp_path.glob("*.json"))]
    assert [(r["prompts"][0], r["seeds"][0]) for r in made] == [(RED, 3), (RED, 9), (BLUE, 3), (BLUE, 9)]


def test_a_file_of_prompts_may_say_seeds_and_negative_prompts(run, tmp_path):
    (tmp_path / "p.csv").write_text(f"prompt,seed,negative_prompt\n{RED},7,\n{BLUE},,{RED}\n")
    assert run("out.webp", "--prompts", "p.csv", "--negative-prompt", BLUE, *QUICK, "--quiet")[0] == 0
    made = [record(tmp_path / f"out-00{k}.webp") for k in (0, 1)]
    assert [(r["seeds"], r["negative_prompts"]) for r in made] == [([7], [BLUE]), ([1], [RED])]


def test_batches_draw_what_single_clips_are(run, tmp_path):
    run("one.webp", RED, BLUE, RED, *QUICK, "--quiet")
    run("two.webp", RED, BLUE, RED, *QUICK, "--quiet", "--batch-size", "2")
    for k in range(3):
        one, two = (read_clip(tmp_path / f"{n}-00{k}.webp").frames.astype(int) for n in ("one", "two"))
        assert np.abs(one - two).max() <= 1


def test_a_clip_of_a_batch_is_made_again_by_its_record_to_the_byte_or_alone_if_told(run, tmp_path):
    run("out.webp", RED, BLUE, RED, *QUICK, "--quiet", "--batch-size", "2")
    assert [record(tmp_path / f"out-00{k}.webp")["batch_sizes"] for k in range(3)] == [[2], [2], [1]]
    for k in range(3):
        _, said = run("again.webp", "--from", f"out-00{k}.webp.json")
        assert (tmp_path / "again.webp").read_bytes() == (tmp_path / f"out-00{k}.webp").read_bytes()
        assert record(tmp_path / "again.webp")["batch_sizes"] == record(tmp_path / f"out-00{k}.webp")["batch_sizes"]
        assert ("the record's clip was one of 2: as many run" in said) == (k < 2)
    run("alone.webp", "--from", "out-000.webp.json", "--batch-size", "1", "--quiet")
    assert record(tmp_path / "alone.webp")["batch_sizes"] == [1]


def test_where_and_how_clips_are_drawn_is_said_once_and_not_when_quiet(run):
    said = run("out.webp", RED, BLUE, RED, *QUICK, "--batch-size", "2", "--device", "cpu")[1]
    assert said.count("on cpu in float32, 2 clips at a time\n") == said.count("on cpu") == 1
    assert run("out.webp", RED, *QUICK, "--quiet") == (0, "")


def test_parts_of_frames_are_remembered_by_the_record(run, tmp_path):
    run("out.webp", RED, *QUICK[2:], "--sampler", "image", "--image-frames", "1", "--quiet")
    run("again.webp", "--from", "out.webp.json", "--quiet")
    assert (record(tmp_path / "out.webp")["image_frames"], record(tmp_path / "again.webp")["image_frames"]) == (1, 1)
    assert (tmp_path / "again.webp").read_bytes() == (tmp_path / "out.webp").read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("always:the video model has the clip in windows")
def test_more_frames_than_the_pair_knows_simply_work_and_the_record_draws_the_same_windows(run, tmp_path):
    status, said = run("out.webp", RED, *QUICK[:4], "--frames", "18", "--size", "16x16", "--noise", "freenoise")
    assert status == 0
    assert said.count("the video model has the clip in windows of 8 frames") == 1
    made = record(tmp_path / "out.webp")
    assert [made[name] for name in ("frames", "window", "overlap", "noise")] == [18, 8, 4, "freenoise"]
    assert run("again.webp", "--from", "out.webp.json", "--quiet")[0] == 0
    assert (tmp_path / "again.webp").read_bytes() == (tmp_path / "out.webp").read_bytes()
    run("other.webp", "--from", "out.webp.json", "--quiet", "--window", "6", "--overlap", "0", "--noise", "white")
    other = record(tmp_path / "other.webp")
    assert (other["window"], other["overlap"], "noise" in other) == (6, 0, False)


def test_a_record_of_a_device_that_is_not_here_says_how_to_draw_it_and_is_drawn_so(run, tmp_path):
    run("out.webp", RED, *QUICK, "--quiet", "--device", "cpu")
    (tmp_path / "far.json").write_text(json.dumps(record(tmp_path / "out.webp") | {"device": "cuda:99"}))
    status, said = run("again.webp", "--from", "far.json", "--quiet")
    assert status == 2
    assert said.startswith("ivmix sample: error: far.json: device 'cuda:99': not available here")
    assert said.endswith("--device auto draws it on what is, to a rounding\n")
    assert said.count("\n") == 1
    assert run("again.webp", "--from", "far.json", "--quiet", "--device", "cpu") == (0, "")
    assert (tmp_path / "again.webp").read_bytes() == (tmp_path / "out.webp").read_bytes()
    half = json.loads((tmp_path / "far.json").read_text()) | {"dtype": "float16"}
    (tmp_path / "half.json").write_text(json.dumps(half))
    if find_device("auto").type == "cpu":
        said = run("again.webp", "--from", "half.json", "--quiet")[1]
        assert said.endswith("to a rounding, and --dtype float32, as float16 is slow on a CPU\n")


def test_a_clip_in_place_of_its_record_is_told_which_that_is(run):
    run("out.webp", RED, *QUICK, "--quiet")
    said = run("again.webp", "--from", "out.webp")[1]
    assert said.endswith("error: out.webp is the clip: expected its record, out.webp.json\n")


def test_resume_draws_only_what_is_missing_or_asks_for_something_else(run, tmp_path):
    run("out.webp", RED, BLUE, RED, *QUICK, "--quiet")
    (tmp_path / "out-001.webp").unlink()
    (tmp_path / "out-002.webp").write_bytes((tmp_path / "out-002.webp").read_bytes()[:60])
    before = (tmp_path / "out-000.webp").stat().st_mtime_ns
    status, said = run("out.webp", RED, BLUE, RED, *QUICK, "--resume")
    assert (status, said.count("makes it again")) == (0, 2)
    assert "1 of 3 clips are there already" in said
    assert (tmp_path / "out-000.webp").stat().st_mtime_ns == before
    status, said = run("out.webp", RED, BLUE, RED, *QUICK, "--resume", "--seed", "1")
    assert said.count("makes it again") == 3


def test_resume_draws_a_clip_in_the_batch_that_it_would_have_had(run, tmp_path):
    command = ["out.webp", RED, BLUE, RED, *QUICK, "--quiet", "--batch-size", "2"]
    run(*command)
    before, made = [(tmp_path / f"out-00{k}.webp").read_bytes() for k in range(3)], record(tmp_path / "out-001.webp")
    for name in ("out-001.webp", "out-002.webp"):
        (tmp_path / name).unlink()
    assert run(*command, "--resume") == (0, "")
    assert [(tmp_path / f"out-00{k}.webp").read_bytes() for k in range(3)] == before
    assert record(tmp_path / "out-001.webp") | {"seconds": 0} == made | {"seconds": 0}
    assert made["batch_places"] == [1]


@pytest.mark.slow
def test_a_killed_run_of_several_clips_goes_on_where_it_stopped(tmp_path):
    command = [sys.executable, "-m", "ivmix", "sample", "--prompts", "p.txt", "-o", "out.webp", *QUICK, "--resume"]
    (tmp_path / "p.txt").write_text("\n".join([RED] * 200))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, env=environment) as process:
        while not (tmp_path / "out-003.webp").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    there = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out-00[0-2].webp")}
    (tmp_path / "p.txt").write_text("\n".join([RED] * 6))
    done = subprocess.run([*command, "--quiet"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert done.stderr == b""
    assert {f"out-00{k}.webp" for k in range(6)} <= set(names(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in there} == there


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ivmix"]
ALONE = [sys.executable, "-m", "ivmix"]


def shared(place: Path, launched: list[str], *more: str) -> tuple[dict[str, object], str]:
    """What a folder holds once five clips were drawn there, two at a time, records without their seconds; what was
    said."""
    place.mkdir(exist_ok=True)
    (place / "p.txt").write_text("\n".join([RED, BLUE, RED, BLUE, RED]))
    words = ["sample", "--prompts", "p.txt", "-o", "out.webp", *QUICK, "--batch-size", "2", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launched, *words], cwd=place, env=environment, check=True, capture_output=True, text=True)
    made: dict[str, object] = {path.name: path.read_bytes() for path in place.glob("out-*.webp")}
    records = {path.name: json.loads(path.read_text()) | {"seconds": 0} for path in place.glob("out-*.json")}
    return made | records, done.stderr


@pytest.mark.slow
def test_two_processes_draw_what_one_does_to_the_byte_and_only_one_shows_it(tmp_path):
    alone, _ = shared(tmp_path / "alone", ALONE)
    both, said = shared(tmp_path / "both", TORCHRUN, "--no-clobber")
    assert len(alone) == 10
    assert both == alone
    assert (said.count("on cpu in float32, 2 clips at a time"), said.count("makes it again")) == (1, 3)
    assert "5 clips are there, shared by 2 processes" in said


@pytest.mark.slow
def test_two_processes_go_on_where_one_was_killed(tmp_path):
    alone, _ = shared(tmp_path / "alone", ALONE)
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "p.txt").write_text("\n".join([RED, BLUE] * 200))
    words = ["sample", "--prompts", "p.txt", "-o", "out.webp", *QUICK, "--batch-size", "2", "--resume", "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*TORCHRUN, *words], cwd=tmp_path / "both", env=environment, stderr=subprocess.DEVNULL
    ) as process:
        while not (tmp_path / "both" / "out-003.webp.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
        os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    assert process.returncode != 0
    there = sorted(path.stat().st_mtime_ns for path in (tmp_path / "both").glob("out-00[0-3].webp"))
    for path in (tmp_path / "both").iterdir():
        if path.name != "p.txt" and not path.name.startswith(tuple(f"out-00{k}." for k in range(4))):
            assert path.suffix == ".json" or len(read_clip(path).frames) == 2  # nothing is half-written
            path.unlink()
    both, _ = shared(tmp_path / "both", TORCHRUN, "--resume")
    assert both == alone
    assert sorted(path.stat().st_mtime_ns for path in (tmp_path / "both").glob("out-00[0-3].webp")) == there


# --- from a video ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_clip_from_a_clip_is_made_again_by_its_record_while_the_file_is_the_same(run, tmp_path, soft):
    video = shutil.copy(soft, tmp_path / "soft.mp4")
    status, said = run("a.webp", RED, "--init", "soft.mp4", "--strength", "0.4", "--sampler", "ddim", "--steps", "5")
    assert status == 0
    assert "ivmix sample: warning:" in said
    assert said.count("256x256 resized to 64x64") == 1
    assert "2 video evaluations" in said
    assert record(tmp_path / "a.webp")["video"]["path"] == str(video)
    assert run("b.webp", "--from", "a.webp.json", "--quiet")[0] == 0
    assert (tmp_path / "a.webp").read_bytes() == (tmp_path / "b.webp").read_bytes()
    write_video(read_clip(soft).frames[::-1].copy(), video)
    status, said = run("c.webp", "--from", "a.webp.json", "--quiet")
    assert "began from a video at" in said
    assert "shows something else now" in said


@pytest.mark.filterwarnings("ignore:.*resized")
def test_a_clip_is_not_written_over_what_it_begins_from(run, tmp_path, soft):
    shutil.copy(soft, tmp_path / "soft.mp4")
    (tmp_path / "link.mp4").symlink_to("soft.mp4")
    for name in ("soft.mp4", "./soft.mp4", "link.mp4"):
        status, said = run("soft.mp4", RED, "--init", name, "--quiet")
        assert (status, "one file: write elsewhere" in said) == (2, True)
    run("a.webp", RED, "--init", "soft.mp4", "--strength", "0.4", *QUICK[:4], "--quiet")
    assert "one file: write elsewhere" in run("soft.mp4", "--from", "a.webp.json", "--quiet")[1]
    assert (tmp_path / "soft.mp4").read_bytes() == soft.read_bytes()


@pytest.mark.filterwarnings("default")
def test_a_rate_that_is_not_the_pairs_is_said(run, tmp_path, soft):
    write_video(read_clip(soft).frames, tmp_path / "fast.mp4", fps=25)
    said = run("a.webp", RED, "--init", "fast.mp4", "--strength", "0.4", *QUICK[:4], "--quiet")[1]
    assert "its 25 frames a second are taken as the pair's 8" in said


@pytest.mark.filterwarnings("default")
def test_a_picture_may_be_begun_from_too(run, tmp_path, soft):
    write_video(read_clip(soft).frames[:1], tmp_path / "frames")
    status, said = run("a.webp", RED, "--init", "frames/frame_000.png", *QUICK[:-2], "--quiet")
    assert status == 0
    assert "one picture repeated to 2 frames" in said
    assert read_clip(tmp_path / "a.webp").frames.shape[0] == 2


@pytest.mark.filterwarnings("ignore:.*resized")
def test_a_source_prompt_inverts_and_is_remembered(run, tmp_path, soft):
    arguments = ["--init", str(soft), "--strength", "0.5", "--source-prompt", RED, "--sampler", "ddim", "--steps", "4"]
    assert run("a.webp", BLUE, *arguments, "--quiet")[0] == 0
    made = record(tmp_path / "a.webp")
    assert (made["source_prompts"], made["nfe"]) == ([RED], {"video": 4})
    assert run("b.webp", "--from", "a.webp.json", "--quiet")[0] == 0
    assert (tmp_path / "a.webp").read_bytes() == (tmp_path / "b.webp").read_bytes()


# --- records --------------------------------------------------------------------------------------------------------


def test_a_record_may_be_varied_by_a_prompt_or_a_seed_and_keeps_the_rest(run, tmp_path):
    run("a.webp", RED, "--seed", "5", "--negative-prompt", BLUE, *QUICK, "--quiet")
    run("b.webp", BLUE, "--from", "a.webp.json", "--quiet")
    run("c.webp", "--from", "a.webp.json", "--seed", "6", "--quiet")
    a, b, c = (record(tmp_path / f"{n}.webp") for n in "abc")
    cost = {"seconds": 0}
    assert b | cost == a | cost | {"prompts": [BLUE]}
    assert c | cost == a | cost | {"seeds": [6]}
    said = run("e.webp", "--from", "a.webp.json", "--sampler", "image")[1]
    assert "the options of image are the pair's and those given, not those of the record's ddim" in said
    run("d.webp", "--from", "a.webp.json", "--negative-prompt", "", "--quiet")
    assert record(tmp_path / "d.webp")["image_negative_prompts"] == [""]  # it followed the other, and does


def test_the_authors_loop_takes_a_part_of_the_run_and_a_period_and_its_record_has_them(run, tmp_path):
    official = ["--sampler", "official", "--steps", "6", "--interval", "0.5:1", "--period", "2", *QUICK[4:]]
    run("a.webp", RED, *official, "--quiet")
    made = record(tmp_path / "a.webp")
    assert (made["sampling"]["interval"], made["sampling"]["period"]) == ([0.5, 1.0], 2)
    assert made["nfe"] == {"image": 2, "video": 16}  # of steps 3, 4 and 5 are mixed, of which 4 with the image model
    assert run("b.webp", "--from", "a.webp.json", "--quiet") == (0, "")
    assert (tmp_path / "b.webp").read_bytes() == (tmp_path / "a.webp").read_bytes()


@pytest.mark.filterwarnings("default")
def test_other_weights_or_another_version_than_the_records_are_said(run, tmp_path):
    pair = shutil.copytree(EMBEDDED["sprites"], tmp_path / "pair")
    run("a.webp", RED, "--pair", str(pair), *QUICK, "--quiet")
    assert run("b.webp", "--from", "a.webp.json", "--quiet") == (0, "")
    for part in ("config.json", "diffusion_pytorch_model.safetensors"):
        shutil.copy(pair / "image" / "unet" / part, pair / "video" / "unet" / part)
    made = record(tmp_path / "a.webp")
    Path("a.webp.json").write_text(json.dumps(made | {"ivmix": "0.0.1"}))
    status, said = run("c.webp", "--from", "a.webp.json", "--quiet")
    assert status == 0
    assert "the record is of ivmix 0.0.1" in said
    changed = "another diffusion_pytorch_model.safetensors and config.json of video/unet: the clip differs"
    assert f"the record was drawn with {changed}" in said


@pytest.mark.filterwarnings("default")
def test_other_weights_in_place_of_the_pairs_are_said_wherever_the_record_is_read(run, tmp_path, monkeypatch):
    model = shutil.copytree(EMBEDDED["sprites"] / "image", tmp_path / "model")
    run("a.webp", RED, "--image-model", "model", *QUICK, "--quiet")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "the record" not in run("b.webp", "--from", "../a.webp.json", "--quiet")[1]
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: 2 * value for name, value in load_file(weights).items()}, weights)
    said = run("c.webp", "--from", "../a.webp.json", "--quiet")[1]
    assert f"the record was drawn with another {weights.name} of {model / 'unet'}: the clip differs" in said


@pytest.mark.filterwarnings("default")
def test_a_pair_that_reads_other_files_than_the_record_is_said(run, tmp_path):
    pair = shutil.copytree(EMBEDDED["sprites"], tmp_path / "pair")
    run("a.webp", RED, "--pair", str(pair), *QUICK, "--quiet")
    (pair / "vae").rename(pair / "decoder")
    (pair / "pair.json").write_text((pair / "pair.json").read_text().replace('"vae"', '"decoder"').replace(
        '"decoder":', '"vae":'))  # fmt: skip
    said = run("b.webp", "--from", "a.webp.json", "--quiet")[1]
    assert "the record was drawn with diffusion_pytorch_model.safetensors and config.json of vae, which" in said


@pytest.mark.filterwarnings("default")
def test_a_pair_that_says_another_of_its_models_than_the_record_is_said(run, tmp_path):
    pair = shutil.copytree(EMBEDDED["sprites"], tmp_path / "pair")
    run("a.webp", RED, "--pair", str(pair), *QUICK, "--quiet")
    raw = json.loads((pair / "pair.json").read_text())
    raw["video"]["prediction"], raw["image"]["latent_size"] = "x0", 32
    (pair / "pair.json").write_text(json.dumps(raw))
    said = run("b.webp", "--from", "a.webp.json", "--quiet")[1]
    assert "the record was drawn with prediction v of the video model, now x0: the clip differs" in said
    assert "the record was drawn with latent_size None of the image model, now 32: the clip differs" in said


def test_a_record_of_what_only_python_had_says_so(run, tmp_path):
    run("a.webp", RED, *QUICK, "--quiet")
    made, given = record(tmp_path / "a.webp"), {"path": None, "sha256": "0"}
    Path("b.json").write_text(json.dumps(made | {"latents": given}))
    Path("c.json").write_text(json.dumps(made | {"video": given, "strength": 0.5}))
    assert "began from noise given in Python" in run("x.webp", "--from", "b.json")[1]
    assert "from a video given in Python; name its file with --init" in run("x.webp", "--from", "c.json")[1]


# --- what is written ------------------------------------------------------------------------------------------------


def test_frames_are_enlarged_unless_told_not_to_and_the_summary_says_so(run, tmp_path):
    _, said = run("a.mp4", RED, *QUICK)
    assert "a.mp4  16x16 enlarged 16 times, seed 0, ddim, 3 video evaluations" in said
    assert "a.mp4.json makes it again" in said
    _, said = run("b.mp4", RED, *QUICK, "--no-upscale")
    assert "b.mp4  16x16, seed 0" in said
    assert [read_clip(tmp_path / n).frames.shape[1:3] for n in ("a.mp4", "b.mp4")] == [(256, 256), (16, 16)]


def test_the_rate_is_the_pairs_unless_given(run, tmp_path):
    run("a.mp4", RED, *QUICK, "--quiet")
    run("b.mp4", RED, *QUICK, "--quiet", "--fps", "12.5")
    assert [read_clip(tmp_path / n).fps for n in ("a.mp4", "b.mp4")] == [8, 12.5]


def test_nothing_that_exists_is_replaced_under_no_clobber(run, tmp_path):
    run("a.webp", RED, *QUICK, "--quiet")
    before = (tmp_path / "a.webp").read_bytes()
    status, said = run("a.webp", BLUE, *QUICK, "--no-clobber", "--quiet")
    assert status == 2
    assert "a.webp" in said
    assert "exists" in said
    (tmp_path / "b.webp.json").touch()
    assert "b.webp.json" in run("b.webp", BLUE, *QUICK, "--no-clobber", "--quiet")[1]
    assert (tmp_path / "a.webp").read_bytes() == before
    assert run("c.webp", BLUE, *QUICK, "--no-clobber", "--quiet")[0] == 0


# --- bad runs -------------------------------------------------------------------------------------------------------

BAD = [
    (["a", "red", "circle"], "3 prompts of one word: put a prompt in quotes, 'a red circle'"),
    ([RED, "--prompts", "p.txt"], "give either prompts or --prompts FILE"),
    ([RED, "--seed", "1", "--seeds", "1:2"], "give either --seed or --seeds"),
    ([RED, "a pink circle"], "clip 2 of 2: the prompt 'a pink circle' has words outside the vocabulary"),
    ([RED, "--seeds", "x"], "seeds 'x': expected A:B"),
    (["--prompts", "no-such.txt"], "no-such.txt"),
    (["--prompts", "."], "unknown suffix"),
    ([RED, "--batch-size", "0"], "batch_size=0"),
    ([RED, "--batch-size", "x"], "argument --batch-size: 'x': expected a whole number, or auto"),
    ([RED, "--image-frames", "0"], "image_frames=0"),
    ([RED, "--fps", "0"], "fps is 0"),
    ([RED, "--fps", "nan"], "fps is nan"),
    ([RED, "--strength", "0.5"], "strength says how to begin from a video"),
    ([RED, "--source-prompt", RED], "source_prompt says how to begin from a video"),
    ([RED, "--init", "no-such.mp4"], "no-such.mp4"),
    ([RED, "--init", "."], "."),
    ([RED, "--init", "text.mp4"], "text.mp4"),
    ([RED, "--size", "8000x8000"], "need at least"),
    ([RED, "--size", "0x0"], "height=0"),
    ([RED, "--frames", "-1"], "frames=-1"),
    ([RED, "--steps", "x"], "argument --steps: invalid int value: 'x'"),
    ([RED, "--dtype", "float8"], "argument --dtype: invalid choice: 'float8'"),
    ([RED, "--device", "meta"], "device 'meta': not available here"),
    ([RED, "--device", "mps"], "device 'mps': not available here"),
    ([RED, "--interval", "0.5:0.5"], "interval=0.5:0.5"),
    ([RED, "--image-guidance", ""], "image_guidance="),
    ([RED, "--colour", "red"], "unknown option --colour"),
    ([RED, "--cfg", "3"], "unknown option --cfg: it is --guidance here"),
    ([RED, "--scheduler", "karras"], "unknown option --scheduler: it is --solver and --spacing here"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(run, tmp_path, arguments, message):
    (tmp_path / "text.mp4").write_text("no film")
    status, said = run("out.mp4", *arguments, "--quiet")
    assert status == 2
    assert message in said
    assert said.startswith("ivmix sample: error: ")
    assert said.count("\n") == 1
    assert len(said) < 500
    assert names(tmp_path) == ["text.mp4"]


NOWHERE = ["", " ", "-", ".", "..", ".mp4", "a\nb.mp4", "a\0b.mp4", "/", "no/such/folder.mp4", "x" * 300 + ".mp4"]


@pytest.mark.parametrize("output", NOWHERE)
def test_an_output_that_cannot_be_is_one_line_and_leaves_nothing(run, tmp_path, output):
    for more in ([], [BLUE]):  # one clip, and numbered ones
        status, said = run(output, RED, *more, *QUICK, "--quiet")
        assert status == 2
        assert "cannot write" in said
        assert said.count("\n") == 1
    assert names(tmp_path) == []
