"""What a benchmark will take, before anything is computed: what is missing, how long, how much disk."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivmix.benchmarks.description import Description
from ivmix.benchmarks.files import State
from ivmix.benchmarks.needs import needs, pair_needs
from ivmix.benchmarks.plan import check_numbers
from ivmix.benchmarks.setup import Given, paper_arms
from ivmix.evaluation.arms import Arm, slug
from ivmix.evaluation.paper import models_of
from ivmix.evaluation.parts import read_metadata
from ivmix.pairs.description import EMBEDDED
from ivmix.pairs.description import describe as describe_pair
from ivmix.typed import whole

PAPER = {"ddim": 21.0, "zigzag": 92.0, "official": 92.0}  # seconds a clip on an RTX 4090, arXiv 2410.04171


@dataclass(frozen=True)
class Cost:
    """Of one row."""

    label: str
    clips: int
    drawn: int
    seconds: float | None  # a clip, measured here
    paper: float | None  # as the paper has it

    @property
    def hours(self) -> float | None:
        return None if self.seconds is None else (self.clips - self.drawn) * self.seconds / 3600

    @property
    def text(self) -> str:
        paper = ""
        if not self.clips:
            return f"{self.label}: as many clips as there are prompts"
        if self.paper is not None:
            paper = f"; at the paper's {self.paper:g} s on an RTX 4090 {duration(self.clips * self.paper)}"
        if self.seconds is None:
            return f"{self.label}: {self.clips:,} clips, not timed here yet (draw a few: --clips 8 --seeds 1){paper}"
        left = self.clips - self.drawn
        said = f"{left:,} of {self.clips:,} clips left at {duration(self.seconds)}, {duration(left * self.seconds)}"
        return f"{self.label}: {said}{paper}"


@dataclass(frozen=True)
class Estimate:
    name: str
    clips: int  # a row; 0 where the number of prompts is not known
    needs: tuple[State, ...]
    costs: tuple[Cost, ...]
    gigabytes: float  # of lossless clips
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """For people."""
        words = {"here": "there", "download": "download", "missing": "MISSING"}
        said = [f"{self.name}: {self.clips:,} clips a row" if self.clips else f"{self.name}: all prompts of a file"]
        said += [f"  {words[need.kind]:9s} {need.text}" for need in self.needs]
        said += [f"  draw      {cost.text}" for cost in self.costs]
        if hours := [cost.hours for cost in self.costs if cost.hours is not None]:
            part = "" if len(hours) == len(self.costs) else " of the rows that were timed"
            said.append(f"  time      {duration(3600 * sum(hours))}{part}, without measuring")
        if self.gigabytes:
            said.append(f"  disk      {size(self.gigabytes)} of lossless clips, unless --keep features")
        return [*said, *(f"  note      {note}" for note in self.notes)]


def duration(seconds: float) -> str:
    """
    >>> duration(0.4), duration(90), duration(5400), duration(4e6)
    ('0.4 s', '1.5 min', '1.5 h', '1,111.1 h')
    """
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.2g} s"


def size(gigabytes: float) -> str:
    """
    >>> size(0.00042), size(17.03)
    ('0.42 MB', '17.0 GB')
    """
    return f"{gigabytes:,.1f} GB" if gigabytes >= 1 else f"{1000 * gigabytes:.3g} MB"


def total(estimates: Sequence[Estimate]) -> str:
    """Of several benchmarks, in a line."""
    said = [f"{size(sum(one.gigabytes for one in estimates))} of lossless clips, unless --keep features"]
    costs = [cost for one in estimates for cost in one.costs]
    if timed := [cost for cost in costs if cost.paper is not None]:
        hours = duration(sum(cost.clips * (cost.paper or 0) for cost in timed))
        rows = ", ".join(dict.fromkeys(cost.label for cost in timed))
        said.append(f"at the paper's seconds on an RTX 4090 {hours} for {rows}")
    return f"in all: {'; '.join(said)}"


def estimate(
    description: Description, given: Given, pair: str | None, arms: Sequence[Arm] | None, full: bool, folder: Path
) -> Estimate:
    """Of drawing with a `pair`, or of measuring files. Nothing is loaded, downloaded or computed. ValueError for what
    cannot be."""
    wanted, prompts = needs(description, given)
    known = len(prompts) if prompts is not None else None if given.prompts else description.prompts.count
    samples = description.samples if given.samples is None else given.samples
    check_numbers(known, given.clips, samples, given.seed, given.batch_size)
    clips = (given.clips or known or 0) * samples
    rows, gigabytes, notes = tuple[Cost, ...](), 0.0, list[str]()
    if pair is not None:
        raw, _, name = describe_pair(pair)
        wanted += pair_needs(raw, name)
        arms = paper_arms(raw["defaults"]["sampler"]) if arms is None else arms
        rows = tuple(cost(arm, raw, clips, folder) for arm in arms)
        if given.keep == "clips":
            frames = whole("frames", raw["frames"] if given.frames is None else given.frames, 1)
            gigabytes = len(rows) * clips * 3 * frames * raw["height"] * raw["width"] / 1e9
        if name in EMBEDDED and description.published:
            notes.append(f"pair {name} knows few words, and can draw no prompt of others: name one by --pair")
        if full:
            notes.append("--full draws rows beside these, which are known once the pair is loaded")
    return Estimate(description.name, clips, wanted, rows, gigabytes, tuple(notes))


def cost(arm: Arm, pair: Mapping[str, Any], clips: int, folder: Path) -> Cost:
    """Of one row, measured of what is drawn in the folder."""
    name = re.compile(rf"{slug(arm.label)}-\d+-\d{{6}}\.safetensors")
    parts = (read_metadata(path) for path in sorted(folder.glob("parts/clips/*")) if name.fullmatch(path.name))
    known = [part for part in parts if part is not None]
    drawn = sum(len(part["settings"]["ids"]) for part in known)
    seconds = sum(part["cost"]["seconds"] for part in known) / drawn if drawn else None
    sampler = arm.options.get("sampler", pair["defaults"]["sampler"])
    paper = PAPER.get(sampler) if models_of(pair["name"]) else None
    return Cost(arm.label, clips, min(drawn, clips), seconds, paper)
