"""The algebra of samplers: schedules, denoisers, solvers, legs. Needs torch alone.

Everything is integrated in VE coordinates x = x0 + sigma·eps, where the probability-flow ODE of every network is
dx/dsigma = (x - x0(x, sigma)) / sigma. A network under a condition is an atom; combinations of atoms (`Affine`) are
denoisers; solvers step denoisers from level to level; plans are lists of legs; `integrate` plays them.

>>> import torch
>>> from ivmix.solvers import DPMSolverPP2M, Guided, IVMixed, Schedule, composite, integrate, plain
>>> from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, exponential
>>> image = GaussianNetwork("image", {"": Gaussian(0.0, 1.0), "cat": Gaussian(0.3, 0.5)})
>>> video = GaussianNetwork("video", {"": Gaussian(0.0, exponential(8)), "cat": Gaussian(0.5, exponential(8))})
>>> pair = {"image": Guided(image(""), image("cat")), "video": Guided(video(""), video("cat"))}
>>> schedule = Schedule.scaled_linear()
>>> sigmas = schedule.grid(10)
>>> x = schedule.start(torch.zeros(1, 4, 8, 2, 2), sigmas[0])
>>> run = integrate(pair, IVMixed(guidance=2.0, image_guidance=0.5, video_guidance=0.5).legs(sigmas), x)
>>> run.nfe
{'image': 16, 'video': 26}
>>> limit = composite(**pair, guidance=2.0, image_guidance=0.5, video_guidance=0.5, reference=sigmas)
>>> integrate(limit, plain(sigmas, solver=DPMSolverPP2M()), x).nfe
{'video': 10, 'image': 10}
"""

from ivmix.solvers.algebra.adaptive_guidance import AdaptiveDenoiser, AdaptiveGuidance, Weighed
from ivmix.solvers.algebra.affine import Affine, Atom, Model, Output, Weight, as_affine
from ivmix.solvers.algebra.boundary import Boundary
from ivmix.solvers.algebra.bridges import Across, Bridge, Bridged, Levels, bridged
from ivmix.solvers.algebra.denoiser import Denoiser, Noise, Recalling, level
from ivmix.solvers.algebra.field import Composite, Field
from ivmix.solvers.algebra.filters import Filter, GaussianLowPass, LowPass, PowerComplement
from ivmix.solvers.algebra.guidance import Guidable, Guidance, GuidanceRamp, Guided
from ivmix.solvers.algebra.mixing import HERE, Mix
from ivmix.solvers.algebra.network import Network, enlarged, framewise, join_conditions, repeat_rows, seen
from ivmix.solvers.algebra.noise import RecordedNoise, bridge_noise, initial_noise, normal_noise, rescheduled_noise
from ivmix.solvers.algebra.rescale import Rescaled
from ivmix.solvers.algebra.windows import Windows, cut_condition, windowed
from ivmix.solvers.methods.apg import APG
from ivmix.solvers.methods.autoguidance import autoguidance
from ivmix.solvers.methods.bivdiff import bivdiff
from ivmix.solvers.methods.cfg_zero_star import CFGZeroStar
from ivmix.solvers.methods.cfgpp import cfgpp
from ivmix.solvers.methods.composite import Progress, composite
from ivmix.solvers.methods.evs import evs
from ivmix.solvers.methods.fdg import Coarse, fdg
from ivmix.solvers.methods.freeinit import freeinit
from ivmix.solvers.methods.freqprior import freqprior
from ivmix.solvers.methods.i4vgen import i4vgen
from ivmix.solvers.methods.ivmixed import IVMixed, parse_pattern
from ivmix.solvers.methods.mambo_g import MAMBOG
from ivmix.solvers.methods.mixture import late, mixture
from ivmix.solvers.methods.official import Official
from ivmix.solvers.methods.pag import pag
from ivmix.solvers.methods.renewed import renewed
from ivmix.solvers.methods.stg import stg
from ivmix.solvers.methods.superdiff import SuperDiffAnd, SuperDiffOr, ito_log_density
from ivmix.solvers.methods.switch import forgetting, switch, switched
from ivmix.solvers.methods.tcfg import TCFG
from ivmix.solvers.methods.videoelevator import videoelevator
from ivmix.solvers.methods.videoguide import videoguide
from ivmix.solvers.methods.w2sd import w2sd
from ivmix.solvers.methods.zsampling import zsampling
from ivmix.solvers.plans.editing import invert, noised, tail
from ivmix.solvers.plans.fresh_noise import ancestral, churned, few_step, jumps, restart
from ivmix.solvers.plans.integrate import Evaluation, NotFiniteError, Record, Run, integrate
from ivmix.solvers.plans.legs import Leg, View, keeping, mixing, noising, plain, planned_nfe
from ivmix.solvers.plans.nested import Nested
from ivmix.solvers.schedules.grids import check_grid
from ivmix.solvers.schedules.schedule import Schedule
from ivmix.solvers.steps.adaptive import BogackiShampine32, DormandPrince54, DPMSolverPP32
from ivmix.solvers.steps.er_sde import ERSDE1, ERSDE2, ERSDE3
from ivmix.solvers.steps.higher_order import HigherOrder
from ivmix.solvers.steps.multistep import (
    AdamsBashforth2,
    AdamsBashforth3,
    AdamsBashforth4,
    DPMSolverPP2M,
    DPMSolverPP3M,
    ExponentialAB2,
)
from ivmix.solvers.steps.onestep import DPM2, RK4, DPMSolverPP1, DPMSolverPP2S, Euler, Heun, Midpoint
from ivmix.solvers.steps.solver import Solver
from ivmix.solvers.steps.stochastic import (
    DDIM,
    EulerAncestral,
    SDEDPMSolverPP2M,
    SDEDPMSolverPP2S,
    SDEDPMSolverPP3M,
    SDEExponentialAB2,
)
from ivmix.solvers.steps.unipc import UniPC1, UniPC2, UniPC3
from ivmix.solvers.theory import analytic

__all__ = [
    "APG",
    "DDIM",
    "DPM2",
    "ERSDE1",
    "ERSDE2",
    "ERSDE3",
    "HERE",
    "MAMBOG",
    "RK4",
    "TCFG",
    "Across",
    "AdamsBashforth2",
    "AdamsBashforth3",
    "AdamsBashforth4",
    "AdaptiveDenoiser",
    "AdaptiveGuidance",
    "Affine",
    "Atom",
    "BogackiShampine32",
    "Boundary",
    "Bridge",
    "Bridged",
    "CFGZeroStar",
    "Coarse",
    "Composite",
    "DPMSolverPP1",
    "DPMSolverPP2M",
    "DPMSolverPP2S",
    "DPMSolverPP3M",
    "DPMSolverPP32",
    "Denoiser",
    "DormandPrince54",
    "Euler",
    "EulerAncestral",
    "Evaluation",
    "ExponentialAB2",
    "Field",
    "Filter",
    "GaussianLowPass",
    "Guidable",
    "Guidance",
    "GuidanceRamp",
    "Guided",
    "Heun",
    "HigherOrder",
    "IVMixed",
    "Leg",
    "Levels",
    "LowPass",
    "Midpoint",
    "Mix",
    "Model",
    "Nested",
    "Network",
    "Noise",
    "NotFiniteError",
    "Official",
    "Output",
    "PowerComplement",
    "Progress",
    "Recalling",
    "Record",
    "RecordedNoise",
    "Rescaled",
    "Run",
    "SDEDPMSolverPP2M",
    "SDEDPMSolverPP2S",
    "SDEDPMSolverPP3M",
    "SDEExponentialAB2",
    "Schedule",
    "Solver",
    "SuperDiffAnd",
    "SuperDiffOr",
    "UniPC1",
    "UniPC2",
    "UniPC3",
    "View",
    "Weighed",
    "Weight",
    "Windows",
    "analytic",
    "ancestral",
    "as_affine",
    "autoguidance",
    "bivdiff",
    "bridge_noise",
    "bridged",
    "cfgpp",
    "check_grid",
    "churned",
    "composite",
    "cut_condition",
    "enlarged",
    "evs",
    "fdg",
    "few_step",
    "forgetting",
    "framewise",
    "freeinit",
    "freqprior",
    "i4vgen",
    "initial_noise",
    "integrate",
    "invert",
    "ito_log_density",
    "join_conditions",
    "jumps",
    "keeping",
    "late",
    "level",
    "mixing",
    "mixture",
    "noised",
    "noising",
    "normal_noise",
    "pag",
    "parse_pattern",
    "plain",
    "planned_nfe",
    "renewed",
    "repeat_rows",
    "rescheduled_noise",
    "restart",
    "seen",
    "stg",
    "switch",
    "switched",
    "tail",
    "videoelevator",
    "videoguide",
    "w2sd",
    "windowed",
    "zsampling",
]
