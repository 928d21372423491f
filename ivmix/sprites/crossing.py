"""What a bridge between two autoencoders' latents does, measured on the sprite world: its levels and its round trip."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ivmix.models import VAE
from ivmix.solvers import Bridge, Levels
from ivmix.sprites.world import degrade, random_scenes, render

SIGMAS = (0.03, 0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 15.0)  # of the video model: what its schedule spans
SCENES, SEED = 6, 77  # of a measurement, eight frames each, crisp and degraded


def some_clips(scenes: int = SCENES, seed: int = SEED) -> Tensor:
    """Crisp clips, then the same degraded, (2·scenes 3 f h w) in [-1, 1]."""
    clips = render(random_scenes(scenes, torch.Generator().manual_seed(seed)))
    return torch.cat([clips, degrade(clips)])


@torch.no_grad()
def hidden(vae: VAE, clips: Tensor, sigmas: Sequence[float], seed: int = SEED) -> list[float]:
    """The noise to signal in pixels, as amplitudes, of clips whose latents have noise of these levels.

    sqrt(1/rho² - 1), rho the correlation of what the decoder makes of noisy latents with what it makes of clean ones,
    each pixel's mean over all frames taken off: what is no longer the picture beside what still is, however the decoder
    bends; where it does not, in proportion to sigma. One draw of the noise serves all levels.
    """
    z = vae.encode(clips)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))

    def centred(latents: Tensor) -> Tensor:
        frames = vae.decode(latents).transpose(1, 2).flatten(0, 1)
        return (frames - frames.mean(0)).double()

    clean, ratios = centred(z), []
    for sigma in sigmas:
        noisy = centred(z + sigma * noise)
        square = float((clean * noisy).sum() ** 2 / (clean.square().sum() * noisy.square().sum()))
        ratios.append((1 / square - 1) ** 0.5)
    return ratios


def level_pairs(video: VAE, image: VAE, sigmas: Sequence[float] = SIGMAS) -> list[tuple[float, float]]:
    """Levels of the `image` autoencoder's latents at which as much is hidden in pixels as at `sigmas` in `video`'s, as
    pairs to three digits: what is hidden at some levels of either, interpolated in logarithms. Those at which a decoder
    hides no more than at lower ones, as one that has learnt nothing may, are left out."""
    clips = some_clips()
    here, there = (hidden(vae, clips, sigmas) for vae in (video, image))
    hiding = Levels(increasing(zip(there, sigmas, strict=True)))  # from noise to signal to the level across that has it
    across = [float(f"{hiding.there(ratio):.3g}") for ratio in here]
    return list(increasing(zip(sigmas, across, strict=True)))


def increasing(pairs: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Those of which both numbers are larger than in all before."""
    kept: list[tuple[float, float]] = []
    for pair in pairs:
        if not kept or (pair[0] > kept[-1][0] and pair[1] > kept[-1][1]):
            kept.append(pair)
    return tuple(kept)


@torch.no_grad()
def round_trip(bridge: Bridge, vae: VAE, latents: Tensor) -> tuple[float, float]:
    """How far clean latents (b c f h w) are from themselves once they have crossed and come back: the root of the mean
    square, in grey levels (0-255) of what `vae` decodes of them, and in units of the latents' deviation."""
    back = bridge.back(bridge.there(latents))
    grey = 127.5 * (vae.decode(back) - vae.decode(latents)).square().mean().sqrt()
    return float(grey), float((back - latents).square().mean().sqrt() / latents.std())
