"""Weights that are on the device for their own work alone, and rest in CPU memory between.

What draws never changes a weight. So the copy at rest stays where it is, pinned where CUDA is, and to leave is to let
go of the other one: bytes move in one direction, to the device, behind what it still computes. A tensor moves inside
the object that networks hold, so that what two of them share, the spatial weights of AnimateDiff's two sides or of a
LoRA and its base, is there for both, and stays where one follows the other.

A captured graph reads weights where they lay when it was recorded, Inductor's on a GPU too: a pair with offload is
refused with any mode of compiling but "off".
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)


@dataclass(eq=False)
class Offload:
    """Of the networks that `rest`, only the one last brought is on the device. ValueError for a device without memory
    of its own."""

    device: torch.device
    at_work: nn.Module | None = field(default=None, repr=False)
    there: dict[Tensor, Tensor] = field(default_factory=dict, repr=False)  # what is on the device -> its copy at rest

    def __post_init__(self) -> None:
        if not has_own_memory(self.device):
            raise ValueError(f"offload on {self.device}: weights are in its memory already, expected an accelerator "
                             "with memory of its own, such as cuda")  # fmt: skip
        self.device = torch.empty(0, device=self.device).device  # with its number

    def rest(self, network: N) -> N:
        """`network`, just loaded, its weights taken to CPU memory."""
        for tensor in tensors_of(network):
            if tensor.device == self.device and tensor not in self.there:
                tensor.data = at_rest(tensor)
        self.leave()
        return network

    def bring(self, network: N) -> N:
        """`network`, its weights on the device, and of others only what it shares with them."""
        if network is not self.at_work:
            self.at_work, own = None, dict.fromkeys(tensors_of(network))  # nothing is, if memory ends on the way
            self._keep(own)
            for tensor in own:
                if tensor not in self.there and tensor.device.type == "cpu":
                    come = tensor.to(self.device, non_blocking=True)
                    tensor.data, self.there[tensor] = come, tensor.detach()
            self.at_work = network
        return network

    def leave(self) -> None:
        """Nothing is on the device."""
        self._keep({})
        self.at_work = None

    def brought(self, network: nn.Module, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """`forward`, to which `network` is brought at every call."""

        def alone(*arguments: Any, **named: Any) -> Tensor:
            self.bring(network)
            return forward(*arguments, **named)

        return alone

    def _keep(self, wanted: dict[Tensor, None]) -> None:
        for tensor in [tensor for tensor in self.there if tensor not in wanted]:
            tensor.data = self.there.pop(tensor)


def has_own_memory(device: torch.device) -> bool:
    """Whether weights at rest in CPU memory take none of the device's."""
    return device.type not in ("cpu", "mps")


def at_rest(tensor: Tensor) -> Tensor:
    """A copy in CPU memory, from which CUDA can fetch it without waiting."""
    pinned = tensor.device.type == "cuda"
    return torch.empty_like(tensor, device="cpu", pin_memory=pinned).copy_(tensor.detach())


def tensors_of(*networks: nn.Module) -> list[Tensor]:
    """All that networks hold, what they share once."""
    return list(dict.fromkeys(tensor for n in networks for tensor in (*n.parameters(), *n.buffers())))


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes."""
    return sum(tensor.nbytes for tensor in tensors)
