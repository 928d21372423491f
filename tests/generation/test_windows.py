"""Clips longer or larger than the networks have at a time: by windows, announced, recorded and drawn again."""

import json
import math
import warnings

import numpy as np
import pytest
import torch

from ivmix.generation.memory import Load, activations
from ivmix.generation.record import read_record
from ivmix.generation.windows import RunWindows, read_windows
from ivmix.models.cost import Alive
from ivmix.samplers.samplers import SAMPLERS
from ivmix.solvers import Windows, initial_noise, rescheduled_noise

PROMPT = "a red circle moving left"
SMALL = {"height": 16, "width": 16}  # a sixteenth of the pixels of the pair's own
QUICK = {"sampler": "ddim", "steps": 1, **SMALL}


def sizes(model, **call):
    """Which model was given latents of which rows, frames, height and width in a run, in order, and the run."""
    seen = []

    def look(unet, args, kwargs):
        b, _, f, h, w = args[0].shape
        seen.append(("video" if kwargs["temporal"] else "image", (b, f, h, w)))

    networks = {id(side.unet): side.unet for side in model.pair.sides}.values()
    hooks = [unet.register_forward_pre_hook(look, with_kwargs=True) for unet in networks]
    result = model(PROMPT, **call)
    for hook in hooks:
        hook.remove()
    return seen, result


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_window_of_the_whole_clip_is_the_plain_run_to_the_bit(model, sampler):
    call = {"sampler": sampler, "steps": 4, "frames": 16, **SMALL}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(window|overlap) has no effect")  # of the image model alone
        whole, plain = model(PROMPT, window=16, overlap=4, **call), model(PROMPT, **call)
    assert torch.equal(whole.latents, plain.latents)
    assert (whole.record.nfe, whole.record.forwards) == (plain.record.nfe, plain.record.forwards)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the video model has the clip in windows")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_clips_beyond_the_table_for_as_many_evaluations(model, sampler):
    """Networks seen without some layers, too: 18 frames at once would be an error of the motion modules."""
    call = {"sampler": sampler, "steps": 4, **SMALL}
    long, own = (model(PROMPT, frames=frames, **call) for frames in (18, 2))
    assert long.frames.shape == (1, 18, 16, 16, 3)
    assert (long.record.nfe, long.record.forwards) == (own.record.nfe, own.record.forwards)


def test_clips_the_video_model_knows_positions_for_are_drawn_at_once_and_their_records_say_nothing_new(model):
    record = model.record(PROMPT, frames=16, **QUICK)
    assert record.window is None
    assert not {"window", "overlap", "space_window", "noise"} & set(record.to_dict())


@pytest.mark.slow
def test_longer_clips_are_drawn_by_windows_of_the_pairs_own_length_and_a_line_says_what_it_costs(model, tmp_path):
    with pytest.warns(UserWarning, match="windows of 8 frames of 16x16: each evaluation calls it 4 times, for 1.6 "):
        seen, result = sizes(model, frames=20, **QUICK)
    assert result.frames.shape == (1, 20, 16, 16, 3)
    assert seen == [("video", (2, 8, 4, 4))] * 4
    record = result.record
    assert (record.window, record.overlap, record.nfe, record.forwards) == (8, 4, {"video": 1}, {"video": 2})
    path = tmp_path / "clip.json"
    path.write_text(json.dumps(record.to_dict()))
    assert read_record(path) == record


@pytest.mark.slow
def test_the_image_model_knows_each_frame_alone_and_has_them_all_at_once(model):
    with pytest.warns(UserWarning, match="the video model has the clip in windows"):
        seen, _ = sizes(model, frames=18, sampler="composite", steps=1, **SMALL)
    assert {size for name, size in seen if name == "image"} == {(2, 18, 4, 4)}
    assert {size for name, size in seen if name == "video"} == {(2, 8, 4, 4)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = model.record(PROMPT, frames=64, sampler="image", steps=1, **SMALL)
    assert record.window is None


@pytest.mark.slow
def test_windows_over_space_are_both_models_and_only_where_asked_for(model):
    call = {"frames": 2, "sampler": "composite", "steps": 1, "height": 16, "width": 32}
    with pytest.warns(UserWarning, match="windows of 2 frames of 16x16: each evaluation calls it 3 times, for 1.5 "):
        seen, result = sizes(model, space_window=16, **call)
    assert seen == [("video", (2, 2, 4, 4))] * 3 + [("image", (2, 2, 4, 4))] * 3
    assert result.record.space_window == 16
    assert {size for _, size in sizes(model, **call)[0]} == {(2, 2, 4, 8)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the video model has the clip in windows", "error:.* no effect")
@pytest.mark.parametrize(
    "more", [{}, {"noise": "freenoise"}, {"window": 6, "overlap": 1}, {"space_window": 16, "width": 32}]
)
def test_a_record_draws_its_windows_again(model, more):
    call = {"frames": 18, **QUICK, **more}
    first = model(PROMPT, **call)
    made = first.record
    windows = {name: getattr(made, name) for name in ("window", "overlap", "space_window", "noise")}
    again = model(PROMPT, **call | windows)
    assert np.array_equal(first.frames, again.frames)
    assert made.asks_as(again.record)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the video model has the clip in windows")
def test_freenoise_begins_from_the_first_windows_noise(model):
    """At the first level of one step to 0 nothing else is random: noise given is the noise that was asked for."""
    call, shape = {"frames": 18, "window": 8, "overlap": 2, **QUICK}, (4, 18, 4, 4)
    drawn = model(PROMPT, seed=5, noise="freenoise", **call).latents
    given = model(PROMPT, latents=rescheduled_noise([5], shape, 8, 6), **call).latents
    white = model(PROMPT, latents=initial_noise([5], shape), **call).latents
    assert torch.equal(drawn, given)
    assert not torch.equal(drawn, white)


def test_what_has_no_effect_is_said(model):
    for more, message in [
        ({"sampler": "image", "window": 4}, "window has no effect: sampler 'image' runs the image model alone"),
        ({"sampler": "image", "overlap": 4}, "overlap has no effect: sampler 'image'"),
        ({"sampler": "image", "noise": "freenoise"}, "noise has no effect: sampler 'image'"),
        ({"noise": "freenoise"}, "noise has no effect: the video model has all 8 frames in one window"),
        ({"window": 8}, "window has no effect: the video model has all 8 frames in one window"),
        ({"overlap": 2}, "overlap has no effect: the video model has all 8 frames in one window"),
        ({"space_window": 64}, "space_window has no effect: one window holds all of 64x64"),
    ]:
        with pytest.warns(UserWarning, match=message) as caught:
            model.record(PROMPT, **more)
        assert len(caught) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"window": 17}, "window=17: expected a whole number from 1 to 16"),
        ({"window": 0}, "window=0"),
        ({"window": 8, "overlap": 8}, "overlap=8: expected a whole number from 0 to 7"),
        ({"overlap": 8}, "overlap=8: expected a whole number from 0 to 7"),
        ({"space_window": 33}, "space_window=33: expected a positive multiple of 16 pixels"),
        ({"noise": "pink"}, "noise 'pink': expected one of white, freenoise"),
        ({"noise": "freenoise", "latents": torch.randn(1, 4, 20, 16, 16)}, "noise='freenoise' beside latents"),
        ({"context_length": 16}, "it is window here"),
    ],
)
def test_windows_that_cannot_be_are_refused_in_one_line(model, more, message):
    with pytest.raises(ValueError, match=message):
        model.record(PROMPT, frames=20, **more)


def test_an_overlap_alone_is_of_windows_of_the_pairs_own_length(model):
    assert read_windows(model.pair, 12, None, 2, None) == RunWindows(Windows(8, 2))


@pytest.mark.slow
def test_memory_for_networks_is_a_windows_however_long_or_large_the_clip(model):
    """Counted as `check_fits` does: what grows is the state, its two rows and what is predicted, 4 bytes each."""

    def needed(frames, side, windows):
        load = Load(1, frames, side, side, vae_tile=8, models=("video",), windows=windows)
        return activations(model.pair, load), 4 * frames * (side // 4) ** 2

    one, latents = needed(8, 256, RunWindows())
    windows = read_windows(model.pair, 64, None, None, 256)
    for frames, side in ((16, 256), (64, 256), (16, 512)):
        total, more = needed(frames, side, windows)
        assert total == one - 4 * latents + (4 + 8 + 8) * more


@pytest.mark.slow
def test_what_a_network_holds_at_a_time_is_a_windows_however_long_the_clip(model):
    """Of the real network and its tensors, of those made in a call: what grows with the clip is z and the sum, a number
    of 4 bytes each for one of the state; at once 16 frames take nearly twice as much as 8."""
    side, shape = model.pair.video, (4, 8, 8)
    condition, frame = side.condition([PROMPT]), 4 * math.prod(shape)

    def held(frames, *windows):
        x = torch.randn(1, 4, frames, *shape[1:])
        with torch.no_grad(), Alive() as alive:
            side.network(windows=windows)(condition)(x, 1.0)
        return alive.most

    one, two = held(8), held(16)
    assert two > 1.8 * one
    beside = {frames: held(frames, Windows(8, 4)) - 2 * frames * frame for frames in (16, 32, 64)}
    assert max(beside.values()) - min(beside.values()) < frame
    assert beside[64] < 1.05 * one
