"""What a pair is made of, as data: its description.

pair.json, version 1:

    {"format": 1, "name": "…", "licence": "…", "vae": SOURCE, "vae_scaling": 0.13025, "vae_dtype": "float32",
     "image": {"unet": SOURCE, "text_encoder": SOURCE, "tokenizer": SOURCE, "schedule": {"kind": …},
               "prediction": "epsilon", "text_encoder_2": SOURCE, "tokenizer_2": SOURCE},
     "video": {… the same keys …, "motion": SOURCE, "fps": 24, "lora": "SOURCE:WEIGHT", "consistency": true,
               "motion_for_steps": {"4": SOURCE, "8": SOURCE}},
     "frames": 8, "height": 32, "width": 32, "fps": 8, "dtype": "float16",
     "text_parameters": 123060480, "release_text_encoders": false,
     "defaults": {"from": "…", "every": {option: value, …}, "why": "…", "sampler": "…", "negative_prompt": "",
                  "<sampler>": {option: value, …}, …},
     "files": {SOURCE: {"variant": "fp16", "bytes": …, "parameters": …, "sharded": true, "licence": "…"}, …}}

A SOURCE is a path relative to the file's folder, or `hub:owner/name[/path][@revision]`; what is named twice is loaded
once. A side's network is its `unet`, or its `transformer` (Latte, PixArt). Beside it, a side may have

    motion            AnimateDiff's modules for a spatial UNet
    motion_for_steps  modules that were distilled for so many steps each: a run of another number is told which are its
    motion_norm       whose group norms they have, "authors" or "diffusers" (`ivmix.models.unet.temporal.normed`)
    lora              what is added to the model before what a caller adds, by default with the weight 1
    consistency       whether it tells where a trajectory ends, as LCM's do, not a mean (`ivmix.solvers.Boundary`)
    fps               what it is told (VideoCrafter2)
    latent_size       side of the square of latents it was trained on: it is shown much smaller ones enlarged
                      (`ivmix.solvers.enlarged`)
    original_size,    two numbers of pixels each, in the order that a UNet which is told sizes is told them, of a clip
    target_size       before and after it was scaled: by default the clip's own height and width
    clip_skip         the text encoder's layer that is read, counted from the end: 1
    text_encoder_2    what it reads goes beside what the first does, its pooled text and the clip's size to the UNet
    tokenizer_2       its tokenizer, by default the first's
    text_norm         whether text states go through the encoder's final norm: true
    empty_prompt      "zeros" in place of all that is read of an empty prompt, or its "text"

and a pair

    vae_scaling       what latents are scaled by where the VAE is a single file, which does not say
    vae_dtype         the narrowest type that the VAE runs in: that of the networks
    dtype             what the networks run in on an accelerator unless the caller says: float32
    text_parameters   how many numbers the text encoders have, one that both sides share counted once
    release_text_encoders  whether they are in memory only while there is a prompt to read: no (`ivmix.pairs.reader`)
    bridge            between the latents of both models, where they are not the same (`ivmix.pairs.bridge`)
    judge             what measures clips of the sprite world: the folder "judge" beside pair.json, if there is one
    files             what is known of sources: their `bytes`, or the `parameters` that they hold where those are not
                      known; `sharded` where weights are several files
    licence, about, authors  in words, the last what the paper's authors ran and what is another here

Defaults `from` a pair that is known by name are that pair's, sampler by sampler and option by option, but for what is
said beside; those of `every` are of all samplers that run the video model and have such an option, but for what is said
of one by name. `why` says why, to a reader of the file. All three may be missing, and none is in what `describe` gives.

The public pairs say float16, not bfloat16: it is what their files come in and what their authors' codes run in, its
rounding error is an eighth of the other's, and every GPU and MPS compute in it. Its smaller range is no matter to them:
attention keeps its scores in float32, and the autoencoder that overflows, SDXL's, runs in float32.
"""

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from ivmix.models.json_files import read_json
from ivmix.models.quoting import printable
from ivmix.models.unet.temporal import MotionNorm
from ivmix.pairs.bridge import MAPS, BridgeEntry, check_bridge
from ivmix.pairs.trained_as import Prediction
from ivmix.samplers.base import one_of
from ivmix.samplers.options import OPTIONS
from ivmix.samplers.reading import names, sampling
from ivmix.samplers.samplers import SAMPLERS
from ivmix.solvers import Schedule
from ivmix.solvers.schedules.foreign import own_words
from ivmix.typed import check, check_keys, short, whole

Dtype = Literal["float32", "float16", "bfloat16"]
FORMAT = 1
LONGEST_SOURCE = 1000  # characters
EMBEDDED = {
    "sprites": Path(__file__).parents[1] / "sprites" / "pair",
    "sprites-crisp": Path(__file__).parents[1] / "sprites" / "crisp",
    "sprites-bridged": Path(__file__).parents[1] / "sprites" / "bridged",
    "sprites-mapped": Path(__file__).parents[1] / "sprites" / "mapped",
}
PUBLIC = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.json"), key=lambda p: p.stem)}
NETWORKS = ("unet", "transformer")  # one of which a side names
# What a side of a description may name, and "motion" and "lora": of these one network, an encoder and its tokenizer it
# has to.
PARTS = (*NETWORKS, "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
SAID_SIZES = ("original_size", "target_size")  # of a side, for a UNet that is told sizes
# How text is read for a UNet that is told of it by two encoders: SDXL (arXiv 2307.01952, section 2.1). Its layers' last
# but one, without the final norm; and nothing of an empty prompt, as diffusers' pipelines have it by default.
BY_TWO = {"clip_skip": 2, "text_norm": False, "empty_prompt": "zeros"}


class SideEntry(TypedDict):
    """One model of a description, in the words of the module."""

    unet: NotRequired[str]
    transformer: NotRequired[str]
    text_encoder: str
    tokenizer: str
    schedule: dict[str, Any]
    prediction: Prediction
    motion: NotRequired[str]
    motion_for_steps: NotRequired[dict[str, str]]
    motion_norm: NotRequired[MotionNorm]
    fps: NotRequired[float]
    clip_skip: NotRequired[int]
    latent_size: NotRequired[int]
    lora: NotRequired[str]
    consistency: NotRequired[bool]
    text_encoder_2: NotRequired[str]
    tokenizer_2: NotRequired[str]
    text_norm: NotRequired[bool]
    empty_prompt: NotRequired[Literal["text", "zeros"]]
    original_size: NotRequired[list[int]]
    target_size: NotRequired[list[int]]
    vae: NotRequired[str]  # the image model's own, and what is of it: see `bridge`
    vae_scaling: NotRequired[float]
    vae_dtype: NotRequired[Dtype]


class FileEntry(TypedDict, total=False):
    variant: str
    bytes: int
    parameters: int
    sharded: bool
    licence: str


class Description(TypedDict):
    """What pair.json may hold and has to, in the words of the module."""

    format: int
    name: str
    about: NotRequired[str]
    authors: NotRequired[str]
    licence: NotRequired[str]
    vae: str
    vae_scaling: NotRequired[float]
    vae_dtype: NotRequired[Dtype]
    bridge: NotRequired[BridgeEntry]
    judge: NotRequired[str]
    image: SideEntry
    video: SideEntry
    frames: int
    height: int
    width: int
    fps: float
    dtype: NotRequired[Dtype]
    text_parameters: NotRequired[int]
    release_text_encoders: NotRequired[bool]
    defaults: dict[str, str | dict[str, Any]]
    files: NotRequired[dict[str, FileEntry]]


def network_of(side: Mapping[str, Any]) -> tuple[str, str]:
    """The part that a side's network is, one of `NETWORKS`, and its source. ValueError for a side with none or both,
    or with what only a UNet has."""
    named = [part for part in NETWORKS if part in side]
    if len(named) != 1:
        raise ValueError(f"expected one of {' and '.join(NETWORKS)}, got {' and '.join(named) or 'none'}")
    own = [entry for entry in ("motion", "motion_for_steps", "motion_norm", "fps") if entry in side]
    if own and named != ["unet"]:
        raise ValueError(f"{' and '.join(own)} beside a {named[0]}: only a UNet has a use for it")
    return named[0], side[named[0]]


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
        raw["defaults"] = _complete(raw["defaults"])
        _check_entries(raw)
    except ValueError as error:
        raise ValueError(f"{file}: {printable(error)}") from None
    beside = partial(absolute, folder=file.parent)
    raw["vae"] = beside(raw["vae"])
    if "judge" in raw or (file.parent / "judge").is_dir():
        raw["judge"] = beside(raw.get("judge", "judge"))
    for side in (raw["image"], raw["video"]):
        side |= {part: beside(side[part]) for part in (*PARTS, "motion", "lora", "vae") if part in side}
        if "motion_for_steps" in side:
            side["motion_for_steps"] = {n: beside(source) for n, source in side["motion_for_steps"].items()}
        side["schedule"] = own_words(side["schedule"])
    if "bridge" in raw:
        raw["bridge"] |= {part: beside(raw["bridge"][part]) for part in MAPS if part in raw["bridge"]}
    return raw, file.parent, name if name in EMBEDDED or name in PUBLIC else str(file.parent.resolve())


def read_weighted(text: str) -> tuple[str, float]:
    """A LoRA's source and its weight from SOURCE[:WEIGHT], by default 1.

    >>> read_weighted("style.safetensors:0.8")
    ('style.safetensors', 0.8)
    """
    match = re.fullmatch(r"(.+?)(?::([-+]?(?:\d+\.?\d*|\.\d+)))?", text)
    if match is None:
        raise ValueError(f"lora {text!r}: expected SOURCE or SOURCE:WEIGHT, such as style.safetensors:0.8")
    return match[1], float(match[2] or 1)


def _complete(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A file's defaults on top of those that they are from. ValueError for what is no pair's name."""
    own = {name: value for name, value in defaults.items() if name not in ("from", "every", "why")}
    every = defaults.get("every", {})
    check(defaults.get("why", ""), str, "defaults: why")
    check(every, dict, "defaults: every")
    if "from" not in defaults:
        if every:
            raise ValueError("defaults: every is of the pair that they are from, and they are from none")
        return own
    origin = defaults["from"]
    if origin not in (*EMBEDDED, *PUBLIC):
        raise ValueError(f"defaults: from is {short(origin)}, expected one of {', '.join([*EMBEDDED, *PUBLIC])}")
    check_keys(every, OPTIONS, (), "defaults: every")
    base: dict[str, Any] = describe(origin)[0]["defaults"]
    for name in base.keys() & {name for name, kind in SAMPLERS.items() if "video" in kind.models}:
        base[name] |= {option: value for option, value in every.items() if option in names(SAMPLERS[name])}
    return base | {name: _over(base.get(name), value) for name, value in own.items()}


def _over(base: Any, own: Any) -> Any:
    """One entry of defaults over that of another pair: a sampler's options one by one."""
    return {**base, **own} if isinstance(base, dict) and isinstance(own, dict) else own


def _check_entries(raw: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the entry, for a value of the right type that no pair has."""
    for name in ("frames", "height", "width"):
        whole(name, raw[name], 1, 2**16)
    whole("text_parameters", raw.get("text_parameters", 1), 1, 10**12)
    if not 0.1 <= raw["fps"] <= 1000:
        raise ValueError(f"fps is {raw['fps']}, expected frames per second, from 0.1 to 1000")
    for entry in (raw, raw["image"]):
        if not 1e-3 <= entry.get("vae_scaling", 1) <= 1e3:
            raise ValueError(f"vae_scaling is {entry['vae_scaling']}, expected a factor, from 0.001 to 1000")
    for name in ("image", "video"):
        side = raw[name]
        whole(f"{name}: latent_size", side.get("latent_size", 1), 1, 1024)
        for said in SAID_SIZES:
            if len(size := side.get(said, [1, 1])) != 2 or not all(1 <= n <= 2**16 for n in size):
                raise ValueError(f"{name}: {said} is {short(size)}, expected two numbers of pixels, 1 to {2**16}")
        for n in side.get("motion_for_steps", {}):
            if n not in map(str, range(1, 1001)):
                raise ValueError(f"{name}: motion_for_steps: {short(n)} is no number of steps, such as '4'")
        try:
            network_of(side)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        try:
            Schedule.from_config(side["schedule"])
        except ValueError as error:
            raise ValueError(f"{name}: schedule: {error}") from None
    check_bridge(raw)
    others = [{"motion": source} for source in raw["video"].get("motion_for_steps", {}).values()]
    for part in ("vae", "judge", *PARTS, "motion", "lora", *MAPS):
        for entry in (raw, raw["image"], raw["video"], raw.get("bridge", {}), *others):
            source = entry.get(part, "")
            if len(source) > LONGEST_SOURCE or any(ord(letter) < 32 for letter in source):
                raise ValueError(f"{part} is {short(source)}: too long for a name, or with control characters")
    texts = ("sampler", "negative_prompt")
    for name in (*texts, *(raw["defaults"].keys() - texts)):
        check(raw["defaults"].get(name), str if name in texts else dict, f"defaults: {printable(name, 60)}")
    try:
        for name in raw["defaults"].keys() - texts:
            one_of("sampler", name, SAMPLERS)
            check_keys(raw["defaults"][name], dict.fromkeys(names(SAMPLERS[name])), (), f"sampler {name!r}")
        sampling(raw["defaults"], {})
    except ValueError as error:
        raise ValueError(f"defaults: {error}") from None
