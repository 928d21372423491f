"""Distances equal closed forms, independent formulae and brute force, and refuse what they cannot compare."""

import numpy as np
import pytest
import torch

from ivmix.evaluation import Moments, frechet_distance, frechet_of_features, polynomial_mmd


def exact(mean: np.ndarray, covariance: np.ndarray, count: int = 100) -> Moments:
    """Moments of a Gaussian that is known, not sampled."""
    return Moments(count, torch.from_numpy(mean), torch.from_numpy(covariance * (count - 1)))


def random_covariance(d: int, rng: np.random.Generator, rank: int | None = None) -> np.ndarray:
    draw = rng.normal(size=(d, rank or d))
    return draw @ draw.T


def reference(mean_a: np.ndarray, mean_b: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """As torchmetrics' FID: the root's trace from the eigenvalues of the unsymmetric product."""
    roots = np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * roots)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_diagonal_gaussians_have_a_closed_form(rng):
    """Commuting covariances: ‖μa − μb‖² + Σ(√a − √b)²."""
    mean, a, b = rng.normal(size=(2, 7)), rng.uniform(0.1, 9, size=7), rng.uniform(0.1, 9, size=7)
    expected = ((mean[0] - mean[1]) ** 2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    found = frechet_distance(exact(mean[0], np.diag(a)), exact(mean[1], np.diag(b)))
    assert found == pytest.approx(expected, rel=1e-13)


def test_rotated_together_the_distance_stays(rng):
    rotation = np.linalg.qr(rng.normal(size=(7, 7)))[0]
    a, b, zero = rng.uniform(0.1, 9, size=7), rng.uniform(0.1, 9, size=7), np.zeros(7)
    turned = [exact(zero, rotation * c @ rotation.T) for c in (a, b)]
    assert frechet_distance(*turned) == pytest.approx(((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-12)


def test_two_by_two_covariances_that_do_not_commute(rng):
    """tr(√(AB)) = √(tr(AB) + 2 √det(AB)) in two dimensions (Cayley-Hamilton)."""
    for _ in range(20):
        a, b = random_covariance(2, rng), random_covariance(2, rng)
        root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
        expected = np.trace(a) + np.trace(b) - 2 * root
        assert frechet_distance(exact(np.zeros(2), a), exact(np.zeros(2), b)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 20), (60, 60, 64), (30, 500, 48)])
def test_the_distance_is_the_peers(n, m, d, ddof, rng):
    """To 1e-6 relative: where n < d the peers' eigenvalues of an unsymmetric, singular product are the rough side."""
    x, y = rng.normal(size=(n, d)) + 0.3, rng.normal(size=(m, d)) @ rng.normal(size=(d, d))
    cov = [np.cov(z.T, ddof=ddof) for z in (x, y)]
    expected = reference(x.mean(0), y.mean(0), *cov)
    assert frechet_distance(Moments.of(x), Moments.of(y), ddof) == pytest.approx(expected, rel=1e-6)
    assert frechet_of_features(x, y, ddof) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 20), (20, 30, 96), (20, 300, 96), (2, 2, 5), (5, 7, 1)])
def test_both_forms_agree_where_covariances_are_singular_too(n, m, d, offset, rng):
    """1e-9 of the traces: an eigenvalue that is zero but for rounding, rooted, would leave 1e-8 each. Directions that
    are never used (dead features) make covariances singular at any n."""
    x, y = rng.normal(size=(n, d)) + offset, 2 * rng.normal(size=(m, d)) + offset
    x[:, : d // 4] = y[:, d // 5 : d // 3] = 0
    scale = x.var() * d + y.var() * d if offset == 0 else 5 * d
    for ddof in (0, 1):
        moments = frechet_distance(Moments.of(x), Moments.of(y), ddof)
        assert frechet_of_features(x, y, ddof) == pytest.approx(moments, abs=1e-9 * scale)


def test_a_set_is_at_no_distance_from_itself_and_order_is_irrelevant(rng):
    x, y = rng.normal(size=(40, 64)), rng.normal(size=(50, 64))
    for d in (frechet_of_features, lambda a, b: frechet_distance(Moments.of(a), Moments.of(b))):
        assert d(x, x[::-1]) == pytest.approx(0, abs=1e-10)
        assert d(x, y) == pytest.approx(d(y, x), rel=1e-12)
        assert d(x, x + 0.5) == pytest.approx(64 * 0.25, rel=1e-10)  # a shift alone
        assert d(x, 3 * x) == pytest.approx(4 * (x**2).sum(0).sum() / 39, rel=0.1)  # (3 − 1)² of the variance, mostly


def test_features_without_any_variance_are_compared_by_their_means():
    x, y = np.ones((3, 4)), np.full((5, 4), 3.0)
    assert frechet_distance(Moments.of(x), Moments.of(y)) == frechet_of_features(x, y) == 16


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_mmd_is_the_double_loop(degree, rng):
    x, y = rng.normal(size=(6, 4)), rng.normal(size=(9, 4)) + 1

    def k(u, v):
        return (float(u @ v) / 4 + 1) ** degree

    within = [sum(k(u, v) for i, u in enumerate(z) for j, v in enumerate(z) if i != j) / (len(z) * (len(z) - 1))
              for z in (x, y)]  # fmt: skip
    across = sum(k(u, v) for u in x for v in y) / 54
    assert polynomial_mmd(x, y, degree) == pytest.approx(sum(within) - 2 * across, rel=1e-12)


def test_the_mmd_of_one_distribution_centres_on_zero(rng):
    """The mean of 400 independent estimates against four of its own standard errors (6e-5 a run by chance). With the
    diagonal left in, each estimate would be shifted by about 2 E[k(x, x) − k(x, y)]/n, some sixty of them."""
    draws = np.array([polynomial_mmd(*rng.normal(size=(2, 50, 16))) for _ in range(400)])
    error = draws.std(ddof=1) / 20
    assert abs(draws.mean()) < 4 * error
    x = rng.normal(size=(2000, 16))
    bias = 2 * (((x**2).sum(1) / 16 + 1) ** 3).mean() / 50 - 2 * ((x @ x.T / 16 + 1) ** 3).mean() / 50
    assert bias > 30 * error


def test_the_mmd_of_a_shift_is_its_closed_form(rng):
    """Degree 1: ‖μx − μy‖²/d, here 1/4. The estimator's deviation is 2‖μx − μy‖ √(2/n)/d = 1/√(2n), about 0.016 at
    n = 2000; four of them are allowed."""
    x, y = rng.normal(size=(2000, 4)), rng.normal(size=(2000, 4)) + 0.5
    assert polynomial_mmd(x, y, degree=1) == pytest.approx(0.25, abs=4 / np.sqrt(2 * 2000))
    assert polynomial_mmd(x, y) > 0.5


@pytest.mark.parametrize("distance", [
    frechet_of_features, polynomial_mmd, lambda x, y: frechet_distance(Moments.of(x), Moments.of(y)),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused(distance):
    x = torch.zeros(4, 3)
    for other in (x[:1], x[:0], x[:, :2]):
        for pair in ((x, other), (other, x)):
            with pytest.raises(ValueError, match="expected two or more, of one length"):
                distance(*pair)
    with pytest.raises(ValueError, match="expected \\(n, d\\)"):
        distance(x, x[0])
    with pytest.raises(ValueError, match="NaN"):
        distance(x, x.log() * 0)
