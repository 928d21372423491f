"""A network on disk: one folder with config.json and one file of weights, in diffusers' and transformers' layout."""

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Protocol, Self, Union, get_args, get_origin, get_type_hints

import torch
from safetensors.torch import save_file
from torch import nn

SAFETENSORS, PICKLES = ".safetensors", (".ckpt", ".pth", ".pt", ".bin")
LARGEST_JSON = 2**24  # bytes; a tokenizer is the largest that is met, of two or three megabytes
DEEPEST_JSON = 32  # levels; six are met, and Python's own functions give up at a thousand
LONGEST_WHOLE = 20  # digits of a whole number; 2**64 has as many
LONGEST_FILE_NAME = 255  # bytes of a file's name, as file systems have it
LARGEST_SIZE = 10**9  # of any number in a config


class Config(Protocol):
    def to_dict(self) -> dict[str, Any]: ...
    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self: ...


@dataclass(frozen=True)
class Local:
    """What a source is on this machine.

    `files` are all that is read of it: the weights first, or the index of their shards, then config.json if a folder
    was named, which is `root`; of a single file, that is its folder. `commit` is the hub's.
    """

    source: str
    root: Path
    files: tuple[Path, ...]
    variant: str | None = None
    commit: str | None = None

    def __str__(self) -> str:
        return self.source

    @property
    def weights(self) -> Path:
        return self.files[0]

    @property
    def config(self) -> Path | None:
        return next((path for path in self.files if path.name == "config.json"), None)


# --- writing --------------------------------------------------------------------------------------------------------


def save_folder(network: nn.Module, folder: Path | str, dtype: torch.dtype | None = None) -> None:
    """Writes config.json and the weights, as `dtype` (default: as they are).

    Both are complete under another name before either replaces what was there: neither is ever half-written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config: Config = network.config  # type: ignore[assignment]
    raw = config.to_dict()
    name = "diffusion_pytorch_model.safetensors" if "_class_name" in raw else "model.safetensors"
    state = {k: v.detach().to("cpu", dtype).contiguous() for k, v in network.state_dict().items()}
    parts = {folder / f"{final}.part": folder / final for final in (name, "config.json")}
    try:
        save_file(state, folder / f"{name}.part", metadata={"format": "pt"})
        (folder / "config.json.part").write_text(json.dumps(raw, indent=2) + "\n")
        for part, final in parts.items():
            part.replace(final)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


# --- what is in a folder --------------------------------------------------------------------------------------------

STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")  # diffusers' name, transformers' two


def weight_names(variant: str | None) -> dict[str, set[str]]:
    """Names of a folder's file of weights, or of the index of its shards, by format: the preferred one first."""
    v = f".{variant}" if variant else ""
    return {
        extension: {name for stem in STEMS for name in (
            f"{stem}{v}.{extension}", f"{stem}{v}.{extension}.index.json", f"{stem}.{extension}.index{v}.json",
        )}
        for extension in ("safetensors", "bin")
    }  # fmt: skip


def choose(names: Collection[str], part: str, variant: str | None, where: object) -> str:
    """The file of weights among `names`, the paths in a folder: of the folder itself, or of its subfolder `part`.

    Without a variant that is the plain one, or the only one there is. Raises FileNotFoundError if there is none, or
    more than one.
    """
    inside = "config.json" not in names and f"{part}/config.json" in names
    prefix = f"{part}/" if inside else ""
    here = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    for candidates in weight_names(variant).values():
        found = sorted(candidates & here)
        if len(found) > 1:
            raise FileNotFoundError(f"{where} holds {len(found)} weight files, {' and '.join(found)}: expected one")
        if found:
            return prefix + found[0]
    there = sorted(name for name in here if name.startswith(STEMS))
    if variant is None and len(there) == 1 and re.fullmatch(r"\w+\.\w+\.(safetensors|bin)", there[0]):
        return prefix + there[0]
    others = there or sorted(name for name in names if name.endswith((SAFETENSORS, *PICKLES)))
    hint = f"{'of another variant there are' if there else 'or name one of'} {', '.join(others[:5])}"
    what = (f" for {part}" if part else "") + (f", variant {variant}" if variant else "")
    raise FileNotFoundError(
        f"{where} holds no weight file{what}: expected "
        f"{' or '.join(sorted(name for name in weight_names(variant)['safetensors'] if 'index' not in name))}"
        + (f"; {hint}" if others else "")
    )


def shards(index: Path) -> list[Path]:
    """The files that an index of shards points to, in its own folder. ValueError for what is no such index."""
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not where or not all(isinstance(file, str) for file in where.values()):
        raise ValueError(f"{index} has no weight_map of tensor names to file names")
    files = sorted(set(where.values()))
    for file in files:
        name = file == Path(file).name and file.isprintable() and len(file.encode()) <= LONGEST_FILE_NAME
        if not (name and file.endswith((SAFETENSORS, *PICKLES))):
            raise ValueError(f"{index} points to {file[:200]!r}: expected the name of a weight file beside it")
    return [index.parent / file for file in files]


# --- config.json ----------------------------------------------------------------------------------------------------


def check_is_file(path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a file")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")


def read_json(path: Path, infinities: bool = False) -> dict[str, Any]:
    """A JSON object from disk, or one clear error: FileNotFoundError, or ValueError for anything unreadable.

    `infinities`: Infinity and NaN, which are no JSON, are read as numbers, as Python writes them, and so diffusers
    (lambda_min_clipped of DPM-Solver's scheduler_config.json).
    """
    raw = read_value(path, infinities)
    if not isinstance(raw, dict):
        raise ValueError(f"{path} holds a JSON {type(raw).__name__}, expected an object")
    return raw


def read_value(path: Path, infinities: bool = False) -> Any:
    """As `read_json`, a value of any kind."""
    check_is_file(path)
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(f"{path} is not JSON: it has more than {LARGEST_JSON:,} bytes")
    try:
        return parse_json(path.read_bytes(), infinities)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {printable(error)}") from None


def parse_json(text: bytes, infinities: bool = False) -> Any:
    """JSON as the standard has it: no NaN (unless `infinities` may be there), no name twice in one object; no number
    past all floats, no deep nesting.

    What it returns can be walked through, compared and printed. Raises ValueError for anything else.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        named = dict(pairs)
        if len(named) != len(pairs):
            seen = set[str]()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise ValueError(f"{twice[:100]!r} occurs twice")
        return named

    def refuse(constant: str) -> Any:
        if infinities:
            return float(constant)
        raise ValueError(f"{constant} is no JSON")

    def whole(digits: str) -> int:
        if len(digits) > LONGEST_WHOLE:
            raise ValueError(f"{digits[:LONGEST_WHOLE]}… is a number of {len(digits):,} digits")
        return int(digits)

    def fraction(digits: str) -> float:
        if math.isinf(number := float(digits)):
            raise ValueError(f"{digits[:LONGEST_WHOLE]} is past all numbers")
        return number

    hooks: dict[str, Any] = {"parse_constant": refuse, "parse_int": whole, "parse_float": fraction}
    try:
        raw = json.loads(text.decode("utf-8"), object_pairs_hook=unique, **hooks)
    except RecursionError:  # at a depth that differs from one Python to the next
        raise ValueError(f"it is nested more than {DEEPEST_JSON} deep") from None
    level = [raw]
    for _ in range(DEEPEST_JSON):
        level = [
            inner for value in level if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]  # fmt: skip
    if level:
        raise ValueError(f"it is nested more than {DEEPEST_JSON} deep")
    return raw


def printable(text: object, most: int = 600) -> str:
    """What a stranger's file says, fit for one line of an error: control characters escaped, the rest cut off."""
    whole = str(text)
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in whole[:most])
    return line + (" …" if len(whole) > most else "")


def short(value: object, most: int = 60) -> str:
    """A value as Python writes it, control characters escaped, the rest cut off."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}…"


def check_config(config: Any) -> None:
    """Raises ValueError for an entry of a config, a dataclass, that is not of its type, or a number that is none.

    Every number of a network counts or scales something: it is above 0, and no more than any network could have.
    """
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not _fits(value, hint):
            raise ValueError(f"{name} is {short(value)}, expected {_expected(hint)}")


def _fits(value: Any, hint: Any) -> bool:
    kind = get_origin(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if kind is tuple:
        return isinstance(value, tuple) and len(value) > 0 and all(_fits(one, get_args(hint)[0]) for one in value)
    if hint in (int, float):
        number = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
        return number and 0 < value <= LARGEST_SIZE
    return isinstance(value, hint)


def _expected(hint: Any) -> str:
    """A hint in words."""
    kind = get_origin(hint)
    if kind in (Union, UnionType):
        return " or ".join(_expected(one) for one in get_args(hint))
    if kind is tuple:
        return f"a list, each {_expected(get_args(hint)[0])}"
    span = f"from 1 to {LARGEST_SIZE:,}"
    words = {int: f"a whole number {span}", float: f"a number above 0, at most {LARGEST_SIZE:,}", str: "text",
             bool: "true or false"}  # fmt: skip
    return words.get(hint) or ("null" if hint is type(None) else hint.__name__)


def check_entries(raw: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises ValueError naming the first entry of `raw` that is there and not as expected."""
    for name, value in expected.items():
        if name in raw and raw[name] != value:
            raise ValueError(f"{name} is {short(raw[name])}, only {value!r} is supported")


def one_number(raw: Mapping[str, Any], name: str) -> Any:
    """`raw[name]`, where a list with one value a level is accepted if they are all the same."""
    values = raw[name] if isinstance(raw[name], list) else [raw[name]]
    if not values or any(value != values[0] for value in values):
        raise ValueError(f"{name} is {short(raw[name])}, only one number for all levels is supported")
    return values[0]
