from dataclasses import replace

import pytest
import torch

from ivmix.solvers import Heun, Schedule, autoguidance, integrate, planned_nfe, w2sd, zsampling
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, Mixture, reference

SCHEDULE = Schedule.scaled_linear()
SIGMAS = SCHEDULE.grid(6)
HIGH, LOW = 8.0, 0.2


def above(legs):
    """The plan whose weak network is told the level above the state's, as the authors' code does."""
    return [replace(leg, told=leg.target) if leg.label == "zag" else leg for leg in legs]


@pytest.mark.parametrize("told", ["own level", "level above"])
def test_the_papers_loop_in_its_own_symbols(told, pair, x):
    """DDIM of the strong model, inversion by the weak one, at guidance 2.0 and 0.5, DDIM of the strong one; in the
    authors' code the weak model is told t where the latents are at t - 1."""
    alpha_bar = SCHEDULE.alpha_at(SIGMAS[:-1]) ** 2
    alpha_bar = torch.cat([alpha_bar, alpha_bar.new_ones(1)])

    def move(z, network, at, i, j):
        a, s = alpha_bar[at].sqrt(), (1 - alpha_bar[at]).sqrt()
        field = pair[network].at(2.0 if network == "video" else 0.5)
        e = (z - a * field(z / a, SIGMAS[at])) / s
        x0 = (z - (1 - alpha_bar[i]).sqrt() * e) / alpha_bar[i].sqrt()
        return alpha_bar[j].sqrt() * x0 + (1 - alpha_bar[j]).sqrt() * e

    z = x
    for i in range(6):
        if i < 3:
            z = move(z, "video", i, i, i + 1)
            z = move(z, "image", i if told == "level above" else i + 1, i + 1, i)
        z = move(z, "video", i, i, i + 1)
    legs = w2sd(SIGMAS, 2.0, 0.5, 3)
    legs = above(legs) if told == "level above" else legs
    run = integrate(pair, legs, SCHEDULE.start(x, SIGMAS[0]), schedule=SCHEDULE)
    torch.testing.assert_close(run.x, z, rtol=0, atol=1e-12)


STRONG = GaussianNetwork("video", {None: Mixture([Gaussian(-1.0, 0.05), Gaussian(1.0, 0.1)], [1.0, 3.0])})(None)
WEAK = GaussianNetwork("image", {None: Mixture([Gaussian(-0.8, 0.3), Gaussian(1.2, 0.5)], [1.0, 1.5])})(None)
STARTS = HIGH * torch.tensor([-1.5, -0.8, -0.4, 0.4, 0.9, 1.6], dtype=torch.float64).reshape(6, 1, 1, 1, 1)


@pytest.fixture(scope="module")
def truth():
    """Where autoguidance of scale 2 leads, on both sides of what parts the mixtures' modes."""
    return reference(autoguidance(STRONG, WEAK, 2.0), STARTS, torch.tensor([HIGH, LOW]), tolerance=1e-10)


def distance(truth, n, plan=lambda legs: legs):
    """From n steps of W2SD, down to the lowest level above 0: the step from there to 0 cannot zigzag."""
    ve = Schedule.ve(LOW, HIGH)
    legs = plan(w2sd(ve.grid(n + 1, "uniform-lam"), None, None)[:-1])
    return (integrate({"video": STRONG, "image": WEAK}, legs, STARTS, schedule=ve).x - truth).norm()


@pytest.mark.parametrize("plan", [list, above], ids=["own level", "level above"])
def test_it_converges_to_autoguidance_of_scale_2_at_first_order(plan, truth, slopes):
    """The authors' one-step-off level leaves the limit as it is. Slopes are 1 + O(1/n): measured .982 and .943."""
    assert slopes(lambda n: distance(truth, n, plan), [200, 400]) == pytest.approx([1.0], abs=0.08)


def test_the_level_above_changes_the_errors_constant(truth):
    """Measured 2.62 times the error."""
    assert distance(truth, 400, above) / distance(truth, 400) == pytest.approx(2.6, abs=0.1)


def test_one_network_is_z_sampling():
    assert w2sd(SIGMAS, 2.0, 0.5, 3, Heun(), strong="image", weak="image") == zsampling(
        SIGMAS, 2.0, 0.5, 3, Heun(), "image"
    )


@pytest.mark.parametrize(("zigzags", "count"), [(0, 0), (2, 2), (None, 5)])
def test_each_zigzag_costs_one_evaluation_of_each_network(zigzags, count, pair, x):
    legs = w2sd(SIGMAS, 2.0, 0.5, zigzags)
    run = integrate(pair, legs, x)
    assert run.nfe == planned_nfe(legs)
    assert (run.nfe["video"], run.nfe.get("image", 0)) == (6 + count, count)


def test_out_of_the_weak_networks_reach_steps_are_plain():
    low, high = SIGMAS[3].item(), SIGMAS[1].item()
    legs = w2sd(SIGMAS, 2.0, 0.5, reach={"image": (low, high), "video": (0.0, 100.0)})
    assert [(leg.step, leg.told) for leg in legs if leg.network == "image"] == [(i, SIGMAS[i + 1]) for i in (0, 1, 2)]
    assert [leg.step for leg in legs] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 5]


@pytest.mark.parametrize(("options", "name"), [({"zigzags": 6}, "zigzags"), ({"inversion_guidance": "1"}, "inversion")])
def test_what_cannot_be_is_refused(options, name):
    with pytest.raises(ValueError, match=name):
        w2sd(SIGMAS, **options)
