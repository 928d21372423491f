"""From what somebody gives, paths and names, to what is to be computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from ivmix.benchmarks.clips import Sampled
from ivmix.benchmarks.description import Description
from ivmix.benchmarks.files import find
from ivmix.benchmarks.layouts import check_names
from ivmix.benchmarks.layouts import find as find_videos
from ivmix.benchmarks.measuring import Meter
from ivmix.benchmarks.plan import Plan
from ivmix.benchmarks.prompts import Prompt, nested, read_prompts
from ivmix.benchmarks.rules import ClipRule
from ivmix.benchmarks.run import REAL, Task
from ivmix.benchmarks.videos import Files
from ivmix.evaluation.arms import ARMS, Arm, check_arms
from ivmix.evaluation.extractors import UMTScore, load_extractor
from ivmix.evaluation.features import FeatureSet
from ivmix.evaluation.protocols import PROTOCOLS
from ivmix.generation.text_to_video import TextToVideo
from ivmix.models import load_wordpiece
from ivmix.pairs.pair import fingerprint
from ivmix.typed import short


@dataclass(frozen=True)
class Given:
    """What a user has: places of files, and how much is to be computed."""

    prompts: str | None = None  # in place of where the benchmark has them from
    real: Sequence[str] = ()  # a folder of videos, or PROTOCOL=FILE of features
    pool: Sequence[str] = ()  # PROTOCOL=FILE of features of more real clips
    extractors: Mapping[str, str] = field(default_factory=dict)  # weights by protocol
    vocabulary: str | None = None  # BERT's, for UMTScore
    bn_eps: float | None = None  # I3D's, another than the protocol's code has
    videos: Sequence[str] = ()  # folders to measure in place of drawing
    clips: int | None = None  # prompts, from the first of the order on
    samples: int | None = None  # of each
    seed: int = 0
    batch_size: int = 8
    frames: int | None = None  # of a drawn clip
    keep: Literal["clips", "features"] = "clips"


def by_protocol(entries: Sequence[str], option: str) -> dict[str, str]:
    """["chronomagic-umt=gt.pt"] -> {"chronomagic-umt": "gt.pt"}. ValueError for what is no such entry."""
    found = {}
    for entry in entries:
        name, equals, path = entry.partition("=")
        if not equals or name not in PROTOCOLS or not path:
            raise ValueError(f"{option} {entry}: expected PROTOCOL=FILE with one of {', '.join(PROTOCOLS)}")
        if name in found:
            raise ValueError(f"{option} {entry}: {name} is given twice")
        found[name] = path
    return found


def paper_arms(sampler: str) -> tuple[Arm, ...]:
    """The rows of the paper's tables that are drawn here: the video model alone, IV-Mixed as the pair's default sampler
    has it, FreeInit."""
    mixed = sampler if sampler in ("zigzag", "official") else "zigzag"
    return ARMS[0], Arm("IV-Mixed", {"sampler": mixed}), Arm("FreeInit", {"sampler": "freeinit"})


def make_plan(description: Description, given: Given) -> Plan:
    """Reads the prompts, which are fetched if need be. ValueError for prompts whose clips could have no files."""
    path = find(description.prompts.file, given.prompts, "prompts", "--prompts")
    prompts = read_prompts(path, description.prompts.format, None if given.prompts else description.prompts.count)
    samples = description.samples if given.samples is None else given.samples
    check_names(description.layout, entries(prompts), samples)
    clips = len(prompts) if given.clips is None else given.clips
    return Plan(nested(prompts, description.name), clips, samples, given.seed, given.batch_size)


def entries(prompts: Sequence[Prompt]) -> list[tuple[str, str]]:
    return [(prompt.id, prompt.texts[0]) for prompt in prompts]


def make_meters(description: Description, given: Given, device: torch.device) -> list[Meter]:
    """Loads every network that is given. ValueError for one that the benchmark measures nothing by."""
    wanted = tuple(dict.fromkeys(description.distances.values()))
    found = []
    for name, source in given.extractors.items():
        if name not in wanted:
            raise ValueError(f"--extractor {name}: {description.name} is measured by {', '.join(wanted)}")
        eps = given.bn_eps if name in ("cmvq-videogpt", "cd-fvd-i3d") else None
        extractor = load_extractor(name, source, bn_eps=eps, device=device)
        settings, scores = extractor.settings, None
        if given.vocabulary is not None and extractor.extraction.network == "umt":
            texts = load_wordpiece(given.vocabulary)
            scores = UMTScore(extractor, texts)
            settings |= {"vocabulary": texts.size}
        measured = None if scores is None else (lambda clip, captions, of=scores: of(clip, captions, 0.0))
        found.append(Meter(name, extractor, settings, measured, extractor.extraction.preprocessing))
    return found


def make_task(
    description: Description, given: Given, folder: Path, model: TextToVideo | None, arms: Sequence[Arm],
    device: torch.device,
) -> Task:  # fmt: skip
    """All that is needed, loaded and checked, before anything is drawn; videos need neither `model` nor `arms`.
    FileNotFoundError and ValueError for what is missing or does not fit."""
    plan = make_plan(description, given)
    rows: list[Sampled | Files] = []
    if given.videos:
        rows = [files_of(description, plan, Path(folder)) for folder in given.videos]
    else:
        assert model is not None
        check_arms(arms)
        drawn = [with_frames(arm, given.frames) for arm in arms]
        weights = fingerprint(model.pair)
        rows = [Sampled(arm, model, weights, folder, description.layout) for arm in drawn]
    meters = make_meters(description, given, device)
    stored = stored_references(description, given)
    lacking = [meter.name for meter in meters if meter.name not in stored]
    pools = {name: FeatureSet.load(path) for name, path in by_protocol(given.pool, "--pool").items()}
    for name, file in description.reference.pool.items():
        if name not in pools and any(meter.name == name for meter in meters):
            pools[name] = FeatureSet.load(find(file, None, f"features of more real clips by {name}", "--pool"))
    real = real_files(description, given, plan) if lacking else None
    return Task(description, plan, rows, meters, folder, stored, pools, real, given.keep)


def with_frames(arm: Arm, frames: int | None) -> Arm:
    """ValueError for an arm that begins from clips, of which a public benchmark has none."""
    if "strength" in arm.options:
        raise ValueError(
            f"arm {short(arm.label)}: strength={arm.options['strength']!r}: a benchmark of prompts brings no clips to "
            "begin from, leave it out"
        )
    return arm if frames is None else replace(arm, options={"frames": frames, **arm.options})


def files_of(description: Description, plan: Plan, folder: Path) -> Files:
    """Anybody's clips of the benchmark's prompts. FileNotFoundError naming the first that are missing."""
    prompts = plan.prompts[: plan.clips + -plan.clips % plan.batch_size]  # whole batches are measured
    return named(folder.resolve().name, folder, description.layout, prompts, plan.samples, description.clip)


def named(
    label: str, folder: Path, layout: str, prompts: Sequence[Prompt], samples: int, rule: ClipRule
) -> Files:
    """Files of every prompt and sample, as a layout has them. FileNotFoundError for missing ones."""
    ids, numbers = zip(*((prompt.id, sample) for prompt in prompts for sample in range(1, samples + 1)), strict=True)
    return Files(label, ids, numbers, tuple(find_videos(folder, layout, entries(prompts), samples)), rule)


def stored_references(description: Description, given: Given) -> dict[str, FeatureSet]:
    """Features of real clips: those given, and those that the benchmark itself publishes of networks that are used."""
    named = by_protocol([entry for entry in given.real if not Path(entry).is_dir()], "--real")
    found = {name: FeatureSet.load(path) for name, path in named.items()}
    folder = any(Path(entry).is_dir() for entry in given.real)
    for name, file in description.reference.features.items():
        if name not in found and name in given.extractors and not folder:
            found[name] = FeatureSet.load(find(file, None, f"features of the reference by {name}", "--real"))
    return found


def real_files(description: Description, given: Given, plan: Plan) -> Files | None:
    """The reference's own clips, if a folder is given."""
    folders = [Path(entry) for entry in given.real if Path(entry).is_dir()]
    if not folders:
        return None
    if len(folders) > 1:
        raise ValueError(f"--real names {len(folders)} folders: expected one")
    reference, pattern = description.reference, description.reference.videos
    if "{id}" in pattern:
        return named(REAL, folders[0], pattern, plan.prompts, 1, reference.clip)
    return Files.of_pattern(REAL, folders[0], pattern, reference.clip)


