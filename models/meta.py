"""Networks without weights: built on meta, where shapes cost no memory."""

from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

N = TypeVar("N", bound=nn.Module)

MOST_TENSORS = 5_000  # of a network; the largest public one here has a third of it


class Blueprint(TorchFunctionMode):
    """Modules built inside draw no initial weights, and cannot grow without bound.

    On meta, drawing imports torch's compiler: seconds for nothing.
    """

    tensors = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else (kwargs or {})["tensor"]
        if func is torch.empty:
            self.tensors += 1
            if self.tensors > MOST_TENSORS:
                raise ValueError(f"more than {MOST_TENSORS:,} tensors")
        return func(*args, **(kwargs or {}))


def build(network: type[N], config: Any) -> N:
    """The network on meta: shapes without memory."""
    with torch.device("meta"), Blueprint():
        return network(config)


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}
