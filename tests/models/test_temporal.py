"""AnimateDiff's motion module: what it must be at the start, what it may see, what it refuses."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ivmix.models.temporal import MotionBlock, MotionConfig, MotionModule, frame_positions

Make = Callable[..., Tensor]
CLOSE = 1e-13  # float64 rounding through one attention block of width 8


def test_frame_positions_interleave_sines_and_cosines() -> None:
    expected = [
        [f(p * 10000 ** (-2 * i / 6)) for i in range(3) for f in (math.sin, math.cos)] for p in range(32)
    ]  # fmt: skip
    # Angles up to 31 in float32: half a unit in the last place is 1e-6.
    torch.testing.assert_close(frame_positions(32, 6), torch.tensor([expected]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("joint_norm", [True, False])
def test_a_fresh_module_is_the_identity_to_the_bit(joint_norm: bool, motion: MotionConfig, normal: Make) -> None:
    module = MotionModule(8, 4, replace(motion, joint_norm=joint_norm)).double()
    x = normal(2 * 5, 8, 3, 4)
    assert torch.equal(module(x, frames=5), x)


@pytest.mark.parametrize("joint_norm", [True, False])
def test_group_norm_is_over_all_frames_or_frame_by_frame_as_configured(
    joint_norm: bool, motion: MotionConfig, randomised: Callable[..., MotionModule], normal: Make,
    difference: Callable[..., float],
) -> None:  # fmt: skip
    module = randomised(MotionModule(8, 4, replace(motion, joint_norm=joint_norm)))
    module.transformer_blocks = nn.ModuleList([nn.Identity()])
    for projection in (module.proj_in, module.proj_out):
        nn.init.eye_(projection.weight)
        nn.init.zeros_(projection.bias)
    # Frames of different brightness and contrast, so that the two kinds of statistics differ.
    video = normal(2, 5, 4, 2, 3, 4) * torch.arange(1.0, 6.0)[:, None, None, None, None] + 2.0  # b f g (c/g) h w
    axes = (1, 3, 4, 5) if joint_norm else (3, 4, 5)
    mean, variance = video.mean(axes, keepdim=True), video.var(axes, correction=0, keepdim=True)
    normed = ((video - mean) / (variance + 1e-6).sqrt()).flatten(2, 3).flatten(0, 1)
    normed = normed * module.norm.weight[:, None, None] + module.norm.bias[:, None, None]
    x = video.flatten(2, 3).flatten(0, 1)
    assert difference(module(x, frames=5) - x, normed) < CLOSE


@pytest.mark.parametrize("joint_norm", [True, False])
def test_frames_are_told_apart_by_their_positions_alone(
    joint_norm: bool, motion: MotionConfig, randomised: Callable[..., MotionModule], normal: Make,
    difference: Callable[..., float],
) -> None:  # fmt: skip
    module = randomised(MotionModule(8, 4, replace(motion, joint_norm=joint_norm)))
    x, order = normal(5, 8, 3, 4), torch.tensor([3, 0, 4, 1, 2])
    assert difference(module(x[order], frames=5), module(x, frames=5)[order]) > 1e-3
    module.get_buffer("transformer_blocks.0.pos_embed.pe").zero_()
    assert difference(module(x[order], frames=5), module(x, frames=5)[order]) < CLOSE


def test_positions_are_added_before_both_attentions_and_to_neither_residual(
    motion: MotionConfig, randomised: Callable[..., MotionBlock], normal: Make, difference: Callable[..., float]
) -> None:
    block, x = randomised(MotionBlock(8, motion)), normal(3, 5, 8)
    positions = frame_positions(6, 8).double()[:, :5]
    x1 = x + block.attn1(block.norm1(x) + positions)
    x2 = x1 + block.attn2(block.norm2(x1) + positions)
    assert difference(block(x), x2 + block.ff(block.norm3(x2))) < CLOSE


def test_clips_of_a_batch_do_not_see_each_other(
    motion: MotionConfig, randomised: Callable[..., MotionModule], normal: Make, difference: Callable[..., float]
) -> None:
    module, x = randomised(MotionModule(8, 4, motion)), normal(2 * 3, 8, 3, 4)
    alone = torch.cat([module(x[:3], frames=3), module(x[3:], frames=3)])
    assert difference(module(x, frames=3), alone) < CLOSE


def test_more_frames_than_positions_is_an_error_with_both_numbers(motion: MotionConfig) -> None:
    module = MotionModule(8, 4, motion)
    module(torch.zeros(6, 8, 2, 2), frames=6)
    with pytest.raises(ValueError, match="7 frames, but this motion module knows positions for 6"):
        module(torch.zeros(7, 8, 2, 2), frames=7)
