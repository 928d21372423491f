"""A network called with its repeated blocks compiled by `torch.compile`, all else as it is.

AnimateDiff's UNet has 58 resnets, transformers and motion modules of 22 shapes: each shape is compiled once, where the
whole network is one program of more than a thousand kernels.
"""

import warnings
from collections.abc import Callable
from functools import cached_property
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from ivmix.models.graphs import eagerly
from ivmix.models.triton import fault

LIMIT = 2**16  # programs of one kind of block: as many as networks, shapes and layers ask for


class InBlocks:
    """`network` called with all modules of the kinds that it says repeat compiled; as a whole where it says none.

    Compiled they are during a call alone: the network itself stays as it is. What they read is where it is now, weights
    too. What cannot be compiled runs eagerly from then on, with a warning; torch (2.13) then stays between Python's
    calls for the rest of the process, which take twice as long and keep what they were given until they return.
    `backend` is "inductor", "cudagraphs" or whatever `torch.compile` takes.
    """

    def __init__(self, network: nn.Module, backend: Any) -> None:
        self.network, self.backend = network, backend

    @cached_property
    def blocks(self) -> list[tuple[nn.Module, Callable[..., Tensor]]]:
        """Every block with its compiled forward. One with a forward of its own, as in a view, is none of the many."""
        fault()  # torch's compiler looks for Triton, whatever it compiles to
        kinds = getattr(self.network, "repeated", ()) or (type(self.network),)
        found = (module for module in self.network.modules() if isinstance(module, kinds))
        blocks: list[nn.Module] = [block for block in found if "forward" not in vars(block)]
        compiled = {
            kind: torch.compile(kind.forward, backend=self.backend, dynamic=False) for kind in {type(m) for m in blocks}
        }
        return [(block, MethodType(compiled[type(block)], block)) for block in blocks]

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        if eagerly(self.network) or not self.blocks:
            return self.network(*args, **kwargs)
        try:
            return self.compiled(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:  # of tracing, or of what compiles for the backend
            self.blocks = []
            said, name = " ".join(str(error).split())[:200], type(self.network).__name__
            warnings.warn(f"{name} is not compiled, it runs eagerly: {said}", stacklevel=3)
            return self.network(*args, **kwargs)

    def compiled(self, *args: Any, **kwargs: Any) -> Tensor:
        graphs = self.backend == "cudagraphs"
        if graphs:  # what blocks returned in the last call may be overwritten from here on, and not before
            torch.compiler.cudagraph_mark_step_begin()
        for block, forward in self.blocks:
            block.forward = forward
        try:
            with torch._dynamo.config.patch(recompile_limit=LIMIT, accumulated_recompile_limit=LIMIT):
                output = self.network(*args, **kwargs)
        finally:
            for block, _ in self.blocks:
                del block.forward
        return output.clone() if graphs else output  # where all is one block, graphs own what it returned
