"""Reports of a benchmark with a published table: fetched prompts, scores by captions, the paper's rows beside ours."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_benchmark import CAPTIONS, report_of, write_umt, write_videos

from ivmix.benchmarks.description import describe
from ivmix.benchmarks.plots import legend
from ivmix.benchmarks.report import doubts, markdown, published_table
from ivmix.benchmarks.run import Task, evaluate
from ivmix.benchmarks.setup import Given, make_task
from ivmix.evaluation.extractors import UMTScore, load_extractor
from ivmix.evaluation.features import FeatureSet
from ivmix.evaluation.metrics.statistics import interval
from ivmix.evaluation.paper import tables
from ivmix.media import read_clip
from ivmix.models import load_wordpiece

UMT = "chronomagic-umt"
LONG = "a red circle moving " + "up " * 40


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("published")
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}", folder
    http.shutdown()
    http.server_close()


@pytest.fixture(scope="module")
def benchmark(house, server, tmp_path_factory) -> Path:
    """One like ChronoMagic-Bench-150, its captions and features published elsewhere, as they are there."""
    address, published = server
    rows = [f"{id},{LONG if id == 'red_01' else text},sub,main" for id, text in CAPTIONS.items()]
    (published / "captions.csv").write_text("\n".join(["videoid,name,sub_category,main_category", *rows]) + "\n")
    torch.save(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)), published / "gt.pt")
    torch.save(torch.randn(12, 6, generator=torch.Generator().manual_seed(1)), published / "pool.pt")
    folder = tmp_path_factory.mktemp("chronomagic")
    raw = {
        "format": 1, "name": "chronomagic-5", "from": "chronomagic-150", "samples": 2,
        "prompts": {"file": {"source": f"{address}/captions.csv"}, "format": "chronomagic", "count": 5},
        "reference": {"features": {UMT: {"source": f"{address}/gt.pt"}},
                      "pool": {UMT: {"source": f"{address}/pool.pt"}}, "count": 6},
    }  # fmt: skip
    (folder / "chronomagic-5.json").write_text(json.dumps(raw))
    write_umt(folder / "umt")
    for k, row in enumerate(("ours", "theirs")):
        write_videos(folder / row, [f"{sample}/{id}.mp4" for sample in (1, 2) for id in CAPTIONS], seed=k)
    return folder


def chronomagic(benchmark: Path, house, folder: Path, **changes: Any) -> Task:
    given = replace(Given(
        videos=(str(benchmark / "ours"), str(benchmark / "theirs")), extractors={UMT: str(benchmark / "umt")},
        vocabulary=str(house.folder / "vocab.txt"), batch_size=3,
    ), **changes)  # fmt: skip
    return make_task(describe(benchmark / "chronomagic-5.json"), given, folder, None, (), torch.device("cpu"))


@pytest.fixture(scope="module")
def run(benchmark, house, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    report_of(chronomagic(benchmark, house, folder))
    return folder


def test_scores_are_of_each_clip_and_its_own_caption(benchmark, house, run):
    score = UMTScore(load_extractor(UMT, benchmark / "umt"), load_wordpiece(house.folder / "vocab.txt"))
    captions = CAPTIONS | {"red_01": LONG}
    raw = json.loads((run / "report.json").read_text())
    for row in raw["rows"]:
        by_hand = np.concatenate([
            score(read_clip(benchmark / row["label"] / str(sample) / f"{id}.mp4").frames[None], [text], 8)["umt_score"]
            for sample in (1, 2) for id, text in captions.items()
        ])  # fmt: skip
        assert row["scores"]["umt_score"]["mean"] == pytest.approx(by_hand.mean(), abs=1e-3)
        low_high = interval(by_hand, [*captions, *captions])
        assert row["scores"]["umt_score"]["interval"] == pytest.approx(low_high, rel=0.2)
        assert by_hand.std() > 0
    assert raw["prompts"]["captions"] == 5
    assert raw["prompts"]["captions cut for chronomagic-umt"] == 1


def test_the_leaderboard_s_file_has_what_was_measured_and_no_more(run):
    for row in json.loads((run / "report.json").read_text())["rows"]:
        found = json.loads((run / "leaderboard" / f"{row['label']}.json").read_text())[row["label"]]
        assert found == {
            "Average_MTScore": -1, "Average_CHScore": -1, "Average_GPT4o-MTScore": -1,
            "Average_UMT-FVD": pytest.approx(row["distances"]["umt_fvd"]["parts"]["value"], rel=1e-5),
            "Average_UMTScore": pytest.approx(row["scores"]["umt_score"]["mean"], rel=1e-5),
        }  # fmt: skip


def test_a_report_is_read_beside_print_floor_and_doubts(run):
    text = (run / "report.md").read_text()
    for line in (
        "AnimateDiff IV-mixed", "paper, Table 1", "228.6 ± ", "## What is not said of the paper's runs",
        "UMT-FVD of real clips from real ones: ", "over 3 draws of 5 against 6)", "permutation against 'ours'",
        "5 clips for features of length 6: with fewer clips than that a Fréchet distance is mostly bias",
        "subsets are drawn from each side's own range", "captions cut for chronomagic-umt: 1",
    ):  # fmt: skip
        assert line in text, line


def test_files_that_are_not_the_benchmark_s_are_doubts_of_the_report(benchmark, house, tmp_path):
    """Other prompts or other real clips make numbers that stand beside no print."""
    raw = json.loads((benchmark / "chronomagic-5.json").read_text())
    raw["prompts"]["file"]["sha256"] = raw["reference"]["features"][UMT]["sha256"] = "0" * 64
    raw["prompts"]["count"] = 150
    (benchmark / "changed.json").write_text(json.dumps(raw | {"name": "changed"}))
    (tmp_path / "captions.csv").write_text("\n".join(["videoid,name", *(f"{a},{b}" for a, b in CAPTIONS.items())]))
    FeatureSet(torch.randn(6, 6, generator=torch.Generator().manual_seed(0))).save(tmp_path / "gt.safetensors")
    given = Given(
        videos=(str(benchmark / "ours"),), extractors={UMT: str(benchmark / "umt")}, samples=1, clips=4, batch_size=4,
        prompts=str(tmp_path / "captions.csv"), real=(f"{UMT}={tmp_path}/gt.safetensors",),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="not the known file"):
        task = make_task(describe(benchmark / "changed.json"), given, tmp_path / "run", None, (), torch.device("cpu"))
    found = report_of(task)
    features = f"features of the reference by {UMT}"
    assert [said.partition(": ")[0] for said in found.warnings[:2]] == ["prompts", features]
    assert all("is not the known file: its SHA-256 is " in said for said in found.warnings[:2])
    assert "the prompts are 5, the benchmark's 150" in found.warnings
    text = (tmp_path / "run" / "report.md").read_text()
    assert "**Warning**: the prompts are 5" in text
    assert "ours of fewer, whose distances are larger: do not compare them." in text  # four clips beside print
    assert legend(found, True) == (
        "filled: measured, of 4 of 10 clips; hollow: in print, of all; band: real clips from real ones, of as many as "
        "measured"
    )


def test_frames_size_and_sampler_of_a_row_stand_in_the_report(whole):
    text = (whole / "report.md").read_text()
    row = json.loads(text.partition("- two steps: ")[2].partition("\n")[0])
    assert (row["frames"], row["height"], row["width"], row["sampling"]["steps"]) == (10, 16, 16, 2)
    assert [row] == [row["settings"] for row in json.loads((whole / "report.json").read_text())["rows"][1:]]


def test_what_is_in_print_is_shown_without_rows_of_no_number():
    for line in published_table(tables("chronomagic-150"), ["umt_fvd", "umt_score"]).splitlines()[2:]:
        assert line.rstrip("| ")[-1].isdigit(), line


def test_a_doubt_of_a_whole_table_names_the_table_alone():
    found = doubts(tables("chronomagic-150"), ["umt_fvd"])
    assert "Table 1: read digit by digit off an image of the project's page" in found
    assert any(said.startswith("AnimateDiff DDIM: the leaderboard has") for said in found)
    assert max(said.partition(": ")[0].count(",") for said in found) < 3


def test_scores_are_added_to_what_was_measured_without_words(benchmark, house, run, tmp_path):
    few = {"videos": (str(benchmark / "ours"),), "samples": 1}
    found = report_of(chronomagic(benchmark, house, tmp_path, vocabulary=None, **few))
    assert "umt_score is not measured: --extractor names its network, --vocabulary its words" in found.warnings
    before = FeatureSet.load(tmp_path / "features" / UMT / "ours-1.safetensors")
    scored = report_of(chronomagic(benchmark, house, tmp_path, **few))
    assert list(scored.results[0].scores) == ["umt_score"]
    for folder in (tmp_path, run):
        after = FeatureSet.load(folder / "features" / UMT / "ours-1.safetensors")
        assert torch.equal(before.features, after.features)
        assert before.weights == after.weights  # of the network that sees: words are no part of it
    with pytest.raises(ValueError, match=r'made with scorer {"vocabulary": "\w+…, now null'):
        chronomagic(benchmark, house, tmp_path, vocabulary=None, **few).check()


def test_what_was_fetched_is_not_fetched_again(benchmark, house, run, server, capfd):
    _, folder = server
    (folder / "captions.csv").rename(folder / "gone.csv")
    try:
        assert evaluate(chronomagic(benchmark, house, run), draws=3) is not None
    finally:
        (folder / "gone.csv").rename(folder / "captions.csv")
    assert "downloading" not in capfd.readouterr().err


def test_a_row_of_a_benchmark_without_print_has_none(task_of, whole):
    assert "## In print" not in markdown(report_of(task_of(whole)))
