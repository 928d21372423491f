import pytest
import torch

from ivmix.solvers import TCFG, Guided, Schedule, integrate, plain
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork

equal = torch.testing.assert_close


def paper(cond, uncond, scale):
    """arXiv 2503.18137, clip by clip, by a singular value decomposition."""
    found = []
    for c, u in zip(cond, uncond, strict=True):
        *_, rows = torch.linalg.svd(torch.stack([c.flatten(), u.flatten()]), full_matrices=False)
        kept = (rows[0] @ u.flatten() * rows[0]).reshape(u.shape)
        found.append(kept + scale * (c - kept))
    return torch.stack(found)


@pytest.mark.parametrize("space", ["epsilon", "x0", "v", "flow"])
@pytest.mark.parametrize("scale", [-2.0, 0.0, 1.0, 7.5])
def test_it_is_the_papers_formula(space, scale, pair, x, in_space):
    sigma, guided = 2.5, pair["video"]
    y = paper(*(in_space(space, x, part(x, sigma), sigma) for part in (guided.cond, guided.uncond)), scale)
    x0 = TCFG(guided, space).at(scale)(x, sigma)
    equal(in_space(space, x, x0, sigma), y, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("angle", [0.05, 1.0, 1.5, 2.0, 3.1])
@pytest.mark.parametrize("length", [0.1, 0.999, 3.0])
def test_any_two_predictions_are_decomposed(angle, length, x, pair):
    """Short and long, alike, across and against each other."""
    cond = x / x.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1, 1)
    across = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    across = across - (across * cond).sum((1, 2, 3, 4), keepdim=True) * cond
    across = across / across.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1, 1)
    turn = torch.tensor(angle, dtype=x.dtype)
    uncond = length * (turn.cos() * cond + turn.sin() * across)
    weights = TCFG(pair["video"]).weigh(cond, uncond, 4.0)
    y = weights.cond * cond + weights.uncond * uncond
    equal(y, paper(cond, uncond, 4.0), rtol=1e-10, atol=1e-10)


def test_parallel_predictions_make_it_plain_guidance(x):
    """Gaussians around 0: nothing of u is tangential, in any space."""
    network = GaussianNetwork("video", {"": Gaussian(0.0, 2.0), "cat": Gaussian(0.0, 0.5)})
    guided, legs = Guided(network(""), network("cat")), plain(Schedule.scaled_linear().grid(6), 5.0)
    expected = integrate(guided, legs, 14 * x).x
    for space in ("epsilon", "x0", "flow"):
        equal(integrate(TCFG(guided, space), legs, 14 * x).x, expected, rtol=1e-11, atol=1e-11)


def test_predictions_without_a_leading_direction_keep_half(x, pair):
    cond, uncond = torch.zeros_like(x), torch.zeros_like(x)
    cond[:, 0], uncond[:, 1] = 1.0, 1.0
    weights = TCFG(pair["video"]).weigh(cond, uncond, 3.0)
    equal(weights.cond, torch.full_like(weights.cond, 3.0))
    equal(weights.uncond, torch.full_like(weights.uncond, -1.0))
