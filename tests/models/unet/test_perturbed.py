"""A UNet seen differently: what is left out is as if its weights were 0, identity attention as if each token saw itself
alone, and the network that is seen stays what it is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from public_configs import MODELSCOPE, VIDEOCRAFTER2
from torch import Tensor, nn

from ivmix.models import MotionConfig, UNet, UNetConfig, perturbed
from ivmix.models.layers import Attention, CrossAttentionBlock, Resnet, SpatialTransformer
from ivmix.models.meta import build
from ivmix.models.unet.temporal import FrameBlock, FrameTransformer, TemporalConv

Make = Callable[..., Tensor]

# Rounding in float64 through some thirty layers, where another batch may choose other kernels.
CLOSE = 1e-12


@pytest.fixture(params=["animatediff", "videocrafter"])
def unet(
    request: pytest.FixtureRequest, image_config: UNetConfig, space_time_config: UNetConfig, motion: MotionConfig,
    randomised: Callable[..., UNet],
) -> UNet:  # fmt: skip
    animatediff = replace(image_config, temporal=motion)
    return randomised(UNet(animatediff if request.param == "animatediff" else space_time_config))


def run(network: UNet, z: Tensor, context: Tensor, temporal: bool = True) -> Tensor:
    condition = network.condition(context, fps=24 if network.fps_embedding else None)
    return network(z, torch.tensor(400.0), condition, temporal=temporal)


def last(layer: nn.Module) -> list[nn.Module]:
    """What a layer's branches, which are added to what it is given, end with."""
    if isinstance(layer, CrossAttentionBlock | FrameBlock):
        return [layer.attn1.to_out[0], layer.attn2.to_out[0], layer.ff.net[2]]
    if isinstance(layer, TemporalConv):
        return [layer.conv4[-1]]
    end = layer.conv2 if isinstance(layer, Resnet) else layer.proj_out
    assert isinstance(end, nn.Module)
    return [end]


def one_of_each(network: UNet) -> dict[str, nn.Module]:
    """The last layer of every kind, a resnet with and one without a shortcut among them."""
    kinds = Resnet, SpatialTransformer, CrossAttentionBlock, FrameTransformer, FrameBlock, TemporalConv
    found = {
        (type(module), getattr(module, "conv_shortcut", None) is None): (name, module)
        for name, module in network.named_modules() if isinstance(module, kinds)
    }  # fmt: skip
    assert len(found) == 7 if network.transformer_in else 6
    return dict(found.values())


def test_a_layer_left_out_is_one_whose_branch_ends_in_zeros(unet: UNet, normal: Make) -> None:
    z, context = normal(2, 4, 2, 4, 4), normal(2, 5, 12, seed=1)
    whole = run(unet, z, context)
    for name, layer in one_of_each(unet).items():
        ends = [parameter for end in last(layer) for parameter in end.parameters()]
        before = [parameter.clone() for parameter in ends]
        for parameter in ends:
            parameter.zero_()
        expected = run(unet, z, context)
        for parameter, values in zip(ends, before, strict=True):
            parameter.copy_(values)
        assert torch.equal(run(perturbed(unet, skip=[name]), z, context), expected), name
        assert not torch.equal(expected, whole), name


def diagonal(attention: Attention, args: tuple[Tensor, ...], _: Tensor) -> Tensor:
    """A hook: softmax attention whose scores of a token with itself are huge."""
    (tokens,) = args
    q, k, v = (attention.split(to(tokens)) for to in (attention.to_q, attention.to_k, attention.to_v))
    scores = q @ k.mT / q.shape[-1] ** 0.5 + 1e6 * torch.eye(tokens.shape[1], dtype=tokens.dtype)
    out: Tensor = attention.to_out[0]((scores.softmax(-1) @ v).transpose(1, 2).flatten(-2))
    return out


def test_identity_attention_is_softmax_with_a_huge_diagonal(
    unet: UNet, normal: Make, difference: Callable[[Tensor, Tensor], float]
) -> None:
    z, context = normal(2, 4, 3, 8, 8), normal(2, 5, 12, seed=1)
    over_frames = [m for m in unet.modules() if isinstance(m, FrameBlock)]
    over_pixels = [m for m in unet.modules() if isinstance(m, CrossAttentionBlock)]
    cases: list[tuple[list[str], list[Any]]] = [
        (["mid_block.attentions"], [unet.mid_block.attentions[0].transformer_blocks[0].attn1]),
        (["attentions"], [m.attn1 for m in over_pixels]),
        (["attn1"], [m.attn1 for m in (*over_pixels, *over_frames)]),
        (["attn1", "attn2"], [a for m in over_frames for a in (m.attn1, m.attn2)] + [m.attn1 for m in over_pixels]),
    ]
    seen = [run(unet, z, context)]
    for names, attentions in cases:
        hooks = [attention.register_forward_hook(diagonal) for attention in attentions]
        expected = run(unet, z, context)
        for hook in hooks:
            hook.remove()
        assert difference(run(perturbed(unet, identity=names), z, context), expected) <= CLOSE
        assert all(difference(expected, other) > 1e-6 for other in seen)
        seen.append(expected)


def test_the_network_that_is_seen_and_its_other_views_stay_as_they_are(unet: UNet, normal: Make) -> None:
    z, context = normal(1, 4, 3, 8, 8), normal(1, 5, 12, seed=1)
    before = run(unet, z, context)
    one, other = perturbed(unet, skip=["up_blocks.1"]), perturbed(unet, identity=["up_blocks.1"])
    first, second = run(one, z, context), run(other, z, context)
    assert torch.equal(run(unet, z, context), before)
    assert torch.equal(run(one, z, context), first)
    assert len({float(y.abs().sum()) for y in (before, first, second)}) == 3
    for view in (one, other):
        assert type(view) is type(unet)
        held, own = view.state_dict(keep_vars=True), unet.state_dict(keep_vars=True)
        assert list(held) == list(own)
        assert all(held[key] is own[key] for key in own)


def test_what_all_blocks_have_of_a_name_is_left_out_at_once(unet: UNet, normal: Make) -> None:
    """All layers over frames: the image view."""
    z, context = normal(2, 4, 3, 8, 8), normal(2, 5, 12, seed=1)
    names = ["transformer_in", "temp_convs", "temp_attentions"] if unet.transformer_in else ["motion_modules"]
    assert torch.equal(run(perturbed(unet, skip=names), z, context), run(unet, z, context, temporal=False))


def test_a_view_may_be_seen_differently_too(unet: UNet, normal: Make) -> None:
    z, context = normal(1, 4, 3, 8, 8), normal(1, 5, 12, seed=1)
    both = perturbed(unet, skip=["mid_block.resnets.1"], identity=["up_blocks.1", "mid_block"])
    view = perturbed(perturbed(unet, identity=["mid_block", "up_blocks.1"]), skip=["mid_block.resnets.1"])
    assert torch.equal(run(view, z, context), run(both, z, context))


def test_rows_of_a_batch_and_frames_of_an_image_view_know_nothing_of_each_other(
    unet: UNet, normal: Make, difference: Callable[[Tensor, Tensor], float]
) -> None:
    z, context = normal(2, 4, 3, 8, 8), normal(2, 5, 12, seed=1)
    view = perturbed(unet, skip=["up_blocks.1"], identity=["mid_block"])
    rows = torch.cat([run(view, z[k : k + 1], context[k : k + 1]) for k in range(2)])
    assert difference(run(view, z, context), rows) <= CLOSE
    frames = torch.cat([run(view, z[:, :, f : f + 1], context, temporal=False) for f in range(3)], dim=2)
    assert difference(run(view, z, context, temporal=False), frames) <= CLOSE


def test_a_condition_of_the_network_serves_its_views_once_it_says_so(unet: UNet, normal: Make) -> None:
    z, context, t = normal(1, 4, 3, 8, 8), normal(1, 5, 12, seed=1), torch.tensor(400.0)
    view = perturbed(unet, skip=["mid_block"])
    condition = unet.condition(context, fps=24 if unet.fps_embedding else None)
    assert torch.equal(view(z, t, replace(condition, network=view)), run(view, z, context))
    with pytest.raises(ValueError, match="the condition belongs to another network"):
        view(z, t, condition)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ({}, ValueError, "skip, identity: got no names"),
        ({"skip": ["mid"]}, ValueError, "got 'mid', expected one of attentions, down_blocks, mid_block, motion_module"),
        ({"skip": ["up_blocks.3"]}, ValueError, "got 'up_blocks.3', expected one of up_blocks.0, up_blocks.1, up_bloc"),
        ({"skip": ["mid_block.resnets.7"]}, ValueError, "expected one of mid_block.resnets.0, mid_block.resnets.1$"),
        ({"skip": ["mid_block.resnets.0.conv1"]}, ValueError, "conv1', expected one of mid_block.resnets.0$"),
        ({"skip": ["mid_block", "mid"]}, ValueError, "skip: got 'mid'"),
        ({"skip": [""]}, ValueError, "skip: got '', expected one of attentions"),
        ({"identity": ["mid_block.resnets"]}, ValueError, "identity: got 'mid_block.resnets', expected one of mid"),
        ({"identity": ["mid_block.attentions.0.transformer_blocks.0.attn2"]}, ValueError, "expected one of .*attn1$"),
        ({"identity": "mid_block"}, TypeError, "identity: got 'mid_block', expected a list of names"),
    ],
)
def test_names_that_there_are_not_are_told_with_those_there_are(
    image_config: UNetConfig, motion: MotionConfig, names: dict[str, Any], error: type[Exception], message: str
) -> None:
    unet = UNet(replace(image_config, temporal=motion))
    with pytest.raises(error, match=message):
        perturbed(unet, **names)


@pytest.mark.parametrize(
    ("config", "temporal"),
    [
        (UNetConfig(temporal=MotionConfig()), "motion_modules"), (MODELSCOPE, "temp_attentions"),
        (VIDEOCRAFTER2, "temp_attentions"),
    ],
    ids=["animatediff", "modelscope", "videocrafter2"],
)  # fmt: skip
def test_public_networks_have_the_layers_that_pairs_name(config: UNetConfig, temporal: str) -> None:
    unet = build(UNet, config)
    perturbed(unet, ["up_blocks.1.attentions.1", f"up_blocks.1.{temporal}.1"], ["mid_block.attentions"])
