"""The page's fields, from what samplers and pairs declare; as data, for whatever shows them."""

from dataclasses import dataclass
from pathlib import Path

from ivmix.demo.form import OPTIONS, options_of
from ivmix.models import Tokenizer
from ivmix.pairs.description import describe
from ivmix.pairs.sizes import total
from ivmix.samplers.declared import Declared
from ivmix.sprites.world import all_captions

OWN = "by itself"  # what a choice that is not given stands for


@dataclass(frozen=True)
class Field:
    """A field of one option: its label, what may be chosen (text, value), None: it is typed, and how it is written."""

    name: str
    label: str
    choices: tuple[tuple[str, str], ...] | None
    form: str


def field(option: Declared) -> Field:
    """The field of an option: a choice if it has choices, else a line to type."""
    told = option.option
    choices = None if told.choices is None else ((OWN, ""), *((name, name) for name in told.choices))
    return Field(option.name, option.name.replace("_", " "), choices, told.metavar or "")


FIELDS = tuple(map(field, OPTIONS.values()))


def explained(sampler: str) -> str:
    """What the options of a sampler mean, in Markdown."""
    return "\n".join(f"- **{field(o).label}** ({o.option.metavar}): {o.option.help}" for o in options_of(sampler))


def about(pair: str) -> str:
    """What a pair is and needs, in Markdown."""
    raw, _, _ = describe(pair)
    files = raw.get("files", {})
    remote = any(source.startswith("hub:") for source in files)
    lines = [raw.get("about", ""), raw.get("licence", ""),
             f"Downloaded from the Hugging Face hub at first use: {total(files.values())}."]  # fmt: skip
    return "  \n".join(line for line in (lines if remote else lines[:2]) if line)


def vocabulary(pair: str) -> list[str] | None:
    """The words that a pair with a closed vocabulary knows; None for one that reads any, or whose tokenizer is not on
    this machine."""
    raw, _, _ = describe(pair)
    folder = raw["video"]["tokenizer"]
    if folder.startswith("hub:") or not Path(folder, "tokenizer.json").is_file():
        return None
    tokenizer = Tokenizer.from_folder(folder, max_length=77)
    return tokenizer.vocabulary if tokenizer.words else None


def examples(words: list[str] | None) -> list[str]:
    """Some captions of the sprite world, if its words are among `words`."""
    captions = all_captions()[9::21]
    return captions if words is not None and {w for c in captions for w in c.split()} <= set(words) else []
