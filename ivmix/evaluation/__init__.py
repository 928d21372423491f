"""Measurement: distances between sets of features, statistics that survive review, and metrics of clips.

What is exported here needs no weights. `Moments` accumulate over batches, files and ranks; `frechet_distance` and
`polynomial_mmd` compare two sets of features; `interval`, `jackknife` and `paired_permutation` say how far a number can
be trusted; the others score clips, with a flow of one's own if need be. Everything is imported on first use (PEP 562).

`ivmix.evaluation.run.evaluate` puts them together over a benchmark: every sampler drawn, measured and reported,
resumable, in any number of processes. No benchmark is known here: see `ivmix.evaluation.benchmark`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ivmix.evaluation.metrics.distances import frechet_distance, frechet_of_features, polynomial_mmd
    from ivmix.evaluation.metrics.flow import lucas_kanade
    from ivmix.evaluation.metrics.moments import Moments, gather
    from ivmix.evaluation.metrics.statistics import interval, jackknife, paired_permutation
    from ivmix.evaluation.metrics.video import (
        dynamic_degree,
        flow_score,
        frame_consistency,
        temporal_flickering,
        warping_error,
    )

_LAZY = {
    "Moments": "moments", "gather": "moments",
    "frechet_distance": "distances", "frechet_of_features": "distances", "polynomial_mmd": "distances",
    "interval": "statistics", "jackknife": "statistics", "paired_permutation": "statistics",
    "temporal_flickering": "video", "frame_consistency": "video", "warping_error": "video",
    "flow_score": "video", "dynamic_degree": "video", "lucas_kanade": "flow",
}  # fmt: skip

__all__ = [
    "Moments",
    "dynamic_degree",
    "flow_score",
    "frame_consistency",
    "frechet_distance",
    "frechet_of_features",
    "gather",
    "interval",
    "jackknife",
    "lucas_kanade",
    "paired_permutation",
    "polynomial_mmd",
    "temporal_flickering",
    "warping_error",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ivmix.evaluation' has no attribute {name!r}")
    return getattr(import_module(f"ivmix.evaluation.metrics.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
