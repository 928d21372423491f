"""How a schedule joins its training levels: maps between t, sigma and alpha, on single floats in double precision.

| path | t is linear in | alpha between levels |
|---|---|---|
| "vp" | log sigma | 1 / sqrt(1 + sigma²) |
| "ve" | log sigma | 1 |
| "flow" | sigma / (1 + sigma) | 1 / (1 + sigma) |

times a factor, linear in t, which is 1 for all standard schedules and carries those that break the identity.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ivmix.solvers.checks import plain_numbers, within

Path = Literal["vp", "ve", "flow"]


@dataclass(frozen=True, eq=False)
class Maps:
    """Rising times and levels, and their alphas, of which the last may be 0: lists of one length.

    A value that the slack allows outside the range is its end; nothing else snaps.
    """

    path: Path
    times: list[float]
    sigmas: list[float]
    alphas: list[float]
    factors: list[float]

    @classmethod
    def of(cls, path: Path, times: list[float], alphas: list[float], sigma_vps: list[float]) -> "Maps":
        sigmas = [s / a if a else math.inf for a, s in zip(alphas, sigma_vps, strict=True)]
        factors = [PATHS[path].factor(a, s) for a, s in zip(alphas, sigma_vps, strict=True)]
        return cls(path, times, sigmas, alphas, factors)

    def sigma(self, t: float) -> float:
        k, share = self._locate(t, self.times, self.times, "t")
        if share in (0, 1):
            return self.sigmas[k + int(share)]
        return PATHS[self.path].unwarp(_between(self._warped, k, share))

    def t(self, sigma: float) -> float:
        k, share = self._locate(sigma, self.sigmas, self._warped, "sigma", PATHS[self.path].warp)
        return _between(self.times, k, share)

    def alpha(self, sigma: float) -> float:
        if sigma == 0:
            return self.factors[0] * PATHS[self.path].alpha(0.0)
        k, share = self._locate(sigma, self.sigmas, self._warped, "sigma", PATHS[self.path].warp)
        if share in (0, 1):
            return self.alphas[k + int(share)]
        return _between(self.factors, k, share) * PATHS[self.path].alpha(sigma)

    def _locate(
        self,
        value: float,
        table: list[float],
        warped: list[float],
        name: str,
        warp: Callable[[float], float] = lambda value: value,
    ) -> tuple[int, float]:
        """Segment k and share of `value` between levels k and k + 1 as `warped`; exactly 0 or 1 on a level, and on
        what the slack allows outside the range."""
        if not within(value, table[0], table[-1]):
            clean = ", a clean clip, which no network was trained on" if name == "sigma" and value == 0 else ""
            raise ValueError(
                f"{name}: got {value:g}{clean}, expected a value in [{table[0]:g}, {table[-1]:g}], the schedule's range"
            )
        value = min(max(value, table[0]), table[-1])
        k = min(bisect_right(table, value), len(table) - 1) - 1
        if value in (table[k], table[k + 1]):
            return k, float(value == table[k + 1])
        if math.isinf(self._warped[k + 1]):
            if within(value, table[0], table[k]):
                return k, 0.0
            raise ValueError(
                f"{name}: got {value:g}, between the last two training levels, the last of which is infinite"
            )
        return k, (warp(value) - warped[k]) / (warped[k + 1] - warped[k])

    @cached_property
    def _warped(self) -> list[float]:
        return [PATHS[self.path].warp(sigma) for sigma in self.sigmas]


def each(function: Callable[[float], float], values: float | Tensor, name: str) -> Tensor:
    """`function` of every entry of the argument `name`, as a float64 CPU tensor of the same shape."""
    given = plain_numbers(name, values)
    return torch.tensor([function(value) for value in given.flatten().tolist()], dtype=torch.float64).reshape(
        given.shape
    )


def _between(table: list[float], k: int, share: float) -> float:
    """Linear interpolation, exact at both ends."""
    return (1 - share) * table[k] + share * table[k + 1] if 0 < share < 1 else table[k + int(share)]


class _VP:
    """t is linear in log sigma, and alpha² + sigma_vp² = 1 up to a factor."""

    @staticmethod
    def warp(sigma: float) -> float:
        return math.log(sigma)

    @staticmethod
    def unwarp(warped: float) -> float:
        return math.exp(warped)

    @staticmethod
    def alpha(sigma: float) -> float:
        return 1 / math.sqrt(1 + sigma**2)

    @staticmethod
    def factor(alpha: float, sigma_vp: float) -> float:
        return math.hypot(alpha, sigma_vp)


class _VE(_VP):
    """t is linear in log sigma, and alpha = 1 up to a factor."""

    @staticmethod
    def alpha(sigma: float) -> float:
        return 1.0

    @staticmethod
    def factor(alpha: float, sigma_vp: float) -> float:
        return alpha


class _Flow(_VP):
    """t is linear in sigma / (1 + sigma), written so that inf gives 1, and alpha + sigma_vp = 1 up to a factor."""

    @staticmethod
    def warp(sigma: float) -> float:
        return 1 / (1 + 1 / sigma)

    @staticmethod
    def unwarp(warped: float) -> float:
        return warped / (1 - warped)

    @staticmethod
    def alpha(sigma: float) -> float:
        return 1 / (1 + sigma)

    @staticmethod
    def factor(alpha: float, sigma_vp: float) -> float:
        return alpha + sigma_vp


PATHS: dict[str, type[_VP]] = {"vp": _VP, "ve": _VE, "flow": _Flow}
