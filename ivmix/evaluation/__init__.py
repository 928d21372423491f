"""Measurement: distances between sets of features, statistics that survive review, and metrics of clips.

Nothing here needs weights. `Moments` accumulate over batches, files and ranks; `frechet_distance` and `polynomial_mmd`
compare two sets of features; `interval`, `jackknife` and `paired_permutation` say how far a number can be trusted;
`ivmix.evaluation.video` measures clips. Everything is imported on first use (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ivmix.evaluation.distances import frechet_distance, frechet_of_features, polynomial_mmd
    from ivmix.evaluation.moments import Moments, gather
    from ivmix.evaluation.statistics import interval, jackknife, paired_permutation

_LAZY = {
    "Moments": "moments", "gather": "moments",
    "frechet_distance": "distances", "frechet_of_features": "distances", "polynomial_mmd": "distances",
    "interval": "statistics", "jackknife": "statistics", "paired_permutation": "statistics",
}  # fmt: skip

__all__ = [
    "Moments",
    "frechet_distance",
    "frechet_of_features",
    "gather",
    "interval",
    "jackknife",
    "paired_permutation",
    "polynomial_mmd",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ivmix.evaluation' has no attribute {name!r}")
    return getattr(import_module(f"ivmix.evaluation.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
