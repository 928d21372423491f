"""What all methods of adaptive guidance share; their formulas are tested in tests/solvers/methods."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch

from ivmix.solvers import (
    APG,
    MAMBOG,
    RK4,
    TCFG,
    CFGZeroStar,
    DPMSolverPP2M,
    Euler,
    Guided,
    Heun,
    IVMixed,
    Network,
    Schedule,
    as_affine,
    composite,
    freeinit,
    integrate,
    mixture,
    plain,
    zsampling,
)
from ivmix.solvers.theory.analytic import closed_form_pair

SCHEDULE = Schedule.scaled_linear()
GRID = SCHEDULE.grid(6)
SPACES = ["epsilon", "x0", "v", "flow"]
METHODS = {
    "apg": partial(APG, eta=0.3, threshold=2.0),
    "cfg-zero-star": CFGZeroStar,
    "mambo-g": partial(MAMBOG, alpha=1.5),
    "tcfg": TCFG,
}
MOMENTUM = partial(APG, eta=0.3, threshold=4.0, momentum=-0.6)
methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
every_method = pytest.mark.parametrize("method", [*METHODS.values(), MOMENTUM], ids=[*METHODS, "momentum"])
equal = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)


@methods
@pytest.mark.parametrize("space", SPACES)
def test_in_the_networks_own_space_it_is_the_formula_on_its_outputs(method, space, x):
    """Outputs go straight from the network into the formula, and what comes back is read as one of them."""
    schedule = Schedule.rectified_flow() if space == "flow" else SCHEDULE
    seen = []

    def forward(z, t, condition):
        y = torch.tanh(z.roll(1, 2) + condition.reshape(-1, 1, 1, 1, 1))
        seen[:] = [y]
        return y

    sigma = schedule.sigma(0.6 if space == "flow" else 600.0)
    alpha = schedule.alpha_at(sigma)
    network = Network(forward, schedule, space, "video")
    field = method(Guided(network(torch.full((2,), 0.3)), network(torch.full((2,), 0.9))), space)
    x0 = field.at(6.0)(x, sigma)
    uncond, cond = seen[0].chunk(2)
    weights = field.weigh(cond, uncond, 6.0)
    y = weights.cond * cond + weights.uncond * uncond
    eps = (x - x0) / sigma
    ours = {"epsilon": eps, "x0": x0, "v": alpha * (eps - sigma * x0), "flow": eps - x0}[space]
    equal(ours, y, rtol=1e-11, atol=1e-11)


@methods
def test_the_networks_kind_of_prediction_plays_no_part(method, pair, x):
    """A formula means its space: eps, v and flow networks that know the same are guided the same."""
    sigma, model = SCHEDULE.sigma(500.0), pair["video"].cond.terms[0][0].model
    expected = method(pair["video"]).at(4.0)(x, sigma)
    for prediction in ("epsilon", "v", "flow"):
        uncond, cond = (Network(model.forward(SCHEDULE, prediction), SCHEDULE, prediction, "video") for _ in range(2))
        found = method(Guided(uncond(""), cond("cat"))).at(4.0)(x, sigma)
        equal(found, expected, rtol=1e-10, atol=1e-10)


@methods
@pytest.mark.parametrize("others", [("epsilon", "x0"), ("epsilon", "flow"), ("x0", "v"), ("v", "flow")])
def test_two_spaces_differ(method, others, pair, x):
    one, other = (method(pair["video"], space).at(4.0)(2 * x, 2.0) for space in others)
    assert (one - other).abs().max() > 1e-3


@every_method
@pytest.mark.parametrize("space", SPACES)
def test_a_scale_of_1_is_the_conditional_prediction_alone(method, space, pair, x):
    field = method(pair["video"], space)
    x0, memory = field.at(1.0).recall(x, 2.0, None)
    assert torch.equal(x0, pair["video"].cond(x, 2.0))
    assert memory is None
    assert field.at(1.0).cost(2.0) == {"video": 1}
    if not field.remembers:  # and so says the formula, asked for it
        equal(field.at(torch.tensor(1.0, dtype=torch.float64))(x, 2.0), x0)


@every_method
def test_a_clip_does_not_depend_on_what_it_is_beside(method, pair, x):
    """One clip of the batch is played alone, and beside a neighbour that is a hundred times as large."""
    field, legs = method(pair["video"]), plain(GRID, 5.0, DPMSolverPP2M())
    one, other = (integrate(field, legs, 14 * x[k : k + 1]).x for k in (0, 1))
    both = integrate(field, legs, 14 * x).x
    equal(both, torch.cat([one, other]))
    wild = integrate(field, legs, torch.cat([14 * x[:1], 1400 * x[1:]])).x
    equal(wild[:1], one)


@every_method
def test_it_is_one_line_of_any_plan_and_one_call_a_step(method, x):
    calls = []

    def forward(z, t, condition):
        calls.append(len(z))
        return torch.tanh(z + condition.reshape(-1, 1, 1, 1, 1))

    network = Network(forward, SCHEDULE, "v", "video")
    guided = Guided(network(torch.zeros(2)), network(torch.ones(2)))
    run = integrate(method(guided), plain(GRID, 6.0), x, trace=True)
    assert calls == [4] * 6
    assert (run.nfe, run.forwards) == ({"video": 6}, {"video": 12})
    assert [record.told for record in run.trace] == [(sigma,) for sigma in GRID[:-1].tolist()]
    assert method(guided).reach == method(guided).at(6.0).reach == network.reach
    inside = integrate(method(guided).at(6.0), plain(GRID), x)
    assert torch.equal(inside.x, run.x)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [partial(APG, eta=0.2), CFGZeroStar, partial(MAMBOG, alpha=1.0), TCFG],
    ids=METHODS,
)
def test_solvers_keep_their_order(method, x, slopes):
    """On mixtures of Gaussians, where all four are smooth functions of x and sigma (APG without its threshold). The
    reference, of twice the steps of the finest run, has 1/16 of RK4's error there, which makes 4 at most 4.1."""
    field, schedule = method(closed_form_pair(4)["video"]).at(2.5), Schedule.ve(0.2, 8.0)

    def end(n, solver):
        return integrate(field, plain(schedule.grid(n, "uniform-lam")[:-1], solver=solver), 8 * x).x

    truth = end(320, RK4())
    for solver in (Euler(), DPMSolverPP2M(), RK4()):
        found = slopes(lambda n, solver=solver: (end(n, solver) - truth).norm(), [40, 80, 160])
        assert found == pytest.approx([solver.order] * 2, abs=0.2)


@methods
def test_at_infinity_it_is_the_limit_of_high_levels(method, pair, x):
    """There x is z. Nothing of x0 is in eps, which is refused."""
    for space in ("v", "flow", "x0"):
        denoise = method(pair["video"], space).at(4.0)
        equal(denoise(x, math.inf), denoise(1e7 * x, 1e7), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="space: got 'epsilon' at sigma inf"):
        method(pair["video"], "epsilon").at(4.0)(x, math.inf)
    with pytest.raises(ValueError, match="space: got 'flow' at sigma 0"):
        method(pair["video"], "flow").at(4.0)(x, 0.0)


@methods
def test_predictions_that_are_alike_or_nothing_are_no_trouble(method, pair, x):
    """c = u is plain; zeros, as a network's before training, are zeros."""
    field = method(pair["video"])
    for cond, uncond in ((x, x), (x, 0 * x), (0 * x, x), (0 * x, 0 * x)):
        weights = field.weigh(cond, uncond, 6.0)
        y = weights.cond * cond + weights.uncond * uncond
        assert y.isfinite().all()
        if cond is uncond:
            equal(y, x)


@every_method
def test_gradients_are_those_of_differences(method, pair, x):
    denoise = method(pair["video"]).at(3.0)
    past = torch.ones_like(x) if denoise.method.remembers else None
    state = (2 * x[:, :1, :2]).requires_grad_()

    def x0(part):
        whole = torch.cat([torch.cat([part, 2 * x[:, :1, 2:]], 2), 2 * x[:, 1:]], 1)
        return denoise.recall(whole, 2.0, past)[0]

    assert torch.autograd.gradcheck(x0, state)


@every_method
def test_states_in_float32_stay_there(method, pair, x):
    denoise = method(pair["video"]).at(3.0)
    single, memory = denoise.recall(x.float(), 2.0, None)
    assert single.dtype == torch.float32
    assert memory is None or memory.dtype == torch.float32
    torch.testing.assert_close(single.double(), denoise.recall(x, 2.0, None)[0], rtol=1e-4, atol=1e-4)


# --- memory -----------------------------------------------------------------------------------------------------------


def by_hand(fields, legs, x):
    """`legs` as a loop would play them, one memory a lane: what the leg before left, for every evaluation of a leg."""
    solvers, momenta = {}, {}
    for leg in legs:
        lane, found = (leg.label, leg.network), []
        old = momenta.get(lane)

        def denoise(y, sigma, leg=leg, old=old, found=found):
            x0, new = fields[leg.network].at(leg.guidance).recall(y, sigma, old)
            found.append(new)
            return x0

        x, solvers[lane] = leg.solver.step(denoise, x, leg.source, leg.target, solvers.get(lane))
        momenta[lane] = found[0]
    return x


@pytest.mark.parametrize("solver", [Euler(), DPMSolverPP2M(), DPMSolverPP2M(RK4()), Heun(), RK4()], ids=repr)
def test_a_step_leaves_one_memory_however_often_it_evaluates(solver, pair, x):
    fields, legs = {"video": MOMENTUM(pair["video"])}, plain(GRID, 5.0, solver)
    equal(integrate(fields, legs, 14 * x).x, by_hand(fields, legs, 14 * x))


def test_every_leg_of_a_zigzag_has_a_memory_of_its_own(pair, x):
    fields = {name: MOMENTUM(guided) for name, guided in pair.items()}
    mixed = IVMixed(guidance=3.0, image_guidance=1.5, video_guidance=2.0).legs(GRID)
    for legs in (mixed, zsampling(GRID, 3.0, 0.5)):
        equal(integrate(fields, legs, 14 * x).x, by_hand(fields, legs, 14 * x))
    without = {name: MOMENTUM(guided, momentum=0.0) for name, guided in pair.items()}
    assert (integrate(fields, mixed, 14 * x).x - integrate(without, mixed, 14 * x).x).abs().max() > 1e-2


def test_runs_begin_without_memory(pair, x):
    """A field is a value: what one run remembered is nothing to the next, nor to one that begins again in it."""
    field, legs = MOMENTUM(pair["video"]), plain(GRID, 5.0)
    first = integrate(field, legs, 14 * x).x
    assert torch.equal(integrate(field, legs, 14 * x).x, first)

    def noise(sigma, sigma_next):
        return x.flip(0)

    run = integrate(field, freeinit(legs, 2), 14 * x, noise=noise, schedule=SCHEDULE, trace=True)
    again = next(k for k, record in enumerate(run.trace) if record.leg.network is None)
    assert torch.equal(integrate(field, legs, run.trace[again].x).x, run.x)


def test_a_watcher_sees_it_evaluated(pair, x):
    seen = []
    integrate(MOMENTUM(pair["video"]), plain(GRID, 5.0, Heun()), 14 * x, watch=seen.append)
    assert [evaluation.leg for evaluation in seen] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]


def test_momentum_without_a_memory_is_refused(pair, x):
    with pytest.raises(ValueError, match="APG has momentum, which needs a memory"):
        MOMENTUM(pair["video"]).at(4.0)(x, 2.0)


# --- where it fits ----------------------------------------------------------------------------------------------------


@methods
def test_zigzags_scale_each_leg_with_the_legs_sign(method, pair, x):
    fields = {"image": method(pair["image"]), "video": method(pair["video"])}
    legs = IVMixed(guidance=3.0, image_guidance=1.5, video_guidance=2.0).legs(GRID)
    run = integrate(fields, legs, 14 * x, trace=True)
    assert run.nfe == integrate(pair, legs, 14 * x).nfe
    for before, record in pairwise(run.trace[:5]):
        denoise = fields[record.leg.network].at(record.leg.guidance)
        expected, _ = Euler().step(denoise, before.x, record.leg.source, record.leg.target)
        equal(record.x, expected)


@methods
def test_composites_and_mixtures_refuse_it_and_say_what_to_do(method, pair, x):
    field = method(pair["video"])
    name = type(field).__name__
    with pytest.raises(TypeError, match=f"video: got a {name}, .* linear .*; play it in the legs of IVMixed"):
        composite(pair["image"], field, reference=GRID)
    with pytest.raises(TypeError, match=f"image: got a {name}, .* linear .*; combine as_affine"):
        mixture(field, pair["video"], 2.0, 2.0, 0.5)
    mixed = 0.7 * as_affine(field.at(2.0), "video") + 0.3 * as_affine(method(pair["image"]).at(3.0), "image")
    equal(mixed(x, 2.0), 0.7 * field.at(2.0)(x, 2.0) + 0.3 * method(pair["image"]).at(3.0)(x, 2.0))


@methods
def test_bad_fields_and_scales_are_refused(method, pair, x):
    with pytest.raises(TypeError, match="guided: got a Affine"):
        method(pair["video"].cond)
    with pytest.raises(ValueError, match="space: got 'eps'"):
        method(pair["video"], "eps")
    with pytest.raises(ValueError, match="scale: got nan"):
        method(pair["video"]).at(math.nan)
    with pytest.raises(ValueError, match="got guidance None for a "):
        integrate(method(pair["video"]), plain(GRID), x)
    with pytest.raises(ValueError, match=r"guidance 7\.5 for a denoiser"):
        integrate(method(pair["video"]).at(2.0), plain(GRID, 7.5), x)
