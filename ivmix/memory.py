"""What a run takes of a device's memory, counted before anything is allocated.

Counted are the tensors of the dearest moment: in a network's forward pass, or in the decoder's while the frames
decoded before wait. Weights, what kernels take for themselves and an allocator's rounding come on top, so that what is
refused would not have fitted; what is not refused may still not fit.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath

import torch

from ivmix.models import UNetConfig, VAEConfig
from ivmix.models.build import build
from ivmix.models.cost import Alive, Kernels, forward_cost
from ivmix.models.vae import Decoder
from ivmix.pair import Pair

PIXELS = 2**20  # decoded at a time: four frames of 512x512


def frames_at_once(height: int, width: int) -> int:
    """How many frames of so many pixels are decoded at a time."""
    return max(1, PIXELS // (height * width))


def check_fits(pair: Pair, clips: int, frames: int, height: int, width: int, vae_tile: int | None) -> None:
    """Raises ValueError, before anything is allocated, where `clips` clips at a time, of `frames` frames of height x
    width pixels, need more memory than the pair's device has in all."""
    there = device_memory(pair.device)
    if there is None or upper_bound(pair, clips, frames, height, width, vae_tile) <= there:
        return
    needed = estimate(pair, clips, frames, height, width, vae_tile)
    if needed > there:
        wide = pair.dtype.itemsize > 2
        ways = ["fewer frames", "a smaller size", *["a smaller batch_size"] * (clips > 1)]
        tiles = estimate(pair, clips, frames, height, width, 1) < needed
        ways += [*["a smaller vae_tile"] * tiles, *["float16"] * wide]
        raise ValueError(
            f"{clips} x {frames} frames of {height}x{width} need at least {needed / 1e9:,.1f} GB, and {pair.device} "
            f"has {there / 1e9:,.1f} GB in all: try {', '.join(ways)}"
        )


def estimate(pair: Pair, clips: int, frames: int, height: int, width: int, vae_tile: int | None) -> int:
    """Bytes of the dearest moment of a run, without weights: the module says what is counted. Takes a second or two."""
    channels, _, h, w = pair.latent_shape(frames, height, width)
    latents = 4 * clips * channels * frames * h * w  # the state, in float32
    networks = (
        forward_cost(
            side.unet.config, frames, *side.seen(h, w), rows=2 * clips, temporal=side.name == "video", dtype=pair.dtype
        ).activations
        for side in pair.sides
    )  # fmt: skip
    tile = max(h, w) if vae_tile is None else vae_tile
    at_once = min(frames_at_once(height, width), clips * frames)
    decoder = decoder_activations(pair.vae.config, at_once, min(h, tile), min(w, tile), pair.dtype)
    pixels = clips * frames * height * width * pair.vae.config.out_channels * pair.dtype.itemsize
    return latents + max(*networks, decoder + pixels)


@torch.no_grad()
@lru_cache(maxsize=16)
def decoder_activations(config: VAEConfig, frames: int, height: int, width: int, dtype: torch.dtype) -> int:
    """The most bytes of tensors alive at a time while `frames` frames of height x width latents are decoded at once."""
    decoder = build(Decoder, config).to(dtype)
    z = torch.empty(frames, config.latent_channels, height, width, dtype=dtype, device="meta")
    with Kernels(), Alive() as alive:
        decoder(z)
    return alive.most


def upper_bound(pair: Pair, clips: int, frames: int, height: int, width: int, vae_tile: int | None) -> int:
    """More than `estimate`, from the widths of the networks alone: what is below needs no closer look."""
    h, w = height // pair.vae.config.factor, width // pair.vae.config.factor
    per_frame = max(math.prod(side.seen(h, w)) * unet_channels(side.unet.config) for side in pair.sides)
    networks = 2 * clips * frames * per_frame
    decoder = min(frames_at_once(height, width), clips * frames) * height * width * decoder_channels(pair.vae.config)
    pixels = clips * frames * height * width * pair.vae.config.out_channels
    return (networks + decoder + pixels) * max(pair.dtype.itemsize, 4)


def unet_channels(config: UNetConfig) -> int:
    """More numbers than a UNet holds at a time for each of its latent pixels.

    Every level holds what it hands to the way up, a width a layer; the layer at work holds at most a dozen widths more
    (queries, keys, values, a feed-forward of eight), of a state that two ways have joined.
    """
    widths = config.block_out_channels
    kept = sum(width * (config.layers_per_block + 1) / 4**k for k, width in enumerate(widths))
    at_work = max(16 * (width + widths[max(k - 1, 0)] + widths[min(k + 1, len(widths) - 1)]) / 4**k
                  for k, width in enumerate(widths))  # fmt: skip
    return round(kept + at_work + 2 * config.in_channels)


def decoder_channels(config: VAEConfig) -> int:
    """More numbers than the decoder holds at a time for each pixel it draws.

    A residual layer holds its input, two states of its own width and what is made of them, eight widths at the most;
    the first one of a level holds those of the level below, enlarged.
    """
    widths = config.block_out_channels
    return round(max(8 * max(width, widths[min(k + 1, len(widths) - 1)]) / 4**k for k, width in enumerate(widths)))


def device_memory(device: torch.device) -> int | None:
    """Bytes that a device has in all, for the CPU those of the machine or of the group this process may not leave; None
    where that is not known."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type != "cpu" or not hasattr(os, "sysconf"):
        return None
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_group_limits()])


def _group_limits() -> Iterator[int]:
    """What Linux's control groups allow this process, of both versions."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            name = "memory/{}/memory.limit_in_bytes" if controllers else "{}/memory.max"
            for place in (PurePosixPath(group), *PurePosixPath(group).parents):
                with suppress(OSError, ValueError):  # a container may not see its own group; "max" is no limit
                    yield int(Path("/sys/fs/cgroup", name.format(str(place).strip("/"))).read_text())
