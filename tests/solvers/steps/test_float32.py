"""A float32 run is a float64 run to float32's rounding: no step takes a small difference of large numbers."""

import math
from itertools import pairwise

import pytest
import torch

from ivmix.solvers import (
    DPM2,
    RK4,
    AdamsBashforth2,
    AdamsBashforth3,
    AdamsBashforth4,
    BogackiShampine32,
    DPMSolverPP2M,
    DPMSolverPP2S,
    DPMSolverPP3M,
    Euler,
    ExponentialAB2,
    Heun,
    Midpoint,
    Network,
    Schedule,
    SDEDPMSolverPP3M,
    UniPC2,
    UniPC3,
    integrate,
    plain,
)
from ivmix.solvers.theory.analytic import Gaussian, exponential

SOLVERS = [
    Euler(), Heun(), Midpoint(), RK4(), DPMSolverPP2S(), DPMSolverPP2M(), DPMSolverPP3M(), AdamsBashforth2(),
    AdamsBashforth3(), AdamsBashforth4(), UniPC2(), UniPC3(), BogackiShampine32(rtol=1e9, atol=1e9), DPM2(),
    ExponentialAB2(), SDEDPMSolverPP3M(0.0),
]  # fmt: skip
SCHEDULES = {
    "stable diffusion": Schedule.scaled_linear(),
    "cosine": Schedule.cosine(),  # sigma_max is 20291, and the second of 20 trailing levels 12.7
    "zero snr": Schedule.scaled_linear().zero_terminal_snr(),
    "flow": Schedule.rectified_flow(),
}
K = exponential(4, 1.2, 3.0)
DATA = Gaussian(0.4, K @ K / 3)
UNIT = 2.0**-24  # half the distance of 1 and the next float32


def network(schedule, prediction):
    """The closed form in float64, between a float32 state and a float32 prediction."""

    def forward(z, t, condition):
        sigma = schedule.sigma(t)
        alpha, sigma_vp = schedule.alpha_at(sigma), (1.0 if sigma.isinf() else schedule.alpha_at(sigma) * sigma)
        z64 = z.double()
        x0 = torch.full_like(z64, 0.4) if alpha == 0 else DATA(z64 / alpha, sigma)
        eps = (z64 - alpha * x0) / sigma_vp
        return {"x0": x0, "epsilon": eps, "v": alpha * eps - sigma_vp * x0, "flow": eps - x0}[prediction].to(z.dtype)

    return Network(forward, schedule, prediction, "video")(None)


def largest_coefficient(solver, sigmas):
    """The largest weight, in any step of a run, of any x0 that was ever evaluated: each is 1 in a row of its own."""
    evaluations = 4 * len(sigmas)
    memory, made, largest = None, 0, 0.0

    def denoise(x, sigma):
        nonlocal made
        made += 1
        return torch.eye(evaluations, dtype=torch.float64)[made - 1]

    for sigma, sigma_next in pairwise(sigmas.tolist()):
        nothing = torch.zeros(evaluations, dtype=torch.float64)
        moved, memory = solver.step(denoise, nothing, sigma, sigma_next, memory)
        if math.isfinite(sigma):
            scale = 1 + sigma_next if math.isinf(sigmas[0]) else 1.0  # in flow time the state is x/(1 + sigma)
            largest = max(largest, float(moved.abs().max()) / scale)
    return largest


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_float32_run_of_20_steps_is_the_float64_run_to_rounding(name, solver, x):
    """Within 1e-5 where predictions are bounded and no step has a coefficient of 10 or more; else within four units of
    rounding times the largest coefficient. A prediction of eps is rounded once more and multiplied by sigma."""
    schedule = SCHEDULES[name]
    sigmas = schedule.grid(20)
    legs = plain(sigmas, solver=solver)
    coefficient = largest_coefficient(legs[0].solver, sigmas)
    start = schedule.start(x, sigmas[0])
    for prediction in ("x0", "v", "flow", "epsilon"):
        if prediction == "epsilon" and math.isinf(schedule.sigma_max):
            continue
        field = network(schedule, prediction)
        exact, rounded = (integrate(field, legs, state).x.double() for state in (start, start.float()))
        size = schedule.sigma_max if prediction == "epsilon" else 1.0
        bound = max(1e-5, 4 * UNIT * size * max(1.0, coefficient))
        assert (rounded - exact).abs().max() < bound, (prediction, coefficient)
