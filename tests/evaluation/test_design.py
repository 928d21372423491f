"""Designs: which clip shows what, from which noise."""

import pytest

from ivmix.evaluation.design import Design


def test_clip_k_of_repeat_r_has_the_seed_and_caption_of_the_contract():
    design, names = Design(clips=100, repeats=3, seed=1000, batch_size=8), [f"caption {k}" for k in range(64)]
    rows = [i for batch in design.batches() for i in batch]
    assert rows == list(range(300))
    for r in range(3):
        for k in (0, 63, 64, 99):
            i = r * 100 + k
            assert design.seeds(range(i, i + 1)) == [1000 + r * 100 + k]
            assert design.captions(range(i, i + 1), names) == [names[k % 64]]


@pytest.mark.parametrize("change", [{"clips": 1}, {"repeats": 0}, {"seed": -1}, {"batch_size": 0}])
def test_a_design_that_cannot_be_names_what_was_given(change):
    (name, value), = change.items()  # fmt: skip
    with pytest.raises(ValueError, match=f"{name}.*={value}: expected"):
        Design(**change)
