from itertools import pairwise

import pytest
import torch

from ivmix.solvers import RK4, DPMSolverPP2M, IVMixed, Schedule, integrate, plain, planned_nfe, zsampling

SCHEDULE = Schedule.scaled_linear()
SIGMAS = SCHEDULE.grid(6)


def test_the_papers_loop_in_its_own_symbols(pair, x):
    """arXiv 2412.10891, Algorithm 1 with one round: DDIM at gamma_1, its inversion at gamma_2, DDIM at gamma_1."""
    alpha_bar = SCHEDULE.alpha_at(SIGMAS[:-1]) ** 2
    alpha_bar = torch.cat([alpha_bar, alpha_bar.new_ones(1)])

    def eps(z, i, gamma):
        network = pair["video"]
        a, s = alpha_bar[i].sqrt(), (1 - alpha_bar[i]).sqrt()
        u, c = ((z - a * field(z / a, SIGMAS[i])) / s for field in (network.uncond, network.cond))
        return u + gamma * (c - u)

    def ddim(z, i, j, gamma):
        e = eps(z, i, gamma)
        x0 = (z - (1 - alpha_bar[i]).sqrt() * e) / alpha_bar[i].sqrt()
        return alpha_bar[j].sqrt() * x0 + (1 - alpha_bar[j]).sqrt() * e

    z = x
    for i in range(6):
        if i < 3:
            z = ddim(ddim(z, i, i + 1, 2.0), i + 1, i, 0.5)
        z = ddim(z, i, i + 1, 2.0)
    run = integrate(pair, zsampling(SIGMAS, 2.0, 0.5, 3), SCHEDULE.start(x, SIGMAS[0]))
    torch.testing.assert_close(run.x, z, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("gamma_1", "gamma_2"), [(1.5, 1.5), (1.5, 0.0), (2.0, 1.0)])
def test_it_converges_to_the_plain_run_of_guidance_2_gamma_1_minus_gamma_2(gamma_1, gamma_2, pair, x, slopes):
    """At first order, down to the lowest level above 0: the step from there to 0 cannot zigzag. The same guidance up
    and down leaves the plain trajectory."""

    def low(legs):
        return integrate(pair, legs[:-1], 8 * x).x

    def grid(n):
        return Schedule.ve(0.2, 8.0).grid(n, "uniform-lam")

    truth = low(plain(grid(60), 2 * gamma_1 - gamma_2, RK4()))
    found = slopes(lambda n: (low(zsampling(grid(n), gamma_1, gamma_2)) - truth).norm(), [50, 100, 200])
    assert found == pytest.approx([1, 1], abs=0.1)


def test_opposite_guidance_up_and_down_is_iv_mixed_of_the_video_network_alone(pair, x):
    mixed = IVMixed("V-V", guidance=2.0, image_guidance=None, video_guidance=lambda u: 2.0)
    legs = zsampling(SIGMAS, 2.0, -2.0)
    for ours, theirs in zip(legs, mixed.legs(SIGMAS), strict=True):
        assert (ours.source, ours.target, ours.guidance) == (theirs.source, theirs.target, theirs.guidance)
    assert torch.equal(integrate(pair, legs, 14 * x).x, integrate(pair, mixed.legs(SIGMAS), 14 * x).x)


@pytest.mark.parametrize(("zigzags", "count"), [(0, 0), (2, 2), (5, 5), (None, 5)])
def test_each_zigzag_costs_two_evaluations(zigzags, count, pair, x):
    legs = zsampling(SIGMAS, 2.0, 0.5, zigzags)
    run = integrate(pair, legs, x)
    assert run.nfe == planned_nfe(legs) == {"video": 6 + 2 * count}
    assert sorted({leg.step for leg in legs if leg.label == "zag"}) == list(range(count))
    if count == 0:
        assert legs == plain(SIGMAS, 2.0)


def test_guidance_may_be_scheduled_and_solvers_and_networks_chosen():
    legs = zsampling(SIGMAS, lambda u: 1 + u, lambda u: u, solver=DPMSolverPP2M(), network="image")
    steps = [leg for leg in legs if leg.label == "step"]
    assert steps == plain(SIGMAS, lambda u: 1 + u, DPMSolverPP2M(), "image")
    for zig, zag, step in zip(legs[:-1:3], legs[1:-1:3], steps[:-1], strict=True):
        assert (zig.source, zig.target, zig.guidance) == (step.source, step.target, step.guidance)
        assert (zag.told, zag.source, zag.target) == (step.target, step.target, step.source)
        assert zag.guidance == step.step / 5
        assert zig.network == zag.network == "image"


def test_every_leg_begins_where_the_last_one_ended():
    legs = zsampling(SIGMAS)
    assert all(a.target == b.source == b.told for a, b in pairwise(legs))


def test_a_step_from_infinity_cannot_be_undone(pair):
    sigmas = Schedule.rectified_flow().grid(4)
    assert [leg.step for leg in zsampling(sigmas) if leg.label == "zag"] == [1, 2]
    with pytest.raises(ValueError, match="zigzags: got 3, expected a whole number from 0 to 2"):
        zsampling(sigmas, zigzags=3)


@pytest.mark.parametrize("zigzags", [-1, 6, 1.0, True])
def test_zigzags_that_cannot_be_are_refused(zigzags):
    with pytest.raises(ValueError, match=r"zigzags: got .* from 0 to 5"):
        zsampling(SIGMAS, zigzags=zigzags)


def test_a_rising_grid_is_refused():
    with pytest.raises(ValueError, match="rising"):
        zsampling(SIGMAS[:-1].flip(0))
