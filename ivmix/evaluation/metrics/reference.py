"""Distances to one fixed set of features, made cheap enough to be taken thousands of times."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ivmix.evaluation.metrics.distances import (
    eigen_factor,
    frechet_distance,
    mean_of_pairs,
    polynomial_kernel,
    polynomial_mmd,
)
from ivmix.evaluation.metrics.moments import Moments
from ivmix.evaluation.metrics.statistics import jackknife, paired_permutation

RESAMPLES = 199  # of a permutation test: p is 0.005 at least


@dataclass(frozen=True, eq=False)
class Reference:
    """Features (m, d) float64 that others (n, d) are compared with."""

    features: Tensor

    @cached_property
    def moments(self) -> Moments:
        return Moments.of(self.features)

    @cached_property
    def _factor(self) -> Tensor:
        """F with F Fᵀ = covariance."""
        return eigen_factor(self.moments.covariance())

    @cached_property
    def _within(self) -> float:
        """Mean of the MMD's kernel over pairs of different reference features."""
        return mean_of_pairs(polynomial_kernel(self.features, self.features))

    def frechet(self, x: Tensor) -> float:
        return frechet_distance(Moments.of(x), self.moments)

    def mmd(self, x: Tensor) -> float:
        return polynomial_mmd(x, self.features)

    def fast_frechet(self, x: np.ndarray) -> float:
        """`frechet`, from eigenvalues of Fᵀ Σ F: to about 1e-6 of it, in a third of the time."""
        moments = Moments.of(x)
        covariance = moments.covariance()
        roots = torch.linalg.eigvalsh(self._factor.T @ covariance @ self._factor).clamp(min=0).sqrt()
        trace = covariance.trace() + self._factor.square().sum()
        return float((moments.mean - self.moments.mean).square().sum() + trace - 2 * roots.sum())

    def fast_mmd(self, rows: Tensor) -> Callable[[np.ndarray], float]:
        """`mmd` of any choice of `rows` (n, d), given by their indices, from kernels computed once."""
        k = polynomial_kernel(rows, rows).numpy()
        diagonal, across = np.diag(k), polynomial_kernel(rows, self.features).mean(1).numpy()

        def distance(index: np.ndarray) -> float:
            n = len(index)
            within = (k[np.ix_(index, index)].sum() - diagonal[index].sum()) / (n * (n - 1))
            return float(within + self._within - 2 * across[index].mean())

        return distance

    def errors(self, x: Tensor, clusters: Sequence[str]) -> tuple[float, float]:
        """Jackknife standard errors of Fréchet distance and MMD, a cluster left out at a time."""
        return (
            jackknife(self.fast_frechet, x.numpy(), clusters),
            jackknife(self.fast_mmd(x), np.arange(len(x)), clusters),
        )

    def p_values(self, x: Tensor, base: Tensor, clusters: Sequence[str]) -> tuple[float, float]:
        """Of the differences in Fréchet distance and MMD between two samplers' features of the same clips."""
        first, second = np.arange(len(x)), len(x) + np.arange(len(x))
        return (
            paired_permutation(self.fast_frechet, x.numpy(), base.numpy(), clusters, RESAMPLES),
            paired_permutation(self.fast_mmd(torch.cat([x, base])), first, second, clusters, RESAMPLES),
        )
