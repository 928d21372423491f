"""The two ends of the sigma axis: arriving at 0, beginning at inf, and the same backwards."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from ivmix.solvers import (
    DDIM,
    RK4,
    AdamsBashforth2,
    AdamsBashforth3,
    AdamsBashforth4,
    BogackiShampine32,
    DormandPrince54,
    DPMSolverPP2M,
    DPMSolverPP2S,
    DPMSolverPP3M,
    Euler,
    EulerAncestral,
    Heun,
    IVMixed,
    Midpoint,
    Schedule,
    SDEDPMSolverPP2M,
    UniPC2,
    UniPC3,
    integrate,
    invert,
    plain,
    planned_nfe,
    tail,
)
from ivmix.solvers.theory.analytic import flow

SCHEDULE = Schedule.scaled_linear()
IN_SIGMA = [Heun(), Midpoint(), RK4(), AdamsBashforth2(), AdamsBashforth3(), AdamsBashforth4()]
IN_LAM = [DPMSolverPP2S(), DPMSolverPP2M(), DPMSolverPP3M(), UniPC2(), UniPC3()]
# Solver, its order in s from s = 1 on, which is the class's own given a start, and the steps at which it shows.
FROM_INFINITY = [
    (Euler(), 1, [64, 128]),
    (Heun(), 2, [64, 128]),
    (Midpoint(), 2, [64, 128]),
    (RK4(), 4, [16, 32]),
    (DPMSolverPP2S(), 2, [64, 128]),
    (DPMSolverPP2M(), 2, [64, 128]),
    (DPMSolverPP3M(start=RK4()), 3, [64, 128]),
    (AdamsBashforth2(), 2, [64, 128]),
    (AdamsBashforth3(start=RK4()), 3, [64, 128]),
    (AdamsBashforth4(start=RK4()), 4, [128, 256]),
    (UniPC2(), 3, [64, 128]),
    (UniPC3(start=RK4()), 4, [128, 256]),
    (BogackiShampine32(rtol=1e9, atol=1e9), 3, [16, 32]),  # every attempt accepted: the bare pair
]


def name(value):
    return type(value).__name__ if not isinstance(value, list | int) else ""


every_higher = pytest.mark.parametrize("solver", IN_SIGMA + IN_LAM, ids=name)
every_solver = pytest.mark.parametrize(
    "solver", [*IN_SIGMA, *IN_LAM, Euler(), BogackiShampine32(), DormandPrince54(), DDIM(0.0)], ids=name
)


# At 0 -----------------------------------------------------------------------------------------------------------------


def trailing(n):
    """Levels as a trailing grid's near 0, where sigma² is linear in t: the last falls as n^(-1/2).

    From 0.1, the smallest standard deviation of the data, on, where their expansions in sigma hold.
    """
    return 0.1 * (1 - torch.arange(n + 1, dtype=torch.float64) / n).sqrt()


def error_at_zero(commuting, x, sigmas, solver):
    start = float(sigmas[0]) * x
    end = integrate(commuting, plain(sigmas, solver=solver), start).x
    return (end - flow(commuting, start, float(sigmas[0]), 0.0)).norm()


@pytest.mark.parametrize("solver", IN_SIGMA, ids=name)
def test_on_trailing_grids_solvers_in_sigma_reach_zero_at_second_order(solver, commuting, x, slopes):
    """With Euler's last step, which errs as sigma² ~ 1/n, every one is of first."""

    def slope(ended):
        return slopes(lambda n: error_at_zero(commuting, x, trailing(n), ended), [200, 400])[0]

    assert slope(solver) > 1.85  # faster is no fault; Adams-Bashforth's local slope was 1.90 and rises
    assert slope(replace(solver, end="euler")) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("solver", IN_LAM, ids=name)
def test_on_trailing_grids_solvers_in_lam_keep_first_order_with_a_fraction_of_the_error(solver, commuting, x, slopes):
    """The last steps of such a grid never get short in lam: the ratio of its last levels tends to sqrt(2)."""
    errors = [error_at_zero(commuting, x, trailing(400), replace(solver, end=end)) for end in ("ab2", "euler")]
    assert errors[0] < 0.25 * errors[1]


@pytest.mark.parametrize("n", [10, 20, 50])
@every_higher
def test_the_remembered_slope_gains_at_usual_numbers_of_steps(solver, n, commuting, x):
    """On Stable Diffusion's own trailing grid: .75 to .82 of the error at 10 and 20 steps, .6 at 50."""
    errors = [error_at_zero(commuting, x, SCHEDULE.grid(n), replace(solver, end=end)) for end in ("ab2", "euler")]
    assert errors[0] < 0.85 * errors[1]


@pytest.mark.parametrize("spacing", ["karras", "leading"])
def test_the_floor_that_a_low_last_level_sets_is_eulers_and_gone(spacing, commuting, x):
    sigmas = SCHEDULE.grid(200, spacing)
    first, last = float(sigmas[0]), float(sigmas[-2])
    exact = flow(commuting, first * x, first, last)
    floor = float((commuting(exact, last) - flow(commuting, exact, last, 0.0)).norm())
    before, after = (float(error_at_zero(commuting, x, sigmas, RK4(end=end))) for end in ("euler", "ab2"))
    assert before == pytest.approx(floor, rel=1e-3)
    assert after < 0.25 * floor


@every_higher
def test_the_step_to_zero_is_adams_bashforths_with_one_evaluation_above_zero(solver, x):
    """Exact where eps is linear in sigma along the solution: x0 = x - a·sigma², x(0) = x - a·sigma²/2."""
    seen = []

    def denoise(y, sigma):
        seen.append(float(sigma))
        return y - 0.3 * sigma**2

    memory = solver.step(denoise, x, 1.0, 0.5)[1]
    seen.clear()
    end, _ = solver.step(denoise, x, 0.5, 0.0, memory)
    torch.testing.assert_close(end, x - 0.3 * 0.5**2 / 2, rtol=1e-13, atol=1e-13)
    assert seen == [0.5]


@every_solver
def test_without_a_slope_or_asked_to_the_step_to_zero_returns_x0(solver, commuting, x):
    memory = solver.step(commuting, x, 1.0, 0.5)[1]
    assert torch.equal(solver.step(commuting, x, 0.5, 0.0)[0], commuting(x, 0.5))
    if hasattr(solver, "end"):
        assert torch.equal(replace(solver, end="euler").step(commuting, x, 0.5, 0.0, memory)[0], commuting(x, 0.5))
    else:
        assert torch.equal(solver.step(commuting, x, 0.5, 0.0, memory)[0], commuting(x, 0.5))


@pytest.mark.parametrize("levels", [(0.25, 0.5), (0.5, 0.25)], ids=["from below", "at its own level"])
@every_higher
def test_a_slope_from_no_higher_level_is_none_for_the_step_to_zero(solver, levels, commuting, x):
    memory = solver.step(commuting, x, *levels)[1]
    assert torch.equal(solver.step(commuting, x, 0.5, 0.0, memory)[0], commuting(x, 0.5))


@pytest.mark.parametrize(
    "solver", [BogackiShampine32(), DormandPrince54(), SDEDPMSolverPP2M(), EulerAncestral()], ids=name
)
def test_adaptive_and_stochastic_solvers_end_with_eulers_step(solver, commuting, x):
    memory = solver.step(commuting, x, 1.0, 0.5, noise=lambda *_: x)[1]
    assert torch.equal(solver.step(commuting, x, 0.5, 0.0, memory)[0], commuting(x, 0.5))


# From inf and to it ---------------------------------------------------------------------------------------------------


def far(commuting, z):
    """The state at 1e6 of the run that begins at inf with z, where x = sigma·z + x0(inf) up to O(1/sigma)."""
    return 1e6 * z + commuting(z, 1e12)


def flow_times(n, end=0.5):
    s = torch.linspace(1, end, n + 1, dtype=torch.float64)
    return s / (1 - s)


@pytest.mark.parametrize(("solver", "order", "steps"), FROM_INFINITY, ids=name)
def test_order_from_infinity_on(solver, order, steps, commuting, x, slopes):
    truth = flow(commuting, far(commuting, x), 1e6, 1.0)

    def error(n):
        return (integrate(commuting, plain(flow_times(n), solver=solver), x).x - truth).norm()

    assert slopes(error, steps) == pytest.approx([order], abs=0.05)


@pytest.mark.parametrize("solver", [BogackiShampine32, DormandPrince54])
def test_adaptive_solvers_keep_their_tolerance_from_infinity_on(solver, commuting, x):
    truth = flow(commuting, far(commuting, x), 1e6, 0.2)
    run = integrate(commuting, plain(torch.tensor([math.inf, 0.2]), solver=solver(rtol=1e-8, atol=1e-8)), x)
    assert (run.x - truth).abs().max() < 1e-6  # x - truth at 1e6 differ by 1e-6; local errors add up below that


def test_flow_time_is_the_textbook_method_in_s(commuting, x):
    """Heun, RK4, Adams-Bashforth 2 and 2M of dz/ds = (z - x0)/s, written out on z."""
    sigmas = flow_times(7)
    s = [float(1 / (1 + 1 / sigma)) for sigma in sigmas]

    def x0(z, at):
        return commuting(z, math.inf) if at == 1 else commuting(z / (1 - at), at / (1 - at))

    def slope(z, at):
        return (z - x0(z, at)) / at

    ends = {}
    for rule in ("heun", "rk4", "ab2", "2m"):
        z, old = x, None
        for i in range(7):
            a, b = s[i], s[i + 1]
            h, k = b - a, slope(z, a)
            if rule == "heun":
                new = z + h / 2 * (k + slope(z + h * k, b))
            elif rule == "rk4":
                k2 = slope(z + h / 2 * k, a + h / 2)
                k3 = slope(z + h / 2 * k2, a + h / 2)
                new = z + h / 6 * (k + 2 * k2 + 2 * k3 + slope(z + h * k3, b))
            elif rule == "ab2":
                new = z + h * k if old is None else z + h * (k + h / (2 * (a - s[i - 1])) * (k - old))
                old = k
            else:
                D = x0(z, a)
                ahead = D if old is None else D + math.log(a / b) / (2 * math.log(s[i - 1] / a)) * (D - old)
                old, new = D, ahead + b / a * (z - ahead)
            z = new
        ends[rule] = z / (1 - s[-1])
    for rule, solver in (("heun", Heun()), ("rk4", RK4()), ("ab2", AdamsBashforth2()), ("2m", DPMSolverPP2M())):
        run = integrate(commuting, plain(sigmas, solver=solver), x)
        torch.testing.assert_close(run.x, ends[rule], rtol=0, atol=1e-12)


def test_bare_steps_stay_in_flow_time_once_they_began_at_infinity(commuting, x):
    sigmas, state, memory = flow_times(6).tolist(), x, None
    for sigma, sigma_next in pairwise(sigmas):
        state, memory = AdamsBashforth2().step(commuting, state, sigma, sigma_next, memory)
    torch.testing.assert_close(
        state, integrate(commuting, plain(flow_times(6), solver=AdamsBashforth2()), x).x, rtol=1e-14, atol=1e-14
    )


@every_higher
def test_a_bare_step_to_infinity_is_in_flow_time_and_forgets_what_was_remembered_in_sigma(solver, commuting, x):
    memory = solver.step(commuting, x, 1.0, 2.0)[1]
    known, alone = (solver.step(commuting, x, 2.0, math.inf, past)[0] for past in (memory, None))
    assert torch.equal(known, alone)
    assert torch.equal(alone, replace(solver, time="flow").step(commuting, x, 2.0, math.inf)[0])


@every_solver
def test_in_sigma_the_step_from_infinity_is_eulers(solver, commuting, x):
    solver = replace(solver, time="sigma") if hasattr(solver, "time") else solver
    first, memory = solver.step(commuting, x, math.inf, 3.0)
    torch.testing.assert_close(first, commuting(x, math.inf) + 3.0 * x, rtol=1e-15, atol=1e-15)
    assert memory is None
    back, _ = solver.step(commuting, x, 3.0, math.inf)
    torch.testing.assert_close(back, (x - commuting(x, 3.0)) / 3, rtol=1e-15, atol=1e-15)


def test_time_is_flows_where_a_plan_begins_at_infinity_and_by_choice_elsewhere():
    flow_plan = plain(Schedule.rectified_flow().grid(4), solver=Heun())
    assert {leg.solver for leg in flow_plan} == {Heun(time="flow")}
    assert (
        {leg.solver for leg in tail(flow_plan, 0.5)} == {leg.solver for leg in invert(flow_plan)} == {Heun(time="flow")}
    )
    assert {leg.solver.time for leg in plain(SCHEDULE.grid(4), solver=Heun())} == {None}
    assert {leg.solver.time for leg in plain(Schedule.rectified_flow().grid(4), solver=Heun(time="sigma"))} == {"sigma"}
    zigzag = IVMixed(step_solver=RK4()).legs(Schedule.rectified_flow().grid(6))
    assert {leg.solver for leg in zigzag} == {RK4(time="flow"), Euler()}


def test_by_choice_every_schedule_is_stepped_in_flow_time(commuting, x, slopes):
    def error(n):
        sigmas = torch.logspace(1, -1, n + 1, dtype=torch.float64)
        legs = plain(sigmas, solver=AdamsBashforth2(time="flow", start=Heun()))
        return (integrate(commuting, legs, 10.0 * x).x - flow(commuting, 10.0 * x, 10.0, 0.1)).norm()

    assert slopes(error, [64, 128]) == pytest.approx([2.0], abs=0.15)


@every_solver
def test_planned_evaluations_are_those_made_at_both_ends(solver, commuting, x):
    for sigmas in (
        Schedule.rectified_flow().grid(5),
        Schedule.rectified_flow().grid(5).flip(0),
        SCHEDULE.grid(5).flip(0),
    ):
        if isinstance(solver, BogackiShampine32 | DormandPrince54):
            solver = replace(solver, rtol=1e9, atol=1e9)
        legs = plain(sigmas, solver=solver)
        made = integrate(lambda y, sigma: commuting(y, sigma), legs, x).nfe.get("video", 0)
        assert planned_nfe(legs)["video"] == made


# From 0 ---------------------------------------------------------------------------------------------------------------


@every_higher
def test_a_clean_clip_is_inverted_with_an_error_of_fourth_order_in_its_first_level(solver, commuting, x, slopes):
    """Euler's, which takes it for a state at that level, errs as sigma²."""

    def error(n, end="ab2"):
        sigma = 0.1 / n
        return (replace(solver, end=end).step(commuting, x, 0.0, sigma)[0] - flow_up(commuting, x, sigma)).norm()

    assert slopes(error, [2, 4]) == pytest.approx([4.0], abs=0.2)
    assert slopes(lambda n: error(n, "euler"), [2, 4]) == pytest.approx([2.0], abs=0.2)


def flow_up(commuting, x, sigma):
    """The exact state at `sigma` from the clean x, by the flow from a level where both differ by 1e-12."""
    return flow(commuting, x, 1e-6, sigma)


@every_solver
def test_a_run_from_a_clean_clip_to_noise_and_back(solver, commuting, x):
    sigmas = SCHEDULE.grid(60, "karras")
    legs = plain(sigmas, solver=solver)
    noise = integrate(commuting, invert(legs), x)
    assert noise.at == sigmas[0]
    bound = 0.02 if getattr(solver, "end", "euler") == "ab2" else 0.5  # at most 0.012 and 0.29 of data of unit size
    assert (integrate(commuting, legs, noise.x).x - x).abs().max() < bound


def test_a_flows_plan_is_inverted_to_pure_noise(commuting, x):
    legs = plain(Schedule.rectified_flow().grid(40), solver=RK4())
    up = integrate(commuting, invert(legs), x)
    assert up.at == math.inf
    assert (integrate(commuting, legs, up.x).x - x).abs().max() < 0.01  # 0.0044


def test_what_cannot_be_is_refused(commuting, x):
    for solver in (Euler(), Heun(), Heun(time="flow")):
        for begin, end in ((0.0, math.inf), (math.inf, math.inf)):
            with pytest.raises(ValueError, match="inf"):
                solver.step(commuting, x, begin, end)
    learned = torch.tensor(1.0, requires_grad=True)
    for levels in ((learned, 0.5), (2.0, learned)):
        with pytest.raises(ValueError, match=r"sigma(_next)?: got a tensor that requires grad"):
            Heun().step(commuting, x, *levels)
    for begin, end in ((0.0, 1.0), (1.0, math.inf)):
        with pytest.raises(ValueError, match="only goes down"):
            EulerAncestral().step(commuting, x, begin, end, noise=lambda *_: x)
    for option in ({"end": "ab3"}, {"time": "s"}):
        with pytest.raises(ValueError, match=r"(end|time): got 'a?b?3?s?', expected"):
            Heun(**option)
