"""Where the networks of the embedded pair start from."""

import pytest
import torch

from ivmix.models import VAE
from ivmix.pairs.description import EMBEDDED
from ivmix.sprites.training.losses import levels
from ivmix.sprites.training.networks import HALF_CONFIG, averaging_video, grown_vae, save_half

CPU = torch.device("cpu")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.slow
def test_the_whole_size_starts_from_the_half_size_and_keeps_its_scale(tmp_path):
    half = VAE(HALF_CONFIG)
    save_half(half, tmp_path / "pair")
    grown = grown_vae(tmp_path / "pair")
    assert grown.config.scaling_factor == half.config.scaling_factor != 1
    ours, theirs = grown.state_dict(), half.state_dict()
    same = "encoder.down_blocks.{}.resnets.0.conv1.weight"
    torch.testing.assert_close(ours[same.format(2)], theirs[same.format(1)].half().float())
    torch.testing.assert_close(ours["decoder.conv_in.weight"], theirs["decoder.conv_in.weight"].half().float())
    assert grown.decode_images(torch.zeros(1, 4, 4, 4)).shape == (1, 3, 16, 16)


def test_the_last_layer_of_the_video_model_starts_from_the_clean_clip_that_v_stands_for():
    averaging = averaging_video(EMBEDDED["sprites"]).unet.averaging
    assert averaging is not None
    x0, noise = (torch.randn(1000, 4, 1, 2, 2, generator=generator(seed)) for seed in (1, 2))
    alpha, sigma_vp = levels(torch.arange(1000), CPU)
    a, b = (column[:, None, None, None, None] for column in averaging.clean.unbind(1))
    torch.testing.assert_close(a * (alpha * x0 + sigma_vp * noise) + b * (alpha * noise - sigma_vp * x0), x0)
