"""Linear layers, on an x86 CPU by oneDNN.

Torch takes MKL there for float32, and oneDNN for shorter types alone. MKL is slow on processors that are not Intel's:
on an AMD EPYC with AVX-512 oneDNN's products take half the time (torch 2.13, `tests/figures/products.py`), and a gelu
is taken of them before they leave the cache. The two round differently, no more. Who wants MKL's products runs under
`torch.backends.mkldnn.flags(enabled=False)`, which leaves convolutions without oneDNN, too.
"""

import platform

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

# What torch's own compiler calls on a CPU. It knows no derivatives.
HAS_ONEDNN = (
    torch.backends.mkldnn.is_available()
    and platform.machine().lower() in ("x86_64", "amd64")
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


def is_plain_call() -> bool:
    """Whether nothing derives, maps or compiles what is computed here, which may then be done in place."""
    return not (
        torch.compiler.is_compiling()
        or torch.is_grad_enabled()
        or forward_ad._current_level >= 0
        or torch._C._are_functorch_transforms_active()
    )


def by_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether `product(x, weight)` is oneDNN's: of a plain call on the CPU in float32."""
    return (
        HAS_ONEDNN
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.shape[-1] == weight.shape[-1]  # or the error is torch's
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
        and is_plain_call()
    )


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: str | None = None) -> Tensor:
    """x (... c), weight (d c), bias (d,): x weight^T + bias, (... d); of that the `gelu`, by the names of `F.gelu`."""
    if by_onednn(x, weight):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none" if gelu is None else "gelu", [], gelu or "")
    y = F.linear(x, weight, bias)
    if gelu is None:
        return y
    return torch.ops.aten.gelu_(y, approximate=gelu) if is_plain_call() else F.gelu(y, approximate=gelu)


def gated(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (... c), weight (2d c), bias (2d,): value * gelu(gate), (... d), value the first half of the product and gelu
    the exact one (arXiv 2002.05202).

    By halves, each where its product left it: 2d numbers at the dearest moment, where the whole product, a gelu and
    what both make would be 4d.
    """
    (to_value, to_gate), (value_bias, gate_bias) = weight.chunk(2), bias.chunk(2)
    gate = product(x, to_gate, gate_bias, gelu="none")
    value = product(x, to_value, value_bias)
    return value.mul_(gate) if is_plain_call() else value * gate


class Linear(nn.Linear):
    """`product` with its own weight and bias; of that the `gelu`, where it is named."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, gelu: str | None = None) -> None:
        super().__init__(in_features, out_features, bias)
        self.gelu = gelu

    def forward(self, input: Tensor) -> Tensor:
        return product(input, self.weight, self.bias, self.gelu)


class Gated(nn.Linear):
    """`gated` with its own weight and bias: (... in_features) -> (... out_features / 2)."""

    def forward(self, input: Tensor) -> Tensor:
        return gated(input, self.weight, self.bias)
