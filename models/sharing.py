"""Networks that share their tensors."""

import copy
from typing import TypeVar

from torch import nn

N = TypeVar("N", bound=nn.Module)


def sharing_tensors(network: N) -> N:
    """Another network of the same modules that holds the very same tensors."""
    tensors = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
