"""STG where the network is two residual layers in closed form; what it has in common with PAG is tested there."""

import pytest
import torch

from ivmix.solvers import Euler, Guided, Network, Schedule, integrate, plain, planned_nfe, seen, stg

SCHEDULE = Schedule.ve(0.2, 8.0)
LAYERS = {"first": -0.5, "second": -0.2}  # x + a·x each, under the condition; nothing without


def views(skip=()):
    kept = [a for name, a in LAYERS.items() if name not in skip]
    gain = torch.tensor([1 + a for a in kept], dtype=torch.float64).prod()
    return lambda z, t, condition: condition * gain * z


@pytest.fixture
def video():
    network = Network(views(), SCHEDULE, "x0", "video", views=views)
    zeros, ones = torch.zeros(2, 1, 1, 1, 1, dtype=torch.float64), torch.ones(2, 1, 1, 1, 1, dtype=torch.float64)
    return Guided(network(zeros), network(ones))


def test_a_layer_that_is_skipped_is_pushed_for(video, x):
    """x0 = (w·.4 + scale·(.4 - .5))·x, so that Euler's step multiplies by 1 + (sigma'/sigma - 1)·(1 - that)."""
    w, scale = 1.5, 0.8
    field = stg(video, seen(video.cond, skip=("second",)), scale)
    sigmas = SCHEDULE.grid(5)
    legs = plain(sigmas, w, Euler())
    run, gain = integrate({"video": field}, legs, 8 * x), w * 0.4 + scale * (0.4 - 0.5)
    expected = 8 * x * (1 + (sigmas[1:] / sigmas[:-1] - 1) * (1 - gain)).prod()
    torch.testing.assert_close(run.x, expected)
    assert run.nfe == planned_nfe(legs, field) == {"video": 5, "video perturbed": 5}
    assert run.forwards == {"video": 10, "video perturbed": 5}


def test_two_views_of_one_network_stand_in_one_combination(video, x):
    first, second = (seen(video.cond, skip=(name,)) for name in LAYERS)
    field = stg(video, (0.8 * second + 0.3 * first) / 1.1, 1.1)
    assert field.at(1.0).cost(1.0) == {"video": 1, "video perturbed": 2}
    torch.testing.assert_close(field.at(1.0)(x, 1.0), (0.4 + 0.8 * (0.4 - 0.5) + 0.3 * (0.4 - 0.8)) * x)
