"""The command as a person meets it: what it writes, what it says, and that bad input leaves nothing behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest

from ivmix.cli import main, parse
from ivmix.generation.record import read_record
from ivmix.media import read_video
from ivmix.models.compile import Mode
from ivmix.pairs.description import EMBEDDED, PUBLIC

PROMPT = "a red circle moving left"
SMALL = ["--frames", "2", "--size", "16x16"]
QUICK = ["--sampler", "ddim", "--steps", "3", *SMALL, "--quiet"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_prompt_becomes_a_video_and_a_record(tmp_path, capsys):
    assert main(["sample", PROMPT, "-o", str(tmp_path / "out.mp4"), "--sampler", "ddim", "--steps", "3"]) == 0
    assert names(tmp_path) == ["out.mp4", "out.mp4.json"]
    assert read_video(tmp_path / "out.mp4").shape == (8, 256, 256, 3)
    record = json.loads((tmp_path / "out.mp4.json").read_text())
    assert (record["prompts"], record["seeds"], record["nfe"]) == ([PROMPT], [0], {"video": 3})
    assert "seed 0, ddim, 3 video evaluations" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out.mp4", "out.gif", "out.webp", "frames/"])
def test_the_same_command_gives_the_same_bytes_in_every_format(tmp_path, name):
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        assert main(["sample", PROMPT, "-o", f"{tmp_path}/{run}/{name}", *QUICK]) == 0
    a, b = (
        {p.relative_to(tmp_path / run): p.read_bytes() for p in (tmp_path / run).rglob("*.*") if p.suffix != ".json"}
        for run in ("a", "b")
    )
    assert len(a) == (2 if name == "frames/" else 1)
    assert a == b


def test_a_record_reproduces_its_video_and_can_be_varied(tmp_path):
    first, again, varied = (tmp_path / f"{name}.webp" for name in ("first", "again", "varied"))
    options = ["--sampler", "zigzag", "--steps", "4", "--image-guidance", "2:1", "--seed", "5", "--vae-tile", "6"]
    assert main(["sample", PROMPT, "-o", str(first), *options, *SMALL, "--quiet"]) == 0
    assert main(["sample", "--from", f"{first}.json", "-o", str(again), "--quiet"]) == 0
    assert first.read_bytes() == again.read_bytes()
    assert main(["sample", "--from", f"{first}.json", "-o", str(varied), "--quiet", "--sequence", "up-first"]) == 0
    before, after = (json.loads(Path(f"{path}.json").read_text()) for path in (first, varied))
    assert after["sampling"] == before["sampling"] | {"sequence": "up-first"}
    assert before["vae_tile"] == after["vae_tile"] == 6
    assert first.read_bytes() != varied.read_bytes()


def test_a_record_remembers_its_pair_and_dtype(tmp_path):
    pair = shutil.copytree(EMBEDDED["sprites"], tmp_path / "copy")
    first, again = tmp_path / "first.webp", tmp_path / "again.webp"
    model = ["--pair", str(pair), "--dtype", "float64"]
    assert main(["sample", PROMPT, "-o", str(first), *QUICK, *model]) == 0
    assert main(["sample", "--from", f"{first}.json", "-o", str(again), "--quiet"]) == 0
    record = json.loads(Path(f"{again}.json").read_text())
    assert (record["pair"], record["dtype"]) == (str(pair), "float64")
    assert first.read_bytes() == again.read_bytes()


@pytest.mark.filterwarnings("default")
def test_a_record_remembers_models_put_in_the_place_of_the_pairs_own(tmp_path, capsys):
    """The image model's degraded frames of the empty prompt tell: with it as the video model, sharpness is another."""
    models = ["--video-model", str(EMBEDDED["sprites"] / "image"), "--compile", "auto", "--clip-skip", "2"]
    plain, first, again = (tmp_path / f"{name}.webp" for name in ("plain", "first", "again"))
    assert main(["sample", PROMPT, "-o", str(plain), *QUICK]) == 0
    assert main(["sample", PROMPT, "-o", str(first), *QUICK, *models]) == 0
    said = capsys.readouterr().err
    assert "networks run by eager: the network is on cpu" in said
    assert said.count("the video model has no temporal layers: its frames know nothing of each other") == 1
    assert main(["sample", "--from", f"{first}.json", "-o", str(again), "--quiet"]) == 0
    record = json.loads(Path(f"{again}.json").read_text())
    assert (record["swaps"], record["compile"]) == ({"video_model": models[1], "clip_skip": 2}, "auto")
    assert first.read_bytes() == again.read_bytes() != plain.read_bytes()


def test_every_way_to_call_networks_has_a_name_and_is_read_from_a_record(tmp_path):
    record = tmp_path / "a.webp.json"
    assert main(["sample", PROMPT, "-o", str(tmp_path / "a.webp"), *QUICK]) == 0
    written = json.loads(record.read_text())
    for mode in get_args(Mode):
        assert parse(["sample", PROMPT, "-o", "a.webp", "--compile", mode]).compile == mode
        record.write_text(json.dumps(written | {"compile": mode}))
        assert read_record(record).compile == mode


def test_compare_writes_a_video_a_sheet_and_the_figures(tmp_path, tmp_path_factory, capsys):
    pair = shutil.copytree(EMBEDDED["sprites"], tmp_path_factory.mktemp("pair") / "short")
    description = json.loads((pair / "pair.json").read_text())
    (pair / "pair.json").write_text(json.dumps(description | {"frames": 2}))
    arguments = ["-o", str(tmp_path / "cmp.mp4"), "--pair", str(pair), "--steps", "3", "--quiet"]
    assert main(["compare", PROMPT, *arguments]) == 0
    assert names(tmp_path) == ["cmp.json", "cmp.mp4", "cmp.png"]
    assert len(json.loads((tmp_path / "cmp.json").read_text())["arms"]) == 6
    printed = capsys.readouterr().out
    assert "| image model, frame by frame" in printed
    assert "degradation" in printed


def test_compare_draws_the_samplers_that_are_named_in_their_order(tmp_path, capsys):
    chosen = ["--samplers", "zigzag,freeinit", "--steps", "3", "--quiet", "-o", str(tmp_path / "cmp.webp")]
    assert main(["compare", PROMPT, *chosen]) == 0
    arms = json.loads((tmp_path / "cmp.json").read_text())["arms"]
    assert [(arm["label"], arm["sampling"]["sampler"]) for arm in arms] == [
        ("IV-Mixed, down-first", "zigzag"), ("freeinit", "freeinit"),
    ]  # fmt: skip


def test_pairs_lists_the_embedded_pair_and_what_public_ones_download(capsys):
    assert main(["pairs"]) == 0
    said = capsys.readouterr().out
    assert "sprites: 8 frames of 64x64" in said
    assert "videocrafter2: 16 frames of 320x512" in said
    assert "hub:guoyww/animatediff-motion-adapter-v1-5-3, 1.7 GB" in said
    files = [line for line in said.splitlines() if line.startswith("  hub:")]
    assert len(files) > 3 * len(PUBLIC)
    assert all(line.endswith((" GB", " in 32", ", size not known here")) for line in files)
    assert "hub:maxin-cn/Latte-1/transformer, 2.1 GB in 16 bits or 4.2 GB in 32\n" in said
    assert said.count("no revision is pinned: the newest is taken") == len(PUBLIC)
    assert "its text encoders take 0.25 GB of memory (0.49 GB in float32, a CPU's default), which they keep\n" in said


def test_pairs_say_what_text_encoders_give_back(tmp_path, capsys):
    raw = json.loads(PUBLIC["animatediff"].read_text())
    said = {"text_parameters": 4_762_310_656, "release_text_encoders": True, "dtype": "bfloat16"}
    (tmp_path / "pair.json").write_text(json.dumps(raw | said))
    assert main(["pairs", str(tmp_path)]) == 0
    expected = "take 9.5 GB of memory (19 GB in float32, a CPU's default), which they give back when the prompts are "
    assert f"its text encoders {expected}read\n" in capsys.readouterr().out


@pytest.mark.filterwarnings("default")
def test_a_prompt_too_long_is_one_line_that_shows_the_words_cut_off(tmp_path, capsys):
    assert main(["sample", f"{PROMPT} a blue cross", "-o", str(tmp_path / "out.gif"), *QUICK]) == 0
    assert capsys.readouterr().err == (
        "ivmix sample: warning: a prompt is longer than the 6 tokens that are read; cut off: 'blue cross'\n"
    )
    assert names(tmp_path) == ["out.gif", "out.gif.json"]


BAD = [
    ([""], "the prompt is empty"),
    ([], "give a prompt, such as 'a red circle moving left', --prompts FILE, or --from JSON"),
    (["a purple circle moving left"], "outside the vocabulary"),
    (["a pink circle " * 3000], "outside the vocabulary: 'pink pink"),
    (["a [red:0.5] circle"], "would edit it during the run"),
    (["красный круг"], "outside the vocabulary"),
    (["a red \x07 circle"], "control character"),
    ([PROMPT, "--guidance", "nan"], "guidance=nan"),
    ([PROMPT, "--sampler", "zigzag", "--image-guidance", "nan"], "image_guidance=nan"),
    ([PROMPT, "--steps", "0"], "steps=0"),
    ([PROMPT, "--sampler", "zigzag", "--pattern", "XX-YY"], "pattern"),
    ([PROMPT, "--sampler", "euler"], "expected one of ddim"),
    ([PROMPT, "--sampler", "ddim", "--pattern", "IV-IV"], "has no meaning for sampler"),
    ([PROMPT, "--pair", "spirits"], "expected one of sprites"),
    ([PROMPT, "--device", "cuda:99"], "not available here"),
    ([PROMPT, "--device", "toaster"], "not available here"),
    ([PROMPT, "--seed", "-1"], "seed=-1"),
    ([PROMPT, "--size", "32"], "--size 32: expected HEIGHTxWIDTH"),
    ([PROMPT, "--size", "33x32"], "height=33"),
    ([PROMPT, "--window", "17"], "window=17"),
    ([PROMPT, "--frames", "0"], "frames=0"),
    (["--from", "no-such.json"], "no file no-such.json"),
    ([PROMPT, "--image-model", "no-such-model"], "no-such-model"),
    ([PROMPT, "--motion", "no-such-motion"], "no-such-motion"),
    ([PROMPT, "--vae", "no-such-vae"], "no-such-vae"),
    ([PROMPT, "--tokenizer", "no-such-tokenizer"], "no-such-tokenizer"),
    ([PROMPT, "--clip-skip", "0"], "clip_skip=0"),
    ([PROMPT, "--vae-tile", "0"], "vae_tile=0"),
    ([PROMPT, "--video-model", "hub:a"], "source 'hub:a'"),
    ([PROMPT, "--lora", "no-such-lora.safetensors:0.5"], "no-such-lora"),
    ([PROMPT, "--sampler", "official", "--variant", "sora"], "variant: got 'sora'"),
    ([PROMPT, "--sampler", "freeinit", "--iterations", "0"], "iterations=0"),
    ([PROMPT, "--sampler", "freeinit", "--temporal-cutoff", "nan"], "temporal_cutoff=nan"),
    ([PROMPT, "--sampler", "zsampling", "--steps", "3", "--zigzags", "3"], "zigzags=3"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, arguments, message):
    output = tmp_path / "out.mp4"
    assert main(["sample", *arguments, "-o", str(output), "--quiet"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("ivmix sample: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert len(captured.err) < 600
    assert names(tmp_path) == []


@pytest.mark.parametrize("output", ["out.avi", "nowhere/out.mp4", "a-file/out.mp4"])
def test_an_output_that_cannot_be_written_is_refused_before_sampling(tmp_path, capsys, monkeypatch, output):
    monkeypatch.setattr("ivmix.cli.sample.load_model", lambda *_, **__: pytest.fail("loaded a model first"))
    (tmp_path / "a-file").touch()
    assert main(["sample", PROMPT, "-o", f"{tmp_path}/{output}", "--quiet"]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert names(tmp_path) == ["a-file"]


@pytest.mark.parametrize("text", ["[]", "{}", '{"prompts": []}', "<html>", '{"prompts": ["x"], "seeds": "a"}'])
def test_a_file_that_is_no_record_is_refused(tmp_path, capsys, text):
    (tmp_path / "x.json").write_text(text)
    assert main(["sample", "--from", str(tmp_path / "x.json"), "-o", str(tmp_path / "out.mp4"), "--quiet"]) == 2
    assert names(tmp_path) == ["x.json"]
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_nothing_under_the_final_name(tmp_path, how):
    command = [sys.executable, "-m", "ivmix", "sample", PROMPT, "-o", str(tmp_path / "out.mp4"), "--steps", "1000"]

    def listen() -> None:  # background jobs of a shell inherit an ignored SIGINT
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, preexec_fn=listen) as process:
        assert process.stderr is not None
        process.stderr.read(20)  # the progress bar has begun: sampling runs
        time.sleep(0.5)
        process.send_signal(how)
        said = process.stderr.read().decode()
    assert process.returncode != 0
    assert "Traceback" not in said
    assert names(tmp_path) == []


def test_help_teaches_without_loading_torch():
    code = "import sys\nfrom ivmix.cli import parser\nprint(parser().format_help())\nsys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "ivmix sample 'a red circle moving left' -o out.mp4" in done.stdout


def test_help_breaks_no_name_at_its_hyphen(monkeypatch, capsys):
    for columns in range(60, 80, 4):  # every width would end a line inside some name
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(["sample", "--help"]) == 0
        words = {word.strip("(),;") for word in capsys.readouterr().out.split()}
        assert {"euler-ancestral", "sde-dpm++2m", "sde-exp-ab2", "uniform-lam", "dpm-linspace"} <= words


def test_evaluate_refuses_a_pair_it_cannot_measure(tmp_path, capsys):
    pair = shutil.copytree(EMBEDDED["sprites"], tmp_path / "pair", ignore=shutil.ignore_patterns("judge"))
    assert main(["evaluate", "--pair", str(pair), "-o", str(tmp_path / "run"), "--quiet"]) == 2
    assert "brings no judge" in capsys.readouterr().err
