"""What was published on the four benchmarks: Tables 1 to 4 of the paper (arXiv 2410.04171) and ChronoMagic-Bench's
leaderboard (its repository at e6b75ff), with the doubt about each number beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ivmix.models.json_files import read_json

FILE = Path(__file__).with_name("paper.json")


@dataclass(frozen=True)
class Metric:
    label: str
    better: str  # "lower" or "higher"
    protocol: str = ""  # of a distance, where one is known: a name of `ivmix distance`
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A number in print."""

    value: float
    printed: float | None  # after ±, whatever it may be; None where nothing is
    doubts: tuple[str, ...]  # about it, the narrowest first


@dataclass(frozen=True)
class Row:
    model: str
    method: str  # "" on a leaderboard
    numbers: Mapping[str, Published]  # by metric; what is not in print is not there


@dataclass(frozen=True)
class Table:
    name: str
    source: str
    benchmark: str  # "ucf101", "msrvtt", "chronomagic-150" or "chronomagic-1649"
    rows: tuple[Row, ...]


@cache
def metrics() -> Mapping[str, Metric]:
    """What is published of the benchmarks, by the names that rows have for it."""
    return {
        name: Metric(**{**raw, "doubts": tuple(raw["doubts"])}) for name, raw in read_json(FILE)["columns"].items()
    }  # fmt: skip


@cache
def tables(benchmark: str | None = None) -> tuple[Table, ...]:
    """What is published, all or of one benchmark, the paper's tables first. ValueError for one that is none.

    >>> (paper, board) = tables("chronomagic-150")
    >>> ours = next(row for row in paper.rows if (row.model, row.method) == ("AnimateDiff", "IV-mixed"))
    >>> ours.numbers["umt_fvd"].value
    228.6
    """
    found = tuple(_table(raw) for raw in read_json(FILE)["tables"] if benchmark in (None, raw["benchmark"]))
    if not found:
        known = sorted({table.benchmark for table in tables()})
        raise ValueError(f"benchmark {benchmark!r}: expected one of {', '.join(known)}")
    return found


def models_of(pair: str) -> tuple[str, ...]:
    """What the tables call the video model of one of our public pairs; nothing for other pairs.

    >>> models_of("animatediff")
    ('AnimateDiff', 'AnimateDiff-V3')
    """
    return tuple(read_json(FILE)["pairs"].get(pair, ()))


def row_of(benchmark: str, pair: str, sampler: str) -> Row | None:
    """The paper's row of one of our pairs under one of our samplers, if it has one.

    >>> row_of("msrvtt", "modelscope", "zigzag").numbers["fvd_styleganv"].value
    603.31
    """
    methods = read_json(FILE)["samplers"].get(sampler, ())
    rows = (row for table in tables(benchmark) if table.source == "paper" for row in table.rows)
    return next((row for row in rows if row.model in models_of(pair) and row.method in methods), None)


def _table(raw: Mapping[str, Any]) -> Table:
    def row(one: Mapping[str, Any]) -> Row:
        numbers = {}
        for name, value in zip(raw["columns"], one["values"], strict=True):
            if value is not None:
                doubts = (*one.get("doubts", ()), *metrics()[name].doubts, *raw["doubts"])
                numbers[name] = Published(value[0], value[1] if len(value) > 1 else None, doubts)
        return Row(one["model"], one["method"], numbers)

    return Table(raw["name"], raw["source"], raw["benchmark"], tuple(map(row, raw["rows"])))
