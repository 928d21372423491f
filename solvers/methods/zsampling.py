"""Z-Sampling (arXiv 2412.10891) as a plan of legs: steps of one network, taken, undone under less guidance, retaken.

    i -> i+1   gamma_1        i+1 -> i   gamma_2        then the ordinary step i -> i+1, gamma_1

With gamma_2 = -gamma_1 this is `IVMixed` of pattern "V-V", down-first. To first order in the step, what the detour
leaves behind is a push of gamma_1 - gamma_2 along the guidance: as a grid is refined, the run converges to the plain
one of guidance 2·gamma_1 - gamma_2.
"""

import math
from dataclasses import replace

from torch import Tensor

from ivmix.solvers.algebra.guidance import Guidance, scale_at
from ivmix.solvers.checks import whole
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.plans.legs import Leg, plain, progress
from ivmix.solvers.schedules.grids import check_grid
from ivmix.solvers.steps.onestep import Euler
from ivmix.solvers.steps.solver import Solver

METHOD = Method(
    "Z-Sampling",
    papers=("2412.10891",),
    does="down under strong guidance, up under weak guidance, down again: legs of one network",
    evaluations={"video": "3n - 2"},
    limit="D(2·gamma_1 - gamma_2)",
    licence="Apache-2.0",
)


def zsampling(
    sigmas: Tensor,
    guidance: Guidance = 5.5,
    inversion_guidance: Guidance = 0.0,
    zigzags: int | None = None,
    solver: Solver | None = None,
    network: str = "video",
) -> list[Leg]:
    """The plan on the decreasing grid `sigmas` (n + 1,): n + 2·zigzags evaluations with one-evaluation solvers.

    `guidance` is gamma_1 and `inversion_guidance` gamma_2, each a number, a function of progress, or None for a
    denoiser; defaults are the paper's. The first `zigzags` steps zigzag, of those that can: a step from inf or to 0
    cannot be undone. None: all of these, as in the paper, one round each. Detours are Euler's, `solver` (Euler by
    default) plays the ordinary steps, the one to 0 as elsewhere (`HigherOrder.end`; see `IVMixed`).

    On the way up the network is told the level the state is at, as everywhere; the authors' code tells it the level
    above.

    >>> import torch
    >>> for leg in zsampling(torch.tensor([8.0, 4.0, 0.0])):
    ...     print(leg)
      0 zig       video  8 -> 4 +5.5
      0 zag       video  4 -> 8 +0
      0 step      video  8 -> 4 +5.5
      1 step      video  4 -> 0 +5.5
    """
    steps = plain(check_grid(sigmas), guidance, solver, network)
    able = [leg.step for leg in steps if math.isfinite(leg.source) and leg.target > 0]
    if zigzags is not None:
        whole("zigzags", zigzags, 0, len(able), ", or None for all")
    chosen, plan = set(able[:zigzags]), []
    for step in steps:
        if step.step in chosen:
            scale = scale_at(inversion_guidance, progress(step.step, len(steps)), "inversion_guidance")
            zig = replace(step, label="zig", solver=Euler())
            zag = replace(zig, label="zag", told=step.target, source=step.target, target=step.source, guidance=scale)
            plan += [zig, zag]
        plan.append(step)
    return plan
