"""k-diffusion's samplers and ours on a denoiser in closed form: the same numbers, to rounding."""

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
from k_diffusion_sampling import k_diffusion_sampling
from torch import Tensor

from ivmix.solvers import (
    DDIM,
    DPM2,
    AdamsBashforth4,
    DPMSolverPP2M,
    DPMSolverPP2S,
    Euler,
    EulerAncestral,
    ExponentialAB2,
    Heun,
    Leg,
    Schedule,
    SDEDPMSolverPP2M,
    SDEDPMSolverPP2S,
    SDEDPMSolverPP3M,
    SDEExponentialAB2,
    Solver,
    ancestral,
    churned,
    integrate,
    plain,
)
from ivmix.solvers.theory.analytic import Gaussian, Mixture, exponential

pytestmark = pytest.mark.slow

SHAPE = (2, 3, 4, 2, 1)  # b c f h w
SCHEDULE = Schedule.scaled_linear()
GRIDS = {"karras": SCHEDULE.grid(10, "karras"), "trailing": SCHEDULE.grid(10)}
DATA = Mixture([Gaussian(-1.0, exponential(SHAPE[2])), Gaussian(1.5, 0.3)])  # slopes that are no straight lines

Plan = Callable[[Tensor], list[Leg]]


@pytest.fixture(scope="module")
def k_diffusion() -> Iterator[ModuleType]:
    try:
        with k_diffusion_sampling() as module:
            yield module
    except ImportError as error:
        pytest.skip(str(error))


def by(solver: Solver) -> Plan:
    return lambda sigmas: plain(sigmas, solver=solver)


def churn(solver: Solver, s_churn: float) -> Plan:
    return lambda sigmas: churned(sigmas, solver=solver, churn=s_churn)


def down_and_up(solver: Solver, eta: float = 1.0) -> Plan:
    return lambda sigmas: ancestral(sigmas, solver=solver, eta=eta)


@dataclass(frozen=True)
class Same:
    """One sampler of theirs, with its options, and our plan. `to_zero`: whether their grid ends in 0, or before."""

    sampler: str
    plan: Plan
    options: dict[str, Any] = field(default_factory=dict)
    to_zero: bool = True


SAME = [
    Same("euler", by(Euler())),
    Same("euler", churn(Euler(), 3.0), {"s_churn": 3.0}),
    Same("heun", by(Heun(end="euler"))),
    Same("heun", churn(Heun(end="euler"), 3.0), {"s_churn": 3.0}),
    Same("heun", churn(Heun(end="euler"), 30.0), {"s_churn": 30.0}),  # gamma at its bound
    Same("dpm_2", by(DPM2(end="euler"))),
    Same("dpm_2", churn(DPM2(end="euler"), 3.0), {"s_churn": 3.0}),
    Same("dpm_2_ancestral", down_and_up(DPM2())),
    Same("dpm_2_ancestral", down_and_up(DPM2(), 0.4), {"eta": 0.4}),
    Same("lms", by(AdamsBashforth4()), to_zero=False),  # theirs steps to 0 with four slopes, ours with two
    Same("euler_ancestral", by(EulerAncestral())),
    Same("euler_ancestral", by(DDIM(0.4)), {"eta": 0.4}),
    Same("dpmpp_2s_ancestral", by(DPMSolverPP2S(end="euler")), {"eta": 0.0}),
    Same("dpmpp_2s_ancestral", down_and_up(DPMSolverPP2S())),
    Same("dpmpp_2m", by(DPMSolverPP2M(end="euler"))),
    Same("dpmpp_2m_sde", by(DPMSolverPP2M(end="euler")), {"eta": 0.0}),
    Same("dpmpp_2m_sde", by(SDEDPMSolverPP2M(0.0)), {"eta": 0.0}),
    Same("dpmpp_2m_sde", by(SDEDPMSolverPP2M(0.3)), {"eta": 0.3}),
    Same("dpmpp_2m_sde", by(SDEDPMSolverPP2M(1.0))),
    Same("dpmpp_2m_sde", by(ExponentialAB2(end="euler")), {"eta": 0.0, "solver_type": "heun"}),
    Same("dpmpp_2m_sde", by(SDEExponentialAB2(0.3)), {"eta": 0.3, "solver_type": "heun"}),
    Same("dpmpp_2m_sde", by(SDEExponentialAB2(1.0)), {"solver_type": "heun"}),
    Same("dpmpp_3m_sde", by(SDEDPMSolverPP3M(0.0, weight="public")), {"eta": 0.0}),
    Same("dpmpp_3m_sde", by(SDEDPMSolverPP3M(0.3, weight="public")), {"eta": 0.3}),
    Same("dpmpp_3m_sde", by(SDEDPMSolverPP3M(1.0, weight="public"))),
    Same("dpmpp_sde", by(SDEDPMSolverPP2S())),
]

DIFFER = {
    "dpm_adaptive": "DPM-Solver-23 in noise, with a step control of its own",
    "dpm_fast": "DPM-Solver-3 in noise: ours are in data",
}
"""What of theirs has no counterpart. In part: dpmpp_sde with another eta than 1, and a Brownian tree's draws."""


def theirs(k_diffusion: ModuleType, case: Same, x: Tensor, sigmas: Tensor) -> Tensor:
    sampler = getattr(k_diffusion, f"sample_{case.sampler}")
    torch.manual_seed(0)
    sampled: Tensor = sampler(lambda y, s: DATA(y, s[0]), x, sigmas, disable=True, **noise(sampler), **case.options)
    return sampled


def noise(sampler: Callable[..., Any]) -> dict[str, Any]:
    """torch's own stream, where a sampler would take a Brownian tree."""
    takes = "noise_sampler" in inspect.signature(sampler).parameters
    return {"noise_sampler": Path()} if takes else {}


class Path:
    """Unit normals by the step; of two that begin at one level, the second is the first and what follows it, on a path
    that is Brownian in 1/sigma², as the noise of the reverse SDE in x/sigma² is."""

    def __init__(self) -> None:
        self.last: tuple[float, float, Tensor] | None = None

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        begin, end, xi = sigma.item(), sigma_next.item(), normal()
        if self.last and math.isclose(self.last[0], begin):
            _, middle, first = self.last
            share = (middle**-2 - begin**-2) / (end**-2 - begin**-2)
            return math.sqrt(share) * first + math.sqrt(1 - share) * xi
        self.last = begin, end, xi
        return xi


def normal() -> Tensor:
    return torch.randn(SHAPE, dtype=torch.float64)


@pytest.mark.parametrize("grid", list(GRIDS))
@pytest.mark.parametrize("case", SAME, ids=lambda case: f"{case.sampler} {case.options or ''}".strip())
def test_their_sampler_and_our_plan_give_the_same(k_diffusion: ModuleType, case: Same, grid: str) -> None:
    sigmas = GRIDS[grid] if case.to_zero else GRIDS[grid][:-1]
    torch.manual_seed(1)
    x = sigmas[0] * normal()
    expected = theirs(k_diffusion, case, x, sigmas)
    torch.manual_seed(0)
    ours = integrate(DATA, case.plan(sigmas), x, noise=lambda *_: normal()).x
    difference = (ours - expected).abs().max().item()
    print(f"max|ours - theirs| = {difference:.1e}")
    # Both are in float64 and differ in the order of their sums alone: by a few units in the last place, of 7e-15, of
    # states that begin near 40.
    assert difference < 1e-12


def test_every_sampler_of_theirs_is_compared_or_said_to_differ(k_diffusion: ModuleType) -> None:
    samplers = {name.removeprefix("sample_") for name in dir(k_diffusion) if name.startswith("sample_")}
    same = {case.sampler for case in SAME}
    assert same | DIFFER.keys() == samplers
    assert not same & DIFFER.keys()


@pytest.fixture
def double() -> Iterator[None]:
    """Their grids are of torch's default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
def test_the_grids_that_both_have(k_diffusion: ModuleType) -> None:
    ends = {"sigma_min": 0.05, "sigma_max": 12.0}
    for rho in (7.0, 3.0):
        karras = SCHEDULE.grid(11, "karras", rho=rho, **ends)
        torch.testing.assert_close(k_diffusion.get_sigmas_karras(11, **ends, rho=rho), karras, rtol=1e-12, atol=0)
    uniform = SCHEDULE.grid(11, "uniform-lam", **ends)
    for theirs in (k_diffusion.get_sigmas_exponential(11, **ends), k_diffusion.get_sigmas_polyexponential(11, **ends)):
        torch.testing.assert_close(theirs, uniform, rtol=1e-12, atol=0)


@pytest.mark.usefixtures("double")
def test_their_continuous_vp_grid_is_even_in_the_time_of_linear_betas(k_diffusion: ModuleType) -> None:
    """None of ours by name, but levels of a schedule: alpha_bar = exp(-beta_d·t²/2 - beta_min·t), t from 1 to 1e-3."""
    t = torch.linspace(0, 1, 1001)[1:]
    schedule = Schedule.from_alpha_bar(torch.exp(-19.9 * t**2 / 2 - 0.1 * t))
    levels = schedule.sigmas[[999, 666, 333, 0]]
    # 1 - alpha_bar at the lowest level is 1.1e-4, of which double precision leaves 12 digits
    torch.testing.assert_close(k_diffusion.get_sigmas_vp(4)[:-1], levels, rtol=1e-11, atol=0)
