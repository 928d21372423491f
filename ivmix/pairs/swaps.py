"""What a caller puts in place of a pair's own models, and what these say of themselves: a description rewritten."""

import re
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints

from ivmix.models.checkpoints.hub import Hub
from ivmix.models.checkpoints.load import XL_SCALING
from ivmix.models.unet.temporal import MotionNorm
from ivmix.pairs.description import BY_TWO, NETWORKS, PARTS, SAID_SIZES, absolute, network_of
from ivmix.pairs.model_files import has_temporal_layers, nothing_known, parts_of, read_trained_as
from ivmix.pairs.trained_as import (
    NAMED,
    ZERO_SNR,
    Prediction,
    check_prediction,
    in_words,
    is_json,
    parse_schedule,
)
from ivmix.typed import check, check_keys

XL_VAE = {"vae_scaling": XL_SCALING, "vae_dtype": "float32"}  # which overflows in float16
REPOSITORY = r"\w[\w.-]*/\w[\w.-]*"
SOURCES = ("image_model", "video_model", "motion", "vae", "tokenizer", "image_lora", "video_lora")  # of `Swaps`


@dataclass(frozen=True)
class Swaps:
    """What a caller has in place of a pair's own models, and the LoRAs on top: sources, LoRAs as SOURCE[:WEIGHT].

    A model's source is a pipeline's folder or repository, or a single file; what it holds of UNet, text encoder and
    tokenizer replaces the side's, and a video model's VAE the pair's. `motion` is AnimateDiff's modules, `motion_norm`
    whose group norms they have; a pair's own LoRA stays with them; `tokenizer` is a folder for both models. `clip_skip`
    is the layer of the text encoders that is read, counted from the end (see `CLIPText`); `image_clip_skip` overrides
    it for the image model.

    What a model predicts and on which schedule is what its files say (`ivmix.pairs.trained_as`), or what is said here:
    a schedule by name ("scaled_linear", "linear", or "zero-snr": the model's own, rescaled), as a mapping or its JSON,
    or as a scheduler_config.json. `drop` are patterns (fnmatch) of keys to leave out of the files of weights. A value
    of another type is a ValueError.
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
    motion_norm: MotionNorm | None = None
    image_prediction: Prediction | None = None
    image_schedule: str | dict[str, Any] | None = None
    video_prediction: Prediction | None = None
    video_schedule: str | dict[str, Any] | None = None
    drop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            several = hint == tuple[str, ...]
            value = list(value) if several and isinstance(value, tuple | list) else value
            check(value, list[str] if several else hint, f"swaps: {name}")

    def to_dict(self) -> dict[str, Any]:
        """What is swapped and nothing else, as plain JSON; paths absolute, so that it holds in any folder."""

        def plain(name: str, value: Any) -> Any:
            if isinstance(value, tuple):
                return [plain(name, one) for one in value]
            if name.endswith("schedule") and isinstance(value, str):
                return value if value in (*NAMED, ZERO_SNR) or is_json(value) else absolute(value)
            return absolute(value) if name in SOURCES else value

        return {name: plain(name, value) for name, value in asdict(self).items() if value not in (None, ())}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Swaps":
        """What `to_dict` wrote. ValueError for anything else."""
        check_keys(raw, get_type_hints(cls), set(), "swaps")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in raw.items()}
        return cls(**values)


def with_swaps(raw: Mapping[str, Any], swaps: Swaps, hub: Hub | None = None) -> dict[str, Any]:
    """A description with the caller's models in place of its own, and in each side's "from" what says its prediction
    and schedule. Raises ValueError for a model without a part, or one whose files say what cannot be."""
    new, held, hub = deepcopy(dict(raw)), dict[str, dict[str, str]](), hub or Hub()
    if "bridge" in raw and (swaps.image_model is not None or swaps.vae is not None):
        name = "vae" if swaps.image_model is None else "image_model"
        raise ValueError(f"{name}: pair {raw['name']!r} has a bridge, made for its own latents: describe another in a "
                         "pair.json")  # fmt: skip
    for name, model in (("image", swaps.image_model), ("video", swaps.video_model)):
        if model is None:
            continue
        held[name] = parts_of(model, hub, swaps.drop)
        if not (network := held[name].keys() & set(NETWORKS)):
            hint = "; AnimateDiff's modules are --motion" if "motion" in held[name] else ""
            found = ", ".join(held[name]) or nothing_known(model, hub, swaps.drop)
            raise ValueError(f"{name} model {model}: expected a UNet or transformer, found {found}{hint}")
        for part in (*NETWORKS, *(SAID_SIZES if name == "image" else ())):
            new[name].pop(part, None)
        if "text_encoder" in held[name]:
            for entry in ("text_encoder_2", *(() if "text_encoder_2" in held[name] else ("tokenizer_2",)), *BY_TWO):
                new[name].pop(entry, None)  # it was of the other encoders
        new[name] |= {part: held[name][part] for part in PARTS if part in held[name]}
        if "text_encoder_2" in held[name]:
            new[name] |= BY_TWO
        if name == "image" and "vae" in held[name]:
            new["image"]["vae"] = held[name]["vae"]  # which is not run: its latents are to be the pair's
        if name == "video" and "vae" in held[name]:
            new["vae"] = held[name]["vae"]
            if "text_encoder" in held[name]:  # which tells what kind of model its autoencoder is of
                for entry in ("vae_scaling", "vae_dtype"):
                    new.pop(entry, None)
                new |= XL_VAE if "text_encoder_2" in held[name] else {}
        if name == "video" and ("transformer" in network or has_temporal_layers(held[name]["unet"], hub, swaps.drop)):
            # What was made of the image model it was.
            for entry in ("motion", "motion_for_steps", "motion_norm", "lora", "consistency", *SAID_SIZES):
                new["video"].pop(entry, None)
    if swaps.motion is not None:
        new["video"]["motion"] = swaps.motion
        new["video"].pop("motion_norm", None)  # it was the other modules'
    if swaps.motion_norm is not None:
        new["video"]["motion_norm"] = swaps.motion_norm
    if swaps.vae is not None:
        new["vae"] = swaps.vae
    image_clip_skip = swaps.clip_skip if swaps.image_clip_skip is None else swaps.image_clip_skip
    for name, clip_skip in (("image", image_clip_skip), ("video", swaps.clip_skip)):
        if swaps.tokenizer is not None:
            new[name]["tokenizer"] = swaps.tokenizer
            new[name].pop("tokenizer_2", None)
        if clip_skip is not None:
            new[name]["clip_skip"] = clip_skip
        try:
            network_of(new[name])
        except ValueError as error:
            raise ValueError(f"{name} model: {error}") from None
        half = name == "video" and "motion" in raw["video"] and "motion" in new["video"]
        new[name] |= prediction_and_schedule(name, new[name], swaps, held.get(name, {}), half, hub)
    return new


def check_there(swaps: Swaps) -> None:
    """FileNotFoundError for a model that is neither on this machine nor said to be on the hub."""
    for name in ("image_model", "video_model", "motion", "vae", "tokenizer"):
        source = getattr(swaps, name)
        if source is not None and not source.startswith("hub:") and not Path(source).exists():
            meant = re.fullmatch(f"(?:https?://[^/]+/)?({REPOSITORY})/?", source)
            hint = f"; a repository of the hub is hub:{meant[1]}" if meant else ""
            raise FileNotFoundError(f"{name}: no file or folder {source}{hint}")


def prediction_and_schedule(
    name: str, entry: Mapping[str, Any], swaps: Swaps, held: Mapping[str, str], half: bool, hub: Hub
) -> dict[str, Any]:
    """Prediction and schedule of a side, and where each is "from": the "pair", a file that the swapped model brings, or
    an "option". A warning says which of them that model leaves open.

    Motion modules were trained on one schedule, whatever the spatial `half` around them: of that the prediction alone
    is taken, and a warning follows where the other schedule has more than other betas.
    """
    model = getattr(swaps, f"{name}_model")
    values: dict[str, Any] = {part: entry[part] for part in ("prediction", "schedule")}
    given = {part: getattr(swaps, f"{name}_{part}") for part in values}
    given = {part: value for part, value in given.items() if value is not None}
    origin = dict.fromkeys(values, "pair") | dict.fromkeys(given, "option")
    needed = values.keys() - given.keys() | ({"schedule"} if given.get("schedule") == ZERO_SNR else set())
    if model is not None and needed:
        said = read_trained_as(model, held, needed, hub, swaps.drop)
        told = said.entries(entry["schedule"])
        schedule = told.pop("schedule", values["schedule"]) if half else values["schedule"]
        if schedule != values["schedule"] and schedule["kind"] not in NAMED and "schedule" not in given:
            _warn(f"{name} model {model}: its schedule, {in_words(schedule)}, is not its motion modules': they keep "
                  f"the pair's, {in_words(values['schedule'])}; say otherwise by --{name}-schedule")  # fmt: skip
        lacking = sorted(values.keys() - given.keys() - told.keys() - ({"schedule"} if half else set()))
        if lacking:
            used = " and ".join(in_words(values[p]) if p == "schedule" else values[p] for p in lacking)
            _warn(f"{name} model {model} does not say its {' and '.join(lacking)}: taken to be the pair's, {used}; say "
                  f"otherwise by {' and '.join(f'--{name}-{part}' for part in lacking)}")  # fmt: skip
        values |= told
        origin |= dict.fromkeys(told.keys() - given.keys(), said.file)
    if "prediction" in given:
        values["prediction"] = check_prediction(given["prediction"], f"{name}_prediction")
    if "schedule" in given:
        values["schedule"] = parse_schedule(given["schedule"], values["schedule"], f"{name}_schedule")
    return values | {"from": origin}


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=5)  # whoever loads a pair
