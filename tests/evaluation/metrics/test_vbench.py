"""VBench's totals of scores at both ends of their scales, and of some alone."""

import pytest

from ivmix.evaluation.metrics.vbench import QUALITY, SEMANTIC, totals


def test_the_ends_of_all_scales_are_nothing_and_everything():
    lowest, highest = ({name: scale[end] for name, scale in (QUALITY | SEMANTIC).items()} for end in (0, 1))
    for scores, expected in ((lowest, 0), (highest, 1)):
        found = totals(scores)
        assert (found.quality, found.semantic, found.total) == pytest.approx((expected,) * 3)
        assert found.missing == ()


def test_a_missing_dimension_counts_as_nothing_and_is_named():
    found = totals({"dynamic_degree": 1.0, "aesthetic_quality": 0.5, "scene": 0.4111})
    assert found.quality == pytest.approx((0.5 + 0.5) / 6.5)
    assert found.semantic == pytest.approx(0.5 / 9)
    assert found.total == pytest.approx((4 / 6.5 + 0.5 / 9) / 5)
    assert len(found.missing) == 13
    with pytest.raises(ValueError, match=r"unknown entry 'colour'; did you mean 'color'\?"):
        totals({"colour": 1.0})
