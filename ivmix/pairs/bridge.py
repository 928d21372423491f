"""The bridge of a pair whose image model has latents of its own: as a description has it, and as maps of a run.

    "image": {…, "vae": SOURCE, "vae_scaling": 0.13025, "vae_dtype": "float32"},
    "bridge": {"levels": [[0.03, 0.05], …], "scale": 2, "to_image": SOURCE, "to_video": …}

`vae` is the image model's own autoencoder, `vae_scaling` and `vae_dtype` are of it what they are of the pair's.
`levels` are pairs of the video model's sigma and the image model's that hides as much in pixels, as measured once
(`ivmix bridge`, `ivmix.pairs.crossing`). Clean latents cross through pixels: decoded, enlarged `scale` times, by
default 1, and encoded, some frames at a time; or, where `to_image` and `to_video` are named, both or neither, through
small learned maps (`ivmix.models.LatentMap`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ivmix.devices import at_least, find_dtype
from ivmix.models import VAE, LatentMap, LatentMapConfig, VAEConfig, load_folder, load_vae
from ivmix.models.checkpoints.folders import Local
from ivmix.samplers.base import Plan, Sampling
from ivmix.solvers import Across, Affine, Bridge, Composite, Guided, Levels, Network, bridged
from ivmix.typed import whole

if TYPE_CHECKING:
    from ivmix.pairs.pair import Pair

MAPS = ("to_image", "to_video")
OF_VAE = ("vae", "vae_scaling", "vae_dtype")  # what an image model across has of its own
COMBINING = ("composite", "mixture", "blend", "autoguidance")  # samplers that ask both models at one state and level


class BridgeEntry(TypedDict):
    """A description's `bridge`, in the words of the module."""

    levels: list[list[float]]
    scale: NotRequired[int]
    to_image: NotRequired[str]
    to_video: NotRequired[str]


def check_bridge(raw: Mapping[str, Any]) -> None:
    """ValueError for a description with a bridge and no autoencoder of the image model's, or the other way round, or
    for entries that no bridge has."""
    entry = raw.get("bridge")
    own = raw["image"].keys() & OF_VAE
    if (entry is None and own) or (entry is not None and "vae" not in own) or raw["video"].keys() & OF_VAE:
        raise ValueError("bridge: expected one where the image model has a vae of its own, and there alone")
    if entry is None:
        return
    whole("bridge: scale", entry.get("scale", 1), 1, 16)
    if len({name in entry for name in MAPS}) > 1:
        raise ValueError(f"bridge: expected both of {' and '.join(MAPS)}, or neither")
    try:
        read_levels(entry)
    except ValueError as error:
        raise ValueError(f"bridge: {error}") from None


def read_levels(entry: Mapping[str, Any]) -> Levels:
    if any(len(pair) != 2 for pair in entry["levels"]):
        raise ValueError("levels: expected pairs, of the video model's sigma and the image model's")
    return Levels(tuple((here, there) for here, there in entry["levels"]))


def sources(raw: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a bridge reads: parts and their sources; none without one."""
    if "bridge" not in raw:
        return []
    return [("vae", raw["image"]["vae"]), *(("map", raw["bridge"][name]) for name in MAPS if name in raw["bridge"])]


@dataclass(frozen=True, eq=False)
class PairBridge:
    """Between the latents of a pair's autoencoder and those of `vae`, its image model's."""

    vae: VAE
    levels: Levels
    scale: int = 1
    maps: tuple[LatentMap, LatentMap] | None = None  # to the image model's latents and back; None: through pixels
    vae_dtype: torch.dtype | None = None  # the narrowest that the autoencoder runs in

    @property
    def networks(self) -> dict[str, nn.Module]:
        """What it is made of, by name."""
        maps = {} if self.maps is None else dict(zip(MAPS, self.maps, strict=True))
        return {"image vae": self.vae, **maps}

    @property
    def run_as(self) -> dict[str, Any]:
        """All that decides a run beside files, as a record has it."""
        return {"levels": [list(pair) for pair in self.levels.pairs], "scale": self.scale}

    @property
    def crossing(self) -> str:
        """What an evaluation costs beside the networks' own, in words."""
        return "3 decodes and 3 encodes of the clip" if self.maps is None else "3 calls of a learned map of latents"

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Moves all of it, in place."""
        for network in self.maps or ():
            network.to(device, dtype)
        self.vae.to(device, at_least(dtype, self.vae_dtype))

    def between(self, video: VAE, frames: int = 64, tile: int | None = None) -> Bridge:
        """The maps of one run, between latents of `video` and the image model's: so many frames, of the larger of both
        sizes, and squares of so many latents, at a time."""
        if self.maps is not None:
            to_image, to_video = (partial(mapped, network) for network in self.maps)
            return Bridge(to_image, to_video, self.levels)
        there = partial(through, video, self.vae, Fraction(self.scale), frames, tile)
        back = partial(through, self.vae, video, Fraction(1, self.scale), frames, tile)
        return Bridge(there, back, self.levels)


def mapped(network: LatentMap, z: Tensor) -> Tensor:
    return network(z.to(network.conv_in.weight.dtype)).to(z.dtype)


def through(inner: VAE, outer: VAE, scale: Fraction, frames: int, tile: int | None, z: Tensor) -> Tensor:
    """Latents of `inner` (b c f h w) as those of `outer`: decoded, resized and encoded, `frames` frames from end to end
    before the next ones, so that memory is theirs, however long the clip."""

    def crossed(part: Tensor) -> Tensor:
        pixels = resized(inner.decode(part.to(inner.dtype), frames, tile), scale)
        return outer.encode(pixels.to(outer.dtype), frames, tile).to(z.dtype)

    parts = rearrange(z, "b c f h w -> (b f) c 1 h w").split(frames)
    return rearrange(torch.cat([crossed(part) for part in parts]), "(b f) c 1 h w -> b c f h w", b=len(z))


def load(
    raw: Mapping[str, Any], files: Mapping[tuple[str, str], Local], drop: Mapping[Local, list[str]],
    device: torch.device, dtype: torch.dtype, video: VAE,
) -> PairBridge:  # fmt: skip
    """The bridge of a description from the latents of `video`, from its files. ValueError for maps that are of other
    latents."""
    entry, image = raw["bridge"], raw["image"]
    own = files["vae", image["vae"]]
    narrowest = find_dtype(image["vae_dtype"], device) if "vae_dtype" in image else None
    vae = load_vae(
        own, scaling_factor=image.get("vae_scaling"), drop=drop[own], device=device, dtype=at_least(dtype, narrowest)
    )
    maps = [load_folder(LatentMap, LatentMapConfig, files["map", entry[name]], device, dtype)
            for name in MAPS if name in entry]  # fmt: skip
    scale, both = entry.get("scale", 1), (maps[0], maps[1]) if maps else None
    if both is not None:
        check_maps(both, video.config, vae.config, scale)
    return PairBridge(vae, read_levels(entry), scale, both, narrowest)


def check_maps(maps: tuple[LatentMap, LatentMap], video: VAEConfig, image: VAEConfig, scale: int) -> None:
    """ValueError for maps that are not between the latents of both autoencoders, of frames enlarged `scale` times."""
    larger = Fraction(scale * video.factor, image.factor)
    ways = (video, image, larger), (image, video, 1 / larger)
    for name, network, (a, b, times) in zip(MAPS, maps, ways, strict=True):
        own, said = network.config, "{} channels to {}, {} times the side"
        found = said.format(own.in_channels, own.out_channels, Fraction(own.up, own.down))
        wanted = said.format(a.latent_channels, b.latent_channels, times)
        if found != wanted:
            raise ValueError(f"bridge: {name} maps {found}: expected {wanted}")


def resized(pixels: Tensor, scale: Fraction) -> Tensor:
    """Frames (b c f H W) of `scale` times the size, without aliasing, in float32 at least; themselves for 1."""
    if scale == 1:
        return pixels
    frames = rearrange(pixels, "b c f h w -> (b f) c h w").to(torch.promote_types(pixels.dtype, torch.float32))
    size = [int(side * scale) for side in frames.shape[-2:]]
    frames = F.interpolate(frames, size=size, mode="bicubic", antialias=True)
    return rearrange(frames, "(b f) c h w -> b c f h w", b=len(pixels))


def times(pair: "Pair", model: str, home: str) -> int:
    """How many times the clip's height and width the frames of a model have, in a run in the latents of `home`."""
    return 1 if pair.bridge is None or model == home else pair.bridge.scale


def multiple(pair: "Pair") -> int:
    """What the video's height and width in pixels are multiples of, for the image model across the bridge."""
    if pair.bridge is None:
        return 1
    own = pair.bridge.vae.config.factor * pair.image.unet.config.multiple
    return own // math.gcd(own, pair.bridge.scale)


def source_of_atoms(pair: "Pair", sampling: Sampling, network: Network, bridge: Bridge | None = None) -> Any:
    """A network of the pair as a run of `sampling` asks it: across the bridge if the run is in other latents."""
    if pair.bridge is None or network.name != "image" or sampling.home == "image":
        return network
    return Across(network, bridge or pair.bridge.between(pair.vae))


def plan(sampling: Sampling, image: Guided, video: Guided, sigmas: Tensor, noise: Tensor | None = None) -> Plan:
    """Fields and legs of a run, the fields over the bridge under `noise` where the image model lies across.

    ValueError for a sampler that has the image model act on the state by itself, which is in other latents.
    """
    fields, legs = sampling.plan(image, video, sigmas)
    across = any(isinstance(atom.model, Across) for atom, _ in image.cond.terms)
    if not across or "image" not in sampling.models:
        return fields, legs
    if isinstance(fields, Affine):
        field: Any = bridged(fields, noise)
    elif isinstance(fields, Composite) and isinstance(fields.denoise, Affine):
        field = Composite(bridged(fields.denoise, noise), fields.churn)
    elif isinstance(fields, Mapping) and all(leg.network != "image" for leg in legs):
        return fields, legs
    else:
        raise ValueError(
            f"sampler {sampling.name!r} has the image model step or invert states, which are latents of another kind "
            f"than its own in this pair: expected one that combines predictions, {', '.join(COMBINING)}, or either "
            "model alone"
        )
    denoise = field.denoise if isinstance(field, Composite) else field
    for sigma in sigmas[:-1]:
        try:
            denoise.cost(sigma)
        except ValueError as error:
            raise ValueError(f"sampler {sampling.name!r}: {error}") from None
    return field, legs
