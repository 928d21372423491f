"""IV-Mixed Sampler (arXiv 2410.04171) as a plan of legs: an operator-splitting step between image and video networks.

Pattern "IV-IV" at grid level i, sequence "down-first" (the authors' code):

    i -> i+1   image, +gamma_I        i+2 -> i+1   image, -gamma_I
    i+1 -> i+2 video, +gamma_V        i+1 -> i     video, -gamma_V       then the ordinary step i -> i+1, video, w

"up-first" (the paper's figure) plays the legs that go up, i -> i-2, before those that come down. Letters left of the
dash go up, right of it down; R goes up by fresh noise.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from torch import Tensor

from ivmix.solvers.algebra.guidance import Guidance, GuidanceRamp, scale_at
from ivmix.solvers.checks import whole, within
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.plans.legs import Leg, progress, suited
from ivmix.solvers.schedules.grids import check_grid
from ivmix.solvers.steps.onestep import Euler
from ivmix.solvers.steps.solver import Solver

METHOD = Method(
    "IV-Mixed",
    papers=("2410.04171",),
    does="down by both networks and up again under opposite guidance, then the video network's step: legs",
    evaluations={"video": "3n - 4", "image": "2n - 4"},
    limit="D_V(w + 2·gamma_V) + 2·gamma_I·d_I",
    licence="none",
)

LegSequence = Literal["down-first", "up-first"]
Reach = Mapping[str, tuple[float, float]]


def parse_pattern(pattern: str) -> tuple[str, str]:
    """The letters that go up and those that come down.

    >>> parse_pattern("RV-IV")
    ('RV', 'IV')
    """
    up, dash, down = pattern.partition("-") if isinstance(pattern, str) else ("", "", "")
    if not (dash and len(up) == len(down) > 0 and set(up) <= set("RIV") and set(down) <= set("IV")):
        raise ValueError(
            f"pattern: got {pattern!r}, expected letters, a dash and as many letters, such as 'IV-IV': "
            "R, I, V before the dash, I, V after it"
        )
    return up, down


def check_interval(interval: tuple[float, float]) -> tuple[float, float]:
    try:
        begin, end = () if isinstance(interval, str) else map(float, interval)
    except (TypeError, ValueError):
        raise ValueError(f"interval: got {interval!r}, expected two numbers (a, b)") from None
    if not 0 <= begin < end <= 1:
        raise ValueError(f"interval: got ({begin:g}, {end:g}), expected (a, b) with 0 <= a < b <= 1")
    return begin, end


def check_period(period: int | None) -> int | None:
    return None if period is None else whole("period", period, 1, otherwise=", or None")


def check_reach(reach: Reach | None) -> Reach | None:
    if reach and (unknown := sorted(reach.keys() - {"image", "video"})):
        raise ValueError(f"reach: got the names {unknown}, expected 'image', 'video' or both")
    return reach


def inside(u: float, interval: tuple[float, float]) -> bool:
    """Whether progress `u` is in [a, b), or in [a, 1] where b = 1."""
    begin, end = interval
    return begin <= u < end or u == end == 1


@dataclass(frozen=True)
class IVMixed:
    """IV-Mixed Sampler, a zigzag over the noise levels; `legs(sigmas)` is its plan.

    `guidance` scales the ordinary step, `image_guidance` and `video_guidance` the legs, + going down and - going up:
    each a number, a function of progress u = i/(n - 1), or None for fields that have their guidance inside. Steps with
    u in `interval` [a, b) ([a, 1] for b = 1) are mixed. With `period` zz, steps with i mod zz = zz - 1 use the video
    network, with its guidance, on the I legs too. `solver` plays the legs, `step_solver` the ordinary steps.

    A `step_solver` of order 2 and more steps to 0 as it does elsewhere (`HigherOrder.end`). Against Euler's last step,
    from the same state, "ab2" made .39 to .75 of the error on mixtures of Gaussians and up to 3 times it on Gaussians
    under guidance of 5 and more: the zigzags have pushed the state off the ODE along which eps would be odd in sigma.

    `symmetrised` (Strang; arXiv 2410.04171 has no such variant): every leg at half length, then the ordinary step, then
    the same half legs in opposite order, marked ', with guidance taken at the middle of the step. It meets the same
    composite at second order if both solvers are one-step solvers of order >= 2, on smooth grids and where no step is
    plain: inside the grid in every pattern and sequence (slopes of 1.95 to 2.06 were measured), on the whole grid in
    patterns of one and two letters down-first, which stay within their own step (2.01 to 2.05). Others leave the first
    and last one or two steps plain, since no half leg enters the interval that ends in 0; that is of first order
    (slopes that fall to 1.0 to 1.06). 9 evaluations a mixed step instead of 5, with Euler.
    """

    pattern: str = "IV-IV"
    sequence: LegSequence = "down-first"
    guidance: Guidance = 7.5
    image_guidance: Guidance = GuidanceRamp(4.0)  # noqa: RUF009 - immutable
    video_guidance: Guidance = GuidanceRamp(4.0)  # noqa: RUF009 - immutable
    interval: tuple[float, float] = (0.0, 1.0)
    period: int | None = None
    solver: Solver = Euler()  # noqa: RUF009 - immutable
    step_solver: Solver = Euler()  # noqa: RUF009 - immutable
    symmetrised: bool = False

    def __post_init__(self) -> None:
        parse_pattern(self.pattern)
        check_interval(self.interval)
        check_period(self.period)
        if self.sequence not in ("down-first", "up-first"):
            raise ValueError(f"sequence: got {self.sequence!r}, expected 'down-first' or 'up-first'")

    def legs(self, sigmas: Tensor, reach: Reach | None = None) -> list[Leg]:
        """The plan on the decreasing grid `sigmas` (n + 1,).

        Steps whose legs would leave the grid, touch 0 or inf (half legs: the interval that ends in 0), or ask a network
        for a level outside its `reach` ({"image": (low, high), "video": (low, high)}) are plain: 5(n - 2) + 2
        evaluations of "IV-IV" rather than 5n. An ordinary step out of the video network's reach is a ValueError.

        >>> import torch
        >>> for leg in IVMixed().legs(torch.tensor([8.0, 4.0, 2.0, 0.0])):
        ...     print(leg)
          0 I down 1  image  8 -> 4 +4
          0 V down 2  video  4 -> 2 +4
          0 I up 1    image  2 -> 4 -4
          0 V up 2    video  4 -> 8 -4
          0 step      video  8 -> 4 +7.5
          1 step      video  4 -> 2 +7.5
          2 step      video  2 -> 0 +7.5
        """
        check_reach(reach)
        levels: list[float] = check_grid(sigmas).tolist()
        n, plan = len(levels) - 1, []
        solver, step_solver = suited(self.solver, levels), suited(self.step_solver, levels)
        for i in range(n):
            u = progress(i, n)
            at = min(1.0, (i + 0.5) / (n - 1)) if self.symmetrised and n > 1 else u
            before: list[Leg] = []
            after: list[Leg] = []
            if inside(u, self.interval):
                before, after = self._zigzag(levels, i, at, solver)
                if not playable(before + after, reach):
                    before, after = [], []
            step = Leg(
                "video", "step", levels[i], levels[i], levels[i + 1], scale_at(self.guidance, at), step_solver, i
            )
            if not playable([step], reach):
                low, high = (reach or {})["video"]
                raise ValueError(
                    f"sigmas: got level {levels[i]:g}, outside the video network's reach, [{low:g}, {high:g}]"
                )
            plan += [*before, step, *after]
        return plan

    def _zigzag(self, levels: list[float], i: int, u: float, solver: Solver) -> tuple[list[Leg], list[Leg]]:
        """The mixed legs before and after the ordinary step from level i; none where they would leave the grid, touch
        0 or inf."""
        if not self.symmetrised:
            return list(self._legs(levels, i, u, solver)), []
        # Half steps: even positions are the grid's levels, odd ones the means of neighbours. The second half mirrors
        # the first in the middle of the step: what went from a to b goes from 2i + 1 - b to 2i + 1 - a, last one first.
        halves = [middle for pair in pairwise(levels) for middle in (pair[0], sum(pair) / 2)] + levels[-1:]
        position = {level: p for p, level in enumerate(halves)}
        before = list(self._legs(halves, 2 * i, u, solver, i))
        first = [position[level] for leg in before for level in (leg.source, leg.target)]
        ends = first + [4 * i + 2 - p for p in first]
        if not ends or min(ends) < 0 or max(ends) >= len(halves):
            return [], []
        # No half leg into the interval that ends in 0, as no grid makes it short: such a step would not converge.
        if halves[max(ends)] < (levels[-1] or levels[-2]) or math.isinf(halves[min(ends)]):
            return [], []
        mirror = {halves[4 * i + 2 - p]: halves[p] for p in ends}
        return before, [
            replace(
                leg,
                label=f"{leg.label}'",
                told=mirror[leg.target],
                source=mirror[leg.target],
                target=mirror[leg.source],
            )
            for leg in reversed(before)
        ]

    def _legs(self, levels: list[float], i: int, u: float, solver: Solver, step: int | None = None) -> Iterator[Leg]:
        """The mixed legs that begin and end at position i of `levels`."""
        step = i if step is None else step
        up, down = parse_pattern(self.pattern)
        moves = [(letter, "up", position, -1) for position, letter in enumerate(up, 1)]
        falls = [(letter, "down", position, +1) for position, letter in enumerate(down, 1)]
        moves = falls + moves if self.sequence == "down-first" else moves + falls
        far = i + len(down) if self.sequence == "down-first" else i - len(up)
        if far < 0 or far >= len(levels) or levels[max(i, far)] == 0 or math.isinf(levels[min(i, far)]):
            return
        only_video = self.period is not None and step % self.period == self.period - 1
        at = i
        for letter, way, position, shift in moves:
            letter = "V" if letter == "I" and only_video else letter
            source, target = levels[at], levels[at + shift]
            at += shift
            label = f"{letter} {way} {position}"
            if letter == "R":
                yield Leg(None, label, source, source, target, None, solver, step)
                continue
            network = "image" if letter == "I" else "video"
            scale = scale_at(getattr(self, f"{network}_guidance"), u, f"{network}_guidance")
            signed = scale if scale is None or shift > 0 else -scale
            yield Leg(network, label, source, source, target, signed, solver, step)


def playable(legs: Iterable[Leg], reach: Reach | None) -> bool:
    """Whether every level that a leg's network is told lies within that network's reach."""
    if reach is None:
        return True
    for leg in legs:
        if leg.network is not None and leg.network in reach:
            low, high = reach[leg.network]
            several = leg.solver.cost(leg.source, leg.target) > 1
            told = [leg.told, leg.target] if several else [leg.told]
            if not all(within(level, low, high) for level in told):
                return False
    return True
