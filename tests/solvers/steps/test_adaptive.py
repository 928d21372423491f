import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from ivmix.solvers import (
    BogackiShampine32,
    DormandPrince54,
    DPMSolverPP32,
    NotFiniteError,
    Schedule,
    integrate,
    plain,
    planned_nfe,
)
from ivmix.solvers.steps.adaptive import Pair
from ivmix.solvers.theory.analytic import closed_form_pair, flow

PAIRS = [BogackiShampine32(), DormandPrince54(), DPMSolverPP32()]
every_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: type(pair).__name__)
every_runge_kutta_pair = pytest.mark.parametrize("pair", PAIRS[:2], ids=lambda pair: type(pair).__name__)


def field(slope):
    """The denoiser of dx/dsigma = slope(x, sigma)."""
    return lambda x, sigma: x - sigma * slope(x, sigma)


@every_pair
def test_order_of_the_bare_pair(pair, slopes):
    """dx/dsigma = sigma·x/2, x = exp(sigma²/4), with every attempt accepted."""
    loose, one = replace(pair, rtol=1e9, atol=1e9), torch.ones(1, dtype=torch.float64)
    denoise = field(lambda x, sigma: sigma * x / 2)
    truth = math.exp(2.0)

    def error(n):
        grid = torch.linspace(1.0, 3.0, n + 1, dtype=torch.float64)
        return (integrate(denoise, plain(grid, solver=loose), one).x - truth).abs()

    for slope in slopes(error, [16, 32, 64]):  # the bias of a local slope is O(1/n): 0.11 was measured
        assert slope == pytest.approx(pair.order, abs=0.15)


@pytest.mark.parametrize(
    ("pair", "companion"),
    [
        (BogackiShampine32, (7 / 24, 1 / 4, 1 / 3, 1 / 8)),
        (DormandPrince54, (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)),
    ],
)
def test_errors_are_the_distance_to_the_published_companion(pair, companion):
    last = (*pair.tableau.rows[-1], 0.0)
    assert pair.tableau.error == pytest.approx([a - b for a, b in zip(last, companion, strict=True)], abs=1e-15)


@every_pair
@pytest.mark.parametrize("ends", [(10.0, 0.1), (0.1, 10.0)], ids=["sampling", "inversion"])
def test_the_error_follows_the_tolerance(pair, ends, commuting, x):
    """Ten times the tolerance asked for bounds the error here; each factor of 100 takes more evaluations."""
    start, spent = ends[0] * x, []
    truth = flow(commuting, start, *ends)
    for tolerance in (1e-3, 1e-5, 1e-7):
        solver = replace(pair, rtol=tolerance, atol=tolerance)
        run = integrate(commuting, plain(torch.tensor(ends), solver=solver), start)
        # errors made early are carried by the flow, which stretches upwards by at most ends[1]/ends[0]
        growth = max(1.0, float(truth.abs().max() / start.abs().max()))
        assert float((run.x - truth).abs().max()) < 10 * tolerance * (1 + float(truth.abs().max())) * growth
        spent.append(run.nfe["image"])
    assert spent == sorted(set(spent))


@every_runge_kutta_pair
def test_a_sharp_turn_is_met_by_rejection_and_small_steps(pair):
    """dx/dsigma = 1/(1 + (50·(sigma - 2))²): its integral is an arctangent; a first step over all of it must fail."""
    seen = []

    def slope(x, sigma):
        seen.append(sigma.item())
        return torch.ones_like(x) / (1 + (50 * (sigma - 2)) ** 2)

    grid = torch.tensor([4.0, 1.0], dtype=torch.float64)
    run = integrate(field(slope), plain(grid, solver=replace(pair, rtol=0.0, atol=1e-6)), torch.zeros(1, 1).double())
    truth = (math.atan(50 * (1.0 - 2)) - math.atan(50 * (4.0 - 2))) / 50
    assert run.x.item() == pytest.approx(truth, abs=1e-4)
    assert run.nfe == {"video": len(seen)}
    assert any(after > before + 0.1 for before, after in pairwise(seen))  # it went back
    assert min(seen) == 1.0
    assert max(seen) == 4.0


@every_runge_kutta_pair
def test_an_easy_interval_costs_one_attempt_and_the_next_remembers(pair, x):
    straight = field(lambda y, sigma: torch.ones_like(y))
    grid = torch.tensor([4.0, 2.0, 1.0, 0.0])
    run = integrate(straight, plain(grid, solver=pair), x, trace=True)
    assert [len(record.told) for record in run.trace] == [pair.stages, pair.stages, 1]
    assert run.nfe == planned_nfe(plain(grid, solver=pair))
    hard = field(lambda y, sigma: torch.sin(60 * sigma) * y)
    _, memory = pair.step(hard, x, 4.0, 2.0)
    assert 0 < memory.own < 1.0
    assert pair.step(hard, x, 2.0, 2.0, memory)[1] is memory
    long = replace(memory, own=1.0)
    assert pair.step(straight, x, 2.0, 1.99, long)[1].own == 1.0  # a short interval is no reason for short steps


def test_the_worst_sample_of_a_batch_sets_the_pace(x):
    def denoise(y, sigma):
        return y - sigma * torch.sin(30 * sigma) * torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1, 1).double()

    solver, grid = BogackiShampine32(), torch.tensor([4.0, 2.0])
    both = integrate(denoise, plain(grid, solver=solver), x)
    calm = integrate(lambda y, sigma: y, plain(grid, solver=solver), x)
    alone = integrate(lambda y, sigma: y - sigma * torch.sin(30 * sigma), plain(grid, solver=solver), x)
    assert both.nfe == alone.nfe
    assert both.nfe["video"] > calm.nfe["video"]


@every_pair
def test_gradients_flow(pair, commuting, x):
    x.requires_grad_()
    integrate(commuting, plain(torch.tensor([3.0, 1.0]), solver=pair), 3 * x).x.sum().backward()
    assert x.grad.isfinite().all()
    assert (x.grad != 0).all()


@every_pair
def test_too_many_attempts_are_an_error(pair, x):
    def rough(y, sigma):
        return y - sigma * torch.sin(1e5 * sigma)

    with pytest.raises(ValueError, match=r"max_steps: 20 attempts from 4 towards 2 reached .* raise max_steps"):
        replace(pair, rtol=0.0, atol=1e-10, max_steps=20).step(rough, x, 4.0, 2.0)


@every_pair
def test_a_failing_network_is_named_with_its_step(pair, x):
    def failing(y, sigma):
        return y * (math.nan if sigma < 1.5 else 0.5)

    # a Runge-Kutta pair evaluates where a part ends, 1.41 first, the exponential one not before the next begins
    with pytest.raises(NotFiniteError, match=f"step {1 if pair in PAIRS[:2] else 2}"):
        integrate(failing, plain(Schedule.ve(0.5, 4.0).grid(4), solver=pair), x)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"rtol": -1.0}, "rtol"),
        ({"atol": math.nan}, "atol"),
        ({"rtol": 0.0, "atol": 0.0}, "rtol, atol"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_steps": 2.5}, "max_steps"),
    ],
)
@every_pair
def test_bad_options_are_refused(pair, options, name):
    with pytest.raises(ValueError, match=name):
        replace(pair, **options)


@pytest.mark.parametrize(
    ("nodes", "rows", "error", "name"),
    [
        ((0.5, 1.0), ((0.5,), (0.5, 0.4)), (0.1, -0.1, 0.0), "rows"),  # a row that does not sum to its node
        ((0.5, 1.0), ((0.5,), (0.5, 0.5)), (0.1, 0.1, 0.0), "error"),  # errors that do not cancel
        ((0.5,), ((0.5,),), (0.1, -0.1), "nodes"),  # does not end at 1
        ((1.0,), ((0.5, 0.5),), (0.1, -0.1), "rows"),  # not explicit
    ],
)
def test_tableaus_check_themselves(nodes, rows, error, name):
    with pytest.raises(ValueError, match=name):
        Pair(nodes, rows, error)


def test_the_exponential_pair_is_dpm_solvers_in_x0_and_its_error_their_distance(commuting, x):
    """arXiv 2206.00927, Algorithm 2 and Algorithm 1 with r1 = 1/3, with D for eps and -h for h."""
    at, to = 4.0, 3.0
    h = math.log(at / to)
    phi_1, phi_2 = -math.expm1(-h), math.expm1(-h) / h + 1
    s1, s2 = at * math.exp(-h / 3), at * math.exp(-2 * h / 3)
    D = commuting(4 * x, at)
    u1 = s1 / at * 4 * x - math.expm1(-h / 3) * D
    D1 = commuting(u1, s1) - D
    u2 = s2 / at * 4 * x - math.expm1(-2 * h / 3) * D + 2 * (math.expm1(-2 * h / 3) / (2 * h / 3) + 1) * D1
    D2 = commuting(u2, s2) - D
    base = to / at * 4 * x + phi_1 * D
    third, second = base + phi_2 / (2 / 3) * D2, base + phi_2 / (1 / 3) * D1
    pair = DPMSolverPP32()
    moved, x0_moved, wrong = pair.attempt(commuting, 4 * x, D, at, to)
    assert x0_moved is None
    torch.testing.assert_close(moved, third, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(wrong, third - second, rtol=1e-10, atol=1e-13)
    atol = (third - second).flatten(1).square().mean(1).sqrt().max().item()  # of the worst sample: 1 in units of it
    for share, accepted in ((1.01, True), (0.99, False)):
        run = integrate(
            commuting, plain(torch.tensor([at, to]), solver=replace(pair, rtol=0.0, atol=share * atol)), 4 * x
        )
        assert (run.nfe["image"] == 3) == accepted


def test_the_exponential_pair_spends_far_less_at_equal_error():
    """A mixture at guidance 7.5 down to 0.03: for 1.5e-4 and 3.0e-5 30 and 77 evaluations were measured, where
    Bogacki and Shampine's pair takes 79 for 4.9e-4 and 148 for 6.2e-5."""
    video = closed_form_pair(frames=8)["video"].at(7.5)
    x = 14.6 * torch.randn(1, 4, 8, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([14.6, 0.03], dtype=torch.float64)

    def played(solver):
        run = integrate(video, plain(levels, solver=solver), x)
        return run.x, run.nfe["video"]

    truth, _ = played(DormandPrince54(rtol=1e-9, atol=1e-9))
    for tolerance in (1e-2, 1e-3):
        ours, spent = played(DPMSolverPP32(rtol=tolerance, atol=tolerance / 10))
        theirs, more = played(BogackiShampine32(rtol=tolerance / 10, atol=tolerance / 100))
        assert (ours - truth).norm() < (theirs - truth).norm()
        assert spent < 0.6 * more


def test_the_exponential_pair_looks_before_it_leaps():
    """Its first attempt spans 0.3 in lam at most: at low noise a network finds its input right, whatever it is, so
    that the error of one long step looks small."""
    seen = []

    def denoise(y, sigma):
        seen.append(sigma.item())
        return y / (1 + sigma**2)

    integrate(denoise, plain(torch.tensor([14.6, 0.03]), solver=DPMSolverPP32(rtol=1.0, atol=1.0)), torch.ones(1, 1))
    assert min(seen[:3]) == pytest.approx(14.6 * math.exp(-0.2), rel=1e-6)


def test_lengths_follow_the_errors_of_this_part_and_of_the_last_accepted_one(commuting, x):
    """0.9·error^(-0.7/3)·last^(0.4/3) times the length, by 0.2 to 5; a rejected part leaves `last` as it was."""
    attempts = []

    class Watched(DPMSolverPP32):
        def attempt(self, denoise, x, x0, at, to):
            moved, x0_moved, wrong = super().attempt(denoise, x, x0, at, to)
            ratio = wrong / (self.atol + self.rtol * x.abs().maximum(moved.abs()))
            attempts.append((math.log(at / to), ratio.square().flatten(1).mean(1).max().sqrt().item()))
            return moved, x0_moved, wrong

    integrate(commuting, plain(torch.tensor([10.0, 0.1]), solver=Watched(rtol=1e-3, atol=1e-4)), 10 * x)
    last, factors = 1.0, []
    for (length, error), (tried, _) in pairwise(attempts[:-1]):  # the last one ends where the interval does
        factors.append(min(5.0, max(0.2, 0.9 * error ** (-0.7 / 3) * last ** (0.4 / 3))))
        assert tried == pytest.approx(factors[-1] * length, rel=1e-9)
        last = error if error <= 1 else last
    assert any(0.2 < factor < 5 for factor in factors[1:])


@every_pair
def test_a_grid_that_is_one_step_to_zero_or_from_it_is_refused(pair):
    """It would be Euler's, whatever the tolerance."""
    for grid in ([10.0, 0.0], [0.0, 10.0]):
        with pytest.raises(ValueError, match=r"sigmas: got 1?0, 1?0; a step to or from 0 is never divided: give"):
            plain(torch.tensor(grid), solver=pair)
