import math

import pytest
import torch

from ivmix.solvers import MAMBOG, Guided, Schedule, integrate, plain
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork

equal = torch.testing.assert_close


def paper(cond, uncond, scale, alpha):
    """arXiv 2508.03442, clip by clip."""
    found = []
    for c, u in zip(cond, uncond, strict=True):
        w = 1 + (scale - 1) * math.exp(-alpha * float((c - u).norm() / u.norm()))
        found.append(u + w * (c - u))
    return torch.stack(found)


@pytest.mark.parametrize("space", ["epsilon", "x0", "v", "flow"])
@pytest.mark.parametrize("scale", [-2.0, 1.0, 10.0])
def test_it_is_the_papers_formula(space, scale, pair, x, in_space):
    sigma, guided = 2.5, pair["video"]
    y = paper(*(in_space(space, x, part(x, sigma), sigma) for part in (guided.cond, guided.uncond)), scale, 2.0)
    x0 = MAMBOG(guided, space, 2.0).at(scale)(x, sigma)
    equal(in_space(space, x, x0, sigma), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("space", ["epsilon", "flow"])
def test_alpha_0_is_plain_guidance(space, pair, x):
    legs = plain(Schedule.scaled_linear().grid(6), 5.0)
    ours = integrate(MAMBOG(pair["video"], space, 0.0), legs, 14 * x).x
    equal(ours, integrate(pair["video"], legs, 14 * x).x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("space", ["epsilon", "x0", "flow"])
def test_where_predictions_are_parallel_it_is_guidance_by_a_known_schedule(space, x):
    """Gaussians around 0: r is a function of sigma alone, and so the scale."""
    cond, uncond = 0.5, 2.0
    network = GaussianNetwork("video", {"": Gaussian(0.0, uncond), "cat": Gaussian(0.0, cond)})
    guided = Guided(network(""), network("cat"))

    def gain(variance, sigma):  # y = gain·x
        x0 = variance / (variance + sigma**2)
        return {"x0": x0, "epsilon": (1 - x0) / sigma, "flow": (1 - x0) / sigma - x0}[space]

    def scale(sigma):
        r = abs(gain(cond, sigma) / gain(uncond, sigma) - 1)
        return 1 + 6.0 * math.exp(-1.5 * r)

    legs = plain(Schedule.ve(0.2, 8.0).grid(6))
    ours = integrate(MAMBOG(guided, space, 1.5).at(7.0), legs, 8 * x).x
    equal(ours, integrate(guided.at(lambda sigma: scale(float(sigma))), legs, 8 * x).x, rtol=1e-11, atol=1e-11)


def test_a_prediction_of_nothing_is_not_pushed(x):
    weights = MAMBOG(_nothing()).weigh(x, 0 * x, 9.0)
    equal(weights.cond, torch.ones_like(weights.cond))


def _nothing():
    network = GaussianNetwork("video", {"": Gaussian(0.0, 1.0)})
    return Guided(network(""), network(""))


@pytest.mark.parametrize("alpha", [-1.0, math.inf, math.nan, "8"])
def test_bad_options_are_refused(alpha, pair):
    with pytest.raises(ValueError, match="alpha: got"):
        MAMBOG(pair["video"], alpha=alpha)
