import math

import pytest
import torch

from ivmix.solvers import APG, RK4, DPMSolverPP2M, Euler, Guided, Schedule, integrate, plain
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, closed_form_pair

SCHEDULE = Schedule.scaled_linear()
equal = torch.testing.assert_close


def paper(cond, uncond, scale, eta, threshold, momentum, buffer):
    """arXiv 2410.02416, Algorithm 1, clip by clip; `buffer` is a list of the running sums, one a clip."""
    found = []
    for k, (c, u) in enumerate(zip(cond, uncond, strict=True)):
        buffer[k] = c - u + momentum * buffer[k]
        push = buffer[k] * min(1.0, threshold / float(buffer[k].norm()))
        direction = c / c.norm()
        parallel = (push * direction).sum() * direction
        found.append(c + (scale - 1) * (push - parallel + eta * parallel))
    return torch.stack(found)


@pytest.mark.parametrize("space", ["epsilon", "x0", "v", "flow"])
@pytest.mark.parametrize("options", [(0.0, math.inf, 0.0), (0.4, 2.0, 0.0), (0.4, 2.0, -0.75), (1.2, math.inf, 0.5)])
def test_a_run_is_the_papers_algorithm(space, options, pair, x, in_space):
    """With DDIM in z, whatever is remembered too."""
    guided, sigmas, z, buffer = pair["video"], SCHEDULE.grid(6), x, [0.0, 0.0]
    for sigma, sigma_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        alpha = 1 / (1 + sigma**2) ** 0.5
        c, u = (in_space(space, z / alpha, part(z / alpha, sigma), sigma) for part in (guided.cond, guided.uncond))
        y = paper(c, u, 5.0, *options, buffer)
        x0 = {
            "epsilon": z / alpha - sigma * y,
            "x0": y,
            "v": alpha * z - sigma * alpha * y,
            "flow": (z / alpha - sigma * y) / (1 + sigma),
        }[space]
        eps = (z / alpha - x0) / sigma
        z = (x0 + sigma_next * eps) / (1 + sigma_next**2) ** 0.5
    eta, threshold, momentum = options
    run = integrate(APG(guided, space, eta, threshold, momentum), plain(sigmas, 5.0), SCHEDULE.start(x, sigmas[0]))
    equal(run.x, z, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("space", ["epsilon", "x0", "v", "flow"])
def test_equal_weights_of_both_parts_are_plain_guidance(space, pair, x):
    legs = plain(SCHEDULE.grid(6), 5.0)
    ours = integrate(APG(pair["video"], space, eta=1.0), legs, 14 * x).x
    equal(ours, integrate(pair["video"], legs, 14 * x).x, rtol=1e-11, atol=1e-11)


def test_what_is_parallel_has_no_part_at_eta_0(x):
    """Gaussians around 0: the push is all parallel, and the conditional prediction is left."""
    network = GaussianNetwork("video", {"": Gaussian(0.0, 2.0), "cat": Gaussian(0.0, 0.5)})
    guided = Guided(network(""), network("cat"))
    equal(APG(guided).at(7.5)(x, 1.5), guided.cond(x, 1.5), rtol=1e-12, atol=1e-12)


def test_the_push_is_no_longer_than_the_threshold(pair, x):
    guided, sigma = pair["video"], 2.0
    cond = guided.cond(x, sigma)
    free = (cond - guided.uncond(x, sigma)).flatten(1).norm(dim=1)
    short = free.min() / 2
    push = (APG(guided, eta=1.0, threshold=short.item()).at(3.0)(x, sigma) - cond).flatten(1).norm(dim=1)
    equal(push, 2 * short.expand(2))
    between = free.mean().item()  # one clip is above, one below
    push = (APG(guided, eta=1.0, threshold=between).at(3.0)(x, sigma) - cond).flatten(1).norm(dim=1)
    equal(push, 2 * free.clamp(max=between))


@pytest.mark.parametrize("solver", [Euler(), DPMSolverPP2M()])
@pytest.mark.parametrize("momentum", [-0.5, 0.4])
def test_as_steps_are_refined_momentum_is_a_scale(momentum, solver, x, slopes):
    """g - 1 over 1 - beta, at first order whatever the solver, since the sum over steps lags behind. Without momentum
    the run of `DPMSolverPP2M` would be of second."""
    guided, schedule = closed_form_pair(4)["video"], Schedule.ve(0.2, 8.0)

    def end(field, scale, n, solver):
        return integrate(field, plain(schedule.grid(n, "uniform-lam")[:-1], scale, solver), 8 * x).x

    truth = end(APG(guided, eta=0.2), 1 + 1.5 / (1 - momentum), 200, RK4())
    field = APG(guided, eta=0.2, momentum=momentum)
    found = slopes(lambda n: (end(field, 2.5, n, solver) - truth).norm(), [200, 400])
    assert found == pytest.approx([1], abs=0.15)


def test_in_that_limit_the_threshold_scales_too(x):
    """Thresholds so low that every push has their length: the limit's is 1 - beta of them, under a scale that makes up
    for it, so that momentum has no effect."""
    guided, legs = closed_form_pair(4)["video"], plain(Schedule.ve(0.2, 8.0).grid(400, "uniform-lam")[:-1], 2.5)
    ends = [
        integrate(APG(guided, eta=0.2, threshold=1e-2, momentum=momentum), legs, 8 * x).x for momentum in (0.0, -0.5)
    ]
    equal(ends[0], ends[1], rtol=1e-3, atol=1e-3)


def test_steps_at_a_scale_of_1_leave_the_memory(pair, x):
    denoise = APG(pair["video"], momentum=-0.5).at(lambda sigma: 1.0 if sigma > 2 else 4.0)
    _, memory = denoise.recall(x, 1.5, None)
    assert memory is not None
    x0, left = denoise.recall(x, 3.0, memory)
    assert left is memory
    assert torch.equal(x0, pair["video"].cond(x, 3.0))


@pytest.mark.parametrize(
    "options",
    [{"eta": math.nan}, {"threshold": 0.0}, {"threshold": -math.inf}, {"momentum": 1.0}, {"momentum": -1.5}],
    ids=repr,
)
def test_bad_options_are_refused(options, pair):
    with pytest.raises(ValueError, match=f"{next(iter(options))}: got"):
        APG(pair["video"], **options)
