"""What a benchmark says of each row: its distances by every comparison, with floor and p, and means of its scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ivmix.benchmarks.description import Description
from ivmix.benchmarks.measuring import Measured
from ivmix.evaluation.distance import Distance, measure_distance
from ivmix.evaluation.features import FeatureSet
from ivmix.evaluation.metrics.leave_out import frechet_of_kept
from ivmix.evaluation.metrics.reference import RESAMPLES
from ivmix.evaluation.metrics.statistics import paired_permutation
from ivmix.evaluation.protocols import PROTOCOLS
from ivmix.evaluation.report import Estimate
from ivmix.progress import progress_bar


@dataclass(frozen=True, eq=False)
class Row:
    """What is known of the clips of one label."""

    label: str
    settings: Mapping[str, Any]  # what drew them; nothing of files
    measured: Mapping[str, Measured]  # by protocol
    nfe: Mapping[str, int]  # evaluations a clip
    seconds: float | None  # a clip, without measuring it


@dataclass(frozen=True)
class Result:
    """Of one row."""

    label: str
    settings: Mapping[str, Any]
    nfe: Mapping[str, int]
    seconds: float | None
    distances: Mapping[str, Mapping[str, Distance]]  # by metric, then comparison: the main one first
    p_values: Mapping[str, float | None]  # by metric
    scores: Mapping[str, Estimate]

    def main(self, metric: str) -> Distance:
        return next(iter(self.distances[metric].values()))


@dataclass(frozen=True, eq=False)
class References:
    """Features of real clips by protocol, and more of them, of which a floor is drawn."""

    features: Mapping[str, FeatureSet]
    pools: Mapping[str, FeatureSet]


def compare(
    how: str, protocol: str, real: FeatureSet, measured: Measured, name: str, pool: FeatureSet | None, draws: int
) -> Distance:
    """By one comparison: "parts", every sample with the whole reference, and their mean; "tiled", all clips with the
    reference repeated as often as there are samples, the MMD with it once; "pooled", all clips with the reference."""
    samples = measured.samples if how == "parts" else (measured.pooled,)
    names = ["the reference", *(f"{name}, sample {k + 1}" if how == "parts" else name for k in range(len(samples)))]
    times, draws = (len(measured.samples), 0) if how == "tiled" else (1, draws)  # of copies there is no floor
    return measure_distance(PROTOCOLS[protocol], real, samples, pool, names, draws, clusters(measured), times)


def results(
    description: Description, rows: Sequence[Row], references: References, draws: int, progress: bool = False
) -> list[Result]:
    """Of rows, the first of which is the baseline. A metric whose protocol nothing was measured by is left out.

    The floor of a comparison, the same for all rows, is drawn with the first. Of 0 `draws` there is no p either.
    """
    metrics = {
        metric: protocol for metric, protocol in description.distances.items()
        if protocol in references.features and all(protocol in row.measured for row in rows)
    }  # fmt: skip
    found: list[Result] = []
    with progress_bar(len(rows) * max(len(metrics), 1), progress, desc="statistics", unit="distance") as bar:
        for row in rows:
            distances: dict[str, dict[str, Distance]] = {}
            p_values: dict[str, float | None] = {}
            for metric, protocol in metrics.items():
                real, pool = references.features[protocol], references.pools.get(protocol)
                ddof = PROTOCOLS[protocol].ddof
                distances[metric] = {
                    how: compare(how, protocol, real, row.measured[protocol], row.label, pool, 0 if found else draws)
                    for how in description.comparisons
                }
                if found:
                    first = found[0].distances[metric]
                    distances[metric] = {
                        how: replace(one, floor=first[how].floor, no_floor=first[how].no_floor)
                        for how, one in distances[metric].items()
                    }
                base = rows[0].measured[protocol]
                compared = found and draws
                p_values[metric] = p_value(real, row.measured[protocol], base, ddof) if compared else None
                bar.update()
            found.append(Result(
                row.label, row.settings, row.nfe, row.seconds, distances, p_values,
                estimates(description, row, rows[0] if found else None),
            ))  # fmt: skip
    return found


def clusters(measured: Measured) -> list[str]:
    """The prompt of every clip of all samples."""
    return [id for sample in measured.samples for id in sample.ids]


def p_value(real: FeatureSet, x: Measured, base: Measured, ddof: int) -> float | None:
    """Of the difference in the Fréchet distance of all clips, a prompt's swapped at a time; None where the two are not
    of the same prompts."""
    if (names := clusters(x)) != clusters(base):
        return None
    rows = torch.cat([sample.features.double() for one in (x, base) for sample in one.samples])
    first = np.arange(len(names))
    kept = frechet_of_kept(real.features.double(), rows, ddof)
    return paired_permutation(kept, first, len(names) + first, names, RESAMPLES)


def estimates(description: Description, row: Row, base: Row | None) -> dict[str, Estimate]:
    """Means of scores with their intervals, and of paired differences to the baseline's."""
    found: dict[str, Estimate] = {}
    for protocol, measured in row.measured.items():
        for name in description.scores:
            if name in measured.scores:
                there = base.measured[protocol].scores.get(name) if base is not None else None
                found[name] = Estimate.of(measured.scores[name].astype(np.float64), clusters(measured), there)
    return found
