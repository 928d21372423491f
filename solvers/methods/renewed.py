"""VideoGuide's low-pass (arXiv 2410.04364): after each of the first steps, high frequencies are those of fresh noise.

    z <- L(z) + (1 - L)(eta)

Its other half, x0 drawn towards that of a teacher, is an `Affine` of two denoisers, one of which is a plan.

A frequency of gain L < 1 does not outlast many steps: after k of them L^k is left of it, and noise of power
(1 - L)/(1 + L)·(1 - L^(2k)), less than 1. So the number of steps is part of the method: on a grid refined within the
same part of the run, nothing but what L passes whole, the mean, is left of what the network did there.
"""

from collections.abc import Sequence
from itertools import groupby

from ivmix.solvers.algebra.filters import Linear, LowPass
from ivmix.solvers.checks import check_legs
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.methods.ivmixed import check_interval, inside
from ivmix.solvers.plans.legs import Leg, progress
from ivmix.solvers.steps.onestep import Euler

METHOD = Method(
    "VideoGuide's low-pass",
    papers=("2410.04364",),
    does="high frequencies renewed after each of the first steps: legs of noise with a linear filter",
    evaluations={"video": "n"},
    limit="none, because with ever more steps nothing outlasts them but what the filter passes whole",
    licence="none",
)


def renewed(
    legs: Sequence[Leg], interval: tuple[float, float] = (0.0, 0.1), keep: Linear | None = None
) -> list[Leg]:
    """The plan `legs` with z mixed with fresh noise after each outer step of progress u in `interval` [a, b) that ends
    above 0; L is `keep`.

    The first 5 of 50 steps by itself, and `LowPass(0.125, 0.125)`, as the authors'. Solvers forget what they remember
    there. Pass `noise` and `schedule` to `integrate`.

    >>> import torch
    >>> from ivmix.solvers.plans.legs import plain
    >>> for leg in renewed(plain(torch.tensor([10.0, 4.0, 1.0, 0.0])), interval=(0.0, 0.6)):
    ...     print(leg)
      0 step      video  10 -> 4
      0 renew     noise  4 -> 4
      1 step      video  4 -> 1
      1 renew     noise  1 -> 1
      2 step      video  1 -> 0
    """
    check_legs(legs)
    check_interval(interval)
    groups = [list(group) for _, group in groupby(legs, key=lambda leg: leg.step)]
    keep, plan = keep or LowPass(0.125, 0.125), list[Leg]()
    for i, group in enumerate(groups):
        plan += group
        at = group[-1].target
        if at > 0 and inside(progress(i, len(groups)), interval):
            plan.append(Leg(None, "renew", at, at, at, None, Euler(), group[-1].step, keep=keep))
    return plan
