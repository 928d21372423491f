"""Comparisons: every arm sees the same noise, and differences are paired."""

import numpy as np
import pytest

from ivmix import TextToVideo
from ivmix.evaluation.arms import ARMS, Arm
from ivmix.evaluation.comparison import columns, compare, summary, table
from ivmix.evaluation.legend import legend
from ivmix.sprites.benchmark import COLUMNS, COMPARED, scorer

PROMPTS = ["a red circle moving left", "a blue cross moving up"]


@pytest.fixture(scope="module")
def outcomes():
    model = TextToVideo.from_pair("sprites")
    arms = [Arm("a", {"sampler": "ddim", "steps": 3}), Arm("b", {"sampler": "composite", "steps": 3})]
    return compare(model, PROMPTS, [*arms, arms[0]], scorer(model.pair), seed=3, frames=2)


def test_the_same_arm_twice_gives_the_same_clips(outcomes):
    assert np.array_equal(outcomes[0].frames, outcomes[2].frames)
    assert not np.array_equal(outcomes[0].frames, outcomes[1].frames)


def test_differences_are_paired_with_the_first_arm(outcomes):
    report = summary(outcomes)
    assert "difference" not in report["arms"][0]["degradation"]
    for name in COMPARED:
        assert report["arms"][2][name]["difference"] == 0
        assert report["arms"][2][name]["difference_interval"] == (0, 0)
        expected = (outcomes[1].scores[name] - outcomes[0].scores[name]).mean()
        assert report["arms"][1][name]["difference"] == pytest.approx(expected)


def test_the_table_has_a_row_an_arm_and_its_evaluations(outcomes):
    lines = table(summary(outcomes), COLUMNS).splitlines()
    assert len(lines) == 2 + 3
    assert len({len(line) for line in lines}) == 1
    assert "| 3+3" in lines[3]


def test_every_column_of_the_table_but_the_sampler_has_a_line_in_the_legend(outcomes):
    head = [cell.strip() for cell in table(summary(outcomes), COLUMNS).splitlines()[0].split("|")[1:-1]]
    lines = legend(columns(summary(outcomes), COLUMNS)).splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == head[1:]


def test_frames_that_follow_no_path_are_given_no_motion(outcomes):
    """The net displacement of jumping frames pointed the right way, and said 1.000."""
    report = summary(outcomes)
    jumping, moving = ({**report["arms"][0], "jitter": {"mean": j}, "motion": {"mean": 1.0}} for j in (16.4, 0.8))
    head, _, *rows = table({"arms": [jumping, moving]}, COLUMNS).splitlines()[:4]
    motion = [cell.strip() for cell in head.split("|")].index("motion")
    assert [row.split("|")[motion].strip() for row in rows] == ["-", "1.000"]


def test_a_pair_without_a_judge_still_compares(outcomes):
    bare = [type(o)(o.arm, o.frames, o.record, None) for o in outcomes]
    assert table(summary(bare), {}).splitlines()[0].count("|") == 4


def test_weights_of_a_prompt_are_no_part_of_what_is_measured(outcomes):
    model = TextToVideo.from_pair("sprites")
    weighted = ["a (red:1.0) circle moving left", r"a [(blue)] cross moving up"]
    again = compare(model, weighted, [outcomes[0].arm], scorer(model.pair), seed=3, frames=2)
    assert np.array_equal(again[0].scores["colour"], outcomes[0].scores["colour"])


def test_a_prompt_that_cannot_be_measured_is_refused_before_sampling(outcomes, monkeypatch):
    monkeypatch.setattr(TextToVideo, "__call__", lambda *_, **__: pytest.fail("sampled first"))
    model = TextToVideo.from_pair("sprites")
    with pytest.raises(ValueError, match="no caption of this world"):
        compare(model, ["red red"], [outcomes[0].arm], scorer(model.pair))


def test_the_arms_are_the_families_of_the_paper_and_ours():
    assert [arm.options["sampler"] for arm in ARMS] == ["ddim", "image", "zigzag", "zigzag", "composite", "mixture"]
