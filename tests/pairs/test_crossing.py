"""Levels that hide as much in pixels, and the error of a round trip: known where decoders are linear."""

import pytest
import torch
import torch.nn.functional as F

from ivmix.pairs.crossing import hidden, increasing, level_pairs, round_trip
from ivmix.solvers import Bridge
from ivmix.sprites.world import some_clips


class Pooled:
    """An autoencoder whose latents are `gain` times the means of squares of `factor` pixels a side."""

    def __init__(self, factor: int, gain: float) -> None:
        self.factor, self.gain = factor, gain
        self.sides = set()  # of what it encoded
        self.post_quant_conv = torch.nn.Conv2d(1, 1, 1)  # says where the autoencoder is

    def encode(self, video, frames=64):
        self.sides.add(video.shape[-1])
        return self.gain * F.avg_pool3d(video, (1, self.factor, self.factor))

    def decode(self, z, frames=64):
        return F.interpolate(z / self.gain, scale_factor=(1, self.factor, self.factor))


def test_a_linear_decoder_hides_as_the_ratio_of_variances_says():
    clips, vae = some_clips(4), Pooled(2, 1.5)
    clean = vae.decode(vae.encode(clips)).transpose(1, 2).flatten(0, 1)
    variance = float((clean - clean.mean(0)).square().mean())
    sigmas = (0.1, 0.3, 1.0)
    for sigma, ratio in zip(sigmas, hidden(vae, clips, sigmas), strict=True):  # to a correlation by chance of the draw
        assert ratio == pytest.approx(sigma / 1.5 / variance**0.5, rel=0.05)


def test_levels_that_hide_as_much_are_found_whatever_the_gain():
    """The level across is the gains' ratio; beyond what was measured, 15, where the picture is a chance correlation of
    the draw, as nearly as its ratio stays."""
    for sigma, across in level_pairs(Pooled(2, 1.0), Pooled(2, 3.0), some_clips()):
        assert across == pytest.approx(3 * sigma, rel=0.02 if sigma < 5 else 0.25)


def test_levels_across_are_those_of_the_videos_pixels_where_frames_are_larger():
    """Squares of 4 pixels of frames twice as large are those of 2 here: the gains' ratio alone is left."""
    video, image = Pooled(2, 1.0), Pooled(4, 3.0)
    for sigma, across in level_pairs(video, image, some_clips(), scale=2, sigmas=(0.1, 0.3, 1.0)):
        assert across == pytest.approx(3 * sigma, rel=0.1)  # bicubic frames are not quite the small ones
    assert (video.sides, image.sides) == ({64}, {128})


def test_pictures_that_are_all_alike_tell_no_levels():
    with pytest.raises(ValueError, match="expected frames that differ"):
        level_pairs(Pooled(2, 1.0), Pooled(2, 3.0), torch.ones(3, 3, 1, 8, 8))


def test_levels_at_which_nothing_more_is_hidden_are_left_out():
    assert increasing([(1.0, 2.0), (0.5, 3.0), (2.0, 2.0), (3.0, 4.0)]) == ((1.0, 2.0), (3.0, 4.0))


def test_a_round_trip_is_told_in_grey_levels_and_in_deviations():
    vae, z = Pooled(2, 0.5), torch.randn(1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    lossless = Bridge(lambda z: 2 * z, lambda z: z / 2)
    assert round_trip(lossless, vae, z) == (0, 0)
    grey, latents = round_trip(Bridge(lambda z: z, lambda z: z + 0.1), vae, z)
    assert grey == pytest.approx(127.5 * 0.1 / 0.5, rel=1e-4)
    assert latents == pytest.approx(0.1 / z.std().item(), rel=1e-4)
