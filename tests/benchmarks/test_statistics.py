"""What reviewers ask of the numbers: of which clips, prompts and covariances they are, and what cannot be one."""

import math
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_benchmark import PROTOCOL, report_of, write_videos

from ivmix.benchmarks.clips import Sampled
from ivmix.benchmarks.description import describe
from ivmix.benchmarks.estimate import Cost
from ivmix.benchmarks.measuring import FEATURES, Measured, Meter, Scorer, collect, measure
from ivmix.benchmarks.plan import Plan, files_plan
from ivmix.benchmarks.prompts import Prompt, nested
from ivmix.benchmarks.results import References, Row, compare, p_value, results
from ivmix.benchmarks.run import Job, complete, compute, measured_reference
from ivmix.benchmarks.setup import Given, make_plan
from ivmix.benchmarks.written import CLIPS, read_again
from ivmix.evaluation.arms import Arm
from ivmix.evaluation.distance import measure_distance
from ivmix.evaluation.features import FeatureSet
from ivmix.evaluation.metrics.distances import frechet_of_features
from ivmix.evaluation.metrics.statistics import paired_permutation
from ivmix.evaluation.protocols import PROTOCOLS

IDS = tuple(f"p{k}" for k in range(14))
SMALL = SimpleNamespace(distances={"fvd_styleganv": PROTOCOL}, scores=("umt_score",), comparisons=("parts", "tiled"))


def drawn(seed: int, n: int = len(IDS), shift: float = 0) -> FeatureSet:
    rows = np.random.default_rng(seed).normal(shift, 1, (n, 3))
    return FeatureSet(torch.from_numpy(rows), IDS if n == len(IDS) else ())


def measured(seed: int, shift: float = 0, samples: int = 2) -> Measured:
    scores = np.random.default_rng(seed).normal(shift, 1, samples * len(IDS)).astype(np.float32)
    return Measured(tuple(drawn(seed + k, shift=shift) for k in range(samples)), {"umt_score": scores})


def row(label: str, one: Measured) -> Row:
    return Row(label, {}, {PROTOCOL: one}, {}, None)


class Brightness:
    """Clips that are each of one grey level, a prompt's number; the 5th is what a network may give of a bad one."""

    label = "ours"

    def __init__(self, bad: float = 4.0) -> None:
        self.bad = bad

    def settings(self, batch):
        return {"ids": batch.ids, "sample": batch.sample}

    def frames(self, batch, shown=None):
        for id in batch.ids:
            yield np.full((2, 4, 4, 3), int(id[1:]), np.uint8)

    def meter(self) -> Meter:
        def level(clip: np.ndarray) -> float:
            found = float(clip.mean())
            return self.bad if found == 4 else found

        scorer = Scorer(lambda clip, captions: {"umt_score": np.array([level(clip)])}, {}, lambda captions: 0)
        return Meter("any", lambda clip: torch.tensor([[level(clip)]]), {}, scorer)


def test_clips_of_a_batch_that_are_not_counted_are_in_no_number(tmp_path):
    plan, clips = Plan(tuple(Prompt(id, ("…",)) for id in IDS), 6, 2, batch_size=4), Brightness()
    (tmp_path / "parts" / "any").mkdir(parents=True)
    for batch in plan.batches:
        measure([clips.meter()], clips, batch, True, tmp_path)
    found = collect(clips.meter(), clips, [(batch, plan.counted(batch)) for batch in plan.batches], tmp_path)
    assert [sample.features[:, 0].tolist() for sample in found.samples] == [[0, 1, 2, 3, 4, 5]] * 2
    assert found.scores["umt_score"].tolist() == [0, 1, 2, 3, 4, 5] * 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_clip_of_which_there_is_no_number_is_named_and_no_part_written(tmp_path, bad):
    """And not only once all are drawn."""
    plan, clips = Plan(tuple(Prompt(id, ("…",)) for id in IDS), 6, 1, batch_size=6), Brightness(bad)
    with pytest.raises(ValueError, match=r"^ours: p4, sample 1: any gives NaN or infinity as its features$"):
        measure([clips.meter()], clips, plan.batches[0], True, tmp_path)
    assert not list(tmp_path.rglob("*"))
    good = replace(clips.meter(), features=lambda clip: torch.zeros(1, 1))
    with pytest.raises(ValueError, match=r"^ours: p4, sample 1: any gives NaN or infinity as its score.umt_score$"):
        measure([good], clips, plan.batches[0], True, tmp_path)
    assert good.of(np.zeros((2, 4, 4, 3), np.uint8), None)[FEATURES].tolist() == [[0]]


def test_all_rows_have_the_floor_of_the_first_and_the_baseline_no_p():
    rows = [row(name, measured(seed, shift)) for name, seed, shift in (("base", 0, 0), ("a", 10, 0), ("b", 20, 2))]
    real = References({PROTOCOL: drawn(50, 40)}, {})
    found = results(SMALL, rows, real, 5)
    floors = [one.main("fvd_styleganv").floor for one in found]
    assert floors == [floors[0]] * 3
    assert (floors[0].clips, floors[0].against, floors[0].draws) == (14, 26, 5)  # as many as a part has
    assert [one.distances["fvd_styleganv"]["tiled"].floor for one in found] == [None] * 3
    p = [one.p_values["fvd_styleganv"] for one in found]
    assert p[0] is None
    assert p[1] > 0.05 > p[2] == 1 / 200
    assert [one.scores["umt_score"].difference is None for one in found] == [True, False, False]
    assert found[2].scores["umt_score"].difference == pytest.approx(2, abs=1)
    quick = results(SMALL, rows, real, 0)
    assert [(one.main("fvd_styleganv").floor, *one.p_values.values()) for one in quick] == [(None, None)] * 3


def test_scores_have_the_interval_of_prompts_and_not_of_clips():
    """A hundred samples of a prompt that are alike tell no more than one of them."""
    one = measured(0, samples=1)
    many = Measured(one.samples * 50, {"umt_score": np.tile(one.scores["umt_score"], 50)})
    scores = [results(SMALL, [row("x", m)], References({}, {}), 0)[0].scores["umt_score"] for m in (one, many)]
    assert scores[0].interval == pytest.approx(scores[1].interval)


@pytest.mark.parametrize("ddof", [0, 1])
def test_p_is_of_the_covariance_that_the_protocol_has(ddof):
    a, b, real = measured(0), measured(30, 0.2), drawn(50, 20)

    def distance(index: np.ndarray) -> float:
        return frechet_of_features(real.features, rows[index], ddof)

    rows = torch.cat([sample.features for one in (a, b) for sample in one.samples])
    names, first = [*IDS, *IDS], np.arange(2 * len(IDS))
    by_hand = paired_permutation(distance, first, first + len(first), names, 199)
    assert p_value(real, a, b, ddof) == by_hand
    assert p_value(real, a, a, ddof) == 1


def test_the_error_of_a_tiled_comparison_is_of_the_tiled_one():
    """And its MMD that of the reference as it is: of copies it would be biased."""
    real, ours = drawn(50, 5), measured(0)
    tiled, pooled = (compare(how, PROTOCOL, real, ours, "ours", None, 0) for how in ("tiled", "pooled"))
    copies = FeatureSet(real.features.repeat(2, 1))
    by_hand = measure_distance(PROTOCOLS[PROTOCOL], copies, [ours.pooled], clusters=[*IDS, *IDS])
    assert (tiled.value, tiled.full, tiled.full_error) == (by_hand.value, by_hand.full, by_hand.full_error)
    assert (tiled.mmd, tiled.mmd_error) == (pooled.mmd, pooled.mmd_error)
    assert tiled.mmd != pytest.approx(by_hand.mmd)
    assert tiled.full_error != pytest.approx(pooled.full_error)
    assert (tiled.real, pooled.real) == (10, 5)


def test_a_sample_that_is_there_in_part_is_no_part_and_a_report_is_of_what_is_there(task_of, whole, tmp_path):
    """A mean of a distance of all prompts and one of four would be of neither number of clips."""
    shutil.copytree(whole, tmp_path / "run")
    for part in (tmp_path / "run" / "parts").glob("*/*-2-000004.safetensors"):
        part.unlink()
    task = task_of(tmp_path / "run")
    assert sum(counted for _, counted in complete(task)) == 5
    pooled = replace(task, benchmark=replace(task.benchmark, comparisons=("pooled",)))
    assert sum(counted for _, counted in complete(pooled)) == 9
    found = report_of(task, hours=1e-9)
    assert (found.complete, found.results[0].main("fvd_styleganv").fake) == ((5, 10), (5,))
    assert (found.prompts["prompts taken"], found.prompts["samples"], found.prompts["captions"]) == (5, 1, 5)
    for part in (tmp_path / "run" / "parts").glob("*/*-1-000002.safetensors"):
        part.unlink()
    assert report_of(task, hours=1e-9).prompts["prompts taken"] == 2


def test_no_batch_is_begun_for_which_there_is_less_time_than_the_longest_took(tmp_path):
    clips, begun = Brightness(0), list[float]()

    def slow(clip: np.ndarray) -> torch.Tensor:
        begun.append(time.monotonic())
        time.sleep(0.3)
        return torch.zeros(1, 1)

    meter = Meter("any", slow, {})
    plan = Plan(tuple(Prompt(id, ("…",)) for id in IDS), 4, 1, batch_size=1)
    jobs = [Job(clips, batch, 0, False, (meter,), False) for batch in plan.batches]
    task = SimpleNamespace(folder=tmp_path, meters=[meter], keep="clips")
    compute(jobs, task, time.monotonic() + 0.5, False)
    assert len(begun) <= 1
    compute(jobs[:2], task, math.inf, False)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_a_reference_is_one_only_when_all_of_its_batches_are_there(tmp_path):
    clips, batches = Brightness(0), files_plan(IDS, 5)
    task = SimpleNamespace(real=clips, real_batches=batches, real_meters=[clips.meter()], folder=tmp_path)
    (tmp_path / "parts" / "any").mkdir(parents=True)
    for batch in batches:
        assert measured_reference(task) == {}
        measure(task.real_meters, clips, batch, False, tmp_path)
    assert measured_reference(task)["any"].pooled.ids == IDS


def test_the_first_prompts_of_a_plan_are_of_all_categories(house):
    """In the file the three red ones come first."""
    plan = make_plan(describe(house.folder / "small.json"), Given(clips=2))
    assert {prompt.category for prompt in plan.prompts[:2]} == {"red", "blue"}
    assert plan.prompts == nested(plan.prompts[::-1], "small")


def test_what_writing_changes_is_of_the_same_clips_before_and_after(tmp_path):
    """Of 40 the first 32 are read again: a distance of 40 beside one of 32 would differ by their number alone."""
    plan = Plan(tuple(Prompt(f"p{k}", ("…",)) for k in range(40)), 40, 1)
    clips = Sampled(Arm("ours", {}), SimpleNamespace(), "", tmp_path, "{id}.mp4")
    write_videos(clips.videos, [f"p{k}.mp4" for k in range(CLIPS)], frames=2)
    (tmp_path / "parts" / PROTOCOL).mkdir(parents=True)
    meter = Meter(PROTOCOL, lambda clip: torch.from_numpy(clip.mean((0, 1, 2, 3))[None]).float(), {})
    lossless = 100 * torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    ours = row("ours", Measured((FeatureSet(lossless, tuple(f"p{k}" for k in range(40))),), {}))
    batches = [(batch, plan.counted(batch)) for batch in plan.batches]
    found = read_again(clips, ours, batches, [meter], SMALL, References({PROTOCOL: drawn(50, 20)}, {}), tmp_path)
    assert found is not None
    assert (found.clips, len(list((tmp_path / "parts" / PROTOCOL).iterdir()))) == (CLIPS, 4)
    expected = frechet_of_features(drawn(50, 20).features, lossless[:CLIPS].double(), 1)
    assert found.distances["fvd_styleganv"][0] == pytest.approx(expected)
    assert found.distances["fvd_styleganv"][1] != pytest.approx(expected)


def test_hours_are_of_what_is_left():
    assert Cost("ours", 10, 4, 600.0, 92.0).hours == 1
    assert Cost("ours", 10, 4, None, 92.0).hours is None
    text = "ours: 6 of 10 clips left at 10.0 min, 1.0 h; at the paper's 92 s on an RTX 4090 15.3 min"
    assert Cost("ours", 10, 4, 600.0, 92.0).text == text
