"""Runs that cannot be: one line that says why, the status that says what kind, and nothing left behind."""

import argparse
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ivmix.cli import main
from ivmix.cli.errors import Stopped, explain
from ivmix.pairs.description import EMBEDDED

PROMPT = "a red circle moving left"
COMPARE = ["compare", PROMPT, "-o", "out.mp4", "--quiet"]
EVALUATE = ["evaluate", "-o", "run", "--clips", "4", "--seeds", "1", "--references", "4", "--quiet"]
BENCH = ["bench", "--rounds", "1", "--frames", "1", "--size", "16x16", "--quiet"]
TRAIN = ["train", "sprites", "-o", "run"]

# What is typed, and words of the one line that answers it.
RUNS = [
    ([], "ivmix: error: the following arguments are required: COMMAND (see ivmix --help)"),
    (["paint"], "invalid choice: 'paint'"),
    (["--vorsion"], "ivmix: error: the following arguments are required: COMMAND"),
    (["sample", PROMPT], "required: -o/--output (see ivmix sample --help)"),
    (["sample", PROMPT, "-o", "out.mp4", "--steps", "x"], "argument --steps: invalid int value: 'x' (see ivmix sample"),
    (["sample", PROMPT, "-o", "out.mp4", "--num-inference-steps", "3"], ": it is --steps here"),
    (["sample", PROMPT, "-o", "out.mp4", "--guidance-scale=3"], ": it is --guidance here"),
    (["sample", PROMPT, "-o", "out.mp4", "--gudance", "3"], "ivmix sample: error: unknown option --gudance"),
    (["sample", PROMPT, "-o", "out.mp4", "--device", "meta"], "device 'meta': not available here"),
    (["sample", PROMPT, "-o", "out.mp4", "--device", "mps"], "device 'mps': not available here"),
    (["sample", PROMPT, "-o", "out.mp4", "--device", ""], "device '': not available here"),
    (["sample", PROMPT, "-o", "out.mp4", "--quiet", "--guidance", "1e308"], "a number that float32 holds"),
    (["sample", PROMPT, "-o", "out.mp4", "--pair", ""], "pair '': expected one of sprites"),
    (["sample", PROMPT, "-o", "out.mp4", "--vae", ""], "--vae '': expected a folder, a file or hub:owner/name"),
    (["sample", PROMPT, "-o", "out.mp4", "--image-model", ""], "--image-model '': expected"),
    (["compare", "a", "red", "circle", "-o", "out.mp4"], "after the prompt: quote it, ivmix compare 'a red circle'"),
    (["compare", PROMPT, "-o", ""], "cannot write '': it names no file"),
    (["compare", PROMPT, "-o", "out.png"], "unknown suffix '.png'"),
    ([*COMPARE, "--samplers", "ddim,zigzagg"], "sampler 'zigzagg': expected one of ddim, "),
    ([*COMPARE, "--samplers", "ddim,ddim"], "'ddim' is named twice"),
    ([*COMPARE, "--samplers", ""], "sampler '': expected one of ddim, "),
    (["compare", PROMPT, "-o", "a-folder"], "unknown suffix ''"),
    (["compare", PROMPT, "-o", "nowhere/out.mp4"], "nowhere' does not exist; create it first"),
    ([*COMPARE, "--steps", "0"], "steps=0"),
    ([*COMPARE, "--seed", "-1"], "seed=-1"),
    ([*COMPARE, "--pair", "nope"], "pair 'nope': expected one of sprites"),
    (["compare", "a cat", "-o", "out.mp4", "--quiet"], "no caption of this world"),
    (["evaluate", "-o", ""], "-o '': it names no folder"),
    (["evaluate", "-o", "a-file", *EVALUATE[3:]], "a-file is a file: expected a folder"),
    ([*EVALUATE, "--arms", ""], "--arms '': expected a file of JSON"),
    ([*EVALUATE, "--arms", "a-folder"], "a-folder is a folder, expected a file"),
    ([*EVALUATE, "--arms", "deep.json"], "deep.json is not JSON: it is nested more than 32 deep"),
    ([*EVALUATE, "--arms", "text.json"], "arm 'a': steps='x': expected a whole number"),
    ([*EVALUATE, "--seed", str(10**30)], "seed=1000000000000000000000000000000: expected a number below 2**63"),
    ([*EVALUATE, "--pair", "animatediff"], "pair 'animatediff' brings no judge"),
    ([*EVALUATE, "--pair", "videocrafter2"], "pair 'videocrafter2' brings no judge"),
    ([*BENCH, "--pair", "animatediff", "--rounds", "0"], "rounds=0: expected a whole number of 1 or more"),
    ([*BENCH, "--pair", "animatediff", "--batch-size", "0"], "batch_size=0: expected a whole number of 1 or more"),
    ([*BENCH, "--size", "17x17"], "height=17"),
    ([*BENCH, "--arms", ""], "--arms '': expected a file of JSON"),
    ([*BENCH, "--arms", "none.json"], "arms: expected at least one sampler"),
    ([*BENCH, "words"], "ivmix bench: error: unexpected 'words'"),
    (["pairs", "--yaml"], "ivmix pairs: error: unknown option --yaml"),
    (["inspect"], "required: PATH"),
    (["inspect", ""], "'': expected a file, a folder, or hub:owner/name"),
    (["inspect", "nowhere"], "no file or folder nowhere"),
    (["inspect", "a-folder"], "a folder without files of weights"),
    (["train", "sprites", "-o", ""], "-o '': it names no folder"),
    (["train", "sprites", "-o", "a-file"], "a-file: File exists"),
    ([*TRAIN, "--scale", "nan"], "--scale nan: expected a number above 0"),
    ([*TRAIN, "--jobs", "0"], "--jobs 0: expected 1 or more"),
    ([*TRAIN, "--device", "meta"], "device 'meta': not available here"),
]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The folder a person is in, with a few things of other kinds than expected."""
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("mine")
    Path("a-folder").mkdir()
    Path("deep.json").write_text("[" * 100_000)
    Path("none.json").write_text("[]")
    Path("text.json").write_text('[{"label": "a", "options": {"sampler": "ddim", "steps": "x"}}]')
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(("typed", "message"), RUNS, ids=[" ".join(typed)[:60] for typed, _ in RUNS])
def test_bad_input_is_one_line_of_status_2_and_leaves_nothing(place, capsys, typed, message):
    before = contents(place)
    assert main(typed) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.startswith("ivmix")
    assert said.err.count("\n") == 1
    assert len(said.err) < 500
    assert said.out == ""
    assert contents(place) == before


# Memory


def start(*typed: str, **options) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment["OMP_NUM_THREADS"] = "1"

    def listen() -> None:  # background jobs of a shell inherit an ignored SIGINT
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if limit := options.get("limit"):
            resource.setrlimit(*limit)

    return subprocess.Popen(
        [sys.executable, "-m", "ivmix", *typed], env=environment, text=True, preexec_fn=listen,
        stdout=options.get("stdout", subprocess.PIPE), stderr=options.get("stderr", subprocess.PIPE),
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=120)
    return process.returncode, said or ""


LOADED = """
import re
from pathlib import Path
from ivmix import TextToVideo
TextToVideo.from_pair("sprites", "cpu")
print(1024 * int(re.search(r"VmPeak:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_address_space_that_runs_out_says_what_was_asked_and_leaves_nothing(place):
    """A tenth of what the clip needs, beside what a process needs that has loaded the pair."""
    loaded = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    limit = resource.RLIMIT_AS, (int(loaded.stdout) + 300_000_000,) * 2
    before = contents(place)
    typed = ["sample", PROMPT, "-o", "out.mp4", "--size", "1024x1024", "--device", "cpu"]
    status, said = end(start(*typed, "--quiet", limit=limit))
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith(
        "ivmix sample: error: out of memory drawing 1 x 8 frames of 1024x1024 in float32 on cpu: try fewer --frames, "
    )
    for remedy in ("--size", "--batch-size", "--image-frames N", "--vae-tile N", "--dtype float16"):
        assert remedy in said
    assert contents(place) == before


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyError("unet"), 70, "a bug of ivmix: KeyError: 'unet'; IVMIX_TRACEBACK=1 in the environment shows where"),
        (AssertionError(), 70, "a bug of ivmix: AssertionError: AssertionError"),
        (MemoryError(), 2, "error: out of memory: try fewer --frames or --dtype float16"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "error: out of memory"),
        (OSError(12, "Cannot allocate memory"), 2, "error: out of memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 2, "error: out of memory"),
        (ImportError("x.so: failed to map segment from shared object: Operation not permitted"), 70, "a bug of ivmix"),
        (OSError(28, "No space left on device", "out.mp4"), 2, "error: out.mp4: No space left on device"),
        (FloatingPointError("loss nan"), 2, "error: loss nan"),
        (BrokenPipeError(), 141, ""),
        (Stopped(signal.SIGTERM), 143, "terminated"),
        (Stopped(signal.SIGINT), 130, "interrupted"),
    ],
)
def test_every_end_has_its_status_and_its_words(error, status, words):
    found, said = explain(error, argparse.Namespace(command="sample", frames=None, dtype=None))
    assert found == status
    assert said.startswith(words)
    assert "\n" not in said


@pytest.mark.parametrize("asked", ["", "1"])
def test_a_traceback_is_shown_to_those_who_ask(place, capsys, monkeypatch, asked):
    monkeypatch.setenv("IVMIX_TRACEBACK", asked)
    assert main(["inspect", ""]) == 2
    assert ("Traceback" in capsys.readouterr().err) == bool(asked)


# Streams that nobody reads


@pytest.mark.slow
@pytest.mark.parametrize("typed", [["pairs"], ["--help"], ["inspect", str(EMBEDDED["sprites"] / "vae")]])
def test_output_that_nobody_reads_is_the_quiet_end_of_a_broken_pipe(typed):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        assert end(start(*typed, stdout=closed)) == (141, "")


@pytest.mark.slow
def test_progress_that_nobody_reads_ends_the_run_and_leaves_nothing(place):
    before = contents(place)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        assert end(start("sample", PROMPT, "-o", "out.mp4", "--frames", "1", stderr=closed)) == (141, "")
    assert contents(place) == before


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_closed_beforehand_change_nothing(place, closed):
    """With descriptor 1 closed, the first file that is opened would get it, and what is printed."""
    sample = f"{sys.executable} -m ivmix sample '{PROMPT}' -o out.gif --steps 1 --frames 1 --size 16x16 {closed}"
    done = subprocess.run(["sh", "-c", sample], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert Path("out.gif").read_bytes().startswith(b"GIF89a")


def test_output_to_a_full_disk_says_so():
    with open("/dev/full", "w") as full:
        assert end(start("pairs", stdout=full)) == (2, "ivmix pairs: error: No space left on device\n")


# Full disks


@pytest.mark.slow
def test_evaluate_on_a_full_disk_keeps_the_parts_there_are(small_disk, capsys):
    status = main(["evaluate", "-o", str(small_disk / "run"), *EVALUATE[3:]])
    said = capsys.readouterr().err
    assert status == 2
    assert f"cannot write {small_disk}/run/parts/" in said
    assert "No space left on device; what is computed is kept, the same command goes on from it" in said
    assert said.count("\n") == 1
    parts = [path.name for path in (small_disk / "run" / "parts").iterdir()]
    assert parts
    assert all(name.endswith(".safetensors") for name in parts)


# Signals


def wait_for(condition, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if condition() or process.poll() is not None:
            return
        time.sleep(0.05)
    process.kill()
    raise AssertionError("nothing happened for a minute")


@pytest.mark.slow
def test_an_evaluation_that_is_terminated_leaves_whole_parts_alone(place):
    process = start("evaluate", "-o", "run", "--references", "4", "--batch-size", "1", "--quiet")
    wait_for(lambda: len(list(Path("run").glob("parts/*"))) > 2, process)
    process.terminate()
    assert end(process) == (143, "ivmix evaluate: terminated; nothing half-written is left\n")
    assert {path.suffix for path in Path("run/parts").iterdir()} == {".safetensors"}


@pytest.mark.slow
def test_a_training_that_is_terminated_takes_its_stages_along(place):
    process = start("train", "sprites", "-o", "run", "--jobs", "2")
    wait_for(lambda: len(list(Path("run").glob("*.jsonl"))) == 2, process)
    stages = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.terminate()
    status, said = end(process)
    assert status == 143
    assert said.count("half-written") == 1
    assert said.endswith("ivmix train: terminated; nothing half-written is left\n")
    assert "Traceback" not in said
    assert len(stages) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in stages)
    assert not list(Path("run").rglob("*.part"))
