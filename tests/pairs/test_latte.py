"""Pairs with transformers, from small random pipelines: every sampler, and models of other families beside them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_pair import DIT, VIDEO_DIT, write_modules, write_pipeline, write_transformers
from small_t5 import TEXT, write_text

from ivmix import TextToVideo
from ivmix.pairs.pair import load_pair
from ivmix.pairs.swaps import Swaps
from ivmix.samplers.samplers import SAMPLERS

pytestmark = pytest.mark.slow

CALL = {"frames": 3, "height": 16, "width": 16, "steps": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pipelines of Latte and of PixArt, and of Stable Diffusion with motion modules."""
    root = tmp_path_factory.mktemp("pipelines")
    write_transformers(root / "latte", VIDEO_DIT, 0)
    write_transformers(root / "pixart", DIT, 1)
    write_pipeline(root / "sd")
    write_modules(root / "mm.safetensors")
    return root


@pytest.fixture(scope="module")
def own(root: Path) -> Swaps:
    return Swaps(str(root / "pixart"), str(root / "latte"))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_with_transformers(sampler: str, own: Swaps) -> None:
    result = TextToVideo.from_pair("latte", swaps=own)("a red cat, moving left", sampler=sampler, **CALL)
    assert result.frames.shape == (1, 3, 16, 16, 3)
    assert result.latents.isfinite().all()


def test_a_pair_of_transformers_is_run_as_its_files_say(own: Swaps) -> None:
    pair = load_pair("latte", swaps=own)
    assert (pair.image.unet.config, pair.video.unet.config) == (DIT, VIDEO_DIT)
    for side in pair.sides:
        run_as = side.run_as
        assert (run_as["prediction"], run_as["schedule"]["beta_end"], run_as["motion_norm"]) == ("epsilon", 0.02, None)
        told = side.condition(["a red cat", ""])
        assert told.mask is not None
        assert told.mask[:, 0, 0].sum(dim=1).tolist() == [4, 1]  # three words and the end; the end alone
    assert pair.latent_shape(4, 12, 20) == (4, 4, 6, 10)
    for sizes, message in (((0, 16, 16), "frames=0: expected 1 or"), ((3, 16, 18), "width=18: .* multiple of 4 pix")):
        with pytest.raises(ValueError, match=message):
            pair.latent_shape(*sizes)


def test_latte_reads_a_negative_prompt_as_far_as_its_own_prompt_reaches_and_pixart_alone(own: Swaps) -> None:
    """No text is cut: one that is longer than its prompt is read whole."""
    prompts, negatives = ["a red cat moving left", "a", "a cat"], ["", "a blue cat", "a red"]
    lengths = {}
    for side in load_pair("latte", swaps=own).sides:
        negative, positive = side.read_both(negatives, prompts)
        assert torch.equal(negative.states, side.read(negatives).states)
        assert negative.mask is not None
        assert positive.mask is not None
        assert positive.mask.sum(dim=1).tolist() == [6, 2, 3]
        lengths[side.name] = negative.mask.sum(dim=1).tolist()
    assert lengths == {"image": [1, 4, 3], "video": [6, 4, 3]}


@pytest.mark.parametrize("sampler", ["ddim", "image"])
def test_a_clip_is_the_same_whatever_prompts_are_drawn_beside_it(sampler: str, own: Swaps) -> None:
    """To float32's rounding, which other batches have."""
    model = TextToVideo.from_pair("latte", swaps=own)
    prompts, call = ["a red cat moving left", "a", "a blue circle, moving"], {"sampler": sampler, **CALL}
    together = model(prompts, seed=[1, 2, 3], batch_size=3, **call).latents
    for k, prompt in enumerate(prompts):
        alone = model(prompt, seed=k + 1, **call).latents
        assert float((alone[0] - together[k]).abs().max() / alone.abs().max()) < 1e-5


def test_one_latte_on_both_sides_is_one_set_of_weights_seen_in_two_ways(root: Path) -> None:
    latte = str(root / "latte")
    pair = load_pair("latte", swaps=Swaps(latte, latte))
    assert pair.image.unet is pair.video.unet
    assert len(pair.readers) == 1
    told = [side.condition(["a cat"]) for side in pair.sides]
    x = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        image, video = (side.network()(one)(x, 2.0) for side, one in zip(pair.sides, told, strict=True))
        alone = pair.image.network(image_frames=2)(told[0])(x, 2.0)
    assert not torch.allclose(image, video, atol=1e-3)
    assert torch.allclose(image, alone, atol=1e-5)  # frame by frame, in float32


def test_a_transformer_draws_beside_a_unet_that_shares_its_latents(root: Path) -> None:
    swaps = Swaps(str(root / "pixart"), str(root / "sd"), str(root / "mm.safetensors"))
    result = TextToVideo.from_pair("animatediff", swaps=swaps)("a red cat", sampler="composite", **CALL)
    assert result.record.nfe.keys() == {"image", "video"}
    assert result.latents.isfinite().all()


def test_a_unet_in_a_transformer_s_place_and_the_other_way_round(root: Path) -> None:
    sides = load_pair("latte", swaps=Swaps(str(root / "sd"), str(root / "latte"))).sides
    assert [type(side.unet).__name__ for side in sides] == ["UNet", "DiT"]


def test_what_does_not_go_together_is_one_clear_error(root: Path, tmp_path: Path) -> None:
    latte, modules = str(root / "latte"), str(root / "mm.safetensors")
    with pytest.raises(ValueError, match=r"^video model: motion beside a transformer: only a UNet has a use for it$"):
        load_pair("animatediff", swaps=Swaps(video_model=latte, image_model=latte, motion=modules))
    write_transformers(tmp_path / "narrow", replace(DIT, caption_channels=12), 2)
    with pytest.raises(ValueError, match=r"^image model: its transformer reads text of 12 channels, its .* says 32: "):
        load_pair("latte", swaps=Swaps(str(tmp_path / "narrow"), latte))
    for part in ("text_encoder", "tokenizer"):
        (tmp_path / part).symlink_to(root / "latte" / part)
    (tmp_path / "unet").symlink_to(root / "sd" / "unet")
    write_text(tmp_path / "wide", replace(TEXT, d_model=48))
    (tmp_path / "text_encoder").unlink()
    (tmp_path / "text_encoder").symlink_to(tmp_path / "wide" / "text_encoder")
    with pytest.raises(ValueError, match=r"^image model: its UNet reads text of 32 channels, its .* says 48: they are"):
        load_pair("latte", swaps=Swaps(str(tmp_path), latte))
