"""The description of a bridged pair: the video model of one pair, and the image model of another."""

from collections.abc import Mapping
from typing import Any

import torch

from ivmix.models import VAE
from ivmix.pairs.bridge import COMBINING, OF_VAE, BridgeEntry
from ivmix.pairs.parts import named
from ivmix.pairs.swaps import XL_VAE


def own_vae(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The autoencoder of a description's image model, and what is of it: its own, or else the pair's.

    >>> own_vae({"vae": "a", "vae_dtype": "float32", "image": {"unet": "u"}})
    {'vae': 'a', 'vae_dtype': 'float32'}
    """
    image = raw["image"]
    if "vae" not in image:
        return {name: raw[name] for name in OF_VAE if name in raw}
    known = XL_VAE if "text_encoder_2" in image else {}
    return {**known, **{name: image[name] for name in OF_VAE if name in image}}


def one_space(here: VAE, there: VAE) -> bool:
    """Whether two autoencoders are the same, to the bit, so that what they encode needs no bridge."""
    ours, theirs = here.state_dict(), there.state_dict()
    alike = here.config == there.config and ours.keys() == theirs.keys()
    return alike and all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


def joined(video: Mapping[str, Any], image: Mapping[str, Any], bridge: BridgeEntry, name: str) -> dict[str, Any]:
    """A pair.json of the `video` pair's video model and the `image` pair's image model, across `bridge`, from their
    descriptions, whose sources hold anywhere. Sizes and defaults are the video pair's; its sampler one that a bridge
    takes."""
    kept = ("vae", "vae_scaling", "vae_dtype", "judge", "frames", "height", "width", "fps", "dtype")
    way = "learned maps" if "to_image" in bridge else "pixels"
    about = f"The video model of {video['name']} and the image model of {image['name']}, across {way}."
    told = {side: {part: value for part, value in raw[side].items() if part not in ("from", *OF_VAE)}
            for side, raw in (("video", video), ("image", image))}  # fmt: skip
    defaults = video["defaults"]
    sampler = defaults["sampler"] if defaults["sampler"] in COMBINING else "composite"
    raw = {
        "format": 1, "name": name, "about": about,
        "licence": "; ".join(dict.fromkeys(one.get("licence", "licence not said") for one in (video, image))),
        **{entry: video[entry] for entry in kept if entry in video},
        "image": told["image"] | own_vae(image), "video": told["video"],
        "defaults": defaults | {"sampler": sampler}, "bridge": bridge,
    }  # fmt: skip
    if any(one.get("release_text_encoders") for one in (video, image)):
        raw["release_text_encoders"] = True
    known = {**image.get("files", {}), **video.get("files", {})}
    files = {source: known[source] for _, source in named(raw) if source in known}
    return raw | ({"files": files} if files else {})
