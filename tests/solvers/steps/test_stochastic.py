import math

import pytest
import torch

from ivmix.solvers import (
    DDIM,
    ERSDE1,
    ERSDE2,
    ERSDE3,
    DPMSolverPP2M,
    DPMSolverPP2S,
    Euler,
    EulerAncestral,
    ExponentialAB2,
    Schedule,
    SDEDPMSolverPP2M,
    SDEDPMSolverPP2S,
    SDEDPMSolverPP3M,
    SDEExponentialAB2,
    composite,
    integrate,
    level,
    normal_noise,
    plain,
)
from ivmix.solvers.steps.er_sde import integral
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, flow

MEAN, VARIANCE = 0.4, 0.5
DENOISE = GaussianNetwork("video", {None: Gaussian(MEAN, VARIANCE)})(None)


def grid(n):
    return Schedule.ve(0.2, 8.0).grid(n, "uniform-lam")


def moments(solver, n, start_mean, start_variance):
    """Exact mean and variance at the last level but 0: runs are affine in their draws, one unit draw a row."""
    legs = plain(grid(n), solver=solver)[:-1]
    draws = len(legs) * (2 if isinstance(solver, SDEDPMSolverPP2S) else 1)
    state = torch.full((draws + 2, 1, 1, 1, 1), start_mean, dtype=torch.float64)
    state[-1] += math.sqrt(start_variance)
    rows = iter(torch.eye(len(state), dtype=torch.float64)[1:])
    end = integrate(DENOISE, legs, state, noise=lambda *_: next(rows).reshape(state.shape)).x.flatten()
    return end[0].item(), ((end[1:] - end[0]) ** 2).sum().item()


def test_eta_0_is_euler_both_ways(commuting, x):
    for levels in (grid(9), grid(9)[:-1].flip(0)):
        euler = integrate(commuting, plain(levels), x).x
        assert torch.equal(integrate(commuting, plain(levels, solver=DDIM(0.0)), x).x, euler)


def test_a_step_is_its_papers_formula(commuting, x):
    """arXiv 2010.02502, eqs. 12 and 16, in VP coordinates."""
    schedule, eta = Schedule.scaled_linear(), 0.7
    a, b = schedule.alpha[600] ** 2, schedule.alpha[450] ** 2
    xi = x.flip(0)
    x0 = commuting(x / a.sqrt(), schedule.sigmas[600])
    eps = (x - a.sqrt() * x0) / (1 - a).sqrt()
    spread = eta * ((1 - b) / (1 - a)).sqrt() * (1 - a / b).sqrt()
    expected = b.sqrt() * x0 + (1 - b - spread**2).sqrt() * eps + spread * xi
    moved, _ = DDIM(eta).step(commuting, x / a.sqrt(), schedule.sigmas[600], schedule.sigmas[450], noise=lambda *_: xi)
    torch.testing.assert_close(b.sqrt() * moved, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [0.5, 1.0, math.sqrt(2.0), lambda sigma: float(sigma > 1)])
def test_every_churn_keeps_the_marginals(eta, slopes):
    """From N(mean, variance + sigma²) the exact denoiser leads to the same at every level, whatever the noise; weak
    order 1."""

    def error(n):
        mean, variance = moments(DDIM(eta), n, MEAN + 0.0, VARIANCE + 64.0)
        return abs(mean - MEAN) + abs(variance - VARIANCE - 0.04)

    # gates move by up to a step: let the order of a discontinuous eta be measured by its bound only
    assert error(161) < 0.02
    if not callable(eta):
        assert slopes(error, [81, 161]) == pytest.approx([1.0], abs=0.1)


def test_sampled_moments(slopes):
    samples = 8192
    start = MEAN + math.sqrt(VARIANCE + 64) * torch.randn(
        1, samples, 1, 1, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    legs = plain(grid(60), solver=EulerAncestral())[:-1]
    end = integrate(DENOISE, legs, start, noise=normal_noise([11], start.shape[1:])).x
    mean, variance = moments(EulerAncestral(), 60, MEAN, VARIANCE + 64)  # so discretisation is no part of the bound
    assert end.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / samples))
    assert end.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / samples))


@pytest.mark.parametrize("pattern", ["RV-IV", "RR-IV"])
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.2, 0.8)])
def test_composites_with_noise_run_under_their_own_eta(pattern, interval, pair, x):
    sigmas = grid(41)
    limit = composite(**pair, pattern=pattern, guidance=2.0, interval=interval, reference=sigmas)
    noise = normal_noise([0, 1], x.shape[1:])
    run = integrate(limit, plain(sigmas, solver=DDIM(limit.eta)), 8 * x, noise=noise)
    assert run.nfe["video"] == 41
    for solver in (Euler(), DDIM(0.5)):
        with pytest.raises(ValueError, match="composite has churn"):
            integrate(limit, plain(sigmas, solver=solver), 8 * x, noise=noise)


def test_what_it_cannot_do_is_refused(x):
    with pytest.raises(ValueError, match="goes down"):
        DDIM().step(DENOISE, x, 1.0, 2.0, noise=lambda *_: x)
    with pytest.raises(ValueError, match="noise: got None"):
        DDIM().step(DENOISE, x, 2.0, 1.0)
    with pytest.raises(ValueError, match="more steps"):
        DDIM(2.0).step(DENOISE, x, 2.0, 0.5, noise=lambda *_: x)
    with pytest.raises(ValueError, match="draws noise"):
        integrate(DENOISE, plain(grid(4), solver=DDIM()), x)
    for eta in (-1.0, math.nan):
        with pytest.raises(ValueError, match="eta"):
            DDIM(eta)


SDES = [SDEDPMSolverPP2M, SDEExponentialAB2, SDEDPMSolverPP3M, SDEDPMSolverPP2S]
every_sde = pytest.mark.parametrize("solver", SDES)


@every_sde
@pytest.mark.parametrize("churn", [0.5, 1.0, 2.0])
def test_every_sde_solver_keeps_the_marginals(solver, churn, slopes):
    """Weak order 2 where ancestral sampling has 1: the variance's error (the mean is exact) at 81 steps is 30 to 180
    times smaller. Local slopes carry an O(1/n) bias, 0.35 for the third-order rule, whose leading term is small."""

    def error(solver):
        def measured(n):
            mean, variance = moments(solver, n, MEAN, VARIANCE + 64.0)
            return abs(mean - MEAN) + abs(variance - VARIANCE - 0.04)

        return measured

    fast, first = error(solver(churn)), error(DDIM(math.sqrt(churn)))
    assert fast(81) < first(81) / 25
    assert slopes(fast, [81, 161]) == pytest.approx([2.0], abs=0.4 if solver is SDEDPMSolverPP3M else 0.15)


@pytest.mark.parametrize(("solver", "order"), [(ERSDE1(), 1), (ERSDE2(), 2), (ERSDE2(2.0), 2), (ERSDE3(), 2)])
def test_every_er_sde_solver_keeps_the_marginals(solver, order, slopes):
    """Their leading terms are those of the ODE's rule: the third has most of an order more at these steps."""

    def error(n):
        mean, variance = moments(solver, n, MEAN, VARIANCE + 64.0)
        return abs(mean - MEAN) + abs(variance - VARIANCE - 0.04)

    assert order - 0.1 < slopes(error, [81, 161])[0] < order + (0.1 if solver.window < 3 else 1.0)


@pytest.mark.parametrize("solver", [*(sde(0.5) for sde in SDES), *(sde(3.0) for sde in SDES), ERSDE3(), ERSDE2(3.0)])
def test_known_data_is_sampled_exactly(solver):
    """Where x0 is constant, one step of any length leads from x0 + sigma·N(0, 1) to x0 + sigma'·N(0, 1)."""
    units = iter(torch.eye(3, dtype=torch.float64).reshape(3, 3, 1))
    x = 0.7 + 4 * next(units)
    moved, _ = solver.step(lambda y, sigma: torch.full_like(y, 0.7), x, 4.0, 1.0, noise=lambda *_: next(units))
    assert (moved - 0.7).norm().item() == pytest.approx(1.0, abs=1e-14)
    assert moved[0].item() > 0.7  # what is left of the old noise


@pytest.mark.parametrize(
    ("solver", "ode"),
    [
        (SDEDPMSolverPP2M(0.0), DPMSolverPP2M(end="euler")),
        (SDEExponentialAB2(0.0), ExponentialAB2(end="euler")),
        (SDEDPMSolverPP2S(0.0), DPMSolverPP2S(end="euler")),
        (SDEDPMSolverPP2S(0.0, 0.3), DPMSolverPP2S(0.3, end="euler")),
    ],
)
def test_without_churn_it_is_the_odes_solver_both_ways(solver, ode, commuting, x):
    for levels in (grid(9), grid(9)[:-1].flip(0)):
        expected = integrate(commuting, plain(levels, solver=ode), x).x
        assert torch.equal(integrate(commuting, plain(levels, solver=solver), x).x, expected)


@pytest.mark.parametrize(
    ("solver", "order"), [(ERSDE1(0.0), 1), (ERSDE2(0.0), 2), (ERSDE3(0.0), 3), (ERSDE3(0.0, weight="public"), 2)]
)
def test_er_sde_without_noise_solves_the_ode(solver, order, commuting, x, slopes):
    """From exact values of x0 before it, a step of h has the local order that its polynomial in sigma gives."""

    def error(n):
        h = 1 / n
        levels = [2.0, 2.0 + h, 2.0 + 2 * h]
        past = [(commuting(flow(commuting, x, 2.0, level), torch.tensor(level)), level) for level in levels]
        moved, _ = solver.step(commuting, x, 2.0, 2.0 - h, tuple(past[1:]))
        return (moved - flow(commuting, x, 2.0, 2.0 - h)).norm()

    assert slopes(error, [32, 64]) == pytest.approx([order + 1], abs=0.1)


@pytest.mark.parametrize("eta", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(("at", "to"), [(14.6, 7.0), (80.0, 0.02), (2e4, 12.7), (0.05, 0.001)])
def test_integrals_of_er_sde_are_exact_to_rounding_and_its_churn_is_its_noise_scales(eta, at, to):
    """Of phi(to)·t^m/phi² dphi as the paper has it, dphi/phi being (1 + churn)·dsigma/sigma, with panels in plenty;
    the solver's are by parts."""
    solver = ERSDE3(eta)

    def integrand(u, m):
        sigma = at * math.exp(u)
        return to / sigma * solver.excess(to, sigma) * math.expm1(u) ** m * (1 + solver.churn_at(level(sigma)))

    expected = [integral(lambda u, m=m: integrand(u, m), math.log(to / at), 0.0, 1000) for m in range(3)]
    assert solver.moments([0.0, 0.5, 2.0], at, to) == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_a_two_stage_step_draws_what_its_second_evaluation_saw_and_the_rest(x):
    """Two draws, in the order of the path, the second not where the second evaluation is the end."""
    for r, spans in ((0.5, [(4.0, 2.0), (2.0, 1.0)]), (1.0, [(4.0, 1.0)])):
        asked = []

        def noise(sigma, sigma_next, asked=asked):
            asked.append((sigma.item(), sigma_next.item()))
            return x

        SDEDPMSolverPP2S(r=r).step(DENOISE, x, 4.0, 1.0, noise=noise)
        assert asked == spans


@pytest.mark.parametrize("pattern", ["RV-IV", "RR-IV"])
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.2, 0.8)])
def test_sde_2m_follows_composites_with_noise_in_few_steps(pattern, interval, pair, x):
    """A grid of 9 levels, whose steps are too long for `DDIM` of two R legs."""
    scales = {"guidance": 1.5, "image_guidance": 0.3, "video_guidance": 0.3}
    limit = composite(**pair, pattern=pattern, **scales, interval=interval, reference=grid(9))
    noise = normal_noise([0, 1], x.shape[1:])
    run = integrate(limit, plain(grid(9), solver=SDEDPMSolverPP2M(limit.churn)), 8 * x, noise=noise)
    assert run.x.isfinite().all()
    assert run.nfe["video"] == 9
    if pattern == "RR-IV":
        with pytest.raises(ValueError, match="more steps"):
            integrate(limit, plain(grid(9), solver=DDIM(limit.eta)), 8 * x, noise=noise)
    with pytest.raises(ValueError, match="composite has churn"):
        integrate(limit, plain(grid(9), solver=SDEDPMSolverPP2M(0.3)), 8 * x, noise=noise)


@pytest.mark.parametrize("solver", [*SDES, ERSDE2, ERSDE3])
def test_sde_solvers_refuse_what_they_cannot_do(solver, x):
    with pytest.raises(ValueError, match="goes down"):
        solver().step(DENOISE, x, 1.0, 2.0, noise=lambda *_: x)
    with pytest.raises(ValueError, match="draws noise"):
        integrate(DENOISE, plain(grid(4), solver=solver()), x)
    for value in (-1.0, math.nan):
        with pytest.raises(ValueError, match=r"churn|eta"):
            solver(value)


@pytest.mark.parametrize("make", [lambda: ERSDE3(weight="half"), lambda: SDEDPMSolverPP3M(weight="half")])
def test_unknown_weights_are_refused(make):
    with pytest.raises(ValueError, match="weight: got 'half'"):
        make()
    with pytest.raises(ValueError, match="r: got"):
        SDEDPMSolverPP2S(r=0.0)
