import math

import pytest
import torch

from ivmix.solvers import DPMSolverPP2M, Schedule, integrate, late, mixture, plain


def test_a_mixture_is_convex(pair, x):
    mixed = mixture(**pair, guidance=7.5, image_scale=4.0, image_weight=0.3)
    expected = 0.7 * pair["video"].at(7.5)(x, 2.0) + 0.3 * pair["image"].at(4.0)(x, 2.0)
    torch.testing.assert_close(mixed(x, 2.0), expected, rtol=0, atol=1e-12)
    assert mixed.total(2.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("weight", "name"), [(0.0, "video"), (1.0, "image")])
def test_the_ends_are_one_network_alone(weight, name, pair, x):
    mixed = mixture(**pair, guidance=3.0, image_scale=3.0, image_weight=weight)
    assert mixed.cost(1.0) == {name: 2}
    torch.testing.assert_close(mixed(x, 1.0), pair[name].at(3.0)(x, 1.0), rtol=0, atol=0)


def test_a_pair_of_one_network_is_that_network(pair, x):
    sigmas = Schedule.scaled_linear().grid(6)
    alone = integrate(pair["video"].at(2.0), plain(sigmas, solver=DPMSolverPP2M()), x).x
    mixed = mixture(pair["video"], pair["video"], 2.0, 2.0, lambda sigma: 1 / (1 + sigma))
    torch.testing.assert_close(integrate(mixed, plain(sigmas, solver=DPMSolverPP2M()), x).x, alone, rtol=0, atol=1e-12)


def test_late_mixtures_cost_nothing_early(pair):
    mixed = mixture(**pair, guidance=3.0, image_scale=3.0, image_weight=late(0.7, below=2.0))
    assert mixed.cost(2.0) == {"video": 2}
    assert mixed.cost(1.9) == {"video": 2, "image": 2}
    assert integrate(mixed, plain(torch.tensor([4.0, 3.0, 1.0, 0.0])), torch.zeros(1, 3, 4, 2, 1)).nfe == {
        "video": 3,
        "image": 1,
    }


def test_late_may_rise_smoothly():
    weight = late(0.6, below=4.0, full=1.0)
    levels = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5, 0.0], dtype=torch.float64)
    assert [float(weight(sigma)) for sigma in levels] == pytest.approx([0.0, 0.0, 0.3, 0.6, 0.6, 0.6])


@pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
def test_weights_that_are_no_share_are_refused(weight, pair, x):
    with pytest.raises(ValueError, match="image_weight"):
        mixture(**pair, guidance=1.0, image_scale=1.0, image_weight=weight)
    with pytest.raises(ValueError, match="image_weight"):
        mixture(**pair, guidance=1.0, image_scale=1.0, image_weight=lambda sigma: weight)(x, 1.0)
    with pytest.raises(ValueError, match="image_weight"):
        late(weight, below=1.0)


def test_late_levels_are_checked():
    for options in ({"below": 0.0}, {"below": math.nan}, {"below": 1.0, "full": 1.0}):
        with pytest.raises(ValueError, match="below"):
            late(0.5, **options)
