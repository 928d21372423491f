"""Distances between two sets of features: Fréchet, and unbiased polynomial MMD.

A Fréchet distance of n samples is biased upwards by about d/n times the spread, so that two numbers compare at equal n
alone, and each belongs beside the distance of real from real at that n. The MMD's mean does not depend on n.
"""

import numpy as np
import torch
from torch import Tensor

from ivmix.evaluation.metrics.moments import Moments, as_features

Features = Tensor | np.ndarray  # (n, d)


def frechet_distance(a: Moments, b: Moments, ddof: int = 1) -> float:
    """‖μa − μb‖² + tr(Σa + Σb − 2(Σa Σb)^½), squared 2-Wasserstein distance of two Gaussians (Dowson, Landau 1982).

    With any factors Σ = F Fᵀ the last trace is the nuclear norm ‖Faᵀ Fb‖_*; here F comes from a symmetric
    eigendecomposition, and directions without variance to rounding are left out rather than padded by an epsilon. The
    result can fall below 0 by rounding. Covariances divide by n − `ddof`: 1 as torchmetrics' FID, 0 as
    stylegan-v's FVD. ValueError for fewer than two features on either side, or features of different length.
    """
    _check_comparable(a.count, b.count, len(a.mean), len(b.mean))
    return _frechet(a.mean, b.mean, eigen_factor(a.covariance(ddof)), eigen_factor(b.covariance(ddof)))


def frechet_of_features(x: Features, y: Features, ddof: int = 1) -> float:
    """`frechet_distance` of features (n, d) and (m, d), n ≠ m allowed, without their covariances.

    The centred features over √(n − ddof) are factors themselves: no eigenvalue is squared and rooted again, and the
    cost is that of an n × m matrix where both are smaller than d. ValueError as there, and as for `as_features`.
    """
    rows = as_features(x, "x"), as_features(y, "y")
    _check_comparable(len(rows[0]), len(rows[1]), rows[0].shape[1], rows[1].shape[1])
    means = [r.mean(0) for r in rows]
    factors = [_triangle((r - mean) / (len(r) - ddof) ** 0.5).T for r, mean in zip(rows, means, strict=True)]
    return _frechet(*means, *factors)


def _frechet(mean_a: Tensor, mean_b: Tensor, factor_a: Tensor, factor_b: Tensor) -> float:
    """From means (d,) and any factors (d, k) of the covariances."""
    trace = factor_a.square().sum() + factor_b.square().sum()
    return float((mean_a - mean_b).square().sum() + trace - 2 * torch.linalg.svdvals(factor_a.T @ factor_b).sum())


def eigen_factor(covariance: Tensor) -> Tensor:
    """Of a covariance (d, d): F (d, k) with F Fᵀ = `covariance` and k its numerical rank."""
    values, vectors = torch.linalg.eigh(covariance)
    # Rounding leaves eigenvalues of ±1e-16 in place of zeros; their roots, 1e-8 each, would add up in the trace.
    kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    return vectors[:, kept] * values[kept].sqrt()


def _triangle(rows: Tensor) -> Tensor:
    """R (k, d) with Rᵀ R = rowsᵀ rows and k = min(n, d)."""
    return torch.linalg.qr(rows, mode="r").R if len(rows) > rows.shape[1] else rows


def polynomial_mmd(x: Features, y: Features, degree: int = 3) -> float:
    """Unbiased squared MMD of features (n, d) and (m, d) under the kernel (x·y/d + 1)^degree.

    Degree 3 is the Kernel Inception Distance (arXiv 1801.01401), here over all samples at once instead of
    random subsets. Its mean is 0 where both sets have one distribution, so single values fall below 0 too. ValueError
    for fewer than two samples, features of different length, NaN or infinite ones.
    """
    rows = as_features(x, "x"), as_features(y, "y")
    _check_comparable(len(rows[0]), len(rows[1]), rows[0].shape[1], rows[1].shape[1])

    within = sum(mean_of_pairs(polynomial_kernel(r, r, degree)) for r in rows)
    return within - 2 * float(polynomial_kernel(*rows, degree).mean())


def polynomial_kernel(x: Tensor, y: Tensor, degree: int = 3) -> Tensor:
    """(x·y/d + 1)^degree of every pair: (n d) and (m d) -> (n m)."""
    return (x @ y.T / x.shape[1] + 1) ** degree


def mean_of_pairs(kernel: Tensor) -> float:
    """Of a kernel (n n) of samples with themselves, the mean over pairs of different ones."""
    n = len(kernel)
    return float(kernel.sum() - kernel.trace()) / (n * (n - 1))


def _check_comparable(n: int, m: int, d: int, e: int) -> None:
    if n < 2 or m < 2 or d != e or d == 0:
        raise ValueError(f"{n} features of length {d} against {m} of length {e}: expected two or more, of one length")
