"""A grid that went through float32 is the grid: every level, the two ends and the edges of an interval included."""

import math

import pytest
import torch

from ivmix.solvers import Guided, IVMixed, Network, Progress, Schedule, composite, integrate, plain
from ivmix.solvers.checks import SLACK, within
from ivmix.solvers.schedules.spacings import SPACINGS

SCHEDULES = {
    "scaled_linear": Schedule.scaled_linear(),
    "linear": Schedule.linear(),
    "cosine": Schedule.cosine(),
    "rectified_flow": Schedule.rectified_flow(),
    "ve": Schedule.ve(0.01, 80.0, n=200),
    "zero_terminal": Schedule.scaled_linear().zero_terminal_snr(),
    "fading": Schedule.scaled_linear().fading(),
}
N = 6
MIXED = {"guidance": 2.0, "image_guidance": lambda u: 0.5 + u, "video_guidance": 0.5, "interval": (0.2, 0.6)}


def fits(schedule, spacing):
    if schedule.path == "flow":
        return True
    return spacing != "shifted-flow" and (spacing != "linear_quadratic" or math.isfinite(schedule.sigma_max))


def ends(schedule, spacing):
    """Options of a spacing that runs between two finite levels, where the schedule's last is not."""
    bounded = spacing in ("karras", "uniform-lam", "exponential") and math.isinf(schedule.sigma_max)
    return {"sigma_max": schedule.sigmas[-2].item()} if bounded else {}


CASES = [
    pytest.param(schedule, spacing, id=f"{name}-{spacing}")
    for name, schedule in SCHEDULES.items()
    for spacing in SPACINGS
    if fits(schedule, spacing)
]


def networks(schedule):
    """A pair that predicts what can be predicted at every level, and the times each is told."""
    told = {"image": [], "video": []}

    def forward(name, gain):
        def predict(z, t, condition):
            told[name].append(t.item())
            return gain * torch.tanh(z) + condition

        return predict

    adapted = {name: Network(forward(name, 0.3), schedule, "v", name) for name in told}
    texts = torch.zeros(2, 1, 1, 1, 1), torch.full((2, 1, 1, 1, 1), 0.1)
    return {name: Guided(*map(network, texts)) for name, network in adapted.items()}, told


@pytest.mark.parametrize(("schedule", "spacing"), CASES)
def test_a_cast_grid_is_played_as_the_grid(schedule, spacing, x):
    """The same legs, the same networks at the same times, the same fields of the composite; nothing is out of range."""
    grid = schedule.grid(N, spacing, **ends(schedule, spacing))
    ways = {}
    for sigmas in (grid, grid.float()):
        pair, told = networks(schedule)
        reach = {name: guided.reach for name, guided in pair.items()}
        legs = IVMixed(**MIXED).legs(sigmas, reach)
        limit = composite(**pair, **MIXED, reference=grid, reach=reach)
        other = composite(**pair, **MIXED, reference=grid.float(), reach=reach)
        start = schedule.start(x, sigmas[0])
        runs = [integrate(field, plain(sigmas), start).x for field in (pair["video"].at(2.0), limit, other)]
        runs.append(integrate(pair, legs, start).x)
        costs = [field.denoise.cost(sigma) for field in (limit, other) for sigma in sigmas[:-1]]
        ways[sigmas.dtype] = torch.stack(runs), [(leg.step, leg.label, leg.guidance) for leg in legs], costs, told
    (ours, *plan), (cast, *cast_plan) = ways.values()
    assert cast_plan[:2] == plan[:2]
    mixes = [i for i in range(N) if 0.2 <= i / (N - 1) < 0.6]
    assert [i for i in range(N) if "image" in plan[1][i]] == mixes
    for name, times in plan[2].items():
        # sigma moves by 6e-8, training levels are 5e-4 or more apart in log sigma
        assert cast_plan[2][name] == pytest.approx(times, abs=2e-4 * float(schedule.timesteps.diff().max()))
    torch.testing.assert_close(cast, ours, rtol=1e-5, atol=1e-5)


def test_a_gate_takes_a_cast_node_for_the_node():
    """On either side of it: one that the interval begins at mixes, one that it ends at does not."""
    nodes = Schedule.ve(0.2, 8.0).grid(11, "uniform-lam")
    gate = Progress.of(nodes).gate((0.2, 0.8), (nodes[7].item(), nodes[4].item()))
    for rounding in (1 - 2.0**-24, 1.0, 1 + 2.0**-24):
        assert [gate(nodes[i] * rounding) for i in range(10)] == [float(4 <= i <= 7) for i in range(10)]
    gate = Progress.of(nodes).gate((0.2, 0.8), (0.0, math.inf))
    for rounding in (1 - 2.0**-24, 1.0, 1 + 2.0**-24):
        assert [gate(nodes[i] * rounding) for i in range(10)] == [float(2 <= i < 8) for i in range(10)]


def test_progress_does_not_jump_where_a_node_was_cast():
    """Below an infinite level progress is a step: its value at the node is the value at its cast."""
    for top in (math.inf, 8.0):
        u = Progress.of(torch.tensor([top, 3.0, 1.0, 0.0]))
        for rounding in (1 - 2.0**-24, 1.0, 1 + 2.0**-24):
            assert [u(3.0 * rounding), u(1.0 * rounding)] == pytest.approx([0.5, 1.0], abs=1e-6)
    assert u(8.0 * (1 + 2.0**-24)) == 0.0


def test_the_slack_is_far_below_the_step_between_training_levels():
    for name, schedule in SCHEDULES.items():
        finite = schedule.sigmas[:-1].log().diff() if math.isinf(schedule.sigma_max) else schedule.sigmas.log().diff()
        assert finite.min() > 50 * SLACK, name


def test_ranges_are_closed_and_hold_no_nan():
    assert within(0.0, 0.0, 1.0)
    assert within(math.inf, 0.0, math.inf)
    assert within(-1.0 - 1e-6, -1.0, 1.0)
    assert not within(math.nan, 0.0, math.inf)
    assert not within(-1e-12, 0.0, 1.0)
