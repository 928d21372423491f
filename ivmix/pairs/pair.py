"""A pair: one image and one video diffusion model that share latents, loaded and ready to be called."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args

import torch
from torch import nn

from ivmix.devices import DTYPES, at_least, dtype_name, find_device, find_dtype
from ivmix.models import (
    VAE,
    CLIPTextConfig,
    LoRA,
    T5Config,
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
from ivmix.models.checkpoints.folders import Local
from ivmix.models.checkpoints.hub import Hub
from ivmix.models.checkpoints.load import TextEncoder
from ivmix.models.checkpoints.lora import part_for
from ivmix.models.compile import Compiled, Mode, choose
from ivmix.models.graphs import Recorder
from ivmix.models.predictor import Predictor
from ivmix.models.unet.temporal import MotionNorm
from ivmix.pairs import bridge
from ivmix.pairs.bridge import PairBridge
from ivmix.pairs.description import SAID_SIZES, describe, network_of, read_weighted
from ivmix.pairs.facts import Read, RunAs
from ivmix.pairs.model_files import check_scale, latent_scale
from ivmix.pairs.offload import Offload
from ivmix.pairs.parts import by_source, fetch_all, patterns_by_file, pinned
from ivmix.pairs.reader import Reader
from ivmix.pairs.side import Side, check_latents, check_text
from ivmix.pairs.swaps import Swaps, check_there, with_swaps
from ivmix.pairs.words import TOKENIZERS
from ivmix.solvers import Schedule
from ivmix.sprites.averaging.unet import AVERAGING

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
    vae_dtype: torch.dtype | None  # the narrowest that the autoencoder runs in
    vae_file: Local
    sources: dict[str, tuple[Local, ...]]  # what was read, by source
    judge: Path | None  # the folder of what measures its clips
    frames: int
    height: int  # pixels, like width
    width: int
    fps: int
    defaults: dict[str, Any]
    offload: Offload | None = None  # what brings networks to the device, where they are not always there
    bridge: PairBridge | None = None  # where the image model has latents of its own

    @property
    def device(self) -> torch.device:
        return self.vae.post_quant_conv.weight.device if self.offload is None else self.offload.device

    @property
    def dtype(self) -> torch.dtype:
        return self.video.unet.dtype

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
        return list(dict.fromkeys(reader for side in self.sides for reader in side.readers))

    def autoencoder(self, model: str = "video") -> VAE:
        """The autoencoder of a model's latents, on the device: on a bridge, both always are."""
        vae = self.vae_of(model)
        return vae if self.offload is None or self.bridge is not None else self.offload.bring(vae)

    def read_ahead(self, texts: Mapping[str, Sequence[str]], raw: bool = False) -> None:
        """Has text encoders that do not stay in memory read all these texts, by side, and leave: one at a time."""
        sides = (side for side in self.sides if side.name in texts)
        wanted = [(*reading, texts[side.name]) for side in sides for reading in side.readings(raw)]
        for reader in (reader for reader in self.readers if not reader.stays):
            reader.read_ahead([(how, prompts) for own, how, prompts in wanted if own is reader])

    def release_text_encoders(self) -> None:
        """Frees the memory of text encoders, which from here on are in it only while there is a new prompt to read."""
        for reader in self.readers:
            reader.stays = False
            reader.release()

    @contextmanager
    def all_in_memory(self) -> Iterator[None]:
        """Text encoders that left memory are there inside, and leave again."""
        away = [reader for reader in self.readers if reader.away]
        try:
            for reader in away:
                _ = reader.in_memory
            yield
        finally:
            for reader in away:
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
        had, and of a pair with offload."""
        if self.offload is not None:
            raise ValueError(f"to: pair {self.name!r} was loaded with offload for {self.device} in "
                             f"{dtype_name(self.dtype)}: load it anew for another")  # fmt: skip
        if isinstance(device, torch.dtype) or str(device) in map(dtype_name, DTYPES):
            device, dtype = None, device if isinstance(device, torch.dtype) else str(device)
        place = self.device if device is None else find_device(device)
        choose(self.compile, place.type)
        kind = find_dtype(self.dtype if dtype is None else dtype, place)
        self.vae.to(place, at_least(kind, self.vae_dtype))
        if self.bridge is not None:
            self.bridge.to(place, kind)
        for side in self.sides:
            side.unet.to(place, kind)  # one that both share is there at the second time
        for reader in self.readers:
            reader.move(place, kind)
        recorder = Recorder()  # graphs hold the old weights
        compiled = cache(partial(compile_network, mode=self.compile, recorder=recorder))
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
    offload: bool = False,
) -> Pair:
    """Loads every network of a pair; what is named twice is loaded once. Raises ValueError or FileNotFoundError.

    `device` "auto" is the accelerator, where there is one, `dtype` "auto" there the pair's own, on the CPU float32
    (`ivmix.devices`). `compile` is how UNets are called (`compile_network`). `commits` are those to read of
    repositories that are named without one, as a record has them (`Record.commits`); what cannot be had is the newest.
    With `offload` only the network at work is on the device, and what a bridge is made of, the others rest in CPU
    memory: results are the same to the bit, and the price is what moves (`ivmix.generation.traffic`). What asks a side
    (`Side.network`) has it brought; who calls a network by itself finds it where it rests.

    An image model that is the video model's spatial half is that half: one set of weights, seen without its temporal
    layers.
    """
    if not isinstance(swaps, Swaps):
        raise TypeError(f"swaps: got {swaps!r}, expected a Swaps, of ivmix.pairs.swaps")
    device = find_device(device)
    if compile not in get_args(Mode):
        raise ValueError(f"compile {compile!r}: expected one of {', '.join(get_args(Mode))}")
    choose(compile, device.type)  # what cannot be is said before anything is loaded
    if offload and compile != "off":
        raise ValueError(f"compile={compile!r} with offload: graphs and compiled code need weights that stay where "
                         "they are, expected \"off\"")  # fmt: skip
    own, folder, source = describe(name_or_folder)
    shelf = Offload(device) if offload else None
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
        return merged(plain[part](source, motion, norm), added)

    def merged(network: N, added: tuple[str, ...]) -> N:
        """With these LoRAs, added on the device, whose roundings they have."""
        if shelf is None:
            return with_loras(network, [lora(text) for text in added])
        return shelf.rest(with_loras(shelf.bring(network), [lora(text) for text in added]) if added else network)

    stays = not raw.get("release_text_encoders", False)

    def read_text_encoder(part: str, source: str, place: torch.device, kind: torch.dtype) -> TextEncoder:
        found = files[part, source]
        return load_text_encoder(found, part=part, drop=drop[found], device=place, dtype=kind)

    @cache
    def plain_text_encoder(part: str, source: str) -> TextEncoder:  # checked whole, in memory only if it stays there
        return read_text_encoder(part, source, device if stays else torch.device("meta"), dtype)

    @cache
    def reader(part: str, source: str, added: tuple[str, ...]) -> Reader:
        loras = [lora(text) for text in added]

        def load(place: torch.device, kind: torch.dtype) -> TextEncoder:
            return with_loras(read_text_encoder(part, source, place, kind), loras)

        return Reader(merged(plain_text_encoder(part, source), added), load, device, dtype, stays, shelf)

    @cache
    def words(part: str, source: str, encoder: str, config: CLIPTextConfig | T5Config) -> Tokenizer | T5Tokenizer:
        return TOKENIZERS[type(config)](files[part, source], encoder, config)

    def read_by(name: str, suffix: str) -> tuple[Reader, Tokenizer | T5Tokenizer]:
        """A side's text encoder, or the second one, "_2"; and its tokenizer, the first's unless it has its own."""
        entry, part = raw[name], f"tokenizer{suffix}"
        part, encoder = part if part in entry else "tokenizer", entry[f"text_encoder{suffix}"]
        reads = reader(f"text_encoder{suffix}", encoder, added[name])
        config = reads.network.config
        try:
            config.check_clip_skip(entry.get("clip_skip", 1))
        except ValueError as error:
            raise ValueError(f"{name} model: {error}") from None
        return reads, words(part, entry[part], encoder, config)

    recorder = Recorder()

    @cache
    def compiled(network: Predictor) -> Compiled:
        return compile_network(network, compile, recorder)

    def side(name: str) -> Side:
        entry, video = raw[name], raw["video"]
        one = network_of(entry) == network_of(video)
        modules, norm = (video.get(k) if one else None for k in ("motion", "motion_norm"))
        network = predictor(*network_of(entry), modules, norm, added[name])
        suffixes = ("", "_2") if "text_encoder_2" in entry else ("",)
        for style, _ in map(lora, added[name]):
            if len(suffixes) == 1 and "text_encoder_2" in style.factors:
                raise ValueError(f"{name} model: {style.name} adds to a second text encoder, and this model has one")
        readers, tokenizers = zip(*(read_by(name, suffix) for suffix in suffixes), strict=True)
        check_text(name, network, [reader.network.config for reader in readers])
        original, target = (tuple(entry[size]) if size in entry else None for size in SAID_SIZES)
        return Side(
            name, network, readers, tokenizers, Schedule.from_config(entry["schedule"]), entry["prediction"],
            entry["from"], entry.get("fps"), entry.get("clip_skip", 1), entry.get("latent_size"), compiled(network),
            entry.get("consistency", False), entry.get("text_norm", True), entry.get("empty_prompt", "text"),
            original, target, shelf, entry.get("motion"), entry.get("motion_for_steps", {}),
        )  # fmt: skip

    image, video = side("image"), side("video")
    decoder = files["vae", raw["vae"]]
    vae_dtype = find_dtype(raw["vae_dtype"], device) if "vae_dtype" in raw else None
    vae = load_vae(
        decoder, scaling_factor=raw.get("vae_scaling"), drop=drop[decoder], device=device,
        dtype=at_least(dtype, vae_dtype),
    )  # fmt: skip
    if shelf is not None and "bridge" not in raw:  # which is crossed between one network's work and the other's
        shelf.rest(vae)
    across = None if "bridge" not in raw else bridge.load(raw, files, drop, device, dtype, vae)
    check_latents(image, vae if across is None else across.vae)
    check_latents(video, vae)
    if across is None and "vae" in raw["image"]:
        check_scale(raw["image"]["vae"], latent_scale(raw["image"]["vae"], hub, swaps.drop), vae.config.scaling_factor)
    return Pair(
        raw["name"], source, folder, swaps, compile, image, video, vae, vae_dtype, decoder,
        by_source(files.values(), own, folder), Path(raw["judge"]) if "judge" in raw else None, raw["frames"],
        raw["height"], raw["width"], raw["fps"], raw["defaults"], shelf, across,
    )  # fmt: skip


def fingerprint(pair: Pair, **others: nn.Module) -> str:
    """A hash of all weights and schedules of a loaded pair, LoRAs and models put in its place included; and of others.

    Schedules to six digits: their last ones are the processor's.
    """
    sha, networks = hashlib.sha256(), {"vae": pair.vae, **others}
    if pair.bridge is not None:
        networks |= pair.bridge.networks
        sha.update(str(pair.bridge.run_as).encode())
    for side in pair.sides:
        sigmas = " ".join(f"{sigma:.6g}" for sigma in side.schedule.sigmas.tolist())
        sha.update(f"{side.name} {side.prediction} {sigmas}".encode())
    with pair.all_in_memory():
        for side in pair.sides:
            networks |= {f"{side.name} {name.lower()}": network for name, network in side.networks.items()}
        for name, network in networks.items():
            for key, value in sorted(network.state_dict().items()):
                sha.update(f"{name} {key} {value.dtype} {tuple(value.shape)}".encode())
                sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]


def with_loras(network: N, loras: Sequence[tuple[LoRA, float]]) -> N:
    """`network` itself, or one that shares all but what LoRAs with a part for it change."""
    own = [(lora, weight) for lora, weight in loras if part_for(network) in lora.factors]
    return merge_loras(network, own) if own else network
