"""What a network's forward pass costs, counted on meta: at any size, without weights or memory, in about a second."""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ivmix.models.dit.blocks import FrameBlock, PatchBlock, ToPatches
from ivmix.models.layers import OverFrames, SpatialTransformer
from ivmix.models.meta import build
from ivmix.models.predictor import Predictor, PredictorConfig
from ivmix.models.triton import fault
from ivmix.models.unet.temporal import FrameTransformer, TemporalConv

# With f frames of hw pixels: the first, second and fourth grow as f·hw, pixel scores as f·(hw)², frame scores as f²·hw;
# the rest, what is computed once a row, does not grow.
KINDS = ("convolutions", "spatial layers", "pixel scores", "temporal layers", "frame scores", "rest")


@dataclass(frozen=True)
class Cost:
    """Of one forward pass.

    `flops` has an entry a kind (`KINDS`), two for a multiplication and its addition; norms, activations and other
    elementwise work are not counted. Layers are projections, feed-forwards, what looks at the text, and convolutions
    over frames; scores are attention's products of queries with keys and of weights with values. `activations` is the
    most bytes of tensors alive at a time, beside input, text and weights, where attention is fused (never holds its
    scores) and gradients are off; what kernels take for themselves and an allocator's rounding come on top.
    `parameters` counts the weights that are used.
    """

    flops: Mapping[str, int]
    activations: int
    parameters: int

    @property
    def total(self) -> int:
        return sum(self.flops.values())


@torch.no_grad()
def forward_cost(
    config: PredictorConfig, frames: int, height: int, width: int, *, rows: int = 2, tokens: int | None = None,
    temporal: bool = True, dtype: torch.dtype = torch.float32,
) -> Cost:  # fmt: skip
    """Floating-point operations and memory of a forward pass, by kind of layer, without weights.

    Of `rows` clips of latents (frames, height, width), each told `tokens` of text (default: as many as the network was
    trained with); two rows are a guided evaluation. `temporal=False` is the image model that shares the spatial
    weights, as in `UNet.forward`.

    >>> from ivmix.models import UNetConfig
    >>> small = UNetConfig(block_out_channels=(32, 64), attention_levels=(False, True), layers_per_block=1)
    >>> one, two = (forward_cost(small, frames=f, height=8, width=8) for f in (1, 2))
    >>> two.flops["convolutions"] / one.flops["convolutions"]
    2.0
    """
    kernels = Kernels()
    from torch.utils.flop_counter import FlopCounterMode  # which looks for Triton

    network = build(config.network, config).to(dtype)
    with torch.device("meta"):
        context = torch.empty(rows, tokens or config.tokens, config.context_dim, dtype=dtype)
        z = torch.empty(rows, config.in_channels, frames, height, width, dtype=dtype)
    condition = network.condition(context, **network.told(rows))
    t = torch.tensor(500.0)
    with kernels, FlopCounterMode(display=False) as counter, Alive() as alive:
        network(z, t, condition, temporal=temporal)
    parameters = set(network.parameters())
    if not temporal:
        over_frames = (m for m in network.modules() if isinstance(m, OverFrames))
        parameters -= {p for module in over_frames for p in module.parameters()}
    return Cost(_by_kind(network, counter.get_flop_counts()), alive.most, sum(p.numel() for p in parameters))


def _by_kind(network: Predictor, counts: Mapping[str, Mapping[Any, int]]) -> dict[str, int]:
    """The counter's entries, a module and operation each, those of a module included in its parents'."""
    flops = dict.fromkeys(KINDS, 0)

    def found(name: str, operation: Any = None) -> int:
        entries = counts.get(name, {})
        return sum(entries.values()) if operation is None else entries.get(operation, 0)

    products = torch.ops.aten.bmm
    scores, convolution = torch.ops.aten._scaled_dot_product_flash_attention, torch.ops.aten.convolution
    inside = 0  # of transformers and convolutions over frames
    for path, module in network.named_modules():
        name = f"{type(network).__name__}.{path}"
        if isinstance(module, OverFrames):
            flops["frame scores"] += found(name, scores) + found(name, products)
        if isinstance(module, FrameTransformer | TemporalConv | FrameBlock):
            flops["temporal layers"] += found(name) - found(name, scores)
            inside += found(name, convolution)
        if isinstance(module, SpatialTransformer | PatchBlock | ToPatches):
            flops["spatial layers"] += found(name)
            inner = (f"{name}.{path}" for path, _ in module.named_modules() if path.endswith("attn1"))
            flops["pixel scores"] += sum(found(attention, scores) for attention in inner)
    flops["spatial layers"] -= flops["pixel scores"]
    flops["convolutions"] = found("Global", convolution) - inside
    flops["rest"] = found("Global") - sum(flops.values())
    return flops


class Kernels(TorchFunctionMode):
    """What devices run as one kernel is one on meta too, where attention's scores would be tensors, and norms many."""

    def __init__(self) -> None:
        super().__init__()
        fault()  # computing on meta looks for Triton

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_flash_attention(*args[:3], **(kwargs or {}))[0]  # a mask is free
        if func in (F.layer_norm, F.group_norm, F.silu, F.gelu) and not (kwargs or {}).get("inplace"):
            return torch.empty_like(args[0], memory_format=torch.contiguous_format)
        return func(*args, **(kwargs or {}))


class Alive(TorchDispatchMode):
    """`most` bytes of tensors made inside that were alive at a time; views count once, what came from outside never."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self.now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors((args, kwargs)):
            self._watch(tensor, 0)
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            self._watch(tensor, tensor.untyped_storage().nbytes())
        return out

    def _watch(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        if id(storage) in self._known:
            return
        self._known.add(id(storage))
        weakref.finalize(storage, self._release, id(storage), size)
        self.now += size
        self.most = max(self.most, self.now)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
