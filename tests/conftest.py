"""Fixtures for every folder of tests."""

import os
from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from torch import nn

collect_ignore = ["fuzz.py"]  # a program, with nothing for doctest

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread a worker: they share the cores, and so do the commands they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

N = TypeVar("N", bound=nn.Module)


@pytest.fixture(scope="session")
def randomised() -> Callable[..., nn.Module]:
    """`randomised(network, seed=0, dtype=torch.float64)`: the network with weights far from any neutral start.

    Fan-in scaling keeps activations of order one; norms and biases are drawn too, so that none drops out of a test.
    """

    def randomise(network: N, seed: int = 0, dtype: torch.dtype = torch.float64) -> N:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                if parameter.ndim > 1:
                    draw *= 1.5 / parameter[0].numel() ** 0.5
                else:
                    draw = 0.3 * draw + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
                parameter.copy_(draw)
        return network.to(dtype).eval().requires_grad_(False)

    return randomise
