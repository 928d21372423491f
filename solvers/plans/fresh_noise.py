"""Plans with fresh noise between the steps of an ODE's solver: legs of noise, which go up, and steps that go down.

    ancestral   down past the next level, up to it        (DDIM's eta, for any one-step solver)
    churned     up from the level, down to the next       (EDM)
    few_step    down to x0, up to the next level          (consistency models, LCM, DMD), as `jumps` of any steps
    restart     some way back up, and down again          (Restart sampling)

Both keep the marginals where eps is exact, so a plan's weak order is its solver's. Noise makes the state another
trajectory's, though, and memory of the one before is of no use: ancestral sampling with multistep solvers was measured
at order 1 and no better than with Euler's method. So `ancestral` and `churned` take one-step solvers, which arrive at 0
by Euler's step there, and a descent of `restart` remembers only itself. What multistep solvers become with noise of
their own are `SDEDPMSolverPP2M` and its kin, of order 2.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from torch import Tensor

from ivmix.solvers.algebra.denoiser import level
from ivmix.solvers.algebra.guidance import Guidance
from ivmix.solvers.checks import check_legs, check_number, whole, within
from ivmix.solvers.plans.legs import Leg, noising, plain
from ivmix.solvers.schedules.grids import check_grid
from ivmix.solvers.steps.higher_order import HigherOrder
from ivmix.solvers.steps.multistep import Multistep
from ivmix.solvers.steps.onestep import Euler
from ivmix.solvers.steps.solver import Solver


def ancestral(
    sigmas: Tensor, guidance: Guidance = None, solver: Solver | None = None, eta: float = 1.0, network: str = "video"
) -> list[Leg]:
    """Each step on the decreasing grid `sigmas` (n + 1,) goes to sigma_down, and fresh noise up to the grid's level.

    sigma_up = eta·sigma'·sqrt(1 - sigma'²/sigma²), sigma_down² = sigma'² - sigma_up²: with Euler's method, the default,
    this is `DDIM(eta)`, with others the *_ancestral samplers of k-diffusion. Heun's evaluates at sigma_down, which a
    network may not reach from a grid that ends at its lowest level, such as "karras" (it says so); DPM-2 and
    DPM-Solver++(2S) do not. A step to 0 or from inf has no noise. eta 0 is `plain`; ValueError for an eta that asks for
    more noise than a level holds, and for solvers that remember evaluations or draw noise themselves.

    >>> import torch
    >>> for leg in ancestral(torch.tensor([10.0, 5.0, 0.0]), guidance=7.5):
    ...     print(leg)
      0 step      video  10 -> 2.5 +7.5
      0 noise     noise  2.5 -> 5
      1 step      video  5 -> 0 +7.5
    """
    check_number("eta", eta, "a finite number >= 0", lambda eta: eta >= 0)
    steps = plain(check_grid(sigmas), guidance, solver, network)
    if eta == 0:
        return steps
    plan = []
    for step in steps:
        ratio = step.target / step.source
        kept = 1 - eta**2 * (1 - ratio**2)  # sigma_down² / sigma'²
        if ratio == 0:
            plan.append(_between_noises(step))
            continue
        if kept < 0:
            raise ValueError(
                f"eta: {eta:g} is too large for a step from {step.source:g} to {step.target:g}: more noise than the "
                "level holds; take more steps"
            )
        down = step.target * math.sqrt(kept)
        plan += [replace(_between_noises(step), target=down), noising(down, step.target, step.step)]
    return plan


def churned(
    sigmas: Tensor,
    guidance: Guidance = None,
    solver: Solver | None = None,
    churn: float = 40.0,
    s_min: float = 0.0,
    s_max: float = math.inf,
    network: str = "video",
) -> list[Leg]:
    """Each step on the decreasing grid `sigmas` (n + 1,) is preceded by fresh noise, up to (1 + gamma)·sigma.

    gamma = min(`churn`/n, sqrt(2) - 1) where s_min <= sigma <= s_max, else 0: arXiv 2206.00364, Algorithm 2, whose
    S_noise is 1 here. Its solver is Heun's; the default is Euler's, as everywhere. The first step's noise rises above
    the grid, which a network may not reach (it says so): leave that step out by an `s_max` below sigmas[0]; its state
    is noise as it is. A step from inf has no noise. churn 0 is `plain`; ValueError for solvers that remember
    evaluations or draw noise themselves.

    >>> import torch
    >>> for leg in churned(torch.tensor([10.0, 5.0, 0.0]), churn=0.4, s_max=9.0):
    ...     print(leg)
      0 step      video  10 -> 5
      1 noise     noise  5 -> 6
      1 step      video  6 -> 0
    """
    for name, value in (("churn", churn), ("s_min", s_min)):
        check_number(name, value, "a finite number >= 0", lambda value: value >= 0)
    if not s_max >= s_min:
        raise ValueError(f"s_min, s_max: got {s_min:g}, {s_max:g}, expected s_min <= s_max")
    steps = plain(check_grid(sigmas), guidance, solver, network)
    gamma = min(churn / len(steps), math.sqrt(2) - 1)
    noisy = {step.step for step in steps if s_min <= step.source <= s_max and step.source < math.inf}
    if gamma == 0 or not noisy:
        return steps
    plan = []
    for step in map(_between_noises, steps):
        if step.step in noisy:
            high = (1 + gamma) * step.source
            plan.append(noising(step.source, high, step.step))
            step = replace(step, told=high, source=high)
        plan.append(step)
    return plan


def few_step(sigmas: Tensor, guidance: Guidance = None, network: str = "video") -> list[Leg]:
    """x0 at each level of the decreasing grid `sigmas` (n + 1,), and fresh noise up to the next; n evaluations.

    For networks distilled to tell x0 in one step: multistep consistency sampling (arXiv 2303.01469, Algorithm 1), LCM
    (2310.04378), DMD2 (2405.14867). The first level may be inf. Of an exact denoiser it draws samples that are too
    narrow: x0 is a mean (see `ivmix.solvers.theory.consistency`).

    >>> import torch
    >>> for leg in few_step(torch.tensor([10.0, 2.0, 0.0])):
    ...     print(leg)
      0 step      video  10 -> 0
      0 noise     noise  0 -> 2
      1 step      video  2 -> 0
    """
    return jumps(plain(check_grid(sigmas), guidance, network=network))


def jumps(legs: Sequence[Leg]) -> list[Leg]:
    """The plan `legs` with each step led to x0, and from there by fresh noise to where it led: one evaluation a step.

    `legs` are one step down for each outer step, as `plain`, `switch` and `evs` have them: networks may take turns.
    ValueError for other plans.

    >>> import torch
    >>> from ivmix.solvers.methods.evs import evs
    >>> for leg in jumps(evs(torch.tensor([10.0, 2.0, 0.0]), [1], 1.0, 3.0, enlarge=1)):
    ...     print(leg)
      0 step      video  10 -> 0 +1
      0 noise     noise  0 -> 2
      1 image     image  2 -> 0 +3
    """
    check_legs(legs)
    if any(leg.network is None or leg.target >= leg.source for leg in legs) or any(
        step.step == after.step or step.target != after.source for step, after in pairwise(legs)
    ):
        raise ValueError("legs: expected one step down for each outer step, each from where the last one ended")
    plan = []
    for step in legs:
        plan.append(replace(step, target=0.0, solver=Euler()))
        if step.target > 0:
            plan.append(noising(0.0, step.target, step.step))
    return plan


def restart(legs: Sequence[Leg], intervals: Iterable[tuple[float, float, int]]) -> list[Leg]:
    """The plan `legs` that, `times` for each interval (low, high, times), goes back up by fresh noise and down again.

    An interval is what the plan's outer steps have between the levels low and high: on arriving at its lowest level,
    noise leads to its highest one, finite, and its steps follow once more, as they were (arXiv 2306.14878, with the
    steps of `legs` in place of a grid of the interval's own). Intervals may overlap; none repeats what another added.
    `legs` are any plan whose steps lead down, `plain`'s or a zigzag's. ValueError for other plans, and for an interval
    with no whole step in it.

    >>> import torch
    >>> from ivmix.solvers.plans.legs import plain
    >>> for leg in restart(plain(torch.tensor([10.0, 5.0, 2.0, 0.0])), [(2.0, 6.0, 1)]):
    ...     print(leg)
      0 step      video  10 -> 5
      1 step      video  5 -> 2
      2 noise #1  noise  2 -> 5
      2 step #1   video  5 -> 2
      3 step #1   video  2 -> 0
    """
    check_legs(legs)
    steps = [list(group) for _, group in groupby(legs, key=lambda leg: leg.step)]
    if any(step[-1].target >= step[0].source for step in steps) or any(
        step[-1].target != after[0].source for step, after in pairwise(steps)
    ):
        raise ValueError("legs: expected a plan whose outer steps lead down, each from where the last one ended")
    repeated: dict[int, list[list[list[Leg]]]] = {}  # what follows a step: the steps of each further descent
    for interval in intervals:
        if not (isinstance(interval, tuple | list) and len(interval) == 3):
            raise ValueError(f"intervals: got {interval!r}, expected (low, high, times) for each")
        low, high, times = interval
        whole("intervals: times", times, 0)
        inside = [
            i
            for i, step in enumerate(steps)
            if high < math.inf and within(step[-1].target, low, high) and within(step[0].source, low, high)
        ]
        if not inside:
            raise ValueError(f"intervals: got ({low:g}, {high:g}, {times}), expected one with a step of the plan in it")
        repeated.setdefault(inside[-1], []).extend([[steps[i] for i in inside]] * times)
    played, descent = [], 0
    for i, step in enumerate(steps):
        played.append((descent, step))
        for first, *others in repeated.get(i, []):
            descent += 1
            noise = noising(step[-1].target, first[0].source, first[0].step)
            played += [(descent, again) for again in ([noise, *first], *others)]
    return [
        replace(leg, label=f"{leg.label} #{descent}" if descent else leg.label, step=count)
        for count, (descent, step) in enumerate(played)
        for leg in step
    ]


def _between_noises(step: Leg) -> Leg:
    """`step` with a solver that keeps nothing for the next."""
    solver = step.solver
    if isinstance(solver, Multistep):
        raise ValueError(
            f"solver: got {solver!r}, which remembers what it evaluated before the noise; expected a one-step solver, "
            "or a plain plan of SDEDPMSolverPP2M()"
        )
    if math.isfinite(step.source) and solver.churn_at(level(step.source)) > 0:
        raise ValueError(f"solver: got {solver!r}, which draws noise itself; expected a deterministic one-step solver")
    return replace(step, solver=replace(solver, end="euler")) if isinstance(solver, HigherOrder) else step
