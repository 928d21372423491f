"""Small learned maps between two autoencoders' latents (`LatentMap`), fitted to pictures: in place of pixels on a
bridge, where decoding and encoding at every evaluation costs too much."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ivmix.models import VAE, LatentMap, LatentMapConfig, VAEConfig
from ivmix.pairs.crossing import encoded

Maps = tuple[LatentMap, LatentMap]  # to the image model's latents and back
EVERY = 4  # one frame of so many is held out, to be tried on


def new_maps(video: VAEConfig, image: VAEConfig, scale: int = 1, width: int = 64, layers: int = 3) -> Maps:
    """Untrained ones, of frames enlarged `scale` times. ValueError where neither side is a multiple of the other."""
    larger, a, b = Fraction(scale * video.factor, image.factor), video.latent_channels, image.latent_channels
    up, down = larger.numerator, larger.denominator
    return (LatentMap(LatentMapConfig(a, b, up, down, width, layers)),
            LatentMap(LatentMapConfig(b, a, down, up, width, layers)))  # fmt: skip


def errors(maps: Maps, here: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """How far each way's latents are from the other autoencoder's own (b c f h w) of the same pictures: the mean
    square."""
    to_image, to_video = maps
    return F.mse_loss(to_image(here), there), F.mse_loss(to_video(there), here)


def check_frames(clips: Tensor) -> None:
    """ValueError for clips (b 3 f H W) of fewer frames than maps can be fitted to and tried on."""
    if (frames := len(clips) * clips.shape[2]) < EVERY:
        raise ValueError(f"clips: got {frames} frames, expected at least {EVERY}, and better some hundreds")


def fit_maps(
    video: VAE, image: VAE, clips: Tensor, scale: int = 1, steps: int = 1500, frames: int = 64, seed: int = 0,
    step: Callable[[], object] = lambda: None,
) -> tuple[Maps, tuple[float, float]]:
    """Maps between the latents of two autoencoders, fitted to pictures (b 3 f H W) in [-1, 1] of the video's size, and
    the shares of the variance that they explain of every fourth frame, which they are not fitted to.

    Each step has 32 squares of at most 16 latents of the coarser side, of frames at random; `step` is called after it.
    ValueError for fewer than four frames.
    """
    check_frames(clips)
    here, there = (encoded(vae, clips, k, frames).float() for vae, k in ((video, 1), (image, scale)))
    here, there = (z.transpose(1, 2).flatten(0, 1)[:, :, None] for z in (here, there))
    known = torch.arange(len(here)) % EVERY != EVERY - 1
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        maps = new_maps(video.config, image.config, scale)
    for network in maps:
        network.to(here.device)
    generator, draw = torch.Generator().manual_seed(seed), partial(squares, here[known], there[known])
    weights = [weight for network in maps for weight in network.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=2e-3, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.stack(errors(maps, *draw(generator))).sum().backward()
        optimiser.step()
        rate.step()
        step()
    for network in maps:
        network.requires_grad_(False).eval()
    left = errors(maps, here[~known], there[~known])
    spread = there[~known].var(), here[~known].var()
    to_image, to_video = (float(1 - error / own) for error, own in zip(left, spread, strict=True))
    return maps, (to_image, to_video)


def squares(here: Tensor, there: Tensor, generator: torch.Generator, n: int = 32, side: int = 16) -> tuple[Tensor, ...]:
    """The same n squares of latents of both spaces, of frames at random."""
    rows = torch.randint(len(here), (n,), generator=generator)
    height, width = (min(z, y) for z, y in zip(here.shape[-2:], there.shape[-2:], strict=True))
    tall, wide = min(side, height), min(side, width)
    top, left = (int(torch.randint(end + 1, (), generator=generator)) for end in (height - tall, width - wide))

    def cut(z: Tensor) -> Tensor:
        k = z.shape[-1] // width
        return z[rows][..., k * top : k * (top + tall), k * left : k * (left + wide)]

    return cut(here), cut(there)
