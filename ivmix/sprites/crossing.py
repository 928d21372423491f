"""What a bridge between two autoencoders' latents does, measured on the sprite world: its levels and its round trip."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ivmix.models import VAE
from ivmix.sprites.world import degrade, random_scenes, render

SIGMAS = (0.03, 0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 15.0)  # of the video model: what its schedule spans
SCENES, SEED = 12, 77  # of a measurement, eight frames each, crisp and degraded
BRACKET = (1e-3, 1e3)  # where a level of as much noise is looked for


def some_clips(scenes: int = SCENES, seed: int = SEED) -> Tensor:
    """Crisp clips, then the same degraded, (2·scenes 3 f h w) in [-1, 1]."""
    clips = render(random_scenes(scenes, torch.Generator().manual_seed(seed)))
    return torch.cat([clips, degrade(clips)])


@torch.no_grad()
def hidden(vae: VAE, clips: Tensor, seed: int = SEED) -> Callable[[float], float]:
    """The signal to noise in pixels of clips whose latents have noise of a level sigma, as a function of it.

    rho²/(1 - rho²), rho the correlation of what the decoder makes of noisy latents with what it makes of clean ones,
    each pixel's mean over all frames taken off: the share of the variance that is still the picture, however the
    decoder bends. One draw of the noise serves all levels.
    """
    z = vae.encode(clips)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))

    def centred(latents: Tensor) -> Tensor:
        frames = vae.decode(latents).transpose(1, 2).flatten(0, 1)
        return (frames - frames.mean(0)).double()

    clean = centred(z)

    @torch.no_grad()
    def ratio(sigma: float) -> float:
        noisy = centred(z + sigma * noise)
        square = float((clean * noisy).sum() ** 2 / (clean.square().sum() * noisy.square().sum()))
        return square / (1 - square)

    return ratio


def level_pairs(video: VAE, image: VAE, sigmas: Sequence[float] = SIGMAS) -> list[tuple[float, float]]:
    """Levels of the `image` autoencoder's latents at which as much is hidden in pixels as at `sigmas` in `video`'s, as
    pairs to three digits: by bisection in log sigma. ValueError where no level hides as much."""
    clips = some_clips()
    here, there = hidden(video, clips), hidden(image, clips)
    pairs = [(sigma, float(f"{_level(there, here(sigma)):.3g}")) for sigma in sigmas]
    if any(b <= a for (_, a), (_, b) in pairwise(pairs)):
        raise ValueError(f"levels {pairs}: they do not increase, the decoder of one tells nothing at some of them")
    return pairs


def _level(ratio: Callable[[float], float], wanted: float, steps: int = 12) -> float:
    low, high = map(math.log, BRACKET)
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if ratio(math.exp(middle)) > wanted else (low, middle)
    return math.exp((low + high) / 2)
