"""Layers over frames: what they must be at the start, what they may see, what they refuse."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ivmix.models.unet.temporal import (
    FrameBlock,
    FrameTransformer,
    MotionConfig,
    MotionNorm,
    TemporalConv,
    frame_positions,
    normed,
)

Make = Callable[..., Tensor]
CLOSE = 1e-13  # float64 rounding through one attention block of width 8


def test_frame_positions_interleave_sines_and_cosines() -> None:
    expected = [
        [f(p * 10000 ** (-2 * i / 6)) for i in range(3) for f in (math.sin, math.cos)] for p in range(32)
    ]  # fmt: skip
    # Angles up to 31 in float32: half a unit in the last place is 1e-6.
    torch.testing.assert_close(frame_positions(32, 6), torch.tensor([expected]), rtol=0, atol=1e-5)


@pytest.fixture
def animatediff() -> FrameTransformer:
    return FrameTransformer(8, groups=4, heads=2, max_frames=6)


@pytest.fixture
def modelscope() -> FrameTransformer:
    return FrameTransformer(8, groups=4, heads=3, inner=12)


Randomised = Callable[..., FrameTransformer]
Difference = Callable[..., float]


def test_a_fresh_layer_is_the_identity_to_the_bit(
    animatediff: FrameTransformer, modelscope: FrameTransformer, normal: Make
) -> None:
    x = normal(2 * 5, 8, 3, 4)
    for layer in (animatediff, modelscope, TemporalConv(8, groups=4)):
        assert torch.equal(layer.double()(x, frames=5), x)


@pytest.mark.parametrize("joint_norm", [True, False])
def test_group_norm_is_over_all_frames_or_frame_by_frame_as_configured(
    joint_norm: bool, randomised: Randomised, normal: Make, difference: Difference
) -> None:
    module = randomised(FrameTransformer(8, groups=4, heads=2, max_frames=6, joint_norm=joint_norm))
    module.transformer_blocks = nn.ModuleList([nn.Identity()])
    for projection in (module.proj_in, module.proj_out):
        nn.init.eye_(projection.weight)
        nn.init.zeros_(projection.bias)
    # Frames of different brightness and contrast, so that the two kinds of statistics differ.
    video = normal(2, 5, 4, 2, 3, 4) * torch.arange(1.0, 6.0)[:, None, None, None, None] + 2.0  # b f g (c/g) h w
    axes = (1, 3, 4, 5) if joint_norm else (3, 4, 5)
    mean, variance = video.mean(axes, keepdim=True), video.var(axes, correction=0, keepdim=True)
    expected = ((video - mean) / (variance + 1e-6).sqrt()).flatten(2, 3).flatten(0, 1)
    expected = expected * module.norm.weight[:, None, None] + module.norm.bias[:, None, None]
    x = video.flatten(2, 3).flatten(0, 1)
    assert difference(module(x, frames=5) - x, expected) < CLOSE


@pytest.mark.parametrize(
    ("modules", "norm", "xl", "joint"),  # in the modules, and in the resnets
    [
        (MotionConfig(max_frames=24), "authors", False, (False, True)),  # v1
        (MotionConfig(mid_block=True), "authors", False, (False, False)),  # v2
        (MotionConfig(), "authors", False, (False, False)),  # v3
        (MotionConfig(), "authors", True, (True, False)),  # the beta for SDXL
        (MotionConfig(max_frames=24), "authors", True, (False, True)),  # Hotshot-XL
        (MotionConfig(max_frames=24), "diffusers", True, (True, False)),
        (MotionConfig(joint_norm=False, joint_resnet_norm=True), "diffusers", False, (True, False)),
    ],
)
def test_whose_group_norms_modules_have(
    modules: MotionConfig, norm: MotionNorm, xl: bool, joint: tuple[bool, bool]
) -> None:
    found = normed(modules, norm, xl)
    assert (found.joint_norm, found.joint_resnet_norm) == joint


def test_animatediff_tells_frames_apart_by_their_positions_alone(
    animatediff: FrameTransformer, randomised: Randomised, normal: Make, difference: Difference
) -> None:
    module = randomised(animatediff)
    x, order = normal(5, 8, 3, 4), torch.tensor([3, 0, 4, 1, 2])
    assert difference(module(x[order], frames=5), module(x, frames=5)[order]) > 1e-3
    module.get_buffer("transformer_blocks.0.pos_embed.pe").zero_()
    assert difference(module(x[order], frames=5), module(x, frames=5)[order]) < CLOSE


def test_modelscope_s_attention_takes_frames_as_a_set_of_any_size(
    modelscope: FrameTransformer, randomised: Randomised, normal: Make, difference: Difference
) -> None:
    module, x = randomised(modelscope), normal(40, 8, 2, 2)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert difference(module(x[order], frames=40), module(x, frames=40)[order]) < CLOSE
    changed = x.clone()
    changed[39] += 1.0
    assert difference(module(changed, frames=40)[:1], module(x, frames=40)[:1]) > 1e-3


def test_positions_are_added_before_both_attentions_and_to_neither_residual(
    randomised: Callable[..., FrameBlock], normal: Make, difference: Difference
) -> None:
    block, x = randomised(FrameBlock(8, heads=2, max_frames=6)), normal(3, 5, 8)
    positions = frame_positions(6, 8).double()[:, :5]
    x1 = x + block.attn1(block.norm1(x) + positions)
    x2 = x1 + block.attn2(block.norm2(x1) + positions)
    assert difference(block(x), x2 + block.ff(block.norm3(x2))) < CLOSE


def test_temporal_convolution_is_four_norms_and_sums_over_neighbouring_frames(
    randomised: Callable[..., TemporalConv], normal: Make, difference: Difference
) -> None:
    layer = randomised(TemporalConv(8, groups=4))
    weights = dict(layer.named_parameters())
    video = normal(2, 5, 8, 3, 4)  # b f c h w
    y = video
    for name, place in (("conv1", 2), ("conv2", 3), ("conv3", 3), ("conv4", 3)):
        grouped = y.unflatten(2, (4, 2))
        mean = grouped.mean((1, 3, 4, 5), keepdim=True)
        variance = grouped.var((1, 3, 4, 5), correction=0, keepdim=True)
        y = ((grouped - mean) / (variance + 1e-5).sqrt()).flatten(2, 3)
        y = y * weights[f"{name}.0.weight"][:, None, None] + weights[f"{name}.0.bias"][:, None, None]
        y = y / (1 + (-y).exp())
        nothing = torch.zeros_like(y[:, :1])
        past, future = torch.cat([nothing, y[:, :-1]], dim=1), torch.cat([y[:, 1:], nothing], dim=1)
        taps = weights[f"{name}.{place}.weight"][..., 0, 0].unbind(-1)
        y = sum(torch.einsum("oc,bfchw->bfohw", w, x) for w, x in zip(taps, (past, y, future), strict=True))
        y = y + weights[f"{name}.{place}.bias"][:, None, None]
    assert difference(layer(video.flatten(0, 1), frames=5), (video + y).flatten(0, 1)) < CLOSE


def test_clips_of_a_batch_do_not_see_each_other(
    animatediff: FrameTransformer, randomised: Randomised, normal: Make, difference: Difference
) -> None:
    x = normal(2 * 3, 8, 3, 4)
    for layer in (randomised(animatediff), randomised(TemporalConv(8, groups=4))):
        alone = torch.cat([layer(x[:3], frames=3), layer(x[3:], frames=3)])
        assert difference(layer(x, frames=3), alone) < CLOSE


def test_more_frames_than_positions_is_an_error_with_both_numbers(animatediff: FrameTransformer) -> None:
    animatediff(torch.zeros(6, 8, 2, 2), frames=6)
    with pytest.raises(ValueError, match="7 frames, but this motion module knows positions for 6"):
        animatediff(torch.zeros(7, 8, 2, 2), frames=7)
