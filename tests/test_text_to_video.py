"""Prompts to videos on the embedded pair: the same bytes every time, the same sample in every batch, clear errors."""

import warnings

import numpy as np
import pytest
import torch

from ivmix import TextToVideo
from ivmix.sampling import SAMPLERS
from ivmix.solvers import GuidanceRamp, Guided, Network, Official, initial_noise, integrate

PROMPTS = ["a red circle moving left", "a blue cross moving up", "a yellow square moving down"]
SMALL = {"frames": 2, "height": 32, "width": 32}  # a sixteenth of the pixels of the pair's own


@pytest.fixture(scope="module")
def model() -> TextToVideo:
    return TextToVideo.from_pair("sprites")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_makes_frames_and_a_record_that_makes_them_again(model, sampler):
    result = model(PROMPTS[0], sampler=sampler, steps=4, **SMALL)
    assert result.frames.shape == (1, 2, 32, 32, 3)
    assert result.frames.dtype == np.uint8
    record = result.record
    sizes = {"frames": record.frames, "height": record.height, "width": record.width}
    again = model(record.prompts, seed=record.seeds, **sizes, **record.sampling)
    assert np.array_equal(result.frames, again.frames)
    assert again.record.sampling == record.sampling


def test_sizes_are_the_pairs_own_unless_given(model):
    assert model(PROMPTS[0], sampler="image", steps=1).frames.shape == (1, 8, 64, 64, 3)


@pytest.mark.parametrize(
    "options", [{"sampler": "composite", "steps": 4}, {"sampler": "freeinit", "steps": 2, "iterations": 2}]
)
def test_a_sample_is_the_same_alone_and_in_any_batch(model, options):
    """Across batch sizes float32 sums are ordered differently; 1e-4 is the promise, latents being of order one."""
    together = model(PROMPTS, seed=5, **options, **SMALL)
    two = model(PROMPTS, seed=5, batch_size=2, **options, **SMALL)
    alone = model(PROMPTS[2], seed=7, **options, **SMALL)
    assert (together.latents - two.latents).abs().max() <= 1e-4
    assert (together.latents[2:] - alone.latents).abs().max() <= 1e-4


def test_the_seed_and_the_prompt_decide_the_clip(model):
    one, other_seed = (model(PROMPTS[0], seed=s, sampler="ddim", steps=3, **SMALL).frames for s in (0, 1))
    other_prompt = model(PROMPTS[1], seed=0, sampler="ddim", steps=3, **SMALL).frames
    assert not np.array_equal(one, other_seed)
    assert not np.array_equal(one, other_prompt)


def test_negative_prompts_go_to_both_models_or_to_the_image_model_alone(model):
    call = {"sampler": "composite", "steps": 3, **SMALL}
    plain = model(PROMPTS[0], **call).frames
    both = model(PROMPTS[0], negative_prompt=PROMPTS[1], **call)
    image = model(PROMPTS[0], image_negative_prompt=PROMPTS[1], **call)
    assert both.record.image_negative_prompt == PROMPTS[1]
    assert image.record.negative_prompt == ""
    assert not np.array_equal(plain, both.frames)
    assert not np.array_equal(plain, image.frames)
    assert not np.array_equal(both.frames, image.frames)


def test_a_zigzag_too_short_to_mix_says_so(model):
    with pytest.warns(UserWarning, match="none of 2 steps mixes"):
        assert model(PROMPTS[0], sampler="zigzag", steps=2, **SMALL).record.nfe == {"video": 2}


def test_a_pattern_without_the_image_model_is_no_mistake(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model(PROMPTS[0], sampler="zigzag", pattern="V-V", steps=3, **SMALL).record.nfe == {"video": 7}


def test_evaluations_are_counted_per_clip_whatever_the_batches(model):
    one = model(PROMPTS[0], sampler="zigzag", steps=4, **SMALL).record
    three = model(PROMPTS, sampler="zigzag", steps=4, batch_size=2, **SMALL).record
    assert one.nfe == three.nfe == {"image": 4, "video": 8}


def test_the_authors_loop_plays_their_plan_on_their_schedule_and_ends_in_z(model):
    """Leg for leg what `ivmix.solvers.Official` plays; its last state, at a level above 0, is decoded as z."""
    latents = model(PROMPTS[0], sampler="official", steps=5, **SMALL).latents
    schedule = Official.schedule()
    legs = Official("animatediff", 5, 2.0, GuidanceRamp(1.0), GuidanceRamp(1.0)).legs(schedule)
    fields = {}
    for side in (model.pair.image, model.pair.video):
        network = Network(side.unet, schedule, side.prediction, side.name)
        fields[side.name] = Guided(network(side.condition([""])), network(side.condition([PROMPTS[0]])))
    x = schedule.start(initial_noise([0], (4, 2, 8, 8)), legs[0].source)
    with torch.no_grad():
        run = integrate(fields, legs, x, schedule=schedule)
    assert dict(run.nfe) == {"image": 10, "video": 15}
    assert torch.equal(latents, schedule.alpha_at(legs[-1].target) * run.x)


def test_one_iteration_of_freeinit_and_no_zigzag_are_the_video_model_alone_bit_for_bit(model):
    alone, once, none, twice = (
        model(PROMPTS[0], steps=4, **options).latents
        for options in (
            {"sampler": "ddim"},
            {"sampler": "freeinit", "iterations": 1},
            {"sampler": "zsampling", "zigzags": 0},
            {"sampler": "freeinit", "iterations": 2},
        )
    )
    assert torch.equal(alone, once)
    assert torch.equal(alone, none)
    assert not torch.equal(alone, twice)


def test_every_step_is_reported_and_a_callback_that_raises_stops_the_run(model):
    seen = []
    call = {"sampler": "ddim", "steps": 5, **SMALL}
    model(PROMPTS[0], **call, callback=lambda step, total, run: seen.append((step, total)))
    assert seen == [(k, 5) for k in range(1, 6)]

    class Enough(Exception):
        pass

    def stop(step, total, run):
        seen.append(step)
        raise Enough

    with pytest.raises(Enough):
        model(PROMPTS[0], **call, callback=stop)
    assert seen[5:] == [1]


def test_latents_decode_to_the_frames(model):
    from ivmix.media import to_frames

    result = model(PROMPTS[0], sampler="ddim", steps=3, **SMALL)
    with torch.no_grad():
        assert np.array_equal(to_frames(model.pair.vae.decode(result.latents)), result.frames)


def test_tiles_of_the_decoder_change_the_frames_a_little_and_the_latents_not_at_all(model):
    call = {"sampler": "ddim", "steps": 3, "frames": 2}
    plain, tiled, whole = (model(PROMPTS[0], vae_tile=tile, **call) for tile in (None, 12, 16))  # of 16 latents a side
    assert torch.equal(plain.latents, tiled.latents)
    assert 0 < np.abs(plain.frames.astype(float) - tiled.frames).mean() < 10  # of 255
    assert np.array_equal(plain.frames, whole.frames)
    assert [result.record.vae_tile for result in (plain, tiled, whole)] == [None, 12, 16]


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
        ("a red\ncircle moving left", "control character"),
        ("a red\x00circle", "control character"),
        (7, "expected text"),
    ],
)
def test_a_prompt_that_cannot_be_drawn_is_one_clear_short_error(model, prompt, message):
    with pytest.raises(ValueError, match=message) as caught:
        model([prompt])
    assert len(str(caught.value)) < 500


def test_a_prompt_too_long_is_cut_with_one_warning_that_shows_the_words(model):
    long, call = f"{PROMPTS[0]} a blue cross", {"batch_size": 1, "sampler": "composite", "steps": 2, **SMALL}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # as Python starts
        frames = model([long, PROMPTS[1]], **call).frames
    assert [str(w.message).partition("cut off: ")[2] for w in caught] == ["'blue cross'"]
    assert np.array_equal(frames, model([f"{PROMPTS[0]} a", PROMPTS[1]], **call).frames)


def test_a_weight_of_one_changes_no_byte_and_another_changes_the_clip(model):
    call = {"sampler": "composite", "steps": 3, **SMALL}
    plain, one, more = (
        model(prompt, **call).frames
        for prompt in (PROMPTS[0], "a (red:1.0) [(circle)] moving left", "a (red:1.3) circle moving left")
    )
    assert np.array_equal(plain, one)
    assert not np.array_equal(plain, more)
    assert np.abs(plain.astype(float) - more).mean() < 30  # still that clip, of 255


def test_a_bad_prompt_of_a_later_batch_is_found_before_sampling(model):
    with pytest.raises(ValueError, match="'pink'"):
        model([*PROMPTS, "a pink circle moving left"], batch_size=1, callback=lambda *_: pytest.fail("sampled first"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"seed": [1, 2]}, "seed has 2 entries for 1 prompts"),
        ({"seed": -1}, "seeds"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"vae_tile": 0}, "vae_tile=0"),
        ({"frames": 99}, "frames=99"),
        ({"guidance": float("inf")}, "guidance=inf"),
        ({"colour": "red"}, "option 'colour'"),
    ],
)
def test_arguments_that_cannot_be_are_refused_by_name(model, call, message):
    with pytest.raises(ValueError, match=message):
        model(PROMPTS[0], **call)
