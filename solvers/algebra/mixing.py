"""Mixing states: a weighted sum of states that a run has kept is its next one.

A state is a·x0 + s·eps, where (a, s) is (1, sigma) at a finite level and (0, 1) at inf, where it is z. Of one noise
eps, a sum of weight·state is the state at the level whose (a, s) is the sum of weight·(a, s), and there it has to go.
Where the noises are independent it has less noise than that level, as an average has.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from ivmix.solvers.algebra.denoiser import like

Share = float | Tensor | Callable[[Tensor], Tensor]
"""Of a state: a number, numbers that broadcast to `b c f h w`, such as (f, 1, 1) of frames, or a linear map of it."""

HERE = "here"
"""The name of the state that a run is in."""


@dataclass(frozen=True)
class Mix:
    """x' = sum of weight·state over `weights`, states by name; x' is kept under `name` for later, None: it is not.

    Weights are numbers, tensors for each frame (f, 1, 1) or pixel, or linear maps such as `LowPass`. A map says nothing
    of its sum, so that all states of a mix with one are at the level where it goes.

    >>> x, image = torch.zeros(1, 1, 2, 1, 1), torch.ones(1, 1, 2, 1, 1)
    >>> frames = torch.tensor([0.25, 1.0]).reshape(2, 1, 1)
    >>> Mix({"image": frames, HERE: 1 - frames})(x, {"image": image}).flatten()
    tensor([0.2500, 1.0000])
    """

    weights: Mapping[str, Share]
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError("weights: got none, expected one for each state")
        for name, weight in self.weights.items():
            if not (callable(weight) or isinstance(weight, Tensor) or _finite(weight)):
                raise ValueError(f"weights: got {weight!r} of {name!r}, expected a number, a tensor or a linear map")
        if self.name == HERE:
            raise ValueError(f"name: got {HERE!r}, which is the state that the run is in; expected another name")

    def __call__(self, x: Tensor, kept: Mapping[str, Tensor]) -> Tensor:
        """The sum, of x's shape `b c f h w` and dtype, given the run's state and those that it has kept."""
        total: Tensor | None = None
        for name, weight in self.weights.items():
            state = x if name == HERE else kept[name]
            if callable(weight):
                part = like(x, weight(state), f"the weight of {name!r}")
            elif isinstance(weight, Tensor):
                part = weight.to(x) * state
            elif total is not None:
                total = total.add(state, alpha=weight)
                continue
            else:
                part = state if weight == 1 else weight * state
            total = part if total is None else total + part
        assert total is not None  # __post_init__
        return like(x, total, "mix")

    def check(self, levels: Mapping[str, float], target: float) -> None:
        """ValueError unless all states are among `levels`, by name, and their sum is one at the level `target`."""
        for name in self.weights:
            if name not in levels:
                known = ", ".join(levels)
                raise ValueError(f"mixes {name!r}, which no leg before it keeps; expected one of {known}")
        maps = [name for name, weight in self.weights.items() if callable(weight)]
        if maps:
            others = {name: levels[name] for name in self.weights if not math.isclose(levels[name], target)}
            if others:
                name, sigma = next(iter(others.items()))
                raise ValueError(
                    f"mixes {name!r} at {sigma:g} by weights of which {maps[0]!r}'s is a map; expected all states at "
                    f"{target:g}, where it goes"
                )
            return
        for what, wanted, got in zip(("x0", "noise"), _state(target), self._sums(levels), strict=True):
            if bool(((got - wanted).abs() > 1e-6 * max(1.0, wanted)).any()):
                raise ValueError(f"has {_range(got)} of {what}, where a state at {target:g} has {wanted:g}")

    def _sums(self, levels: Mapping[str, float]) -> tuple[Tensor, Tensor]:
        """What the sum has of x0 and of noise."""
        a = s = torch.zeros((), dtype=torch.float64)
        for name, weight in self.weights.items():
            share = torch.as_tensor(weight, dtype=torch.float64, device="cpu").detach()
            of_x0, of_noise = _state(levels[name])
            a, s = a + share * of_x0, s + share * of_noise
        return a, s

    def __str__(self) -> str:
        parts = [f"{_written(weight)}{name}" for name, weight in self.weights.items()]
        return " + ".join(parts).replace("+ -", "- ") + (f" as {self.name}" if self.name else "")


def _state(sigma: float) -> tuple[float, float]:
    """What a state at this level has of x0 and of noise."""
    return (0.0, 1.0) if math.isinf(sigma) else (1.0, sigma)


def _range(values: Tensor) -> str:
    low, high = values.min().item(), values.max().item()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _finite(weight: object) -> bool:
    return isinstance(weight, Real) and not isinstance(weight, bool) and math.isfinite(weight)


def _written(weight: Share) -> str:
    if callable(weight) or isinstance(weight, Tensor):
        return f"{type(weight).__name__}·"
    return "" if weight == 1 else "-" if weight == -1 else f"{weight:.4g}·"
