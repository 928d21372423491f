"""What stands beside a distance: parts and their mean, floors of disjoint real clips, errors, warnings, refusals."""

import numpy as np
import pytest
import torch

from ivmix.evaluation import frechet_of_features, polynomial_mmd
from ivmix.evaluation.distance import GROUPS, caveats, floor, measure_distance
from ivmix.evaluation.features import FeatureSet
from ivmix.evaluation.protocols import PROTOCOLS

PLAIN, UMT = PROTOCOLS["plain"], PROTOCOLS["chronomagic-umt"]


UNEQUAL = "30 real clips and 40 others: subsets are drawn from each side's own range"
REFUSED = "450 real clips and 401 others: the original of cmvq-videogpt refuses sides"


def drawn(n: int, d: int = 6, seed: int = 0, ids: bool = False, **said: str) -> FeatureSet:
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return FeatureSet(rows, tuple(map(str, range(n))) if ids else (), **said)


def test_parts_are_each_against_the_same_reference_and_then_averaged():
    real, parts = drawn(90), [drawn(40, seed=1), drawn(50, seed=2), drawn(40, seed=3)]
    found = measure_distance(UMT, real, parts)
    assert found.parts == tuple(UMT.distance(real.features, part.features) for part in parts)
    assert found.value == pytest.approx(np.mean(found.parts))
    assert found.full == pytest.approx(np.mean([frechet_of_features(real.features, p.features, 0) for p in parts]))
    assert found.mmd == pytest.approx(np.mean([polynomial_mmd(real.features, part.features) for part in parts]))
    assert (found.real, found.fake, found.length) == (90, (40, 50, 40), 6)


def test_full_sets_are_the_value_itself_where_a_protocol_takes_all():
    found = measure_distance(PROTOCOLS["cmvq-styleganv"], drawn(90), [drawn(80, seed=1)])
    assert found.full == found.value
    single = measure_distance(PROTOCOLS["cmvq-videogpt"], drawn(90), [drawn(80, seed=1)])
    assert single.full == found.full != single.value == pytest.approx(found.value, rel=1e-4)


def test_the_error_is_the_deviation_over_draws_of_the_clips():
    """Of 60 sets drawn alike: their deviation has an error of a tenth of itself, and the jackknife's is as large. They
    are apart from the reference, for at no distance none has a slope."""
    real = drawn(400, 3)
    sets = [FeatureSet(1.5 * drawn(80, 3, seed).features + 1) for seed in range(1, 61)]
    all_found = [measure_distance(PLAIN, real, [one]) for one in sets]
    for value, error in (("full", "full_error"), ("mmd", "mmd_error")):
        over_draws = np.std([getattr(found, value) for found in all_found], ddof=1)
        assert np.mean([getattr(found, error) for found in all_found]) == pytest.approx(over_draws, rel=0.35)


def test_the_error_of_a_shift_alone_is_closed():
    """One feature whose clips hardly differ: the distance is (shift of means)², its error 2·shift·s/√n."""
    real = FeatureSet(torch.tensor([[0.0], [0.0], [0.0]]))
    values = 100 + torch.randn(50, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = measure_distance(PLAIN, real, [FeatureSet(values)])
    assert found.full_error == pytest.approx(2 * 100 * float(values.std()) / 50**0.5, rel=0.03)


def test_clips_of_one_id_are_left_out_together():
    """Three copies of one part tell no more than one; of unknown clips they would pass for thrice as many."""
    real, one = drawn(90), drawn(40, seed=1, ids=True)
    alone = measure_distance(PLAIN, real, [one])
    assert measure_distance(PLAIN, real, [one] * 3).full_error == pytest.approx(alone.full_error)
    nameless = measure_distance(PLAIN, real, [FeatureSet(one.features)] * 3)
    assert nameless.full_error == pytest.approx(alone.full_error / 3**0.5, rel=0.1)


def test_more_clips_than_groups_are_left_out_by_the_group():
    found = measure_distance(PLAIN, drawn(900), [drawn(3 * GROUPS + 7, seed=1)])
    every = measure_distance(PLAIN, drawn(900), [drawn(GROUPS, seed=1)])
    assert 0 < found.full_error < every.full_error


def test_a_floor_is_of_real_clips_that_have_none_in_common():
    """Clips that lie on 20 distinct places: the MMD aside, a shared clip would show as a distance that is too small."""
    real = torch.arange(20.0, dtype=torch.float64)[:, None] ** 2
    found, why = floor(PLAIN, real, 8)
    assert why == ""
    assert (found.clips, found.against, found.draws) == (8, 12, 20)
    assert found.low < found.mean < found.high
    assert found.deviation > 0
    assert floor(PLAIN, real, 10)[0].against == 10
    none, why = floor(PLAIN, real, 11)
    assert none is None
    assert why == "it takes twice 11 real clips, or a pool of others; the reference has 20"


def test_a_floor_is_what_real_clips_of_that_number_score():
    """The protocol's value of real clips that the reference does not hold lies among the floor's draws."""
    real, other = drawn(600, 24), drawn(60, 24, seed=1)
    found = measure_distance(UMT, real, [other])
    assert found.floor.mean - 4 * found.floor.deviation < found.value < found.floor.mean + 4 * found.floor.deviation
    assert found.floor.mean > 1.2 * measure_distance(UMT, drawn(600, 24), [drawn(300, 24, seed=1)]).floor.mean


def test_a_pool_gives_the_floor_without_the_clips_of_the_reference():
    real, more = drawn(50), drawn(70, seed=1)
    pool = FeatureSet(torch.cat([more.features[:30], real.features * (1 + 1e-6), more.features[30:]]))
    found = measure_distance(PLAIN, real, [drawn(70, seed=2)], pool)
    expected = PLAIN.distance(real.features, more.features)  # 70 of just these 70
    assert (found.floor.mean, found.floor.high) == pytest.approx((expected, expected))
    assert (found.floor.clips, found.floor.against) == (70, 50)
    short = measure_distance(PLAIN, real, [drawn(71, seed=2)], pool)
    assert short.floor is None
    assert short.no_floor == "the pool holds 70 clips that the reference does not, 71 are needed"


def test_two_runs_give_the_same_numbers():
    assert len({repr(measure_distance(UMT, drawn(90), [drawn(40, seed=1)])) for _ in range(2)}) == 1


@pytest.mark.parametrize(
    ("name", "real", "fake", "length", "warnings"),
    [
        ("plain", 30, 40, 6, []),
        ("plain", 30, 5, 6, ["5 clips for features of length 6: "]),
        ("plain", 5, 30, 6, ["5 clips for features of length 6: "]),
        ("chronomagic-umt", 30, 40, 6, ["768 a clip: these have 6", UNEQUAL]),
        ("chronomagic-umt", 900, 900, 768, []),
        ("cmvq-videogpt", 450, 401, 400, [REFUSED]),
        ("stylegan-v", 2048, 2048, 400, []),
        ("stylegan-v", 450, 2048, 400, ["stylegan-v is meant for 2,048 clips of either side"]),
    ],
)  # fmt: skip
def test_what_a_reader_has_to_know_is_said(name, real, fake, length, warnings):
    said = caveats(PROTOCOLS[name], real, [fake], length)
    assert len(said) == len(warnings)
    assert all(part in whole for part, whole in zip(warnings, said, strict=True))


def test_what_cannot_be_compared_is_refused():
    real = drawn(30, extractor="i3d", weights="5f")
    for other, message in (
        (drawn(30, 5), "real has features of length 6, part 1 of 5"),
        (drawn(30, extractor="umt"), "real names extractor i3d, part 1 umt: expected one"),
        (drawn(30, weights="60"), "real names weights 5f, part 1 60: expected one"),
        (drawn(1), "part 1 holds the features of one clip: expected two or more"),
    ):
        with pytest.raises(ValueError, match=message):
            measure_distance(PLAIN, real, [other])
    with pytest.raises(ValueError, match="part 1 names extractor umt, part 2 i3d"):
        measure_distance(PLAIN, drawn(30), [drawn(30, extractor="umt"), drawn(30, extractor="i3d")])
    with pytest.raises(ValueError, match="the pool of 5"):
        measure_distance(PLAIN, real, [drawn(30)], drawn(30, 5))


def test_two_or_three_clips_have_a_distance_without_an_error():
    found = measure_distance(PLAIN, drawn(30), [drawn(2, seed=1)])
    assert found.full_error is None
    assert found.mmd_error is None
    assert found.value > 0
