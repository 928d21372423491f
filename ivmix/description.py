"""What a pair is made of, as data: its description, what a caller puts in its place, whether all of it can be had.

pair.json, version 1:

    {"format": 1, "name": "…", "licence": "…", "vae": SOURCE,
     "image": {"unet": SOURCE, "text_encoder": SOURCE, "tokenizer": SOURCE, "schedule": {"kind": …},
               "prediction": "epsilon"},
     "video": {… the same keys …, "motion": SOURCE, "fps": 24},
     "frames": 8, "height": 32, "width": 32, "fps": 8,
     "defaults": {"sampler": "…", "negative_prompt": "", "<sampler>": {option: value, …}, …},
     "files": {SOURCE: {"variant": "fp16", "bytes": …, "licence": "…"}, …}}

A SOURCE is a path relative to the file's folder, or `hub:owner/name[/path][@revision]`; what is named twice is loaded
once. `motion` (AnimateDiff's modules for a spatial UNet), `fps` (what the network is told, VideoCrafter2), `clip_skip`
(the text encoder's layer that is read, counted from the end: 1), `judge` (what measures clips of the sprite world: the
folder "judge" beside pair.json, if there is one), and `files` (what is known of sources) may be missing.
"""

import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, get_type_hints

from ivmix.models import UNetConfig, hub, inspect
from ivmix.models.folder import printable, read_json
from ivmix.models.load import read_config
from ivmix.sampling import sampling
from ivmix.solvers import Schedule
from ivmix.typed import check, check_keys, short, whole

FORMAT = 1
LONGEST_SOURCE = 1000  # characters
EMBEDDED = {
    "sprites": Path(__file__).parent / "sprites" / "pair",
    "sprites-crisp": Path(__file__).parent / "sprites" / "crisp",
}
PUBLIC = {path.stem: path for path in sorted((Path(__file__).parent / "pairs").glob("*.json"), key=lambda p: p.stem)}
PARTS = ("unet", "text_encoder", "tokenizer")  # what each side of a description names, and "motion" where it has one


class SideEntry(TypedDict):
    """One model of a description, in the words of the module."""

    unet: str
    text_encoder: str
    tokenizer: str
    schedule: dict[str, Any]
    prediction: Literal["epsilon", "x0", "v", "flow"]
    motion: NotRequired[str]
    fps: NotRequired[float]
    clip_skip: NotRequired[int]


class FileEntry(TypedDict, total=False):
    variant: str
    bytes: int
    licence: str


class Description(TypedDict):
    """What pair.json may hold and has to, in the words of the module."""

    format: int
    name: str
    about: NotRequired[str]
    licence: NotRequired[str]
    vae: str
    judge: NotRequired[str]
    image: SideEntry
    video: SideEntry
    frames: int
    height: int
    width: int
    fps: float
    defaults: dict[str, str | dict[str, Any]]
    files: NotRequired[dict[str, FileEntry]]


@dataclass(frozen=True)
class Swaps:
    """What a caller has in place of a pair's own models, and the LoRAs on top: sources, LoRAs as SOURCE[:WEIGHT].

    A model's source is a pipeline's folder or repository, or a single file; what it holds of UNet, text encoder and
    tokenizer replaces the side's, and a video model's VAE the pair's. `motion` is AnimateDiff's modules, `tokenizer` a
    folder for both models. `clip_skip` is the layer of the text encoders that is read, counted from the end (see
    `CLIPText`); `image_clip_skip` overrides it for the image model.
    """

    image_model: str | None = None
    video_model: str | None = None
    motion: str | None = None
    vae: str | None = None
    tokenizer: str | None = None
    clip_skip: int | None = None
    image_clip_skip: int | None = None
    image_lora: tuple[str, ...] = ()
    video_lora: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What is swapped and nothing else, as plain JSON; paths absolute, so that it holds in any folder."""

        def plain(value: Any) -> Any:
            if isinstance(value, tuple):
                return [absolute(source) for source in value]
            return absolute(value) if isinstance(value, str) else value

        return {name: plain(value) for name, value in asdict(self).items() if value not in (None, ())}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Swaps":
        """What `to_dict` wrote. ValueError for anything else."""
        hints = get_type_hints(cls)
        check_keys(raw, hints, set(), "swaps")
        for name, value in raw.items():
            check(value, list[str] if name.endswith("lora") else hints[name], f"swaps: {name}")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in raw.items()}
        return cls(**values)


def absolute(source: str, folder: Path | str = "") -> str:
    """A source that holds anywhere. Links are left as they are: a hub's cache gives its files their names by links."""
    return source if source.startswith("hub:") else os.path.abspath(Path(folder, source))


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
        raise ValueError(f"{file} has format {short(raw.get('format'))}: this version reads format {FORMAT}")
    check(raw, Description, str(file))
    try:
        _check_entries(raw)
    except ValueError as error:
        raise ValueError(f"{file}: {printable(error)}") from None
    beside = partial(absolute, folder=file.parent)
    raw["vae"] = beside(raw["vae"])
    if "judge" in raw or (file.parent / "judge").is_dir():
        raw["judge"] = beside(raw.get("judge", "judge"))
    for side in (raw["image"], raw["video"]):
        side |= {part: beside(side[part]) for part in (*PARTS, *({"motion"} & side.keys()))}
    return raw, file.parent, name if name in EMBEDDED or name in PUBLIC else str(file.parent.resolve())


def _check_entries(raw: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the entry, for a value of the right type that no pair has."""
    for name in ("frames", "height", "width"):
        whole(name, raw[name], 1, 2**16)
    if not 0.1 <= raw["fps"] <= 1000:
        raise ValueError(f"fps is {raw['fps']}, expected frames per second, from 0.1 to 1000")
    for name in ("image", "video"):
        side = raw[name]
        try:
            Schedule.from_config(side["schedule"])
        except ValueError as error:
            raise ValueError(f"{name}: schedule: {error}") from None
    for part in ("vae", "judge", *PARTS, "motion"):
        for entry in (raw, raw["image"], raw["video"]):
            source = entry.get(part, "")
            if len(source) > LONGEST_SOURCE or any(ord(letter) < 32 for letter in source):
                raise ValueError(f"{part} is {short(source)}: too long for a name, or with control characters")
    texts = ("sampler", "negative_prompt")
    for name in (*texts, *(raw["defaults"].keys() - texts)):
        check(raw["defaults"].get(name), str if name in texts else dict, f"defaults: {printable(name, 60)}")
    try:
        sampling(raw["defaults"], {})
    except ValueError as error:
        raise ValueError(f"defaults: {error}") from None


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
        if "text_encoder" in held:
            new[name].pop("clip_skip", None)  # it was the other encoder's
        if name == "video" and "vae" in held:
            new["vae"] = held["vae"]
        if name == "video" and has_temporal_layers(held["unet"]):
            new["video"].pop("motion", None)
    if swaps.motion is not None:
        new["video"]["motion"] = swaps.motion
    if swaps.vae is not None:
        new["vae"] = swaps.vae
    image_clip_skip = swaps.clip_skip if swaps.image_clip_skip is None else swaps.image_clip_skip
    for name, clip_skip in (("image", image_clip_skip), ("video", swaps.clip_skip)):
        if swaps.tokenizer is not None:
            new[name]["tokenizer"] = swaps.tokenizer
        if clip_skip is not None:
            new[name]["clip_skip"] = clip_skip
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


def fetch_all(raw: Mapping[str, Any]) -> dict[str, str | None]:
    """Fetches what the hub's cache lacks of a pair. Returns which variant to load of every source on the hub: the one
    that `files` names, or None where the cache has another file and the hub does not give that one.

    Raises one FileNotFoundError that names all that cannot be had.
    """
    wanted = {raw["vae"]: "vae"}
    for side in (raw["image"], raw["video"]):
        wanted |= {side[part]: part for part in (*PARTS, "motion") if part in side}
    variants, missing, commands = dict[str, str | None](), [], []
    for source, part in wanted.items():
        if source.startswith("hub:"):
            known = raw.get("files", {}).get(source, {})
            try:
                variants[source] = hub.settle(source, part, known.get("variant"))
            except hub.MissingError as error:
                size = known.get("bytes")
                missing.append(error)
                commands.append(f"  {error.command}" + (f"  # {size / 1e9:.2g} GB" if size else ""))
    if missing:
        raise FileNotFoundError(
            f"pair {raw['name']!r} lacks files that neither the hub ({missing[0].reason}) nor its cache {hub.cache()} "
            "gave. Where there is a network, run\n" + "\n".join(commands) + "\nand bring that cache here, or give what "
            "you have by --image-model, --video-model, --motion, --vae and --tokenizer (Swaps in Python): folders, or "
            "single files, which bring no tokenizer"
        )
    return variants
