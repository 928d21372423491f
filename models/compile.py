"""A network's call made faster: captured CUDA graphs, which need no Triton, or torch.compile for those who ask.

A sampler calls one network many times with equal shapes. In eager mode every call launches some thousands of kernels
from Python; a CUDA graph launches the same kernels, with the same results, all at once. Nothing is compiled, so nothing
has to be installed and the first result comes as soon as without.

>>> from ivmix.models import UNet, UNetConfig
>>> fast = compile_network(UNet(UNetConfig(block_out_channels=(8,), attention_levels=(True,), norm_num_groups=4)))
>>> fast.path, fast.reason
('eager', 'the network is on cpu; CUDA graphs need a GPU, and Inductor has to be asked for')
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import Tensor, nn

from ivmix.models.graphs import Graphs, Recorder
from ivmix.models.in_blocks import InBlocks
from ivmix.models.triton import fault, missing

Mode = Literal["auto", "graphs", "cudagraphs", "inductor", "off"]
Path = Literal["eager", "cuda graphs", "cudagraphs", "inductor"]


@dataclass(frozen=True)
class Compiled:
    """Stands in for a network's forward: same arguments, same tensor out, a new one every time."""

    forward: Callable[..., Tensor] = field(repr=False)
    path: Path
    reason: str
    recorder: Recorder = field(repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.forward(*args, **kwargs)

    def of(self, network: nn.Module) -> "Compiled":
        """Another network called in the same way, its graphs in the same memory."""
        return called(network, self.path, self.reason, self.recorder)


def compile_network(network: nn.Module, mode: Mode = "auto", recorder: Recorder | None = None) -> Compiled:
    """The fastest way to call `network` that `mode` allows; `path` and `reason` of the result say which and why.

    "auto": captured CUDA graphs for a network on a GPU, else eager. "graphs": these, or ValueError. "cudagraphs":
    `torch.compile` with the backend of that name, on a GPU, without Triton. "inductor": `torch.compile`; kernels of its
    own, on a GPU Triton's, launched there by captured graphs again. "off": eager.

    What is compiled are the blocks of which a network has many (`Predictor.repeated`), each shape of block once. A
    shape of latents not seen before is recorded (compiled) anew, while its first calls wait. Calls under autograd or
    autocast run eagerly, so sample under `torch.no_grad()`. Arguments may be tensors, dataclasses and tuples of them,
    such as `Condition`, and hashable values. From one thread and one CUDA stream at a time. Networks that are never
    called at once may share a `recorder`, and with it the memory of graphs.

    Raises ValueError for an unknown mode, one that the network's device cannot have, and "inductor" on a GPU without
    Triton.
    """
    path, reason = choose(mode, next(network.parameters()).device.type)
    return called(network, path, reason, recorder or Recorder())


def called(network: nn.Module, path: Path, reason: str, recorder: Recorder) -> Compiled:
    """`network` called in the way that `choose` found."""
    forward: Callable[..., Tensor] = network
    if path in ("inductor", "cudagraphs"):
        forward = InBlocks(network, path)
    if path == "cuda graphs" or (path == "inductor" and next(network.parameters()).device.type == "cuda"):
        forward = Graphs(network, recorder, forward)
    return Compiled(forward, path, reason, recorder)


def choose(mode: Mode, device: str) -> tuple[Path, str]:
    """The path for a network on a device of this type, and the reason. ValueError for a mode that cannot be there."""
    recorded = "a shape is recorded at its second call and replayed from then on"
    match mode:
        case "off":
            return "eager", "asked for"
        case "auto" if device == "cuda":
            return "cuda graphs", f"no Triton needed; {recorded}"
        case "auto":
            return "eager", f"the network is on {device}; CUDA graphs need a GPU, and Inductor has to be asked for"
        case "graphs" | "cudagraphs" if device != "cuda":
            raise ValueError(f"mode={mode!r} needs an NVIDIA GPU, the network is on {device}: take mode='auto'")
        case "graphs":
            return "cuda graphs", f"asked for; {recorded}"
        case "cudagraphs":
            return "cudagraphs", "asked for; no Triton needed; the first calls of every shape wait while it is traced"
        case "inductor" if device == "cuda" and missing():
            there = "is not installed here" if (wrong := fault()) is None else f"does not work here ({wrong})"
            raise ValueError(
                f"mode='inductor' compiles to Triton on a GPU, which {there}: pip install triton (on "
                "Windows triton-windows), or take mode='auto', which does not need it"
            )
        case "inductor":
            needs = "a C++ compiler" if device == "cpu" else "Triton" if device == "cuda" else "its own compiler"
            also = f"; {recorded}" if device == "cuda" else ""
            return "inductor", f"asked for; needs {needs}; the first call of every shape waits while it compiles{also}"
    *most, last = map(repr, get_args(Mode))
    raise ValueError(f"mode={mode!r}: expected {', '.join(most)} or {last}")
