"""Fréchet distances of the same features as the peers' code gives them: scipy's root, torchmetrics' FID."""

from typing import Any

import numpy as np
import pytest
import torch

from ivmix.evaluation import Moments, frechet_distance
from ivmix.evaluation.metrics.distances import frechet_of_features
from ivmix.evaluation.protocols import PROTOCOLS

pytestmark = pytest.mark.slow

SHAPES = [(900, 700, 64, 1e-6), (2048, 2048, 400, 1e-6), (150, 150, 768, 1e-5), (120, 900, 256, 1e-5)]


def features(n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Of a spectrum that falls as that of a network's features does."""
    rng = np.random.default_rng(0)
    fall = np.linalg.qr(rng.normal(size=(d, d)))[0] * np.arange(1, d + 1) ** -0.7
    return 3 * rng.normal(size=(n, d)) @ fall.T + 1, 2 * rng.normal(size=(m, d)) @ fall.T


@pytest.mark.parametrize(("n", "m", "d", "tolerance"), SHAPES)
@pytest.mark.parametrize("name", ["stylegan-v", "cmvq-styleganv", "plain"])
def test_the_value_is_that_of_scipys_root(name: str, n: int, m: int, d: int, tolerance: float) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    x, y = features(n, m, d)
    a, b = (np.cov(z.T, ddof=PROTOCOLS[name].ddof) for z in (x, y))
    root = linalg.sqrtm(b @ a).real
    theirs = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root)
    assert PROTOCOLS[name].distance(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(theirs, rel=tolerance)


@pytest.mark.parametrize(("n", "m", "d", "tolerance"), SHAPES)
def test_the_value_is_that_of_torchmetrics_fid(n: int, m: int, d: int, tolerance: float) -> None:
    fid: Any = pytest.importorskip("torchmetrics.image.fid", reason="parity with FID needs pip install torchmetrics")
    x, y = (torch.from_numpy(z) for z in features(n, m, d))
    theirs = float(fid._compute_fid(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()))
    assert frechet_of_features(x, y) == pytest.approx(theirs, rel=tolerance)
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(theirs, rel=tolerance)
