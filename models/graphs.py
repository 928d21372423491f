"""A network's calls recorded as CUDA graphs: the same kernels, with the same results, launched all at once.

Everything but `Recorder`, the only lines that touch a GPU, is tested without one; the tests of `Recorder` run where
CUDA is at hand.
"""

import warnings
from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

SHAPES = 8  # graphs kept for one network, each with its input and output; the longest unused goes first


class Graphs:
    """A network called through graphs that `record` makes of it: `record(function, device) -> (output, replay)`.

    A graph reads its inputs and weights, and writes its output, where they were when it was recorded. Hence arguments
    are copied in, the output is copied out before the next replay overwrites it (a multistep solver still holds the
    last one), and weights that have moved in memory start everything anew; weights changed in place are simply read.
    The first call of a shape runs eagerly, which also lets libraries choose kernels before anything is recorded.

    `forward` is how the network is called, where that is another way than by itself: a compiled one compiles when it is
    first called, which nothing that is being recorded may do.
    """

    def __init__(
        self, network: nn.Module, record: Callable[..., tuple[Tensor, Callable[[], None]]],
        forward: Callable[..., Tensor] | None = None,
    ) -> None:  # fmt: skip
        self.network, self.record, self.forward = network, record, forward or network
        self.programs: dict[Hashable, Callable[[list[Tensor]], Tensor] | None] = {}  # None: seen once, eagerly
        self.weights = Weights(network)
        self.addresses: list[int] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        if eagerly(self.network):
            return self.network(*args, **kwargs)
        if (addresses := self.weights.addresses()) != self.addresses:
            self.programs.clear()
            self.addresses = addresses
        tensors: list[Tensor] = []
        call = take_out((args, tuple(sorted(kwargs.items()))), tensors)
        if call in self.programs:
            program = self.programs.pop(call) or self.program(call, tensors)
            y = program(tensors)
        else:
            program, y = None, self.forward(*args, **kwargs)
        self.programs[call] = program
        if len(self.programs) > SHAPES:
            del self.programs[next(iter(self.programs))]
        return y

    def program(self, call: Hashable, tensors: list[Tensor]) -> Callable[[list[Tensor]], Tensor]:
        def eager(given: list[Tensor]) -> Tensor:
            args, kwargs = put_back(call, iter(given))
            return self.forward(*args, **dict(kwargs))

        device = next(self.network.parameters()).device
        with torch.inference_mode(False), torch.no_grad():                        # buffers that any mode may write to
            buffers = [torch.empty_like(tensor, device=device) for tensor in tensors]
            try:
                if self.forward is not self.network:
                    eager(buffers)  # compiled for what it will be recorded with: not for tensors of inference mode
                output, replay = self.record(lambda: eager(buffers), device)
            except RuntimeError as error:
                warnings.warn(f"no CUDA graph of {type(self.network).__name__}, it runs eagerly: {error}", stacklevel=4)
                return eager

        def replayed(given: list[Tensor]) -> Tensor:
            for buffer, tensor in zip(buffers, given, strict=True):
                # fill_ takes t, a number on the CPU, along with the launch; copy_ would wait for the GPU.
                (buffer.copy_ if tensor.ndim else buffer.fill_)(tensor)
            replay()
            return output.clone()

        return replayed


class Recorder:
    """Records CUDA graphs on one stream, in one pool of memory: safe, as no result stays there when the next one runs.

    That holds for all networks of a pair together: a sampler combines what one of them said before it asks the next,
    and what it said has been copied out by then. So the pool grows to what the dearest of them needs, not to the sum.
    The last graph is kept for its pool: CUDA's allocator takes no new graph into a pool that no graph uses any more.
    """

    stream: Any = None
    last: Any = None

    def __call__(self, function: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, Callable[[], None]]:
        if device.type != "cuda":
            raise RuntimeError(f"the network has moved to {device}")
        if self.stream is None or self.stream.device != device:
            self.stream, self.last = torch.cuda.Stream(device), None
        graph = torch.cuda.CUDAGraph()
        pool = self.last.pool() if self.last else None
        # The outer `with` restores the caller's stream where a recording fails; torch.cuda.graph then does not.
        with torch.cuda.stream(self.stream), torch.cuda.graph(graph, pool, self.stream, "thread_local"):
            output = function()
        self.last = graph
        return output, graph.replay


class TensorLike(NamedTuple):
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


class Fields(NamedTuple):
    kind: type
    values: tuple[tuple[str, Any], ...]


def take_out(value: Any, tensors: list[Tensor]) -> Any:
    """What is left of a value when its tensors are put on the list: equal for arguments that one program can serve."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return TensorLike(value.shape, value.dtype, value.device)
    if is_dataclass(value) and not isinstance(value, type):
        return Fields(type(value), tuple((f.name, take_out(getattr(value, f.name), tensors)) for f in fields(value)))
    return tuple(take_out(item, tensors) for item in value) if isinstance(value, tuple) else value


def put_back(left: Any, tensors: Iterator[Tensor]) -> Any:
    """Undoes `take_out`, with other tensors in the same places."""
    if isinstance(left, TensorLike):
        return next(tensors)
    if isinstance(left, Fields):
        return left.kind(**{name: put_back(value, tensors) for name, value in left.values})
    return tuple(put_back(item, tensors) for item in left) if isinstance(left, tuple) else left


class Weights:
    """Where a network's parameters and buffers lie, read from a flat list of what holds them.

    A tensor that moved or was replaced shows there; a module that was replaced shows at its parent, and the list is
    then made anew. Of the 1,219 modules of AnimateDiff's UNet this takes .14 ms a call on a CPU, a walk 1.5.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.collect()

    def collect(self) -> None:
        modules = list(self.network.modules())
        self.holders = [held for m in modules for held in (m._parameters, m._buffers) if held]
        self.children = [(m._modules, list(m._modules.values())) for m in modules if m._modules]

    def addresses(self) -> list[int]:
        if any(list(now.values()) != then for now, then in self.children):
            self.collect()
        return [tensor.data_ptr() for held in self.holders for tensor in held.values() if tensor is not None]


def eagerly(network: nn.Module) -> bool:
    """Whether autograd or autocast wants the network's own call."""
    return torch.is_grad_enabled() or torch.is_autocast_enabled(next(network.parameters()).device.type)
