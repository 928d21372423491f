"""Randomness: one generator per sample, on the CPU, so that a sample is the same whatever the batch, device or
dtype."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from ivmix.solvers.checks import whole
from ivmix.solvers.denoiser import Noise

_STEPS = 0x9E3779B97F4A7C15  # separates the noise of the steps from the initial noise of the same seed


def initial_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Unit normals (b, *shape), b = len(seeds), float32 on the CPU; row k depends on seeds[k] alone.

    >>> bool((initial_noise([3, 5], (4, 8, 2, 2))[1] == initial_noise([5], (4, 8, 2, 2))[0]).all())
    True
    """
    return _draw([Generator().manual_seed(_seed(seed)) for seed in seeds], shape)


def normal_noise(seeds: Sequence[int], shape: Sequence[int]) -> Noise:
    """A source of fresh unit normals (b, *shape) for stochastic legs and solvers, one stream per seed.

    Independent of `initial_noise` of the same seeds. The returned callable draws on: use one per run.
    """
    generators = [Generator().manual_seed(_seed(seed) ^ _STEPS) for seed in seeds]
    return lambda sigma, sigma_next: _draw(generators, shape)


def draw(noise: Noise | None, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """Unit normals of x's shape, dtype and device from `noise`; another shape is a ValueError rather than broadcast."""
    if noise is None:
        raise ValueError("noise: got None, expected a source of unit normals, such as normal_noise(seeds, shape)")
    xi = noise(sigma, sigma_next).to(x)
    if xi.shape != x.shape:
        raise ValueError(f"noise: got shape {tuple(xi.shape)}, expected the state's, {tuple(x.shape)}")
    return xi


def _draw(generators: Sequence[Generator], shape: Sequence[int]) -> Tensor:
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])


def _seed(seed: int) -> int:
    return whole("seeds", seed, 0, 2**63 - 1)
