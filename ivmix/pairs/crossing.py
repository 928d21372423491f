"""What a bridge between two autoencoders' latents does, measured on pictures: its levels and its round trip.

Pictures are clips (b 3 f H W) in [-1, 1], of the size that the video model has; across they are `scale` times as large.
"""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from ivmix.models import VAE
from ivmix.pairs.bridge import resized
from ivmix.solvers import Bridge, Levels

SIGMAS = (0.03, 0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 15.0)  # of the video model: what its schedule spans
SEED = 77  # of the noise of a measurement


@torch.no_grad()
def encoded(vae: VAE, clips: Tensor, scale: int = 1, frames: int = 64) -> Tensor:
    """Latents (b c f h w) of clips `scale` times as large, where the autoencoder is; about so many frames at a time."""
    parts, place = clips.split(max(1, frames // clips.shape[2])), vae.post_quant_conv.weight
    return torch.cat([vae.encode(resized(part.to(place), Fraction(scale)), frames) for part in parts])


@torch.no_grad()
def hidden(
    vae: VAE, clips: Tensor, sigmas: Sequence[float], scale: int = 1, frames: int = 64,
    step: Callable[[], object] = lambda: None,
) -> list[float]:  # fmt: skip
    """The noise to signal in pixels, as amplitudes, of clips whose latents have noise of these levels.

    sqrt(1/rho² - 1), rho the correlation of what the decoder makes of noisy latents with what it makes of clean ones,
    each pixel's mean over all frames taken off: what is no longer the picture beside what still is, however the decoder
    bends; where it does not, in proportion to sigma. One draw of the noise serves all levels. The autoencoder has the
    clips `scale` times as large, so many frames at a time; pixels are those of the clips. `step` is called after each
    level. ValueError for frames that are all alike, of which nothing can be hidden.
    """
    z = encoded(vae, clips, scale, frames)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(SEED)).to(z)

    def centred(latents: Tensor) -> Tensor:
        shown = resized(vae.decode(latents, frames), Fraction(1, scale)).transpose(1, 2).flatten(0, 1)
        return (shown - shown.mean(0)).double()

    clean, ratios = centred(z), []
    if not clean.any():
        raise ValueError("clips: expected frames that differ, got one, or the same again; give some dozens of pictures")
    for sigma in sigmas:
        noisy = centred(z + sigma * noise)
        square = float((clean * noisy).sum() ** 2 / (clean.square().sum() * noisy.square().sum()))
        ratios.append((1 / square - 1) ** 0.5)
        step()
    return ratios


def level_pairs(
    video: VAE, image: VAE, clips: Tensor, scale: int = 1, frames: int = 64, sigmas: Sequence[float] = SIGMAS,
    step: Callable[[], object] = lambda: None,
) -> list[tuple[float, float]]:  # fmt: skip
    """Levels of the `image` autoencoder's latents at which as much is hidden in pixels as at `sigmas` in `video`'s, as
    pairs to three digits: what is hidden at some levels of either, interpolated in logarithms. Those at which a decoder
    hides no more than at lower ones, as one that has learnt nothing may, are left out. `step` is called twice a
    level."""
    here, there = (hidden(vae, clips, sigmas, k, frames, step) for vae, k in ((video, 1), (image, scale)))
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
def round_trip(bridge: Bridge, vae: VAE, latents: Tensor, frames: int = 64) -> tuple[float, float]:
    """How far clean latents (b c f h w) are from themselves once they have crossed and come back: the root of the mean
    square, in grey levels (0-255) of what `vae` decodes of them, and in units of the latents' deviation."""
    back = bridge.back(bridge.there(latents))
    grey = 127.5 * (vae.decode(back, frames) - vae.decode(latents, frames)).square().mean().sqrt()
    return float(grey), float((back - latents).square().mean().sqrt() / latents.std())
