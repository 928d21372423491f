"""diffusers' own full-loop tests as rows: what they expect is a fact, how we come to it is in our terms.

Their model is z·t/(t + 1), their sample a ramp over (4, 3, 8, 8), and most of their loops take ten steps. A row has the
name of the test's file, after test_scheduler_, and that of the test, after test_full_loop_.

Their tables of betas are float32, products included, so ours are made of these. Two kinds of their loops are no
sampler's: those of the schedulers that step in sigma assign the scaled input to the state itself (`in_place`), and that
of EDM's multistep scheduler does not scale it at all (`forward`). Left out are rows that would say nothing: tests that
play another's loop again (device, switch, parallel, other shapes), and those whose sum is no larger than their own
tolerance (Euler, Heun, KDPM2 and LMS with v, Heun with Karras' levels, EDM's multistep loop without noise).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ivmix.solvers import (
    DPM2,
    AdamsBashforth4,
    Denoiser,
    DPMSolverPP2M,
    DPMSolverPP2S,
    Euler,
    EulerAncestral,
    Heun,
    Leg,
    Network,
    Schedule,
    Solver,
    UniPC2,
    View,
    ancestral,
    few_step,
    integrate,
    noised,
    plain,
)
from ivmix.solvers.algebra.network import Forward, Prediction

Plan = Callable[..., list[Leg]]

SHAPE = (4, 3, 1, 8, 8)  # b c f h w
RAMP = (torch.arange(math.prod(SHAPE), dtype=torch.float64) / math.prod(SHAPE)).reshape(3, 1, 8, 8, 4).movedim(-1, 0)
FALL = RAMP.flip((0, 1, 2, 3, 4))  # their noise, where they add it


def dummy(z: Tensor, t: Tensor, condition: Any = None) -> Tensor:
    return z * (t / (t + 1))


@dataclass(frozen=True)
class Loop:
    """One of their loops, as ours: legs over a schedule, what |z| is to be at its end, and how near.

    `start`: the state x at the first level. `x0`: what is done to every x0, such as clipping. `noisy`: draws normals,
    those of torch.manual_seed(0). `rounded`: the model is told whole times. `in_place`: see above. `in_x`: |x| is
    meant, not |z|. `unit`: of x, in theirs.
    """

    name: str
    schedule: Schedule
    legs: Sequence[Leg]
    start: Tensor
    mean: float
    total: float | None = None  # some say the mean alone
    prediction: Prediction = "epsilon"
    x0: Callable[[Tensor], Tensor] | None = None
    noisy: bool = False
    rounded: bool = False
    in_place: bool = False
    in_x: bool = False
    forward: Forward = dummy
    unit: float = 1.0
    tolerance: tuple[float, float] = (1e-2, 1e-3)  # of sum and mean: theirs

    def play(self) -> Tensor:
        """z at the end, or with `in_x` x."""
        told = "nearest" if self.rounded else "fractional"
        denoise: Denoiser = Network(self.forward, self.schedule, self.prediction, "video", timesteps=told)(None)
        if self.x0:
            denoise = after(denoise, self.x0)
        legs, fields = self.legs, dict.fromkeys({str(leg.network) for leg in self.legs}, denoise)
        if self.in_place:
            fields = {name: scaled_once(denoise, self.schedule, entered(legs, name)) for name in fields}
            legs = [replace(leg, view=scaling(self.schedule, leg)) for leg in legs]
        generator = torch.Generator().manual_seed(0)
        run = integrate(fields, legs, self.start, noise=lambda *_: torch.randn(SHAPE, generator=generator))
        ends_in_z = run.at > 0 and not self.in_x
        return self.unit * run.x * (self.schedule.alpha_at(run.at) if ends_in_z else 1.0)


def after(denoise: Denoiser, change: Callable[[Tensor], Tensor]) -> Denoiser:
    return lambda x, sigma: change(denoise(x, sigma))


def entered(legs: Sequence[Leg], network: str) -> set[float]:
    return {leg.source for leg in legs if leg.network == network}


def scaling(schedule: Schedule, leg: Leg) -> View | None:
    """A leg that evaluates moves x/sqrt(1 + sigma²) as if it were x."""
    if leg.network is None:
        return None
    alpha = schedule.alpha_at(leg.source)
    return View("scaled in place", lambda x: alpha * x, lambda y, x: y)


def scaled_once(denoise: Denoiser, schedule: Schedule, entered: set[float]) -> Denoiser:
    """The slope of `denoise` at the scaled state, which is that of the leg already where a leg is entered."""

    def once(x: Tensor, sigma: Tensor) -> Tensor:
        seen = x if sigma.item() in entered else schedule.alpha_at(sigma) * x
        return x - (seen - denoise(seen, sigma))

    return once


# --- schedules and grids --------------------------------------------------------------------------------------------


def from_betas(betas: Tensor) -> Schedule:
    return Schedule.from_alpha_bar((1 - betas.float()).cumprod(0))


def told(levels: Tensor, times: Tensor) -> Schedule:
    """These levels alone, at these times."""
    levels, times = levels.flip(0), times.flip(0)
    alpha = 1 / (1 + levels**2).sqrt()
    return Schedule(times, alpha, levels * alpha)


def with_zero(levels: Tensor) -> Tensor:
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])


def cosine_betas(n: int = 1000) -> Tensor:
    curve = torch.cos((torch.arange(n + 1, dtype=torch.float64) / n + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - curve[1:] / curve[:-1]).clamp(max=0.999)


LINEAR = from_betas(torch.linspace(0.0001, 0.02, 1000))
LONG = from_betas(torch.linspace(0.0001, 0.02, 1100))
STEEP = from_betas(torch.linspace(0.01, 0.02, 1000))
LATENT = from_betas(torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
COSINE = from_betas(cosine_betas())

HUNDREDS = LINEAR.grid(10, "leading", offset=0)  # t = 900, ..., 0, and 0 noise
ELEVEN = LINEAR.grid(11, "linspace")[:-1]  # ten steps down to the lowest training level
KARRAS = LINEAR.grid(10, "karras")[:-1]


def clip(x0: Tensor) -> Tensor:
    return x0.clamp(-1, 1)


def threshold(x0: Tensor) -> Tensor:
    """theirs at sample_max_value=0.5, which is below every quantile that they would take instead"""
    return x0.clamp(-0.5, 0.5) / 0.5


# --- in z: DDIM and what descends from it ---------------------------------------------------------------------------


def in_z(name: str, schedule: Schedule, legs: Sequence[Leg], mean: float, total: float | None = None,
         start: Tensor | None = None, **options: Any) -> Loop:  # fmt: skip
    """From z = RAMP, or from `start`."""
    start = schedule.start(RAMP, legs[0].source) if start is None else start
    return Loop(name, schedule, legs, start, mean, total, **options)


def ddim(name: str, schedule: Schedule, levels: Tensor, mean: float, total: float, **options: Any) -> Loop:
    return in_z(name, schedule, plain(levels), mean, total, **options)


def ddpm(name: str, schedule: Schedule, levels: Tensor, mean: float, total: float, **options: Any) -> Loop:
    return in_z(name, schedule, plain(levels, solver=EulerAncestral()), mean, total, x0=clip, noisy=True, **options)


def inverse_ddim(test: str, schedule: Schedule, start: Tensor, mean: float, total: float, **options: Any) -> Loop:
    """Up from 0, the model told the time that the step leads to. Ours begins at the lowest training level: where theirs
    begins at 0 it has told t = 0 until then, at which the model says 0."""
    levels = schedule.sigmas[::100]
    upward = told(levels.flip(0), 100 * torch.arange(10, 0, -1))
    return in_z(f"ddim_inverse: {test}", upward, plain(levels), mean, total, start, **options)


TWO = HUNDREDS[8:]
ALL = with_zero(LINEAR.sigmas.flip(0))


def rough(beta: float, total: float) -> tuple[float, float]:
    """What theirs may be off: the posterior weighs by 1 - alpha_bar/alpha_bar' = beta, of which float32 loses 2^-24."""
    lost = 2**-24 / beta * total
    return lost, max(lost / RAMP.numel(), 1e-3)


DDIM_LOOPS = [
    ddim("ddim: no_noise", LINEAR, HUNDREDS, 0.223967, 172.0067),
    ddim("ddim: with_v_prediction", LINEAR, HUNDREDS, 0.0684, 52.5302, prediction="v"),
    ddim("ddim: with_set_alpha_to_one", STEEP, STEEP.grid(10, "leading", offset=0), 0.1951, 149.8295),
    ddim("ddim: with_no_set_alpha_to_one", STEEP, STEEP.grid(10, "leading", offset=0)[:-1], 0.1941, 149.0784),
    ddim("ddim: with_noise", LINEAR, TWO, 0.4616, 354.5418, start=noised(RAMP, TWO[0], FALL)),
    inverse_ddim("no_noise", LINEAR, RAMP, 0.8746, 671.6816),
    inverse_ddim("with_set_alpha_to_one", STEEP, RAMP, 0.7031, 539.9622),
    inverse_ddim("with_no_set_alpha_to_one", STEEP, clip(STEEP.start(RAMP, STEEP.sigmas[0])), 0.7066, 542.6722),
    ddpm("ddpm: no_noise", LINEAR, ALL, 0.3372, 258.9606),
    ddpm("ddpm: with_v_prediction", LINEAR, ALL, 0.2631, 202.0296, prediction="v"),
    ddpm("ddpm: with_noise", LINEAR, ALL[-3:], 0.5051, 387.9466, start=noised(RAMP, ALL[-3], FALL),
         tolerance=rough(1.2e-4, 388)),
    ddpm("unclip: full_loop", COSINE, with_zero(COSINE.sigmas.flip(0)), 0.3284743, 252.2682495,
         tolerance=rough(4.1e-5, 252)),
    ddpm("unclip: skip_timesteps", COSINE, COSINE.grid(25, "linspace"), 0.3362038, 258.2044983,
         tolerance=rough(4.1e-5, 258)),
]  # fmt: skip


DISTILLED = LATENT.grid(10)[:-1]  # t = 999, 899, ..., 99
DISTILLED_LOOPS = [
    in_z("lcm: multistep", LATENT, few_step(with_zero(DISTILLED)), 0.2575, 197.7616, noisy=True,
         tolerance=(1e-3, 1e-3)),
    in_z("lcm: onestep", LATENT, few_step(with_zero(DISTILLED[:1])), 0.0244, 18.7097, tolerance=(1e-3, 1e-3)),
    in_z("tcd: multistep_deter", LATENT, plain(torch.cat([DISTILLED, LATENT.sigmas[:1]])), 0.2359, 181.2040,
         tolerance=(1e-3, 1e-3)),
    in_z("tcd: onestep_deter", LATENT, plain(LATENT.sigmas[[999, 0]]), 0.0389, 29.8715, tolerance=(1e-3, 1e-3)),
]  # fmt: skip


# --- in z: DPM-Solver++ and UniPC -----------------------------------------------------------------------------------


def multistep(test: str, levels: Tensor, mean: float, total: float | None = None, **options: Any) -> Loop:
    return in_z(f"dpm_multi: {test}", LINEAR, plain(levels, solver=DPMSolverPP2M()), mean, total, **options)


def inverse_multistep(test: str, levels: Tensor, mean: float, **options: Any) -> Loop:
    legs = plain(levels.flip(0), solver=DPMSolverPP2M())
    return in_z(f"dpm_multi_inverse: {test}", LINEAR, legs, mean, **options)


def singlestep(test: str, levels: Tensor, mean: float, total: float | None = None, **options: Any) -> Loop:
    """Steps over two intervals, each with its second evaluation at the level between; an odd one, the first, is
    Euler's."""
    values, odd = levels.tolist(), (len(levels) - 1) % 2
    legs = plain(levels[:2]) if odd else []
    for i in range(odd, len(values) - 2, 2):
        begin, between, end = values[i : i + 3]
        r = math.log(begin / between) / math.log(begin / end)
        legs.append(Leg("video", "step", begin, begin, end, None, DPMSolverPP2S(r), i))
    return in_z(f"dpm_single: {test}", LINEAR, legs, mean, total, **options)


def unipc(test: str, levels: Tensor, mean: float, total: float | None = None, **options: Any) -> Loop:
    legs = plain(levels, solver=UniPC2(), lower_order_final=True)
    return in_z(f"unipc: {test}", LINEAR, legs, mean, total, **options)


FIVE, TWO = ELEVEN[5:], ELEVEN[8:]
FIFTY = LINEAR.grid(51, "linspace")[:-1]
# Their grids of named levels end twice in the lowest: an evaluation that only corrects, by a step of next to no length.
TWICE = torch.cat([KARRAS[:-1], KARRAS[-1:] * (1 + 1e-9), KARRAS[-1:]])

EXPONENTIAL_LOOPS = [
    multistep("no_noise", ELEVEN, 0.3301),
    multistep("with_noise", FIVE, 0.4146, 318.4111, start=noised(RAMP, FIVE[0], FALL)),
    multistep("no_noise_thres", ELEVEN, 1.1364, x0=threshold),
    multistep("with_v_prediction", ELEVEN, 0.2251, prediction="v"),
    multistep("with_karras_and_v_prediction", KARRAS, 0.2096, prediction="v", rounded=True),
    multistep("with_lu_and_v_prediction", LINEAR.grid(10, "uniform-lam")[:-1], 0.1554, prediction="v", rounded=True),
    inverse_multistep("no_noise", ELEVEN, 0.7047),
    inverse_multistep("no_noise_thres", ELEVEN, 19.8933, x0=threshold),
    inverse_multistep("with_v_prediction", ELEVEN, 1.5194, prediction="v"),
    inverse_multistep("with_karras_and_v_prediction", KARRAS, 1.7833, prediction="v", rounded=True,
                      tolerance=(1e-2, 2e-3)),
    singlestep("no_noise", ELEVEN, 0.2791),
    singlestep("full_uneven_loop", FIFTY[3:], 0.2574),
    singlestep("with_noise", FIVE, 0.3505, 269.2187, start=noised(RAMP, FIVE[0], FALL)),
    singlestep("with_v_prediction", ELEVEN, 0.1453, prediction="v"),
    singlestep("with_karras", TWICE, 0.2248, rounded=True),
    singlestep("with_karras_and_v_prediction", TWICE, 0.0649, prediction="v", rounded=True),
    unipc("no_noise", ELEVEN, 0.2464),
    unipc("with_karras", TWICE, 0.2925, rounded=True),
    unipc("with_v_prediction", ELEVEN, 0.1014, prediction="v"),
    unipc("with_karras_and_v_prediction", TWICE, 0.1966, prediction="v", rounded=True),
    unipc("with_noise", TWO, 0.4109, 315.5757, start=noised(RAMP, TWO[0], FALL)),
]  # fmt: skip


# --- in sigma: what descends from k-diffusion -----------------------------------------------------------------------


def in_sigma(name: str, levels: Tensor, times: Tensor, solver: Solver, mean: float, total: float, skip: int = 0,
             end: float = 0.0, **options: Any) -> Loop:  # fmt: skip
    """From sigma_max·RAMP; having skipped steps, with FALL of the level where it begins added to it."""
    legs = plain(torch.cat([levels[skip:], levels.new_tensor([end])]), solver=solver)
    return legs_in_sigma(name, told(levels, times), legs, begun(levels, skip), mean, total, **options)


def dpm2(name: str, plan: Plan, mean: float, total: float, skip: int = 0, **options: Any) -> Loop:
    """Told of levels between, too: those in the middle of plain steps; that of an ancestral one is the next level."""
    levels, times = EVEN
    middle = (levels[1:] * levels[:-1]).sqrt()
    both = torch.cat([levels, middle]).sort(descending=True)
    schedule = told(both.values, torch.cat([times, LONG.t(middle)])[both.indices])
    legs = plan(with_zero(levels[skip:]), solver=DPM2(end="euler"))
    return legs_in_sigma(name, schedule, legs, begun(levels, skip), mean, total, **options)


def begun(levels: Tensor, skip: int) -> Tensor:
    return noised(levels[0] * RAMP, levels[skip], FALL) if skip else levels[0] * RAMP


def legs_in_sigma(name: str, schedule: Schedule, legs: Sequence[Leg], start: Tensor, mean: float, total: float,
                  **options: Any) -> Loop:  # fmt: skip
    if any(leg.solver.stages > 1 for leg in legs):  # a level may be entered by one leg and a stage of another
        legs = [replace(leg, network=leg.network and f"leg {leg.step}") for leg in legs]

    def forward(z: Tensor, t: Tensor, condition: Any) -> Tensor:
        return dummy(z / schedule.alpha_at(schedule.sigma(t)), t)  # the state that it is given is scaled already

    return Loop(name, schedule, legs, start, mean, total, in_place=True, in_x=True, forward=forward, **options)


TIMES = torch.linspace(1099, 0, 10, dtype=torch.float64)
LOW, HIGH = LONG.sigmas[TIMES.floor().long()], LONG.sigmas[TIMES.ceil().long()]
EVEN = LOW + TIMES.frac() * (HIGH - LOW), TIMES  # between training levels they are linear in sigma
NAMED = LONG.grid(10, "karras")[:-1], LONG.t(LONG.grid(10, "karras")[:-1])
# LMS alone steps to 0 with all its slopes. Ours, which ends in second order there, is to end just above.
NEAR = 1e-9

SIGMA_LOOPS = [
    in_sigma("euler: no_noise", *EVEN, Euler(), 0.0131, 10.0807),
    in_sigma("euler: device_karras_sigmas", *NAMED, Euler(), 0.16213932633399963, 124.52299499511719),
    in_sigma("euler: with_noise", *EVEN, Euler(), 74.3007, 57062.9297, skip=8),
    in_sigma("euler_ancestral: no_noise", *EVEN, EulerAncestral(), 0.1983, 152.3192, noisy=True),
    in_sigma("euler_ancestral: with_v_prediction", *EVEN, EulerAncestral(), 0.1412, 108.4439, noisy=True,
             prediction="v"),
    in_sigma("euler_ancestral: with_noise", *EVEN, EulerAncestral(), 73.1290, 56163.0508, skip=8, noisy=True),
    in_sigma("heun: no_noise", *EVEN, Heun(end="euler"), 0.0002, 0.1233),
    in_sigma("heun: with_noise", *EVEN, Heun(end="euler"), 97.7538, 75074.8906, skip=8),
    dpm2("kdpm2_discrete: no_noise", plain, 0.0266, 20.4125),
    dpm2("kdpm2_discrete: with_noise", plain, 91.6776, 70408.4062, skip=8),
    dpm2("kdpm2_ancestral: no_noise", ancestral, 18.2030, 13979.9433, noisy=True, tolerance=(1e-2, 5e-3)),
    dpm2("kdpm2_ancestral: with_v_prediction", ancestral, 0.4320, 331.8133, noisy=True, prediction="v"),
    dpm2("kdpm2_ancestral: with_noise", ancestral, 121.2074, 93087.3437, skip=8, noisy=True, tolerance=(1e-2, 5e-3)),
    in_sigma("lms: no_noise", *EVEN, AdamsBashforth4(), 1.31, 1006.388, end=NEAR),
    in_sigma("lms: device_karras_sigmas", *NAMED, AdamsBashforth4(), 4.9648, 3812.9927, end=NEAR,
             tolerance=(2e-2, 1e-3)),
]  # fmt: skip


# --- EDM ------------------------------------------------------------------------------------------------------------

DATA = 0.5  # sigma_data: in units of it, EDM's preconditioning is the "v" of a variance-preserving schedule
EDM = Schedule.ve(0.002, 80.0).grid(10, "karras")


def edm(name: str, levels: Tensor, solver: Solver, start: Tensor, forward: Forward, mean: float,
        total: float | None = None, **options: Any) -> Loop:  # fmt: skip
    schedule = told(EDM[:-1] / DATA, EDM[:-1].log() / 4)
    return Loop(name, schedule, plain(levels / DATA, solver=solver), start / DATA, mean, total, "v", in_x=True,
                forward=forward, unit=DATA, **options)  # fmt: skip


def negative(z: Tensor, t: Tensor, condition: Any) -> Tensor:
    """EDM's F, of the other sign than v"""
    return -dummy(z, t)


def unscaled(z: Tensor, t: Tensor, condition: Any) -> Tensor:
    """v, as their multistep scheduler takes it, of a model that is given x"""
    return dummy(z * (torch.exp(4 * t) ** 2 + DATA**2).sqrt(), t)


def unscaled_negative(z: Tensor, t: Tensor, condition: Any) -> Tensor:
    return -unscaled(z, t, condition)


EDM_FIVE = noised(RAMP, EDM[5], FALL)
EDM_LOOPS = [
    edm("edm_euler: no_noise", EDM, Euler(), (80**2 + 1) ** 0.5 * RAMP, negative, 0.044, 34.1855,
        tolerance=(1e-3, 1e-3)),
    edm("edm_dpmsolver_multistep: with_noise", EDM[5:-1], DPMSolverPP2M(), EDM_FIVE, unscaled_negative, 0.0106, 8.1661),
    edm("edm_dpmsolver_multistep: with_v_prediction", EDM[:-1], DPMSolverPP2M(), RAMP, unscaled, 0.0092),
    edm("edm_dpmsolver_multistep: no_noise_thres", EDM[:-1], DPMSolverPP2M(), RAMP, unscaled_negative, 0.0080,
        x0=lambda x0: threshold(x0 * DATA) / DATA),
]  # fmt: skip

LOOPS = [*DDIM_LOOPS, *DISTILLED_LOOPS, *EXPONENTIAL_LOOPS, *SIGMA_LOOPS, *EDM_LOOPS]


# --- what has no row ------------------------------------------------------------------------------------------------

PLAYED = {
    "DDIMInverseScheduler": "ddim_inverse",
    "DDIMParallelScheduler": "ddim",
    "DDIMScheduler": "ddim",
    "DDPMParallelScheduler": "ddpm",
    "DDPMScheduler": "ddpm",
    "DPMSolverMultistepInverseScheduler": "dpm_multi_inverse",
    "DPMSolverMultistepScheduler": "dpm_multi",
    "DPMSolverSinglestepScheduler": "dpm_single",
    "EDMDPMSolverMultistepScheduler": "edm_dpmsolver_multistep",
    "EDMEulerScheduler": "edm_euler",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "EulerDiscreteScheduler": "euler",
    "HeunDiscreteScheduler": "heun",
    "KDPM2AncestralDiscreteScheduler": "kdpm2_ancestral",
    "KDPM2DiscreteScheduler": "kdpm2_discrete",
    "LCMScheduler": "lcm",
    "LMSDiscreteScheduler": "lms",
    "TCDScheduler": "tcd",
    "UnCLIPScheduler": "unclip",
    "UniPCMultistepScheduler": "unipc",
}
"""Their schedulers, and the file of the tests whose loops are rows; for parallel ones it is another's."""

DIFFER = {
    "ddim_inverse: with_v_prediction": "clips x0 but keeps the eps it came with, as no solver does that is given x0; "
    "where nothing is clipped (its other tests) they are rows",
    "lms: with_noise": "begins with the weights of four slopes where it has one, which do not sum to the step",
}
"""Loops of theirs that ours do not come to, though others of the same scheduler are rows."""

TOKENS = "moves tokens, not a state with noise"
NO_LOOP = "no full-loop test"
ELSEWHERE = {
    "AmusedScheduler": TOKENS,
    "BlockRefinementScheduler": TOKENS,
    "CMStochasticIterativeScheduler": "a consistency function with its own skip, which ends at sigma_min rather than 0",
    "CogVideoXDDIMScheduler": f"{NO_LOOP}: DDIM over a schedule of shifted SNR",
    "CogVideoXDPMScheduler": f"{NO_LOOP}: the stochastic 2M over a schedule of shifted SNR",
    "CosineDPMSolverMultistepScheduler": f"{NO_LOOP}: the stochastic 2M over EDM's levels, from a Brownian tree",
    "DDPMWuerstchenScheduler": f"{NO_LOOP}: ancestral sampling in a continuous cosine time",
    "DEISMultistepScheduler": "extrapolates eps over log sigma; ours extrapolate x0 over log sigma, or eps over sigma",
    "DPMSolverSDEScheduler": "draws noise between the stages of a step, from a Brownian tree",
    "DiscreteDDIMScheduler": TOKENS,
    "EntropyBoundScheduler": TOKENS,
    "FlowMapEulerDiscreteScheduler": f"{NO_LOOP}: Euler's steps of a model that is told both ends of the step",
    "FlowMatchEulerDiscreteScheduler": f"{NO_LOOP}: played beside ours in tests/parity",
    "FlowMatchHeunDiscreteScheduler": f"{NO_LOOP}: played beside ours in tests/parity",
    "FlowMatchLCMScheduler": f"{NO_LOOP}: played beside ours in tests/parity",
    "HeliosDMDScheduler": f"{NO_LOOP}: stages of growing size",
    "HeliosScheduler": f"{NO_LOOP}: stages of growing size",
    "IPNDMScheduler": "has Adams-Bashforth weights of even steps on steps that are not; plays two runs with one memory",
    "KarrasVeScheduler": f"{NO_LOOP}: Heun with churn",
    "LTXEulerAncestralRFScheduler": f"{NO_LOOP}: ancestral steps whose noise is measured in flow time",
    "MiniMaxH3Scheduler": f"{NO_LOOP}: Euler's steps of a flow, told 1 - s",
    "PNDMScheduler": "has Adams-Bashforth weights of even steps in t, after Runge-Kutta steps in DDIM's formula",
    "PiflowScheduler": f"{NO_LOOP}: integrates a policy that the model gives",
    "RFD4ProteinaScheduler": f"{NO_LOOP}: rescales scores",
    "RePaintScheduler": f"{NO_LOOP}: fills a mask",
    "SASolverScheduler": "a stochastic Adams predictor and corrector",
    "SCMScheduler": f"{NO_LOOP}: consistency along an arc",
    "ScoreSdeVeScheduler": "corrects by Langevin steps of a given SNR",
    "VQDiffusionScheduler": TOKENS,
}
"""Schedulers without a row, and why."""
