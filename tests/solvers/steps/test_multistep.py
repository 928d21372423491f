"""What is particular to multistep solvers: their memory and their start."""

import warnings
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
    DPMSolverPP2M,
    DPMSolverPP3M,
    Euler,
    ExponentialAB2,
    Heun,
    IVMixed,
    Schedule,
    UniPC1,
    UniPC2,
    UniPC3,
    integrate,
    plain,
)

GRID = Schedule.scaled_linear().grid(9)
every_multistep = pytest.mark.parametrize(
    "solver", [ExponentialAB2, DPMSolverPP2M, DPMSolverPP3M, AdamsBashforth3, AdamsBashforth4, UniPC2, UniPC3]
)


@every_multistep
def test_one_evaluation_a_step_but_for_the_start(solver, commuting, x):
    assert integrate(commuting, plain(GRID, solver=solver()), x).nfe["image"] == 9
    # the start's first evaluation is the step's own
    started = integrate(commuting, plain(GRID, solver=solver(start=RK4())), x)
    assert started.nfe["image"] == 9 + 3 * (solver.window - 1)


@every_multistep
def test_the_first_step_is_eulers_or_the_starts(solver, commuting, x):
    for start in (None, Heun()):
        first, _ = solver(start=start).step(commuting, 4 * x, 4.0, 3.0)
        expected, _ = (start or Euler()).step(commuting, 4 * x, 4.0, 3.0)
        torch.testing.assert_close(first, expected, rtol=1e-14, atol=1e-14)


@every_multistep
def test_memory_is_as_short_as_its_window(solver, commuting, x):
    memory, state = None, 14 * x
    for sigma, sigma_next in pairwise(GRID[:-1]):
        state, memory = solver().step(commuting, state, sigma, sigma_next, memory)
    values = memory.own[0] if solver in (UniPC2, UniPC3) else memory.own
    assert len(values) == (solver.window if solver in (UniPC2, UniPC3) else solver.window - 1)
    assert [level for _, level in values] == GRID[: len(GRID) - 2].flip(0)[: len(values)].tolist()


@every_multistep
def test_a_level_met_twice_is_remembered_once(solver, commuting, x):
    """As in a zigzag's lanes, whose legs may begin at a level again: the newer value replaces the older one."""
    state, memory = 4 * x, None
    for sigma, sigma_next in ((4.0, 3.0), (3.0, 4.0), (4.0, 3.0), (4.0, 3.5), (3.0, 2.0)):
        state, memory = solver().step(commuting, state, sigma, sigma_next, memory)
        assert state.isfinite().all()


@every_multistep
def test_zigzags_take_any_solver(solver, pair, x):
    sampler = IVMixed(guidance=1.5, image_guidance=0.2, video_guidance=0.2, solver=solver(), step_solver=solver())
    run = integrate(pair, sampler.legs(Schedule.ve(0.2, 8.0).grid(12, "uniform-lam")), 8 * x)
    assert run.nfe == {"image": 20, "video": 32}


def test_a_corrector_waits_for_a_step_that_joins(commuting, x):
    """The correction belongs to the state that the last step arrived at."""
    state, memory = UniPC2().step(commuting, 4 * x, 4.0, 3.0)
    apart, _ = UniPC2().step(commuting, state, 2.9, 2.0, memory)
    plain_memory = replace(memory, own=memory.own[0])
    expected, _ = DPMSolverPP2M().step(commuting, state, 2.9, 2.0, plain_memory)
    torch.testing.assert_close(apart, expected, rtol=1e-14, atol=1e-14)
    joined, _ = UniPC2().step(commuting, state, 3.0, 2.0, memory)
    uncorrected, _ = DPMSolverPP2M().step(commuting, state, 3.0, 2.0, plain_memory)
    assert (joined - uncorrected).abs().max() > 1e-3


@pytest.mark.parametrize("start", [DPMSolverPP2M(), "heun", Heun, Heun(time="flow")])
def test_starts_are_one_step_solvers(start):
    with pytest.raises(ValueError, match="start: got"):
        AdamsBashforth4(start=start)


def test_a_stochastic_start_asks_for_its_noise(commuting, x):
    with pytest.raises(ValueError, match="noise"):
        DPMSolverPP3M(start=DDIM()).step(commuting, x, 2.0, 1.0)


@pytest.mark.parametrize(
    ("solver", "last"),
    [
        (DPMSolverPP3M(weight="public"), [DPMSolverPP3M, DPMSolverPP2M, Euler]),
        (AdamsBashforth4(), [AdamsBashforth3, AdamsBashforth2, Euler]),
        (UniPC3(), [UniPC3, UniPC2, UniPC1]),
        (DPMSolverPP2M(), [DPMSolverPP2M, DPMSolverPP2M, Euler]),
        (RK4(), [RK4, RK4, RK4]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_lower_order_final_lowers_the_last_steps_alone(solver, last, commuting, x):
    legs = plain(GRID, solver=solver, lower_order_final=True)
    assert [type(leg.solver) for leg in legs[-3:]] == last
    assert {leg.solver for leg in legs[:-4]} == {solver}
    full, lowered = (integrate(commuting, plan, x, trace=True).trace for plan in (plain(GRID, solver=solver), legs))
    if last[0] is type(solver):  # the state before the lowered steps is the same
        assert torch.equal(full[-3].x, lowered[-3].x)
    if solver != RK4():  # the last one is Euler's, to x0
        assert torch.equal(lowered[-1].x, lowered[-1].x0)


@pytest.mark.parametrize("solver", [AdamsBashforth4, DPMSolverPP3M, UniPC3])
def test_lowered_steps_keep_the_time_and_the_start_of_their_solver(solver):
    legs = plain(Schedule.rectified_flow().grid(6), solver=solver(Heun(), end="euler"), lower_order_final=True)
    kept = [leg.solver for leg in legs if leg.solver != Euler()]
    assert len({type(rule) for rule in kept}) > 1
    assert {(rule.time, rule.start, rule.end) for rule in kept} == {("flow", Heun(), "euler")}


def test_lowered_steps_use_what_the_higher_order_remembers(commuting, x):
    """Of the values that DPM-Solver++(3M) holds, 2M's step takes the last."""
    trace = integrate(commuting, plain(GRID, solver=DPMSolverPP3M(), lower_order_final=True), x, trace=True).trace
    before, last = trace[-4], trace[-3]  # the steps that begin at GRID[5] and GRID[6]
    expected = DPMSolverPP2M().extrapolate(
        last.x, last.x0, float(GRID[8]), ((commuting(last.x, GRID[7]), float(GRID[7])), (last.x0, float(GRID[6])))
    )
    assert before.leg.source == GRID[5]
    torch.testing.assert_close(trace[-2].x, expected, rtol=1e-13, atol=1e-13)


def test_unipc3_warns_of_grids_whose_steps_differ_and_of_no_others():
    schedule = Schedule.scaled_linear()
    with pytest.warns(UserWarning, match=r"UniPC3: neighbouring steps of this grid differ by a factor of 4\.2"):
        plain(schedule.grid(10, "leading"), solver=UniPC3())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for spacing in ("trailing", "karras", "uniform-lam"):
            plain(schedule.grid(10, spacing), solver=UniPC3())
        plain(schedule.grid(10, "leading"), solver=UniPC2())
        plain(Schedule.rectified_flow().grid(10), solver=UniPC3())
