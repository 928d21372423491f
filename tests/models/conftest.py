"""Public key lists, and networks small enough to run in milliseconds."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ivmix.models import MotionConfig, SpaceTimeConfig, UNetConfig, VAEConfig

MANIFESTS = Path(__file__).parent.parent / "data" / "manifests"

Shapes = dict[str, tuple[int, ...]]


def flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, node in tree.items():
        if isinstance(node, dict):
            yield from flatten(node, f"{prefix}{name}.")
        else:
            yield prefix + name, tuple(node)


@pytest.fixture
def manifest() -> Callable[[str], tuple[Shapes, int]]:
    """`manifest(name)` -> shapes by key, published number of parameters."""

    def read(name: str) -> tuple[Shapes, int]:
        raw = json.loads((MANIFESTS / f"{name}.json").read_text())
        shapes = dict(flatten(raw["keys"]))
        assert len(shapes) == raw["tensors"], f"{name}.json is damaged"
        return shapes, raw["parameters"]

    return read


@pytest.fixture
def shapes_of() -> Callable[[nn.Module], Shapes]:
    return lambda network: {key: tuple(value.shape) for key, value in network.state_dict().items()}


@pytest.fixture
def normal() -> Callable[..., Tensor]:
    """`normal(*shape, seed=0)`: float64 unit normals."""

    def draw(*shape: int, seed: int = 0) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    return draw


@pytest.fixture
def difference() -> Callable[[Tensor, Tensor], float]:
    """max|a - b| / max|b|, the measure every tolerance of these tests is stated in."""
    return lambda a, b: float((a - b).abs().max() / b.abs().max())


@pytest.fixture
def image_config() -> UNetConfig:
    return UNetConfig(
        block_out_channels=(8, 16, 16), attention_levels=(True, True, False), layers_per_block=1,
        cross_attention_dim=12, num_attention_heads=2, norm_num_groups=4,
    )  # fmt: skip


@pytest.fixture
def motion() -> MotionConfig:
    return MotionConfig(num_attention_heads=2, max_frames=6, mid_block=True)


@pytest.fixture
def space_time_config() -> UNetConfig:
    """As VideoCrafter2: heads of one width (8), so more of them on wider levels, and an fps embedding."""
    return UNetConfig(
        block_out_channels=(8, 16, 24), attention_levels=(True, True, False), layers_per_block=1,
        cross_attention_dim=12, num_attention_heads=(1, 2, 3), norm_num_groups=4, temporal=SpaceTimeConfig(fps=True),
    )  # fmt: skip


@pytest.fixture
def vae_config() -> VAEConfig:
    return VAEConfig(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4)
