"""Prompts to videos on the embedded pair: the same bytes every time, the same sample in every batch, clear errors."""

import json
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from ivmix import TextToVideo
from ivmix.media import to_frames, write_video
from ivmix.samplers.samplers import SAMPLERS
from ivmix.solvers import (
    DPMSolverPP2M,
    Euler,
    Guided,
    Network,
    SDEDPMSolverPP2M,
    initial_noise,
    integrate,
    noised,
    plain,
    tail,
)
from ivmix.sprites.world import degrade, random_scenes, render

PROMPTS = ["a red circle moving left", "a blue cross moving up", "a yellow square moving down"]
SMALL = {"frames": 2, "height": 32, "width": 32}  # a sixteenth of the pixels of the pair's own


@dataclass(frozen=True)
class MyEuler(Euler):
    """A solver that no name is known for."""


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


@pytest.mark.parametrize("sampler", ["image", "zigzag", "composite"])
def test_the_image_models_frames_may_be_drawn_in_parts(model, sampler):
    call = {"sampler": sampler, "steps": 4, **SMALL, "frames": 3}
    whole, parts = (model(PROMPTS[:2], image_frames=n, **call) for n in (None, 2))
    assert (whole.latents - parts.latents).abs().max() <= 1e-4
    assert parts.record.image_frames == 2
    assert (parts.record.nfe, parts.record.forwards) == (whole.record.nfe, whole.record.forwards)


def test_the_image_model_sees_no_more_frames_at_a_time_than_asked(model):
    seen = []

    def look(unet, args, kwargs):
        if not kwargs["temporal"]:
            seen.append(tuple(args[0].shape[:3:2]))

    hook = model.pair.image.unet.register_forward_pre_hook(look, with_kwargs=True)
    model(PROMPTS[0], sampler="image", image_guidance="3", steps=1, image_frames=2, **{**SMALL, "frames": 5})
    hook.remove()
    assert seen == [(2, 2), (2, 2), (2, 1)]  # cond and uncond in one batch


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
    assert both.record.image_negative_prompts == [PROMPTS[1]]
    assert image.record.negative_prompts == [""]
    assert not np.array_equal(plain, both.frames)
    assert not np.array_equal(plain, image.frames)
    assert not np.array_equal(both.frames, image.frames)


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


def test_one_iteration_of_freqprior_and_one_scale_of_fdg_are_the_video_model_alone_bit_for_bit(model):
    alone, once, plain, sharp = (
        model(PROMPTS[0], steps=3, **SMALL, **options).latents
        for options in (
            {"sampler": "ddim"},
            {"sampler": "freqprior", "iterations": 1},
            {"sampler": "fdg", "guidance": 2.0, "detail_guidance": 2.0},
            {"sampler": "fdg", "guidance": 2.0, "detail_guidance": 4.0},
        )
    )
    assert torch.equal(alone, once)
    assert torch.equal(alone, plain)
    assert not torch.equal(alone, sharp)


@pytest.mark.parametrize("sampler", ["pag", "stg"])
def test_a_push_of_0_is_the_video_model_alone_bit_for_bit_and_another_one_pass_more_a_step(model, sampler):
    call = {"steps": 3, "guidance": 2.0, **SMALL}
    alone = model(PROMPTS[:2], sampler="ddim", **call)
    unpushed, pushed = (model(PROMPTS[:2], sampler=sampler, perturbed_guidance=s, **call) for s in (0.0, 1.0))
    assert torch.equal(unpushed.latents, alone.latents)
    assert unpushed.record.nfe == alone.record.nfe == {"video": 3}
    assert not torch.equal(pushed.latents, alone.latents)
    assert pushed.record.nfe == {"video": 3, "video perturbed": 3}
    assert pushed.record.forwards == {"video": 6, "video perturbed": 3}
    one = model(PROMPTS[1], seed=1, sampler=sampler, perturbed_guidance=1.0, **call)
    assert (one.latents[0] - pushed.latents[1]).abs().max() <= 1e-4


def test_layers_that_the_video_model_has_not_are_told_before_anything_is_drawn(model):
    with pytest.raises(ValueError, match=r"^perturbed_layers=up_blocks\.9: got 'up_blocks\.9', expected one of up_bl"):
        model(PROMPTS[0], sampler="stg", perturbed_layers="up_blocks.9", **SMALL)


def test_tiles_of_the_decoder_change_the_frames_a_little_and_the_latents_not_at_all(model):
    call = {"sampler": "ddim", "steps": 3, "frames": 2}
    plain, tiled, whole = (model(PROMPTS[0], vae_tile=tile, **call) for tile in (None, 12, 16))  # of 16 latents a side
    assert torch.equal(plain.latents, tiled.latents)
    assert 0 < np.abs(plain.frames.astype(float) - tiled.frames).mean() < 10  # of 255
    assert np.array_equal(plain.frames, whole.frames)
    assert [result.record.vae_tile for result in (plain, tiled, whole)] == [None, 12, 16]


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


# --- as people call it ----------------------------------------------------------------------------------------------


def test_numbers_of_numpy_are_numbers(model):
    plain = model(PROMPTS[0], seed=3, sampler="ddim", steps=3, guidance=2.5, **SMALL)
    theirs = model(
        PROMPTS[0], seed=np.int64(3), sampler="ddim", steps=np.int32(3), guidance=np.float64(2.5),
        **{name: np.int64(value) for name, value in SMALL.items()}, batch_size=np.uint8(4),
    )  # fmt: skip
    several = model([PROMPTS[0]], seed=np.array([3]), sampler="ddim", steps=3, guidance=2.5, **SMALL)
    assert np.array_equal(plain.frames, theirs.frames)
    assert np.array_equal(plain.frames, several.frames)
    assert json.loads(json.dumps(theirs.record.to_dict()))["seeds"] == [3]


def test_a_solver_may_be_an_instance_and_its_record_names_it(model):
    call = {"sampler": "composite", "steps": 3, **SMALL}
    own, other = (model(PROMPTS[0], solver=solver, **call) for solver in (DPMSolverPP2M(), MyEuler()))
    named, euler = (model(PROMPTS[0], **call, **given) for given in ({"end": "ab2"}, {"solver": "euler"}))
    assert np.array_equal(named.frames, own.frames)
    assert np.array_equal(other.frames, euler.frames)
    assert [r.record.sampling["solver"] for r in (own, other)] == ["dpm++2m", "MyEuler()"]
    ended = model.record(PROMPTS[0], solver=DPMSolverPP2M(end="euler"), **call)
    assert ended.sampling == model.record(PROMPTS[0], **call).sampling  # the pair's own
    with pytest.raises(ValueError, match="churn"):
        model(PROMPTS[0], solver=SDEDPMSolverPP2M(1.0), **call)


def test_negative_prompts_may_be_one_a_prompt(model):
    call = {"sampler": "composite", "steps": 3, **SMALL}
    both = model(PROMPTS[:2], negative_prompt=["", PROMPTS[2]], **call)
    alone = model(PROMPTS[1], seed=1, negative_prompt=PROMPTS[2], **call)
    assert (both.latents[1] - alone.latents[0]).abs().max() <= 1e-4
    assert both.record.negative_prompts == both.record.image_negative_prompts == ["", PROMPTS[2]]


def test_latents_take_the_place_of_the_seeds_noise(model):
    call = {"sampler": "ddim", "steps": 3, **SMALL}
    noise = initial_noise([5, 6], (4, 2, 8, 8))
    seeded, given = model(PROMPTS[:2], seed=5, **call), model(PROMPTS[:2], latents=noise, batch_size=1, **call)
    assert (seeded.latents - given.latents).abs().max() <= 1e-4
    assert seeded.record.latents is None
    assert given.record.latents["path"] is None
    assert given.record.latents != model.record(PROMPTS[:2], latents=-noise, **call).latents


def test_views_of_a_model_move_with_it():
    """They share weights with it, and tables of positions, which a move makes anew."""
    moved, loaded = TextToVideo.from_pair("sprites"), TextToVideo.from_pair("sprites", dtype="float64")
    call = {"sampler": "stg", "steps": 2, "perturbed_layers": "up_blocks.0.resnets", **SMALL}
    before = moved(PROMPTS[0], **call).latents
    assert torch.equal(moved.to("float64")(PROMPTS[0], **call).latents, loaded(PROMPTS[0], **call).latents)
    assert torch.equal(moved.to("float32")(PROMPTS[0], **call).latents, before)


def test_a_model_moves_to_another_dtype(model):
    moved = TextToVideo.from_pair("sprites").to(dtype="float64")
    loaded = TextToVideo.from_pair("sprites", dtype="float64")
    call = {"sampler": "composite", "steps": 2, **SMALL}
    assert torch.equal(moved(PROMPTS[0], **call).latents, loaded(PROMPTS[0], **call).latents)
    assert moved.to(torch.float32).pair.dtype == torch.float32
    moved.to("float64")
    assert repr(moved) == "TextToVideo('sprites', cpu, torch.float64: 8 frames of 64x64)"
    assert moved.pair.weights == loaded.pair.weights != model.pair.weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "cuda:99"}, "device 'cuda:99': not available here"),
        ({"dtype": "float8"}, "dtype 'float8': expected one of float32, float16"),
        ({"dtype": torch.int64}, "dtype torch.int64: expected one of"),
    ],
)
def test_a_device_or_dtype_that_cannot_be_had_is_one_short_line(model, arguments, message):
    for refuse in (lambda: TextToVideo.from_pair("sprites", **arguments), lambda: model.to(**arguments)):
        with pytest.raises(ValueError, match=message) as caught:
            refuse()
        assert len(str(caught.value)) < 200


def test_what_is_of_another_type_is_refused_by_name(model):
    with pytest.raises(TypeError, match=r"swaps: got \{'vae': 'x'\}, expected a Swaps"):
        TextToVideo.from_pair("sprites", swaps={"vae": "x"})
    with pytest.raises(ValueError, match=r"sampling is .*'ddim'.*: expected a Sampling"):
        model(PROMPTS[0], sampling={"sampler": "ddim"})
    with pytest.raises(ValueError, match=r"negative_prompt is \[3\]: expected one text"):
        model(PROMPTS[0], negative_prompt=3)


# --- video to video -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def soft(model) -> np.ndarray:
    """A soft, watermarked clip (f h w c) of the world."""
    scene = random_scenes(1, torch.Generator().manual_seed(7), PROMPTS[:1])
    return to_frames(degrade(render(scene)))[0]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name not in ("freeinit", "freqprior", "bivdiff")])
def test_every_sampler_may_begin_from_a_video_and_keeps_more_of_it_with_less_strength(model, soft, sampler):
    call = {"sampler": sampler, "steps": 6, "video": soft[:2]}
    gentle, strong = (model(PROMPTS[0], strength=s, **call) for s in (0.17, 1.0))
    assert gentle.frames.shape == (1, 2, 64, 64, 3)
    away = [np.abs(r.frames[0].astype(float) - soft[:2]).mean() for r in (gentle, strong)]
    assert away[0] < away[1]
    assert sum(gentle.record.nfe.values()) < sum(strong.record.nfe.values())


def test_a_run_from_a_video_is_the_end_of_the_whole_plan_from_its_noised_latents(model, soft):
    """Leg for leg SDEdit: what `tail` keeps of the legs, from `noised` latents of the encoder."""
    result = model(PROMPTS[0], seed=3, sampler="ddim", steps=4, video=soft, strength=0.5)
    pair = model.pair
    network = Network(pair.video.unet, pair.video.schedule, pair.video.prediction, "video")
    field = Guided(network(pair.video.condition([""])), network(pair.video.condition([PROMPTS[0]])))
    legs = tail(plain(pair.video.schedule.grid(4), pair.defaults["ddim"]["guidance"]), 0.5)
    pixels = torch.from_numpy(soft)[None].permute(0, 4, 1, 2, 3) / 127.5 - 1
    with torch.no_grad():
        x = noised(pair.vae.encode(pixels), legs[0].source, initial_noise([3], (4, 8, 16, 16)))
        assert torch.allclose(integrate(field, legs, x).x, result.latents, atol=1e-5)
    assert result.record.nfe == {"video": 2}


def test_mixing_takes_the_degradation_of_a_video_away_and_the_video_model_does_not(model, soft):
    from ivmix.sprites.measure import load_judge, measure

    judge = load_judge(model.pair)
    mixed, alone = (
        measure(model(PROMPTS[0], video=soft, strength=0.3, **call).frames, PROMPTS[:1], judge)
        for call in ({"sampler": "composite"}, {"sampler": "ddim"})
    )
    assert mixed.degradation[0] < 0.3 < 0.7 < alone.degradation[0]
    assert mixed.motion[0] == mixed.colour[0] == 1


@pytest.mark.slow
def test_inversion_under_the_videos_own_prompt_gives_it_back_and_another_prompt_changes_it(model, soft):
    """The ODE, up and down again unguided, to second order of its steps; noise of the same level loses the clip."""
    call = {"sampler": "ddim", "solver": "dpm++2m", "spacing": "uniform-lam", "steps": 12, "guidance": 1.0,
            "video": soft, "strength": 0.75}  # fmt: skip
    back = model(PROMPTS[0], source_prompt=PROMPTS[0], **call)
    noisy = model(PROMPTS[0], **call)
    blue = model("a blue circle moving left", source_prompt=PROMPTS[0], **call)
    away = [np.abs(r.frames[0].astype(float) - soft).mean() for r in (back, noisy, blue)]
    assert away[0] < 1 < 2 < min(away[1:])  # of 255; the autoencoder alone is half of one away
    assert back.record.nfe == {"video": 18}
    assert back.record.source_prompts == PROMPTS[:1]


def test_the_callback_follows_an_inversion_too_and_may_cancel_it(model, soft):
    seen = []
    call = {"sampler": "ddim", "steps": 4, "video": soft[:2], "source_prompt": PROMPTS[0], "strength": 0.5}
    model(PROMPTS[0], **call, callback=lambda step, total, run: seen.append((step, total, sum(run.nfe.values()))))
    assert seen == [(1, 4, 1), (2, 4, 2), (3, 4, 3), (4, 4, 4)]
    stopped = model(PROMPTS[0], **call, callback=lambda *_: False)
    assert stopped.record.cancelled
    assert stopped.record.nfe == {"video": 1}


def test_one_video_serves_all_prompts_and_several_one_each(model, soft):
    call = {"sampler": "ddim", "steps": 3, "strength": 0.4, "batch_size": 1}
    shared = model(PROMPTS[:2], video=soft[:2], **call)
    each = model(PROMPTS[:2], video=np.stack([soft[:2], soft[2:4]]), **call)
    assert np.array_equal(shared.frames[0], each.frames[0])
    assert not np.array_equal(shared.frames[1], each.frames[1])


def test_a_videos_file_is_read_brought_to_size_and_named_in_the_record(model, soft, tmp_path):
    write_video(soft, tmp_path / "soft.webp")
    call = {"sampler": "ddim", "steps": 3, "strength": 0.4}
    with pytest.warns(UserWarning, match="256x256 resized to 64x64"):
        read = model(PROMPTS[0], video=tmp_path / "soft.webp", **call)
    given = model(PROMPTS[0], video=soft, **call)
    assert np.array_equal(read.frames, given.frames)
    assert read.record.video == {"path": str(tmp_path / "soft.webp"), "sha256": given.record.video["sha256"]}
    assert given.record.video["path"] is None


def test_what_is_no_prompt_and_what_is_no_pair_are_named(model):
    with pytest.raises(ValueError, match="prompts is 5: expected text, or a list of texts"):
        model(5)
    with pytest.raises(TypeError, match=r"got 'sprites', expected a Pair; by name it is TextToVideo\.from_pair"):
        TextToVideo("sprites")
