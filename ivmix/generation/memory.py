"""What a run takes of a device's memory, counted before anything is allocated.

Counted are weights, and the tensors of the dearest moment: in a network's forward pass, or in the decoder's while the
frames decoded before wait. What kernels take for themselves and an allocator's rounding come on top, so that what is
refused would not have fitted; what is not refused may still not fit. Of networks that are offloaded only the one at
work is there, so that each moment has weights of its own.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, singledispatch
from pathlib import Path, PurePosixPath

import torch
from torch import nn

from ivmix.generation.windows import RunWindows
from ivmix.models import DiTConfig, UNetConfig, VAEConfig
from ivmix.models.cost import Alive, Kernels, forward_cost
from ivmix.models.meta import build
from ivmix.models.predictor import PredictorConfig
from ivmix.models.vae import Decoder
from ivmix.pairs.bridge import times
from ivmix.pairs.offload import Offload, has_own_memory, size_of, tensors_of
from ivmix.pairs.pair import Pair
from ivmix.solvers import Windows

PIXELS = 2**20  # decoded at a time: four frames of 512x512


def frames_at_once(height: int, width: int) -> int:
    """How many frames of so many pixels are decoded at a time."""
    return max(1, PIXELS // (height * width))


@dataclass(frozen=True)
class Load:
    """What a device has to hold at a time: `clips` clips of so many frames and pixels, drawn by `models`.

    The decoder works in squares of `vae_tile` latents, the image model on `image_frames` frames, None is all at once;
    both models by `windows`.
    """

    clips: int
    frames: int
    height: int
    width: int
    vae_tile: int | None = None
    image_frames: int | None = None
    models: tuple[str, ...] = ("image", "video")
    windows: RunWindows = RunWindows()  # noqa: RUF009 - immutable

    @property
    def home(self) -> str:
        """The model in whose latents the run is."""
        return "video" if "video" in self.models else "image"

    def size_of(self, pair: Pair, model: str) -> tuple[int, int]:
        """Height and width in pixels of the frames that a model has."""
        k = times(pair, model, self.home)
        return k * self.height, k * self.width


def choose_batch(pair: Pair, load: Load) -> int:
    """How many of the clips of `load` run together where nobody says: the largest power of two of them that fits.

    It is counted by what the device has in all, never by what is free: the same call gives the same bytes. Activations
    count twice, for what is not counted. On the CPU it is 1: a clip alone is the same to the bit whoever else is drawn,
    and a batch is no faster (8 clips of the embedded pair took 1.14 times as long together); so where a device does not
    tell what it has.
    """
    there = None if pair.device.type == "cpu" or load.clips == 1 else device_memory(pair.device)
    if there is None:
        return 1
    room = there - weights(pair)

    def fits(clips: int) -> bool:
        part = replace(load, clips=clips)
        return 2 * upper_bound(pair, part) <= room or 2 * activations(pair, part) <= room

    powers = (1 << k for k in reversed(range(load.clips.bit_length())))
    return next((clips for clips in powers if clips == 1 or fits(clips)), 1)


def check_fits(pair: Pair, load: Load) -> None:
    """Raises ValueError, before anything is allocated, for what needs more memory than the pair's device has in all."""
    there, most = device_memory(pair.device), before(pair)
    if there is None or max(most, weights(pair) + upper_bound(pair, load)) <= there:
        return
    has = f"and {pair.device} has {there / 1e9:,.1f} GB in all"
    narrower = ["float16"] * (pair.dtype.itemsize > 2)
    by_turns = offloaded(pair)
    if most > there:
        ways = narrower + ["offload"] * (by_turns is not None and before(by_turns) < most)
        remedy = f"; try {', '.join(ways)}" if ways else ""
        raise ValueError(f"the weights of pair {pair.name!r} need {most / 1e9:,.1f} GB, {has}{remedy}")
    needed = needs(pair, load)
    if needed <= there:
        return
    ways = ["fewer frames", "a smaller size", *["a smaller batch_size"] * (load.clips > 1)]
    parts = {"vae_tile": replace(load, vae_tile=1), "image_frames": replace(load, image_frames=1)}
    if load.windows.frames is None and "video" in load.models:
        parts["window"] = replace(load, windows=replace(load.windows, frames=Windows(1, 0)))
    ways += [f"a smaller {name}" for name, part in parts.items() if needs(pair, part) < needed]
    ways += ["offload"] * (by_turns is not None and needs(by_turns, load) < needed)
    raise ValueError(
        f"{load.clips} x {load.frames} frames of {load.height}x{load.width} need at least "
        f"{needed / 1e9:,.1f} GB, weights included, {has}: try {', '.join(ways + narrower)}"
    )


def offloaded(pair: Pair) -> Pair | None:
    """The pair as if its weights were offloaded, to count with; None where they are, or cannot be, or it would spare
    nothing."""
    if pair.offload is not None or pair.compile != "off" or not has_own_memory(pair.device):
        return None
    return replace(pair, offload=Offload(pair.device))


def needs(pair: Pair, load: Load) -> int:
    """Bytes of the dearest moment of a run, with the weights that are there. Takes a second or two for a size not asked
    for before."""
    return max(weights(pair, at) + tensors for at, tensors in moments(pair, load).items())


def weights(pair: Pair, at: str | None = None) -> int:
    """Bytes of a pair's networks that stay on its device, what two of them share counted once.

    Where they are offloaded, of the one `at` work, "image", "video" or "vae"; of the largest, where none is named. A
    bridge stays, with both autoencoders, which work while either model is there.
    """
    networks: dict[str, nn.Module] = {side.name: side.unet for side in pair.sides}
    networks |= {f"text encoder {k}": reader.network for k, reader in enumerate(pair.readers) if reader.stays}
    crossed = [] if pair.bridge is None else [pair.vae, *pair.bridge.networks.values()]
    networks |= {} if crossed else {"vae": pair.vae}
    if pair.offload is None:
        return size_of(tensors_of(*networks.values(), *crossed))
    at_work = [network for name, network in networks.items() if at in (None, name)] or networks.values()
    return size_of(tensors_of(*crossed)) + max(size_of(tensors_of(network)) for network in at_work)


def before(pair: Pair) -> int:
    """Bytes of weights alone, where they are the most: those that stay, and a text encoder that leaves before a run."""
    held, passing = weights(pair), reading(pair)
    return held + passing if pair.offload is None else max(held, passing)


def reading(pair: Pair) -> int:
    """Bytes of the largest text encoder that is there only before a run begins: one at a time."""
    return max((reader.bytes for reader in pair.readers if not reader.stays), default=0)


def activations(pair: Pair, load: Load) -> int:
    """Bytes of the dearest moment of a run, beside weights: the module says what is counted."""
    return max(moments(pair, load).values())


def moments(pair: Pair, load: Load) -> dict[str, int]:
    """Bytes beside weights while the image model, the video model and the autoencoder ("vae") are at work; on a bridge
    of pixels, the autoencoder that takes more: to cross, or to decode the clip."""
    channels, _, h, w = pair.latent_shape(load.frames, load.height, load.width, load.home)
    state = 4 * load.clips * channels * load.frames * h * w  # in float32
    found = {}
    for side in pair.sides:
        if side.name not in load.models:
            continue
        channels, _, h, w = pair.latent_shape(load.frames, *load.size_of(pair, side.name), side.name)
        latents = load.clips * channels * load.frames * h * w
        temporal, itemsize = side.name == "video", pair.dtype.itemsize
        frames, height, width = load.windows.largest(side.name, load.frames, h, w)
        at_once = frames if temporal or load.image_frames is None else min(load.image_frames, frames)
        waiting = 0 if at_once == frames else 2 * latents * itemsize  # what other frames are predicted as
        if (frames, height, width) != (load.frames, h, w):
            waiting += 2 * latents * (itemsize + max(itemsize, 4))  # what windows are copied from, and summed in
        per_clip = network_activations(side.unet.config, at_once, *side.size_seen(height, width), temporal, pair.dtype)
        found[side.name] = state + load.clips * per_clip + waiting
    clip = load.clips * load.frames
    decoders = [decoding(pair, load, load.home, frames_at_once(load.height, load.width), clip)]
    if pair.bridge is not None and pair.bridge.maps is None and len(load.models) > 1:
        at_once = min(clip, frames_at_once(*load.size_of(pair, "image")))  # from end to end: an encoder takes less
        decoders += [decoding(pair, load, model, at_once, at_once) for model in load.models]
    return found | {"vae": state + max(decoders)}


def decoding(pair: Pair, load: Load, model: str, at_once: int, kept: int) -> int:
    """Bytes that the decoder of a model's latents takes of so many frames at once, with the pixels of those kept."""
    vae, size = pair.vae_of(model), load.size_of(pair, model)
    _, _, h, w = pair.latent_shape(load.frames, *size, model)
    tile = max(h, w) if load.vae_tile is None else load.vae_tile
    at_once = min(at_once, load.clips * load.frames)
    decoder = decoder_activations(vae.config, at_once, min(h, tile), min(w, tile), vae.dtype)
    return decoder + kept * math.prod(size) * vae.config.out_channels * vae.dtype.itemsize


@lru_cache(maxsize=16)
def network_activations(
    config: PredictorConfig, frames: int, height: int, width: int, temporal: bool, dtype: torch.dtype
) -> int:
    """The most bytes of tensors alive at a time in a guided evaluation of one clip; of several, as many times that."""
    return forward_cost(config, frames, height, width, rows=2, temporal=temporal, dtype=dtype).activations


@torch.no_grad()
@lru_cache(maxsize=16)
def decoder_activations(config: VAEConfig, frames: int, height: int, width: int, dtype: torch.dtype) -> int:
    """The most bytes of tensors alive at a time while `frames` frames of height x width latents are decoded at once."""
    decoder = build(Decoder, config).to(dtype)
    z = torch.empty(frames, config.latent_channels, height, width, dtype=dtype, device="meta")
    with Kernels(), Alive() as alive:
        decoder(z)
    return alive.most


def upper_bound(pair: Pair, load: Load) -> int:
    """More than `activations`, from the widths of the networks alone: what is below needs no closer look."""
    k, frames = 1 if pair.bridge is None else pair.bridge.scale, load.clips * load.frames
    area, vaes = k**2 * load.height * load.width, [pair.vae_of(side.name).config for side in pair.sides]
    networks = 2 * frames * max(
        math.prod(side.size_seen(k * load.height // vae.factor, k * load.width // vae.factor))
        * channels_at_once(side.unet.config) for side, vae in zip(pair.sides, vaes, strict=True)
    )
    at_once = min(frames_at_once(load.height, load.width), frames)
    decoder = at_once * area * max(map(decoder_channels, vaes))
    pixels = frames * area * max(vae.out_channels for vae in vaes)
    return (networks + decoder + pixels) * max(pair.dtype.itemsize, 4)


@singledispatch
def channels_at_once(config: PredictorConfig) -> int:
    """More numbers than a network holds at a time for each of its latent pixels."""
    raise TypeError(f"a {type(config).__name__} is the config of no network here")


@channels_at_once.register
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


@channels_at_once.register
def dit_channels(config: DiTConfig) -> int:
    """More numbers than a transformer holds at a time for each of its latent pixels.

    A block holds at most a dozen widths: the state and what is normed of it, a feed-forward before and after its gelu.
    """
    return round(16 * config.width / config.patch_size**2 + 2 * (config.in_channels + config.out_channels))


def decoder_channels(config: VAEConfig) -> int:
    """More numbers than the decoder holds at a time for each pixel it draws.

    A residual layer holds its input, two states of its own width and what is made of them, eight widths at the most;
    the first one of a level holds those of the level below, enlarged.
    """
    widths = config.block_out_channels
    return round(max(8 * max(width, widths[min(k + 1, len(widths) - 1)]) / 4**k for k, width in enumerate(widths)))


def device_memory(device: torch.device) -> int | None:
    """Bytes that a device has in all, for the CPU those of the machine or of the group this process may not leave, for
    MPS what the system would have a process take; None where that is not known."""
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    if device.type != "cpu":
        properties = getattr(torch.get_device_module(device), "get_device_properties", None)
        return None if properties is None else int(properties(device).total_memory)
    if not hasattr(os, "sysconf"):
        return None
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_group_limits()])


def _group_limits() -> Iterator[int]:
    """What Linux's control groups allow this process, of both versions."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            root, name = ("memory", "memory.limit_in_bytes") if controllers else ("", "memory.max")
            for place in (PurePosixPath(group), *PurePosixPath(group).parents):
                with suppress(OSError, ValueError):  # a container may not see its own group; "max" is no limit
                    yield int(Path("/sys/fs/cgroup", root, *place.parts[1:], name).read_text())
