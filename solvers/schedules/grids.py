"""Grids: the levels a run visits.

Some spacings pick training levels by their index (arXiv 2305.08891, table 2), some spread network times, some place
levels freely between two ends, two are of a flow's own time; `spacings` has them by name. A grid of n steps has n + 1
sigmas, strictly decreasing, of which the last may be 0 and the first may be infinite.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

from ivmix.solvers.checks import check_number, plain_numbers

LCM_LEVELS = 50

# Indices of training levels, high to low ------------------------------------------------------------------------------


def trailing(levels: int, n: int) -> list[int]:
    """n indices levels/n apart, counted down from the last training level.

    Ties fall as in diffusers, whose NumPy steps by the rounded difference of its first two values; where that gives it
    an n + 1st index, -1, there is none here.

    >>> trailing(1000, 4)
    [999, 749, 499, 249]
    """
    step = (levels - levels / n) - levels
    return [round(levels + i * step) - 1 for i in range(n)]


def leading(levels: int, n: int, offset: int = 1) -> list[int]:
    """Indices n-1, ..., 1, 0 times levels // n, plus `offset` (Stable Diffusion's own spacing has offset 1).

    >>> leading(1000, 4)
    [751, 501, 251, 1]
    """
    return _offset([i * (levels // n) for i in reversed(range(n))], offset, levels)


def linspace(levels: int, n: int) -> list[int]:
    """n indices evenly spread over all training levels, both ends included; n >= 2. Ties fall as in diffusers.

    >>> linspace(1000, 4)
    [999, 666, 333, 0]
    """
    if n < 2:
        raise ValueError(f"n: got {n}; linspace includes both ends and needs n >= 2 (use trailing)")
    return [round(i * ((levels - 1) / (n - 1))) for i in reversed(range(n))]


def dpm_linspace(levels: int, n: int) -> list[int]:
    """`linspace` of n + 1 indices without the last, as diffusers' multistep solvers have theirs (DPM-Solver++, UniPC,
    DEIS); the step to 0 begins where its neighbour would be.

    >>> dpm_linspace(1000, 4)
    [999, 749, 500, 250]
    """
    return linspace(levels, n + 1)[:-1]


def dpm_leading(levels: int, n: int, offset: int = 1) -> list[int]:
    """Indices n, ..., 2, 1 times levels // (n + 1), plus `offset`: diffusers' multistep solvers' "leading".

    >>> dpm_leading(1000, 4)
    [801, 601, 401, 201]
    """
    return _offset([i * (levels // (n + 1)) for i in range(n, 0, -1)], offset, levels)


def simple(levels: int, n: int) -> list[int]:
    """ComfyUI's: n indices levels/n apart, counted down from the last training level and rounded up.

    >>> simple(1000, 3)
    [999, 666, 333]
    """
    step = levels / n
    return [levels - 1 - int(i * step) for i in range(n)]


def lcm(levels: int, n: int) -> list[int]:
    """n indices out of the 50 that latent consistency models are distilled on, each levels // 50 from the next, the
    first of them that of the last training level (arXiv 2310.04378, as diffusers' LCMScheduler has it).

    AnimateLCM's own code has 100 in place of 50: where n divides 100, these are "trailing".

    >>> lcm(1000, 4)
    [999, 759, 499, 259]
    """
    if n > LCM_LEVELS:
        raise ValueError(f"n: got {n} steps, expected at most the {LCM_LEVELS} levels of distillation")
    apart = levels // LCM_LEVELS
    return [apart * (LCM_LEVELS - i * LCM_LEVELS // n) - 1 for i in range(n)]


def beta(levels: int, n: int) -> list[int]:
    """Quantiles 1, (n-1)/n, ..., 1/n of Beta(0.6, 0.6) over the training levels, dense at both ends (arXiv 2407.12173,
    as ComfyUI has it). diffusers' use_beta_sigmas and the web UIs put the quantiles in sigma, which is another grid.

    >>> beta(1000, 4)
    [999, 823, 500, 176]
    """
    p = 1 - torch.arange(n, dtype=torch.float64) / n
    indices: list[int] = (beta_quantiles(p) * (levels - 1)).round().long().tolist()
    return indices


def beta_quantiles(p: Tensor, a: float = 0.6) -> Tensor:
    """The x (n,) at which Beta(a, a), 0 < a < 1, has the shares p (n,) in [0, 1] below; float64.

    The incomplete integral is x^a/B · sum of (1 - a)_k/k! / (a + k) · x^k (DLMF 8.17.7). As a function of y = x^a it is
    convex with the slope (1 - x)^(a - 1)/(a·B), so Newton's method falls from y = a·B·p to the root. By symmetry only
    x <= 1/2 is sought, where 100 terms leave less than 1e-20, and 1/2 itself is exact.
    """
    B = math.exp(2 * math.lgamma(a) - math.lgamma(2 * a))
    k = torch.arange(100, dtype=torch.float64)
    terms = torch.cat([torch.ones(1, dtype=torch.float64), ((k[1:] - a) / k[1:]).cumprod(0)]) / (a + k)
    lower = torch.minimum(p, 1 - p)
    y = a * B * lower
    for _ in range(8):
        x = y ** (1 / a)
        excess = y / B * (x[:, None] ** k @ terms) - lower
        y = y - a * B * (1 - x) ** (1 - a) * excess
    x = y ** (1 / a)
    return torch.where(p == 0.5, p, torch.where(p > 0.5, 1 - x, x))


def _offset(indices: list[int], offset: int, levels: int) -> list[int]:
    moved = [index + offset for index in indices]
    if moved[0] >= levels or moved[-1] < 0:
        raise ValueError(f"offset: got {offset}, which leaves the {levels} training levels at n = {len(indices)}")
    return moved


# Network times, high to low -------------------------------------------------------------------------------------------


def normal(first: float, last: float, n: int) -> Tensor:
    """n times from `last` down to `first`, even and not rounded, both ends included: k-diffusion's default, ComfyUI's
    "normal"; float64."""
    return torch.linspace(last, first, n, dtype=torch.float64)


def sgm_uniform(first: float, last: float, n: int) -> Tensor:
    """`normal` of n + 1 times without the last, as ComfyUI has it, after Stability's generative-models; float64."""
    return torch.linspace(last, first, n + 1, dtype=torch.float64)[:-1]


# Levels, high to low --------------------------------------------------------------------------------------------------


def karras(sigma_max: float, sigma_min: float, n: int, rho: float = 7.0) -> Tensor:
    """n levels from sigma_max to sigma_min, evenly spaced in sigma^(1/rho) (arXiv 2206.00364, eq. 5); float64."""
    _check_ends(sigma_max, sigma_min)
    check_number("rho", rho, "a finite number other than 0", lambda rho: rho != 0)
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    sigmas = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return _with_ends(sigmas, sigma_max, sigma_min)


def uniform_lam(sigma_max: float, sigma_min: float, n: int) -> Tensor:
    """n levels from sigma_max to sigma_min, evenly spaced in lam = -ln sigma (arXiv 2206.00927, section 3.4); float64.

    k-diffusion and ComfyUI call it "exponential", diffusers use_exponential_sigmas and use_lu_lambdas.
    """
    _check_ends(sigma_max, sigma_min)
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    return _with_ends(sigma_max * (sigma_min / sigma_max) ** ramp, sigma_max, sigma_min)


def shifted_flow(n: int, shift: float = 1.0) -> Tensor:
    """The n levels of even flow times s = 1, (n-1)/n, ..., 1/n, shifted to shift·s / (1 + (shift - 1)·s); float64.

    In sigma = s / (1 - s) the shift is a factor (arXiv 2403.03206, eq. 23). The first level is inf.

    >>> shifted_flow(4, 3.0)
    tensor([inf, 9., 3., 1.], dtype=torch.float64)
    """
    check_number("shift", shift, "a finite number > 0", lambda shift: shift > 0)
    k = torch.arange(n, 0, -1, dtype=torch.float64)
    return shift * (k / (n - k))


def linear_quadratic(n: int) -> Tensor:
    """n shares of the whole noise from 1 down: even steps over the first half of them, which take away 1/40 in all,
    then a parabola that joins smoothly and would end at 0 (Mochi's, by ComfyUI's name); float64.

    >>> linear_quadratic(4)
    tensor([1.0000, 0.9875, 0.9750, 0.7250], dtype=torch.float64)
    """
    i, even = torch.arange(n, dtype=torch.float64), max(1, n // 2)
    line = 0.025 / even
    bend = (1 - line * n) / max(1, n - even) ** 2
    return 1 - line * i - bend * (i - even).clamp(min=0) ** 2


# Any grid -------------------------------------------------------------------------------------------------------------


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
