"""From measured clips to a report: means with intervals, paired differences, distances with their floor.

What each ± and interval is stands in the report itself. Clips of one caption are alike, so captions are what is drawn,
left out or swapped.
"""

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ivmix._version import __version__
from ivmix.evaluation.arms import Arm
from ivmix.evaluation.benchmark import Benchmark, DrawnReference
from ivmix.evaluation.design import Design
from ivmix.evaluation.jobs import Maker, Measured
from ivmix.evaluation.legend import Column, bullets
from ivmix.evaluation.metrics.moments import as_features
from ivmix.evaluation.metrics.reference import RESAMPLES, Reference
from ivmix.evaluation.metrics.statistics import interval
from ivmix.progress import progress_bar

SCHEMA = 1
LEVEL = 0.95

UNCERTAINTY = {
    "interval": f"{100 * LEVEL:g} % percentile bootstrap of the mean, captions drawn with replacement",
    "difference": "mean of each clip minus the baseline's of the same caption and noise, with its interval",
    "deviation": "standard deviation over repeats, each of `clips` clips of other noise",
    "error": "jackknife standard error over all clips, a caption left out at a time",
    "p_value": f"paired permutation test against the baseline over all clips, swapping a caption's, {RESAMPLES} times",
}


@dataclass(frozen=True)
class Estimate:
    """The mean of a column with its interval, and the same of its paired difference to the baseline."""

    mean: float
    interval: tuple[float, float]
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None

    @classmethod
    def of(cls, values: np.ndarray, clusters: Sequence[str], base: np.ndarray | None = None) -> "Estimate":
        """Of values (n,) in clusters (n names) and, with `base` (n,), of their difference to it."""
        mean, low_high = float(values.mean()), interval(values, clusters, LEVEL)
        if base is None:
            return cls(mean, low_high)
        return cls(mean, low_high, float((values - base).mean()), interval(values - base, clusters, LEVEL))


@dataclass(frozen=True)
class Distance:
    """A distance to the reference: of each repeat, their mean and deviation; of all clips pooled, its error and p."""

    repeats: tuple[float, ...]
    mean: float
    deviation: float | None  # None of a single repeat
    pooled: float
    error: float
    p_value: float | None


@dataclass(frozen=True)
class Row:
    label: str
    settings: Mapping[str, Any]  # {"sampling": …} or {"truth": …}
    nfe: Mapping[str, int]  # evaluations a clip
    forwards: Mapping[str, int]
    seconds_per_clip: float
    columns: Mapping[str, Estimate]
    frechet: Distance
    mmd: Distance

    @property
    def is_truth(self) -> bool:
        return "truth" in self.settings


@dataclass(frozen=True)
class Report:
    schema: int
    ivmix: str
    torch: str
    python: str
    pair: str
    weights: str  # hash of the pair's weights
    device: str
    dtype: str
    clips: int  # a repeat
    repeats: int
    seed: int
    batch_size: int
    captions: int  # different ones
    references: int  # clips
    reference_seed: int | None  # None of stored features
    features: int
    baseline: str
    uncertainty: Mapping[str, str]
    warnings: tuple[str, ...]
    arms: tuple[Row, ...]
    benchmark: Benchmark  # of which the settings alone are written

    @property
    def shown(self) -> dict[str, Column]:
        """The columns of the first table."""
        measured = self.arms[0].columns
        return {name: column for name, column in self.benchmark.columns.items() if column.main and name in measured}

    @property
    def floor(self) -> Row | None:
        """The truth that is as the reference is: what is left of a distance at this number of clips."""
        return next((row for row in self.arms if row.is_truth and row.label == self.benchmark.floor), None)

    def to_json(self) -> str:
        """One line an arm, numbers to six digits, without what does not apply."""
        names = (field.name for field in fields(self) if field.name not in ("arms", "benchmark"))
        head = {name: getattr(self, name) for name in names} | self.benchmark.echo
        arms = ",\n".join("    " + json.dumps(compact(asdict(row)), ensure_ascii=False) for row in self.arms)
        text = json.dumps(head, indent=2, ensure_ascii=False)
        return f'{text[:-2]},\n  "arms": [\n{arms}\n  ]\n}}\n'


def summarise(
    measured: Sequence[Measured], features: Tensor, design: Design, maker: Maker, progress: bool = False
) -> Report:
    """The report of all arms, whose distances are to `features` (m, d); the first sampler among them is the baseline.

    ValueError for features of another d than the arms'.
    """
    model, benchmark, reference = maker.model, maker.benchmark, Reference(as_features(features))
    clusters = design.captions(range(len(design)), benchmark.prompts)
    base = next(m for m in measured if isinstance(m.arm, Arm))
    n, d = design.clips, features.shape[1]
    if base.features.shape[1] != d:
        raise ValueError(f"clips have {base.features.shape[1]} features, the reference {d}: expected as many")
    warnings = []
    if n < d:
        warnings.append(
            f"{n} clips a repeat for {d} features: Fréchet distances are mostly bias, compare them with the floor alone"
        )
    rows = []
    with progress_bar(len(measured), progress, desc="statistics", unit="arm") as bar:
        for m in measured:
            rows.append(_row(m, base, clusters, reference, design, maker))
            bar.update()
    return Report(
        SCHEMA, __version__, torch.__version__, platform.python_version(), model.pair.name, maker.weights,
        str(model.pair.device), str(model.pair.dtype).removeprefix("torch."), n, design.repeats, design.seed,
        design.batch_size, len(set(clusters)), len(features),
        benchmark.reference.design.seed if isinstance(benchmark.reference, DrawnReference) else None,
        d, base.arm.label, UNCERTAINTY, tuple(warnings), tuple(rows), benchmark,
    )  # fmt: skip


def _row(
    m: Measured, base: Measured, clusters: Sequence[str], reference: Reference, design: Design, maker: Maker
) -> Row:
    compared = isinstance(m.arm, Arm) and m is not base
    estimates = {
        name: Estimate.of(values, clusters, base.columns[name] if compared else None)
        for name, values in m.columns.items()
    }
    x = m.features.double()
    errors = reference.errors(x, clusters)
    p_values = reference.p_values(x, base.features.double(), clusters) if compared else (None, None)
    repeats = x.split(design.clips)
    frechet, mmd = (
        Distance(v, float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else None, whole, e, p)
        for v, whole, e, p in zip(
            (tuple(map(reference.frechet, repeats)), tuple(map(reference.mmd, repeats))),
            (reference.frechet(x), reference.mmd(x)), errors, p_values, strict=True,
        )
    )  # fmt: skip
    return Row(m.arm.label, m.arm.settings(maker.model), m.nfe, m.forwards, m.seconds, estimates, frechet, mmd)


def compact(value: Any) -> Any:
    """Ready for JSON: numbers to six digits, without entries that are None."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {name: compact(v) for name, v in value.items() if v is not None}
    return [compact(v) for v in value] if isinstance(value, list | tuple) else value


# Markdown


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns line up."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    cells = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def plus_minus(column: Column, estimate: Estimate) -> str:
    low, high = estimate.interval
    return f"{column.show(estimate.mean)} ± {column.show((high - low) / 2)}"


def evaluations(nfe: Mapping[str, int]) -> str:
    """Of the image and of the video model, however they are seen: "video perturbed" is the video model's too."""
    image, video = (sum(n for name, n in nfe.items() if name.split()[0] == side) for side in ("image", "video"))
    return f"{image}+{video}" if nfe else ""


def distance_text(value: float, error: float | None) -> str:
    """With as many decimals as show two digits of the error, or three of the value alone."""
    digits, size = (3, value) if error is None else (2, error)
    decimals = min(max(digits - 1 - math.floor(math.log10(abs(size) or 1)), 0), 6)
    return f"{value:.{decimals}f}" + ("" if error is None else f" ± {error:.{decimals}f}")


def main_table(report: Report) -> str:
    """What a README shows: one row an arm, ground truth first."""
    head = ["sampler", *report.shown, "Fréchet", "MMD", "evaluations I+V"]
    return markdown_table(head, ([
        row.label, *(plus_minus(column, row.columns[name]) for name, column in report.shown.items()),
        distance_text(row.frechet.mean, row.frechet.deviation), distance_text(row.mmd.mean, row.mmd.deviation),
        evaluations(row.nfe),
    ] for row in report.arms))  # fmt: skip


def rest_table(report: Report) -> str:
    """What the first table leaves out."""
    names = [name for name in report.arms[0].columns if name not in report.shown]
    head = ["sampler", *names, "Fréchet, pooled", "p", "MMD, pooled", "p", "rows I+V", "s/clip"]
    return markdown_table(head, ([
        row.label, *(plus_minus(report.benchmark.columns[name], row.columns[name]) for name in names),
        distance_text(row.frechet.pooled, row.frechet.error), _p(row.frechet.p_value),
        distance_text(row.mmd.pooled, row.mmd.error), _p(row.mmd.p_value),
        evaluations(row.forwards), f"{row.seconds_per_clip:.2f}",
    ] for row in report.arms))  # fmt: skip


def difference_table(report: Report) -> str:
    """Every sampler minus the baseline, clip by clip, with the interval of the mean."""
    compared = [row for row in report.arms if any(e.difference is not None for e in row.columns.values())]

    def cell(column: Column, estimate: Estimate) -> str:
        assert estimate.difference is not None
        assert estimate.difference_interval is not None
        low, high = (column.show(x, sign=True) for x in estimate.difference_interval)
        return f"{column.show(estimate.difference, sign=True)} ({low} … {high})"

    return markdown_table(["sampler", *report.shown], (
        [row.label, *(cell(column, row.columns[name]) for name, column in report.shown.items())] for row in compared
    ))  # fmt: skip


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def markdown(report: Report) -> str:
    """The whole report to read."""
    n, benchmark, floor = report.clips, report.benchmark, report.floor
    scores = [
        f"Scores: mean ± half the width of a {100 * LEVEL:g} % interval, a bootstrap over the {report.captions} "
        "captions.", "", bullets(report.shown), "",
    ]  # fmt: skip
    differences = [
        f"## Differences to {report.baseline!r}", "", difference_table(report), "",
        "Clip by clip on the same captions and noise: mean and its interval.", "",
    ]  # fmt: skip
    lines = [
        f"# {report.pair}: {n} clips x {report.repeats} repeats a sampler", "",
        main_table(report), "",
        *(scores if report.shown else []),
        f"Fréchet distance and unbiased polynomial MMD are measured to {report.references} {benchmark.reference_of} on "
        f"{report.features} features of {benchmark.features_of}: mean ± standard deviation over repeats of {n} clips."
        + (f" The floor, other {benchmark.reference_of} of the same captions at the same N, is the row {floor.label!r}."
           if floor else ""), "",
        *(line for warning in report.warnings for line in (f"**Warning**: {warning}.", "")),
        "## The rest", "", rest_table(report), "",
        f"Pooled distances are of all {n * report.repeats} clips ± a jackknife's standard error over captions; p is of "
        f"a paired permutation against {report.baseline!r} ({RESAMPLES} swaps). Evaluations, rows through the networks "
        "(two of a guided evaluation) and seconds are a clip's, without measuring it.", "",
        *(differences if report.shown else []),
        f"ivmix {report.ivmix}, torch {report.torch}, {report.device}, {report.dtype}, noise from seed {report.seed} "
        f"on, weights {report.weights}{''.join(f', {k} {v}' for k, v in benchmark.settings.items())}.", "",
    ]  # fmt: skip
    return "\n".join(lines)
