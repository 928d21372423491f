"""A pair: one image and one video diffusion model that share latents, loaded and ready to be called."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
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
    T5Config,
    T5Text,
    T5Tokenizer,
    Tokenizer,
    compile_network,
    load_text_encoder,
    load_transformer,
    load_unet,
    load_vae,
    merge_loras,
    read_lora,
)
from ivmix.models.checkpoints.folders import PICKLES, SAFETENSORS, Local
from ivmix.models.checkpoints.hub import Hub
from ivmix.models.checkpoints.load import TextEncoder
from ivmix.models.checkpoints.sources import Source, locate
from ivmix.models.compile import Compiled, Mode
from ivmix.models.predictor import Predictor
from ivmix.models.text.tokenizer import EOS
from ivmix.models.unet.temporal import MotionNorm
from ivmix.pairs import bridge
from ivmix.pairs.bridge import PairBridge
from ivmix.pairs.description import describe, network_of, read_weighted
from ivmix.pairs.facts import Read, RunAs
from ivmix.pairs.parts import by_source, fetch_all, patterns_by_file, pinned
from ivmix.pairs.reader import Reader
from ivmix.pairs.side import Side
from ivmix.pairs.swaps import Swaps, check_there, with_swaps
from ivmix.solvers import Schedule
from ivmix.sprites.averaging.unet import AVERAGING

T = TypeVar("T", Tokenizer, T5Tokenizer)
N = TypeVar("N", bound=nn.Module)


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
    vae_file: Local
    sources: dict[str, tuple[Local, ...]]  # what was read, by source
    judge: Path | None  # the folder of what measures its clips
    frames: int
    height: int  # pixels, like width
    width: int
    fps: int
    defaults: dict[str, Any]
    bridge: PairBridge | None = None  # where the image model has latents of its own

    @property
    def device(self) -> torch.device:
        return self.vae.post_quant_conv.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.vae.post_quant_conv.weight.dtype

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.image, self.video

    def vae_of(self, model: str) -> VAE:
        """The autoencoder of the latents that the image or the video model knows."""
        return self.vae if self.bridge is None or model == "video" else self.bridge.vae

    @property
    def run_as(self) -> dict[str, RunAs]:
        """What its models are taken for (`Side.run_as`), by side."""
        told = {side.name: side.run_as for side in self.sides}
        if self.bridge is not None:
            told["image"]["bridge"] = self.bridge.run_as
        return told

    @property
    def readers(self) -> list[Reader]:
        """What reads prompts, once if both sides share it."""
        return list(dict.fromkeys(side.reader for side in self.sides))

    def read_ahead(self, texts: Mapping[str, Sequence[str]], raw: bool = False) -> None:
        """Has text encoders that do not stay in memory read all these texts, by side, and leave: one at a time."""
        for reader in self.readers:
            if not reader.stays:
                for side in self.sides:
                    if side.reader is reader and texts[side.name]:
                        reader.read(texts[side.name], side.how(raw))
                reader.release()

    def release_text_encoders(self) -> None:
        """Frees the memory of text encoders, which from here on are in it only while there is a new prompt to read."""
        for reader in self.readers:
            reader.stays = False
            reader.release()

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
        over = () if self.bridge is None else self.bridge.networks.values()
        for network in (self.vae, *(side.unet for side in self.sides), *over):  # one that both share is there already
            network.to(place, kind)
        for reader in self.readers:
            reader.move(place, kind)
        compiled = cache(partial(compile_network, mode=self.compile))  # graphs hold the old weights
        image, video = (replace(side, call=compiled(side.unet)) for side in self.sides)
        return replace(self, image=image, video=video)

    def latent_shape(self, frames: int, height: int, width: int, model: str = "video") -> tuple[int, int, int, int]:
        """(c, f, h, w) of one sample, in the latents of a model. Raises ValueError for sizes the networks cannot
        take."""
        config = self.vae_of(model).config
        self.check_size("height", height)
        self.check_size("width", width)
        if frames < 1:
            raise ValueError(f"frames={frames}: expected 1 or more for pair {self.name!r}")
        return config.latent_channels, frames, height // config.factor, width // config.factor

    def check_size(self, name: str, pixels: int) -> None:
        """ValueError for a height or width that the networks cannot take."""
        sides = self.sides if self.bridge is None else (self.video,)
        multiple = self.vae.config.factor * math.lcm(*(side.unet.config.multiple for side in sides))
        multiple = math.lcm(multiple, bridge.multiple(self))
        if pixels < 1 or pixels % multiple:
            raise ValueError(
                f"{name}={pixels}: expected a positive multiple of {multiple} pixels for pair {self.name!r}"
            )


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
    added = {
        name: (*([raw[name]["lora"]] if "lora" in raw[name] else []), *own_loras)
        for name, own_loras in (("image", swaps.image_lora), ("video", swaps.video_lora))
    }
    loras = {text: read_weighted(text) for texts in added.values() for text in texts}
    files = fetch_all(raw, [lora for lora, _ in loras.values()], hub)
    drop = patterns_by_file(files, swaps.drop)

    @cache
    def plain_unet(source: str, motion: str | None, norm: MotionNorm | None) -> Predictor:
        spatial = files["unet", source]
        modules = None if motion is None else files["motion", motion]
        left_out = [*drop[spatial], *(drop[modules] if modules else ())]
        return load_unet(
            spatial, motion=modules, motion_norm=norm, drop=left_out, layouts=[AVERAGING], device=device, dtype=dtype
        )

    @cache
    def plain_transformer(source: str, motion: None, norm: None) -> Predictor:
        found = files["transformer", source]
        return load_transformer(found, drop=drop[found], device=device, dtype=dtype)

    plain: dict[str, Callable[..., Predictor]] = {"unet": plain_unet, "transformer": plain_transformer}

    @cache
    def lora(text: str) -> tuple[LoRA, float]:
        source, weight = loras[text]
        return read_lora(files["lora", source]), weight

    @cache
    def predictor(
        part: str, source: str, motion: str | None, norm: MotionNorm | None, added: tuple[str, ...]
    ) -> Predictor:
        return with_loras(plain[part](source, motion, norm), [lora(text) for text in added])

    stays = not raw.get("release_text_encoders", False)

    def read_text_encoder(source: str, place: torch.device, kind: torch.dtype) -> TextEncoder:
        found = files["text_encoder", source]
        return load_text_encoder(found, drop=drop[found], device=place, dtype=kind)

    @cache
    def plain_text_encoder(source: str) -> TextEncoder:  # checked whole, in memory only if it stays there
        return read_text_encoder(source, device if stays else torch.device("meta"), dtype)

    @cache
    def reader(source: str, added: tuple[str, ...]) -> Reader:
        loras = [lora(text) for text in added]

        def load(place: torch.device, kind: torch.dtype) -> TextEncoder:
            return with_loras(read_text_encoder(source, place, kind), loras)

        return Reader(with_loras(plain_text_encoder(source), loras), load, device, dtype, stays)

    @cache
    def words(source: str, encoder: str, config: CLIPTextConfig | T5Config) -> Tokenizer | T5Tokenizer:
        return TOKENIZERS[type(config)](files["tokenizer", source], encoder, config)

    @cache
    def compiled(network: Predictor) -> Compiled:
        return compile_network(network, compile)

    def side(name: str) -> Side:
        entry, video = raw[name], raw["video"]
        one = network_of(entry) == network_of(video)
        modules, norm = (video.get(k) if one else None for k in ("motion", "motion_norm"))
        network = predictor(*network_of(entry), modules, norm, added[name])
        reads = reader(entry["text_encoder"], added[name])
        config = reads.network.config
        clip_skip = entry.get("clip_skip", 1)
        try:
            config.check_clip_skip(clip_skip)
        except ValueError as error:
            raise ValueError(f"{name} model: {error}") from None
        return Side(
            name, network, reads, words(entry["tokenizer"], entry["text_encoder"], config),
            Schedule.from_config(entry["schedule"]), entry["prediction"], entry["from"], entry.get("fps"), clip_skip,
            entry.get("latent_size"), compiled(network), entry.get("consistency", False),
        )  # fmt: skip

    image, video = side("image"), side("video")
    decoder = files["vae", raw["vae"]]
    vae = load_vae(decoder, drop=drop[decoder], device=device, dtype=dtype)
    across = None if "bridge" not in raw else bridge.load(raw, files, drop, device, dtype)
    return Pair(
        raw["name"], source, folder, swaps, compile, image, video, vae, decoder, by_source(files.values(), own, folder),
        Path(raw["judge"]) if "judge" in raw else None, raw["frames"], raw["height"], raw["width"], raw["fps"],
        raw["defaults"], across,
    )  # fmt: skip


def tokenizer(source: Source, text_encoder: str, config: CLIPTextConfig) -> Tokenizer:
    """The tokenizer at `source`, which says how rows are padded if the text encoder lies beside it.

    Otherwise it may have been another encoder's, and padding is what this one was trained with: "!" for OpenCLIP's
    ViT-H/14 (the exact gelu), the end of text for CLIP's.
    """
    found = fitting(Tokenizer.from_folder(locate(source, "tokenizer").root, config.max_position_embeddings),
                    source, text_encoder, config.vocab_size)  # fmt: skip
    beside, encoder = (PurePath(place.partition("@")[0]) for place in (str(source), text_encoder))
    if found.words or (beside.parent == encoder.parent and encoder.suffix not in (SAFETENSORS, *PICKLES)):
        return found
    return Tokenizer(found.backend, found.max_length, "!" if config.hidden_act == "gelu" else EOS)


def t5_tokenizer(source: Source, text_encoder: str, config: T5Config) -> T5Tokenizer:
    """The tokenizer at `source`, which pads to as many tokens as PixArt and Latte were trained on."""
    found = T5Tokenizer.from_folder(locate(source, "tokenizer").root)
    return fitting(found, source, text_encoder, config.vocab_size)


TOKENIZERS: dict[type, Callable[..., Tokenizer | T5Tokenizer]] = {CLIPTextConfig: tokenizer, T5Config: t5_tokenizer}


def fitting(found: T, source: Source, text_encoder: str, vocab_size: int) -> T:
    """The tokenizer, if its encoder knows all its tokens. ValueError, naming both."""
    try:
        found.check_fits(vocab_size)
    except ValueError as error:
        raise ValueError(f"tokenizer {source} with text encoder {text_encoder}: {error}") from None
    return found


def fingerprint(pair: Pair, **others: nn.Module) -> str:
    """A hash of all weights and schedules of a loaded pair, LoRAs and models put in its place included; and of others.

    Schedules to six digits: their last ones are the processor's.
    """
    sha, networks = hashlib.sha256(), {"vae": pair.vae, **others}
    if pair.bridge is not None:
        networks |= pair.bridge.networks
        sha.update(str(pair.bridge.run_as).encode())
    for side in pair.sides:
        networks |= {f"{side.name} unet": side.unet, f"{side.name} text encoder": side.text_encoder}
        sigmas = " ".join(f"{sigma:.6g}" for sigma in side.schedule.sigmas.tolist())
        sha.update(f"{side.name} {side.prediction} {sigmas}".encode())
    for name, network in networks.items():
        for key, value in sorted(network.state_dict().items()):
            sha.update(f"{name} {key} {value.dtype} {tuple(value.shape)}".encode())
            sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]


def with_loras(network: N, loras: Sequence[tuple[LoRA, float]]) -> N:
    """`network` itself, or one that shares all but what LoRAs with a part for it change."""
    part = "text_encoder" if isinstance(network, CLIPText | T5Text) else "unet"
    own = [(lora, weight) for lora, weight in loras if part in lora.factors]
    return merge_loras(network, own) if own else network
