"""Starting from given latents: pure helpers on plans.

To change a video, either add noise to it and play the end of a plan (`noised`, `tail`: arXiv 2108.01073), or take it
up to noise along the ODE and play the plan from there (`invert`: arXiv 2010.02502, section 4.3).
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from torch import Tensor

from ivmix.solvers.algebra.denoiser import level
from ivmix.solvers.checks import check_legs, check_number
from ivmix.solvers.plans.legs import Leg


def invert(legs: Sequence[Leg]) -> list[Leg]:
    """The plan that undoes `legs`: each leg backwards, with the guidance it had, the last one first.

    A leg to 0 becomes one from 0, the level of a clean clip: nothing is evaluated there (`HigherOrder` evaluates at the
    leg's other end, `Euler` not at all). Exact for the ODE, of the solvers' order for a plan; zigzags are undone leg by
    leg. ValueError for legs that add noise or mix states, for solvers that draw it, and for legs that act on z.

    >>> import torch
    >>> from ivmix.solvers.plans.legs import plain
    >>> for leg in invert(plain(torch.tensor([10.0, 1.0, 0.0]), guidance=7.5)):
    ...     print(leg)
      0 step      video  0 -> 1 +7.5
      1 step      video  1 -> 10 +7.5
    """
    check_legs(legs)
    at = legs[0].source if legs else 0.0
    for leg in legs:
        name = f"legs: {leg.label!r} of step {leg.step}"
        if leg.mix is not None:
            raise ValueError(f"{name} mixes states and has no inverse; use a plan of solver steps alone")
        if leg.network is None or leg.solver.churn_at(level(leg.source)) > 0:
            raise ValueError(f"{name} adds noise and has no inverse; use a deterministic plan")
        if leg.told != leg.source or leg.source != at:
            raise ValueError(f"{name} acts on z, not on the state of the last leg, and has no inverse")
        at = leg.target
    numbers = {step: number for number, (step, _) in enumerate(groupby(leg.step for leg in reversed(legs)))}
    return [
        replace(leg, told=leg.target, source=leg.target, target=leg.source, step=numbers[leg.step])
        for leg in reversed(legs)
    ]


def tail(legs: Sequence[Leg], strength: float) -> list[Leg]:
    """The last outer steps of a plan, the share `strength` in (0, 1] of them, rounded down; all of them at 1.

    Guidance and interval stay those of the whole plan. The run begins at `tail(...)[0].source`, from `noised` latents.
    ValueError if no step is left.

    >>> import torch
    >>> from ivmix.solvers.plans.legs import plain
    >>> for leg in tail(plain(torch.tensor([10.0, 5.0, 2.0, 1.0, 0.0])), strength=0.5):
    ...     print(leg)
      2 step      video  2 -> 1
      3 step      video  1 -> 0
    """
    check_legs(legs)
    check_number("strength", strength, "a share in (0, 1]", lambda strength: 0 < strength <= 1)
    steps = list(dict.fromkeys(leg.step for leg in legs))
    count = math.floor(len(steps) * strength + 1e-9)
    if count == 0:
        raise ValueError(f"strength: got {strength} of {len(steps)} steps, less than one; take more steps or strength")
    kept = set(steps[-count:])
    return [leg for leg in legs if leg.step in kept]


def noised(x0: Tensor, sigma: float | Tensor, noise: Tensor) -> Tensor:
    """The state x0 + sigma·noise that `x0` (any shape) has at the level `sigma`; `noise` itself at inf.

    `noise` is of x0's shape, as `initial_noise` draws it. ValueError for other shapes.
    """
    if noise.shape != x0.shape:
        raise ValueError(f"noise: got shape {tuple(noise.shape)}, expected that of x0, {tuple(x0.shape)}")
    sigma = level(sigma)
    return noise.to(x0) if sigma.isinf() else x0 + sigma * noise.to(x0)
