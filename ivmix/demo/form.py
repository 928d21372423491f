"""What the page's fields hold, as texts: filled in from a pair or a record, read into a call."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from ivmix.generation.record import NoiseKind, Record
from ivmix.generation.replay import recall
from ivmix.pairs.description import describe
from ivmix.samplers.declared import Declared, declared
from ivmix.samplers.samplers import SAMPLERS

OPTIONS = declared()
SIZES = ("frames", "height", "width")
WINDOWS = ("window", "overlap", "space_window")  # the pair's own where they are empty and the clip needs them
NOISES = get_args(NoiseKind)  # the first is what is drawn by default
FACTS = (
    "pair", "prompt", "negative_prompt", "image_negative_prompt", "seed", *SIZES, *WINDOWS, "noise", "sampler",
)  # fmt: skip
UNASKED = ("vae_tile", "image_frames", "raw_prompts", "video", "strength", "source_prompts")  # have no field


@dataclass(frozen=True)
class Form:
    """All fields by name as they were typed: `facts` of FACTS, `options` of every sampler, of which those of the
    sampler chosen count; "" is what was not given."""

    facts: Mapping[str, str]
    options: Mapping[str, str]

    @property
    def pair(self) -> str:
        return self.facts["pair"]

    @property
    def prompt(self) -> str:
        return self.facts["prompt"]

    @property
    def sampler(self) -> str:
        return self.facts["sampler"]

    def sampling(self) -> dict[str, Any]:
        """The sampler and what was given of its options. ValueError, naming it, for what is no number."""
        given = {o.name: read(o.option.kind, o.name, self.options[o.name]) for o in options_of(self.sampler)}
        return {"sampler": self.sampler, **{name: value for name, value in given.items() if value is not None}}

    def call(self) -> dict[str, Any]:
        """What `TextToVideo` takes beside the prompt and the sampling. ValueError, naming it, for what is no number."""
        call = {name: read("whole", name, self.facts[name]) for name in ("seed", *SIZES, *WINDOWS)}
        if call["seed"] is None:
            raise ValueError("seed is empty: expected a whole number, such as 0")
        call["noise"] = self.facts["noise"] or NOISES[0]
        call["negative_prompt"] = self.facts["negative_prompt"]
        if self.facts["image_negative_prompt"] != self.facts["negative_prompt"]:
            call["image_negative_prompt"] = self.facts["image_negative_prompt"]
        return call


def options_of(sampler: str) -> list[Declared]:
    """The options of a sampler, in the order of the help."""
    return [option for option in OPTIONS.values() if sampler in option.samplers]


def default_options(defaults: Mapping[str, Any], sampler: str) -> dict[str, str]:
    """Every option as the page shows it: a pair's default for the sampler, or the sampler's own; "" where it has none
    or the sampler no such option."""
    own = {f.name: f.default for f in fields(SAMPLERS[sampler]) if f.default is not MISSING}
    own |= defaults.get(sampler, {})
    return {name: write(own.get(name)) for name in OPTIONS}


def default_form(pair: str, prompt: str = "", seed: str = "0", sampler: str | None = None) -> Form:
    """A pair's own form, with what is kept of another's. ValueError for a pair that is none."""
    raw, _, _ = describe(pair)
    defaults, sizes = raw["defaults"], {name: write(raw.get(name)) for name in (*SIZES, *WINDOWS)}
    sampler, negative = sampler or str(defaults["sampler"]), str(defaults["negative_prompt"])
    facts = {"pair": pair, "prompt": prompt, "negative_prompt": negative, "image_negative_prompt": negative,
             "seed": seed, **sizes, "noise": NOISES[0], "sampler": sampler}  # fmt: skip
    return Form(facts, default_options(defaults, sampler))


def recalled_form(path: Path) -> tuple[Form, Record]:
    """The form that a record's clip was drawn by. ValueError for a file that is none, or a clip that takes what the
    page has no field for."""
    kept = recall(path)
    record, sampler = kept.record, str(kept.sampling["sampler"])
    assert record is not None
    several = [f"{len(record.prompts)} prompts"] if len(record.prompts) > 1 else []
    asked = [*several, *(name for name in UNASKED if getattr(record, name) not in (None, False))]
    if asked:
        raise ValueError(
            f"the record has {', '.join(asked)}, for which this page has no field: `ivmix sample --from` draws it"
        )
    facts = {"pair": record.pair, "prompt": record.prompts[0], "negative_prompt": record.negative_prompts[0],
             "image_negative_prompt": record.image_negative_prompts[0], "seed": write(record.seeds[0]),
             **{name: write(getattr(record, name)) for name in (*SIZES, *WINDOWS)}, "noise": record.noise,
             "sampler": sampler}  # fmt: skip
    return Form(facts, default_options(kept.sampling, sampler)), record


def read(kind: str, name: str, text: str) -> Any:
    """A field's value; None of an empty one. ValueError, naming it, for what is no number where one is meant."""
    text = text.strip()
    if kind not in ("whole", "number") or not text:
        return text or None
    try:
        return int(text) if kind == "whole" else float(text)
    except ValueError:
        meant = "a whole number" if kind == "whole" else "a number"
        raise ValueError(f"{name} {text[:60]!r}: expected {meant}") from None


def write(value: Any) -> str:
    """A value as a field shows it and `read` or the samplers read it back.

    >>> write(2.0), write((0.0, 0.5)), write(None)
    ('2', '0:0.5', '')
    """
    if isinstance(value, list | tuple):
        return ":".join(map(write, value))
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return "" if value is None else str(value)
