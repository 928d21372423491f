"""A pair: one image and one video diffusion model that share latents, loaded and ready to be called."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, TypeVar, get_args

import torch
from torch import nn

from ivmix.devices import DTYPES, dtype_name, find_device, find_dtype
from ivmix.models import (
    VAE,
    CLIPText,
    CLIPTextConfig,
    LoRA,
    Tokenizer,
    UNet,
    compile_network,
    load_text_encoder,
    load_unet,
    load_vae,
    merge_loras,
    read_lora,
)
from ivmix.models.checkpoints.folders import PICKLES, SAFETENSORS, Local
from ivmix.models.checkpoints.hub import Hub
from ivmix.models.checkpoints.lora import part_for
from ivmix.models.checkpoints.sources import Source, locate
from ivmix.models.compile import Compiled, Mode
from ivmix.models.text.tokenizer import EOS
from ivmix.models.unet.temporal import MotionNorm
from ivmix.pairs.description import describe
from ivmix.pairs.facts import Read
from ivmix.pairs.parts import by_source, fetch_all, patterns_by_file, pinned
from ivmix.pairs.side import Side
from ivmix.pairs.swaps import Swaps, check_there, with_swaps
from ivmix.solvers import Schedule
from ivmix.sprites.averaging.unet import AVERAGING

N = TypeVar("N", UNet, CLIPText)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two models that share latents, loaded, with what both need: autoencoder, text encoders, sizes, defaults."""

    name: str
    source: str  # what names it: a known pair's name, or its folder
    folder: Path
    swaps: Swaps
    compile: Mode
    image: Side
    video: Side
    vae: VAE
    vae_dtype: torch.dtype | None  # the narrowest that the autoencoder runs in
    vae_file: Local
    sources: dict[str, tuple[Local, ...]]  # what was read, by source
    judge: Path | None  # the folder of what measures its clips
    frames: int
    height: int  # pixels, like width
    width: int
    fps: int
    defaults: dict[str, Any]

    @property
    def device(self) -> torch.device:
        return self.vae.post_quant_conv.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.video.unet.conv_in.weight.dtype

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.image, self.video

    @cached_property
    def files(self) -> dict[str, Read]:
        """What of every source was read, pinned by size, hash and commit: read whole, once."""
        return pinned(self.sources)

    @cached_property
    def weights(self) -> str:
        """`fingerprint` of what was loaded: read whole, once."""
        return fingerprint(self)

    def to(
        self, device: torch.device | torch.dtype | str | None = None, dtype: torch.dtype | str | None = None
    ) -> "Pair":
        """The pair with every network moved, in place; a dtype may stand first. ValueError for a device that cannot be
        had."""
        if isinstance(device, torch.dtype) or str(device) in map(dtype_name, DTYPES):
            device, dtype = None, device if isinstance(device, torch.dtype) else str(device)
        place = self.device if device is None else find_device(device)
        kind = find_dtype(self.dtype if dtype is None else dtype, place)
        self.vae.to(place, at_least(kind, self.vae_dtype))
        for network in (n for side in self.sides for n in side.networks.values()):
            network.to(place, kind)  # one that both sides share is there at the second time
        compiled = cache(partial(compile_network, mode=self.compile))  # graphs hold the old weights
        image, video = (replace(side, call=compiled(side.unet)) for side in self.sides)
        return replace(self, image=image, video=video)

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(c, f, h, w) of one sample. Raises ValueError for sizes the networks cannot take."""
        factor = self.vae.config.factor
        multiple = factor * 2 ** max(len(s.unet.config.block_out_channels) - 1 for s in (self.image, self.video))
        for name, value in (("height", height), ("width", width)):
            if value < 1 or value % multiple:
                raise ValueError(
                    f"{name}={value}: expected a positive multiple of {multiple} pixels for pair {self.name!r}"
                )
        longest = self.video.unet.config.max_frames
        if frames < 1 or (longest and frames > longest):
            upper = f" to {longest}" if longest else " or more"
            raise ValueError(f"frames={frames}: expected 1{upper} for pair {self.name!r}")
        return self.vae.config.latent_channels, frames, height // factor, width // factor


def load_pair(
    name_or_folder: str | Path,
    device: torch.device | str = "auto",
    dtype: torch.dtype | str = "auto",
    swaps: Swaps = Swaps(),  # noqa: B008 - immutable
    compile: Mode = "off",
    commits: Mapping[str, str] = MappingProxyType({}),
) -> Pair:
    """Loads every network of a pair; what is named twice is loaded once. Raises ValueError or FileNotFoundError.

    `device` "auto" is the accelerator, where there is one, `dtype` "auto" there the pair's own, on the CPU float32
    (`ivmix.devices`). `compile` is how UNets are called (`compile_network`). `commits` are those to read of
    repositories that are named without one, as a record has them (`Record.commits`); what cannot be had is the newest.

    An image model that is the video model's spatial half is that half: one set of weights, seen without its temporal
    layers.
    """
    if not isinstance(swaps, Swaps):
        raise TypeError(f"swaps: got {swaps!r}, expected a Swaps, of ivmix.pairs.swaps")
    device = find_device(device)
    if compile not in get_args(Mode):
        raise ValueError(f"compile {compile!r}: expected one of {', '.join(get_args(Mode))}")
    own, folder, source = describe(name_or_folder)
    dtype = find_dtype(dtype, device, own.get("dtype"))
    check_there(swaps)
    hub, swaps = Hub(commits), Swaps.from_dict(swaps.to_dict())  # with the paths that a record has
    raw = with_swaps(own, swaps, hub)
    loras = {text: read_weighted(text) for text in (*swaps.image_lora, *swaps.video_lora)}
    files = fetch_all(raw, [lora for lora, _ in loras.values()], hub)
    drop = patterns_by_file(files, swaps.drop)

    @cache
    def plain_unet(source: str, motion: str | None, norm: MotionNorm | None) -> UNet:
        spatial = files["unet", source]
        modules = None if motion is None else files["motion", motion]
        left_out = [*drop[spatial], *(drop[modules] if modules else ())]
        return load_unet(
            spatial, motion=modules, motion_norm=norm, drop=left_out, layouts=[AVERAGING], device=device, dtype=dtype
        )

    @cache
    def lora(text: str) -> tuple[LoRA, float]:
        source, weight = loras[text]
        return read_lora(files["lora", source]), weight

    @cache
    def unet(source: str, motion: str | None, norm: MotionNorm | None, added: tuple[str, ...]) -> UNet:
        return with_loras(plain_unet(source, motion, norm), [lora(text) for text in added])

    @cache
    def plain_text_encoder(part: str, source: str) -> CLIPText:
        found = files[part, source]
        return load_text_encoder(found, part=part, drop=drop[found], device=device, dtype=dtype)

    @cache
    def text_encoder(part: str, source: str, added: tuple[str, ...]) -> CLIPText:
        return with_loras(plain_text_encoder(part, source), [lora(text) for text in added])

    def reader(name: str, entry: Mapping[str, Any], second: str, added: tuple[str, ...]) -> tuple[CLIPText, Tokenizer]:
        """A side's text encoder, or its `second` one, "_2"; and its tokenizer."""
        source, part = entry[f"text_encoder{second}"], f"tokenizer{second}"
        encoder, part = text_encoder(f"text_encoder{second}", source, added), part if part in entry else "tokenizer"
        try:
            encoder.config.check_clip_skip(entry.get("clip_skip", 1))
        except ValueError as error:
            raise ValueError(f"{name} model: {error}") from None
        return encoder, tokenizer(files[part, entry[part]], source, encoder.config)

    @cache
    def compiled(network: UNet) -> Compiled:
        return compile_network(network, compile)

    def side(name: str, added: tuple[str, ...]) -> Side:
        entry, video = raw[name], raw["video"]
        modules, norm = (video.get(k) if entry["unet"] == video["unet"] else None for k in ("motion", "motion_norm"))
        network = unet(entry["unet"], modules, norm, added)
        second = reader(name, entry, "_2", added) if "text_encoder_2" in entry else None
        for one, _ in map(lora, added):
            if second is None and "text_encoder_2" in one.factors:
                raise ValueError(f"{name} model: {one.name} adds to a second text encoder, and this model has one")
        return Side(
            name, network, *reader(name, entry, "", added), Schedule.from_config(entry["schedule"]),
            entry["prediction"], entry["from"], entry.get("fps"), entry.get("clip_skip", 1), entry.get("latent_size"),
            compiled(network), second, entry.get("text_norm", True), entry.get("empty_prompt", "text"),
            tuple(entry["original_size"]) if "original_size" in entry else None,
        )  # fmt: skip

    image, video = side("image", swaps.image_lora), side("video", swaps.video_lora)
    decoder = files["vae", raw["vae"]]
    vae_dtype = find_dtype(raw["vae_dtype"], device) if "vae_dtype" in raw else None
    vae = load_vae(
        decoder, scaling_factor=raw.get("vae_scaling"), drop=drop[decoder], device=device,
        dtype=at_least(dtype, vae_dtype),
    )  # fmt: skip
    return Pair(
        raw["name"], source, folder, swaps, compile, image, video, vae, vae_dtype, decoder,
        by_source(files.values(), own, folder), Path(raw["judge"]) if "judge" in raw else None, raw["frames"],
        raw["height"], raw["width"], raw["fps"], raw["defaults"],
    )  # fmt: skip


def tokenizer(source: Source, text_encoder: str, config: CLIPTextConfig) -> Tokenizer:
    """The tokenizer at `source`, which says how rows are padded if the text encoder lies beside it.

    Otherwise it may have been another encoder's, and padding is what this one was trained with: "!" for OpenCLIP's
    ViT-H/14 and ViT-bigG/14 (the exact gelu), the end of text for CLIP's.
    """
    found = Tokenizer.from_folder(locate(source, "tokenizer").root, config.max_position_embeddings)
    try:
        found.check_fits(config.vocab_size)
    except ValueError as error:
        raise ValueError(f"tokenizer {source} with text encoder {text_encoder}: {error}") from None
    beside, encoder = (PurePath(place.partition("@")[0]) for place in (str(source), text_encoder))
    came_along = beside.parent == encoder.parent and beside.name.endswith("_2") == encoder.name.endswith("_2")
    if found.words or (came_along and encoder.suffix not in (SAFETENSORS, *PICKLES)):
        return found
    return Tokenizer(found.backend, found.max_length, "!" if config.hidden_act == "gelu" else EOS)


def fingerprint(pair: Pair, **others: nn.Module) -> str:
    """A hash of all weights and schedules of a loaded pair, LoRAs and models put in its place included; and of others.

    Schedules to six digits: their last ones are the processor's.
    """
    sha, networks = hashlib.sha256(), {"vae": pair.vae, **others}
    for side in pair.sides:
        networks |= {f"{side.name} {name.lower()}": network for name, network in side.networks.items()}
        sigmas = " ".join(f"{sigma:.6g}" for sigma in side.schedule.sigmas.tolist())
        sha.update(f"{side.name} {side.prediction} {sigmas}".encode())
    for name, network in networks.items():
        for key, value in sorted(network.state_dict().items()):
            sha.update(f"{name} {key} {value.dtype} {tuple(value.shape)}".encode())
            sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]


def read_weighted(text: str) -> tuple[str, float]:
    """A LoRA's source and its weight from SOURCE[:WEIGHT], by default 1.

    >>> read_weighted("style.safetensors:0.8")
    ('style.safetensors', 0.8)
    """
    match = re.fullmatch(r"(.+?)(?::([-+]?(?:\d+\.?\d*|\.\d+)))?", text)
    if match is None:
        raise ValueError(f"lora {text!r}: expected SOURCE or SOURCE:WEIGHT, such as style.safetensors:0.8")
    return match[1], float(match[2] or 1)


def at_least(dtype: torch.dtype, narrowest: torch.dtype | None) -> torch.dtype:
    """`dtype`, or what is wide enough for both."""
    return dtype if narrowest is None else torch.promote_types(dtype, narrowest)


def with_loras(network: N, loras: Sequence[tuple[LoRA, float]]) -> N:
    """`network` itself, or one that shares all but what LoRAs with a part for it change."""
    own = [(lora, weight) for lora, weight in loras if part_for(network) in lora.factors]
    return merge_loras(network, own) if own else network
