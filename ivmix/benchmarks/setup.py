"""From what somebody gives, paths and names, to what is to be computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from ivmix.benchmarks.clips import Sampled
from ivmix.benchmarks.description import Description
from ivmix.benchmarks.files import find, other_file
from ivmix.benchmarks.layouts import check_names
from ivmix.benchmarks.layouts import find as find_videos
from ivmix.benchmarks.measuring import Meter, Scorer
from ivmix.benchmarks.plan import Plan, check_numbers
from ivmix.benchmarks.prompts import Prompt, nested, read_prompts
from ivmix.benchmarks.rules import ClipRule
from ivmix.benchmarks.run import REAL, Task
from ivmix.benchmarks.videos import Files
from ivmix.evaluation.arms import ARMS, Arm, check_arms, slug
from ivmix.evaluation.extractors import UMTScore, extraction_of, load_extractor
from ivmix.evaluation.features import FeatureSet
from ivmix.evaluation.protocols import PROTOCOLS
from ivmix.generation.text_to_video import TextToVideo
from ivmix.models import load_wordpiece
from ivmix.pairs.pair import Pair, fingerprint
from ivmix.typed import short, whole


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
    clips = len(prompts) if given.clips is None else given.clips
    check_numbers(len(prompts), clips, samples, given.seed, given.batch_size)
    check_names(description.layout, entries(prompts), samples)
    return Plan(nested(prompts, description.name), clips, samples, given.seed, given.batch_size)


def entries(prompts: Sequence[Prompt]) -> list[tuple[str, str]]:
    return [(prompt.id, prompt.texts[0]) for prompt in prompts]


def check_measured(description: Description, given: Given) -> None:
    """ValueError for a network or features by which the benchmark measures nothing."""
    wanted = tuple(dict.fromkeys(description.distances.values()))
    for option, names in (
        ("extractor", given.extractors), ("real", by_protocol(given_files(given.real), "--real")),
        ("pool", by_protocol(given.pool, "--pool")),
    ):  # fmt: skip
        if strange := [name for name in names if name not in wanted]:
            raise ValueError(f"--{option} {strange[0]}: {description.name} is measured by {', '.join(wanted)}")


def check_given(description: Description, given: Given) -> None:
    """What can be known before a pair is fetched and loaded: FileNotFoundError for a place where nothing is, ValueError
    for what does not fit; reads the prompts."""
    check_measured(description, given)
    sets = ("--real", given_files(given.real)), ("--pool", given.pool)
    for what, place in (
        *((f"--extractor {name}", source) for name, source in given.extractors.items()),
        *((f"{option} {name}", path) for option, named in sets for name, path in by_protocol(named, option).items()),
        ("--vocabulary", given.vocabulary),
    ):  # fmt: skip
        if place is not None and not place.startswith("hub:") and not Path(place).exists():
            raise FileNotFoundError(f"{what}: no file or folder {place}")
    make_plan(description, given)


def make_meters(description: Description, given: Given, device: torch.device) -> list[Meter]:
    """Loads every network that is given. ValueError for one that the benchmark measures nothing by."""
    check_measured(description, given)
    with_eps = [name for name in given.extractors if extraction_of(name).bn_eps is not None]
    with_texts = [name for name in given.extractors if extraction_of(name).network == "umt"]
    if given.bn_eps is not None and not with_eps:
        raise ValueError(f"--bn-eps {given.bn_eps:g}: no --extractor is an I3D that has it")
    if given.vocabulary is not None and not (with_texts and description.scores):
        raise ValueError(f"--vocabulary {given.vocabulary}: no --extractor reads captions for a score")
    found = []
    for name, source in given.extractors.items():
        eps = given.bn_eps if name in with_eps else None
        extractor = load_extractor(name, source, bn_eps=eps, device=device)
        scorer = None
        if given.vocabulary is not None and name in with_texts:
            scorer = make_scorer(UMTScore(extractor, load_wordpiece(given.vocabulary)))
        found.append(Meter(name, extractor, extractor.settings, scorer, extractor.extraction.preprocessing))
    return found


def make_scorer(score: UMTScore) -> Scorer:
    return Scorer(
        lambda clip, captions: score(clip, captions, 0.0), {"vocabulary": score.texts.sha256},
        lambda captions: score.texts(captions).cut,
    )  # fmt: skip


def make_task(
    description: Description, given: Given, folder: Path, model: TextToVideo | None, arms: Sequence[Arm],
    device: torch.device,
) -> Task:  # fmt: skip
    """All that is needed, loaded and checked, before anything is drawn; videos need neither `model` nor `arms`.
    FileNotFoundError and ValueError for what is missing or does not fit."""
    plan = make_plan(description, given)
    meters = make_meters(description, given, device)
    rows: list[Sampled | Files] = []
    if given.videos:
        rows = [files_of(description, plan, *one) for one in labelled(given.videos).items()]
    else:
        assert model is not None
        check_arms(arms)
        drawn = [with_frames(arm, given.frames) for arm in arms]
        for arm in drawn:
            check_frames(arm, model.pair, meters)
        weights = fingerprint(model.pair)
        rows = [Sampled(arm, model, weights, folder, description.layout) for arm in drawn]
    stored = stored_references(description, given)
    lacking = [meter.name for meter in meters if meter.name not in stored]
    real = real_files(description, given, plan.prompts)
    if real is not None and not lacking:
        raise ValueError("--real names a folder, but no --extractor is left to measure its videos: leave it out")
    pools = {name: FeatureSet.load(path) for name, path in by_protocol(given.pool, "--pool").items()}
    for name, file in description.reference.pool.items():
        if name not in pools and any(meter.name == name for meter in meters):
            pools[name] = FeatureSet.load(find(file, None, f"features of more real clips by {name}", "--pool"))
    return Task(description, plan, rows, meters, folder, stored, pools, real, given.keep, doubts(description, given))


def doubts(description: Description, given: Given) -> tuple[str, ...]:
    """Of files that were given in place of the known ones, and are others."""
    features = by_protocol(given_files(given.real), "--real")
    pairs = [("prompts", description.prompts.file, given.prompts)]
    pairs += [(f"features of the reference by {protocol}", file, features.get(protocol))
              for protocol, file in description.reference.features.items()]  # fmt: skip
    found = ((what, other_file(Path(path), file)) for what, file, path in pairs if path is not None)
    return tuple(f"{what}: {other}" for what, other in found if other)


def with_frames(arm: Arm, frames: int | None) -> Arm:
    """ValueError for an arm that begins from clips, of which a public benchmark has none."""
    if "strength" in arm.options:
        raise ValueError(
            f"arm {short(arm.label)}: strength={arm.options['strength']!r}: a benchmark of prompts brings no clips to "
            "begin from, leave it out"
        )
    return arm if frames is None else replace(arm, options={"frames": frames, **arm.options})


def check_frames(arm: Arm, pair: Pair, meters: Sequence[Meter]) -> None:
    """ValueError for clips that the pair cannot draw, or shorter than what measures them is shown."""
    frames = whole("frames", arm.options.get("frames", pair.frames), 1)
    try:
        pair.latent_shape(frames, pair.height, pair.width)
        for meter in meters:
            if meter.shown is not None:
                meter.shown.indices(frames)
    except ValueError as error:
        raise ValueError(f"arm {short(arm.label)}: {error} (--frames)") from None


def labelled(folders: Sequence[str]) -> dict[str, Path]:
    """Folders by their names, after those of as many folders above as tell them apart.

    >>> list(labelled(["a/videos", "b/videos"]))
    ['a/videos', 'b/videos']
    """
    paths = [Path(folder).resolve() for folder in folders]
    for names in range(1, max(len(path.parts) for path in paths)):
        found = {"/".join(path.parts[-names:]): path for path in paths}
        if len({slug(REAL), *map(slug, found)}) > len(paths):
            return found
    raise ValueError(f"--videos {', '.join(folders)}: expected folders whose paths differ by letters or digits")


def files_of(description: Description, plan: Plan, label: str, folder: Path) -> Files:
    """Anybody's clips of the benchmark's prompts. FileNotFoundError naming the first that are missing."""
    prompts = plan.prompts[: plan.clips + -plan.clips % plan.batch_size]  # whole batches are measured
    return named(label, folder, description.layout, prompts, plan.samples, description.clip)


def named(
    label: str, folder: Path, layout: str, prompts: Sequence[Prompt], samples: int, rule: ClipRule
) -> Files:
    """Files of every prompt and sample, as a layout has them. FileNotFoundError for missing ones."""
    ids, numbers = zip(*((prompt.id, sample) for prompt in prompts for sample in range(1, samples + 1)), strict=True)
    return Files(label, ids, numbers, tuple(find_videos(folder, layout, entries(prompts), samples)), rule)


def stored_references(description: Description, given: Given) -> dict[str, FeatureSet]:
    """Features of real clips: those given, and those that the benchmark itself publishes of networks that are used."""
    named = by_protocol(given_files(given.real), "--real")
    found = {name: FeatureSet.load(path) for name, path in named.items()}
    folder = any(Path(entry).is_dir() for entry in given.real)
    for name, file in description.reference.features.items():
        if name not in found and name in given.extractors and not folder:
            found[name] = FeatureSet.load(find(file, None, f"features of the reference by {name}", "--real"))
    return found


def given_files(entries: Sequence[str]) -> list[str]:
    """Those of --real that are no folder."""
    if missing := [entry for entry in entries if "=" not in entry and not Path(entry).is_dir()]:
        raise FileNotFoundError(f"--real {missing[0]}: no such folder; expected one of videos, or PROTOCOL=FILE")
    return [entry for entry in entries if not Path(entry).is_dir()]


def real_files(description: Description, given: Given, prompts: Sequence[Prompt]) -> Files | None:
    """The reference's own clips, if a folder is given."""
    folders = [Path(entry) for entry in given.real if Path(entry).is_dir()]
    if not folders:
        return None
    if len(folders) > 1:
        raise ValueError(f"--real names {len(folders)} folders: expected one")
    reference, pattern = description.reference, description.reference.videos
    if not pattern:
        raise ValueError(f"--real {folders[0]}: {description.name} names no real videos: give --real PROTOCOL=FILE")
    if "{id}" in pattern:
        return named(REAL, folders[0], pattern, prompts, 1, reference.clip)
    return Files.of_pattern(REAL, folders[0], pattern, reference.clip)


