"""Curves of beta, the variance that a training step adds, as the cumulative products of 1 - beta: alpha_bar (n,)."""

import math

import torch
from torch import Tensor


def linear(beta_start: float, beta_end: float, n: int) -> Tensor:
    _check_ends(beta_start, beta_end)
    return _alpha_bar(torch.linspace(beta_start, beta_end, n, dtype=torch.float64))


def scaled_linear(beta_start: float, beta_end: float, n: int) -> Tensor:
    """Linear in the square root of beta."""
    _check_ends(beta_start, beta_end)
    return _alpha_bar(torch.linspace(beta_start**0.5, beta_end**0.5, n, dtype=torch.float64) ** 2)


def cosine(s: float, n: int, beta_max: float) -> Tensor:
    """alpha_bar itself is cos²((k/n + s)/(1 + s)·pi/2), k = 1, ..., n, as far as no beta exceeds `beta_max`."""
    if not 0 <= s < math.inf:
        raise ValueError(f"s: got {s}, expected a finite number >= 0")
    if not 0 < beta_max < 1:
        raise ValueError(f"beta_max: got {beta_max}, expected 0 < beta_max < 1")
    curve = torch.cos((torch.arange(n + 1, dtype=torch.float64) / n + s) / (1 + s) * math.pi / 2) ** 2
    return _alpha_bar((1 - curve[1:] / curve[:-1]).clamp(max=beta_max))


def _alpha_bar(betas: Tensor) -> Tensor:
    return (1 - betas).cumprod(0)


def _check_ends(beta_start: float, beta_end: float) -> None:
    if not 0 < beta_start <= beta_end < 1:
        raise ValueError(f"beta_start, beta_end: got {beta_start}, {beta_end}, expected 0 < beta_start <= beta_end < 1")
