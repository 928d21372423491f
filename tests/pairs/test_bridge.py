"""A pair whose image model has latents of its own: what it draws, what it refuses, and how a wrong one is told."""

import json
import warnings
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ivmix import TextToVideo
from ivmix.generation import memory
from ivmix.generation.drawing import crossing_noise, guided
from ivmix.generation.job import make_job
from ivmix.generation.memory import Load, activations, upper_bound, weights
from ivmix.models import VAE, save_folder
from ivmix.models.cost import Alive, Kernels
from ivmix.models.meta import build
from ivmix.pairs.bridge import COMBINING, resized, through
from ivmix.pairs.description import EMBEDDED, describe
from ivmix.pairs.pair import fingerprint, load_pair
from ivmix.pairs.swaps import Swaps
from ivmix.samplers.samplers import SAMPLERS
from ivmix.sprites.training.bridged import (
    OTHER_VAE_CONFIG,
    TRANSFORMER_CONFIG,
    Maps,
    bridged,
    save_maps,
    save_transformer,
)
from ivmix.sprites.training.networks import Conditioned
from ivmix.sprites.training.recipe import describe_bridged, describe_mapped

PROMPTS = ["a red circle moving left", "a blue cross moving up"]
SMALL = {"frames": 2, "height": 32, "width": 32}
LEVELS = [(0.1, 0.12), (10.0, 15.0)]  # the highest level of the schedule has none across


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Both pairs with random networks across, beside the shipped one."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "pair").symlink_to(EMBEDDED["sprites"])
    torch.manual_seed(0)
    save_folder(VAE(OTHER_VAE_CONFIG), bridged(folder / "pair") / "vae")
    save_transformer(Conditioned(TRANSFORMER_CONFIG), folder / "pair")
    save_maps(Maps(), folder / "pair")
    for name, raw in (("bridged", describe_bridged(LEVELS)), ("mapped", describe_mapped(LEVELS))):
        (folder / name / "pair.json").write_text(json.dumps(raw))
    return folder


@pytest.fixture(scope="module")
def models(home) -> dict[str, TextToVideo]:
    return {name: TextToVideo.from_pair(home / name, "cpu") for name in ("bridged", "mapped")}


def changed(home: Path, at: Path, name: str = "bridged", **entries: object) -> Path:
    """A pair beside those of `home` whose description has other entries; None is none."""
    raw, _, _ = describe(home / name)
    for side in ("image", "video"):
        raw[side].pop("from", None)
    for entry, value in entries.items():
        *path, last = entry.split("__")
        place = raw
        for step in path:
            place = place[step]
        if value is None:
            place.pop(last)
        else:
            place[last] = value
    at.mkdir(exist_ok=True)
    (at / "pair.json").write_text(json.dumps(raw))
    return at


def call(model: TextToVideo, *prompts: str, **given: object):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model(list(prompts or PROMPTS[:1]), **{**SMALL, **given})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bridged", "mapped"])
@pytest.mark.parametrize("sampler", COMBINING)
def test_what_combines_both_models_draws_across_and_its_record_makes_it_again(models, name, sampler):
    given = {"sampler": sampler, "steps": 4, **({"interval": (0.0, 1.0)} if sampler in ("mixture", "blend") else {})}
    result = call(models[name], **given)
    record = result.record
    assert record.nfe == {"video": 4, "image": 3}  # nothing crosses where the image model has no level
    assert record.models["image"]["bridge"] == {"levels": [list(pair) for pair in LEVELS], "scale": 1}
    again = call(models[name], seed=record.seeds, **record.sampling)
    assert np.array_equal(result.frames, again.frames)
    alone = call(models[name], sampler="ddim", steps=4)
    assert not np.array_equal(result.frames, alone.frames)


@pytest.mark.slow
def test_a_clip_is_the_same_whatever_the_batch_as_is_what_hides_it_across(models):
    both = call(models["bridged"], *PROMPTS, sampler="composite", steps=3, batch_size=2)
    one = call(models["bridged"], PROMPTS[1], seed=1, sampler="composite", steps=3)
    assert (both.latents[1] - one.latents[0]).abs().max() <= 1e-4


@pytest.mark.slow
def test_what_hides_a_clip_across_is_its_seeds_own_whatever_the_batch_and_the_windows(models):
    job, cut = (make_job(models["mapped"].pair, PROMPTS, sampler="composite", **SMALL, window=k) for k in (None, 1))
    xi = crossing_noise(job, [3, 5])
    assert xi.shape == (2, 3, 2, 16, 16)
    assert torch.equal(xi[1:], crossing_noise(job, [5]))
    assert torch.equal(xi, crossing_noise(cut, [3, 5]))
    assert (xi[0] - xi[1]).abs().max() > 1


@pytest.mark.slow
def test_a_run_crosses_as_many_frames_at_a_time_as_the_larger_ones_allow(home, monkeypatch):
    """As memory is counted: where one frame of 64x64 may be there, so may one of the 32x32 that it is made of."""
    monkeypatch.setattr(memory, "PIXELS", 64 * 64)
    pair = load_pair(changed(home, home / "large", bridge__scale=2), "cpu")
    job, seen = make_job(pair, PROMPTS[:1], sampler="composite", **SMALL), []
    [(atom, _)] = guided(job, 0, job.batches[0], PROMPTS[:1]).cond.terms
    hooks = [part.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
             for part in (pair.vae.decoder, pair.bridge.vae.encoder)]  # fmt: skip
    with torch.no_grad():
        atom.model.bridge.there(torch.zeros(1, 4, 2, 8, 8))
    for hook in hooks:
        hook.remove()
    assert seen == [(1, 4, 8, 8), (1, 3, 64, 64)] * 2


@pytest.mark.slow
def test_the_image_model_alone_draws_in_its_own_latents_and_sizes_are_checked_for_both(models):
    model = models["bridged"]
    result = call(model, sampler="image", steps=2)
    assert result.latents.shape == (1, 3, 2, 16, 16)
    assert result.frames.shape == (1, 2, 32, 32, 3)
    assert call(model, sampler="ddim", steps=2).latents.shape == (1, 4, 2, 8, 8)
    with pytest.raises(ValueError, match="height=40: expected a positive multiple of 16 pixels"):
        call(model, height=40)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_that_step_states_across_are_refused_in_one_line_and_no_others(models, sampler):
    record = partial(models["mapped"].record, PROMPTS[0], sampler=sampler)
    if sampler in COMBINING or len(SAMPLERS[sampler].models) == 1:
        assert record().sampling["sampler"] == sampler
        return
    with pytest.raises(ValueError, match=rf"^sampler '{sampler}' has the image model .* composite, mixture, .*alone$"):
        record()


@pytest.mark.slow
def test_what_leaves_the_video_model_out_or_cuts_space_is_refused_before_anything_is_drawn(models):
    with pytest.raises(ValueError, match=r"sampler 'mixture': field: got weights of sum 1 .* expected"):
        models["bridged"].record(PROMPTS[0], sampler="mixture", image_weight=1.0)
    with pytest.raises(ValueError, match="space_window=32: pair 'sprites-bridged' has two kinds of latents"):
        models["bridged"].record(PROMPTS[0], space_window=32)


@pytest.mark.slow
def test_a_run_says_what_crosses(models):
    for name, cost in (("bridged", "3 decodes and 3 encodes"), ("mapped", "3 calls of a learned map")):
        with pytest.warns(UserWarning, match=cost):
            models[name](PROMPTS[:1], sampler="composite", steps=2, **SMALL)


@pytest.mark.slow
def test_frames_across_may_be_larger(home, tmp_path_factory):
    folder = changed(home, home / "scaled", bridge__scale=2)
    seen = []
    model = TextToVideo.from_pair(folder, "cpu")
    hook = model.pair.image.unet.register_forward_pre_hook(lambda unet, args: seen.append(tuple(args[0].shape)))
    result = call(model, sampler="composite", steps=3)
    hook.remove()
    assert set(seen) == {(2, 3, 2, 32, 32)}  # of frames of 64x64
    assert result.frames.shape == (1, 2, 32, 32, 3)


def test_frames_are_resized_without_a_shift():
    ramp = torch.linspace(-1, 1, 32).expand(1, 3, 2, 32, 32)
    larger = resized(ramp, Fraction(2))
    assert larger.shape == (1, 3, 2, 64, 64)
    assert (resized(larger, Fraction(1, 2)) - ramp)[..., 2:-2].abs().max() <= 1e-3
    for k in range(1, 17):  # a share is no float, whose product with the side may fall short of the whole number
        assert resized(torch.zeros(1, 3, 1, 7 * k, 49 * k), Fraction(1, k)).shape[-2:] == (7, 49)


def test_memory_of_a_crossing_is_that_of_some_frames_from_end_to_end_however_long_the_clip():
    small, large = (build(VAE, replace(OTHER_VAE_CONFIG, latent_channels=c)) for c in (3, 4))

    def most(frames: int, at_once: int) -> int:
        """Bytes beside the latents of both, there and so far."""
        z = torch.empty(1, 3, frames, 32, 32, device="meta")
        with torch.no_grad(), Kernels(), Alive() as alive:
            crossed = through(small, large, Fraction(2), at_once, None, z)
        assert crossed.shape == (1, 4, frames, 64, 64)
        return alive.most - 3 * crossed.nbytes

    assert most(16, 2) <= 1.01 * most(2, 2)
    assert most(16, 16) > 4 * most(16, 2)


def test_frames_cross_each_by_itself():
    torch.manual_seed(0)
    inner, outer = VAE(OTHER_VAE_CONFIG).eval(), VAE(replace(OTHER_VAE_CONFIG, latent_channels=5)).eval()
    z = torch.randn(2, 3, 3, 8, 12)
    with torch.no_grad():
        crossed = through(inner, outer, Fraction(2), 2, None, z)
        one = outer.encode(resized(inner.decode(z[1:, :, 2:]), Fraction(2)))
    assert (crossed[1:, :, 2:] - one).abs().max() <= 1e-5  # rounding of batches of another size


@pytest.mark.slow
def test_the_bridge_is_part_of_what_a_pair_weighs_and_of_its_fingerprint(home, models):
    bridge = models["mapped"].pair.bridge
    assert set(bridge.networks) == {"image vae", "to_image", "to_video"}
    other = load_pair(changed(home, home / "levels", bridge__levels=[[1.0, 2.0]]), "cpu")
    prints = {fingerprint(pair) for pair in (other, *(model.pair for model in models.values()))}
    assert len(prints) == 3
    heavier = weights(models["mapped"].pair) - weights(models["bridged"].pair)
    assert heavier == sum(p.nbytes for network in bridge.maps for p in network.parameters())
    load = Load(1, 2, 32, 32)
    assert 0 < activations(models["bridged"].pair, load) < upper_bound(models["bridged"].pair, load)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"bridge": None}, "bridge: expected one where the image model has a vae of its own, and there alone"),
        ({"image__vae": None}, "bridge: expected one where the image model has a vae of its own"),
        ({"bridge__to_image": "x"}, "bridge: expected both of to_image and to_video, or neither"),
        ({"bridge__scale": 0}, "bridge: scale=0: expected a whole number from 1 to 16"),
        ({"bridge__levels": []}, "bridge: levels: got .* expected pairs of levels that both increase"),
        ({"bridge__levels": [[1.0, 2.0], [2.0, 1.0]]}, "bridge: levels: got .* that both increase"),
        ({"bridge__levels": [[1.0]]}, "bridge: levels: expected pairs, of the video model's sigma"),
        ({"bridge__levels": [[0.0, 1.0]]}, "bridge: levels: got 0.0, expected levels above 0"),
        ({"bridge__through": "air"}, "bridge: unknown entry 'through'"),
        ({"image__vae_scaling": 0.0}, r"vae_scaling is 0\.0, expected a factor, from 0\.001 to 1000"),
        ({"image__vae_dtype": "int8"}, "image: vae_dtype is 'int8'"),
        ({"video__vae_dtype": "float32"}, "bridge: expected one where the image model has a vae of its own, and there"),
    ],
)
def test_a_bridge_that_cannot_be_is_told(home, tmp_path, entries, message):
    folder = changed(home, tmp_path / "wrong", **entries)
    with pytest.raises(ValueError, match=message):
        describe(folder)


@pytest.mark.slow
def test_maps_of_other_latents_are_refused(home):
    to_image, to_video = (str(home / "mapped" / name) for name in ("to_image", "to_video"))
    folder = changed(home, home / "swapped", "mapped", bridge__to_image=to_video, bridge__to_video=to_image)
    said = "bridge: to_image maps 3 channels to 4, 1/2 times the side: expected 4 channels to 3, 2 times the side"
    with pytest.raises(ValueError, match=said):
        load_pair(folder, "cpu")
    folder = changed(home, home / "larger", "mapped", bridge__scale=2)  # made for frames of one size
    with pytest.raises(ValueError, match=r"to_image maps .* 2 times the side: expected .*, 4 times the side"):
        load_pair(folder, "cpu")


@pytest.mark.parametrize("name", ["image_model", "vae"])
def test_models_are_not_put_where_the_bridge_was_made_for_others(home, name):
    source = str(EMBEDDED["sprites"] / ("vae" if name == "vae" else "image"))
    with pytest.raises(ValueError, match=rf"^{name}: pair 'sprites-bridged' has a bridge, made for its own latents: "):
        load_pair(home / "bridged", swaps=Swaps(**{name: source}))


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["vae_dtype", "image__vae_dtype"])
def test_autoencoders_of_two_types_cross_and_moving_leaves_each_its_own(home, tmp_path_factory, entry):
    """The pair's own in float32 beside networks in bfloat16, or the image model's: what a public autoencoder that
    overflows asks for."""
    folder = changed(home, tmp_path_factory.mktemp("wide") / "bridged", **{entry: "float32"})
    model = TextToVideo.from_pair(folder, "cpu", "bfloat16")
    found = model.pair.vae.dtype, model.pair.bridge.vae.dtype
    wide = entry == "vae_dtype"
    assert found == ((torch.float32, torch.bfloat16) if wide else (torch.bfloat16, torch.float32))
    drawn = model(PROMPTS[:1], sampler="composite", steps=2, **SMALL).latents
    moved = TextToVideo.from_pair(folder, "cpu", "float32").to("bfloat16")
    assert (moved.pair.vae.dtype, moved.pair.bridge.vae.dtype) == found
    assert torch.equal(moved(PROMPTS[:1], sampler="composite", steps=2, **SMALL).latents, drawn)
