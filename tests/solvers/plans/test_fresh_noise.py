"""Plans with fresh noise between steps: what they equal, what they keep, what they refuse."""

import math
from itertools import pairwise

import pytest
import torch

from ivmix.solvers import (
    DDIM,
    DPM2,
    AdamsBashforth2,
    DPMSolverPP2M,
    DPMSolverPP2S,
    Euler,
    Heun,
    IVMixed,
    Network,
    Schedule,
    SDEDPMSolverPP2M,
    ancestral,
    churned,
    few_step,
    integrate,
    invert,
    jumps,
    normal_noise,
    plain,
    planned_nfe,
    restart,
    switch,
    tail,
)
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork

MEAN, VARIANCE = 0.4, 0.5
NETWORK = GaussianNetwork("video", {None: Gaussian(MEAN, VARIANCE)})
DENOISE = NETWORK(None)
GRID = Schedule.scaled_linear().grid(8)
FLOW = Schedule.rectified_flow().grid(6)


def grid(n):
    return Schedule.ve(0.2, 8.0).grid(n, "uniform-lam")


def draws(x):
    source = normal_noise([1, 2], x.shape[1:])
    return lambda sigma, sigma_next: source(sigma, sigma_next).double()


def played(legs, x, denoise=DENOISE):
    return integrate(denoise, legs, x, noise=draws(x))


def moments(legs):
    """Exact mean and variance after `legs`, from N(mean, variance + 64): one unit draw a row."""
    state = torch.full((sum(leg.network is None for leg in legs) + 2, 1, 1, 1, 1), MEAN, dtype=torch.float64)
    state[-1] += math.sqrt(VARIANCE + 64)
    rows = iter(torch.eye(len(state), dtype=torch.float64)[1:])
    end = integrate(DENOISE, legs, state, noise=lambda *_: next(rows).reshape(state.shape)).x.flatten()
    return end[0].item(), ((end[1:] - end[0]) ** 2).sum().item()


@pytest.mark.parametrize("sigmas", [GRID, FLOW], ids=["VP", "flow"])
@pytest.mark.parametrize("eta", [0.6, 1.0])
def test_ancestral_with_eulers_method_is_ddim(sigmas, eta, commuting, x):
    ours = played(ancestral(sigmas, eta=eta), x, commuting)
    ddim = played(plain(sigmas, solver=DDIM(eta)), x, commuting)
    torch.testing.assert_close(ours.x, ddim.x, rtol=1e-13, atol=1e-13)
    assert ours.nfe == ddim.nfe


@pytest.mark.parametrize("solver", [None, Heun(), DPMSolverPP2M()])
def test_without_noise_they_are_the_plain_plan(solver):
    expected = plain(GRID, 7.5, solver)
    assert ancestral(GRID, 7.5, solver, eta=0.0) == expected
    assert churned(GRID, 7.5, solver, churn=0.0) == expected
    assert churned(GRID, 7.5, solver, s_min=100.0) == expected
    assert restart(expected, []) == restart(expected, [(0.5, 5.0, 0)]) == expected


@pytest.mark.parametrize("solver", [Heun(), DPM2(), DPMSolverPP2S()])
def test_ancestral_steps_are_the_solvers_to_sigma_down(solver, commuting, x):
    """sigma_up² = eta²·b²·(a² - b²)/a²; the step to 0 is Euler's: the slope before is that of another trajectory."""
    eta, noise, y = 0.8, draws(x), 14 * x
    for a, b in pairwise(GRID[:-1]):
        up = eta * b * ((a**2 - b**2) / a**2).sqrt()
        y, _ = solver.step(commuting, y, a, (b**2 - up**2).sqrt())
        y = y + up * noise(a, b)
    y = commuting(y, GRID[-2])
    run = played(ancestral(GRID, solver=solver, eta=eta), 14 * x, commuting)
    torch.testing.assert_close(run.x, y, rtol=1e-12, atol=1e-12)


def test_churned_is_edms_algorithm(commuting, x):
    """arXiv 2206.00364, Algorithm 2 with S_noise 1, in its own symbols."""
    S_churn, S_tmin, S_tmax = 1.6, 0.3, 6.0
    N, noise, y = len(GRID) - 1, draws(x), 14 * x
    for t, t_next in pairwise(GRID):
        gamma = min(S_churn / N, math.sqrt(2) - 1) if S_tmin <= t <= S_tmax else 0.0
        t_hat = t + gamma * t
        if gamma > 0:
            y = y + (t_hat**2 - t**2).sqrt() * noise(t, t_hat)
        d = (y - commuting(y, t_hat)) / t_hat
        y_next = y + (t_next - t_hat) * d
        if t_next != 0:
            d_next = (y_next - commuting(y_next, t_next)) / t_next
            y_next = y + (t_next - t_hat) * (d / 2 + d_next / 2)
        y = y_next
    legs = churned(GRID, solver=Heun(), churn=S_churn, s_min=S_tmin, s_max=S_tmax)
    torch.testing.assert_close(played(legs, 14 * x, commuting).x, y, rtol=1e-12, atol=1e-12)
    most = [leg for leg in churned(GRID, churn=40.0) if leg.network is None]
    assert all(leg.target / leg.source == pytest.approx(math.sqrt(2)) for leg in most)
    assert len(most) == N


@pytest.mark.parametrize("solver", [Euler(), Heun()], ids=["Euler", "Heun"])
@pytest.mark.parametrize(
    "plan",
    [
        lambda n, solver: ancestral(grid(n), solver=solver),
        lambda n, solver: churned(grid(n), solver=solver, churn=4.0),
        lambda n, solver: restart(plain(grid(n), solver=solver), [(0.5, 2.0, 2), (0.3, 1.0, 1)]),
    ],
    ids=["ancestral", "churned", "restart"],
)
def test_plans_keep_the_marginals_at_their_solvers_order(plan, solver, slopes):
    """The flow keeps them and so does noise, however much. Local slopes carry an O(1/n) bias, 0.1 here."""

    def error(n):
        legs = plan(n, solver)[:-1]
        mean, variance = moments(legs)
        return abs(mean - MEAN) + abs(variance - VARIANCE - legs[-1].target ** 2)

    assert slopes(error, [81, 161]) == pytest.approx([solver.order], abs=0.15)


@pytest.mark.parametrize("sigmas", [[8.0, 0.0], [8.0, 2.0, 0.5, 0.0], [math.inf, 3.0, 0.0]])
def test_few_steps_of_a_consistency_function_keep_the_marginals(sigmas):
    """It tells where the flow ends: N(mean, variance) from every level, in any number of steps; n evaluations."""
    sigmas = torch.tensor(sigmas, dtype=torch.float64)

    def consistent(x, sigma):
        end = math.sqrt(VARIANCE) * (x if sigma.isinf() else (x - MEAN) / (VARIANCE + sigma**2).sqrt())
        return MEAN + end

    start = 0.0 if sigmas[0].isinf() else MEAN
    spread = 1.0 if sigmas[0].isinf() else math.sqrt(VARIANCE + sigmas[0] ** 2)
    state = torch.full((len(sigmas) + 1, 1, 1, 1, 1), start, dtype=torch.float64)
    rows = iter(torch.eye(len(state), dtype=torch.float64)[1:].reshape(-1, *state.shape))
    state += spread * next(rows)
    run = integrate(consistent, few_step(sigmas), state, noise=lambda *_: next(rows))
    end = run.x.flatten()
    assert end[0].item() == pytest.approx(MEAN, abs=1e-14)
    assert ((end[1:] - end[0]) ** 2).sum().item() == pytest.approx(VARIANCE, rel=1e-13)
    assert run.nfe == planned_nfe(few_step(sigmas)) == {"video": len(sigmas) - 1}


def test_jumps_are_few_steps_of_whichever_networks_a_plan_asks(pair, x):
    legs = jumps(switch(GRID, ("video", "image"), [GRID[3].item()], (2.0, 1.5)))
    asked = ["video"] * 3 + ["image"] * (len(GRID) - 4)
    assert [leg.network for leg in legs if leg.network] == asked
    assert [(leg.source, leg.target) for leg in legs] == [(leg.source, leg.target) for leg in few_step(GRID)]
    noise, y = draws(x), 14 * x
    for network, level, below in zip(asked, GRID[:-1], GRID[1:], strict=True):
        y = pair[network].at(2.0 if network == "video" else 1.5)(y, level)
        y = y + below * noise(None, None) if below > 0 else y
    torch.testing.assert_close(played(legs, 14 * x, pair).x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", [AdamsBashforth2(), DPMSolverPP2M(), Heun()])
def test_a_descent_remembers_only_itself(solver, commuting, x):
    """The steps after noise are those of a run of their own, up to its end at 0, which uses their slopes."""
    noise = draws(x)
    sigmas = Schedule.ve(0.05, 8.0).grid(12, "uniform-lam")
    y = integrate(commuting, plain(sigmas[:9], solver=solver), 8 * x).x
    for _ in range(2):
        y = y + (sigmas[4] ** 2 - sigmas[8] ** 2).sqrt() * noise(None, None)
        there = integrate(commuting, plain(sigmas[4:9], solver=solver), y).x
        end, y = integrate(commuting, plain(sigmas[4:], solver=solver), y).x, there
    legs = restart(plain(sigmas, solver=solver), [(sigmas[8].item(), sigmas[4].item(), 2)])
    run = played(legs, 8 * x, commuting)
    torch.testing.assert_close(run.x, end, rtol=1e-12, atol=1e-12)
    assert sum(run.nfe.values()) == 2 * planned_nfe(legs)["video"]  # of a mixture of two networks


def test_restarts_of_a_plan_with_zigzags_repeat_whole_steps(pair, x):
    legs = IVMixed(guidance=1.5, image_guidance=0.2, video_guidance=0.2).legs(GRID)
    again = restart(legs, [(0.3, 3.0, 2)])
    whole = {leg.step for leg in legs if leg.label == "step" and leg.source <= 3.0 and leg.target >= 0.3}
    inside = [leg for leg in legs if leg.step in whole]
    assert len(whole) > 1
    assert len(inside) > 3 * len(whole)
    assert len(again) == len(legs) + 2 * (1 + len(inside))
    assert [leg.step for leg in again] == sorted(leg.step for leg in again)
    assert len({(leg.step, leg.label) for leg in again}) == len(again)
    assert played(again, 14 * x, pair).x.isfinite().all()


def test_intervals_may_overlap_and_end_at_zero():
    levels = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0])
    legs = restart(plain(levels), [(0.0, 2.0, 1), (1.0, 4.5, 1)])
    assert [leg.source for leg in legs] == [8, 4, 2, 1, 4, 2, 1, 0, 2, 1]
    assert [str(leg).split()[1:3] for leg in legs if leg.network is None] == [["noise", "#1"], ["noise", "#2"]]


def test_intervals_of_levels_cast_to_float32_hold_the_same_steps():
    legs = plain(GRID)
    for a, b in pairwise(GRID[1:-1].tolist()):
        exact, cast = (restart(legs, [(low, high, 1)]) for low, high in ((b, a), torch.tensor([b, a]).tolist()))
        assert exact == cast


def test_pure_noise_is_not_churned(x):
    legs = churned(FLOW, solver=Heun(), churn=2.0)
    assert [leg.label for leg in legs[:3]] == ["step", "noise", "step"]
    assert played(legs, x).x.isfinite().all()


PLANS = [
    ancestral(GRID, 2.0, Heun()),
    churned(GRID, 2.0, Heun(), s_max=10.0),
    few_step(GRID, 2.0),
    restart(plain(GRID, 2.0, Heun()), [(0.3, 3.0, 2)]),
]
every_plan = pytest.mark.parametrize("legs", PLANS, ids=["ancestral", "churned", "few_step", "restart"])


def test_jumps_of_a_plan_of_any_solver_are_few_steps():
    """A solver that remembers slopes would go to 0 along them, not to x0."""
    assert jumps(plain(GRID, 2.0, AdamsBashforth2())) == few_step(GRID, 2.0)


@every_plan
def test_plans_are_counted_cut_and_not_inverted(legs, pair, x):
    assert played(legs, 14 * x, pair).nfe == planned_nfe(legs)
    end = tail(legs, 0.5)
    assert end[0].source in GRID
    assert played(end, end[0].source * x, pair).at == 0.0
    with pytest.raises(ValueError, match="adds noise and has no inverse"):
        invert(legs)
    with pytest.raises(ValueError, match="adds fresh noise: pass noise"):
        integrate(pair, legs, x)


@pytest.mark.parametrize("plan", [ancestral, churned])
def test_solvers_that_remember_or_draw_are_refused(plan):
    for solver, why in (
        (DPMSolverPP2M(), "remembers"),
        (DDIM(0.5), "draws noise"),
        (SDEDPMSolverPP2M(), "draws noise"),
    ):
        with pytest.raises(ValueError, match=f"solver: got {type(solver).__name__}.*{why}"):
            plan(GRID, solver=solver)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ancestral(GRID, eta=-1.0), "eta: got -1"),
        (lambda: ancestral(GRID, eta=1.5), "eta: 1.5 is too large for a step from 14.6"),
        (lambda: churned(GRID, churn=math.inf), "churn: got inf"),
        (lambda: churned(GRID, s_min=2.0, s_max=1.0), "s_min, s_max: got 2, 1"),
        (lambda: churned(GRID, s_max=math.nan), "s_min, s_max: got 0, nan"),
        (lambda: restart(plain(GRID), [(5.0, 5.1, 1)]), r"intervals: got \(5, 5.1, 1\)"),
        (lambda: restart(plain(FLOW), [(4.0, math.inf, 1)]), r"intervals: got \(4, inf, 1\)"),
        (lambda: restart(plain(GRID), [(0.3, 3.0, 1.5)]), "times: got 1.5"),
        (lambda: restart(plain(GRID), [(0.3, 3.0)]), r"intervals: got \(0.3, 3.0\), expected \(low, high, times\)"),
        (lambda: restart(plain(GRID), (0.3, 3.0, 2)), r"intervals: got 0.3, expected \(low, high, times\)"),
        (lambda: restart(plain(GRID[:-1].flip(0)), []), "legs: expected a plan whose outer steps lead down"),
        (lambda: jumps(few_step(GRID)), "legs: expected one step down for each outer step"),
        (lambda: jumps(plain(GRID[:-1].flip(0))), "legs: expected one step down for each outer step"),
        (lambda: jumps([plain(GRID)[0], plain(GRID)[2]]), "legs: expected one step down for each outer step"),
        (lambda: jumps(IVMixed().legs(GRID)), "legs: expected one step down for each outer step"),
        *((lambda plan=plan: plan(GRID[:-1].flip(0)), "rising") for plan in (ancestral, churned, few_step)),
    ],
)
def test_what_makes_no_plan_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_churn_above_a_networks_levels_is_its_error_and_can_be_left_out(x):
    schedule = Schedule.scaled_linear()
    network = Network(NETWORK.forward(schedule, "epsilon"), schedule, "epsilon", "video")
    with pytest.raises(ValueError, match="sigma"):
        played(churned(GRID, churn=1.0), 14 * x, network(None))
    assert played(churned(GRID, churn=1.0, s_max=14.0), 14 * x, network(None)).x.isfinite().all()
