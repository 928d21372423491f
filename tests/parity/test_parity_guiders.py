"""Adaptive guidance against diffusers' guiders, each in the space of what the guider is given: the same predictions in,
the same prediction out, to 1e-6 of its size. CFG-Zero*'s and TCFG's are float32 inside.

Clips go into a guider as `b (c f) (h w)`: all sum over every axis but the first, and the norms of
`MagnitudeAwareGuidance` are torch's of two axes, which are refused of four.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from ivmix.solvers import APG, MAMBOG, TCFG, CFGZeroStar, Guided, Network, Schedule, integrate, plain

pytestmark = pytest.mark.slow

STEPS, SHAPE = 6, (2, 4, 3, 6, 5)  # b c f h w
G = 3.0
SCHEDULES = {
    "epsilon": Schedule.scaled_linear(), "v": Schedule.scaled_linear(), "x0": Schedule.scaled_linear(),
    "flow": Schedule.rectified_flow(),
}  # fmt: skip
METHODS = {
    "cfg-zero-star": (CFGZeroStar, "ClassifierFreeZeroStarGuidance", {"guidance_scale": G, "zero_init_steps": 0}),
    "mambo-g": (partial(MAMBOG, alpha=3.0), "MagnitudeAwareGuidance", {"guidance_scale": G, "alpha": 3.0}),
    "tcfg": (TCFG, "TangentialClassifierFreeGuidance", {"guidance_scale": G}),
    # The paper's form, which goes on from the conditional prediction.
    "apg": (
        partial(APG, eta=0.3, threshold=4.0, momentum=-0.5),
        "AdaptiveProjectedGuidance",
        {
            "guidance_scale": G - 1, "use_original_formulation": True, "eta": 0.3,
            "adaptive_projected_guidance_rescale": 4.0, "adaptive_projected_guidance_momentum": -0.5,
        },
    ),
    # Both forms are the same where the whole push is kept.
    "apg, their default": (
        partial(APG, eta=1.0, momentum=0.0),
        "AdaptiveProjectedGuidance",
        {"guidance_scale": G, "eta": 1.0, "adaptive_projected_guidance_rescale": 0.0},
    ),
}  # fmt: skip
methods = pytest.mark.parametrize("name", METHODS)


def network(z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    """A network of any prediction, whose rows differ in size and direction: float32 finds their singular vectors."""
    row = condition.reshape(-1, 1, 1, 1, 1)
    return (1 + row) * torch.tanh(0.7 * z + 0.3 * z.roll(1, -1) - 0.2 * z.roll(1, 1) + row)


def outputs(z: Tensor, conditions: tuple[Tensor, Tensor]) -> list[Tensor]:
    return [network(z, torch.tensor(0.0), condition) for condition in conditions]


CONDITIONS = torch.tensor([0.0, 0.1], dtype=torch.float64), torch.tensor([0.9, -0.6], dtype=torch.float64)


def peer(diffusers: ModuleType, name: str, **more: Any) -> Callable[[int, Tensor, Tensor], Tensor]:
    """`guide(step, cond, uncond)` of diffusers' guider, told its step as its pipelines do."""
    _, kind, options = METHODS[name]
    guider = getattr(diffusers.guiders, kind)(**options | more)

    def guide(step: int, cond: Tensor, uncond: Tensor) -> Tensor:
        guider.set_state(step, STEPS, torch.tensor(0))
        guider.prepare_inputs({"z": (cond, uncond)})
        rows = (y.flatten(3).flatten(1, 2) for y in (cond, uncond))
        return guider.forward(*rows).pred.reshape(cond.shape)

    return guide


def close(ours: Tensor, theirs: Tensor, steps: int = 1) -> None:
    """Within 1e-6 a step: what is float32 inside a guider adds up."""
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    print(f"max|ours - theirs| / max|theirs| = {difference:.1e}")
    assert difference <= 1e-6 * steps


def draw(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@methods
@pytest.mark.parametrize("space", SCHEDULES)
def test_one_prediction(diffusers: ModuleType, name: str, space: Any) -> None:
    schedule = SCHEDULES[space]
    sigma = schedule.grid(STEPS)[2]
    alpha, x = schedule.alpha_at(sigma), sigma * draw(0)
    model = Network(network, schedule, space, "video")
    field = METHODS[name][0](Guided(*map(model, CONDITIONS)), space)
    x0, _ = field.at(G).recall(x, sigma, None)
    uncond, cond = outputs(alpha * x, CONDITIONS)
    eps = (x - x0) / sigma
    y = {"epsilon": eps, "x0": x0, "v": alpha * (eps - sigma * x0), "flow": eps - x0}[space]
    close(y, peer(diffusers, name)(0, cond, uncond))


@methods
def test_a_run_of_a_flow(diffusers: ModuleType, name: str) -> None:
    """Euler's steps of a rectified flow in z, from pure noise, with what guiders remember."""
    schedule, z = SCHEDULES["flow"], draw(1)
    sigmas, guide = schedule.grid(STEPS), peer(diffusers, name)
    times = [1.0 if sigma.isinf() else float(sigma / (1 + sigma)) for sigma in sigmas]
    for step, (s, s_next) in enumerate(pairwise(times)):
        uncond, cond = outputs(z, CONDITIONS)
        z = z + (s_next - s) * guide(step, cond, uncond)
    model = Network(network, schedule, "flow", "video")
    field = METHODS[name][0](Guided(*map(model, CONDITIONS)), "flow")
    close(integrate(field, plain(sigmas, G), draw(1)).x, z, STEPS)


def test_a_run_with_zero_init(diffusers: ModuleType) -> None:
    schedule, z = SCHEDULES["flow"], draw(1)
    sigmas, guide = schedule.grid(STEPS), peer(diffusers, "cfg-zero-star", zero_init_steps=2)
    times = [1.0 if sigma.isinf() else float(sigma / (1 + sigma)) for sigma in sigmas]
    for step, (s, s_next) in enumerate(pairwise(times)):
        uncond, cond = outputs(z, CONDITIONS)
        z = z + (s_next - s) * guide(step, cond, uncond)
    model = Network(network, schedule, "flow", "video")
    field = CFGZeroStar(Guided(*map(model, CONDITIONS)), zero_above=float(sigmas[2]))
    run = integrate(field, plain(sigmas, G), draw(1))
    assert run.nfe == {"video": STEPS - 2}
    close(run.x, z, STEPS)
