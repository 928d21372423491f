"""What a benchmark will take, before anything is computed: what is missing, how long, how much disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ivmix.benchmarks.description import Description
from ivmix.benchmarks.files import State, state
from ivmix.benchmarks.setup import Given, by_protocol
from ivmix.evaluation.arms import slug
from ivmix.evaluation.parts import read_metadata
from ivmix.evaluation.protocols import PROTOCOLS

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


@dataclass(frozen=True)
class Estimate:
    needs: tuple[State, ...]
    costs: tuple[Cost, ...]
    gigabytes: float  # of lossless clips

    @property
    def missing(self) -> tuple[State, ...]:
        return tuple(need for need in self.needs if need.kind == "missing")


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


def costs(labels: Mapping[str, str], clips: int, folder: Path) -> list[Cost]:
    """Of rows, given as sampler by label: measured of what is drawn in the folder."""
    found = []
    for label, sampler in labels.items():
        parts = [read_metadata(path) for path in sorted(folder.glob(f"parts/clips/{slug(label)}-[0-9]*-*.safetensors"))]
        known = [part for part in parts if part is not None]
        drawn = sum(len(part["settings"]["ids"]) for part in known)
        seconds = sum(part["cost"]["seconds"] for part in known) / drawn if drawn else None
        found.append(Cost(label, clips, min(drawn, clips), seconds, PAPER.get(sampler)))
    return found


def lines(estimate: Estimate) -> list[str]:
    """For people."""
    words = {"here": "there    ", "download": "download ", "missing": "MISSING  "}
    said = [f"{words[need.kind]} {need.text}" for need in estimate.needs]
    said += [_cost(cost) for cost in estimate.costs]
    if hours := [cost.hours for cost in estimate.costs if cost.hours is not None]:
        part = "" if len(hours) == len(estimate.costs) else " of the rows that were timed"
        said.append(f"time      {sum(hours):.1f} h{part}, without measuring")
    if estimate.gigabytes:
        said.append(f"disk      {estimate.gigabytes:.1f} GB of lossless clips, unless --keep features")
    return said


def _cost(cost: Cost) -> str:
    paper = ""
    if cost.paper is not None:
        paper = f"; at the paper's {cost.paper:g} s on an RTX 4090 {cost.clips * cost.paper / 3600:.1f} h"
    if cost.seconds is None:
        return f"draw      {cost.label}: {cost.clips:,} clips, not timed here yet (draw a few: --clips 8){paper}"
    return (
        f"draw      {cost.label}: {cost.clips - cost.drawn:,} of {cost.clips:,} clips left at {cost.seconds:.1f} s: "
        f"{cost.hours:.1f} h{paper}"
    )
