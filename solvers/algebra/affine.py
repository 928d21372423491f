"""Symbolic combinations of networks: guidance, mixtures and the composite are all one `Affine`.

An *atom* is one network under one condition. `Affine` maps atoms to weights (numbers, or functions of sigma) and is
itself a denoiser: x0 = sum of weight·atom(x, sigma). A call groups its atoms by network, leaves out those whose weight
is exactly zero, and runs one batch per network. Since all denoisers of one x and sigma share x, weights of x0 that sum
to 1 are the same weights of eps and of the score.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any, NamedTuple, Protocol, overload

import torch
from torch import Tensor

from ivmix.solvers.algebra.denoiser import Denoiser, cast, level, like
from ivmix.solvers.algebra.filters import Filter
from ivmix.solvers.algebra.filters import Number as Number

Weight = Number | Callable[[Tensor], Number]
"""A number, or a function of sigma."""

Factor = Number | Filter
"""What a prediction is multiplied by: a number, or a linear filter."""

AnyWeight = Factor | Callable[[Tensor], Factor]
"""A factor, or a function of sigma that gives one."""


class Model(Protocol):
    """What an atom needs to know of its network; `Network` and the closed forms of `analytic` are models."""

    @property
    def name(self) -> str:
        """Under which evaluations are counted."""

    @property
    def reach(self) -> tuple[float, float]:
        """The lowest and highest sigma it accepts."""

    def predict(self, x: Tensor, sigma: Tensor, conditions: Sequence[Any]) -> Sequence[Tensor]:
        """x0 of x's shape and dtype for each condition, in one batch."""


class Atom:
    """One model under one condition; equal to another if both are the very same objects."""

    __slots__ = ("condition", "model")

    def __init__(self, model: Model, condition: Any) -> None:
        self.model, self.condition = model, condition

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Atom) and self.model is other.model and self.condition is other.condition

    def __hash__(self) -> int:
        return hash((id(self.model), id(self.condition)))

    def __repr__(self) -> str:
        return f"{self.model.name}({type(self.condition).__name__})"


@dataclass(frozen=True, eq=False)
class Batch:
    """What one call sends to one network: atoms of it, and the weights of their predictions."""

    model: Model
    atoms: tuple[Atom, ...]
    weights: tuple[Factor, ...]

    @cached_property
    def conditions(self) -> list[Any]:
        return [atom.condition for atom in self.atoms]


class Output(NamedTuple):
    """What one atom predicted, x0 of the state's shape and dtype, and its weight in the combination."""

    atom: Atom
    weight: Factor
    x0: Tensor

    def __repr__(self) -> str:
        return f"Output(atom={self.atom!r}, weight={self.weight!r})"


@dataclass(frozen=True, eq=False)
class Affine:
    """A weighted sum of atoms, called as `affine(x, sigma) -> x0` with x `b c f h w` and sigma 0-d.

    Built from `network(condition)`, combined with +, -, and * or / by a number, a `Filter` or a function of sigma (0-d
    float64 CPU tensor in, number or `Filter` out). Weights given as tensors are 0-d and on the CPU; an atom whose
    weight a derivative is asked of is evaluated at weight zero too.

    >>> from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork
    >>> video = GaussianNetwork("video", {"": Gaussian(0.0, 1.0), "cat": Gaussian(1.0, 1.0)})
    >>> u, c = video(""), video("cat")
    >>> guided = u + 7.5 * (c - u)
    >>> guided.weights(1.0)
    [-6.5, 7.5]
    >>> guided.cost(1.0), (u + 1 * (c - u)).cost(1.0)
    ({'video': 2}, {'video': 1})
    """

    terms: tuple[tuple[Atom, AnyWeight], ...]

    def __add__(self, other: "Affine") -> "Affine":
        if not isinstance(other, Affine):
            return NotImplemented
        merged: dict[Atom, AnyWeight] = {}
        for atom, weight in (*self.terms, *other.terms):
            merged[atom] = _plus(merged[atom], weight) if atom in merged else weight
        return Affine(tuple(merged.items()))

    def __mul__(self, scale: AnyWeight) -> "Affine":
        if isinstance(scale, Affine) or not (callable(scale) or isinstance(scale, Real | Tensor | Filter)):
            return NotImplemented
        return Affine(tuple((atom, _times(scale, weight)) for atom, weight in self.terms))

    __rmul__ = __mul__

    def __truediv__(self, scale: float) -> "Affine":
        return self * (1 / scale)

    def __neg__(self) -> "Affine":
        return self * -1.0

    def __sub__(self, other: "Affine") -> "Affine":
        return self + -other if isinstance(other, Affine) else NotImplemented

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0 of x's shape and dtype."""
        sigma = level(sigma)
        return combine(predict(self.batches(sigma), x, sigma), x)

    def weights(self, sigma: float | Tensor) -> list[Factor]:
        """The weight of every atom at `sigma`, in the order of `terms`."""
        sigma = level(sigma)
        return [value_at(weight, sigma) for _, weight in self.terms]

    def total(self, sigma: float | Tensor) -> Factor:
        """The sum of the weights at `sigma`: 1 for a denoiser, 0 for a direction."""
        return sum(self.weights(sigma))

    def cost(self, sigma: float | Tensor) -> dict[str, int]:
        """Rows that a call at `sigma` sends to each network, by name; a network left out costs nothing."""
        return count_rows(self.batches(sigma))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the networks involved, in order of appearance."""
        return tuple(dict.fromkeys(atom.model.name for atom, _ in self.terms))

    @property
    def reach(self) -> tuple[float, float]:
        """The levels that every network involved accepts."""
        lows, highs = zip(*(atom.model.reach for atom, _ in self.terms), strict=True)
        return max(lows), min(highs)

    def batches(self, sigma: float | Tensor) -> tuple[Batch, ...]:
        """The atoms of weight other than 0 at `sigma`, grouped by network: one batch, one network call each."""
        return self._fixed or _grouped(zip((atom for atom, _ in self.terms), self.weights(sigma), strict=True))

    @cached_property
    def _fixed(self) -> tuple[Batch, ...] | None:
        """The batches at every level, if no weight depends on it."""
        numbers = [(atom, weight) for atom, weight in self.terms if not callable(weight)]
        return _grouped(numbers) if len(numbers) == len(self.terms) else None


def _grouped(terms: Iterable[tuple[Atom, Factor]]) -> tuple[Batch, ...]:
    groups: dict[int, list[tuple[Atom, Factor]]] = {}
    for atom, weight in terms:
        if not _absent(weight):
            groups.setdefault(id(atom.model), []).append((atom, weight))
    return tuple(
        Batch(group[0][0].model, tuple(atom for atom, _ in group), tuple(weight for _, weight in group))
        for group in groups.values()
    )


def _absent(weight: Factor) -> bool:
    """Whether a weight is exactly zero and no derivative is asked for: that of a weight at zero need not be zero."""
    moving = isinstance(weight, Tensor) and (weight.requires_grad or torch.func.debug_unwrap(weight) is not weight)
    return not moving and bool(weight == 0)


def predict(batches: Iterable[Batch], x: Tensor, sigma: Tensor) -> list[Output]:
    """What every atom of `batches` predicts, one network call a batch."""
    return [
        Output(atom, weight, x0)
        for batch in batches
        for atom, weight, x0 in zip(
            batch.atoms, batch.weights, batch.model.predict(x, sigma, batch.conditions), strict=True
        )
    ]


def combine(outputs: Iterable[Output], x: Tensor) -> Tensor:
    """The sum of weight·x0; zeros of `x`'s kind if there are none."""
    total: Tensor | None = None
    for output in outputs:
        total = _accumulate(total, output.weight, output.x0)
    return torch.zeros_like(x) if total is None else total


def evaluate(combinations: Sequence[Affine], x: Tensor, sigma: float | Tensor) -> list[Tensor]:
    """Several combinations at one `x` and `sigma`: atoms that they share are evaluated once, one batch a network."""
    sigma = level(sigma)
    found = {output.atom: output.x0 for output in predict(union(combinations, sigma), x, sigma)}
    return [
        combine(
            (
                Output(atom, weight, found[atom])
                for batch in combination.batches(sigma)
                for atom, weight in zip(batch.atoms, batch.weights, strict=True)
            ),
            x,
        )
        for combination in combinations
    ]


def union(combinations: Sequence[Affine], sigma: Tensor) -> tuple[Batch, ...]:
    """The batches of all atoms that any of `combinations` uses at `sigma`, each atom once, of weight 1."""
    used = dict.fromkeys(atom for c in combinations for batch in c.batches(sigma) for atom in batch.atoms)
    return _grouped((atom, 1.0) for atom in used)


def count_rows(batches: Iterable[Batch]) -> dict[str, int]:
    """Rows per network, by name."""
    rows: dict[str, int] = {}
    for batch in batches:
        rows[batch.model.name] = rows.get(batch.model.name, 0) + len(batch.atoms)
    return rows


def as_affine(denoise: Denoiser, name: str) -> Affine:
    """Any denoiser as one atom of weight 1, counted under `name`, so that it can be combined with others."""
    return Affine(((Atom(_Opaque(denoise, name), None), 1.0),))


@dataclass(frozen=True, eq=False)
class _Opaque:
    denoise: Denoiser
    name: str
    reach: tuple[float, float] = (0.0, float("inf"))

    def predict(self, x: Tensor, sigma: Tensor, conditions: Sequence[Any]) -> list[Tensor]:
        return [cast(like(x, self.denoise(x, sigma), self.name), x.dtype) for _ in conditions]


def _accumulate(total: Tensor | None, weight: Factor, x0: Tensor) -> Tensor:
    """total + weight·x0, without a temporary where the weight is a plain number."""
    if not isinstance(weight, float) and isinstance(weight, Tensor | Filter):  # most are floats, which is asked fastest
        return weight * x0 if total is None else total + weight * x0
    if total is None:
        return x0 if weight == 1 else weight * x0
    return total.add(x0, alpha=weight)


def _plus(a: AnyWeight, b: AnyWeight) -> AnyWeight:
    if not callable(a) and not callable(b):
        return a + b
    return lambda sigma: value_at(a, sigma) + value_at(b, sigma)


def _times(a: AnyWeight, b: AnyWeight) -> AnyWeight:
    if not callable(a) and not callable(b):
        return a * b
    return lambda sigma: value_at(a, sigma) * value_at(b, sigma)


@overload
def value_at(weight: Weight, sigma: Tensor) -> Number: ...
@overload
def value_at(weight: AnyWeight, sigma: Tensor) -> Factor: ...
def value_at(weight: AnyWeight, sigma: Tensor) -> Factor:
    """The factor that `weight` is at `sigma`."""
    return weight(sigma) if callable(weight) else weight
