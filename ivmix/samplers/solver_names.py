"""Solvers by name, as the command and records have them."""

from ivmix import solvers
from ivmix.samplers import options
from ivmix.solvers import Solver, level

SOLVERS: dict[str, Solver] = {name: getattr(solvers, kind)() for name, kind in options.SOLVERS.items()}
STOCHASTIC = tuple(name for name, solver in SOLVERS.items() if solver.churn_at(level(1.0)) > 0)  # draw fresh noise
