"""Every protocol's number equals a few independent lines written from its definition."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from ivmix.evaluation.protocols import PROTOCOLS, Protocol

Distance = Callable[[np.ndarray, np.ndarray], float]


def product_root(x: np.ndarray, y: np.ndarray, ddof: int) -> float:
    """The definition: eigenvalues of the product of two covariances, rooted."""
    a, b = (np.cov(z.T, ddof=ddof) for z in (x, y))
    roots = np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum()
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * roots)


def population(x: np.ndarray, y: np.ndarray) -> float:
    return product_root(x, y, 0)


def sample(x: np.ndarray, y: np.ndarray) -> float:
    return product_root(x, y, 1)


def single(x: np.ndarray, y: np.ndarray) -> float:
    """In float32: tr √(√A B √A)."""

    def root(matrix: np.ndarray) -> np.ndarray:
        u, s, vh = np.linalg.svd(matrix)
        return u @ np.diag(np.array([v if v < 1e-10 else v**0.5 for v in s], np.float32)) @ vh

    a, b = (np.cov(z.astype(np.float32).T, dtype=np.float32) for z in (x, y))
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b) - 2 * np.trace(root(root(a) @ b @ root(a))))


def merged(x: np.ndarray, y: np.ndarray) -> float:
    values = []
    for size in (32, 64, 128, 256, 300, 512, 1024):
        for seed in (12, 22, 32, 42):
            of_x = random.Random(seed).sample(range(len(x)), size) if size < len(x) else range(len(x))
            of_y = random.Random(seed).sample(range(len(y)), size) if size < len(y) else range(len(y))
            values.append(population(x[list(of_x)], y[list(of_y)]))
    assert len(values) == 28
    return float(np.mean(values))


BY_DEFINITION: dict[str, tuple[Distance, float]] = {
    "stylegan-v": (population, 1e-8), "cd-fvd-i3d": (population, 1e-8), "cd-fvd-videomae": (population, 1e-8),
    "plain": (population, 1e-8), "cmvq-styleganv": (sample, 1e-8), "cmvq-videogpt": (single, 1e-4),
    "chronomagic-umt": (merged, 1e-8),
}  # fmt: skip


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(1100, 12)) + 0.2, rng.normal(size=(1100, 12)) @ rng.normal(size=(12, 12))


def taken(protocol: Protocol, x: np.ndarray, y: np.ndarray) -> float:
    return protocol.distance(torch.from_numpy(x), torch.from_numpy(y))


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("others", [1100, 330, 40])
def test_a_protocols_number_is_that_of_its_definition(name, others, rows):
    distance, tolerance = BY_DEFINITION[name]
    x, y = rows[0], rows[1][:others]
    assert taken(PROTOCOLS[name], x, y) == pytest.approx(distance(x, y), rel=tolerance)
    assert taken(PROTOCOLS[name], y, x) == pytest.approx(distance(y, x), rel=tolerance)


def test_the_protocols_differ_by_more_than_these_tests_allow(rows):
    x, y = rows[0][:40], rows[1][:40]
    numbers = [population(x, y), sample(x, y), merged(x, y)]
    assert min(abs(a / b - 1) for a in numbers for b in numbers if a is not b) > 1e-3


def test_the_same_clips_are_drawn_of_both_sides(rows):
    """A set is at no distance from itself, though its parts are at some from each other."""
    x, _ = rows
    assert abs(taken(PROTOCOLS["chronomagic-umt"], x, x)) < 1e-9
    assert taken(PROTOCOLS["chronomagic-umt"], x, x[::-1].copy()) > 0.1


def test_single_precision_leaves_the_smallest_variances_unrooted(rows):
    """Where all are below 1e-10 no root is taken at all: a set is then twice its variance from itself."""
    x = 1e-6 * (rows[0] - rows[0].mean(0))
    assert taken(PROTOCOLS["cmvq-videogpt"], x, x) == pytest.approx(2 * x.var(0, ddof=1).sum(), rel=1e-4)
    assert taken(PROTOCOLS["cmvq-styleganv"], x, x) == pytest.approx(0, abs=1e-9 * x.var(0).sum())
