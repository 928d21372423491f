import math

import pytest
import torch

from ivmix.solvers import AdamsBashforth2, CFGZeroStar, Guided, Schedule, integrate, plain
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork

FLOW = Schedule.rectified_flow()
equal = torch.testing.assert_close


def paper(cond, uncond, scale):
    """arXiv 2503.18886, Algorithm 1, clip by clip."""
    found = []
    for c, u in zip(cond, uncond, strict=True):
        s = (c.flatten() @ u.flatten()) / (u.flatten() @ u.flatten())
        found.append((1 - scale) * s * u + scale * c)
    return torch.stack(found)


@pytest.mark.parametrize("space", ["epsilon", "x0", "v", "flow"])
@pytest.mark.parametrize("scale", [-2.0, 0.0, 1.0, 5.0])
def test_it_is_the_papers_formula(space, scale, pair, x, in_space):
    sigma, guided = 2.5, pair["video"]
    y = paper(*(in_space(space, x, part(x, sigma), sigma) for part in (guided.cond, guided.uncond)), scale)
    x0 = CFGZeroStar(guided, space).at(scale)(x, sigma)
    equal(in_space(space, x, x0, sigma), y, rtol=1e-12, atol=1e-12)


def test_its_own_space_is_a_flows_velocity(pair, x):
    assert torch.equal(CFGZeroStar(pair["video"]).at(3.0)(x, 2.0), CFGZeroStar(pair["video"], "flow").at(3.0)(x, 2.0))


def test_guidance_pushes_only_along_what_is_orthogonal_to_the_unconditional_velocity(pair, x, in_space):
    guided, sigma = pair["video"], 2.0
    fields = [CFGZeroStar(guided).at(scale)(x, sigma) for scale in (3.0, 4.0)]
    push = in_space("flow", x, fields[1], sigma) - in_space("flow", x, fields[0], sigma)
    u = in_space("flow", x, guided.uncond(x, sigma), sigma)
    cosine = torch.nn.functional.cosine_similarity(push.flatten(1), u.flatten(1))
    equal(cosine, torch.zeros_like(cosine), rtol=0, atol=1e-12)


def test_parallel_velocities_leave_nothing_to_guide(x):
    """Gaussians around 0: whatever the scale, the conditional prediction."""
    network = GaussianNetwork("video", {"": Gaussian(0.0, 2.0), "cat": Gaussian(0.0, 0.5)})
    guided = Guided(network(""), network("cat"))
    equal(CFGZeroStar(guided).at(7.5)(x, 1.5), guided.cond(x, 1.5), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", [FLOW, Schedule.scaled_linear()], ids=["flow", "scaled linear"])
def test_a_velocity_of_0_leaves_z_where_it_is_and_asks_no_network(schedule, pair, x):
    """Zero-init: the first two of six steps. z is a flow's, x/(1 + sigma), whatever the schedule of the network."""
    sigmas = schedule.grid(6)
    field = CFGZeroStar(pair["video"], zero_above=float(sigmas[2]))
    start = x if math.isinf(sigmas[0]) else x * (1 + sigmas[0])
    run = integrate(field, plain(sigmas, 4.0), start, trace=True)
    assert run.nfe == {"video": 4}
    for record in run.trace[:2]:
        equal(record.x / (1 + record.leg.target), x, rtol=1e-12, atol=1e-12)
    rest = integrate(CFGZeroStar(pair["video"]), plain(sigmas[2:], 4.0), x * (1 + sigmas[2]))
    equal(run.x, rest.x, rtol=1e-12, atol=1e-12)
    assert field.at(4.0).cost(float(sigmas[2]) * (1 + 1e-7)) == {"video": 2}  # a level that float32 has moved


def test_no_zero_init_is_the_default_and_multistep_solvers_take_one(pair, x):
    sigmas = FLOW.grid(6)
    assert CFGZeroStar(pair["video"]).at(4.0).cost(math.inf) == {"video": 2}
    field = CFGZeroStar(pair["video"], zero_above=float(sigmas[1]))
    run = integrate(field, plain(sigmas, 4.0, AdamsBashforth2()), x)
    assert run.nfe == {"video": 5}
    assert run.x.isfinite().all()


@pytest.mark.parametrize("level", [0.0, -1.0, math.nan, "1"])
def test_bad_levels_are_refused(level, pair):
    with pytest.raises(ValueError, match="zero_above: got"):
        CFGZeroStar(pair["video"], zero_above=level)
