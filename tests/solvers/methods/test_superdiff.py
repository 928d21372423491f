import math
from itertools import count, pairwise

import pytest
import torch

from ivmix.solvers import (
    RK4,
    Euler,
    EulerAncestral,
    Heun,
    Schedule,
    SuperDiffAnd,
    SuperDiffOr,
    ancestral,
    integrate,
    ito_log_density,
    plain,
    planned_nfe,
)
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, Mixture

HIGH, LOW = 8.0, 0.5
CLIPS = 400


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def point(a, b):
    """A mean of two frames of one pixel."""
    return torch.tensor([a, b], dtype=torch.float64).reshape(1, 2, 1, 1)


ONE = Mixture([Gaussian(point(-1.0, 0.5), 0.3), Gaussian(point(1.0, 1.0), 0.5)], [1.0, 2.0])
OTHER = Mixture([Gaussian(point(-0.5, -1.0), 0.4), Gaussian(point(1.5, 0.2), 0.8)], [2.0, 1.0])
MODELS = ONE, OTHER
FIELDS = [GaussianNetwork(name, {None: data})() for name, data in (("image", ONE), ("video", OTHER))]
X = HIGH * normal(CLIPS, 1, 2, 1, 1)
EXACT = math.sqrt(2) * torch.eye(2, dtype=torch.float64).reshape(2, 1, 2, 1, 1)  # two orthogonal probes of length² 2


def grid(n):
    return Schedule.ve(LOW, HIGH).grid(n + 1, "uniform-lam")[:-1]


def noise(n):
    """A draw a step, whatever its levels."""
    seeds = count(1000 * n)
    return lambda *levels: normal(CLIPS, 1, 2, 1, 1, seed=next(seeds))


def walk(field, n, plan=lambda sigmas: plain(sigmas, solver=EulerAncestral())):
    """The states of a run at the levels of its grid."""
    run = integrate(field, plan(grid(n)), X, noise=noise(n), trace=True)
    steps = {record.leg.step: record.x for record in run.trace}  # the last leg of each
    return [X, *steps.values()]


def exact(model, path, n):
    """log q of the states of a path, less that of its first one."""
    found = torch.stack([model.log_density(x, sigma) for x, sigma in zip(path, grid(n), strict=True)])
    return found - found[0]


def rms(values):
    return values.square().mean().sqrt()


def inner(a, b):
    return (a * b).sum((1, 2, 3, 4), keepdim=True)


@pytest.mark.parametrize("drift", [FIELDS[0], FIELDS[1], SuperDiffOr(FIELDS)], ids=["own", "another's", "of both"])
def test_the_density_estimate_errs_by_half_an_order_a_path_and_by_one_in_the_mean(drift, slopes):
    """Of ONE's density, along the reverse SDE of its own, another's and a mixed drift. A mean over 400 clips has itself
    an error of a twentieth of theirs."""
    errors = {}
    for n in (100, 400):
        path = walk(drift, n)
        errors[n] = (ito_log_density(ONE, path, grid(n)) - exact(ONE, path, n))[-1]
    assert slopes(lambda n: rms(errors[n]), [100, 400]) == pytest.approx([0.5], abs=0.12)
    assert slopes(lambda n: errors[n].mean().abs(), [100, 400]) == pytest.approx([1.0], abs=0.25)


def test_the_estimate_is_of_the_sde_of_churn_1_alone():
    """Along the ODE the second derivatives stay, and an error that no steps make small."""
    for n in (100, 400):
        path = walk(FIELDS[0], n, plain)
        assert (ito_log_density(ONE, path, grid(n)) - exact(ONE, path, n))[-1].mean().abs() > 1


def test_or_in_the_authors_own_symbols():
    """Their notebook's stochastic superposition, for a VE path: dx = 2·ds·eps(kappa) + noise, d log q as in their code,
    kappa the softmax of what it sums to; here with the states of our run given."""
    path, n = walk(SuperDiffOr(FIELDS), 20), 20
    ll, memory = torch.zeros(2, CLIPS, dtype=torch.float64), None
    for (x, y), (sigma, sigma_next) in zip(pairwise(path), pairwise(grid(n).tolist()), strict=True):
        kappa = ll.softmax(0)[0].reshape(-1, 1, 1, 1, 1)
        sscores = [(model(x, sigma) - x) / sigma for model in MODELS]
        blend = sscores[1] + kappa * (sscores[0] - sscores[1])
        x0, memory = SuperDiffOr(FIELDS).recall(x, sigma, memory)
        torch.testing.assert_close((x0 - x) / sigma, blend, rtol=0, atol=1e-12)
        dt, dx = sigma - sigma_next, y - x
        ll = ll + torch.stack([(-dt * s**2 / sigma + dx * s / sigma).sum((1, 2, 3, 4)) for s in sscores])


def test_or_at_temperature_1_is_the_mixture(slopes):
    """With the exact densities its weights are what the mixture's parts are responsible for; with estimates the two
    runs of one noise part by half an order. Shares make up for what densities at the highest level differ by."""

    class Truth:
        """The mixture in which both models find the first state of a clip as likely."""

        def __call__(self, x, sigma):
            logs = [model.log_density(x, sigma) - model.log_density(X, HIGH) for model in MODELS]
            kappa = torch.stack(logs).softmax(0).reshape(2, -1, 1, 1, 1, 1)
            return (kappa * torch.stack([model(x, sigma) for model in MODELS])).sum(0)

    far = {n: rms(walk(SuperDiffOr(FIELDS), n)[-1] - walk(Truth(), n)[-1]) for n in (50, 400)}
    assert slopes(far.get, [50, 400]) == pytest.approx([0.5], abs=0.15)


def test_or_picks_the_likelier_model_at_a_high_temperature_and_by_shares():
    x, sigma = X / HIGH, 1.0
    memory = SuperDiffOr(FIELDS).recall(x, 2.0, None)[1]
    picked = SuperDiffOr(FIELDS, temperature=1e6).recall(x, sigma, memory)[0]
    ratio = ito_log_density(OTHER, [x, x], torch.tensor([2.0, 1.0])) - ito_log_density(
        ONE, [x, x], torch.tensor([2.0, 1.0])
    )
    other = (ratio[-1] > 0).reshape(-1, 1, 1, 1, 1)
    assert 50 < other.sum() < CLIPS - 50
    torch.testing.assert_close(picked, torch.where(other, OTHER(x, sigma), ONE(x, sigma)), rtol=0, atol=1e-9)
    shared = SuperDiffOr(FIELDS, temperature=0.0, shares=[3.0, 1.0]).recall(x, sigma, memory)[0]
    torch.testing.assert_close(shared, 0.75 * ONE(x, sigma) + 0.25 * OTHER(x, sigma))


def test_equal_densities_give_equal_weights():
    twins = [GaussianNetwork(name, {None: ONE})() for name in ("a", "b", "c")]
    memory = None
    for x, sigma in zip(walk(twins[0], 5), grid(5), strict=True):
        x0, memory = SuperDiffOr(twins).recall(x, sigma, memory)
        assert torch.equal(memory.ratios, torch.zeros_like(memory.ratios))
        torch.testing.assert_close(x0, ONE(x, sigma))
    assert torch.equal(SuperDiffAnd(*twins[:2], EXACT)(X, HIGH), ONE(X, HIGH))


def test_or_is_the_same_by_either_plan_of_ancestral_noise():
    for one, other in zip(walk(SuperDiffOr(FIELDS), 6, ancestral), walk(SuperDiffOr(FIELDS), 6), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_or_begins_at_inf_too():
    sigmas = Schedule.rectified_flow().grid(4)
    run = integrate(SuperDiffOr(FIELDS), plain(sigmas, solver=EulerAncestral()), X / HIGH, noise=noise(4))
    assert run.x.isfinite().all()
    assert run.nfe == planned_nfe(plain(sigmas), SuperDiffOr(FIELDS)) == {"image": 4, "video": 4}


def test_ratios_keep_their_digits_in_float32_though_log_densities_are_in_the_tens_of_thousands():
    """Summed by themselves, log-densities of clips of this size left an error of .001 here."""
    near = [GaussianNetwork(name, {None: Gaussian(mean, 1.0)})() for name, mean in (("image", 0.0), ("video", 0.01))]
    x, y = 2 * normal(1, 4, 8, 32, 32), normal(1, 4, 8, 32, 32, seed=1)

    def ratio(dtype):
        memory = SuperDiffOr(near).recall(x.to(dtype), 2.0, None)[1]
        return SuperDiffOr(near).recall(y.to(dtype), 1.0, memory)[1].ratios[1].item()

    assert ratio(torch.float64) > 0.09
    assert ratio(torch.float32) == pytest.approx(ratio(torch.float64), abs=5e-5)


def apart(field, n, solver):
    """By how much the difference of the exact log-densities has changed at the end of a run."""
    start, end = X[:16], integrate(field, plain(grid(n), solver=solver), X[:16]).x
    before, after = (
        ONE.log_density(x, sigma) - OTHER.log_density(x, sigma) for x, sigma in ((start, HIGH), (end, LOW))
    )
    return rms(after - before)


@pytest.mark.parametrize(("solver", "n"), [(Euler(), 12), (Heun(), 16), (RK4(), 12)], ids=["Euler", "Heun", "RK4"])
def test_and_moves_both_log_densities_together_to_the_order_of_the_solver(solver, n, slopes):
    field = SuperDiffAnd(*FIELDS, EXACT)
    assert slopes(lambda n: apart(field, n, solver), [n, 2 * n]) == pytest.approx([solver.order], abs=0.3)


def test_and_is_the_authors_formula():
    """Their notebook's kappa of the equal-density surface, in sscore = -eps and its divergence."""
    x, sigma = X / 4, 2.0
    sscores, divergences = [], []
    for model in MODELS:
        jacobian = torch.func.vmap(torch.func.jacrev(lambda y, model=model: (model(y, sigma) - y) / sigma))(x)
        divergences.append(jacobian.reshape(CLIPS, 2, 2).diagonal(dim1=1, dim2=2).sum(1).reshape(-1, 1, 1, 1, 1))
        sscores.append((model(x, sigma) - x) / sigma)
    u = sscores[0] - sscores[1]
    kappa = (sigma * (divergences[0] - divergences[1]) + inner(sscores[0], u)) / inner(u, u)
    expected = kappa * ONE(x, sigma) + (1 - kappa) * OTHER(x, sigma)
    torch.testing.assert_close(SuperDiffAnd(*FIELDS, EXACT)(x, sigma), expected, rtol=1e-9, atol=1e-9)


def test_one_random_probe_estimates_the_divergence_without_bias():
    x, sigma = X[:4] / 8, 1.0
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    mean = sum(SuperDiffAnd(*FIELDS, v.reshape(1, 1, 2, 1, 1))(x, sigma) for v in signs) / 4
    torch.testing.assert_close(mean, SuperDiffAnd(*FIELDS, EXACT)(x, sigma))


def and_with_noise(models, n):
    """The authors' AND of the SDE, their kappa made from the noise of the step: (its estimates' parting, the exact
    one), and the largest distance of a step from the mean of eps and noise without its part along eps_1 - eps_2."""
    x, lost, estimate = X, 0.0, torch.zeros(2, CLIPS, dtype=torch.float64)
    for sigma, sigma_next in pairwise(grid(n).tolist()):
        dt = sigma - sigma_next
        s1, s2 = ((model(x, sigma) - x) / sigma for model in models)
        u, xi = s1 - s2, math.sqrt(2 * sigma * dt) * normal(CLIPS, 1, 2, 1, 1, seed=round(1e6 * sigma))
        kappa = -dt * inner(u, s1 + s2) / sigma + inner(2 * dt * s2 + xi, u) / sigma
        kappa = -kappa / (2 * dt * inner(u, u) / sigma)
        dx = 2 * dt * (s2 + kappa * u) + xi
        lost = max(lost, (dx - (dt * (s1 + s2) + xi - inner(xi, u) / inner(u, u) * u)).abs().max().item())
        estimate = estimate + torch.stack(
            [(inner(dx, s) / sigma - dt * inner(s, s) / sigma).flatten() for s in (s1, s2)]
        )
        x = x + dx
    one, other = (model.log_density(x, LOW) - model.log_density(X, HIGH) for model in models)
    return rms(estimate[0] - estimate[1]), rms(one - other), lost


def test_their_and_with_noise_is_the_mean_with_noise_that_lacks_a_direction():
    assert and_with_noise(MODELS, 50)[2] < 1e-9


def test_its_estimates_move_together_and_the_densities_do_not():
    """Of 1000 clips, .256, .245 and .246 were measured in 50, 200 and 800 steps."""
    for n in (50, 200):
        estimated, true, _ = and_with_noise(MODELS, n)
        assert estimated < 1e-10
        assert true > 0.2


def test_unless_the_models_are_gaussians_of_one_covariance(slopes):
    alike = [Mixture([Gaussian(point(*mean), 0.3)]) for mean in ((-1.0, 0.5), (1.0, 0.0))]
    assert slopes(lambda n: and_with_noise(alike, n)[1], [50, 200]) == pytest.approx([1.0], abs=0.1)


@pytest.mark.parametrize(
    ("make", "error", "name"),
    [
        (lambda: SuperDiffOr(FIELDS[:1]), ValueError, "fields: got 1"),
        (lambda: SuperDiffOr([FIELDS[0], ONE]), TypeError, "fields: got a Mixture"),
        (lambda: SuperDiffOr(FIELDS, temperature=-1.0), ValueError, "temperature"),
        (lambda: SuperDiffOr(FIELDS, shares=[1.0]), ValueError, "shares: got 1 for 2"),
        (lambda: SuperDiffOr(FIELDS, shares=[1.0, 0.0]), ValueError, "shares: got 0"),
        (lambda: SuperDiffOr(FIELDS)(X, HIGH), ValueError, "need a memory"),
        (lambda: SuperDiffAnd(*FIELDS, EXACT[0]), ValueError, "probes"),
        (lambda: SuperDiffAnd(*FIELDS, EXACT)(X, math.inf), ValueError, "sigma: got inf"),
        (lambda: ito_log_density(ONE, [X], grid(2)), ValueError, "path: got 1 states for 3 levels"),
    ],
)
def test_what_cannot_be_is_refused(make, error, name):
    with pytest.raises(error, match=name):
        make()


@torch.no_grad()
def test_and_costs_one_evaluation_of_each_network_and_needs_no_grad_mode():
    field, legs = SuperDiffAnd(*FIELDS, EXACT), plain(grid(3))
    run = integrate(field, legs, X)
    assert run.nfe == run.forwards == planned_nfe(legs, field) == {"image": 3, "video": 3}
