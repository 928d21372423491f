"""Grids: the levels a run visits.

Three spacings pick training levels by their index (arXiv 2305.08891, table 2), two place levels freely between two
ends, one shifts the even times of a flow. A grid of n steps has n + 1 sigmas, strictly decreasing, of which the last
may be 0 and the first may be infinite.
"""

from itertools import pairwise

import torch
from torch import Tensor

from ivmix.solvers.checks import check_number, plain_numbers


def leading(levels: int, n: int, offset: int = 1) -> list[int]:
    """Indices n-1, ..., 1, 0 times levels // n, plus `offset` (Stable Diffusion's own spacing has offset 1).

    >>> leading(1000, 4)
    [751, 501, 251, 1]
    """
    indices = [i * (levels // n) + offset for i in reversed(range(n))]
    if indices[0] >= levels or indices[-1] < 0:
        raise ValueError(f"offset: got {offset}, which leaves the {levels} training levels at n = {n}")
    return indices


def linspace(levels: int, n: int) -> list[int]:
    """n indices evenly spread over all training levels, both ends included; n >= 2.

    >>> linspace(1000, 4)
    [999, 666, 333, 0]
    """
    if n < 2:
        raise ValueError(f"n: got {n}; linspace includes both ends and needs n >= 2 (use trailing)")
    return [round(i * (levels - 1) / (n - 1)) for i in reversed(range(n))]


def trailing(levels: int, n: int) -> list[int]:
    """n indices levels/n apart, counted down from the last training level.

    >>> trailing(1000, 4)
    [999, 749, 499, 249]
    """
    return [round(levels - i * levels / n) - 1 for i in range(n)]


def karras(sigma_max: float, sigma_min: float, n: int, rho: float = 7.0) -> Tensor:
    """n levels from sigma_max to sigma_min, evenly spaced in sigma^(1/rho) (arXiv 2206.00364, eq. 5); float64."""
    _check_ends(sigma_max, sigma_min)
    check_number("rho", rho, "a finite number other than 0", lambda rho: rho != 0)
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    sigmas = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return _with_ends(sigmas, sigma_max, sigma_min)


def uniform_lam(sigma_max: float, sigma_min: float, n: int) -> Tensor:
    """n levels from sigma_max to sigma_min, evenly spaced in lam = -ln sigma (arXiv 2206.00927, section 3.4);
    float64."""
    _check_ends(sigma_max, sigma_min)
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    return _with_ends(sigma_max * (sigma_min / sigma_max) ** ramp, sigma_max, sigma_min)


def shifted_flow(n: int, shift: float) -> Tensor:
    """The n levels of even flow times s = 1, (n-1)/n, ..., 1/n, shifted to shift·s / (1 + (shift - 1)·s); float64.

    In sigma = s / (1 - s) the shift is a factor (arXiv 2403.03206, eq. 23). The first level is inf.

    >>> shifted_flow(4, 3.0)
    tensor([inf, 9., 3., 1.], dtype=torch.float64)
    """
    check_number("shift", shift, "a finite number > 0", lambda shift: shift > 0)
    k = torch.arange(n, 0, -1, dtype=torch.float64)
    return shift * (k / (n - k))


def check_grid(sigmas: Tensor, *, direction: str = "down") -> Tensor:
    """`sigmas` as a float64 CPU grid, or a ValueError that says what is wrong with it.

    `direction` is "down" (sampling: decreasing, the last level may be 0, the first may be inf) or "any" (a grid may
    also increase, from a clean clip at 0 or above: inversion; it may end at a flow's noise, inf).
    """
    grid = plain_numbers("sigmas", sigmas)
    if grid.ndim != 1 or len(grid) < 2:
        raise ValueError(f"sigmas: got shape {tuple(grid.shape)}, expected (n + 1,) with n >= 1 steps")
    values: list[float] = grid.tolist()
    if not all(value >= 0 for value in values):
        raise ValueError("sigmas: got a negative value or NaN, expected levels >= 0")
    rising = values[0] < values[-1]
    if rising and direction == "down":
        raise ValueError(f"sigmas: got a grid rising from {values[0]:g} to {values[-1]:g}, expected a decreasing one")
    for i, (a, b) in enumerate(pairwise(values)):
        if not (a < b if rising else a > b):
            raise ValueError(
                f"sigmas: got {a:g} then {b:g} at positions {i}, {i + 1}, expected strictly monotone levels"
            )
    return grid


def _check_ends(sigma_max: float, sigma_min: float) -> None:
    for name, value in (("sigma_min", sigma_min), ("sigma_max", sigma_max)):
        check_number(name, value, "a finite level > 0", lambda value: value > 0)
    if not sigma_min < sigma_max:
        raise ValueError(
            f"sigma_min, sigma_max: got {sigma_min:g}, {sigma_max:g}, expected 0 < sigma_min < sigma_max < inf"
        )


def _with_ends(sigmas: Tensor, sigma_max: float, sigma_min: float) -> Tensor:
    """Rounding must not push an end out of a network's range."""
    sigmas[-1] = sigma_min
    sigmas[0] = sigma_max
    return sigmas
