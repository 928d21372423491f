"""The whole of a benchmark: clips are drawn or read, measured, compared, and reported beside what is in print."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from ivmix.benchmarks.clips import Clips, Sampled
from ivmix.benchmarks.description import Description
from ivmix.benchmarks.exporters import LEADERBOARD, leaderboard
from ivmix.benchmarks.measuring import Measured, Meter, collect, measure
from ivmix.benchmarks.plan import Batch, Plan, files_plan
from ivmix.benchmarks.plots import plot_distances
from ivmix.benchmarks.prompts import prompts_hash
from ivmix.benchmarks.report import Report, markdown
from ivmix.benchmarks.results import References, Row, results
from ivmix.benchmarks.videos import Files
from ivmix.benchmarks.written import label, read_again
from ivmix.evaluation.arms import check_labels, slug
from ivmix.evaluation.distance import DRAWS
from ivmix.evaluation.features import FeatureSet
from ivmix.evaluation.jobs import model_settings
from ivmix.evaluation.workers import ranks, turn
from ivmix.generation.text_to_video import TextToVideo
from ivmix.media import write_text
from ivmix.models.json_files import read_json
from ivmix.progress import progress_bar
from ivmix.typed import short

REAL = "real"  # label of the reference's clips


class NothingYet(ValueError):
    """No batch of all rows is there."""


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be measured: `rows` of a benchmark, the first of which is the baseline, by `meters`.

    `stored` and `pools` are features of real clips by protocol; by the other protocols `real` files are measured.
    `keep`: lossless clips, or the features alone once all meters have seen a clip. `doubts` are of what was given in
    place of the benchmark's own files.
    """

    benchmark: Description
    plan: Plan
    rows: Sequence[Sampled | Files]
    meters: Sequence[Meter]
    folder: Path
    stored: Mapping[str, FeatureSet] = field(default_factory=dict)
    pools: Mapping[str, FeatureSet] = field(default_factory=dict)
    real: Files | None = None
    keep: Literal["clips", "features"] = "clips"
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        drawn = [label(row) for row in self.rows[:1] if isinstance(row, Sampled)]
        check_labels([REAL, *(row.label for row in self.rows), *drawn])
        if not self.meters and self.keep == "features":
            raise ValueError("keep='features', but nothing measures clips: name an extractor, or keep the clips")
        if not self.meters and not drawn:
            raise ValueError("nothing measures these videos: name an extractor of the benchmark's")
        for meter in self.meters:
            for option, sets in (("real", self.stored), ("pool", self.pools)):
                if meter.name in sets:
                    check_measured_by(meter, sets[meter.name], option)

    def check(self) -> list["Job"]:
        """What is missing: the reference first, then every row's first batch, then the next. ValueError for rows that
        cannot be, or a folder of another evaluation."""
        check_folder(self.folder, self.benchmark.name)
        pairs: list[tuple[Clips, Batch, Sequence[Meter], int]] = []
        if self.real is not None:
            pairs = [(self.real, batch, self.real_meters, batch.turn) for batch in self.real_batches]
        for batch in self.plan.batches:
            pairs += [(row, batch, self.meters, a + batch.turn) for a, row in enumerate(self.rows)]
        return [job for pair in pairs if (job := self._job(*pair)) is not None]

    def _job(self, clips: Clips, batch: Batch, meters: Sequence[Meter], turn: int) -> "Job | None":
        draws = isinstance(clips, Sampled) and not clips.is_drawn(batch)
        captions = clips is not self.real
        missing = tuple(meter for meter in meters if not meter.is_done(clips, batch, captions, self.folder))
        forgets = False
        if isinstance(clips, Sampled) and not draws:
            if missing:
                clips.check_holds(batch)
            forgets = self.keep == "features" and clips.holds(batch)
        return Job(clips, batch, turn, draws, missing, captions) if draws or missing or forgets else None

    @property
    def real_batches(self) -> list[Batch]:
        return [] if self.real is None else files_plan(self.real.ids)

    @property
    def real_meters(self) -> list[Meter]:
        return [meter for meter in self.meters if meter.name not in self.stored]


def check_folder(folder: Path, benchmark: str) -> None:
    """ValueError for a file, or a folder with the report of another benchmark, or of the sprite world's evaluation."""
    if above := next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None):
        raise ValueError(f"{above} is a file: expected a folder, a new one or that of the run to go on with")
    there = folder / "report.json"
    if there.is_file() and read_json(there, infinities=True).get("benchmark") != benchmark:
        raise ValueError(f"{there} is of another evaluation than {benchmark!r}: give another folder with -o")


def check_measured_by(meter: Meter, features: FeatureSet, what: str) -> None:
    """ValueError for features that name another extractor, or other weights, before clips are drawn to be compared."""
    for name, theirs, ours in zip(("extractor", "weights"), (features.extractor, features.weights), meter.signature,
                                  strict=True):  # fmt: skip
        if theirs and theirs != ours:
            raise ValueError(
                f"{what} {meter.name}: its features name {name} {short(theirs)}, clips are measured by {short(ours)}: "
                "expected one for both"
            )


@dataclass(frozen=True, eq=False)
class Job:
    """What is left to do of a batch of one row, or of the reference."""

    clips: Clips
    batch: Batch
    turn: int
    draws: bool
    meters: tuple[Meter, ...]
    captions: bool  # that clips were to show


def evaluate(
    task: Task, *, share: tuple[int, int] | None = None, hours: float | None = None, progress: bool = False,
    draws: int = DRAWS,
) -> Report | None:  # fmt: skip
    """Computes what is missing and reports what is there of all rows alike.

    `folder/parts` keeps every batch: the same call goes on after a kill. `share` (i, n) computes the i-th (from 0) of n
    shares and returns None, as do all ranks but the first under torchrun. After `hours` no batch is begun, and the
    report is of the first clips, a fair sample. ValueError, before anything is computed, for rows that cannot be, or a
    folder of another evaluation.
    """
    end, todo = deadline(hours), task.check()
    with ranks() as (rank, world):
        worker, workers = turn(share, rank, world)
        compute([job for job in todo if job.turn % workers == worker], task, end, progress and rank == 0)
    return None if share is not None or rank != 0 else report(task, progress, draws)


def deadline(hours: float | None) -> float:
    """By `time.monotonic`. ValueError for none or less."""
    if hours is not None and not hours > 0:
        raise ValueError(f"hours={hours}: expected more than 0")
    return math.inf if hours is None else time.monotonic() + 3600 * hours


def compute(todo: Sequence[Job], task: Task, end: float, progress: bool) -> None:
    """Until the `end`: a batch is begun only if there is time for one like the longest before."""
    for name in ("clips", *(meter.name for meter in task.meters)):
        (task.folder / "parts" / name).mkdir(parents=True, exist_ok=True)
    longest, prompts = 0.0, dict[TextToVideo, list[str]]()
    for job in todo:
        if job.draws and isinstance(job.clips, Sampled):
            prompts.setdefault(job.clips.model, []).extend(job.batch.captions)
    for model, texts in prompts.items():
        model.read_ahead(texts, raw_prompts=True)
    with progress_bar(sum(len(job.batch.prompts) for job in todo), progress, unit="clip") as bar:
        for job in todo:
            began = time.monotonic()
            if began + longest > end:
                return
            bar.set_description(job.clips.label)
            if job.draws and isinstance(job.clips, Sampled):
                job.clips.draw(job.batch)
            if job.meters:
                measure(job.meters, job.clips, job.batch, job.captions, task.folder)
            if task.keep == "features" and isinstance(job.clips, Sampled):
                job.clips.forget(job.batch)
            longest = max(longest, time.monotonic() - began)
            bar.update(len(job.batch.prompts))


def complete(task: Task) -> list[tuple[Batch, int]]:
    """The first batches that are there for all rows, with how many clips of each count; of samples that make a part
    each, whole ones alone, if one is whole."""
    def there(batch: Batch) -> bool:
        return all(
            not (isinstance(row, Sampled) and not row.is_drawn(batch))
            and all(meter.is_done(row, batch, True, task.folder) for meter in task.meters)
            for row in task.rows
        )  # fmt: skip

    found = list(takewhile(there, task.plan.batches))
    if task.benchmark.comparisons[0] != "pooled":
        each = len(task.plan.batches) // task.plan.samples
        found = found[: len(found) // each * each] or found
    return [(batch, task.plan.counted(batch)) for batch in found]


def report(task: Task, progress: bool = False, draws: int = DRAWS) -> Report:
    """Of what is complete, written to the folder. NothingYet where nothing is."""
    batches = complete(task)
    if sum(counted for _, counted in batches) < 2:
        raise NothingYet(f"{task.folder} holds no batch of all rows yet: give more hours, or none")
    rows = [_row(task, row, batches) for row in task.rows]
    real = measured_reference(task)
    references = References({**task.stored, **{name: found.pooled for name, found in real.items()}}, task.pools)
    found = results(task.benchmark, rows, references, draws, progress)
    made = next((model_settings(row.model, row.weights) for row in task.rows if isinstance(row, Sampled)), {})
    there = sum(counted for _, counted in batches)
    written = read_again(task.rows[0], rows[0], batches, task.meters, task.benchmark, references, task.folder)
    done = Report(
        task.benchmark, made, _prompts(task, batches), {m.name: m.settings for m in task.meters},
        (there, len(task.plan.prompts) * task.benchmark.samples), tuple(found),
        written, tuple(dict.fromkeys(_warnings(task, rows, real, references, written is None))),
    )  # fmt: skip
    write(done, task, rows, references)
    return done


def measured_reference(task: Task) -> dict[str, Measured]:
    """The real clips by every meter that has seen all of them."""
    if task.real is None:
        return {}
    batches = [(batch, len(batch.prompts)) for batch in task.real_batches]
    return {
        meter.name: collect(meter, task.real, batches, task.folder) for meter in task.real_meters
        if all(meter.is_done(task.real, batch, False, task.folder) for batch, _ in batches)
    }  # fmt: skip


def _row(task: Task, row: Sampled | Files, batches: Sequence[tuple[Batch, int]]) -> Row:
    measured = {meter.name: collect(meter, row, batches, task.folder) for meter in task.meters}
    if isinstance(row, Files):
        return Row(row.label, {}, measured, {}, None)
    costs = [cost for batch, _ in batches if (cost := row.cost(batch)) is not None]
    seconds = sum(cost["seconds"] for cost in costs) / sum(len(batch.prompts) for batch, _ in batches)
    pair = row.model.pair
    settings = {"frames": pair.frames, "height": pair.height, "width": pair.width, **row.arm.settings(row.model)}
    return Row(row.label, settings, measured, costs[0]["nfe"], seconds)


def _prompts(task: Task, batches: Sequence[tuple[Batch, int]]) -> dict[str, Any]:
    """What the clips that are measured were to show, not what the plan has in all."""
    plan = task.plan
    taken = [(prompt, batch.sample) for batch, counted in batches for prompt in batch.prompts[:counted]]
    captions = sorted({prompt.text(sample) for prompt, sample in taken})
    cut = {f"captions cut for {m.name}": m.scorer.cut(captions) for m in task.meters if m.scorer is not None}
    return {
        "prompts sha256": prompts_hash(plan.prompts), "prompts": len(plan.prompts),
        "prompts taken": len({prompt.id for prompt, _ in taken}), "samples": len({sample for _, sample in taken}),
        "seed": plan.seed, "batch_size": plan.batch_size, "captions": len(captions), **cut,
    }  # fmt: skip


def _warnings(
    task: Task, rows: Sequence[Row], real: Mapping[str, Measured], references: References, unread: bool
) -> Iterator[str]:
    measured, count = {meter.name for meter in task.meters}, task.benchmark.prompts.count
    yield from task.doubts
    if count not in (None, len(task.plan.prompts)):
        yield f"the prompts are {len(task.plan.prompts):,}, the benchmark's {count:,}"
    for protocol, row in ((protocol, row) for protocol in real for row in rows):
        theirs, ours = real[protocol].frames, row.measured[protocol].frames
        if theirs != ours:
            yield f"clips of {row.label!r} have {ours} frames, the reference's {theirs}: {protocol} takes all of both"
    for metric, protocol in task.benchmark.distances.items():
        if protocol not in measured:
            yield f"{metric} is not measured: --extractor {protocol}=FILE names its network"
        elif protocol not in references.features:
            part = task.real is not None and protocol not in task.stored
            yield f"{metric} is not measured: " + (
                "the reference is not complete yet" if part else
                f"--real names real clips, or their features by {protocol}"
            )  # fmt: skip
        elif (wanted := task.benchmark.reference.count) not in (None, len(references.features[protocol])):
            yield f"the reference has {len(references.features[protocol]):,} clips, the benchmark's {wanted:,}"
    if unread and task.meters and isinstance(task.rows[0], Sampled):
        yield f"what writing video files changes is not known: some of {task.rows[0].videos} are gone"
    for name in task.benchmark.scores:
        if not any(name in found.scores for row in rows for found in row.measured.values()):
            yield f"{name} is not measured: --extractor names its network, --vocabulary its words"


def write(done: Report, task: Task, rows: Sequence[Row], references: References) -> None:
    """report.md, report.json, features of every row and sample and of the reference, and distances.png where there is
    matplotlib and a distance."""
    write_text(done.to_json(), task.folder / "report.json")
    write_text(markdown(done), task.folder / "report.md")
    for meter in task.meters:
        folder = task.folder / "features" / meter.name
        folder.mkdir(parents=True, exist_ok=True)
        for row in rows:
            for number, sample in enumerate(row.measured[meter.name].samples, 1):
                sample.save(folder / f"{slug(row.label)}-{number}.safetensors")
        if meter.name in references.features:
            references.features[meter.name].save(folder / f"{REAL}.safetensors")
    if task.benchmark.published.startswith("chronomagic"):
        write_leaderboards(done, task.folder / "leaderboard")
    if done.results[0].distances and find_spec("matplotlib"):
        plot_distances(done, task.folder / "distances.png")


def write_leaderboards(done: Report, folder: Path) -> None:
    """What ChronoMagic-Bench's leaderboard reads, a file a row."""
    folder.mkdir(exist_ok=True)
    for result in done.results:
        known = {metric: result.main(metric).value for metric in result.distances}
        known |= {name: score.mean for name, score in result.scores.items()}
        if known := {name: value for name, value in known.items() if name in LEADERBOARD}:
            write_text(leaderboard(result.label, known), folder / f"{slug(result.label)}.json")
