"""JSON of strangers: read as the standard has it, in bounded time and memory, or refused in one line."""

import json
import math
from pathlib import Path
from typing import Any

from ivmix.models.quoting import printable

LARGEST_JSON = 2**24  # bytes; a tokenizer is the largest that is met, of two or three megabytes
DEEPEST_JSON = 32  # levels; six are met, and Python's own functions give up at a thousand
LONGEST_WHOLE = 20  # digits of a whole number; 2**64 has as many


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
