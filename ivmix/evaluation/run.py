"""The whole of an evaluation: what is missing is computed, and once all is there, reported."""

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from ivmix.evaluation.arms import Arm, check_arms
from ivmix.evaluation.benchmark import Benchmark
from ivmix.evaluation.design import Design
from ivmix.evaluation.jobs import (
    Job,
    Maker,
    all_jobs,
    collect,
    pending,
    read_frames,
    reference_jobs,
)
from ivmix.evaluation.plots import plot_cost, plot_distances, plot_scores
from ivmix.evaluation.report import Report, markdown, summarise
from ivmix.evaluation.workers import ranks, turn
from ivmix.generation.text_to_video import TextToVideo
from ivmix.media import contact_sheet, write_image, write_text
from ivmix.progress import progress_bar
from ivmix.typed import short


def evaluate(
    model: TextToVideo, benchmark: Benchmark, arms: Sequence[Arm], design: Design, folder: Path, *,
    share: tuple[int, int] | None = None, progress: bool = False,
) -> Report | None:  # fmt: skip
    """Draws, measures and reports `arms`, the first of which is the baseline, beside the benchmark's truths.

    `folder/parts` keeps every micro-batch, so that the same call goes on after a kill. `share` (i, n) computes the i-th
    (from 0) of n shares only and returns None, as do all ranks but the first under torchrun. ValueError, before
    anything is drawn, for arms or options that cannot be, or a folder of another evaluation.
    """
    everyone, references = [*benchmark.truths, *arms], reference_jobs(benchmark)
    check_arms([*(job.arm for job in references[:1]), *everyone])
    check_sources(arms, benchmark)
    maker, samples = Maker.of(model, benchmark), all_jobs(everyone, design, benchmark.prompts)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: expected a folder, a new one or that of the run to go on with")
    missing = pending([*references, *samples], folder, maker)
    if not find_spec("matplotlib") and share is None:
        warnings.warn("there will be no plots without matplotlib: pip install matplotlib", stacklevel=2)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    with ranks() as (rank, world):
        worker, workers = turn(share, rank, world)
        mine = [job for job in (*references, *samples) if job.turn % workers == worker]
        _compute(mine, [job for job in mine if job in missing], folder, maker, progress and rank == 0)
    if share is not None or rank != 0:
        return None
    stored = benchmark.reference
    features = stored if isinstance(stored, Tensor) else collect(references, folder)[0].features
    report = summarise(collect(samples, folder), features, design, maker, progress)
    write(report, samples, folder)
    return report


def _compute(jobs: Sequence[Job], todo: Sequence[Job], folder: Path, maker: Maker, progress: bool) -> None:
    clips, left = (sum(len(job.rows) for job in group) for group in (jobs, todo))
    maker.model.read_ahead([text for job in todo if isinstance(job.arm, Arm) for text in job.captions])
    with progress_bar(clips, progress, initial=clips - left, unit="clip") as bar:
        for job in todo:
            bar.set_description(job.arm.label)
            maker.compute(job, folder)
            bar.update(len(job.rows))


def check_sources(arms: Sequence[Arm], benchmark: Benchmark) -> None:
    """ValueError for an arm of a strength where the benchmark has no clips to begin from."""
    for arm in arms:
        if "strength" in arm.options and benchmark.source is None:
            raise ValueError(
                f"arm {short(arm.label)}: strength={arm.options['strength']!r}: benchmark {benchmark.name!r} brings no "
                "clips to begin from, leave it out"
            )


def plots(report: Report) -> dict[str, Callable[[Report, Path], None]]:
    """The plots that a report is written with, by their files' names; none without matplotlib."""
    if not find_spec("matplotlib"):
        return {}
    known: dict[str, Callable[[Report, Path], None]] = {"scores.png": plot_scores} if report.shown else {}
    return known | {"cost.png": plot_cost, "distances.png": plot_distances}


def write(report: Report, samples: Sequence[Job], folder: Path) -> None:
    """report.md, report.json, clips.png (every arm's first clip) and the plots, where there is matplotlib."""
    write_text(report.to_json(), folder / "report.json")
    write_text(markdown(report), folder / "report.md")
    first = [job for job in samples if job.rows.start == 0]
    rows = [(job.arm.label, read_frames(job, folder)[0]) for job in first]
    write_image(contact_sheet(rows, title=first[0].captions[0]), folder / "clips.png")
    for name, plot in plots(report).items():
        plot(report, folder / name)
