"""What is compared: samplers under their options, and ground truth beside them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np

from ivmix.generation.arguments import check_noise_kind, read_strength
from ivmix.generation.text_to_video import TextToVideo
from ivmix.generation.windows import read_windows
from ivmix.models.json_files import read_value
from ivmix.pairs.bridge import COMBINING, plan, source_of_atoms
from ivmix.pairs.pair import Pair
from ivmix.samplers.base import Sampling, one_of
from ivmix.samplers.reading import sampling
from ivmix.samplers.samplers import SAMPLERS
from ivmix.solvers import Guided, planned_nfe
from ivmix.typed import check, short, whole

BESIDE = ("frames", "window", "overlap", "noise", "strength", "invert")  # options of an arm that are not its sampler's


@dataclass(frozen=True, eq=False)
class Drawn:
    """Clips (b f h w c) uint8, and what they cost: evaluations a clip, rows through each network, seconds in all."""

    frames: np.ndarray
    nfe: Mapping[str, int]
    forwards: Mapping[str, int]
    seconds: float


class Truth(Protocol):
    """Clips that no sampler drew, such as those of the world itself."""

    @property
    def label(self) -> str: ...

    def settings(self, model: TextToVideo) -> dict[str, Any]:
        """{"truth": which clips these are}."""

    def draw(self, model: TextToVideo, captions: Sequence[str], seeds: Sequence[int]) -> Drawn:
        """One clip a caption, of no evaluations."""


class ArmEntry(TypedDict):
    """An arm in a file of them."""

    label: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """One sampler of a comparison: its label and the options that differ from the pair's defaults.

    Beside a sampler's options there may be "frames", the length of its clips, and "window", "overlap" and "noise", how
    the video model has them where they are longer than it knows; and "strength", whose clips begin from a benchmark's
    own of their captions and seeds, inverted under their captions if "invert" is true.
    """

    label: str
    options: Mapping[str, Any]

    def settings(self, model: TextToVideo) -> dict[str, Any]:
        """All that decides its clips beside model, captions and seeds. ValueError for options that cannot be."""
        beside = {name: value for name, value in self.options.items() if name in BESIDE}
        options = {name: value for name, value in self.options.items() if name not in BESIDE}
        try:
            frames = whole("frames", beside.get("frames", model.pair.frames), 1)
            read_windows(model.pair, frames, beside.get("window"), beside.get("overlap"), None)
            check_noise_kind(beside.get("noise", "white"), False)
            if "strength" in beside:
                read_strength(beside["strength"])
            elif "invert" in beside:
                raise ValueError("invert says how to begin from a clip: give its strength, or leave it out")
            return {"sampling": sampling(model.pair.defaults, options).to_dict(), **beside}
        except ValueError as error:
            raise ValueError(f"arm {short(self.label)}: {error}") from None

    def draw(
        self, model: TextToVideo, captions: Sequence[str], seeds: Sequence[int], source: Truth | None = None,
        raw_prompts: bool = False,
    ) -> Drawn:  # fmt: skip
        """One clip a caption, in one batch; with a strength, from those of `source`."""
        options = dict(self.options)
        if options.pop("invert", False):
            options["source_prompt"] = captions
        if "strength" in options and source is not None:
            options["video"] = source.draw(model, captions, seeds).frames[:, : options.get("frames")]
        result = model(captions, seed=seeds, batch_size=len(captions), raw_prompts=raw_prompts, **options)
        return Drawn(result.frames, result.record.nfe, result.record.forwards, result.record.seconds)


# Each family at the pair's defaults, the baseline first.
ARMS = (
    Arm("video model alone", {"sampler": "ddim"}),
    Arm("image model, frame by frame", {"sampler": "image"}),
    Arm("IV-Mixed, down-first", {"sampler": "zigzag", "sequence": "down-first"}),
    Arm("IV-Mixed, up-first", {"sampler": "zigzag", "sequence": "up-first"}),
    Arm("composite ODE", {"sampler": "composite"}),
    Arm("late mixture", {"sampler": "mixture"}),
)


def applicable(pair: Pair, arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Those of `arms` that a pair's latents allow: all; across a bridge, either model alone and what combines both."""
    if pair.bridge is None:
        return tuple(arms)

    def there(name: str) -> bool:
        return len(SAMPLERS[name].models) == 1 or name in COMBINING

    return tuple(arm for arm in arms if there(arm.options["sampler"]))


def named_arms(names: Sequence[str]) -> tuple[Arm, ...]:
    """An arm of each sampler, at the pair's defaults: that of `ARMS` where there is one. ValueError for none such, or
    one named twice.

    >>> [arm.label for arm in named_arms(["ddim", "freeinit"])]
    ['video model alone', 'freeinit']
    """
    for name in names:
        one_of("sampler", name, SAMPLERS)
        if names.count(name) > 1:
            raise ValueError(f"sampler {name!r} is named twice: once is enough to compare it")
    labels = {arm.options["sampler"]: arm.label for arm in reversed(ARMS)}
    return tuple(Arm(labels.get(name, name), {"sampler": name}) for name in names)


def core_arms(pair: Pair) -> tuple[Arm, ...]:
    """The families, the video model alone also as dear as IV-Mixed in the paper and here, the composite at 20 steps."""
    video, image, down, up, ode, late = ARMS
    zigzags = applicable(pair, (down, up))
    cost = [evaluations(pair, sampling(pair.defaults, {"sampler": "zigzag"})) for _ in zigzags[:1]]
    return (
        video,
        Arm("video model alone, 50 steps", {"sampler": "ddim", "steps": 50}),
        *(Arm("video model alone at IV-Mixed's cost", {"sampler": "ddim", "steps": steps}) for steps in cost),
        image, *zigzags, ode,
        Arm("composite ODE, 20 steps", {"sampler": "composite", "steps": 20}),
        late,
    )  # fmt: skip


def full_arms(pair: Pair) -> tuple[Arm, ...]:
    """The core and what takes hours: every pattern of the paper's motivation figure, longer runs,
    intervals, and other training-free methods."""
    patterns = ("RR-II", "RR-VV", "R-I", "R-V", "II-II", "VV-VV", "I-I", "V-V")
    return applicable(pair, (
        *core_arms(pair),
        *(Arm(f"zigzag {pattern}", {"sampler": "zigzag", "pattern": pattern}) for pattern in patterns),
        Arm("IV-Mixed, 50 steps", {"sampler": "zigzag", "steps": 50}),
        Arm("composite ODE, 50 steps", {"sampler": "composite", "steps": 50}),
        Arm("composite ODE, UniPC2", {"sampler": "composite", "solver": "unipc2"}),
        Arm("IV-Mixed in the first half", {"sampler": "zigzag", "interval": "0:0.5"}),
        Arm("IV-Mixed in the first quarter", {"sampler": "zigzag", "interval": "0:0.25"}),
        Arm("IV-Mixed in the late half", {"sampler": "zigzag", "interval": "0.5:1"}),
        Arm("FreeInit", {"sampler": "freeinit"}),
        Arm("Z-Sampling", {"sampler": "zsampling"}),
    ))  # fmt: skip


def evaluations(pair: Pair, sampler: Sampling) -> int:
    """Evaluations of all networks together that a run of the pair's plans."""
    own = sampler.schedules(pair.image.schedule, pair.video.schedule)
    networks = (source_of_atoms(pair, sampler, side.network(schedule))
                for side, schedule in zip(pair.sides, own, strict=True))  # fmt: skip
    image, video = (Guided(network("prompt"), network("")) for network in networks)  # two: one alone may cancel
    fields, legs = plan(sampler, image, video, sampler.grid(own[sampler.lead == "video"]))
    return sum(planned_nfe(legs, fields).values())


def read_arms(path: Path) -> tuple[Arm, ...]:
    """Arms from a JSON file, [{"label": "gamma 1", "options": {"sampler": "zigzag", "image_guidance": "1"}}, …].

    OSError where there is no such file, ValueError for anything else in it.
    """
    raw = read_value(path)
    if not isinstance(raw, list):
        form = '[{"label": "…", "options": {"sampler": "…", …}}, …]'
        raise ValueError(f"{path}: expected a JSON list of the form {form}, got a {type(raw).__name__}")
    for number, entry in enumerate(raw):
        check(entry, ArmEntry, f"{path}: arm {number}")
    return tuple(Arm(entry["label"], entry["options"]) for entry in raw)


def check_arms(arms: Sequence[Arm | Truth]) -> None:
    """ValueError for no sampler, a label without a letter or of more than 100, or two that make one file name."""
    if not any(isinstance(arm, Arm) for arm in arms):
        raise ValueError("arms: expected at least one sampler, the baseline")
    check_labels([arm.label for arm in arms])


def check_labels(labels: Sequence[str]) -> None:
    """ValueError for a label without a letter or of more than 100, or two that make one file name."""
    names: dict[str, str] = {}
    for label in labels:
        name = slug(label)
        if not 0 < len(name) <= 100:
            raise ValueError(f"arm {short(label)}: expected a label of 1 to 100 letters and digits")
        if name in names:
            raise ValueError(f"arms {short(names[name])} and {short(label)}: give them labels that differ more")
        names[name] = label


def slug(label: str) -> str:
    """A label as part of a file's name: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
