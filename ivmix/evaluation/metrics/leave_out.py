"""Distances of a set with some of its rows left out, from what is computed once for all: for jackknives over thousands
of rows, whose kernels would fill the memory."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ivmix.evaluation.metrics.distances import polynomial_kernel

Kept = Callable[[np.ndarray], float]  # of the indices (k,) of the rows that are kept
CHUNK = 2**24  # numbers of a kernel at a time


def frechet_of_kept(real: Tensor, rows: Tensor, ddof: int) -> Kept:
    """`frechet_of_features` of real (m, d) and of any of `rows` (n, d), float64, to about 1e-7 of the traces.

    With X the kept rows and R the real ones, centred, tr(Σx Σr)^½ is the sum of the roots of the eigenvalues of
    X Rᵀ R Xᵀ, and X Rᵀ is what it was before but for its mean. Where few rows are left out, theirs are taken from the
    products of all.
    """
    mean = real.mean(0)
    factor = (real - mean) / (len(real) - ddof) ** 0.5
    if len(real) > real.shape[1]:
        factor = torch.linalg.qr(factor, mode="r").R
    moved = rows - mean
    squares, of_real = moved.square().sum(1), float(factor.square().sum())
    across = moved @ factor.T
    across -= across.mean(0)  # so that little cancels below
    products = across.T @ across

    def distance(index: np.ndarray) -> float:
        kept, n = torch.from_numpy(index), len(index)
        shift = moved[kept].mean(0)
        trace = (squares[kept].sum() - n * shift.square().sum()) / (n - ddof)
        if n > max(len(rows) / 2, across.shape[1]):
            left = across[_left(index, len(rows))]
            total = left.sum(0)  # less that of the kept ones, as those of all are centred
            gram = products - left.T @ left - torch.outer(total, total) / n
        else:
            product = across[kept] - across[kept].mean(0)
            gram = product @ product.T if n < product.shape[1] else product.T @ product
        roots = torch.linalg.eigvalsh(gram / (n - ddof)).clamp(min=0).sqrt()
        return float(shift.square().sum() + trace + of_real - 2 * roots.sum())

    return distance


def mmd_of_kept(real: Tensor, rows: Tensor) -> Kept:
    """`polynomial_mmd` of real (m, d) and of any of `rows` (n, d), float64; cheap where few are left out."""
    m, n = len(real), len(rows)
    of_real = float(_others(real).sum()) / (m * (m - 1))
    others = _others(rows)
    across = torch.cat([polynomial_kernel(part, real).mean(1) for part in _parts(rows, m)])

    def distance(index: np.ndarray) -> float:
        left = _left(index, n)
        between = polynomial_kernel(rows[left], rows[left])
        within = others.sum() - 2 * others[left].sum() + between.sum() - between.trace()
        k = len(index)
        return float(within / (k * (k - 1)) + of_real - 2 * across[torch.from_numpy(index)].mean())

    return distance


def _left(index: np.ndarray, n: int) -> Tensor:
    """Of n rows those that are not kept."""
    return torch.from_numpy(np.setdiff1d(np.arange(n), index, assume_unique=True))


def _others(rows: Tensor) -> Tensor:
    """(n,): the kernel of each row with all others, summed."""
    sums = torch.cat([polynomial_kernel(part, rows).sum(1) for part in _parts(rows, len(rows))])
    return sums - (rows.square().sum(1) / rows.shape[1] + 1) ** 3


def _parts(rows: Tensor, columns: int) -> tuple[Tensor, ...]:
    return rows.split(max(1, CHUNK // columns))
