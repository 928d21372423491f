"""Solvers and grids by name, as the command and records have them."""

from typing import get_args

from ivmix.solvers import (
    DPM2,
    ERSDE3,
    RK4,
    AdamsBashforth2,
    AdamsBashforth3,
    AdamsBashforth4,
    DPMSolverPP2M,
    DPMSolverPP2S,
    DPMSolverPP3M,
    Euler,
    EulerAncestral,
    ExponentialAB2,
    Heun,
    Midpoint,
    SDEDPMSolverPP2M,
    SDEDPMSolverPP2S,
    SDEDPMSolverPP3M,
    SDEExponentialAB2,
    Solver,
    UniPC2,
    UniPC3,
    level,
)
from ivmix.solvers.schedules.spacings import Spacing

SOLVERS: dict[str, Solver] = {
    "euler": Euler(),
    "heun": Heun(),
    "midpoint": Midpoint(),
    "rk4": RK4(),
    "ab2": AdamsBashforth2(),
    "ab3": AdamsBashforth3(),
    "ab4": AdamsBashforth4(),
    "exp-ab2": ExponentialAB2(),
    "dpm2": DPM2(),
    "dpm++2s": DPMSolverPP2S(),
    "dpm++2m": DPMSolverPP2M(),
    "dpm++3m": DPMSolverPP3M(),
    "unipc2": UniPC2(),
    "unipc3": UniPC3(),
    "euler-ancestral": EulerAncestral(),
    "er-sde": ERSDE3(),
    "sde-dpm++2s": SDEDPMSolverPP2S(),
    "sde-dpm++2m": SDEDPMSolverPP2M(),
    "sde-dpm++3m": SDEDPMSolverPP3M(),
    "sde-exp-ab2": SDEExponentialAB2(),
}
STOCHASTIC = tuple(name for name, solver in SOLVERS.items() if solver.churn_at(level(1.0)) > 0)  # draw fresh noise
SPACINGS = tuple(name for name in get_args(Spacing) if name != "shifted-flow")  # whose shift is no option here
