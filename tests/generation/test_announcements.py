"""A run that does not mix where it is to mix says so before it begins, and no other run says anything."""

import warnings

import pytest

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
