"""Legs: sampling as a list of solver steps, each of one field.

A plan is data. It is made without a network, can be printed, counted, cut, joined and compared, and is all that
`integrate` needs to know of a sampler.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from ivmix.solvers.algebra.field import Composite, Field
from ivmix.solvers.algebra.guidance import Guidance, guide, scale_at
from ivmix.solvers.algebra.mixing import HERE, Mix, Share
from ivmix.solvers.schedules.grids import check_grid
from ivmix.solvers.steps.onestep import Euler
from ivmix.solvers.steps.solver import Solver


@dataclass(frozen=True)
class View:
    """A change of the state around one leg, such as a resize: y = `enter(x)` before; after, `leave(y, x)` is y as x
    was."""

    name: str
    enter: Callable[[Tensor], Tensor]
    leave: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Leg:
    """One solver step of one network's field, or, with `network=None`, one addition of fresh noise.

    `told`: the level the network is told; `source`, `target`: the levels the state moves between; `guidance`: signed
    scale, None for a field that has its own; `label`: the role in its step ("step", "I down 1", …), which is also the
    lane in which a multistep solver remembers; `step`: number of the outer step, from 0.

    In all plans but replicas of the authors' code, `told` is `source`, and `source` is the last leg's `target`; any
    other leg acts on z rather than x, which `integrate` does given the schedule that relates them.

    A leg of noise from 0 with `keep`, a linear filter of `b c f h w`, begins a run again: in z, what `keep` passes of
    x0 with the noise the first run began with, and of fresh noise what it stops (see `freeinit`), or what the filter
    `fill` passes (see `freqprior`). One that stays at its level has what `keep` passes of z itself (see `renewed`).

    A leg with `mix` adds no noise: it goes to a sum of states that the run has kept (see `keeping` and `mixing`).
    """

    network: str | None
    label: str
    told: float
    source: float
    target: float
    guidance: float | None
    solver: Solver
    step: int
    view: View | None = None
    keep: Callable[[Tensor], Tensor] | None = None
    fill: Callable[[Tensor], Tensor] | None = None
    mix: Mix | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.solver, Solver):
            raise TypeError(f"solver: got {self.solver!r}, expected an instance of a solver, such as Euler()")
        if self.keep is not None and (self.network is not None or self.source not in (0, self.target)):
            raise ValueError(
                f"keep: got {self.keep!r} for a leg of {self.network!r} from {self.source:g}; it is for a leg of noise "
                "from 0, or to the level it is from"
            )
        if self.fill is not None and self.keep is None:
            raise ValueError(f"fill: got {self.fill!r} without keep, which it is to complete")
        if self.mix is not None and (self.network is not None or self.keep is not None):
            raise ValueError(f"mix: got {self.mix!r} beside a network or keep; expected a leg that does nothing else")

    def __str__(self) -> str:
        scale = "" if self.guidance is None else f" {self.guidance:+g}"
        told = "" if self.told == self.source else f" (told {self.told:.4g})"
        move = f"{self.source:.4g} -> {self.target:.4g}"
        if self.mix is not None:
            return f"{self.step:3d} {self.label:9s} states {move} = {self.mix}"
        return f"{self.step:3d} {self.label:9s} {self.network or 'noise':6s} {move}{told}{scale}"


def progress(step: int, n: int) -> float:
    """u of outer step `step` out of `n`: 0 at the first, 1 at the last, 0 for a single one."""
    return step / (n - 1) if n > 1 else 0.0


def plain(
    sigmas: Tensor,
    guidance: Guidance = None,
    solver: Solver | None = None,
    network: str = "video",
    *,
    lower_order_final: bool = False,
) -> list[Leg]:
    """One leg per interval of the grid `sigmas` (n + 1,), decreasing (sampling) or increasing (inversion).

    `guidance` is a number or a function of progress for a `Guided` field, None for a denoiser. `solver` defaults to
    Euler. With `lower_order_final` a multistep solver's last steps fall in order, to 1 at the last: Euler's, as peers
    of that word do, which steadies high orders in few steps.

    >>> import torch
    >>> for leg in plain(torch.tensor([10.0, 1.0, 0.0]), guidance=7.5):
    ...     print(leg)
      0 step      video  10 -> 1 +7.5
      1 step      video  1 -> 0 +7.5
    """
    levels: list[float] = check_grid(sigmas, direction="any").tolist()
    n, solver = len(levels) - 1, suited(solver or Euler(), levels)
    plan = []
    for i, (source, target) in enumerate(pairwise(levels)):
        rule = solver.lowered(n - i) if lower_order_final and isinstance(solver, Solver) else solver
        plan.append(Leg(network, "step", source, source, target, scale_at(guidance, progress(i, n)), rule, i))
    return plan


def suited(solver: Solver, levels: list[float]) -> Solver:
    """`solver` as a run on the grid `levels` plays it (`Solver.on`)."""
    return solver.on(levels) if isinstance(solver, Solver) else solver  # a Leg says what else it is


def noising(source: float, target: float, step: int, label: str = "noise") -> Leg:
    """The leg of fresh noise from `source` up to `target`, in the outer step `step`."""
    return Leg(None, label, source, source, target, None, Euler(), step)


def mixing(
    source: float, target: float, weights: Mapping[str, Share], step: int, name: str | None = None, label: str = "mix"
) -> Leg:
    """The leg from `source` to the sum of weight·state at `target` (`Mix`), in the outer step `step`; no evaluation.

    States are those that legs before it have kept, and `HERE`; what it goes to is kept under `name`, None: it is not.
    `integrate` refuses a sum that is no state at `target`.

    >>> print(mixing(8.0, 8.0, {"image": 0.25, HERE: 0.75}, step=3))
      3 mix       states 8 -> 8 = 0.25·image + 0.75·here
    """
    return Leg(None, label, source, source, target, None, Euler(), step, mix=Mix(weights, name))


def keeping(at: float, name: str, step: int) -> Leg:
    """The leg that keeps the state at the level `at` under `name`, and leaves it as it is."""
    return mixing(at, at, {HERE: 1.0}, step, name, "keep")


def planned_nfe(legs: Iterable[Leg], fields: Field | Mapping[str, Field] | None = None) -> dict[str, int]:
    """Guided evaluations per network that solvers will make (`Solver.cost`).

    They are counted under the names that legs have, or, with `integrate`'s `fields`, of the networks that each leg's
    field asks at the level it begins at: both of a composite's, one of a field that switches, all of a `Nested` plan's.
    Multistep solvers with a `start` make more at first, and adaptive ones are counted as one attempt an interval.
    """
    counts: dict[str, int] = {}
    for leg in legs:
        if leg.network is None:
            continue
        asked = {leg.network: 1} if fields is None else _asked(fields, leg)
        for name, number in asked.items():
            counts[name] = counts.get(name, 0) + number * leg.solver.cost(leg.source, leg.target)
    return counts


def _asked(fields: Field | Mapping[str, Field], leg: Leg) -> Mapping[str, int]:
    """How often an evaluation of a leg's field asks each network, where the leg begins."""
    field = fields[str(leg.network)] if isinstance(fields, Mapping) else fields
    field = guide(field.denoise if isinstance(field, Composite) else field, leg.guidance)
    if hasattr(field, "planned"):  # as a Nested
        found: Mapping[str, int] = field.planned(leg.told)
        return found
    return dict.fromkeys(field.cost(leg.told) if hasattr(field, "cost") else (str(leg.network),), 1)
