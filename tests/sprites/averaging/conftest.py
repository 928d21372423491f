"""What both files of tests draw."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture
def normal() -> Callable[..., Tensor]:
    """`normal(*shape, seed=0)`: float64 unit normals."""

    def draw(*shape: int, seed: int = 0) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    return draw
