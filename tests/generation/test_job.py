"""A call is resolved and checked before anything is sampled: what cannot be is one line that names the argument."""

import re
from inspect import signature

import numpy as np
import pytest
import torch

from ivmix import TextToVideo
from ivmix.generation.job import KEYWORDS, make_job
from ivmix.solvers import initial_noise

PROMPTS = ["a red circle moving left", "a blue cross moving up", "a yellow square moving down"]
SMALL = {"frames": 2, "height": 32, "width": 32}  # a sixteenth of the pixels of the pair's own


def test_what_a_call_takes_is_declared_once_and_shown_by_both_methods():
    _, *declared = signature(make_job).parameters.values()
    for method in (TextToVideo.__call__, TextToVideo.record):
        this, *shown = signature(method).parameters.values()
        assert (this.name, shown) == ("self", declared)
    assert tuple(p.name for p in declared if p.kind is p.KEYWORD_ONLY) == KEYWORDS


def test_a_call_without_a_prompt_or_with_two_is_told_so_by_its_own_name(model):
    for call, name in ((model, "TextToVideo.__call__()"), (model.record, "TextToVideo.record()")):
        for given, named, said in (
            ((), {"steps": 2}, "missing a required argument: 'prompts'"),
            (PROMPTS[:2], {}, "too many positional arguments"),
            (PROMPTS[:1], {"prompts": PROMPTS[1]}, "multiple values for argument 'prompts'"),
        ):
            with pytest.raises(TypeError, match=f"^{re.escape(f'{name}: {said}')}$"):
                call(*given, **named)


def test_a_name_that_is_no_argument_is_answered_with_all_that_are(model):
    with pytest.raises(ValueError, match=f"option 'qqqqqqq' is not known: expected {', '.join(KEYWORDS)}, sampler, "):
        model.record(PROMPTS[0], qqqqqqq=1)


def test_a_warning_of_a_call_points_to_the_line_that_made_it(model):
    for call in (model, model.record):
        with pytest.warns(UserWarning, match="image_frames has no effect") as caught:
            call(PROMPTS[0], sampler="ddim", steps=1, image_frames=2, **SMALL)
        assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(UserWarning, match="none of 2 steps mixes") as caught:
        model(PROMPTS[0], sampler="zigzag", steps=2, **SMALL)
    assert [warning.filename for warning in caught] == [__file__]


def test_one_clip_at_a_time_is_drawn_on_the_cpu_unless_told(model):
    record = model.record(PROMPTS, sampler="ddim")
    assert record.batch_sizes == [1] * len(PROMPTS)
    assert model.record(PROMPTS, sampler="ddim", batch_size=2).batch_sizes == [2, 2, 1]
    assert model.record(PROMPTS, sampler="ddim", batch_size=10**9).batch_sizes == [3, 3, 3]


def test_what_no_memory_holds_is_refused_before_anything_is_sampled(model):
    for call in (model, model.record):
        with pytest.raises(ValueError, match=r"1 x 8 frames of 64x10000000 need at least .* and cpu has"):
            call(PROMPTS[0], width=10**7)


def test_a_record_is_had_without_sampling(model):
    call = {"seed": 4, "sampler": "composite", "steps": 2, **SMALL}
    assert model.record(PROMPTS, **call).asks_as(model(PROMPTS, **call).record)


def test_parts_of_frames_for_a_model_that_does_not_run_are_warned_of(model):
    with pytest.warns(UserWarning, match="image_frames has no effect: sampler 'ddim' runs the video model alone"):
        model.record(PROMPTS[0], sampler="ddim", image_frames=2)


def test_a_negative_prompt_of_a_model_that_does_not_run_is_warned_of(model):
    with pytest.warns(UserWarning, match="image_negative_prompt has no effect: sampler 'ddim'"):
        model(PROMPTS[0], image_negative_prompt="a", sampler="ddim", steps=1, **SMALL)


def test_noise_that_is_none_is_warned_of(model):
    with pytest.warns(UserWarning, match="latents has a deviation of 50"):
        model(PROMPTS[0], latents=50 * initial_noise([0], (4, 2, 8, 8)), sampler="ddim", steps=1, **SMALL)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "the prompt is empty"),
        ("   ", "the prompt is empty"),
        ("a purple circle moving left", "outside the vocabulary: 'purple'.*the words known are"),
        ("un círculo rojo", "outside the vocabulary"),
        ("赤い円が左に動く", "outside the vocabulary"),
        pytest.param("a pink circle " * 2000, "outside the vocabulary", id="thousands of words"),
        ("a (red:1.3.1) circle", "the weight '1.3.1' in the prompt is not a number"),
        ("a (pink:1.3) circle", "outside the vocabulary: 'pink'"),
        ("a red\x1bcircle moving left", r"the prompt has the control character U\+001B, its character 6: remove it"),
        ("a red\x00circle", "control character"),
        (7, "expected text"),
    ],
)
def test_a_prompt_that_cannot_be_drawn_is_one_clear_short_error(model, prompt, message):
    with pytest.raises(ValueError, match=message) as caught:
        model([prompt])
    assert len(str(caught.value)) < 500


def test_a_bad_prompt_of_a_later_batch_is_found_before_sampling(model):
    with pytest.raises(ValueError, match="'pink'"):
        model([*PROMPTS, "a pink circle moving left"], batch_size=1, callback=lambda *_: pytest.fail("sampled first"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"seed": [1, 2]}, "seed has 2 entries for 1 prompts"),
        ({"seed": -1}, "seed=-1: expected a whole number of 0 or more"),
        ({"batch_size": 0}, 'batch_size=0: expected a whole number of 1 or more, or "auto"'),
        ({"batch_size": "all"}, "batch_size='all': expected a whole number of 1 or more, or \"auto\""),
        ({"image_frames": 0}, "image_frames=0"),
        ({"place": 0}, "place=0: expected one prompt and its batch_size, got 1 and auto"),
        ({"place": 2, "batch_size": 2}, "place=2: expected a whole number from 0 to 1"),
        ({"vae_tile": 0}, "vae_tile=0"),
        ({"frames": 0}, "frames=0"),
        ({"guidance": float("inf")}, "guidance=inf"),
        ({"colour": "red"}, "option 'colour'"),
    ],
)
def test_arguments_that_cannot_be_are_refused_by_name(model, call, message):
    with pytest.raises(ValueError, match=message):
        model(PROMPTS[0], **call)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"strength": 0.5}, "strength says how to begin from a video"),
        ({"source_prompt": "a"}, "source_prompt says how to begin from a video"),
        ({"video": np.zeros((2, 64, 64, 3))}, "video is .* of float64: expected uint8 frames"),
        ({"video": np.zeros((64, 64, 3), np.uint8)}, r"expected uint8 frames \(f, h, w, 3\)"),
        ({"video": np.zeros((3, 2, 64, 64, 3), np.uint8)}, r"expected uint8 frames .* \(1, f, h, w, 3\)"),
        ({"video": np.zeros((2, 60, 64, 3), np.uint8)}, "height=60"),
        ({"video": np.zeros((2, 64, 64, 3), np.uint8), "frames": 4}, "4 frames of 64x64 are asked for"),
        ({"video": np.zeros((2, 64, 64, 3), np.uint8), "strength": 0}, "strength"),
        ({"video": np.zeros((2, 64, 64, 3), np.uint8), "strength": "0.5"}, "strength"),
        ({"video": np.zeros((2, 64, 64, 3), np.uint8), "strength": float("nan")}, "strength"),
        ({"video": np.zeros((2, 64, 64, 3), np.uint8), "strength": 0.01}, "less than one"),
        ({"video": np.zeros((2, 64, 64, 3), np.uint8), "sampler": "freeinit"}, "begins again from noise"),
        ({"video": np.zeros((2, 64, 64, 3), np.uint8), "sampler": "bivdiff"}, "begins again from noise"),
        ({"video": "no-such.mp4"}, "no-such.mp4"),
        ({"latents": torch.zeros(1)}, r"latents is torch.float32 of shape \(1,\): expected .* \(1, 4, 8, 16, 16\)"),
        ({"video": torch.zeros(2, 64, 64, 3)}, "video is a Tensor: expected a file, or frames"),
        ({"video": [np.zeros((64, 64, 3))]}, "video is a list: expected a file, or frames"),
        ({"callback": 3}, "callback is 3: expected a function"),
        ({"seeds": [1]}, "'seeds' is not known: it is seed, one number or one a prompt"),
        ({"lead": "image"}, "option 'lead' is not known"),
        ({"negative_prompt": ["", ""]}, "negative_prompt is .*expected one text, or 1"),
        ({"seed": "5"}, "seed='5': expected a whole number"),
        ({"steps": "5"}, "steps='5': expected a whole number"),
        ({"guidance": "7"}, "guidance='7': expected a finite number"),
        ({"num_inference_steps": 5}, "'num_inference_steps' is not known: it is steps here"),
        ({"guidance_scale": 5}, "it is guidance here"),
        ({"num_frames": 5}, "it is frames here"),
        ({"negative_promt": ""}, "did you mean 'negative_prompt'"),
    ],
)
def test_calls_that_cannot_be_are_refused_in_one_line_that_names_the_argument(model, call, message):
    with pytest.raises((ValueError, OSError), match=message) as caught:
        model(PROMPTS[0], **{"callback": lambda *_: pytest.fail("sampled first"), **call})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
