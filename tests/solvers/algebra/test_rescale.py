import math

import pytest
import torch

from ivmix.solvers import Guided, Network, Rescaled, Schedule, composite, integrate, late, mixture, plain

SCHEDULE = Schedule.scaled_linear()


def paper(cond, uncond, scale, rescale):
    """arXiv 2305.08891, section 3.4, sample by sample."""
    guided = uncond + scale * (cond - uncond)
    return torch.stack([
        rescale * (g * (c.std() / g.std())) + (1 - rescale) * g for g, c in zip(guided, cond, strict=True)
    ])  # fmt: skip


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v", "flow"])
@pytest.mark.parametrize("rescale", [0.0, 0.7, 1.0])
def test_it_is_the_papers_formula_on_the_networks_own_prediction(prediction, rescale, pair, x):
    schedule = Schedule.rectified_flow() if prediction == "flow" else SCHEDULE
    sigma = schedule.sigma(0.6 if prediction == "flow" else 600.0)
    alpha, guided = schedule.alpha_at(sigma), pair["video"]

    def output(x0):
        eps = (x - x0) / sigma
        return {"epsilon": eps, "x0": x0, "v": alpha * (eps - sigma * x0), "flow": eps - x0}[prediction]

    y = paper(output(guided.cond(x, sigma)), output(guided.uncond(x, sigma)), 6.0, rescale)
    x0 = Rescaled(guided, 6.0, rescale, prediction)(x, sigma)
    torch.testing.assert_close(output(x0), y, rtol=1e-11, atol=1e-11)


def test_at_infinity_every_prediction_is_x0s(pair, x):
    for prediction in ("v", "flow", "x0"):
        x0 = Rescaled(pair["video"], 6.0, 1.0, prediction)(x, math.inf)
        expected = paper(pair["video"].cond(x, math.inf), pair["video"].uncond(x, math.inf), 6.0, 1.0)
        torch.testing.assert_close(x0, expected, rtol=1e-12, atol=1e-12)


def test_rescale_0_is_plain_guidance(pair, x):
    legs = plain(SCHEDULE.grid(6))
    ours = integrate(Rescaled(pair["video"], 6.0, 0.0), legs, x).x
    torch.testing.assert_close(ours, integrate(pair["video"].at(6.0), legs, x).x, rtol=1e-12, atol=1e-12)


def test_a_scale_of_1_is_the_conditional_prediction_alone(pair, x):
    rescaled = Rescaled(pair["video"], 1.0)
    torch.testing.assert_close(rescaled(x, 2.0), pair["video"].cond(x, 2.0), rtol=1e-12, atol=1e-12)
    assert rescaled.cost(2.0) == {"video": 1}


def test_it_costs_one_batch_and_is_counted_so(x):
    calls = []

    def forward(z, t, condition):
        calls.append(len(z))
        return torch.tanh(z + condition.reshape(-1, 1, 1, 1, 1))

    network = Network(forward, SCHEDULE, "v", "video")
    guided = Guided(network(torch.zeros(2)), network(torch.ones(2)))
    run = integrate(Rescaled(guided, 6.0, prediction="v"), plain(SCHEDULE.grid(5)), x)
    assert calls == [4] * 5
    assert (run.nfe, run.forwards) == ({"video": 5}, {"video": 10})
    assert Rescaled(guided, 6.0).reach == (SCHEDULE.sigma_min, SCHEDULE.sigma_max)


def test_composites_and_mixtures_refuse_it(pair):
    rescaled, grid = Rescaled(pair["video"], 6.0), SCHEDULE.grid(5)
    with pytest.raises(TypeError, match="video: got a Rescaled"):
        composite(pair["image"], rescaled, reference=grid)
    with pytest.raises(TypeError, match="image: got a Rescaled"):
        mixture(rescaled, pair["video"], 2.0, 2.0, late(0.5, below=1.0))


def test_legs_that_scale_it_again_are_refused(pair, x):
    with pytest.raises(ValueError, match=r"guidance 7\.5 for a denoiser"):
        integrate(Rescaled(pair["video"], 6.0), plain(SCHEDULE.grid(5), 7.5), x)


@pytest.mark.parametrize("options", [{"rescale": 1.5}, {"rescale": math.nan}, {"prediction": "eps"}])
def test_bad_options_are_refused(options, pair):
    with pytest.raises(ValueError, match=next(iter(options))):
        Rescaled(pair["video"], 6.0, **options)
    with pytest.raises(TypeError, match="guided"):
        Rescaled(pair["video"].cond, 6.0)
