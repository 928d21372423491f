import math
from itertools import pairwise

import pytest
import torch

from ivmix.solvers import Guided, Schedule, cfgpp, integrate, plain, planned_nfe
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, Mixture

SCHEDULE = Schedule.scaled_linear()
SIGMAS = SCHEDULE.grid(6)
HIGH, LOW = 8.0, 0.5
STARTS = torch.tensor([-8.0, 0.0, 8.0, 16.0], dtype=torch.float64).reshape(4, 1, 1, 1, 1)


def test_the_papers_loop_in_its_own_symbols(pair, x):
    """arXiv 2406.08070: x0 guided by lambda, noised again with the unconditional epsilon."""
    alpha_bar = SCHEDULE.alpha_at(SIGMAS[:-1]) ** 2
    alpha_bar = torch.cat([alpha_bar, alpha_bar.new_ones(1)])
    z = x
    for i in range(6):
        a, s = alpha_bar[i].sqrt(), (1 - alpha_bar[i]).sqrt()
        u, c = ((z - a * field(z / a, SIGMAS[i])) / s for field in (pair["video"].uncond, pair["video"].cond))
        x0 = (z - s * (u + 0.6 * (c - u))) / a
        z = alpha_bar[i + 1].sqrt() * x0 + (1 - alpha_bar[i + 1]).sqrt() * u
    run = integrate(pair, cfgpp(SIGMAS, 0.6), SCHEDULE.start(x, SIGMAS[0]))
    torch.testing.assert_close(run.x, z, rtol=0, atol=1e-12)
    assert run.nfe == planned_nfe(cfgpp(SIGMAS)) == {"video": 6}


def test_from_pure_noise_too(pair, x):
    """A rectified flow begins at sigma = inf, where eps is the state itself: x' = x0(scale) + sigma'·z."""
    sigmas = Schedule.rectified_flow().grid(4)
    first = cfgpp(sigmas, 0.6)[:1]
    expected = pair["video"].at(0.6)(x, math.inf) + sigmas[1] * x
    torch.testing.assert_close(integrate(pair, first, x).x, expected, rtol=0, atol=1e-12)


def test_scales_may_be_scheduled():
    found = [leg.guidance for leg in cfgpp(SIGMAS, lambda u: u)]
    shares = (1 - SIGMAS[1:] / SIGMAS[:-1]).tolist()
    assert found == pytest.approx([i / 5 / share for i, share in enumerate(shares)])


def classes(uncond, cond):
    network = GaussianNetwork("video", {"": uncond, "c": cond})
    return Guided(network(""), network("c"))


EITHER = Mixture([Gaussian(-1.0, 0.25), Gaussian(1.0, 0.25)])
PEAKED = classes(Gaussian(0.0, 2.0), Gaussian(1.0, 0.5))  # log p(c|x) is a parabola
ENDLESS = classes(EITHER, Gaussian(1.0, 0.25))  # … rises for all x


@pytest.mark.parametrize("length", [0.5, 1e-3, 1e-6])
def test_a_steps_guidance_does_not_shrink_with_the_step(length):
    """It is scale·sigma²·grad log p(c|x), whatever the length: the rest is Euler's unconditional step."""
    sigmas, x = torch.tensor([2.0, 2.0 - length], dtype=torch.float64), STARTS / 4
    plus, uncond = (integrate(ENDLESS, legs, x).x for legs in (cfgpp(sigmas, 0.6), plain(sigmas, 0.0)))
    at = x.clone().requires_grad_()
    likelihood = Mixture([Gaussian(1.0, 0.25)]).log_density(at, 2.0) - EITHER.log_density(at, 2.0)
    (ascent,) = torch.autograd.grad(likelihood.sum(), at)
    torch.testing.assert_close(plus - uncond, 0.6 * 2.0**2 * ascent, rtol=1e-9, atol=1e-9)


def ends(guided, n, plan=cfgpp, scale=0.6):
    """(4,) states at LOW after n steps."""
    return integrate(guided, plan(Schedule.ve(LOW, HIGH).grid(n + 1, "uniform-lam"), scale)[:-1], STARTS).x.flatten()


def test_where_log_p_has_a_maximum_it_settles_at_d_0_whatever_the_start(slopes):
    """At (x - 1)/(.5 + sigma²) = x/(2 + sigma²) = eps_u/sigma, not where any ODE leads; at first order, since a step
    there is balanced by the unconditional one. The four starts agree to 1e-9 from 200 steps on."""
    rest = (2.0 + LOW**2) / 1.5
    assert slopes(lambda n: (ends(PEAKED, n) - rest).norm(), [200, 400, 800]) == pytest.approx([1, 1], abs=0.08)
    assert ends(PEAKED, 400).std() < 1e-9
    torch.testing.assert_close(PEAKED.direction(torch.full_like(STARTS, rest), LOW), torch.zeros_like(STARTS))


def test_where_log_p_has_none_it_drifts_further_with_every_refinement():
    """Of two Gaussians of one covariance: four times the steps move the end by more than the last four times did,
    while guidance of a fixed scale converges."""
    far = [ends(ENDLESS, n) for n in (25, 100, 400, 1600)]
    drifts = [b - a for a, b in pairwise(far)]
    assert (drifts[0] > 0.5).all()
    assert all((after > before).all() for before, after in pairwise(drifts))
    fixed = [ends(ENDLESS, n, plain, 7.5) for n in (25, 100, 400)]
    assert ((fixed[2] - fixed[1]).abs() < (fixed[1] - fixed[0]).abs() / 3).all()


@pytest.mark.parametrize("scale", [None, math.nan, "1"])
def test_scales_that_are_none_are_refused(scale):
    with pytest.raises(ValueError, match="scale"):
        cfgpp(SIGMAS, scale)


def test_a_rising_grid_is_refused():
    with pytest.raises(ValueError, match="rising"):
        cfgpp(SIGMAS[:-1].flip(0))
