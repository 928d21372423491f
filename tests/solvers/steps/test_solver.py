"""Solvers one by one: identities to rounding and orders against closed forms."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from ivmix.solvers import (
    DPM2,
    RK4,
    AdamsBashforth2,
    AdamsBashforth3,
    AdamsBashforth4,
    BogackiShampine32,
    DormandPrince54,
    DPMSolverPP1,
    DPMSolverPP2M,
    DPMSolverPP2S,
    DPMSolverPP3M,
    DPMSolverPP32,
    Euler,
    ExponentialAB2,
    Heun,
    Midpoint,
    Schedule,
    UniPC1,
    UniPC2,
    UniPC3,
    integrate,
    plain,
)
from ivmix.solvers.steps.adaptive import Embedded
from ivmix.solvers.theory.analytic import flow

# The order table: solver and steps. Local slopes of the error carry an O(1/n) bias; the steps are the fewest at which
# it is below 0.15 for this problem, both ways (measured: at most 0.14). Rounding, about 1e-14, is far below the
# smallest error, 1e-9. Multistep solvers have a start of their own order, which costs no order.
ORDERS = [
    (Euler(), [64, 128]),
    (Heun(), [64, 128]),
    (Midpoint(), [64, 128]),
    (RK4(), [16, 32]),
    (DPM2(), [64, 128]),
    (DPMSolverPP2S(), [32, 64]),
    (DPMSolverPP2S(r=0.3), [64, 128]),
    (DPMSolverPP2S(r=1.0), [64, 128]),
    (ExponentialAB2(start=Heun()), [64, 128]),
    (DPMSolverPP2M(start=Heun()), [64, 128]),
    (DPMSolverPP3M(start=RK4()), [64, 128]),
    (AdamsBashforth2(start=Heun()), [64, 128]),
    (AdamsBashforth3(start=RK4()), [64, 128]),
    (AdamsBashforth4(start=RK4()), [128, 256]),
    (UniPC1(), [64, 128]),
    (UniPC2(start=RK4()), [64, 128]),
    (UniPC3(start=RK4()), [128, 256]),
    (BogackiShampine32(rtol=1e9, atol=1e9), [16, 32]),  # every attempt accepted: the bare pair
    (DPMSolverPP32(rtol=1e9, atol=1e9), [32, 64]),
]
# The ramp costs no order up to 2, or 3 where a corrector follows it.
RAMPS = [
    (ExponentialAB2(), 2),
    (DPMSolverPP2M(), 2),
    (AdamsBashforth2(), 2),
    (DPMSolverPP3M(), 2),
    (AdamsBashforth3(), 2),
    (AdamsBashforth4(), 2),
    (UniPC2(), 3),
    (UniPC3(), 3),
]
SOLVERS = [solver for solver, _ in ORDERS] + [solver for solver, _ in RAMPS]
WAYS = pytest.mark.parametrize("ends", [(10.0, 0.1), (0.1, 10.0)], ids=["sampling", "inversion"])


def name(value):
    return repr(value).replace("start=", "") if not isinstance(value, list | int) else ""


every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=name)


def log_grid(a, b, n):
    return torch.logspace(math.log10(a), math.log10(b), n + 1, dtype=torch.float64)


def test_euler_is_ddim(commuting, x):
    """DDIM with eta 0 as its paper writes it, in VP coordinates on the table of cumulative alphas (eq. 12)."""
    schedule = Schedule.scaled_linear()
    times = [999, 800, 555, 300, 111, 40, 3]
    alpha_bar = schedule.alpha**2
    z = x
    for t, t_next in pairwise(times):
        a, b = alpha_bar[t], alpha_bar[t_next]
        x0 = commuting(z / a.sqrt(), ((1 - a) / a).sqrt())
        eps = (z - a.sqrt() * x0) / (1 - a).sqrt()
        z = b.sqrt() * x0 + (1 - b).sqrt() * eps
    sigmas = schedule.sigma(torch.tensor(times, dtype=torch.float64))
    run = integrate(commuting, plain(sigmas), schedule.start(x, sigmas[0]))
    torch.testing.assert_close(run.x * schedule.alpha[times[-1]], z, rtol=0, atol=1e-12)


def test_dpm_solver_pp_1_is_euler(commuting, x):
    """arXiv 2211.01095, section 4, in VP coordinates and its own h."""
    assert DPMSolverPP1 is Euler
    schedule = Schedule.scaled_linear()
    alpha, sigma_vp = schedule.alpha[[700, 500]], schedule.sigma_vp[[700, 500]]
    h = (alpha / sigma_vp).log().diff()
    x0 = commuting(x / alpha[0], schedule.sigmas[700])
    expected = sigma_vp[1] / sigma_vp[0] * x - alpha[1] * torch.expm1(-h) * x0
    moved, _ = DPMSolverPP1().step(commuting, x / alpha[0], schedule.sigmas[700], schedule.sigmas[500])
    torch.testing.assert_close(alpha[1] * moved, expected, rtol=0, atol=1e-12)


@WAYS
@pytest.mark.parametrize(("solver", "steps"), ORDERS, ids=name)
def test_order_against_the_closed_form(solver, steps, ends, commuting, x, slopes):
    start = ends[0] * x
    truth = flow(commuting, start, *ends)

    def error(n):
        return (integrate(commuting, plain(log_grid(*ends, n), solver=solver), start).x - truth).norm()

    assert slopes(error, steps) == pytest.approx([solver.order], abs=0.15)


@pytest.mark.parametrize(
    ("solver", "degree"),
    [(Euler(), 0), (Heun(), 1), (Midpoint(), 1), (RK4(), 3), (BogackiShampine32(), 2), (DormandPrince54(), 4)],
    ids=name,
)
def test_a_slope_that_knows_only_sigma_is_integrated_by_quadrature(solver, degree, x):
    """Which rule: constant, trapezoid, midpoint in sigma (not in log sigma), Simpson's, and those of the pairs."""
    solver = replace(solver, rtol=1e9) if isinstance(solver, Embedded) else solver  # in one attempt
    for power in range(degree + 2):
        moved, _ = solver.step(lambda y, sigma, p=power: y - sigma * sigma**p, x, 3.0, 0.5)
        wrong = (moved - x - (0.5 ** (power + 1) - 3.0 ** (power + 1)) / (power + 1)).abs().max()
        assert (wrong < 1e-12) == (power <= degree)


@pytest.mark.parametrize(("solver", "order"), RAMPS, ids=name)
def test_order_after_the_ramp(solver, order, commuting, x, slopes):
    # upwards, where the first steps, at the lowest levels, weigh most; downwards their error may be too small to see
    start = 0.1 * x
    truth = flow(commuting, start, 0.1, 10.0)

    def error(n):
        return (integrate(commuting, plain(log_grid(0.1, 10.0, n), solver=solver), start).x - truth).norm()

    assert slopes(error, [128, 256]) == pytest.approx([order], abs=0.15)


@every_solver
def test_there_and_back_shrinks_at_the_order(solver, commuting, x, slopes):
    start = 5.0 * x

    def error(n):
        grid = log_grid(5.0, 0.2, n)
        down = integrate(commuting, plain(grid, solver=solver), start).x
        return (integrate(commuting, plain(grid.flip(0), solver=solver), down).x - start).norm()

    # symmetric error terms may cancel: faster is no fault; the slowest, Adams-Bashforth's ramp, has its order - 0.18
    assert slopes(error, [32, 64])[0] > dict(RAMPS).get(solver, solver.order) - 0.2


@every_solver
def test_a_step_of_length_zero_is_the_identity(solver, commuting, x):
    asked = []

    def denoise(y, sigma):
        asked.append(sigma)
        return commuting(y, sigma)

    for memory in (None, solver.step(commuting, 4.0 * x, 4.0, 2.0)[1]):
        asked.clear()
        moved, _ = solver.step(denoise, 2.0 * x, 2.0, 2.0, memory)
        torch.testing.assert_close(moved, 2.0 * x, rtol=1e-13, atol=1e-13)
        assert len(asked) == solver.cost(2.0, 2.0)


@every_solver
def test_steps_are_pure(solver, commuting, x):
    memory = solver.step(commuting, 4.0 * x, 4.0, 2.0)[1]
    before = x.clone()
    one, _ = solver.step(commuting, x, 2.0, 1.0, memory)
    two, _ = solver.step(commuting, x, 2.0, 1.0, memory)
    assert torch.equal(one, two)
    assert torch.equal(x, before)


@every_solver
def test_levels_that_are_none_are_refused(solver, commuting, x):
    for ends in ((-1.0, 1.0), (math.nan, 1.0), (1.0, -1.0), (1.0, math.nan)):
        with pytest.raises(ValueError, match="sigma"):
            solver.step(commuting, x, *ends)


def test_solvers_are_values():
    assert Euler() == Euler()
    assert Euler() != Heun()
    assert len({Euler(), Euler(), DPMSolverPP2M()}) == 2
