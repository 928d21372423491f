"""A network's call made faster: captured CUDA graphs, which need no Triton, or Inductor for those who ask.

A sampler calls one network many times with equal shapes. In eager mode every call launches some thousands of kernels
from Python; a CUDA graph launches the same kernels, with the same results, all at once. Nothing is compiled, so nothing
has to be installed and the first result comes as soon as without.

>>> from ivmix.models import UNet, UNetConfig
>>> fast = compile_network(UNet(UNetConfig(block_out_channels=(8,), attention_levels=(True,), norm_num_groups=4)))
>>> fast.path, fast.reason
('eager', 'the network is on cpu; CUDA graphs need a GPU, and Inductor has to be asked for')

Everything but `Recorder`, the only lines that touch a GPU, is tested without one; the tests of `Recorder` run where
CUDA is at hand.
"""

import importlib.util
import warnings
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

Mode = Literal["auto", "inductor", "off"]
Path = Literal["eager", "cuda graphs", "inductor"]

SHAPES = 8  # graphs kept for one network, each with its input and output; the longest unused goes first


@dataclass(frozen=True)
class Compiled:
    """Stands in for a network's forward: same arguments, same tensor out, a new one every time."""

    forward: Callable[..., Tensor] = field(repr=False)
    path: Path
    reason: str

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.forward(*args, **kwargs)


def compile_network(network: nn.Module, mode: Mode = "auto") -> Compiled:
    """The fastest way to call `network` that `mode` allows; `path` and `reason` of the result say which and why.

    "auto": CUDA graphs for a network on a GPU, else eager. "inductor": `torch.compile`; kernels of its own, at the
    price of a delay of seconds to minutes at the first call of every shape. "off": eager. A shape not seen before is
    recorded (compiled) anew. Calls under autograd or autocast run eagerly, so sample under `torch.no_grad()`.
    Arguments may be tensors, dataclasses and tuples of them, such as `Condition`, and hashable values. From one
    thread and one CUDA stream at a time.

    Raises ValueError for an unknown mode, and for "inductor" on a GPU without Triton.
    """
    return called(network, *choose(mode, next(network.parameters()).device.type))


def called(network: nn.Module, path: Path, reason: str) -> Compiled:
    """`network` called in the way that `choose` found."""
    match path:
        case "cuda graphs":
            return Compiled(Graphs(network, Recorder()), path, reason)
        case "inductor":
            return Compiled(traced(network), path, reason)
    return Compiled(network, path, reason)


def choose(mode: Mode, device: str) -> tuple[Path, str]:
    """The path for a network on a device of this type, and the reason."""
    match mode:
        case "off":
            return "eager", "asked for"
        case "auto" if device == "cuda":
            return "cuda graphs", "no Triton needed; a shape is recorded at its second call and replayed from then on"
        case "auto":
            return "eager", f"the network is on {device}; CUDA graphs need a GPU, and Inductor has to be asked for"
        case "inductor" if device == "cuda" and importlib.util.find_spec("triton") is None:
            raise ValueError(
                "mode='inductor' compiles to Triton on a GPU, which is not installed here: pip install triton (on "
                "Windows triton-windows), or take mode='auto', which does not need it"
            )
        case "inductor":
            needs = "a C++ compiler" if device == "cpu" else "Triton" if device == "cuda" else "its own compiler"
            return "inductor", f"asked for; needs {needs}; the first call of every shape waits while it compiles"
    raise ValueError(f"mode={mode!r}: expected 'auto', 'inductor' or 'off'")


def traced(network: nn.Module, backend: Any = "inductor") -> Callable[..., Tensor]:
    """`torch.compile`, once per shape. Beyond its limit of shapes (8) Dynamo logs a warning and stays eager."""
    compiled = torch.compile(network, backend=backend, dynamic=False)

    def forward(*args: Any, **kwargs: Any) -> Tensor:
        eager = torch.is_grad_enabled() or autocast(network)
        return (network if eager else compiled)(*args, **kwargs)

    return forward


class Graphs:
    """A network called through graphs that `record` makes of it: `record(function, device) -> (output, replay)`.

    A graph reads its inputs and weights, and writes its output, where they were when it was recorded. Hence arguments
    are copied in, the output is copied out before the next replay overwrites it (a multistep solver still holds the
    last one), and weights that have moved in memory start everything anew; weights changed in place are simply read.
    The first call of a shape runs eagerly, which also lets libraries choose kernels before anything is recorded.
    """

    def __init__(self, network: nn.Module, record: Callable[..., tuple[Tensor, Callable[[], None]]]) -> None:
        self.network, self.record = network, record
        self.programs: dict[Hashable, Callable[[list[Tensor]], Tensor] | None] = {}  # None: seen once, eagerly
        self.weights: list[int] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        if torch.is_grad_enabled() or autocast(self.network):
            return self.network(*args, **kwargs)
        if (weights := addresses(self.network)) != self.weights:
            self.programs.clear()
            self.weights = weights
        tensors: list[Tensor] = []
        call = take_out((args, tuple(sorted(kwargs.items()))), tensors)
        if call in self.programs:
            program = self.programs.pop(call) or self.program(call, tensors)
            y = program(tensors)
        else:
            program, y = None, self.network(*args, **kwargs)
        self.programs[call] = program
        if len(self.programs) > SHAPES:
            del self.programs[next(iter(self.programs))]
        return y

    def program(self, call: Hashable, tensors: list[Tensor]) -> Callable[[list[Tensor]], Tensor]:
        def eager(given: list[Tensor]) -> Tensor:
            args, kwargs = put_back(call, iter(given))
            return self.network(*args, **dict(kwargs))

        device = next(self.network.parameters()).device
        with torch.inference_mode(False), torch.no_grad():                        # buffers that any mode may write to
            buffers = [torch.empty_like(tensor, device=device) for tensor in tensors]
            try:
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


def addresses(module: nn.Module) -> list[int]:
    """Where every parameter and buffer lies in memory; plain recursion, as `parameters()` is five times slower."""
    found = [t.data_ptr() for t in (*module._parameters.values(), *module._buffers.values()) if t is not None]
    for child in module._modules.values():
        if child is not None:
            found += addresses(child)
    return found


def autocast(network: nn.Module) -> bool:
    return torch.is_autocast_enabled(next(network.parameters()).device.type)
