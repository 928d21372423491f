"""Maps of latents fitted to pictures: what one linear autoencoder knows of another's they find, frame by frame."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from ivmix.models import VAEConfig
from ivmix.pairs.mapping import fit_maps, new_maps, squares
from ivmix.sprites.world import some_clips


class Pooled:
    """An autoencoder whose latents are `gain` times the means of squares of `factor` pixels a side."""

    def __init__(self, factor: int, gain: float) -> None:
        self.factor, self.gain = factor, gain
        self.config = SimpleNamespace(factor=factor, latent_channels=3)
        self.post_quant_conv = torch.nn.Conv2d(1, 1, 1)  # says where the autoencoder is

    def encode(self, video, frames=64):
        return self.gain * F.avg_pool3d(video, (1, self.factor, self.factor))


@pytest.mark.slow
def test_maps_are_found_and_told_by_frames_they_were_not_fitted_to():
    """Four times as many latents in one space: what is averaged is known whole there, and nearly so back."""
    counted = []
    maps, (to_image, to_video) = fit_maps(
        Pooled(4, 1.0), Pooled(2, 2.0), some_clips(4), steps=150, step=lambda: counted.append(1)
    )
    assert len(counted) == 150
    assert to_video > 0.97
    assert 0.8 < to_image < to_video
    clips = some_clips(1, seed=3)
    here, there = Pooled(4, 1.0).encode(clips), Pooled(2, 2.0).encode(clips)
    to_image, to_video = maps
    assert (to_video(there) - here).square().mean() < 0.05 * here.var()
    assert not any(weight.requires_grad for network in maps for weight in network.parameters())


def test_maps_are_of_both_autoencoders_and_of_larger_frames():
    video, image = VAEConfig(latent_channels=4), VAEConfig(latent_channels=16, block_out_channels=(8, 8))
    sizes = [(m.config.in_channels, m.config.out_channels, m.config.up, m.config.down) for m in new_maps(video, image)]
    assert sizes == [(4, 16, 4, 1), (16, 4, 1, 4)]
    assert [(m.config.up, m.config.down) for m in new_maps(video, video, 2)] == [(2, 1), (1, 2)]
    with pytest.raises(ValueError, match="expected one of them to be 1"):
        new_maps(video, VAEConfig(block_out_channels=(8,) * 5), 3)  # 24 pixels beside 16


def test_squares_are_the_same_place_of_both():
    place = torch.arange(20.0 * 36).reshape(1, 1, 1, 20, 36).expand(3, 1, 1, 20, 36)
    larger = place.repeat_interleave(2, -1).repeat_interleave(2, -2)
    for a, b, one in ((place, larger, place), (larger, place, larger)):
        here, there = squares(a, b, torch.Generator().manual_seed(0), n=5)
        small, large = (here, there) if one is place else (there, here)
        assert small.shape == (5, 1, 1, 16, 16)
        assert torch.equal(large[..., ::2, ::2], small)


def test_few_frames_are_refused():
    with pytest.raises(ValueError, match="clips: got 3 frames, expected at least 4"):
        fit_maps(Pooled(4, 1.0), Pooled(2, 2.0), some_clips(1)[:1, :, :3])
