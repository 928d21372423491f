"""Maps of latents to colours: the least squares, told of clips that they do not know, and read from files."""

import json

import pytest
import torch
import torch.nn.functional as F

from ivmix.generation.latent_rgb import (
    NAME,
    LatentRGB,
    agreement,
    block_means,
    held_out,
    map_path,
    preview,
    read_map,
    write_map,
)
from ivmix.models import load_vae
from ivmix.models.checkpoints.sources import locate
from ivmix.pairs.description import EMBEDDED
from ivmix.sprites.measure import real_clips

MAP = {"format": 1, "weight": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "bias": [0.0, 0.5, 1]}


@pytest.fixture
def linear() -> tuple[LatentRGB, torch.Tensor, torch.Tensor]:
    """A map, latents, and what an autoencoder that is that map makes of them: squares of 4 pixels, within [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    colours = LatentRGB(0.1 * torch.randn(3, 5, generator=generator, dtype=torch.float64), torch.tensor([0.1, 0, -0.1]))
    latents = torch.rand(2, 5, 3, 4, 6, generator=generator) - 0.5
    return colours, latents, F.interpolate(colours(latents), scale_factor=(1, 4, 4))


def test_a_linear_decoder_is_found_and_shown_exactly(linear):
    colours, latents, video = linear
    found = LatentRGB.fitted(latents, video)
    for name in ("weight", "bias"):  # pixels are float32
        torch.testing.assert_close(getattr(found, name).float(), getattr(colours, name).float(), atol=1e-5, rtol=0)
    r2, psnr = agreement(found(latents), block_means(video, 6))
    assert r2 > 1 - 1e-9
    assert psnr > 90
    shown = preview(latents, colours)
    assert (shown.shape, shown.dtype) == ((2, 3, 4, 6, 3), "uint8")
    levels = (video[..., ::4, ::4].permute(0, 2, 3, 4, 1) + 1) * 127.5
    assert (torch.from_numpy(shown) - levels).abs().max() < 0.5001


def test_pixels_are_fitted_as_a_screen_shows_them(linear):
    *_, video = linear
    torch.testing.assert_close(block_means(20 * video, 6), F.avg_pool3d((20 * video).clamp(-1, 1), (1, 4, 4)))


def test_few_latents_have_a_map_too(linear):
    """Of a clip of one latent: more numbers than equations."""
    _, latents, video = linear
    found = LatentRGB.fitted(latents[:1, :, :1, :1, :1], video[:1, :, :1, :4, :4])
    torch.testing.assert_close(found(latents[:1, :, :1, :1, :1]), video[:1, :, :1, :1, :1], atol=1e-5, rtol=0)


def test_what_is_told_is_of_clips_that_the_map_does_not_know(linear):
    """Two clips of opposite colours: the map of each fails at the other, although one of both explains something."""
    _, latents, video = linear
    seen = block_means(video, 6)
    clips, true = [latents[:1], latents[1:]], [seen[:1], -seen[1:]]
    assert held_out(clips, true)[0] < 0
    assert held_out(clips[:1], true[:1])[0] > 1 - 1e-9  # one alone, of itself
    clips, true = [latents[:1, :, :1], latents[:1, :, 1:], latents[1:]], [seen[:1, :, :1], seen[:1, :, 1:], seen[1:]]
    assert held_out(clips, true)[0] > 1 - 1e-9  # and of any lengths


def test_clips_of_one_colour_are_refused(linear):
    with pytest.raises(ValueError, match=r"^the clips are of one colour: there is nothing to fit colours to$"):
        held_out([linear[1]], [torch.zeros(2, 3, 3, 4, 6)])


def test_latents_of_other_channels_are_refused_by_shape(linear):
    colours, latents, _ = linear
    for wrong in (latents[:, :4], latents[0]):
        with pytest.raises(ValueError, match=rf"^latents is \({', '.join(map(str, wrong.shape))}\): expected \(b, 5"):
            preview(wrong, colours)


def test_a_map_of_some_clips_shows_others_of_the_embedded_autoencoder():
    """It explains most of the world's crisp clips; a map that took one channel for another explains nothing."""
    vae = load_vae(EMBEDDED["sprites"] / "vae", dtype=torch.float32)
    with torch.no_grad():
        latents = vae.encode(real_clips(8, 12345, degraded=False)[0])
        true = block_means(vae.decode(latents), latents.shape[-1])
    colours = LatentRGB.fitted(latents[:4], true[:4])
    turned = LatentRGB(colours.weight.roll(1, dims=1), colours.bias)
    assert agreement(colours(latents[4:]), true[4:])[0] > 0.6
    assert agreement(turned(latents[4:]), true[4:])[0] < 0


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_map_lies_in_the_folder_of_its_autoencoder_or_beside_the_single_file(tmp_path):
    (tmp_path / "mse.fp16.safetensors").touch()
    assert map_path(locate(EMBEDDED["sprites"] / "vae", "vae")) == EMBEDDED["sprites"] / "vae" / NAME
    assert map_path(locate(tmp_path / "mse.fp16.safetensors", "vae")) == tmp_path / f"mse.fp16.{NAME}"


def test_a_map_comes_back_from_its_file(linear, tmp_path):
    colours, latents, _ = linear
    write_map(colours, tmp_path / NAME, "a test", 0.12345, 20.123)
    again = read_map(tmp_path / NAME, 5)
    torch.testing.assert_close(again(latents), colours(latents), rtol=1e-5, atol=1e-6)  # six digits are kept
    raw = json.loads((tmp_path / NAME).read_text())
    assert (raw["about"], raw["r2"], raw["psnr"]) == ("a test", 0.123, 20.12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        (json.dumps(MAP | {"bias": [0, 0, float("nan")]}), "is not JSON: NaN is no JSON"),
        (json.dumps(MAP | {"bias": [0, 0, 1e300]}), "hold numbers that are no colours"),
        (json.dumps(MAP | {"format": 2}), "has format 2: this version reads format 1"),
        (json.dumps({k: v for k, v in MAP.items() if k != "bias"}), "it lacks the entry 'bias'"),
        (json.dumps(MAP | {"biass": 1}), "unknown entry 'biass'; did you mean 'bias'?"),
        (json.dumps(MAP | {"bias": ["0", 0, 0]}), "bias[0] is '0', expected a number"),
        (json.dumps(MAP | {"bias": [0, 0]}), "expected a weight of three rows of the same length and three numbers of"),
        (json.dumps(MAP | {"weight": [[1, 2], [3, 4], [5]]}), "expected a weight of three rows of the same length"),
        (json.dumps(MAP | {"weight": [[], [], []]}), "expected a weight of three rows of the same length"),
        (json.dumps(MAP), "is a map of 2 channels, the autoencoder has 4: fit its own"),
    ],
)
def test_a_file_that_is_no_map_is_one_line_that_names_it(tmp_path, text, said):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(ValueError, match=NAME) as error:
        read_map(tmp_path / NAME, 4)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
