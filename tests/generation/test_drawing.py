"""A job drawn: the same clip in every batch, every step followed, and a run that ends early or badly says how."""

import numpy as np
import pytest
import torch

from ivmix import TextToVideo
from ivmix.media import to_frames
from ivmix.solvers import GuidanceRamp, Guided, Network, NotFiniteError, Official, initial_noise, integrate

PROMPTS = ["a red circle moving left", "a blue cross moving up", "a yellow square moving down"]
SMALL = {"frames": 2, "height": 32, "width": 32}  # a sixteenth of the pixels of the pair's own


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


def test_a_clip_of_a_batch_is_drawn_again_to_the_bit_at_its_place_in_one_of_that_size(model):
    call = {"sampler": "composite", "steps": 3, "batch_size": 3, **SMALL}
    full = model(PROMPTS, seed=[4, 5, 6], **call)
    for k in range(3):
        again = model(PROMPTS[k], seed=4 + k, place=k, **call)
        assert len(again) == 1
        assert torch.equal(again.latents, full.latents[k : k + 1])
        assert again.record.asks_as(full[k].record)
        made, first = ((r.batch_sizes, r.batch_places) for r in (again.record, full[k].record))
        assert made == first == ([3], [k])


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
    result = model(PROMPTS[0], sampler="ddim", steps=3, **SMALL)
    with torch.no_grad():
        assert np.array_equal(to_frames(model.pair.vae.decode(result.latents)), result.frames)


def test_false_from_the_callback_cancels_as_it_does_in_integrate(model):
    call = {"sampler": "ddim", "steps": 5, "batch_size": 1, **SMALL}
    seen = []
    result = model(PROMPTS, **call, callback=lambda step, total, run: seen.append(step) or len(seen) != 7)
    assert seen == [1, 2, 3, 4, 5, 1, 2]
    assert (len(result), result.record.cancelled, result.record.prompts) == (2, True, PROMPTS[:2])
    whole = model(PROMPTS[0], **call)
    assert np.array_equal(result[0].frames, whole.frames)
    assert not whole.record.cancelled


def test_a_callback_that_says_no_at_the_last_step_cancels_only_what_was_to_come(model):
    call = {"sampler": "ddim", "steps": 2, "batch_size": 1, "callback": lambda step, total, run: step < total}
    alone, first = model(PROMPTS[0], **call, **SMALL), model(PROMPTS, **call, **SMALL)
    assert not alone.record.cancelled
    assert (len(first), first.record.cancelled) == (1, True)


def test_weights_that_are_not_finite_are_named(model):
    broken = TextToVideo.from_pair("sprites")
    broken.pair.image.unet.conv_in.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match=r"image model's UNet holds NaN or infinite weights, .* conv_in\.weight"):
        broken(PROMPTS[0], steps=2, **SMALL)
