"""How far a number can be trusted: intervals of per-clip scores, errors and tests of distances between sets.

Clips of one caption are alike, so captions are the `clusters` that are drawn, left out or swapped as wholes. A distance
between sets gets a jackknife or a permutation, never a bootstrap: drawing with replacement repeats samples, and that
alone moves a Fréchet distance by more than most samplers do.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Statistic = Callable[[np.ndarray], float]  # of rows (n, ...), such as `lambda x: frechet_of_features(x, reference)`


def interval(
    values: np.ndarray, clusters: Sequence[str], level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` (n,), resampling whole clusters (n names) with replacement.

    ValueError for no values, another number of clusters, NaN or infinite values.
    """
    values, index = _grouped(values, clusters)
    sums, counts = np.bincount(index, values), np.bincount(index)
    draws = np.random.default_rng(0).integers(len(counts), size=(resamples, len(counts)))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def jackknife(distance: Statistic, x: np.ndarray, clusters: Sequence[str]) -> float:
    """Standard error of `distance(x)` over draws of x (n, ...), from leaving out one cluster (of n names) at a time.

    Clusters may differ in size (Busing, Meijer, van der Leeden 1999); of equal ones this is the common delete-a-
    group jackknife, and for the mean of single values s/√n. ValueError for fewer than two clusters, another number of
    names than rows, NaN or infinite rows.
    """
    x, index = _grouped(x, clusters)
    sizes = np.bincount(index)
    if len(sizes) < 2:
        raise ValueError("clusters holds one name: expected two or more, something must be left when one is left out")
    whole = distance(x)
    without = np.array([distance(x[index != g]) for g in range(len(sizes))])
    ratio = len(x) / sizes
    pseudo = ratio * whole - (ratio - 1) * without
    estimate = len(sizes) * whole - ((1 - 1 / ratio) * without).sum()
    return float(np.sqrt(((pseudo - estimate) ** 2 / (ratio - 1)).mean()))


def paired_permutation(
    distance: Statistic, a: np.ndarray, b: np.ndarray, clusters: Sequence[str], resamples: int = 999, seed: int = 0
) -> float:
    """p-value of |distance(a) − distance(b)| for two samplers' rows (n, ...) on the same captions and noise.

    If it makes no difference which sampler drew a clip, swapping the two for all clips of a caption changes nothing in
    distribution. p is the share of such swaps, each cluster's by a fair coin, that come out at least as far apart as
    what was observed, itself counted: at least 1/(resamples + 1), and P(p ≤ α) ≤ α under the null for any n. ValueError
    for a and b of different shape, another number of names than rows, NaN or infinite rows.
    """
    a, index = _grouped(a, clusters)
    b, _ = _grouped(b, clusters)
    if a.shape != b.shape:
        raise ValueError(f"a has shape {a.shape}, b {b.shape}: expected the same clips from both samplers")
    rng, whole = np.random.default_rng(seed), (distance(a), distance(b))
    observed = abs(whole[0] - whole[1]) - 1e-9 * max(map(abs, whole))  # swaps that tie but for rounding count
    extreme = 1
    for _ in range(resamples):
        swap = rng.integers(2, size=index.max() + 1).astype(bool)[index].reshape(-1, *[1] * (a.ndim - 1))
        extreme += abs(distance(np.where(swap, b, a)) - distance(np.where(swap, a, b))) >= observed
    return extreme / (resamples + 1)


def _grouped(rows: Any, clusters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, ...) as an array, and the number (n,) of each row's cluster."""
    rows = np.asarray(rows)
    if rows.ndim == 0 or len(rows) == 0 or len(rows) != len(clusters):
        raise ValueError(f"rows of shape {rows.shape} and {len(clusters)} clusters: expected one name a row")
    if not np.isfinite(rows).all():
        raise ValueError("rows hold NaN or infinite values: find the clips that gave them")
    return rows, np.unique(np.asarray(clusters), return_inverse=True)[1]
