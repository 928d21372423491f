"""What is to be drawn: a prompt, a seed and perhaps negative prompts a clip, from a command line or a file."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from ivmix.generation.arguments import read_prompt
from ivmix.models.json_files import parse_json
from ivmix.models.quoting import printable
from ivmix.models.text.prompts import clean
from ivmix.typed import check, check_keys, short

LARGEST = 2**24  # bytes of a file of prompts
MOST_SEEDS = 100_000


@dataclass(frozen=True)
class Request:
    """One clip. What is None is left to what holds for all."""

    prompt: str
    seed: int | None = None
    negative_prompt: str | None = None
    image_negative_prompt: str | None = None
    source_prompt: str | None = None

    @property
    def texts(self) -> list[str]:
        """All that is read for it, but what is left to what holds for all."""
        texts = (self.prompt, self.negative_prompt, self.image_negative_prompt, self.source_prompt)
        return [text for text in texts if text is not None]


def read_requests(path: Path) -> list[Request]:
    """The clips that a file asks for: a line each of .txt, a row each of .csv (with a head), an object each of .jsonl.

    Columns and entries are those of `Request`; empty ones are as if they were not there. Raises ValueError naming the
    line, OSError where there is no such file.
    """
    readers = {".txt": _lines, ".csv": _rows, ".jsonl": _objects}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: unknown suffix {path.suffix!r}, expected {', '.join(readers)}")
    if path.is_file() and path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: a file of prompts has at most {LARGEST:,} bytes")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text ({error.reason} at byte {error.start})") from None
    found = readers[path.suffix.lower()](text, path)
    if not found:
        raise ValueError(f"{path}: it asks for no clip; expected at least one")
    return found


def _lines(text: str, path: Path) -> list[Request]:
    rows = enumerate(text.split("\n"), 1)  # and at nothing else: what splitlines parts at may be in a prompt
    return [_request({"prompt": line.strip()}, f"{path}, line {number}") for number, line in rows if line.strip()]


def _rows(text: str, path: Path) -> list[Request]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    found = []
    try:
        names = reader.fieldnames
        if "prompt" not in (names or ()):
            raise ValueError(f"{path}, line 1: expected the names of columns, prompt among them, got {short(names)}")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise ValueError(f"{where}: {len(row)} cells, expected {len(reader.fieldnames or ())}, as in the head")
            cells: dict[str, Any] = {name: cell for name, cell in row.items() if cell.strip()}
            if "seed" in cells and (digits := cells["seed"].strip()).isdecimal() and len(digits) < 20:
                cells["seed"] = int(digits)
            found.append(_request(cells, where))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.reader.line_num}: {error}") from None
    return found


def _objects(text: str, path: Path) -> list[Request]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            raw = parse_json(line.encode())
        except ValueError as error:
            raise ValueError(f"{where}: not JSON ({printable(error)})") from None
        if not isinstance(raw, dict):
            raise ValueError(f"{where}: expected an object, such as {{\"prompt\": \"…\", \"seed\": 3}}")
        found.append(_request(raw, where))
    return found


def _request(raw: Mapping[str, Any], where: str) -> Request:
    hints = get_type_hints(Request)
    check_keys(raw, hints, {"prompt"}, where)
    for name, value in raw.items():
        check(value, hints[name], f"{where}: {name}")
    try:
        texts = {name: clean(value, name) for name, value in raw.items() if isinstance(value, str)}
        return Request(**{**raw, **texts, "prompt": read_prompt(raw["prompt"])})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def parse_seeds(text: str) -> list[int]:
    """Seeds written A:B (from A up to, not including, B) or one by one with commas.

    >>> parse_seeds("3:6"), parse_seeds("1,5")
    ([3, 4, 5], [1, 5])
    """
    first, colon, last = text.partition(":")
    parts = [first, last] if colon else text.split(",")
    if not all(part.strip().isdecimal() and len(part) < 20 for part in parts):
        raise ValueError(f"seeds {short(text)}: expected A:B or numbers with commas, such as 0:8 or 3,17")
    numbers = [int(part) for part in parts]
    seeds = range(*numbers) if colon else numbers
    if len(seeds) > MOST_SEEDS:
        raise ValueError(f"seeds {short(text)}: they are {len(seeds):,}, expected at most {MOST_SEEDS:,}")
    if not seeds:
        raise ValueError(f"seeds {text!r}: it holds no seed; A:B runs from A up to, not including, B")
    return list(seeds)


def spread(requests: Sequence[Request], seed: int, seeds: Sequence[int] | None = None) -> list[Request]:
    """Every clip with a seed: each of `seeds` for every request, or its own, or `seed` plus its place."""
    if seeds is not None:
        own = next((request for request in requests if request.seed is not None), None)
        if own is not None:
            raise ValueError(f"--seeds: the file of prompts gives a seed of its own to {own.prompt!r}; leave one out")
        return [replace(request, seed=one) for request in requests for one in seeds]
    return [replace(r, seed=seed + k if r.seed is None else r.seed) for k, r in enumerate(requests)]
