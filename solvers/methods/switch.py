"""Switching: one network after the other, each over its own range of levels.

    D = D_k  from the level e_k down to e_(k+1),      e_1 > e_2 > …  the edges; the first network begins above e_1

Two networks, the small one first, are T-Stitch (arXiv 2402.14167); large, small, large FlowBlending (2512.24724); the
two experts of Wan 2.2, under a scale each, meet at t = .875, which is sigma = .875 / (1 - .875) = 7 of their flow.

At an edge the field jumps. A solver that looks back there sees another field's slopes, and one that looks ahead would
see the next field's: both err once by about a step's length, which leaves any order at 1. So an edge is to be a level
of the grid, a leg asks its own network alone, at both of its ends, and memory is forgotten at each edge (`forgetting`).
Every solver then has the order across edges that it has without.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from ivmix.solvers.algebra.affine import Affine
from ivmix.solvers.algebra.guidance import Guidance, scale_at
from ivmix.solvers.checks import SLACK, check_legs, check_number
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.plans.legs import Leg, plain, progress
from ivmix.solvers.schedules.grids import check_grid
from ivmix.solvers.steps.solver import Solver

METHOD = Method(
    "switching",
    papers=("2402.14167", "2512.24724"),
    does="one network after the other, each over its own range of levels: legs, or weights of 0 and 1; memory is "
    "forgotten at the edges",
    evaluations={"all": "n"},
    limit="its own field: in each range that of its network",
    licence="CC BY-NC (T-Stitch)",
)


def switch(
    sigmas: Tensor,
    networks: Sequence[str],
    edges: Sequence[float],
    guidance: Guidance | Sequence[Guidance] = None,
    solver: Solver | None = None,
) -> list[Leg]:
    """The plan on the decreasing grid `sigmas` (n + 1,): one evaluation a step, of the network whose range it is.

    `networks`, the one at high levels first, meet at the decreasing levels `edges`, one fewer; a name may come again.
    `guidance` is one for all, or one for each. A step belongs to the network at the level it begins at; one from an
    edge to what follows the edge. A step over an edge is played by the network above it, as in Wan 2.2, an error of
    first order: make edges levels of the grid. A network in whose range no step begins is not asked at all.

    >>> import torch
    >>> for leg in switch(torch.tensor([14.0, 7.0, 2.0, 0.0]), ("high", "low"), [7.0], (4.0, 3.0)):
    ...     print(leg)
      0 step      high   14 -> 7 +4
      1 step #1   low    7 -> 2 +3
      2 step #1   low    2 -> 0 +3
    """
    edges = _checked(edges, len(networks))
    scales = list(guidance) if isinstance(guidance, Sequence) else [guidance] * len(networks)
    if len(scales) != len(networks):
        raise ValueError(f"guidance: got {len(scales)} for {len(networks)} networks, expected one, or one for each")
    steps, plan = plain(check_grid(sigmas), solver=solver), []
    for step in steps:
        k = _range(step.source, edges)
        scale = scale_at(scales[k], progress(step.step, len(steps)))
        plan.append(replace(step, network=networks[k], guidance=scale))
    return forgetting(plan, edges)


def switched(fields: Sequence[Affine], edges: Sequence[float]) -> Affine:
    """The same as a denoiser, a sum with weights of 0 and 1: to be part of other combinations, one more field of a
    composite or a mixture. `fields` have their guidance inside; out of its range one costs nothing.

    At an edge it is the field below. So a solver that looks ahead, as `Heun` does, sees the wrong one at the end of a
    step that leads there, and is of first order; `switch` has no such end. Of others `forgetting` restores the order.

    >>> from ivmix.solvers.theory.analytic import closed_form_pair
    >>> pair = closed_form_pair()
    >>> field = switched([pair["video"].cond, pair["image"].cond], [7.0])
    >>> field.weights(7.1), field.weights(7.0), field.cost(7.0)
    ([1.0, 0.0], [0.0, 1.0], {'image': 1})
    """
    edges = _checked(edges, len(fields))
    total = Affine(())
    for k, field in enumerate(fields):
        if not isinstance(field, Affine):
            raise TypeError(f"fields: got a {type(field).__name__}, expected an Affine, as guided.at(7.5) is")
        total += _within(k, edges) * field
    return total


def forgetting(legs: Sequence[Leg], edges: Sequence[float]) -> list[Leg]:
    """The plan `legs` with solvers that remember nothing of the steps above an edge: for any field that jumps.

    The edges of a composite's interval and of `late` are such. Labels of outer steps that begin at or below the k-th
    edge are marked #k, as memory is kept by label.
    """
    check_legs(legs)
    edges = _checked(edges)
    marks = {leg.step: _range(leg.source, edges) for leg in reversed(legs)}  # of the first leg of each step
    return [replace(leg, label=f"{leg.label} #{marks[leg.step]}") if marks[leg.step] else leg for leg in legs]


def _range(sigma: float, edges: Sequence[float]) -> int:
    """How many edges a level is not above, up to the slack that all levels have."""
    return sum(sigma <= edge * (1 + SLACK) for edge in edges)


def _within(k: int, edges: Sequence[float]) -> Callable[[Tensor], float]:
    """The indicator of range k."""
    return lambda sigma: float(_range(sigma.item(), edges) == k)


def _checked(edges: Sequence[float], ranges: int | None = None) -> list[float]:
    """`edges`, which part `ranges` ranges of levels."""
    for edge in edges:
        check_number("edges", edge, "levels > 0", lambda edge: edge > 0)
    found = [float(edge) for edge in edges]
    if found != sorted(set(found), reverse=True):
        raise ValueError(f"edges: got {found}, expected decreasing levels")
    if ranges is not None and ranges != len(found) + 1:
        raise ValueError(f"edges: got {len(found)} for {ranges} ranges, expected {ranges - 1}: one between any two")
    return found
