"""The peers: diffusers and transformers, needed by these tests alone. Without them the tests are skipped."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

# What is asked of every comparison, as max|ours - theirs| / max|theirs|. The same sums in another order differ by a few
# units in the last place per layer: 1e-16 and 1e-7, grown to about 1e-14 and 3e-6 through these networks. Any
# difference of definition (an epsilon, an activation, a norm's axes, the order of two layers) shows at 1e-6 or more.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


@pytest.fixture(scope="session")
def diffusers() -> ModuleType:
    module = pytest.importorskip("diffusers")
    module.utils.logging.set_verbosity_error()
    return module


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    module = pytest.importorskip("transformers")
    module.utils.logging.set_verbosity_error()
    module.utils.logging.disable_progress_bar()
    return module


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def agree() -> Callable[[Tensor, Tensor], None]:
    """`agree(ours, theirs)`: same shape, same dtype, and equal within tolerance (`-rP` shows by how much)."""

    def check(ours: Tensor, theirs: Tensor) -> None:
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        difference = float((ours - theirs).abs().max() / theirs.abs().max())
        print(f"max|ours - theirs| / max|theirs| = {difference:.1e}")
        assert difference <= TOLERANCE[ours.dtype]

    return check


@pytest.fixture
def normal(dtype: torch.dtype) -> Callable[..., Tensor]:
    """`normal(*shape, seed=0)`: unit normals, the same numbers in either dtype."""

    def draw(*shape: int, seed: int = 0) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)

    return draw


@pytest.fixture(scope="session")
def opened() -> Callable[..., Any]:
    """`opened(cls, folder, **dtype)`: a peer's from_pretrained, where every key must find its place."""

    def load(cls: Any, folder: Any, **options: Any) -> Any:
        network, info = cls.from_pretrained(folder, output_loading_info=True, local_files_only=True, **options)
        assert not any(info.values()), info
        return network.eval().requires_grad_(False)

    return load
