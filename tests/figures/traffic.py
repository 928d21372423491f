"""What a forward pass moves through memory, counted on meta: every kernel reads its tensors and writes what it makes.

Once each: what a kernel reads twice, as norms do, or keeps in a cache, is not seen. Views move nothing.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ivmix.models.cost import Kernels
from ivmix.models.meta import build
from ivmix.models.predictor import PredictorConfig

NOTHING = ("empty", "lift_fresh", "detach")


@dataclass(frozen=True)
class Traffic:
    """Of one forward pass: bytes by operation, and how many kernels."""

    moved: dict[str, int]
    kernels: int

    @property
    def total(self) -> int:
        return sum(self.moved.values())


@torch.no_grad()
def forward_traffic(
    config: PredictorConfig, frames: int, height: int, width: int, *, rows: int = 2, temporal: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Traffic:  # fmt: skip
    """Of `rows` clips of latents (frames, height, width), as `forward_cost` counts what is computed of them."""
    kernels = Kernels()
    network = build(config.network, config).to(dtype)
    with torch.device("meta"):
        condition = network.condition(torch.empty(rows, config.tokens, config.context_dim, dtype=dtype),
                                      **network.told(rows))  # fmt: skip
        z = torch.empty(rows, config.in_channels, frames, height, width, dtype=dtype)
    t = torch.tensor(500.0)
    with kernels, Moved() as moved:
        network(z, t, condition, temporal=temporal)
    return Traffic(dict(moved.bytes), moved.kernels)


class Moved(TorchDispatchMode):
    """Counts the bytes of what runs inside."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()
        self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        read, written = _tensors((args, kwargs)), _tensors(out)
        storages = {tensor.untyped_storage()._cdata for tensor in read}
        view = not func._schema.is_mutable and any(t.untyped_storage()._cdata in storages for t in written)
        if name == "empty_like":  # what `Kernels` makes of a norm or an activation
            name = "norms and activations"
        elif view or name.startswith(NOTHING):
            return out
        self.kernels += 1
        self.bytes[name] += sum(map(_size, read)) + sum(map(_size, written))
        return out


def _size(tensor: Tensor) -> int:
    """Bytes that lie in memory: repeated ones once."""
    return min(tensor.nbytes, tensor.untyped_storage().nbytes())


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
