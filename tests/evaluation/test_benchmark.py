"""Benchmarks: one that is not the sprite world needs no more than what `Benchmark` asks of it."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from ivmix.evaluation.arms import Arm, Drawn
from ivmix.evaluation.benchmark import Benchmark, DrawnReference
from ivmix.evaluation.design import Design
from ivmix.evaluation.legend import Column
from ivmix.evaluation.run import evaluate

ARMS = [Arm(name, {"sampler": name, "steps": 1, "frames": 2}) for name in ("ddim", "composite")]
DESIGN = Design(clips=3, repeats=2, batch_size=2)


def mean_colour(frames):
    return torch.from_numpy(frames).float().mean((1, 2, 3))


PHOTOGRAPHS = 255 * torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
COLOURS = Benchmark(
    "colours", ("a red cross moving up", "a blue circle moving down"), mean_colour, "mean colour", PHOTOGRAPHS,
    "photographs", settings={"space": "sRGB"},
)  # fmt: skip


@dataclass(frozen=True)
class Plain:
    """Clips of one colour a seed."""

    label: str

    def settings(self, model):
        return {"truth": "plain"}

    def draw(self, model, captions, seeds):
        rows = [np.random.default_rng(seed).integers(0, 256, (1, 1, 1, 3)) for seed in seeds]
        return Drawn(np.stack([np.broadcast_to(row, (2, 64, 64, 3)).astype(np.uint8) for row in rows]), {}, {}, 0.0)


def redness(frames, prompts, fps):
    assert len(frames) == len(prompts)
    return {"redness": frames[..., 0].mean((1, 2, 3)), "rate": np.full(len(frames), fps)}


PLAIN = replace(
    COLOURS, reference=DrawnReference(Plain("reference"), Design(12, 1, 500, 8)), reference_of="plain clips",
    truths=(Plain("one"), Plain("other")), floor="other", source=Plain(""), measure=redness,
    columns={"rate": Column("frames a second"), "redness": Column("0 to 255", "{:.1f}", main=True, cost=True)},
)  # fmt: skip


def timeless(folder):
    report = json.loads((folder / "report.json").read_text())
    return report | {"arms": [row | {"seconds_per_clip": 0} for row in report["arms"]]}


@pytest.fixture(scope="module")
def whole(maker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    evaluate(maker.model, COLOURS, ARMS, DESIGN, folder)
    return folder


def test_prompts_features_and_a_stored_reference_are_enough_and_a_stopped_run_goes_on(maker, whole, tmp_path):
    """Stopped while the third of six micro-batches is measured; no clip is drawn twice, and no number differs."""
    seen = []

    def stopping(frames):
        seen.append(len(frames))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return mean_colour(frames)

    stopped = replace(COLOURS, features=stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluate(maker.model, stopped, ARMS, DESIGN, tmp_path)
    assert len(list((tmp_path / "parts").iterdir())) == 2
    evaluate(maker.model, stopped, ARMS, DESIGN, tmp_path)
    assert len(seen) == 3 + 4
    assert timeless(tmp_path) == timeless(whole)


def test_the_report_of_a_benchmark_without_columns_or_truths_says_what_it_measured_and_no_more(whole):
    said, raw = (whole / "report.md").read_text(), json.loads((whole / "report.json").read_text())
    assert "to 20 photographs on 3 features of mean colour" in said
    assert said.rstrip().endswith(", space sRGB.")
    assert not [word for word in ("crisp", "judge", "Scores", "floor,", "Differences") if word in said]
    assert (raw["references"], raw["reference_seed"], raw["captions"]) == (20, None, 2)
    assert raw["benchmark"] == {"space": "sRGB"}
    assert [(row["label"], row["columns"]) for row in raw["arms"]] == [("ddim", {}), ("composite", {})]
    assert {path.name for path in whole.glob("*.png")} == {"clips.png", "cost.png", "distances.png"}


def test_columns_truths_and_a_drawn_reference_are_the_benchmarks_own(maker, tmp_path):
    edit = Arm("edit", {"sampler": "ddim", "steps": 2, "frames": 2, "strength": 0.5})
    report = evaluate(maker.model, PLAIN, [*ARMS, edit], DESIGN, tmp_path)
    assert report is not None
    assert [row.label for row in report.arms] == ["one", "other", "ddim", "composite", "edit"]
    assert report.floor is report.arms[1]
    assert list(report.shown) == ["redness"]
    assert report.arms[2].columns["rate"].mean == maker.model.pair.fps
    assert (report.references, report.reference_seed, report.baseline) == (12, 500, "ddim")
    said = (tmp_path / "report.md").read_text()
    assert "- redness: 0 to 255" in said
    assert "The floor, other plain clips of the same captions at the same N, is the row 'other'." in said
    assert (tmp_path / "scores.png").exists()


def test_parts_of_another_benchmark_are_refused_by_what_differs(maker, whole):
    with pytest.raises(ValueError, match='space "sRGB", now "linear"'):
        evaluate(maker.model, replace(COLOURS, settings={"space": "linear"}), ARMS, DESIGN, whole)
    with pytest.raises(ValueError, match=r"captions .*, now "):
        evaluate(maker.model, replace(COLOURS, prompts=COLOURS.prompts[::-1]), ARMS, DESIGN, whole)


def test_an_arm_of_a_strength_needs_a_benchmark_with_clips_to_begin_from(maker, tmp_path):
    edit = Arm("edit", {"sampler": "ddim", "steps": 2, "strength": 0.5})
    with pytest.raises(ValueError, match=r"arm 'edit': strength=0\.5: benchmark 'colours' brings no clips"):
        evaluate(maker.model, COLOURS, [*ARMS, edit], DESIGN, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_reference_of_other_features_is_refused(maker, whole):
    with pytest.raises(ValueError, match="clips have 3 features, the reference 4"):
        evaluate(maker.model, replace(COLOURS, reference=torch.rand(20, 4)), ARMS, DESIGN, whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": lambda frames: torch.ones(1, 3)}, r"features of shape \(1, 3\), expected a row for each of 2"),
        ({"features": lambda frames: torch.ones(2)}, r"features of shape \(2,\), expected a row for each of 2"),
        ({"measure": lambda *_: {"redness": [1.0]}}, r"redness of shape \(1,\), expected a row for each of 2"),
        ({"measure": lambda *_: {"red": [1.0, 2.0]}}, r"red of shape \(2,\), expected one of \['rate', 'redness'\]"),
    ],
)
def test_what_is_not_a_row_a_clip_of_a_known_column_is_refused_with_the_first_clips(maker, tmp_path, change, message):
    with pytest.raises(ValueError, match=f"benchmark 'colours': {message}"):
        evaluate(maker.model, replace(PLAIN, reference=PHOTOGRAPHS, **change), ARMS, DESIGN, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": ()}, "benchmark 'colours': prompts is empty"),
        ({"reference": torch.zeros(1, 3)}, r"reference has shape \(1, 3\): expected \(m, d\), m of 2 or more"),
        ({"reference": torch.zeros(3)}, r"reference has shape \(3,\)"),
        ({"reference": torch.full((4, 3), float("nan"))}, "reference holds NaN"),
    ],
)
def test_a_benchmark_that_cannot_be_names_what_was_given(change, message):
    with pytest.raises(ValueError, match=message):
        replace(COLOURS, **change)
