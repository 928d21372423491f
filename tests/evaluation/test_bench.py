"""Timings: paired by round, evaluations counted by the run itself. No test asserts how long anything takes."""

import json

import pytest

from ivmix import TextToVideo
from ivmix.cli import main
from ivmix.evaluation.arms import Arm
from ivmix.evaluation.bench import Timing, bench, table

FEW = [
    Arm("plain", {"sampler": "ddim", "steps": 3}),
    Arm("both", {"sampler": "composite", "steps": 4}),
]


def test_every_arm_is_timed_every_round_and_the_warm_up_is_not_counted():
    model = TextToVideo.from_pair("sprites")
    timings = bench(model, "a red circle moving left", FEW, rounds=2, frames=1, height=16, width=16)
    assert [timing.arm for timing in timings] == FEW
    assert [timing.nfe for timing in timings] == [{"video": 3}, {"image": 4, "video": 4}]
    assert all(len(timing.seconds) == 2 and min(timing.seconds) > 0 for timing in timings)


def test_ratios_are_within_a_round_and_the_table_shows_their_median_and_range():
    slow_minute = (
        Timing(FEW[0], {"video": 3}, (1.0, 10.0, 1.0)),
        Timing(FEW[1], {"video": 4, "image": 4}, (2.0, 19.0, 2.1)),
    )
    assert slow_minute[1].ratios(slow_minute[0]) == [2.0, 1.9, 2.1]
    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in table(slow_minute).splitlines()[2:]] == [
        ["plain", "0+3", "1.00", "3600", "1.00", ""],
        ["both", "4+4", "2.10", "1714", "2.00", "1.90 - 2.10"],
    ]


def test_a_batch_is_timed_whole_and_shown_by_the_clip():
    model = TextToVideo.from_pair("sprites")
    two = bench(model, "a red circle moving left", FEW, rounds=1, frames=1, height=16, width=16, batch_size=2)
    assert [(timing.nfe, timing.clips) for timing in two] == [({"video": 3}, 2), ({"image": 4, "video": 4}, 2)]
    of_two = Timing(FEW[0], {"video": 3}, (4.0,), 2)
    assert [cell.strip() for cell in table([of_two]).splitlines()[2].split("|")[3:5]] == ["2.00", "1800"]
    with pytest.raises(ValueError, match="batch_size=0: expected"):
        bench(model, "a red circle moving left", FEW, batch_size=0)


def test_a_call_that_cannot_be_is_one_line_before_any_is_timed(capsys):
    assert main(["bench", "--size", "33x64"]) == 2
    said = "height=33: expected a positive multiple of 16 pixels for pair 'sprites'"
    assert capsys.readouterr().err == f"ivmix bench: error: {said}\n"


@pytest.mark.parametrize(("arms", "rounds", "message"), [(FEW, 0, "rounds=0"), ([], 1, "arms: expected")])
def test_nothing_to_time_is_an_error(arms, rounds, message):
    with pytest.raises(ValueError, match=message):
        bench(TextToVideo.from_pair("sprites"), "a red circle moving left", arms, rounds)


def test_the_command_prints_the_table(tmp_path, capsys):
    arms = tmp_path / "arms.json"
    arms.write_text(json.dumps([{"label": arm.label, "options": dict(arm.options)} for arm in FEW]))
    small = ["--rounds", "1", "--frames", "1", "--size", "16x16", "--quiet"]
    assert main(["bench", "--arms", str(arms), *small]) == 0
    assert "| both " in capsys.readouterr().out
    arms.write_text(json.dumps([{"label": "a", "options": {"sampler": "ddim", "steps": -1}}]))
    assert main(["bench", "--arms", str(arms), *small]) == 2
    assert "arm 'a'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the (image|video) model:UserWarning")
def test_across_a_bridge_only_what_can_be_is_timed(capsys):
    small = ["--rounds", "1", "--frames", "1", "--size", "16x16", "--quiet"]
    assert main(["bench", "--pair", "sprites-bridged", *small]) == 0
    said = capsys.readouterr().out
    assert "composite ODE" in said
    assert "IV-Mixed" not in said
