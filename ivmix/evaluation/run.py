"""The whole of an evaluation: what is missing is computed, and once all is there, reported."""

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from ivmix.evaluation.arms import Arm, Truth, check_arms
from ivmix.evaluation.jobs import (
    REFERENCE,
    REFERENCES,
    Design,
    Job,
    Maker,
    all_jobs,
    collect,
    pending,
    ranks,
    read_frames,
    reference_jobs,
)
from ivmix.evaluation.plots import plot_cost, plot_distances, plot_scores
from ivmix.evaluation.report import Report, markdown, summarise
from ivmix.generation.text_to_video import TextToVideo
from ivmix.media import contact_sheet, write_image, write_text
from ivmix.progress import progress_bar
from ivmix.sprites.measure import load_judge


def evaluate(
    model: TextToVideo, arms: Sequence[Arm | Truth], design: Design, folder: Path, *, references: int = REFERENCES,
    share: tuple[int, int] | None = None, progress: bool = False,
) -> Report | None:  # fmt: skip
    """Draws, measures and reports `arms`, the first sampler of which is the baseline, into `folder`.

    `folder/parts` keeps every micro-batch, so that the same call goes on after a kill. `share` (i, n) computes the i-th
    (from 0) of n shares only and returns None, as do all ranks but the first under torchrun. `references` crisp clips
    are what distances are measured to. ValueError, before anything is drawn, for arms or options that cannot be, a pair
    without a judge, or a folder of another evaluation.
    """
    judge = load_judge(model.pair)
    if judge is None:
        raise unmeasurable(model.pair.name)
    check_arms([REFERENCE, *arms])
    maker, crisp, samples = Maker.of(model, judge), reference_jobs(references), all_jobs(arms, design)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: expected a folder, a new one or that of the run to go on with")
    missing = pending([*crisp, *samples], folder, maker)
    if not plots() and share is None:
        warnings.warn("there will be no plots without matplotlib: pip install matplotlib", stacklevel=2)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    with ranks() as (rank, world):
        place, shares = share or (0, 1)
        turn, workers = place * world + rank, shares * world
        mine = [job for job in (*crisp, *samples) if job.turn % workers == turn]
        _compute(mine, [job for job in mine if job in missing], folder, maker, progress and rank == 0)
    if share is not None or rank != 0:
        return None
    (reference,) = collect(crisp, folder)
    report = summarise(collect(samples, folder), reference, design, maker, progress)
    write(report, samples, folder)
    return report


def _compute(jobs: Sequence[Job], todo: Sequence[Job], folder: Path, maker: Maker, progress: bool) -> None:
    clips, left = (sum(len(job.rows) for job in group) for group in (jobs, todo))
    with progress_bar(clips, progress, initial=clips - left, unit="clip") as bar:
        for job in todo:
            bar.set_description(job.arm.label)
            maker.compute(job, folder)
            bar.update(len(job.rows))


def unmeasurable(pair: str) -> ValueError:
    """What is wrong with a pair of that name, whose description names no judge."""
    return ValueError(f"pair {pair!r} brings no judge: only pairs of the sprite world can be measured exactly")


def plots() -> dict[str, Callable[[Report, Path], None]]:
    """The plots that a report is written with, by their files' names; none without matplotlib."""
    known: dict[str, Callable[[Report, Path], None]] = {
        "scores.png": plot_scores, "cost.png": plot_cost, "distances.png": plot_distances,
    }
    return known if find_spec("matplotlib") else {}


def write(report: Report, samples: Sequence[Job], folder: Path) -> None:
    """report.md, report.json, clips.png (every arm's first clip) and the plots, where there is matplotlib."""
    write_text(report.to_json(), folder / "report.json")
    write_text(markdown(report), folder / "report.md")
    first = [job for job in samples if job.rows.start == 0]
    rows = [(job.arm.label, read_frames(job, folder)[0]) for job in first]
    write_image(contact_sheet(rows, title=first[0].captions[0]), folder / "clips.png")
    for name, plot in plots().items():
        plot(report, folder / name)
