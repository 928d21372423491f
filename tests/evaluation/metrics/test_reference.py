"""Distances to a fixed reference: the quick ways to them say what the plain ones say."""

import numpy as np
import pytest
import torch

from ivmix.evaluation.metrics.distances import frechet_of_features, polynomial_mmd
from ivmix.evaluation.metrics.reference import Reference
from ivmix.evaluation.metrics.statistics import jackknife, paired_permutation

CLUSTERS = [str(k % 6) for k in range(24)]


def features(n, d, seed, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.logspace(0, -3, d, dtype=torch.float64)  # as features are: a few directions carry most
    return shift + torch.randn(n, d, generator=generator, dtype=torch.float64) * spread + 3.0


@pytest.mark.parametrize(("n", "d"), [(24, 5), (24, 40), (200, 40)])
def test_quick_distances_are_the_plain_ones(n, d):
    """Fréchet: rounding of 1e-16 under a root is 1e-8, in each of d directions; the MMD merely reorders its sums."""
    x, reference = features(n, d, 1, 0.2), Reference(features(300, d, 2))
    frechet, mmd = frechet_of_features(x, reference.features), polynomial_mmd(x, reference.features)
    assert reference.frechet(x) == pytest.approx(frechet, rel=1e-9)
    assert reference.fast_frechet(x.numpy()) == pytest.approx(frechet, rel=1e-6)
    assert reference.mmd(x) == mmd
    assert reference.fast_mmd(x)(np.arange(n)) == pytest.approx(mmd, rel=1e-9)


def test_errors_and_p_values_are_those_of_the_plain_distances(monkeypatch):
    monkeypatch.setattr("ivmix.evaluation.metrics.reference.RESAMPLES", 39)
    x, base, reference = features(24, 5, 1, 0.3), features(24, 5, 3), Reference(features(50, 5, 2))
    plain = [lambda v: frechet_of_features(v, reference.features), lambda v: polynomial_mmd(v, reference.features)]
    errors = [jackknife(distance, x.numpy(), CLUSTERS) for distance in plain]
    assert reference.errors(x, CLUSTERS) == pytest.approx(errors, rel=1e-6)
    p_values = [paired_permutation(distance, x.numpy(), base.numpy(), CLUSTERS, 39) for distance in plain]
    assert reference.p_values(x, base, CLUSTERS) == tuple(p_values)
    assert max(p_values) < 1


def test_the_same_clips_twice_are_no_difference(monkeypatch):
    monkeypatch.setattr("ivmix.evaluation.metrics.reference.RESAMPLES", 9)
    x, reference = features(24, 5, 1), Reference(features(50, 5, 2))
    assert reference.p_values(x, x, CLUSTERS) == (1.0, 1.0)
