"""The second-order theory of zigzags: which ODE they follow on a finite grid, and how to remove the first-order error.

On a smooth grid sigma(n), n = 0, 1, …, with local step h = dsigma/dn < 0, legs i = 1, 2, … of an outer step move from
level n + a_i to n + e_i = n + a_i + c_i, c_i = ±1, each by one Euler step of its guided field E_i. To second order in h
the zigzag follows dx/dsigma = F + C, where F = sum c_i·E_i is the composite's drift and

    C = h'/2·(sum (e_i² - a_i²)·E_i - F)                                  legs differ in length
      + h·sum c_i·(a_i·dE_i/dsigma + DE_i·sum over j < i of c_j·E_j)      each leg starts where the others left x
      - h/2·(dF/dsigma + DF·F)                                            Euler's own error, on the whole
      - h/2·dF/du·du/dsigma                                               guidance is held during an outer step

with h' = dh/dsigma and D the Jacobian in x. On N steps h is of order 1/N, so a zigzag approaches its composite at order
1 and this modified composite at order 2 (backward error analysis: Hairer, Lubich and Wanner, Geometric Numerical
Integration, chapter IX). Theory to look at, on closed forms and small networks: C costs some thirty evaluations.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ivmix.solvers.algebra.affine import Affine
from ivmix.solvers.algebra.denoiser import level
from ivmix.solvers.algebra.field import Field
from ivmix.solvers.algebra.guidance import Guidance, Guided, guide, scale_at
from ivmix.solvers.checks import SLACK, within
from ivmix.solvers.methods.ivmixed import IVMixed, Reach, parse_pattern
from ivmix.solvers.plans.integrate import integrate
from ivmix.solvers.schedules.grids import check_grid
from ivmix.solvers.steps.onestep import Euler


@dataclass(frozen=True, eq=False)
class ModifiedComposite:
    """The ODE that `sampler` follows on the decreasing grid `sigmas` (n + 1,), to second order; a denoiser.

    `image`, `video`, `sampler` and `reach` are what makes a zigzag. Its legs are Euler's, its levels above 0, at least
    4, values of one smooth function of their number, its guidance smooth in progress. Where the plan has plain steps,
    outside the interval and at one end, the field is theirs, so it jumps at `edges`, from the first level to the last
    above 0. At that last level it is the plan's single step to 0, with the legs that an up-first plan plays before it.
    Patterns with R and periods are refused. Derivatives are central differences of order 4 along the direction asked
    for, since a network's time passes through Python numbers, where autograd would lose it.

    >>> from ivmix.solvers import Schedule
    >>> from ivmix.solvers.theory.analytic import closed_form_pair, reference
    >>> sampler = IVMixed(guidance=1.0, image_guidance=0.5, video_guidance=0.5, interval=(0.2, 0.8))
    >>> grid = Schedule.ve(0.1, 10.0).grid(41, "uniform-lam")
    >>> modified = ModifiedComposite(**closed_form_pair(), sampler=sampler, sigmas=grid)
    >>> [round(edge, 3) for edge in modified.edges.tolist()]
    [10.0, 3.981, 0.251, 0.1]
    >>> x = torch.full((1, 1, 2, 1, 1), 7.0, dtype=torch.float64)
    >>> zigzag = integrate({"image": modified.image, "video": modified.video}, sampler.legs(grid), x).x
    >>> end = reference(modified, x, modified.edges, order=8, tolerance=1e-4)  # at the last level above 0
    >>> bool((modified(end, modified.edges[-1]) - zigzag).abs().max() < 0.01)
    True
    """

    image: Guided | Affine
    video: Guided | Affine
    sampler: IVMixed
    sigmas: Tensor
    reach: Reach | None = None

    def __post_init__(self) -> None:
        if "R" in self.sampler.pattern:
            raise ValueError(f"sampler: got pattern {self.sampler.pattern!r}, whose limit is an SDE; expected no R")
        if self.sampler.period is not None:
            raise ValueError(f"sampler: got period {self.sampler.period}, expected None: all mixed steps alike")
        for name in ("solver", "step_solver"):
            if (solver := getattr(self.sampler, name)) != Euler():
                raise ValueError(f"sampler: got {name}={type(solver).__name__}, expected Euler")
        if len(self._nodes) < 4 or math.isinf(self._nodes[0]) or self.sigmas[-1] != 0:
            raise ValueError("sigmas: expected at least 4 finite levels above 0, then 0")

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0 with (x - x0) / sigma = F + C, for x `b c f h w`; at the last level, what the plan's step to 0 gives."""
        if self._step(float(sigma)) < len(self._nodes) - 1:
            return x - float(sigma) * (self.drift(x, sigma) + self.correction(x, sigma))
        _, h, _ = self._index(float(sigma))
        *zigzag, step = self._moves(float(sigma))
        return step.at(1.0)(x + h * _slope(_total(zigzag, 1.0), x, level(sigma)), sigma)

    @property
    def edges(self) -> Tensor:
        """The first level, those at which the field jumps, the last above 0: the nodes that `reference` needs."""
        last = len(self._nodes) - 1
        jumps = [n for n in range(1, last) if (n in self._mixed) != (n - 1 in self._mixed)]
        return torch.tensor([self._nodes[n] for n in (0, *jumps, last)], dtype=torch.float64)

    def drift(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """F: the composite's dx/dsigma, or the video network's where the plan does not mix."""
        u = self._index(float(sigma))[0] / (len(self._nodes) - 1)
        return _slope(_total(self._moves(float(sigma)), u), x, level(sigma))

    def correction(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """C: what a zigzag on this grid adds to the composite's dx/dsigma; of the order of a step."""
        sigma = level(sigma)
        index, h, h_slope = self._index(float(sigma))
        u, moves = index / (len(self._nodes) - 1), self._moves(float(sigma))
        so_far, lengths, starts = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
        for move in moves:
            E = move.at(u)
            starts = starts + move.sign * _along(E, x, sigma, so_far, move.source)
            slope = _slope(E, x, sigma)
            lengths = lengths + (2 * move.source * move.sign + 1) * slope  # e² - a², as e = a ± 1
            so_far = so_far + move.sign * slope
        F = so_far
        euler = _along(_total(moves, u), x, sigma, F, 1) / 2
        growth = Affine(())
        for move in moves:
            growth += move.growth(u)
        held = _slope(growth, x, sigma) / (2 * (len(self._nodes) - 1))  # h·du/dsigma = 1/(n - 1)
        return h_slope / 2 * (lengths - F) + h * (starts - euler) - held

    @cached_property
    def _nodes(self) -> list[float]:
        """The levels above 0."""
        return [sigma for sigma in check_grid(self.sigmas).tolist() if sigma > 0]

    @cached_property
    def _mixed(self) -> frozenset[int]:
        """The outer steps that the plan mixes."""
        return frozenset(leg.step for leg in self.sampler.legs(self.sigmas, self.reach) if leg.label != "step")

    def _step(self, sigma: float) -> int:
        """The outer step that a level is part of; a node belongs to the step that leaves it."""
        nodes = self._nodes
        if not within(sigma, nodes[-1], nodes[0]):
            raise ValueError(f"sigma: got {sigma:g}, expected a level in [{nodes[-1]:g}, {nodes[0]:g}]")
        return bisect_right(nodes, -sigma * (1 - SLACK), key=lambda node: -node) - 1

    def _moves(self, sigma: float) -> list["_Move"]:
        """The legs of the outer step that `sigma` is part of, the ordinary step last."""
        step = _Move(self.video, self.sampler.guidance, +1, 0)
        if self._step(sigma) not in self._mixed:
            return [step]
        up, down = parse_pattern(self.sampler.pattern)
        rise, fall = [(letter, -1) for letter in up], [(letter, +1) for letter in down]
        moves, at = [], 0
        for letter, sign in fall + rise if self.sampler.sequence == "down-first" else rise + fall:
            image = letter == "I"
            scale = self.sampler.image_guidance if image else self.sampler.video_guidance
            moves.append(_Move(self.image if image else self.video, scale, sign, at))
            at += sign
        return [*moves, step]

    def _index(self, sigma: float) -> tuple[float, float, float]:
        """n, h = dsigma/dn and dh/dsigma at a level, by the cubic through the four nodes around it in log sigma."""
        nodes = self._nodes
        first = min(max(self._step(sigma) - 1, 0), len(nodes) - 4)
        lam = [-math.log(node) for node in nodes[first : first + 4]]
        at = -math.log(sigma)
        # Newton's form of the cubic with values 0, 1, 2, 3: n(lam) and its first two derivatives.
        table = [0.0, 1.0, 2.0, 3.0]
        for width in range(1, 4):
            for k in range(3, width - 1, -1):
                table[k] = (table[k] - table[k - 1]) / (lam[k] - lam[k - width])
        n, slope, curve = table[3], 0.0, 0.0
        for k in (2, 1, 0):
            n, slope, curve = n * (at - lam[k]) + table[k], slope * (at - lam[k]) + n, curve * (at - lam[k]) + 2 * slope
        return first + n, -sigma / slope, -(1 + curve / slope) / slope


@dataclass(frozen=True, eq=False)
class _Move:
    """An Euler leg from offset `source` by `sign` levels, of the field `field` under sign·guidance."""

    field: Guided | Affine
    guidance: Guidance
    sign: int
    source: int

    def at(self, u: float) -> Affine:
        """E at progress u."""
        scale = scale_at(self.guidance, u)
        field: Affine = guide(self.field, None if scale is None else self.sign * scale)
        return field

    def growth(self, u: float) -> Affine:
        """sign·dE/du: the scale's derivative times the direction."""
        if not (callable(self.guidance) and isinstance(self.field, Guided)):
            return Affine(())
        a, b = max(0.0, u - 1e-5), min(1.0, u + 1e-5)
        return (self.guidance(b) - self.guidance(a)) / (b - a) * self.field.direction


def _total(moves: list[_Move], u: float) -> Affine:
    """F = sum of sign·E at progress u."""
    total = Affine(())
    for move in moves:
        total += move.sign * move.at(u)
    return total


def _slope(field: Affine, x: Tensor, sigma: Tensor) -> Tensor:
    """sum of weight·eps, eps = (x - x0)/sigma, for weights that sum to anything."""
    return (float(field.total(sigma)) * x - field(x, sigma)) / float(sigma)


def _along(field: Affine, x: Tensor, sigma: Tensor, direction: Tensor, rate: float) -> Tensor:
    """D(slope)·direction + rate·d(slope)/dsigma, by differences of order 4 with an error of about 1e-12 in float64.

    Fields vary over distances of sigma, so the nodes are that much apart times delta, a balance of truncation and
    rounding; they lie on one side where the other is out of the networks' reach.
    """
    size = max(abs(rate), float(direction.abs().max()))
    if size == 0:
        return torch.zeros_like(x)
    delta = torch.finfo(x.dtype).eps ** 0.2
    unit, s = delta * float(sigma) / size, float(sigma)
    low, high = field.reach
    ends = [s + k * unit * rate for k in (-2, 2)]
    if low <= min(ends) and max(ends) <= high:
        stencil = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}
    else:
        stencil = {0: -25 / 12, 1: 4.0, 2: -3.0, 3: 4 / 3, 4: -1 / 4}
        if not low <= s + 4 * unit * rate <= high:
            unit = -unit
    moved = (w * _slope(field, x + k * unit * direction, level(s + k * unit * rate)) for k, w in stencil.items())
    return torch.stack(list(moved)).sum(0) / unit


def richardson(
    fields: Field | Mapping[str, Field], sampler: IVMixed, sigmas: Tensor, x: Tensor, reach: Reach | None = None
) -> Tensor:
    """2·y(refine(sigmas)) - y(sigmas), y being where `sampler` on a grid leads `x`: second order, three times the cost.

    The arguments are `integrate`'s and `IVMixed.legs`'; guidance is smooth in progress and the ends of the interval are
    levels of `sigmas`, as the first-order errors of the two runs cancel only if they are alike. R is refused.
    """
    if "R" in sampler.pattern:
        raise ValueError(f"sampler: got pattern {sampler.pattern!r}, whose noise has no expansion; expected no R")
    coarse, fine = (integrate(fields, sampler.legs(grid, reach), x).x for grid in (sigmas, refine(sigmas)))
    return 2 * fine - coarse


def refine(sigmas: Tensor) -> Tensor:
    """The grid with a level between any two of `sigmas` above 0, by cubic interpolation of log sigma.

    n levels above 0 become 2n - 1, with the progress at the old ones as it was. n >= 4, all finite, then 0.

    >>> [round(sigma, 9) for sigma in refine(torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0]))[::2].tolist()]
    [8.0, 4.0, 2.0, 1.0]
    """
    grid = check_grid(sigmas)
    if len(grid) < 5 or math.isinf(grid[0]) or grid[-1] != 0:
        raise ValueError("sigmas: expected at least 4 finite levels above 0, then 0")
    log = grid[:-1].log()
    first = (5 * log[0] + 15 * log[1] - 5 * log[2] + log[3]) / 16
    inner = (9 * (log[1:-2] + log[2:-1]) - log[:-3] - log[3:]) / 16
    last = (5 * log[-1] + 15 * log[-2] - 5 * log[-3] + log[-4]) / 16
    between = torch.cat([first[None], inner, last[None]]).exp()
    return torch.cat([torch.stack([grid[:-2], between], 1).flatten(), grid[-2:]])
