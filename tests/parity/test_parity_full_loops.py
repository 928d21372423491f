"""Every scheduler of diffusers is in the table of full loops or said to differ; what has no such test is played."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import pytest
import torch
from full_loops import DIFFER, ELSEWHERE, LOOPS, PLAYED, RAMP, SHAPE, dummy
from torch import Tensor

from ivmix.solvers import (
    DDIM,
    DPMSolverPP2M,
    DPMSolverPP3M,
    Euler,
    ExponentialAB2,
    Heun,
    Leg,
    Network,
    Schedule,
    SDEDPMSolverPP2M,
    SDEExponentialAB2,
    Solver,
    UniPC2,
    UniPC3,
    few_step,
    integrate,
    plain,
)
from ivmix.solvers.algebra.network import Prediction

pytestmark = pytest.mark.slow

Plan = Callable[[Tensor], list[Leg]]


def test_every_scheduler_has_rows_or_a_reason(diffusers: ModuleType) -> None:
    theirs = {name for name in dir(diffusers) if name.endswith("Scheduler")}
    assert theirs == PLAYED.keys() | ELSEWHERE.keys()
    assert not PLAYED.keys() & ELSEWHERE.keys()


def test_rows_are_of_schedulers_and_no_row_is_said_to_differ() -> None:
    names = {loop.name for loop in LOOPS}
    assert {name.split(":")[0] for name in names} == set(PLAYED.values())
    assert not names & DIFFER.keys()


# --- played, for want of a sum --------------------------------------------------------------------------------------


def by(solver: Solver) -> Plan:
    return lambda sigmas: plain(sigmas, solver=solver)


def lower_at_last(solver: Solver, second: Solver) -> Plan:
    """Their lower_order_final: the last step but one of order 2; the last, to 0, is Euler's."""

    def legs(sigmas: Tensor) -> list[Leg]:
        *legs, before, last = plain(sigmas, solver=solver)
        return [*legs, replace(before, solver=second), last]

    return legs


@dataclass(frozen=True)
class Beside:
    """A scheduler of theirs, its config, what its step is given, and our plan on the levels that it visits."""

    kind: str
    plan: Plan
    config: dict[str, Any] = field(default_factory=dict)
    step: dict[str, Any] = field(default_factory=dict)
    prediction: Prediction = "epsilon"

    def __str__(self) -> str:
        return f"{self.kind} {self.config | self.step}"


def linear(**config: Any) -> dict[str, Any]:
    return {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"} | config


ZERO_SNR = linear(rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction",
                  clip_sample=False)  # fmt: skip
SIDES = [
    Beside("FlowMatchEulerDiscreteScheduler", by(Euler()), {"shift": 3.0}, prediction="flow"),
    Beside("FlowMatchHeunDiscreteScheduler", by(Heun(end="euler", time="flow")), {"shift": 3.0}, prediction="flow"),
    Beside("FlowMatchLCMScheduler", few_step, prediction="flow"),
    Beside("DDIMScheduler", by(DDIM(0.7)), linear(clip_sample=False), {"eta": 0.7}),
    Beside("DDIMScheduler", by(DDIM(1.0)), linear(clip_sample=False), {"eta": 1.0}),
    Beside("DDIMScheduler", by(Euler()), ZERO_SNR, prediction="v"),
    Beside("EulerDiscreteScheduler", by(Euler()), linear(use_exponential_sigmas=True)),
    Beside("EulerDiscreteScheduler", by(Euler()), linear(use_beta_sigmas=True)),
    Beside("DPMSolverMultistepScheduler", by(Euler()), linear(solver_order=1)),
    Beside("DPMSolverMultistepScheduler", by(DPMSolverPP2M(end="euler")), linear()),
    Beside("DPMSolverMultistepScheduler", by(DPMSolverPP2M(end="euler")), {"use_flow_sigmas": True}),
    Beside("DPMSolverMultistepScheduler", by(ExponentialAB2(end="euler")), linear(solver_type="heun")),
    Beside("DPMSolverMultistepScheduler", by(SDEDPMSolverPP2M()), linear(algorithm_type="sde-dpmsolver++")),
    Beside("DPMSolverMultistepScheduler", by(SDEExponentialAB2()),
           linear(algorithm_type="sde-dpmsolver++", solver_type="heun")),
    Beside("DPMSolverMultistepScheduler",
           lower_at_last(DPMSolverPP3M(weight="public", end="euler"), DPMSolverPP2M(end="euler")),
           linear(solver_order=3)),
    Beside("UniPCMultistepScheduler", by(UniPC2(end="euler")), linear(solver_order=2)),
    Beside("UniPCMultistepScheduler", lower_at_last(UniPC3(end="euler"), UniPC2(end="euler")), linear(solver_order=3)),
]  # fmt: skip


def visited(scheduler: Any, flow: bool) -> Schedule:
    """The levels that the scheduler visits, at the times it tells."""
    times = scheduler.timesteps.double().unique()  # Heun's has all but the first twice
    if not hasattr(scheduler, "sigmas"):
        alpha = scheduler.alphas_cumprod.double()[times.long()].sqrt()
        return Schedule(times, alpha, (1 - alpha**2).sqrt())
    sigmas = scheduler.sigmas.double().unique()[1:]  # without the 0
    if flow:
        return Schedule(times, 1 - sigmas, sigmas, "flow")
    alpha = 1 / (1 + sigmas**2).sqrt()
    return Schedule(times, alpha, alpha * sigmas)


def theirs(scheduler: Any, x: Tensor, step: dict[str, Any]) -> Tensor:
    torch.manual_seed(0)
    for t in scheduler.timesteps:
        z = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(dummy(z, t), t, x, return_dict=False, **step)[0]
    return x


@pytest.mark.parametrize("side", SIDES, ids=str)
def test_a_scheduler_played_beside_our_plan(side: Beside, diffusers: ModuleType) -> None:
    scheduler = getattr(diffusers, side.kind)(**side.config)
    scheduler.set_timesteps(10)
    schedule = visited(scheduler, side.prediction == "flow" or "use_flow_sigmas" in side.config)
    sigmas = torch.cat([schedule.sigmas.flip(0), torch.zeros(1, dtype=torch.float64)])
    begin = RAMP[:, :, 0] * getattr(scheduler, "init_noise_sigma", 1.0)
    expected = theirs(scheduler, begin.float(), side.step)
    start = begin[:, :, None] if side.kind.startswith("Euler") else schedule.start(begin[:, :, None], sigmas[0])
    torch.manual_seed(0)
    denoise = Network(dummy, schedule, side.prediction, "video")(None)
    run = integrate(denoise, side.plan(sigmas), start, noise=lambda *_: torch.randn(SHAPE))
    difference = ((run.x[:, :, 0] - expected).abs().max() / begin.abs().max()).item()
    print(f"max|ours - theirs| / max|start| = {difference:.1e}")
    # Theirs is in float32 and loses 2^-24 of the state in each of ten steps, a few times over; where alpha is small
    # (1 - s, or the root of alpha_bar), x0 is divided by what 2^-24 is more of.
    smallest = schedule.alpha[schedule.alpha > 0].min().item()
    assert difference < 2**-24 * max(50, 1 / smallest)
