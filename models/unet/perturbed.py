"""One network seen differently: with layers left out, or with self-attention in which a token sees itself alone.

    skipped      x + f(x)                       ->  x     (STG-R, arXiv 2411.18664)
    identity     softmax(q·k' / sqrt(d))·v      ->  v     (PAG, arXiv 2403.17377, and STG-A)

The view is a network of its own that holds the very same tensors; the one that is seen is not touched.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from torch import Tensor, nn

from ivmix.models.dit.blocks import Block
from ivmix.models.layers import Attention, CrossAttentionBlock, Resnet, SpatialTransformer
from ivmix.models.predictor import Predictor
from ivmix.models.sharing import sharing_tensors
from ivmix.models.unet.temporal import FrameBlock, FrameTransformer, TemporalConv

M = TypeVar("M", bound=nn.Module)
U = TypeVar("U", bound=Predictor)


def perturbed(unet: U, skip: Sequence[str] = (), identity: Sequence[str] = ()) -> U:
    """`unet` without the layers `skip`, and with identity attention in the self-attentions `identity`.

    Names are those of the state dict, whole or in part: "mid_block" is all of the layers there, "mid_block.attentions"
    or "up_blocks.1.motion_modules.0" fewer, "motion_modules" what all blocks have of that name. Layers are resnets
    (which leave the shortcut of those that change the width), spatial and temporal transformers or the
    `transformer_blocks` between their projections, convolutions over frames, and the blocks of a `DiT`; self-attention
    is that of pixels or patches (attn1) and of frames. ValueError for a name that none has, and for no names.

    A condition of `unet` serves the view as `dataclasses.replace(condition, network=view)`.

    >>> from ivmix.models import UNet, UNetConfig
    >>> unet = UNet(UNetConfig(block_out_channels=(8,), attention_levels=(True,), cross_attention_dim=4,
    ...     num_attention_heads=2, norm_num_groups=4))
    >>> view = perturbed(unet, skip=["mid_block.resnets"], identity=["attentions"])
    >>> view.conv_in.weight is unet.conv_in.weight
    True
    >>> perturbed(unet, skip=["mid_block.resnet"])
    Traceback (most recent call last):
    ValueError: skip: got 'mid_block.resnet', expected one of mid_block.attentions, mid_block.resnets
    """
    if not (skip or identity):
        raise ValueError("skip, identity: got no names, expected at least one")
    view = sharing_tensors(unet)
    for layer in _named("skip", skip, _layers(view)):
        layer.forward = partial(_shortcut, layer)
    for attention in _named("identity", identity, _self_attentions(view)):
        attention.forward = partial(_values, attention)  # type: ignore[method-assign]
    return view


def _layers(network: nn.Module) -> dict[str, nn.Module]:
    """What can be left out, by name."""
    kinds = Resnet | SpatialTransformer | CrossAttentionBlock | FrameTransformer | FrameBlock | TemporalConv | Block
    return {name: module for name, module in network.named_modules() if isinstance(module, kinds)}


def _self_attentions(network: nn.Module) -> dict[str, Attention]:
    """Attention of tokens to each other, by name."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, CrossAttentionBlock | FrameBlock | Block):
            found[f"{name}.attn1"] = module.attn1
        if isinstance(module, FrameBlock):
            found[f"{name}.attn2"] = module.attn2
    return found


def _shortcut(layer: nn.Module, x: Tensor, *inputs: Any) -> Tensor:
    """x + f(x) without f."""
    shortcut = getattr(layer, "conv_shortcut", None)
    return x if shortcut is None else shortcut(x)


def _values(attention: Attention, tokens: Tensor) -> Tensor:
    """Attention whose map is the identity: heads are split and joined again for nothing."""
    projected: Tensor = attention.to_out[0](attention.to_v(tokens))
    return projected


def _named(argument: str, names: Sequence[str], there: Mapping[str, M]) -> list[M]:
    """All that any of the names, whole or parts of some, stands for."""
    if isinstance(names, str):
        raise TypeError(f"{argument}: got {names!r}, expected a list of names")
    found: dict[str, M] = {}
    for name in names:
        matching = {path: module for path, module in there.items() if _within(name, path)}
        if not matching:
            raise ValueError(f"{argument}: got {name!r}, expected one of {', '.join(_nearest(name, there))}")
        found |= matching
    return list(found.values())


def _within(name: str, path: str) -> bool:
    return f".{name}." in f".{path}."


def _nearest(name: str, there: Mapping[str, nn.Module]) -> list[str]:
    """The names that go on from the longest beginning of `name` that there is, or else all parts that are words."""
    while name and not any(_within(name, path) for path in there):
        name = name.rpartition(".")[0]
    if not name:
        return sorted({part for path in there for part in path.split(".") if not part.isdigit()})
    after = {f".{path}.".partition(f".{name}.")[2].partition(".")[0] for path in there if _within(name, path)}
    return sorted(f"{name}.{part}".rstrip(".") for part in after)
