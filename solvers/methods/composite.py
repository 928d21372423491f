"""The composite ODE: what a zigzag converges to as its grid is refined, as one combination of networks.

    drift = eps_V(w) + sum over down eps_b(+gamma_b) - sum over up != R eps_a(-gamma_a)

Its weights sum to 1 + k_R, where k_R counts the R legs, and the limit is dx = (1 + k_R)·eps·dsigma +
sqrt(2·k_R·sigma·|dsigma|)·xi with eps = drift / (1 + k_R): a mean denoiser and a churn. For "IV-IV" it is eps_Vu + (w
+ 2·gamma_V)·d_V + 2·gamma_I·d_I, d = eps_c - eps_u: the image network's own unconditional prediction cancels.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from torch import Tensor

from ivmix.solvers.algebra.affine import Affine, Weight
from ivmix.solvers.algebra.field import Composite
from ivmix.solvers.algebra.guidance import Guidance, GuidanceRamp, Guided, guide, scale_at
from ivmix.solvers.checks import SLACK, within
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.methods.ivmixed import Reach, check_interval, check_period, check_reach, parse_pattern
from ivmix.solvers.plans.legs import progress
from ivmix.solvers.schedules.grids import check_grid

METHOD = Method(
    "composite",
    papers=(),
    does="the limit of IV-Mixed as one combination of both networks, for any solver",
    evaluations={"video": "n", "image": "n"},
    limit="D_V(w + 2·gamma_V) + 2·gamma_I·d_I",
    licence="this package's",
)


@dataclass(frozen=True)
class Progress:
    """u as a function of sigma, bound to the reference grid of a zigzag: i/(n - 1) at node i, linear in log sigma
    between.

    Below node n - 1, that is in the last step, u = 1. Above node 0 there is no progress to speak of: ValueError.

    >>> import torch
    >>> u = Progress.of(torch.tensor([8.0, 4.0, 2.0, 0.0]))
    >>> u(8.0), u(4.0), u(1.0)
    (0.0, 0.5, 1.0)
    """

    nodes: tuple[float, ...]

    @classmethod
    def of(cls, reference: Tensor) -> "Progress":
        return cls(tuple(check_grid(reference).tolist()[:-1]))

    def __call__(self, sigma: float | Tensor) -> float:
        value, nodes = float(sigma), self.nodes
        if not within(value, 0.0, nodes[0]):
            raise ValueError(f"sigma: got {value:g}, above {nodes[0]:g}, where the composite's reference grid begins")
        i = bisect_left(nodes, -value, key=lambda node: -node)  # the first node at or below sigma
        if i == 0 or i == len(nodes):
            return 0.0 if i == 0 else progress(i - 1, len(nodes))
        above, below = nodes[i - 1], nodes[i]
        if math.isinf(above):
            return progress(i if within(value, 0.0, below) else i - 1, len(nodes))
        share = math.log(above / value) / math.log(above / below)
        return (i - 1 + share) / (len(nodes) - 1)

    def bind(self, guidance: Guidance, name: str = "guidance") -> Weight | None:
        """A function of progress as a function of sigma; numbers, constant ramps and None as they are."""
        if callable(guidance) and not (isinstance(guidance, GuidanceRamp) and guidance.constant):
            scale = lru_cache(maxsize=16)(lambda sigma: scale_at(guidance, self(sigma), name))  # many atoms ask for it
            return lambda sigma: cast(float, scale(float(sigma)))
        return scale_at(guidance, 0.0, name)

    def gate(self, interval: tuple[float, float], reach: tuple[float, float]) -> Callable[[Tensor], float] | float:
        """1 where a zigzag on the reference grid mixes, else 0: its interval's edges are grid nodes.

        A number where it is the same everywhere: 0.0 of an interval that holds no node.
        """
        begin, end = check_interval(interval)
        if (begin, end) == (0.0, 1.0) and reach == (0.0, math.inf):
            return 1.0
        high = math.inf if begin == 0 else self._edge(begin)
        low = 0.0 if end == 1 else self._edge(end)
        if low >= high:
            return 0.0
        return lambda sigma: float(low < sigma <= high and within(sigma, *reach))

    def _edge(self, u: float) -> float:
        """Just above the first node of progress `u` or more; 0 if there is none, as in a single step beyond u = 0."""
        nodes = (node for i, node in enumerate(self.nodes) if progress(i, len(self.nodes)) >= u)
        return next(nodes, 0.0) * (1 + SLACK)


def composite(
    image: Guided | Affine,
    video: Guided | Affine,
    pattern: str = "IV-IV",
    *,
    guidance: Guidance = 7.5,
    image_guidance: Guidance = GuidanceRamp(4.0),  # noqa: B008 - immutable
    video_guidance: Guidance = GuidanceRamp(4.0),  # noqa: B008 - immutable
    interval: tuple[float, float] = (0.0, 1.0),
    period: int | None = None,
    reference: Tensor,
    reach: Reach | None = None,
) -> Composite:
    """The limit of `IVMixed` with the same arguments, in either sequence; one evaluation of each network.

    Schedules, interval and `reach` are bound to sigma once, from the decreasing grid `reference` (n + 1,), so that
    every solver on every grid sees one ODE. Where a zigzag would not mix, the field is the video network's alone, and
    the image network costs nothing. The edges of an interval are jumps of the field: on a grid whose nodes they are,
    Euler's method and `DDIM` do not notice; a solver of higher order makes an error of first order at each, but for a
    multistep one that forgets there (`forgetting`).
    """
    up, down = parse_pattern(pattern)
    check_period(period)
    for name, field in (("image", image), ("video", video)):
        if not isinstance(field, Guided | Affine):
            kind = type(field).__name__
            raise TypeError(
                f"{name}: got a {kind}, expected a Guided or an Affine: a composite is linear in its networks; "
                "play it in the legs of IVMixed"
            )
    u = Progress.of(reference)
    w = u.bind(guidance)
    gamma_i, gamma_v = u.bind(image_guidance, "image_guidance"), u.bind(video_guidance, "video_guidance")

    def leg(letter: str, sign: float) -> Affine:
        of_video = guide(video, _signed(sign, gamma_v), "video_guidance")
        if letter == "V":
            return of_video
        of_image = guide(image, _signed(sign, gamma_i), "image_guidance")
        return of_image if period is None else (1 - 1 / period) * of_image + 1 / period * of_video

    plain = guide(video, w, "guidance")
    churn = up.count("R")
    drift = plain
    for letter in down:
        drift += leg(letter, +1.0)
    for letter in up.replace("R", ""):
        drift -= leg(letter, -1.0)
    gate = u.gate(interval, _common(check_reach(reach)))
    mean = drift / (1 + churn)
    if not callable(gate):
        return Composite(mean, float(churn)) if gate else Composite(plain, 0.0)
    return Composite(plain + gate * (mean - plain), (lambda sigma: churn * gate(sigma)) if churn else 0.0)


def _signed(sign: float, gamma: Weight | None) -> Weight | None:
    if gamma is None or not callable(gamma):
        return None if gamma is None else sign * gamma
    return lambda sigma: sign * gamma(sigma)


def _common(reach: Reach | None) -> tuple[float, float]:
    """The levels that all networks of `reach` accept."""
    if not reach:
        return 0.0, math.inf
    lows, highs = zip(*reach.values(), strict=True)
    return max(lows), min(highs)
