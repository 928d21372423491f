"""A run that does not mix where it is to mix says so before it begins, and no other run says anything."""

import warnings
from dataclasses import replace

import pytest

from ivmix import TextToVideo

PROMPTS = ["a red circle moving left", "a blue cross moving up", "a yellow square moving down"]
SMALL = {"frames": 2, "height": 32, "width": 32}  # a sixteenth of the pixels of the pair's own


def test_a_zigzag_too_short_to_mix_says_so(model):
    with pytest.warns(UserWarning, match="none of 2 steps mixes") as caught:
        assert model(PROMPTS[0], sampler="zigzag", steps=2, interval="0.9:1", **SMALL).record.nfe == {"video": 2}
    assert len(caught) == 1  # and nothing of the interval


def test_a_pattern_without_the_image_model_is_no_mistake(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model(PROMPTS[0], sampler="zigzag", pattern="V-V", steps=3, **SMALL).record.nfe == {"video": 7}


def test_an_interval_without_a_step_mixes_nothing_and_says_so(model):
    for sampler in ("composite", "mixture"):
        with pytest.warns(UserWarning, match="none of 1 steps begins in the interval 0.5:1"):
            result = model(PROMPTS[0], sampler=sampler, steps=1, interval="0.5:1", **SMALL)
        assert result.record.nfe == {"video": 1}


@pytest.mark.parametrize(("level", "idle", "other"), [(0.01, "image", "video"), (99.0, "video", "image")])
def test_a_switch_that_gives_a_model_no_turn_says_so(model, level, idle, other):
    with pytest.warns(UserWarning, match=f"where the {idle} model has its turn") as caught:
        run = model(PROMPTS[0], sampler="switch", steps=2, switch_at=level, **SMALL)
    assert (run.record.nfe, len(caught)) == ({other: 2}, 1)


def test_turns_that_give_a_model_none_say_so(model):
    with pytest.warns(UserWarning, match="where the image model has its turn"):
        run = model(PROMPTS[0], sampler="turns", steps=3, interval="0.6:1", **SMALL)  # the third, which is not its
    assert run.record.nfe == {"video": 3}


def test_means_taken_for_clips_and_clips_for_means_are_said(model):
    """A consistency model under what follows scores, and a model with scores under few steps."""
    student = TextToVideo(replace(model.pair, video=replace(model.pair.video, consistency=True)))
    with pytest.warns(UserWarning, match="not said to be a consistency model: 'lcm' takes its x0, a mean, for a clip"):
        model(PROMPTS[0], sampler="lcm", **SMALL)
    with pytest.warns(UserWarning, match="the video model is a consistency model, which has no scores: what sampler"):
        student(PROMPTS[0], sampler="composite", steps=2, **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sampler in ("lcm", "blend", "turns", "image"):
            student(PROMPTS[0], sampler=sampler, steps=4, **SMALL)
        model(PROMPTS[0], sampler="composite", steps=2, **SMALL)
