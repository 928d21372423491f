"""Comparisons and errors of a benchmark's rows, by hand on small numbers, and by the same functions as `distance`."""

import numpy as np
import pytest
import torch
from small_benchmark import PROTOCOL, REAL, report_of

from ivmix.benchmarks.measuring import Measured
from ivmix.benchmarks.results import clusters, compare, p_value
from ivmix.evaluation.distance import measure_distance
from ivmix.evaluation.features import FeatureSet
from ivmix.evaluation.metrics.distances import frechet_of_features
from ivmix.evaluation.metrics.statistics import jackknife, paired_permutation
from ivmix.evaluation.protocols import PROTOCOLS

IDS = ("a", "b", "c", "d")


def of(*values: float, ids: tuple[str, ...] = IDS) -> FeatureSet:
    return FeatureSet(torch.tensor(values, dtype=torch.float64)[:, None], ids)


def gap(real: list[float], fake: list[float]) -> float:
    """Of numbers, whose covariances divide by n − 1."""
    return (np.mean(real) - np.mean(fake)) ** 2 + (np.std(real, ddof=1) - np.std(fake, ddof=1)) ** 2


def test_parts_tiled_and_pooled_are_what_they_say():
    real, first, second = [0.0, 1, 2, 5], [1.0, 1, 2, 3], [0.0, 4, 4, 8]
    measured = Measured((of(*first), of(*second)), {})
    one = of(*real, ids=())
    found = {how: compare(how, PROTOCOL, one, measured, "ours", None, 0) for how in ("parts", "tiled", "pooled")}
    assert found["parts"].parts == pytest.approx((gap(real, first), gap(real, second)))
    assert found["parts"].value == pytest.approx((gap(real, first) + gap(real, second)) / 2)
    assert found["tiled"].value == pytest.approx(gap(real * 2, first + second))
    assert found["pooled"].value == pytest.approx(gap(real, first + second))
    assert [found[how].fake for how in found] == [(4, 4), (8,), (8,)]
    assert [found[how].real for how in found] == [4, 8, 4]
    assert found["tiled"].mmd == found["pooled"].mmd  # of clips that are there twice it would be biased


def test_errors_are_of_prompts_however_samples_are_compared():
    """Samples of a prompt that are all alike tell no more than one of them."""
    rows = [np.random.default_rng(k).normal(size=(n, 3)) for k, n in enumerate((40, 30))]
    real, one = (FeatureSet(torch.from_numpy(x), tuple(f"{k}" for k in range(len(x)))) for x in rows)
    measured = Measured((one,) * 3, {})

    def distance(x: np.ndarray) -> float:
        return frechet_of_features(real.features, torch.from_numpy(x), PROTOCOLS[PROTOCOL].ddof)

    by_hand = jackknife(distance, np.concatenate([rows[1]] * 3), clusters(measured))
    assert compare("pooled", PROTOCOL, real, measured, "ours", None, 0).full_error == pytest.approx(by_hand, rel=1e-6)
    alone = measure_distance(PROTOCOLS[PROTOCOL], real, [one]).full_error
    assert alone is not None
    assert compare("parts", PROTOCOL, real, measured, "ours", None, 0).full_error == pytest.approx(alone)
    assert by_hand == pytest.approx(alone, rel=0.1)


def test_p_swaps_all_clips_of_a_prompt():
    rng = np.random.default_rng(0)
    ids = tuple(f"{k}" for k in range(12))
    real = FeatureSet(torch.from_numpy(rng.normal(size=(50, 2))))
    sets = [
        Measured(tuple(FeatureSet(torch.from_numpy(rng.normal(m, 1, (12, 2))), ids) for _ in range(2)), {})
        for m in (0, 0, 3)
    ]
    a, b = (torch.cat([one.features for one in x.samples]).numpy() for x in sets[:2])
    expected = paired_permutation(
        lambda x: frechet_of_features(real.features, torch.from_numpy(x), 1), a, b, [*ids, *ids], 199
    )
    assert p_value(real, *sets[:2], 1) == pytest.approx(expected, abs=0.02)
    assert p_value(real, sets[0], sets[2], 1) == pytest.approx(1 / 200)
    assert p_value(real, sets[0], Measured(sets[0].samples[:1], {}), 1) is None


def test_a_report_has_the_numbers_of_the_features_that_lie_beside_it(task_of, whole):
    folder = whole / "features" / PROTOCOL
    real = FeatureSet.load(folder / "real.safetensors")
    assert len(real) == REAL
    base = None
    for result in report_of(task_of(whole)).results:
        name = result.label.replace(" ", "-")
        samples = [FeatureSet.load(folder / f"{name}-{k}.safetensors") for k in (1, 2)]
        by_hand = measure_distance(PROTOCOLS[PROTOCOL], real, samples)
        found = result.distances["fvd_styleganv"]["parts"]
        for one in ("value", "parts", "full", "full_error", "mmd", "mmd_error", "real", "fake", "warnings"):
            assert getattr(found, one) == pytest.approx(getattr(by_hand, one)), one
        assert by_hand.value > 0
        assert result.p_values["fvd_styleganv"] == (
            None if base is None else p_value(real, Measured(tuple(samples), {}), base, 1)
        )
        base = base or Measured(tuple(samples), {})
