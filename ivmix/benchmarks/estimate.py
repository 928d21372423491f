"""What a benchmark will take, before anything is computed: what is missing, how long, how much disk."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivmix.benchmarks.description import Description
from ivmix.benchmarks.files import State, state
from ivmix.benchmarks.prompts import read_prompts
from ivmix.benchmarks.setup import Given, by_protocol, paper_arms
from ivmix.evaluation.arms import Arm, slug
from ivmix.evaluation.paper import models_of
from ivmix.evaluation.parts import read_metadata
from ivmix.evaluation.protocols import PROTOCOLS
from ivmix.models.checkpoints import hub
from ivmix.pairs.description import describe as describe_pair
from ivmix.pairs.parts import named

WHERE = {  # networks that measure, as their users have them
    "torchscript": "i3d_torchscript.pt, hub:flateon/FVD-I3D-torchscript/i3d_torchscript.pt; a program, which is run",
    "i3d": "i3d_pretrained_400.pt of github.com/songweige/TATS, tats/fvd",
    "videomae": "vit_g_hybrid_pt_1200e_ssv2_ft.pth, hub:OpenGVLab/InternVideoMAE_models/…",
    "umt": "UMT-msrvtt-7k.pth, hub:lyx97/UMT-msrvtt-7k/ckpt_best.pth",
}
VOCABULARY = "BERT's vocab.txt, hub:google-bert/bert-large-uncased/vocab.txt"
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
            paper = f"; at the paper's {self.paper:g} s on an RTX 4090 {self.clips * self.paper / 3600:.1f} h"
        if self.seconds is None:
            return f"{self.label}: {self.clips:,} clips, not timed here yet (draw a few: --clips 8 --seeds 1){paper}"
        left = f"{self.clips - self.drawn:,} of {self.clips:,} clips left at {self.seconds:.1f} s"
        return f"{self.label}: {left}, {self.hours:.1f} h{paper}"


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
            said.append(f"  time      {sum(hours):.1f} h{part}, without measuring")
        if self.gigabytes:
            said.append(f"  disk      {self.gigabytes:.1f} GB of lossless clips, unless --keep features")
        return [*said, *(f"  note      {note}" for note in self.notes)]


def estimate(
    description: Description, given: Given, pair: str | None, arms: Sequence[Arm] | None, full: bool, folder: Path
) -> Estimate:
    """Of drawing with a `pair`, or of measuring files. Nothing is loaded, downloaded or computed."""
    prompts = given.clips or _count(description, given)
    clips = prompts * (description.samples if given.samples is None else given.samples)
    wanted, rows, size, notes = tuple(needs(description, given)), tuple[Cost, ...](), 0.0, list[str]()
    if pair is not None:
        raw, _, name = describe_pair(pair)
        wanted += pair_needs(raw, name)
        arms = paper_arms(raw["defaults"]["sampler"]) if arms is None else arms
        rows = tuple(cost(arm, raw, clips, folder) for arm in arms)
        if given.keep == "clips":
            size = len(rows) * clips * 3 * (given.frames or raw["frames"]) * raw["height"] * raw["width"] / 1e9
        if full:
            notes.append("--full draws rows beside these, which are known once the pair is loaded")
    return Estimate(description.name, clips, wanted, rows, size, tuple(notes))


def _count(description: Description, given: Given) -> int:
    """Of the prompts that are known, or in a file that is given; 0 where it cannot be read."""
    if given.prompts is None:
        return description.prompts.count or 0
    try:
        return len(read_prompts(Path(given.prompts), description.prompts.format))
    except (OSError, ValueError):
        return 0


def pair_needs(raw: Mapping[str, Any], name: str) -> tuple[State, ...]:
    """The files of a pair: those of the hub in its cache or to be downloaded, with their size where it is known."""
    sources = list(dict.fromkeys(source for _, source in named(raw) if source.startswith("hub:")))
    if not sources:
        return (State("here", f"pair {name}"),)
    known = raw.get("files", {})
    size = sum(known.get(source, {}).get("bytes", 0) for source in sources) / 1e9
    lacking = [source for source in sources if not hub.cached(hub.parse(source))]
    if not lacking:
        return (State("here", f"pair {name}: its repositories are in the cache"),)
    return (State("download", f"pair {name}: {size:.1f} GB in all, {', '.join(lacking)}"),)


def needs(description: Description, given: Given) -> list[State]:
    """Prompts, networks that measure and references: here, to be downloaded, or missing."""
    found = [state(description.prompts.file, given.prompts, "prompts", "--prompts")]
    named = by_protocol([entry for entry in given.real if not Path(entry).is_dir()], "--real")
    folder = next((entry for entry in given.real if Path(entry).is_dir()), None)
    for protocol in dict.fromkeys(description.distances.values()):
        found.append(_network(protocol, given.extractors.get(protocol)))
        if (reference := description.reference.features.get(protocol)) is not None or protocol in named:
            what = f"features of the reference by {protocol}"
            found.append(state(reference, named.get(protocol), what, "--real") if reference is not None
                         else State("here", f"{what}: {named[protocol]}"))  # fmt: skip
        elif folder is None:
            hint = description.reference.hint
            found.append(State("missing", f"reference: give a folder of videos by --real: {hint}"))
    if folder is not None:
        found.append(State("here", f"reference: {folder}"))
    if description.scores:
        if given.vocabulary is None:
            found.append(State("missing", f"vocabulary: give it by --vocabulary: {VOCABULARY}"))
        else:
            found.append(State("here", f"vocabulary: {given.vocabulary}"))
    return list(dict.fromkeys(found))


def _network(protocol: str, source: str | None) -> State:
    extraction = PROTOCOLS[protocol].extraction
    assert extraction is not None
    if source is None:
        hint = WHERE[extraction.network]
        return State("missing", f"network of {protocol}: give it by --extractor {protocol}=FILE: {hint}")
    if source.startswith("hub:"):
        return State("download", f"network of {protocol}: {source}")
    return State("here" if Path(source).exists() else "missing", f"network of {protocol}: {source}")


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
