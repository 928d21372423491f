"""The layer that averages what stands still, against its formula and on frames that agree or do not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ivmix.sprites.averaging.layer import AveragingConfig, FrameAveraging

Make = Callable[..., Tensor]
TIMESTEPS = 10


@pytest.fixture
def layer(normal: Make, randomised: Callable[..., FrameAveraging]) -> FrameAveraging:
    """Of a network that predicts v: x0 = alpha z - sigma y, where sigma grows from .1 to .9."""
    layer = randomised(FrameAveraging(4, 6, AveragingConfig(3, TIMESTEPS)))
    sigma = torch.linspace(0.1, 0.9, TIMESTEPS, dtype=torch.float64)
    layer.clean.copy_(torch.stack([(1 - sigma**2).sqrt(), -sigma], 1))
    return layer.requires_grad_(False)


def clean(layer: FrameAveraging, y: Tensor, z: Tensor, t: int) -> Tensor:
    a, b = layer.clean[t]
    return a * z + b * y


def prediction(layer: FrameAveraging, x0: Tensor, z: Tensor, t: int) -> Tensor:
    """The y that stands for x0."""
    a, b = layer.clean[t]
    return (x0 - a * z) / b


def test_weights_are_the_formula_pixel_by_pixel(layer: FrameAveraging, normal: Make) -> None:
    x0, embedding = 0.3 * normal(2, 4, 3, 5, 6), normal(2, 6, seed=1)
    padded = torch.nn.functional.pad(x0.flatten(1, 2), (2, 2, 2, 2), mode="replicate").unflatten(1, (4, 3))
    scale = torch.exp(torch.nn.functional.silu(embedding) @ layer.scale.weight[0] + layer.scale.bias)
    weights = layer.weights(x0, embedding)
    seen = set()
    for b, h, w in ((0, 0, 0), (0, 2, 3), (1, 4, 5), (1, 1, 0)):
        phi = torch.einsum("cfhw,ochw->fo", padded[b, :, :, h : h + 5, w : w + 5], layer.compare.weight) * scale[b]
        distance = torch.cdist(phi, phi).square()
        expected = torch.softmax(-(distance - 1).clamp(min=0), dim=1)
        torch.testing.assert_close(weights[b, h, w], expected)
        seen |= set((distance[0, 1:] > 1).tolist())
    assert seen == {True, False}  # both sides of the bend


def test_frames_that_agree_become_the_same_frame_exactly(layer: FrameAveraging, normal: Make) -> None:
    z, embedding = normal(1, 4, 5, 6, 6), normal(1, 6, seed=1)
    x0 = normal(1, 4, 1, 6, 6, seed=2) + 1e-3 * normal(1, 4, 5, 6, 6, seed=3)
    y = layer(prediction(layer, x0, z, 7), z, torch.tensor(7), embedding)
    expected = x0.mean(2, keepdim=True).expand_as(x0)
    torch.testing.assert_close(clean(layer, y, z, 7), expected)


def test_frames_that_differ_are_left_alone(layer: FrameAveraging, normal: Make) -> None:
    z, y, embedding = 100 * normal(1, 4, 5, 6, 6), normal(1, 4, 5, 6, 6, seed=2), normal(1, 6, seed=1)
    torch.testing.assert_close(layer(y, z, torch.tensor(3), embedding), y)


def test_what_stands_still_is_averaged_where_it_does_and_nowhere_else(layer: FrameAveraging, normal: Make) -> None:
    z, embedding = normal(1, 4, 4, 6, 16), normal(1, 6, seed=1)
    x0 = normal(1, 4, 1, 6, 16, seed=2) + 1e-3 * normal(1, 4, 4, 6, 16, seed=3)
    x0[..., 8:] = 100 * normal(1, 4, 4, 6, 8, seed=4)
    after = clean(layer, layer(prediction(layer, x0, z, 7), z, torch.tensor(7), embedding), z, 7)
    still = after[..., :6]  # what a patch of 5 pixels sees of the moving half ends there
    torch.testing.assert_close(still, x0[..., :6].mean(2, keepdim=True).expand_as(still))
    torch.testing.assert_close(after[..., 8:], x0[..., 8:])


def test_one_frame_and_its_order_change_nothing(layer: FrameAveraging, normal: Make) -> None:
    z, y, embedding = normal(1, 4, 4, 6, 6), 0.3 * normal(1, 4, 4, 6, 6, seed=2), normal(1, 6, seed=1)
    t = torch.tensor(5)
    torch.testing.assert_close(layer(y[:, :, :1], z[:, :, :1], t, embedding), y[:, :, :1])
    torch.testing.assert_close(layer(y.flip(2), z.flip(2), t, embedding), layer(y, z, t, embedding).flip(2))


def test_every_row_is_read_at_its_own_time_and_times_between_lie_between(layer: FrameAveraging, normal: Make) -> None:
    z, y, embedding = normal(2, 4, 3, 4, 4), 0.3 * normal(2, 4, 3, 4, 4, seed=2), normal(2, 6, seed=1)
    both = layer(y, z, torch.tensor([2, 8]), embedding)
    for i, t in enumerate((2, 8)):
        torch.testing.assert_close(both[i], layer(y, z, torch.tensor(t), embedding)[i])
    assert not torch.allclose(both[1], layer(y, z, torch.tensor(2), embedding)[1])
    between = layer.clean[2].lerp(layer.clean[3], 0.25)
    expected = layer(y, z, torch.tensor(2.25), embedding)
    layer.clean[:] = between
    torch.testing.assert_close(expected, layer(y, z, torch.tensor(0), embedding))


@pytest.mark.parametrize("t", [-1.0, 0.0, TIMESTEPS - 1.0, TIMESTEPS + 5.0])
def test_times_beyond_the_schedule_read_its_ends(layer: FrameAveraging, normal: Make, t: float) -> None:
    z, y, embedding = normal(1, 4, 3, 4, 4), 0.3 * normal(1, 4, 3, 4, 4, seed=2), normal(1, 6, seed=1)
    end = 0 if t <= 0 else TIMESTEPS - 1
    torch.testing.assert_close(layer(y, z, torch.tensor(t), embedding), layer(y, z, torch.tensor(end), embedding))


def test_distances_are_compared_in_float32_when_all_else_is_half(normal: Make) -> None:
    layer = FrameAveraging(4, 6, AveragingConfig(3, TIMESTEPS)).to(torch.bfloat16)
    x0, embedding = normal(1, 4, 3, 4, 4).to(torch.bfloat16), normal(1, 6).to(torch.bfloat16)
    assert layer.weights(x0, embedding).dtype == torch.float32
    assert layer(x0, x0, torch.tensor(3), embedding).dtype == torch.bfloat16


@pytest.mark.parametrize(("features", "timesteps"), [(0, 10), (3, 0)])
def test_a_layer_of_nothing_is_refused(features: int, timesteps: int) -> None:
    with pytest.raises(ValueError, match="is 0, expected a whole number from 1"):
        AveragingConfig(features, timesteps)
