"""What the public pairs need, counted, not measured: memory, and the arithmetic of a clip at the pair's own size.

    python tests/figures/pair_costs.py       # the README's table of pairs

Memory is what `ivmix.generation.memory` counts of one clip in float16: weights, those that two networks share once, and
the tensors of the dearest moment, or before it a text encoder that does not stay. Arithmetic is that of a clip's guided
evaluations by each sampler's defaults, without the autoencoder's: an operation is a multiplication or an addition. From
the key lists of the public files, on meta.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ivmix.generation.memory import decoder_activations, frames_at_once
from ivmix.models import DiTConfig
from ivmix.models.checkpoints import configs
from ivmix.models.checkpoints.layouts import find
from ivmix.models.cost import Cost, forward_cost
from ivmix.models.predictor import PredictorConfig
from ivmix.pairs.description import PUBLIC, describe, network_of
from ivmix.samplers.reading import sampling
from ivmix.solvers import Guided, Schedule, planned_nfe
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork

MANIFESTS = Path(__file__).parent.parent / "data" / "manifests"
VAE = "sd15_vae_diffusers"  # of all of them
MOTION = {  # motion modules, by a part of their source
    "adapter-v1-5-3": "animatediff_v3_adapter_diffusers",
    "adapter-sdxl-beta": "animatediff_sdxl_beta_adapter_diffusers",
    "hsxl_temporal_layers": "hotshot_xl_orig",
    "AnimateLCM": "animatediff_v2_adapter_diffusers",
    "AnimateDiff-Lightning": "animatediff_v2_adapter_diffusers",
}
SDXL = ("sdxl_unet_diffusers", "clip_l_text_transformers", "openclip_bigg_text_transformers")
HOLDS = {  # what a repository holds, by a part of its name: a network and text encoders
    "PixArt-XL-2-512x512": ("pixart_xl2_512_transformer", "t5_v1_1_xxl_encoder"),
    "Latte-1": ("latte1_transformer", "t5_v1_1_xxl_encoder"),
    "stable-diffusion-xl": SDXL,
    "SDXL-512": SDXL,
    "stable-diffusion-v1-5": ("sd15_unet_diffusers", "clip_l_text_transformers"),
    "Realistic_Vision": ("sd15_unet_diffusers", "clip_l_text_transformers"),
    "text-to-video-ms": ("modelscope_unet3d_diffusers", "clip_h_text_transformers"),
    "VideoCrafter2": ("videocrafter2_unet_diffusers", "clip_h_text_transformers"),
}
TRANSFORMERS = {"PixArt-XL-2-512x512": DiTConfig(), "Latte-1": DiTConfig(temporal=16)}
SHOWN = ("ddim", "composite", "zigzag")
BYTES, FACTOR = 2, 8  # of a number in float16; pixels a latent, each way


@lru_cache
def manifest(name: str) -> Any:
    return json.loads((MANIFESTS / f"{name}.json").read_text())


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    def flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, tuple[int, ...]]]:
        for key, node in tree.items():
            if isinstance(node, dict):
                yield from flatten(node, f"{prefix}{key}.")
            else:
                yield prefix + key, tuple(node)

    return dict(flatten(manifest(name)["keys"]))


def held(source: str) -> tuple[str, ...]:
    return next(names for part, names in HOLDS.items() if part in source)


def modules(source: str) -> str:
    return next(name for part, name in MOTION.items() if part in source)


def config(side: dict[str, Any]) -> PredictorConfig:
    part, source = network_of(side)
    if part == "transformer":
        return next(config for name, config in TRANSFORMERS.items() if name in source)
    unet = configs.unet(shapes(held(source)[0]))
    if "motion" not in side:
        return unet
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes(modules(side["motion"])).items()}
    (found,) = find(state).values()
    return replace(unet, temporal=configs.motion({key: tuple(value.shape) for key, value in found.take(state).items()}))


@lru_cache
def cost(network: PredictorConfig, frames: int, height: int, width: int) -> Cost:
    temporal = network.temporal is not None
    return forward_cost(network, frames, height, width, rows=2, temporal=temporal, dtype=torch.float16)


def weights(raw: dict[str, Any]) -> int:
    """Bytes of all networks of a pair but text encoders; one that both models name counts once."""
    sources = {network_of(side)[1] for side in (raw["image"], raw["video"])}
    files = [held(source)[0] for source in sources]
    files += [modules(raw["video"]["motion"])] if "motion" in raw["video"] else []
    networks = BYTES * sum(manifest(name)["parameters"] for name in files)
    return networks + in_vae(raw).itemsize * manifest(VAE)["parameters"]


def in_vae(raw: dict[str, Any]) -> torch.dtype:
    """What the autoencoder runs in."""
    return getattr(torch, raw.get("vae_dtype", "float16"))  # type: ignore[no-any-return]


def text_encoders(raw: dict[str, Any]) -> list[int]:
    """Bytes of each; one that both models name counts once."""
    parts = ("text_encoder", "text_encoder_2")  # in the order of `HOLDS`
    sides = (raw["image"], raw["video"])
    named = {(place, side[part]) for side in sides for place, part in enumerate(parts, 1) if part in side}
    return [BYTES * manifest(held(source)[place])["parameters"] for place, source in named]


def evaluations(raw: dict[str, Any], sampler: str) -> dict[str, int]:
    """Of each model, a clip, at the pair's defaults."""
    chosen = sampling(raw["defaults"], {"sampler": sampler})
    networks = [GaussianNetwork(name, {"": Gaussian(0.0, 1.0)}) for name in ("image", "video")]
    image, video = (Guided(network(""), network("")) for network in networks)
    fields, legs = chosen.plan(image, video, chosen.grid(Schedule.from_config(raw["video"]["schedule"])))
    planned = planned_nfe(legs)
    return planned if isinstance(fields, dict) else dict.fromkeys(chosen.models, planned["video"])  # one field of both


def counted(name: str) -> tuple[int, dict[str, int]]:
    """Memory in bytes; operations a clip by sampler."""
    raw = describe(name)[0]
    f, h, w = raw["frames"], raw["height"] // FACTOR, raw["width"] // FACTOR
    enlarged = raw["image"].get("latent_size", 0)
    seen = (enlarged, enlarged) if max(h, w) < enlarged else (h, w)
    image, video = cost(config(raw["image"]), f, *seen), cost(config(raw["video"]), f, h, w)
    at_once = min(f, frames_at_once(raw["height"], raw["width"]))
    vae = configs.vae(shapes(VAE))
    decoder = decoder_activations(vae, at_once, h, w, in_vae(raw))
    decoder += f * raw["height"] * raw["width"] * 3 * in_vae(raw).itemsize
    dearest, readers = max(image.activations, video.activations, decoder), text_encoders(raw)
    leave = raw.get("release_text_encoders", False)
    memory = weights(raw) + (max(dearest, *readers) if leave else dearest + sum(readers))
    totals = {"image": image.total, "video": video.total}
    clip = {s: sum(n * totals[model] for model, n in evaluations(raw, s).items()) for s in SHOWN}
    return memory, clip


def needs(name: str) -> tuple[str, str]:
    """Memory and PFLOP a clip, as the README has them."""
    memory, clip = counted(name)
    return f"{memory / 1e9:.1f} GB", ", ".join(f"{n / 1e15:.2g}" for n in clip.values())


if __name__ == "__main__":
    print(f"| pair | memory | PFLOP: {', '.join(SHOWN)} |\n|---|---|---|")
    for name in PUBLIC:
        print(f"| `{name}` | {' | '.join(needs(name))} |")
