"""A benchmark's prompts, from the files that their authors publish, and the order in which a run cut short takes them.

Formats, by the names that a `Description` has for them; all UTF-8, with a byte order mark or without:

- "chronomagic": ChronoMagic-Bench's CSV (videoid, name and others) or the JSON of its UMT (caption_id, caption). The
  category is an id's beginning, kettle_boiling of kettle_boiling_03, which both files have.
- "msrvtt": MSR-VTT's train_val_videodatainfo.json, of which the videos of split "validate" are taken, each with all its
  captions, in the order of their sen_id.
- "classes": UCF-101's classInd.txt, a line a class ("1 SnowRolling" or "SnowRolling"), or a folder with one of each
  class. The id is the class, its prompt the words of its name, "snow rolling"; a table says other prompts.
- "lines": text, a prompt a line, whose id is the number of that line.
- "table": CSV or JSON, a list, with id, prompt and perhaps category.
"""

import csv
import hashlib
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from ivmix.models.json_files import check_is_file, parse_json
from ivmix.models.quoting import printable
from ivmix.models.text.prompts import clean
from ivmix.typed import check, check_keys, short

LARGEST = 2**26  # bytes of a file of prompts; MSR-VTT's 140,200 captions are the most that are met
SPLIT = "validate"


@dataclass(frozen=True)
class Prompt:
    """What the clips of one id show: one text all, or the texts in turn."""

    id: str
    texts: tuple[str, ...]
    category: str = ""

    def text(self, sample: int) -> str:
        """Of a sample, counted from 1.

        >>> [Prompt("video7", ("a man sings", "a song")).text(sample) for sample in (1, 2, 3)]
        ['a man sings', 'a song', 'a man sings']
        """
        return self.texts[(sample - 1) % len(self.texts)]


def read_prompts(path: Path, format: str, count: int | None = None) -> tuple[Prompt, ...]:
    """The prompts of a file, in its order; `count` is how many there have to be.

    White space is made as `ivmix.models.text.prompts.clean` makes it. Raises FileNotFoundError, or ValueError, naming
    the file and the place, for another format, an empty prompt, and ids that occur twice.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r}: expected one of {', '.join(FORMATS)}")
    found = dict[str, Prompt]()
    for where, id, texts, category in FORMATS[format](path):
        if not id:
            raise ValueError(f"{where}: the id is empty")
        if id in found:
            raise ValueError(f"{where}: the id {short(id)} occurs twice")
        found[id] = Prompt(id, tuple(_cleaned(text, where) for text in texts), category)
    if not found or (count is not None and len(found) != count):
        wanted = "one or more" if count is None else f"{count:,}"
        raise ValueError(f"{path}: it holds {len(found):,} prompts, expected {wanted}")
    return tuple(found.values())


def nested(prompts: Sequence[Prompt], name: str) -> tuple[Prompt, ...]:
    """The prompts in an order whose beginnings, of any length, are fair samples: each category is less than one prompt
    off its share.

    Which of a category come first is decided by a hash of the benchmark's name and their ids, so it is the same
    whatever the order of the file. When the next of a category is due is Tijdeman's rule ("The chairman assignment
    problem", 1980), which keeps every count within 1 - 1/(2k - 2) of its share, k the number of categories.

    >>> pets = [Prompt(f"{kind}_{n}", ("…",), kind) for kind, most in (("cat", 4), ("dog", 2)) for n in range(most)]
    >>> [prompt.category for prompt in nested(pets, "pets")]
    ['cat', 'dog', 'cat', 'cat', 'dog', 'cat']
    """
    groups = defaultdict[str, list[Prompt]](list)
    for prompt in sorted(prompts, key=lambda one: _hash(name, one.id)):
        groups[prompt.category].append(prompt)
    margin = Fraction(1, max(2, 2 * len(groups) - 2))
    waiting = [  # from which share of all on each may be taken, by which it has to be, what decides between equals
        ((place + margin) / len(own), (place + 1 - margin) / len(own), _hash(name, prompt.id), prompt)
        for own in groups.values() for place, prompt in enumerate(own)
    ]  # fmt: skip
    waiting.sort(key=lambda one: one[0], reverse=True)
    order, due = list[Prompt](), list[tuple[Fraction, bytes, Prompt]]()
    for taken in range(1, len(prompts) + 1):
        while waiting and waiting[-1][0] * len(prompts) <= taken:
            heappush(due, waiting.pop()[1:])
        order.append(heappop(due)[-1])
    return tuple(order)


def clip_seed(seed: int, id: str, sample: int) -> int:
    """The seed of one clip, below 2**63: the same whatever is drawn before it, beside it, or elsewhere.

    >>> clip_seed(0, "kettle_boiling_03", 1)
    2179584890258951350
    """
    return int.from_bytes(_hash(seed, id, sample)[:8]) >> 1


def prompts_hash(prompts: Sequence[Prompt]) -> str:
    """SHA-256 of ids and texts in their order: two runs with the same were told the same."""
    return _hash(*((prompt.id, *prompt.texts) for prompt in prompts)).hex()


def words(name: str) -> str:
    """
    >>> words("PeelLongCarrots"), words("TVRepair"), words("snow_rolling")
    ('peel long carrots', 'tv repair', 'snow rolling')
    """
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[_\W]+", " ", name)
    return " ".join(parted.lower().split())


def _hash(*parts: object) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def _cleaned(text: str, where: str) -> str:
    try:
        found = clean(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if not found:
        raise ValueError(f"{where}: the prompt is empty")
    return found


# --- formats: where a prompt stands, its id, its texts and its category ---------------------------------------------

Rows = Iterator[tuple[str, str, Sequence[str], str]]


def _chronomagic(path: Path) -> Rows:
    named = ("caption_id", "caption") if path.suffix.lower() == ".json" else ("videoid", "name")
    for where, row in _objects(path, named):
        id, text = (row[name] for name in named)
        if text == "none":
            raise ValueError(f"{where}: the caption is 'none', as in files for UMT-FVD: expected one for UMTScore")
        yield where, id, (text,), re.sub(r"_[\d.]+$", "", id)


def _msrvtt(path: Path) -> Rows:
    raw = _json(path)
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: expected an object with videos and sentences, got {short(raw)}")
    captions = defaultdict[str, dict[int, str]](dict)
    sentence, video = {"video_id": str, "caption": str, "sen_id": int}, {"video_id": str, "split": str}
    for where, row in _entries(path, raw.get("sentences"), sentence, "sentences"):
        own = captions[row["video_id"]]
        if row["sen_id"] in own:
            raise ValueError(f"{where}: sen_id {row['sen_id']} of {short(row['video_id'])} occurs twice")
        own[row["sen_id"]] = row["caption"]
    for where, row in _entries(path, raw.get("videos"), video, "videos"):
        if row["split"] == SPLIT:
            if not (own := captions.get(row["video_id"], {})):
                raise ValueError(f"{where}: no sentence is of {short(row['video_id'])}")
            yield where, row["video_id"], [own[number] for number in sorted(own)], str(row.get("category", ""))


def _classes(path: Path) -> Rows:
    if path.is_dir():
        for folder in sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith(".")):
            yield str(folder), folder.name, (words(folder.name),), ""
    elif path.suffix.lower() in (".csv", ".json"):
        yield from _table(path)
    else:
        for _, where, line in _lines(path):
            name = re.fullmatch(r"(?:\d+\s+)?(\S+)", line)
            if name is None:
                raise ValueError(f"{where}: {short(line)}, expected the name of a class, such as '7 SnowRolling'")
            yield where, name[1], (words(name[1]),), ""


def _numbered(path: Path) -> Rows:
    for number, where, line in _lines(path):
        yield where, f"{number:04}", (line,), ""


def _table(path: Path) -> Rows:
    for where, row in _objects(path, ("id", "prompt")):
        check_keys(row, dict.fromkeys(("id", "prompt", "category")), (), where)
        check(row.get("category", ""), str, f"{where}: category")
        yield where, row["id"], (row["prompt"],), row.get("category", "")


FORMATS: Mapping[str, Callable[[Path], Rows]] = {
    "chronomagic": _chronomagic, "msrvtt": _msrvtt, "classes": _classes, "lines": _numbered, "table": _table,
}  # fmt: skip


def _objects(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON list, or the rows of a CSV, in which what is `needed` is text."""
    if path.suffix.lower() == ".json":
        yield from _entries(path, _json(path), dict.fromkeys(needed, str))
        return
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        names = reader.fieldnames or ()
        if not set(needed) <= set(names) or len(set(names)) != len(names):
            expected = " and ".join(needed)
            raise ValueError(f"{path}, line 1: columns {short(list(names))}, expected {expected} among them")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise ValueError(f"{where}: it has not {len(names)} cells, as the head has")
            yield where, dict(row)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.reader.line_num}: {error}") from None


def _entries(
    path: Path, raw: Any, needed: Mapping[str, type], name: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list, in which what is `needed` is of its type."""
    place = f"{path}: {name}" if name else str(path)
    if not isinstance(raw, list):
        raise ValueError(f"{place} is {short(raw)}, expected a list of objects with {', '.join(needed)}")
    for number, row in enumerate(raw):
        where = f"{place}[{number}]"
        check(row, dict, where)
        check_keys(row, {**row, **needed}, needed, where)
        for one, kind in needed.items():
            check(row[one], kind, f"{where}: {one}")
        yield where, row


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """The number, the place and the text of each line that is not blank."""
    for number, line in enumerate(_text(path).split("\n"), 1):  # at nothing else: a prompt may hold other breaks
        if text := line.strip():
            yield number, f"{path}, line {number}", text


def _json(path: Path) -> Any:
    text = _text(path)
    try:
        return parse_json(text.encode())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {printable(error)}") from None


def _text(path: Path) -> str:
    check_is_file(path)
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: a file of prompts has at most {LARGEST:,} bytes")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text ({error.reason} at byte {error.start})") from None
