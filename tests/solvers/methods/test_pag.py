import math

import pytest
import torch

from ivmix.solvers import (
    Guided,
    Heun,
    IVMixed,
    Schedule,
    composite,
    integrate,
    mixture,
    pag,
    plain,
    planned_nfe,
    stg,
    zsampling,
)
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, exponential, flow, reference
from ivmix.solvers.theory.limits import limit

SCHEDULE = Schedule.ve(0.2, 8.0)
GAMMAS = {"guidance": 1.5, "image_guidance": 0.4, "video_guidance": 0.3}


def grid(n):
    return SCHEDULE.grid(n, "uniform-lam")


@pytest.fixture
def weak():
    """The video network under its condition, worse: broader, and less coherent."""
    return GaussianNetwork("video perturbed", {"cat": Gaussian(0.1, exponential(4, 1.6, 0.5))})("cat")


@pytest.fixture
def pushed(pair, weak):
    return {"image": pair["image"], "video": pag(pair["video"], weak, 0.8)}


@pytest.mark.parametrize("method", [pag, stg])
@pytest.mark.parametrize("w", [1.0, 2.0])
def test_it_is_the_papers_equation(method, w, pair, weak, x):
    """PAG, arXiv 2403.17377: eps_c + s·(eps_c - eps_p), to which guidance adds its own."""
    u, c = pair["video"].uncond, pair["video"].cond
    field = method(pair["video"], weak, 0.7).at(w)
    guided = u(x, 1.5) + w * (c(x, 1.5) - u(x, 1.5))
    expected = guided + 0.7 * (c(x, 1.5) - weak(x, 1.5))
    torch.testing.assert_close(field(x, 1.5), expected, rtol=0, atol=1e-12)
    assert field.total(1.5) == pytest.approx(1.0)
    assert field.cost(1.5) == ({"video": 2, "video perturbed": 1} if w != 1 else {"video": 1, "video perturbed": 1})


def test_papers_scales_are_the_defaults(pair, weak):
    assert pag(pair["video"], weak).at(1.0).weights(1.0) == pytest.approx([0.0, 4.0, -3.0])
    assert stg(pair["video"], weak).at(1.0).weights(1.0) == pytest.approx([0.0, 2.0, -1.0])


@pytest.mark.parametrize("w", [0.3, 1.0, 7.5, lambda sigma: 1 + 0.1 * float(sigma)])
def test_scale_0_is_guidance_to_the_bit_and_costs_nothing(w, pair, weak, x):
    for scale in (0.0, lambda sigma: 0.0):
        field = pag(pair["video"], weak, scale).at(w)
        assert torch.equal(field(x, 1.5), pair["video"].at(w)(x, 1.5))
        assert field.cost(1.5) == pair["video"].at(w).cost(1.5)


def test_a_scale_over_part_of_the_run_is_paid_for_there_alone(pair, weak, x):
    field, legs = pag(pair["video"], weak, lambda sigma: 2.0 if sigma < 1 else 0.0), plain(grid(6), 1.5)
    count = sum(sigma < 1 for sigma in grid(6)[:-1].tolist())
    assert 0 < count < 6
    run = integrate(field, legs, 8 * x)
    assert run.nfe == planned_nfe(legs, field) == {"video": 6, "video perturbed": count}
    assert run.forwards == {"video": 12, "video perturbed": count}


def test_of_gaussians_it_undoes_what_the_perturbation_blurs(x):
    """With variances k < k_p the spread goes as (k + s²)^((1 + scale)/2)·(k_p + s²)^(-scale/2): narrower than the
    data's. Exact, by the closed-form flow."""
    k, worse, scale = 0.5, 1.5, 0.7
    c = GaussianNetwork("video", {None: Gaussian(0.0, k)})(None)
    p = GaussianNetwork("video perturbed", {None: Gaussian(0.0, worse)})(None)
    ratio = flow(pag(Guided(c, c), p, scale).at(1.0), 8 * x, 8.0, 0.0) / (8 * x)
    expected = (k / (k + 64)) ** ((1 + scale) / 2) * (worse / (worse + 64)) ** (-scale / 2)
    torch.testing.assert_close(ratio, torch.full_like(ratio, expected))
    assert expected * math.sqrt(k + 64) < math.sqrt(k)


def test_composites_mixtures_and_limits_take_it(pushed, pair, weak):
    """One push, whatever the signed legs: up and down they have the same."""
    sigma = 1.0
    plain_one = composite(**pair, **GAMMAS, reference=grid(8)).denoise
    field = composite(**pushed, **GAMMAS, reference=grid(8)).denoise
    atoms = [atom for atom, _ in field.terms]
    found = dict(zip(atoms, field.weights(sigma), strict=True))
    before = {atom: weight for (atom, _), weight in zip(plain_one.terms, plain_one.weights(sigma), strict=True)}
    [cond], [perturbed] = ([atom for atom, _ in one.terms] for one in (pair["video"].cond, weak))
    expected = before | {cond: before[cond] + 0.8, perturbed: -0.8}
    assert found == pytest.approx(expected, abs=1e-12)
    mixed = mixture(pair["image"], pushed["video"], 1.5, 1.0, 0.25)
    assert dict(zip([a for a, _ in mixed.terms], mixed.weights(sigma), strict=True))[perturbed] == pytest.approx(-0.6)
    legs = [leg for leg in zsampling(torch.arange(9, 0, -1), 2.0, 0.5) if leg.step == 0]
    of_zigzags = limit(pushed, legs).denoise
    weights = dict(zip([a for a, _ in of_zigzags.terms], of_zigzags.weights(sigma), strict=True))
    assert weights[perturbed] == pytest.approx(-0.8)


def test_zigzags_of_it_converge_to_their_composite_at_first_order(pushed, x, slopes):
    field = composite(**pushed, **GAMMAS, reference=grid(11))
    truth = reference(field.denoise, 8 * x, grid(11)[[0, 10]], tolerance=1e-9)

    def error(n):
        return (integrate(pushed, IVMixed(**GAMMAS).legs(grid(n))[:-1], 8 * x).x - truth).norm()

    assert slopes(error, [41, 81]) == pytest.approx([1.0], abs=0.08)


def test_every_leg_of_the_video_network_pays_one_pass_more(pushed, x):
    legs = IVMixed(**GAMMAS).legs(grid(6))
    run = integrate(pushed, legs, 8 * x)
    assert run.nfe == planned_nfe(legs, pushed)
    assert run.nfe["video perturbed"] == run.nfe["video"] > run.nfe["image"] > 0
    steps = plain(grid(6), 1.5, Heun())
    assert integrate(pushed, steps, 8 * x).nfe == planned_nfe(steps, pushed) == {"video": 11, "video perturbed": 11}


def test_what_is_not_linear_or_no_number_is_refused(pair, weak):
    with pytest.raises(TypeError, match="guided: got a Affine, expected a Guided"):
        pag(pair["video"].cond, weak)
    with pytest.raises(TypeError, match="perturbed: got a Guided, expected an Affine"):
        stg(pair["video"], pair["image"])
    with pytest.raises(ValueError, match="scale: got nan"):
        pag(pair["video"], weak, math.nan)
