"""VideoGuide's low-pass (arXiv 2410.04364): after each of the first steps, high frequencies are those of fresh noise.

    z <- L(z) + (1 - L)(eta)

Its other half, x0 drawn towards that of a teacher, is an `Affine` of two denoisers, one of which is a plan.

A frequency of gain L < 1 does not outlast many steps: after k of them L^k is left of it, and noise of power
(1 - L)/(1 + L)·(1 - L^(2k)), less than 1. So the number of steps is part of the method: on a grid refined with all
steps above some level renewed, nothing but what L passes whole, the mean, is left of what the network did above it.
"""

from collections.abc import Sequence
from itertools import groupby

from ivmix.solvers.algebra.filters import Linear, LowPass
from ivmix.solvers.checks import check_legs, whole
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.plans.legs import Leg
from ivmix.solvers.steps.onestep import Euler

METHOD = Method(
    "VideoGuide's low-pass",
    papers=("2410.04364",),
    does="high frequencies renewed after each of the first steps: legs of noise with a linear filter",
    evaluations={"video": "n"},
    limit="none, because with ever more steps nothing outlasts them but what the filter passes whole",
    licence="none",
)


def renewed(legs: Sequence[Leg], steps: int = 5, keep: Linear | None = None) -> list[Leg]:
    """The plan `legs` with z mixed with fresh noise after each of its first `steps` outer steps; L is `keep`.

    `LowPass()` by default, and 5 steps of 50, as in the paper. Solvers forget what they remember there. Pass `noise`
    and `schedule` to `integrate`. ValueError for more steps than the plan has above 0.

    >>> import torch
    >>> from ivmix.solvers.plans.legs import plain
    >>> for leg in renewed(plain(torch.tensor([10.0, 4.0, 1.0, 0.0])), steps=2):
    ...     print(leg)
      0 step      video  10 -> 4
      0 renew     noise  4 -> 4
      1 step      video  4 -> 1
      1 renew     noise  1 -> 1
      2 step      video  1 -> 0
    """
    check_legs(legs)
    groups = [list(group) for _, group in groupby(legs, key=lambda leg: leg.step)]
    whole("steps", steps, 0, sum(group[-1].target > 0 for group in groups), ", those that end above 0")
    keep, plan = keep or LowPass(), []
    for count, group in enumerate(groups):
        plan += group
        if count < steps:
            at = group[-1].target
            plan.append(Leg(None, "renew", at, at, at, None, Euler(), group[-1].step, keep=keep))
    return plan
