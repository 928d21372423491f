"""Solvers one by one: identities to rounding and orders against closed forms."""

import math
from itertools import pairwise

import pytest
import torch

from ivmix.solvers import DPMSolverPP2M, Euler, Heun, Schedule, integrate, plain
from ivmix.solvers.analytic import flow

SOLVERS = [Euler(), Heun(), DPMSolverPP2M()]
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)


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


def test_2m_is_its_papers_algorithm(commuting, x):
    """arXiv 2211.01095, Algorithm 2, in z, alpha, sigma_vp and its own h and r."""
    schedule = Schedule.scaled_linear()
    sigmas = schedule.grid(8)[:-1]
    alpha, sigma_vp, lam = schedule.alpha_at(sigmas), schedule.alpha_at(sigmas) * sigmas, -sigmas.log()
    z, outputs = x, []
    for i in range(1, len(sigmas)):
        outputs.append(commuting(z / alpha[i - 1], sigmas[i - 1]))
        D, h = outputs[-1], lam[i] - lam[i - 1]
        if i > 1:
            r = (lam[i - 1] - lam[i - 2]) / h
            D = (1 + 1 / (2 * r)) * outputs[-1] - 1 / (2 * r) * outputs[-2]
        z = sigma_vp[i] / sigma_vp[i - 1] * z - alpha[i] * torch.expm1(-h) * D
    run = integrate(commuting, plain(sigmas, solver=DPMSolverPP2M()), schedule.start(x, sigmas[0]))
    torch.testing.assert_close(run.x * alpha[-1], z, rtol=0, atol=1e-12)


@every_solver
@pytest.mark.parametrize("ends", [(10.0, 0.1), (0.1, 10.0)], ids=["sampling", "inversion"])
def test_order_against_the_closed_form(solver, ends, commuting, x, slopes):
    # Local slopes of the error carry an O(1/n) bias, below 0.15 at n >= 64 for this problem (measured: at most 0.10);
    # rounding, about 1e-14, is far below the smallest error, 1e-6.
    start = ends[0] * x
    truth = flow(commuting, start, *ends)

    def error(n):
        return (integrate(commuting, plain(log_grid(*ends, n), solver=solver), start).x - truth).norm()

    for slope in slopes(error, [64, 128, 256]):
        assert slope == pytest.approx(solver.order, abs=0.15)


@every_solver
def test_there_and_back_shrinks_at_the_order(solver, commuting, x, slopes):
    start = 5.0 * x

    def error(n):
        grid = log_grid(5.0, 0.2, n)
        down = integrate(commuting, plain(grid, solver=solver), start).x
        return (integrate(commuting, plain(grid.flip(0), solver=solver), down).x - start).norm()

    for slope in slopes(error, [64, 128, 256]):
        assert slope > solver.order - 0.15  # symmetric error terms may cancel: faster is no fault


@every_solver
def test_a_step_of_length_zero_is_the_identity(solver, commuting, x):
    for memory in (None, solver.step(commuting, 4.0 * x, 4.0, 2.0)[1]):
        moved, _ = solver.step(commuting, 2.0 * x, 2.0, 2.0, memory)
        torch.testing.assert_close(moved, 2.0 * x, rtol=1e-14, atol=1e-14)


@every_solver
def test_the_step_to_zero_returns_x0_with_one_evaluation(solver, commuting, x):
    seen = []

    def denoise(x, sigma):
        seen.append(float(sigma))
        return commuting(x, sigma)

    end, _ = solver.step(denoise, x, 0.5, 0.0, memory=(torch.full_like(x, 1e6), torch.tensor(1.0)))
    assert torch.equal(end, commuting(x, 0.5))
    assert seen == [0.5]


@every_solver
def test_the_step_from_infinity_is_eulers(solver, commuting, x):
    first, memory = solver.step(commuting, x, math.inf, 3.0)
    torch.testing.assert_close(first, commuting(x, math.inf) + 3.0 * x, rtol=1e-15, atol=1e-15)
    assert memory is None


@every_solver
def test_steps_are_pure(solver, commuting, x):
    memory = solver.step(commuting, 4.0 * x, 4.0, 2.0)[1]
    before = x.clone()
    one, _ = solver.step(commuting, x, 2.0, 1.0, memory)
    two, _ = solver.step(commuting, x, 2.0, 1.0, memory)
    assert torch.equal(one, two)
    assert torch.equal(x, before)


@every_solver
def test_steps_from_zero_or_to_infinity_are_refused(solver, commuting, x):
    for ends in ((0.0, 1.0), (1.0, math.inf), (-1.0, 1.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="sigma"):
            solver.step(commuting, x, *ends)


def test_solvers_are_values():
    assert Euler() == Euler()
    assert Euler() != Heun()
    assert len({Euler(), Euler(), DPMSolverPP2M()}) == 2
