"""Intervals cover, standard errors are the textbook's, p-values are uniform under the null and small under a shift."""

import numpy as np
import pytest

from ivmix.evaluation import interval, jackknife, paired_permutation


def names(n: int, size: int = 1) -> list[str]:
    """n names in groups of `size`, cycling as captions do."""
    return [str(k % (n // size)) for k in range(n)]


def mean(x: np.ndarray) -> float:
    return float(x.mean())


# --- intervals ------------------------------------------------------------------------------------------------------


def test_the_interval_covers_the_mean_of_a_normal_sample_about_as_often_as_it_says():
    """95 % nominal; 400 draws have a deviation of 1.1 %, and percentile intervals run a little narrow."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(400):
        low, high = interval(rng.normal(size=64), names(64), resamples=400)
        hits += low <= 0 <= high
    assert 0.90 <= hits / 400 <= 0.98


def test_clips_of_one_caption_count_as_one_cluster():
    values = np.repeat(np.random.default_rng(0).normal(size=32), 4)
    clustered = interval(values, [str(k // 4) for k in range(128)])
    separate = interval(values, names(128))
    ratio = (clustered[1] - clustered[0]) / (separate[1] - separate[0])
    assert ratio == pytest.approx(2.0, rel=0.15)  # four identical clips carry the information of one: sqrt(4)


def test_the_interval_covers_where_clips_of_a_caption_are_alike():
    """Half the variance belongs to the caption: single clips as clusters would cover far less than 95 %."""
    rng, hits, careless = np.random.default_rng(2), 0, 0
    clusters = names(256, 4)
    for _ in range(300):
        values = np.tile(rng.normal(size=64), 4) + rng.normal(size=256)
        low, high = interval(values, clusters, resamples=300)
        hits += low <= 0 <= high
        low, high = interval(values, names(256), resamples=300)
        careless += low <= 0 <= high
    assert 0.90 <= hits / 300 <= 0.98
    assert careless / 300 < 0.88  # half-width 1.96/√2.5 errors: 78 % in theory


# --- jackknife ------------------------------------------------------------------------------------------------------


def test_the_jackknife_of_a_mean_is_the_textbook_standard_error():
    values = np.random.default_rng(0).normal(size=40)
    assert jackknife(mean, values, names(40)) == pytest.approx(values.std(ddof=1) / np.sqrt(40), rel=1e-12)


def test_the_jackknife_of_a_mean_over_clusters_is_that_of_their_means():
    values, clusters = np.random.default_rng(0).normal(size=60), names(60, 4)
    means = values.reshape(4, 15).mean(0)
    assert jackknife(mean, values, clusters) == pytest.approx(means.std(ddof=1) / np.sqrt(15), rel=1e-12)


def test_unequal_clusters_have_a_closed_form_too():
    """Of a mean: (1/G) Σ m/(n − m) (mean of cluster − mean of all)²."""
    values, clusters = np.random.default_rng(0).normal(size=10), list("abbccccddd")
    groups = [values[np.array(clusters) == name] for name in "abcd"]
    terms = [len(g) / (10 - len(g)) * (g.mean() - values.mean()) ** 2 for g in groups]
    assert jackknife(mean, values, clusters) == pytest.approx(np.sqrt(np.mean(terms)), rel=1e-12)


def test_clusters_of_unequal_size_keep_the_jackknife_honest():
    """Against the deviation over 400 fresh samples: both sides have noise, a few per cent each."""
    rng = np.random.default_rng(3)
    clusters = [str(g) for g, size in enumerate([1, 2, 3, 4] * 8) for _ in range(size)]
    index = np.array(clusters, int)
    draws = [rng.normal(size=32)[index] + rng.normal(size=80) for _ in range(400)]
    claimed = np.sqrt(np.mean([jackknife(mean, x, clusters) ** 2 for x in draws]))
    assert claimed == pytest.approx(np.std([mean(x) for x in draws], ddof=1), rel=0.1)


def test_the_jackknife_of_a_smooth_statistic_is_the_delta_method():
    """The square of a mean has error 2|μ| s/√n to first order; the next is smaller by s/(μ√n), here 1/100."""
    values = np.random.default_rng(0).normal(5, 1, size=400)
    expected = 2 * values.mean() * values.std(ddof=1) / 20
    assert jackknife(lambda x: mean(x) ** 2, values, names(400)) == pytest.approx(expected, rel=0.02)


# --- permutation ----------------------------------------------------------------------------------------------------


def test_p_values_are_uniform_where_the_samplers_are_alike():
    """300 p-values against the uniform law: Kolmogorov's distance exceeds 1.63/√n in 1 % of runs. Clips of a caption
    are alike and the two samplers' clips too, as with common noise."""
    rng, clusters, ps = np.random.default_rng(0), names(32, 4), []
    for seed in range(300):
        shared = np.tile(rng.normal(size=(8, 2)), (4, 1))
        a, b = (shared + rng.normal(size=(32, 2)) + np.tile(rng.normal(size=(8, 2)), (4, 1)) for _ in range(2))
        ps.append(paired_permutation(lambda x: float((x.mean(0) ** 2).sum()), a, b, clusters, 99, seed))
    grid = np.sort(ps)
    assert np.abs(grid - (np.arange(300) + 0.5) / 300).max() < 1.63 / np.sqrt(300) + 0.01  # p moves in steps of 1 %


def test_a_shift_gives_the_smallest_p_value():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(64, 3))
    b = a + 0.5 + 0.1 * rng.normal(size=a.shape)
    assert paired_permutation(mean, a, b, names(64, 4), resamples=199) == 1 / 200


def test_swaps_of_whole_clusters_alone_are_drawn():
    """Two clusters allow four assignments; two of them are as extreme as the observed one, so p is near 1/2."""
    a, b = np.zeros(20), np.array([1.0, 3.0] * 10)
    assert paired_permutation(mean, a, b, names(20, 10), resamples=1999) == pytest.approx(0.5, abs=0.05)


def test_the_same_clips_twice_give_p_one_and_a_seed_repeats():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 32))
    assert paired_permutation(mean, a, a, names(32), resamples=50) == 1
    first, again = (paired_permutation(mean, a, b, names(32), 99, seed=1) for _ in range(2))
    assert first == again


def test_ties_that_differ_by_rounding_count():
    """Both samplers' sums are 1.5 whatever is swapped, but for the last bit: added in turn, 2e-16 apart as observed and
    not at all after one swap of a cluster."""
    a, b = np.array([0.6, 0.2, 0.1, 0.3, 0.2, 0.1]), np.array([0.1, 0.6, 0.2, 0.1, 0.3, 0.2])

    def added_in_turn(x: np.ndarray) -> float:
        return float(np.add.accumulate(x)[-1])

    mixed = [np.concatenate([x[:3], y[3:]]) for x, y in ((a, b), (b, a))]
    assert added_in_turn(a) != added_in_turn(b)
    assert added_in_turn(mixed[0]) == added_in_turn(mixed[1])
    assert paired_permutation(added_in_turn, a, b, list("uuuvvv"), resamples=99) == 1


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistic", [
    interval, lambda x, c: jackknife(mean, x, c), lambda x, c: paired_permutation(mean, x, x, c, 9),
])  # fmt: skip
def test_rows_and_clusters_that_do_not_match_are_refused(statistic):
    for rows, clusters in ((np.zeros(3), ["a"] * 2), (np.zeros(0), []), (np.array(1.0), ["a"])):
        with pytest.raises(ValueError, match="one name a row"):
            statistic(rows, clusters)
    with pytest.raises(ValueError, match="NaN"):
        statistic(np.array([1, np.nan]), ["a", "b"])


def test_one_cluster_leaves_nothing_to_leave_out():
    with pytest.raises(ValueError, match="two or more"):
        jackknife(mean, np.zeros(3), ["a"] * 3)


def test_samplers_with_different_clips_are_not_paired():
    with pytest.raises(ValueError, match="same clips"):
        paired_permutation(mean, np.zeros((3, 1)), np.zeros((3, 2)), names(3))
