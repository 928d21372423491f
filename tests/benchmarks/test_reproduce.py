"""All benchmarks under one budget of time: rounds, each a part of the next, and what is there when time is over."""

import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_benchmark import DRAWS, House, contents, write_description

from ivmix.benchmarks.reproduce import reproduce, rounds
from ivmix.cli import main


@pytest.fixture(scope="module")
def two(house: House) -> House:
    """Beside the small benchmark one of fewer clips."""
    write_description(house.folder / "fewer.json", name="fewer", samples=1, layout="{id}.mp4", comparisons=["pooled"])
    return house


def command(house: House, output: Path, *more: str) -> list[str]:
    benchmarks = f"{house.folder / 'small.json'},{house.folder / 'fewer.json'}"
    real = [word for name in ("small", "fewer") for word in ("--real", f"{name}={house.folder / 'real'}")]
    return ["reproduce", "--benchmarks", benchmarks, "--pair", str(house.folder / "pair"), "-o", str(output), "--quiet",
            "--arms", str(house.folder / "arms.json"), "--batch-size", "2", "--device", "cpu", *real,
            "--extractor", f"cmvq-styleganv={house.folder / 'i3d_torchscript.pt'}", *more]  # fmt: skip


def test_each_round_is_a_part_of_the_next_and_the_cheapest_benchmark_comes_first(two, task_of, tmp_path):
    tasks = [task_of(tmp_path / name, f"{name}.json") for name in ("small", "fewer")]
    tasks = [replace(task, plan=replace(task.plan, prompts=task.plan.prompts * 10, clips=50)) for task in tasks]
    plans = [(task.benchmark.name, task.plan.clips, task.plan.samples) for task in rounds(tasks)]
    assert plans == [("fewer", 32, 1), ("small", 32, 1), ("fewer", 50, 1), ("small", 50, 1), ("fewer", 50, 1),
                     ("small", 50, 2)]  # fmt: skip
    for earlier, later in zip(list(rounds(tasks)), list(rounds(tasks))[2:], strict=False):
        assert {b.name for b in earlier.plan.batches} <= {b.name for b in later.plan.batches}


@pytest.mark.slow
def test_all_rounds_leave_what_evaluating_each_leaves(two, task_of, whole, tmp_path):
    tasks = [task_of(tmp_path / name, f"{name}.json") for name in ("small", "fewer")]
    said, between = list[str](), list[dict[str, Any]]()

    def tell(text: str) -> None:
        said.append(text)
        if (there := tmp_path / "small" / "report.json").exists():
            between.append(json.loads(there.read_text()))

    found = reproduce(tasks, draws=DRAWS, said=tell)
    assert list(found) == ["fewer", "small"]
    assert [report.complete for report in found.values()] == [(5, 5), (10, 10)]
    assert said == ["fewer: 5 prompts, 1 of each", "small: 5 prompts, 1 of each", "small: 5 prompts, 2 of each"]
    assert contents(tmp_path / "small") == contents(whole)
    (quick,) = between  # of the first sample, before the second was begun: without what takes long
    assert (quick["complete"], quick["rows"][1]["p_values"]) == ([5, 10], {})
    assert quick["rows"][0]["distances"]["fvd_styleganv"]["parts"]["no_floor"] == "none was drawn"
    assert found["small"].results[1].p_values["fvd_styleganv"] is not None
    again = reproduce(tasks, draws=DRAWS, said=tell)
    assert len(said) == 3  # nothing was left to compute
    assert [report.complete for report in again.values()] == [(5, 5), (10, 10)]


def test_when_time_is_over_nothing_is_begun_and_what_is_there_is_reported(two, task_of, tmp_path):
    tasks = [task_of(tmp_path / name, f"{name}.json") for name in ("small", "fewer")]
    began = time.monotonic()
    said = list[str]()
    assert reproduce(tasks, hours=1e-9, draws=DRAWS, said=said.append) == {}
    assert said == ["no batch of all rows is there yet: give more hours, or none"]
    assert not list(tmp_path.rglob("*.safetensors"))
    reproduce([replace(tasks[1], plan=replace(tasks[1].plan, clips=2))], draws=DRAWS)
    found = reproduce(tasks, hours=1e-9, draws=DRAWS)
    assert {name: report.complete for name, report in found.items()} == {"fewer": (2, 5)}
    assert time.monotonic() > began
    for hours in (0, -1, math.nan):
        with pytest.raises(ValueError, match=r"^hours=.*: expected more than 0$"):
            reproduce(tasks, hours=hours)


@pytest.mark.slow
def test_processes_that_know_of_each_other_make_the_same(two, whole, tmp_path, free_port):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port)]
    done = subprocess.run([*torchrun, "-m", "ivmix", *command(two, tmp_path)], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("## small") == 1
    clips = {name: kept for name, kept in contents(tmp_path / "small").items() if name != "report.json"}
    assert clips == {name: kept for name, kept in contents(whole).items() if name != "report.json"}


@pytest.mark.slow
def test_shares_compute_all_and_report_nothing_and_the_command_writes_one_page_of_all_tables(
    two, whole, tmp_path, capsys
):  # fmt: skip
    for share in ("1/2", "2/2"):
        assert main(command(two, tmp_path, "--shard", share)) == 0
        assert f"share {share} of {tmp_path} is done" in capsys.readouterr().err
    assert not list(tmp_path.rglob("report.*"))
    assert main(command(two, tmp_path, "--hours", "1e-9")) == 0  # all is there
    out, err = capsys.readouterr()
    page = (tmp_path / "report.md").read_text()
    assert out == page
    assert page.index("## small") < page.index("## fewer")
    assert "10 of 10 clips a row; all of it in [small/report.md](small/report.md)." in page
    assert err.splitlines()[-1] == f"wrote {tmp_path / 'report.md'}"
    clips = {name: kept for name, kept in contents(tmp_path / "small").items() if name != "report.json"}
    assert clips == {name: kept for name, kept in contents(whole).items() if name != "report.json"}  # of 20 draws


def test_a_dry_run_says_what_is_missing_of_each_and_leaves_nothing(tmp_path, capsys):
    output = tmp_path / "all"
    assert main(["reproduce", "--pair", "animatediff", "-o", str(output), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line and line[0] != " "] == [
        "ucf101: 2,020 clips a row", "msrvtt: 1,491 clips a row", "chronomagic-150: 450 clips a row",
        "chronomagic-1649: 4,947 clips a row",
        "in all: 336.3 GB of lossless clips, unless --keep features; at the paper's seconds on an RTX 4090 279.6 h for "
        "video model alone, IV-Mixed",
    ]  # fmt: skip
    assert "  MISSING   network of chronomagic-umt, for UMT-FVD, UMTScore: give it by --extractor chrono" in out
    assert "IV-Mixed: 450 clips, not timed here yet (draw a few: --clips 8 --seeds 1); at the paper's 92 s" in out
    assert "11.5 h" in out
    assert not output.exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--benchmarks", "ucf"], "benchmark 'ucf': expected one of ucf101, "),
        (["--benchmarks", "ucf101,ucf101"], "--benchmarks ucf101,ucf101: expected each once"),
        (["--benchmarks", ""], "benchmark '': expected one of ucf101, "), (["--hours", "nan"], "hours=nan: expected"),
        (["--benchmarks", "chronomagic-150", "--extractor", "chronomagic-umt=none.pt"],
         "--extractor chronomagic-umt: no file or folder none.pt"),
        (["--prompts", "ucf=x.txt"], "--prompts ucf=x.txt: expected NAME=FILE, once for each of ucf101, "),
        (["--extractor", "plain=x.pt"], "--extractor plain: none of ucf101, "),
        (["--extractor", "x.pt"], "--extractor x.pt: expected PROTOCOL=FILE with one of "),
        ([], "no benchmark has a network that measures: name one by --extractor"),
        (["--full", "--arms", "x.json"], "give either --full or --arms, not both"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(more, said, tmp_path, capsys):
    assert main(["reproduce", "-o", str(tmp_path / "all"), *more]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"ivmix reproduce: error: {said}")
    assert not (tmp_path / "all").exists()


def test_a_report_says_of_which_rows_a_doubt_is(two, task_of, tmp_path):
    """Of the paper's tables, which a benchmark of one's own may name."""
    from ivmix.benchmarks.report import doubts
    from ivmix.evaluation.paper import tables

    found = doubts(tables("ucf101"), ["fvd_styleganv"])
    assert "AnimateDiff UniCtrl: more than twice every other row of its model" in found
    assert "the released code has neither the evaluation nor the prompts" in found
    assert json.dumps(found).count("digit by digit") == 1
