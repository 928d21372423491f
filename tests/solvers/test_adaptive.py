import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from ivmix.solvers import (
    BogackiShampine32,
    DormandPrince54,
    NotFiniteError,
    Schedule,
    integrate,
    plain,
    planned_nfe,
)
from ivmix.solvers.adaptive import Pair
from ivmix.solvers.analytic import flow

PAIRS = [BogackiShampine32(), DormandPrince54()]
every_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: type(pair).__name__)


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


@every_pair
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


@every_pair
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

    with pytest.raises(NotFiniteError, match="step 1"):
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
