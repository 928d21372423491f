import math

import pytest
import torch

from ivmix.solvers import Guided, Schedule, autoguidance, integrate, plain
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, flow

SIGMAS = Schedule.ve(0.2, 8.0).grid(6, "uniform-lam")


def test_it_is_the_papers_equation(pair, x):
    """arXiv 2406.02507: D_w = w·D_1 + (1 - w)·D_0."""
    strong, weak = pair["video"].at(2.0), pair["image"].cond
    found = autoguidance(strong, weak, 1.7)
    torch.testing.assert_close(found(x, 1.0), 1.7 * strong(x, 1.0) - 0.7 * weak(x, 1.0), rtol=0, atol=1e-12)
    assert found.total(1.0) == pytest.approx(1.0)


def test_guidance_is_the_case_of_a_network_without_its_condition(pair, x):
    u, c = pair["video"].uncond, pair["video"].cond
    assert torch.equal(autoguidance(c, u, 7.5)(x, 1.0), Guided(u, c).at(7.5)(x, 1.0))


def test_at_scale_1_the_weak_network_costs_nothing(pair, x):
    strong, weak = pair["video"].at(2.0), pair["image"].cond
    assert integrate(autoguidance(strong, weak, 1.0), plain(SIGMAS), 8 * x).nfe == {"video": 6}
    late = autoguidance(strong, weak, lambda sigma: 2.0 if sigma < 1 else 1.0)
    count = sum(sigma < 1 for sigma in SIGMAS[:-1].tolist())
    assert 0 < count < 6
    assert integrate(late, plain(SIGMAS), 8 * x).nfe == {"video": 6, "image": count}


def test_of_gaussians_it_draws_a_narrower_one_than_the_strong_network(x):
    """What the weak one blurs is undone: with variances k_s < k_w the spread goes as ((k_s + s²)^2 / (k_w + s²))^(1/2),
    to less than the data's. Exact, by the closed-form flow."""
    strong = GaussianNetwork("video", {None: Gaussian(0.0, 0.5)})(None)
    weak = GaussianNetwork("image", {None: Gaussian(0.0, 1.5)})(None)
    ratio = flow(autoguidance(strong, weak), 8 * x, 8.0, 0.0) / (8 * x)
    expected = (0.5 / 64.5) / math.sqrt(1.5 / 65.5)
    torch.testing.assert_close(ratio, torch.full_like(ratio, expected))
    assert expected * math.sqrt(64.5) < math.sqrt(0.5)


def test_what_is_not_linear_or_not_there_is_refused(pair):
    with pytest.raises(TypeError, match="strong: got a Guided, expected an Affine"):
        autoguidance(pair["video"], pair["image"].cond)
    with pytest.raises(TypeError, match="weak: got a function"):
        autoguidance(pair["video"].cond, lambda x, sigma: x)
    with pytest.raises(ValueError, match="scale: got nan"):
        autoguidance(pair["video"].cond, pair["image"].cond, math.nan)
