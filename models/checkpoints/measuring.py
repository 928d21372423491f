"""Networks that measure, from their public files, a folder of ours or the hub."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ivmix.models.checkpoints.configs import Shapes
from ivmix.models.checkpoints.load import Device, Weights, assemble, read
from ivmix.models.checkpoints.sources import Source
from ivmix.models.measuring.i3d import I3D, I3DConfig
from ivmix.models.meta import build, shapes_of


def load_i3d(source: Source, *, bn_eps: float, device: Device = "cpu", dtype: torch.dtype | None = None) -> I3D:
    """I3D of `i3d_pretrained_400.pt`, as piergiaj/pytorch-i3d names it; `bn_eps` is 1e-5 or 1e-3 (`I3DConfig`).

    Frozen, in evaluation mode. Raises FileNotFoundError, or ValueError for weights that do not fit, as `load_unet`, and
    for a folder whose config.json has another `bn_eps`.
    """
    weights = read("i3d", source, None)
    config = weights.config(I3DConfig, lambda shapes: i3d(shapes, bn_eps))
    if config.bn_eps != bn_eps:
        raise ValueError(f"bn_eps={bn_eps}, but {weights.config_file} says {config.bn_eps}")
    return assemble(I3D, config, [weights], device, dtype)


# --- configs, told by shapes ------------------------------------------------------------------------------------------


def i3d(shapes: Shapes, bn_eps: float) -> I3DConfig:
    return I3DConfig(bn_eps, shapes["logits.conv3d.weight"][0])


Tell = Callable[[Shapes], Any]
MEASURING: dict[str, tuple[type[nn.Module], type[Any], Tell]] = {
    "i3d": (I3D, I3DConfig, lambda shapes: i3d(shapes, 1e-3)),  # of shapes alone: its eps changes none
}


def described(part: str, weights: Weights) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """The config of a network that measures, None where the file does not say all of it, and the network's shapes."""
    network, kind, tell = MEASURING[part]
    config = weights.config(kind, tell)
    said = part != "i3d" or weights.config_file is not None
    return config if said else None, shapes_of(build(network, config))
