"""A pair: one image and one video diffusion model that share latents, described by one JSON object.

pair.json, version 1:

    {"format": 1, "name": "…", "licence": "…", "vae": SOURCE,
     "image": {"unet": SOURCE, "text_encoder": SOURCE, "tokenizer": SOURCE, "schedule": {"kind": …},
               "prediction": "epsilon"},
     "video": {… the same keys …, "motion": SOURCE, "fps": 24},
     "frames": 8, "height": 32, "width": 32, "fps": 8,
     "defaults": {"sampler": "…", "negative_prompt": "", "<sampler>": {option: value, …}, …},
     "files": {SOURCE: {"variant": "fp16", "bytes": …, "licence": "…"}, …}}

A SOURCE is a path relative to the file's folder, or `hub:owner/name[/path][@revision]`; what is named twice is loaded
once. `motion` (AnimateDiff's modules for a spatial UNet), `fps` (what the network is told, VideoCrafter2), and `files`
(what is known of sources) may be missing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from ivmix.models import (
    VAE,
    CLIPText,
    Condition,
    LoRA,
    Tokenizer,
    UNet,
    UNetConfig,
    compile_network,
    encode_prompts,
    hub,
    inspect,
    load_text_encoder,
    load_unet,
    load_vae,
    merge_loras,
    read_lora,
)
from ivmix.models.compile import Compiled, Mode
from ivmix.models.folder import read_json
from ivmix.models.load import read_config
from ivmix.solvers import Network, Schedule

N = TypeVar("N", UNet, CLIPText)
FORMAT = 1
EMBEDDED = {"sprites": Path(__file__).parent / "sprites" / "pair"}
PUBLIC = {path.stem: path for path in sorted((Path(__file__).parent / "pairs").glob("*.json"), key=lambda p: p.stem)}


@dataclass(frozen=True, eq=False)
class Side:
    """One model of a pair with all it needs to read a prompt."""

    name: str  # "image" or "video": the name evaluations are counted under
    unet: UNet
    text_encoder: CLIPText
    tokenizer: Tokenizer
    schedule: Schedule
    prediction: Any  # "epsilon", "x0", "v" or "flow"
    fps: float | None  # what a network that asks for it is told
    call: Compiled  # of the UNet

    def condition(self, prompts: Sequence[str]) -> Condition:
        """Reads the prompts and their weights once: what this side's network is told at every step."""
        return self.unet.condition(encode_prompts(self.tokenizer, self.text_encoder, prompts), fps=self.fps)

    def network(self, schedule: Schedule | None = None) -> Network:
        """The adapter of one run, on the side's own schedule or another.

        An image model takes a video as it is: without temporal layers, frames are a batch.
        """
        forward = partial(self.call, temporal=self.name == "video")
        dtype = self.unet.conv_in.weight.dtype
        return Network(forward, schedule or self.schedule, self.prediction, self.name, dtype=dtype)


@dataclass(frozen=True)
class Swaps:
    """What a caller has in place of a pair's own models, and the LoRAs on top: sources, LoRAs as SOURCE[:WEIGHT].

    A model's source is a pipeline's folder or repository, or a single file; what it holds of UNet, text encoder and
    tokenizer replaces the side's, and a video model's VAE the pair's. `motion` is AnimateDiff's modules.
    """

    image_model: str | None = None
    video_model: str | None = None
    motion: str | None = None
    vae: str | None = None
    image_lora: tuple[str, ...] = ()
    video_lora: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What is swapped and nothing else, as plain JSON."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items() if v}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Swaps":
        """What `to_dict` wrote."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in raw.items()}
        return cls(**values)


@dataclass(frozen=True, eq=False)
class Pair:
    name: str
    source: str  # what names it: a known pair's name, or its folder
    folder: Path
    swaps: Swaps
    compile: Mode
    image: Side
    video: Side
    vae: VAE
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
        return self.vae.post_quant_conv.weight.dtype

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


PARTS = ("unet", "text_encoder", "tokenizer")  # what each side of a description names, and "motion" where it has one


def describe(name_or_folder: str | Path) -> tuple[dict[str, Any], Path, str]:
    """The description of a pair, its sources absolute; its folder; and what names it: a known name, or that folder.

    Raises ValueError for anything else, and for a description of another format.
    """
    name = str(name_or_folder)
    file = PUBLIC.get(name) or EMBEDDED.get(name, Path(name_or_folder)) / "pair.json"
    if not file.is_file():
        known = ", ".join([*EMBEDDED, *PUBLIC])
        raise ValueError(f"pair {name!r}: expected one of {known}, or a folder with a pair.json")
    raw = read_json(file)
    if raw.get("format") != FORMAT:
        raise ValueError(f"{file} has format {raw.get('format')!r}: this version reads format {FORMAT}")

    def absolute(source: str) -> str:
        return source if source.startswith("hub:") else str((file.parent / source).resolve())

    try:
        for key in ("name", "frames", "height", "width", "fps", "defaults"):
            raw[key]
        raw["vae"] = absolute(raw["vae"])
        for side in (raw["image"], raw["video"]):
            side["schedule"], side["prediction"]
            side |= {part: absolute(side[part]) for part in (*PARTS, *({"motion"} & side.keys()))}
    except KeyError as missing:
        raise ValueError(f"{file} lacks the entry {missing}") from None
    return raw, file.parent, name if name in EMBEDDED or name in PUBLIC else str(file.parent.resolve())


def swapped(raw: Mapping[str, Any], swaps: Swaps) -> dict[str, Any]:
    """A description with the caller's models in place of its own. Raises ValueError for a model without a part."""
    new = deepcopy(dict(raw))
    for name, model in (("image", swaps.image_model), ("video", swaps.video_model)):
        if model is None:
            continue
        held = contents(model)
        if "unet" not in held:
            hint = "; AnimateDiff's modules are --motion" if "motion" in held else ""
            raise ValueError(f"{name} model {model}: expected a UNet, found {', '.join(held) or 'nothing known'}{hint}")
        new[name] |= {part: held[part] for part in PARTS if part in held}
        if name == "video" and "vae" in held:
            new["vae"] = held["vae"]
        if name == "video" and has_temporal_layers(held["unet"]):
            new["video"].pop("motion", None)
    if swaps.motion is not None:
        new["video"]["motion"] = swaps.motion
    if swaps.vae is not None:
        new["vae"] = swaps.vae
    return new


def contents(model: str) -> dict[str, str]:
    """Sources of the parts of a model: subfolders of a pipeline's folder or repository, or all in one file."""
    if model.startswith("hub:") and model.count("/") == 1:
        repository, at, revision = model.partition("@")
        return {part: f"{repository}/{part}{at}{revision}" for part in (*PARTS, "vae")}
    if not model.startswith("hub:") and (Path(model) / "unet").is_dir():
        return {part: str(Path(model) / part) for part in (*PARTS, "vae") if (Path(model) / part).is_dir()}
    return {part.name: model for part in inspect(model).parts}


def has_temporal_layers(unet: str) -> bool:
    """Whether a UNet on this machine has them: then it needs no motion modules. Of one on the hub this is not known."""
    if unet.startswith("hub:"):
        return False
    config = Path(unet) / "config.json"
    if config.is_file():
        return read_config(UNetConfig, config).temporal is not None
    configs = [part.config for part in inspect(unet).parts if part.name == "unet"]
    return any(config is not None and config.temporal is not None for config in configs)


def check_here(raw: Mapping[str, Any], variant: Callable[[str], str | None]) -> None:
    """Fetches what the hub's cache lacks of a pair; raises one FileNotFoundError that names all that cannot be had."""
    wanted = {raw["vae"]: "vae"}
    for side in (raw["image"], raw["video"]):
        wanted |= {side[part]: part for part in (*PARTS, "motion") if part in side}
    missing, commands = [], []
    for source, part in wanted.items():
        if source.startswith("hub:"):
            try:
                hub.fetch(source, part, variant(source))
            except hub.MissingError as error:
                size = raw.get("files", {}).get(source, {}).get("bytes")
                missing.append(error)
                commands.append(f"  {error.command}" + (f"  # {size / 1e9:.2g} GB" if size else ""))
    if missing:
        raise FileNotFoundError(
            f"pair {raw['name']!r} lacks files that neither the hub ({missing[0].reason}) nor its cache {hub.cache()} "
            "gave. Where there is a network, run\n" + "\n".join(commands) + "\nand bring that cache here, or give what "
            "you have by --image-model, --video-model, --motion and --vae (Swaps in Python): folders, or single files"
        )


def load_pair(
    name_or_folder: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    swaps: Swaps = Swaps(),
    compile: Mode = "off",
) -> Pair:
    """Loads every network of a pair; what is named twice is loaded once. Raises ValueError or FileNotFoundError.

    `compile` is how UNets are called (`compile_network`).

    An image model that is the video model's spatial half is that half: one set of weights, seen without its temporal
    layers.
    """
    raw, folder, source = describe(name_or_folder)
    raw = swapped(raw, swaps)

    def variant(source: str) -> str | None:
        value: str | None = raw.get("files", {}).get(source, {}).get("variant")
        return value

    check_here(raw, variant)

    @cache
    def unet(source: str, motion: str | None) -> UNet:
        return load_unet(source, motion=motion, variant=variant(source), device=device, dtype=dtype)

    @cache
    def text_encoder(source: str) -> CLIPText:
        return load_text_encoder(source, variant=variant(source), device=device, dtype=dtype)

    @cache
    def compiled(network: UNet) -> Compiled:
        return compile_network(network, compile)

    def side(name: str, loras: Sequence[str]) -> Side:
        entry, video = raw[name], raw["video"]
        modules = video.get("motion") if entry["unet"] == video["unet"] else None
        added = [read_weighted(lora) for lora in loras]
        network = with_loras(unet(entry["unet"], modules), added)
        reader = with_loras(text_encoder(entry["text_encoder"]), added)
        return Side(
            name, network, reader, tokenizer(entry["tokenizer"], reader.config.max_position_embeddings),
            Schedule.from_config(entry["schedule"]), entry["prediction"], entry.get("fps"), compiled(network),
        )  # fmt: skip

    image, video = side("image", swaps.image_lora), side("video", swaps.video_lora)
    vae = load_vae(raw["vae"], variant=variant(raw["vae"]), device=device, dtype=dtype)
    return Pair(
        raw["name"], source, folder, swaps, compile, image, video, vae,
        raw["frames"], raw["height"], raw["width"], raw["fps"], raw["defaults"],
    )  # fmt: skip


def tokenizer(source: str, max_length: int) -> Tokenizer:
    folder = hub.fetch(source, "tokenizer").parent if source.startswith("hub:") else source
    return Tokenizer.from_folder(folder, max_length)


def read_weighted(text: str) -> tuple[LoRA, float]:
    """A LoRA and its weight from SOURCE[:WEIGHT]. Raises ValueError or FileNotFoundError for what is no LoRA."""
    match = re.fullmatch(r"(.+?)(?::([-+]?(?:\d+\.?\d*|\.\d+)))?", text)
    if match is None:
        raise ValueError(f"lora {text!r}: expected SOURCE or SOURCE:WEIGHT, such as style.safetensors:0.8")
    return read_lora(match[1]), float(match[2] or 1)


def with_loras(network: N, loras: Sequence[tuple[LoRA, float]]) -> N:
    """`network` itself, or one that shares all but what LoRAs with a part for it change."""
    part = "text_encoder" if isinstance(network, CLIPText) else "unet"
    own = [(lora, weight) for lora, weight in loras if part in lora.factors]
    return merge_loras(network, own) if own else network
