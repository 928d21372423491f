"""What a public benchmark is, as data: its description, a JSON file beside this one or of one's own.

    {"format": 1, "name": "…", "about": "…", "licence": "…",
     "prompts": {"file": FILE, "format": "…", "count": 150}, "samples": 3, "layout": "{sample}/{id}.mp4",
     "distances": {"umt_fvd": "chronomagic-umt"}, "scores": ["umt_score"], "comparisons": ["parts"],
     "reference": {"features": {PROTOCOL: FILE}, "pool": {PROTOCOL: FILE}, "videos": "*/v_*.avi", "clip": CLIP,
                   "count": 150, "hint": "…"},
     "clip": CLIP, "unknown": ["…"], "published": "chronomagic-150"}

What the entries mean, and which may be missing, the classes below say; a FILE is a `FileFrom`, its source a path beside
the JSON, an address or `hub:owner/name/file`; a CLIP is a `ClipRule`. A file of one's own with "from" and the name of a
known benchmark is that one but for what it says: an entry takes another's place whole, but of prompts and reference
their entries do.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ivmix.benchmarks.files import ADDRESSES, FileFrom
from ivmix.benchmarks.layouts import check_layout
from ivmix.benchmarks.prompts import FORMATS
from ivmix.benchmarks.rules import ClipRule
from ivmix.evaluation.paper import metrics, tables
from ivmix.evaluation.protocols import PROTOCOLS
from ivmix.models.json_files import read_json
from ivmix.models.quoting import printable
from ivmix.samplers.base import one_of
from ivmix.typed import check, check_keys, short, whole

FORMAT = 1
NAMES = ("ucf101", "msrvtt", "chronomagic-150", "chronomagic-1649")
SCORES = ("umt_score",)  # what clips are given here; what else is published needs judges that are not
Comparison = Literal["parts", "tiled", "pooled"]


@dataclass(frozen=True)
class PromptsFrom:
    """Prompts of a `format` of `ivmix.benchmarks.prompts`, and how many they are, where that is known."""

    file: FileFrom
    format: str
    count: int | None = None

    def __post_init__(self) -> None:
        one_of("format", self.format, FORMATS)
        if self.count is not None:
            whole("count", self.count, 1, otherwise=", or null")


@dataclass(frozen=True)
class Reference:
    """What distances are to: `features` as somebody stored them, by protocol, or `videos`, a pattern of the paths below
    a folder ("{id}" in it stands for the id of a prompt), of which each gives the clip that `clip` says.

    `pool` is of further real videos, for distances between real ones; `count` how many the reference has; `hint` how to
    get the videos.
    """

    features: Mapping[str, FileFrom] = field(default_factory=dict)
    pool: Mapping[str, FileFrom] = field(default_factory=dict)
    videos: str = ""
    clip: ClipRule = field(default_factory=ClipRule)
    count: int | None = None
    hint: str = ""

    def __post_init__(self) -> None:
        for name in (*self.features, *self.pool):
            one_of("protocol", name, PROTOCOLS)
        if Path(self.videos).is_absolute() or ".." in Path(self.videos).parts:
            raise ValueError(f"videos is {self.videos!r}: expected a pattern below a folder, such as '*/*.avi'")
        if self.count is not None:
            whole("count", self.count, 1, otherwise=", or null")


@dataclass(frozen=True)
class Description:
    """A benchmark: what is drawn, under which names, what is measured of it, and what it is compared with.

    Of each prompt `samples` clips are drawn, kept and looked for by `layout`. `distances` gives each metric of
    `ivmix.evaluation.paper.metrics` the protocol that computes it. `comparisons` are how the samples of a prompt meet
    one reference, the first the main one: "parts", every sample number a set of its own, and the mean of their
    distances; "tiled", all clips against the reference as often as there are samples; "pooled", all against it once.
    `clip` is what is taken of a video file that was not drawn here. `unknown` are sentences: what the paper does not
    say, and what is done here. `published` is the benchmark's name in `ivmix.evaluation.paper.tables`, "" for none.

    >>> found = describe("chronomagic-150")
    >>> found.samples, found.layout, found.distances, found.comparisons
    (3, '{sample}/{id}.mp4', {'umt_fvd': 'chronomagic-umt'}, ('parts',))
    """

    name: str
    about: str
    licence: str
    prompts: PromptsFrom
    samples: int
    layout: str
    distances: Mapping[str, str] = field(default_factory=dict)
    scores: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ("parts",)
    reference: Reference = field(default_factory=Reference)
    clip: ClipRule = field(default_factory=ClipRule)
    unknown: tuple[str, ...] = ()
    published: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", self.name):
            raise ValueError(f"name is {short(self.name)}: expected 1 to 64 of a-z, 0-9, '.', '_', '-'")
        whole("samples", self.samples, 1)
        check_layout(self.layout, self.samples)
        known, networks = metrics(), [name for name, one in PROTOCOLS.items() if one.extraction is not None]
        for name, protocol in self.distances.items():
            one_of("distances", name, [one for one, metric in known.items() if metric.protocol])
            one_of(f"distances: {name}", protocol, networks)
        for name in self.scores:
            one_of("scores", name, SCORES)
        if not self.distances and not self.scores:
            raise ValueError("distances and scores are empty: expected at least one")
        if not self.comparisons or len(set(self.comparisons)) < len(self.comparisons):
            expected = ", ".join(get_args(Comparison))
            raise ValueError(f"comparisons is {list(self.comparisons)}: expected some of {expected}, none twice")
        if self.published:
            tables(self.published)


def describe(name_or_path: str | Path) -> Description:
    """A known benchmark, or that of a JSON file. ValueError, naming file, entry, value and what is accepted."""
    if (name := str(name_or_path)) in NAMES:
        return _read(Path(__file__).with_name(f"{name}.json"))
    if not Path(name_or_path).is_file():
        raise ValueError(f"benchmark {name!r}: expected one of {', '.join(NAMES)}, or a JSON file that describes one")
    found = _read(Path(name_or_path))
    if found.name in NAMES:
        raise ValueError(f"{name}: name is {found.name!r}, which is a known benchmark's: expected another")
    return found


def _read(path: Path) -> Description:
    raw = read_json(path)
    if (found := raw.pop("format", None)) != FORMAT:
        raise ValueError(f"{path} has format {short(found)}: this version reads format {FORMAT}")
    raw = _placed(raw, path.parent)
    if "from" in raw:
        check_keys(raw, {**get_type_hints(Description), "from": str}, ("name",), str(path))
        try:
            one_of("from", origin := raw.pop("from"), NAMES)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        raw = _over(read_json(Path(__file__).with_name(f"{origin}.json")), raw)
        del raw["format"]
    return _made(Description, raw, str(path))


def _over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    def joined(name: str) -> Any:
        both = name in ("prompts", "reference") and isinstance(own[name], dict)
        return {**base.get(name, {}), **own[name]} if both else own[name]

    return {**base, **{name: joined(name) for name in own}}


def _placed(raw: Any, folder: Path) -> Any:
    """Sources that are paths, so that they hold anywhere."""
    if isinstance(raw, list):
        return [_placed(one, folder) for one in raw]
    if not isinstance(raw, dict):
        return raw
    placed = {name: _placed(value, folder) for name, value in raw.items()}
    source = raw.get("source")
    if isinstance(source, str) and source and not source.startswith((*ADDRESSES, "hub:")):
        placed["source"] = os.path.abspath(folder / source)
    return placed


def _made(hint: Any, raw: Any, where: str) -> Any:
    """A value of a type from JSON: dataclasses of objects, tuples of lists. ValueError naming what is not of it."""
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        check(raw, dict, where)
        needed = [one.name for one in fields(hint) if one.default is MISSING and one.default_factory is MISSING]
        check_keys(raw, hints, needed, where)
        values = {name: _made(hints[name], value, f"{where}: {name}") for name, value in raw.items()}
        try:
            return hint(**values)  # type: ignore[operator]
        except ValueError as error:
            raise ValueError(f"{where}: {printable(error)}") from None
    if get_origin(hint) is tuple:
        check(raw, list, where)
        return tuple(_made(get_args(hint)[0], value, f"{where}[{place}]") for place, value in enumerate(raw))
    if get_origin(hint) is Mapping:
        check(raw, dict, where)
        return {name: _made(get_args(hint)[1], value, f"{where}: {printable(name, 60)}") for name, value in raw.items()}
    check(raw, hint, where)
    return raw
