"""What the networks of the embedded pair are shown."""

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivmix.models import VAE
from ivmix.sprites.training.losses import leak, levels, timesteps, two_shapes, v_loss
from ivmix.sprites.training.networks import HALF_CONFIG
from ivmix.sprites.world import parse

CPU = torch.device("cpu")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Oracle(nn.Module):
    """The true v of one clip x0 (1 c f h w), plus an error."""

    def __init__(self, x0: Tensor, error: Tensor) -> None:
        super().__init__()
        self.x0, self.error = x0, error

    def forward(self, z: Tensor, t: Tensor, prompts: Sequence[str]) -> Tensor:
        alpha, sigma_vp = levels(t, CPU)
        return alpha * (z - alpha * self.x0) / sigma_vp - sigma_vp * self.x0 + self.error


class Upsampled(VAE):
    """Draws every latent as a square of its own, plus `share` of the frame's mean."""

    def __init__(self, share: float) -> None:
        super().__init__(HALF_CONFIG)
        self.share = share

    def decode_images(self, z: Tensor) -> Tensor:
        return F.interpolate(z, scale_factor=2) + self.share * z.mean((1, 2, 3), keepdim=True)


def test_what_is_drawn_place_by_place_leaks_nothing_and_what_sees_the_whole_frame_does():
    z = torch.randn(6, 4, 16, 16, generator=generator(0))
    for seed in range(20):
        assert leak(Upsampled(0), z, Upsampled(0).decode_images(z), generator(seed)) == 0
    once, twice = (leak(vae, z, vae.decode_images(z), generator(1)) for vae in (Upsampled(1), Upsampled(2)))
    assert once > 0
    torch.testing.assert_close(twice, 2 * once)


def test_timesteps_have_their_shares_and_stay_in_their_ranges():
    shares = {(0, 300): 0.4, (300, 900): 0.45, (900, 1000): 0.15}
    t = timesteps(20_000, shares, generator(0))
    assert (int(t.min()), int(t.max())) == (0, 999)
    for (low, high), share in shares.items():
        inside = t[(t >= low) & (t < high)]
        assert len(inside) / len(t) == pytest.approx(share, abs=4 * math.sqrt(0.25 / len(t)))  # 4 deviations
        assert inside.float().mean() == pytest.approx((low + high - 1) / 2, abs=0.02 * (high - low))  # uniform


def test_every_clip_is_shown_backwards_under_the_opposite_caption_and_half_of_the_time_as_two_shapes():
    vae = VAE(HALF_CONFIG)
    doubled = 0
    for seed in range(12):
        x0, prompts, n = two_shapes(vae, generator(seed), CPU)
        assert x0.shape == (4, 4, 8, 16, 16)
        assert torch.equal(x0[:2].flip(2), x0[2:])
        for there, back in zip(prompts[:2], prompts[2:], strict=True):
            assert (there == "") == (back == "")
            if there:
                (colour, shape, motion), (colour_back, shape_back, motion_back) = parse(there), parse(back)
                assert (colour, shape, motion ^ 1) == (colour_back, shape_back, motion_back)
        if n == 1:  # two shapes of one scene, under one noise
            doubled += 1
            if all(prompts):
                (a, shape_a, b), (c, shape_b, d) = parse(prompts[0]), parse(prompts[1])
                assert (a, b) == (c, d)
                assert shape_a != shape_b
    assert 2 <= doubled <= 10  # binomial: 0.4 % outside


def test_the_loss_is_the_weighted_error_of_v_and_of_equal_weights_the_plain_one():
    x0 = torch.randn(1, 4, 2, 6, 6, generator=generator(1))
    left = torch.zeros(6, 6)
    left[:, :3] = 0.5
    weights = torch.where(left > 0, 4.0, 1.0).expand(1, 1, 1, 6, 6)

    def loss(t: int, weights: Tensor | None) -> float:
        return v_loss(Oracle(x0, left), x0, torch.tensor([t]), ["a"], generator(2), weights, below=600)[0].item()

    assert loss(300, None) == pytest.approx(0.125, rel=1e-4)  # half of the places, 0.5 off: float32 v to 1e-5
    assert loss(300, torch.full_like(weights, 4.0)) == pytest.approx(0.125, rel=1e-4)
    assert loss(300, weights) == pytest.approx(0.25 * 0.5 * 4 / 2.5, rel=1e-4)
    assert loss(600, weights) == pytest.approx(0.125, rel=1e-4)  # above, what moves is not to be told from z
