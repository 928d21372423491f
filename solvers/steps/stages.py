"""Explicit Runge-Kutta methods as weights of x0.

The ODE is linear in x: with k = (y - x0)/t, a stage y_i = x + h·sum of a_ij·k_j is (t_i/t)·x + sum of q_ij·x0_j, where

    q_im = h·(sum over j > m of a_ij·q_jm/t_j - a_im/t_m).

The weights are found in double precision, so that no difference of large slopes is left to a float32 state.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ivmix.solvers.algebra.denoiser import Denoiser, level
from ivmix.solvers.steps.solver import toward


@dataclass(frozen=True)
class Tableau:
    """An explicit method: `rows[i]` gives the state at `nodes[i]`; the last row is the step itself, node 1."""

    nodes: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        sizes = [len(row) for row in self.rows]
        if sizes != list(range(1, len(self.nodes) + 1)):
            raise ValueError(f"rows: got {sizes} weights for {len(self.nodes)} nodes")
        sums = [abs(sum(row) - node) for row, node in zip(self.rows, self.nodes, strict=True)]
        if max(*sums, abs(self.nodes[-1] - 1)) > 1e-14:
            raise ValueError("nodes, rows: expected rows that sum to their nodes and a last node 1")

    def play(self, denoise: Denoiser, x: Tensor, x0: Tensor, t: float, t_next: float) -> "Stages":
        """All stages of a step from `x` at `t`, whose x0 is given; the last one, at `t_next`, is not evaluated."""
        stages = Stages([x], [x0], [[0.0]], [t])
        for row, node in zip(self.rows, self.nodes, strict=True):
            at = t_next if node == 1 else t + node * (t_next - t)
            if len(stages.y) > len(stages.x0):
                stages.x0.append(denoise(stages.y[-1], level(stages.times[-1])))
            weights = [1 - at / t] if len(row) == 1 else x0_weights(row, stages.weights, stages.times, t_next - t)
            y = toward(x0, x, at / t)  # as at / t and the weights sum to 1
            for weight, other in zip(weights[1:], stages.x0[1:], strict=True):
                y = y.add(other - x0, alpha=weight) if weight else y
            stages.weights.append(weights)
            stages.y.append(y)
            stages.times.append(at)
        return stages


@dataclass(frozen=True, eq=False)
class Stages:
    """States y of a step's stages, their x0 (the last may lack), weights of x0 in y, and times."""

    y: list[Tensor]
    x0: list[Tensor]
    weights: list[list[float]]
    times: list[float]


def x0_weights(
    row: Sequence[float], weights: Sequence[Sequence[float]], times: Sequence[float], h: float
) -> list[float]:
    """q_i of the row a_i, given those of the stages before, at `times`; also of a row of errors, which sums to 0."""
    slopes = [a / t for a, t in zip(row, times, strict=True)]
    return [h * (sum([slopes[j] * weights[j][m] for j in range(m + 1, len(row))]) - slopes[m]) for m in range(len(row))]


def combined(x: Tensor, scale: float, weights: Iterable[float], x0s: Iterable[Tensor]) -> Tensor:
    """scale·x + sum of weight·x0."""
    total = scale * x
    for weight, x0 in zip(weights, x0s, strict=True):
        total = total.add(x0, alpha=weight) if weight else total
    return total
