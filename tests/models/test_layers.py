"""Each layer against its formula, written out with other operations."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ivmix.models.layers import (
    GRID,
    Attention,
    CrossAttentionBlock,
    Downsample,
    FeedForward,
    Resnet,
    SpatialTransformer,
    TimestepEmbedding,
    Upsample,
    attend,
    sinusoid,
)
from ivmix.models.unet.temporal import FrameTransformer

Make = Callable[..., Tensor]

# float64 rounding (1e-16) through at most a few dozen sums and one softmax; a wrong formula shows at 1e-2 and more.
CLOSE = 1e-13


def clear(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


@pytest.mark.parametrize("channels", [8, 20, 320])
def test_timestep_features_are_cosines_then_sines_of_falling_frequencies(channels: int) -> None:
    t = torch.tensor([0.0, 1.0, 500.25, 999.0], dtype=torch.float64)
    half = channels // 2
    features = sinusoid(t, channels)
    expected = torch.tensor(
        [
            [math.cos(s * 10000 ** (-i / half)) for i in range(half)]
            + [math.sin(s * 10000 ** (-i / half)) for i in range(half)]
            for s in t.tolist()
        ]
    )
    # Angles up to 999 are rounded to float32: half a unit in the last place is 3e-5, the frequency adds a few more.
    torch.testing.assert_close(features, expected, rtol=0, atol=3e-4)
    assert features.dtype == torch.float32


def test_timestep_embedding_is_two_linear_layers_with_silu_between(
    randomised: Callable[..., TimestepEmbedding], normal: Make, difference: Callable[..., float]
) -> None:
    layer, x = randomised(TimestepEmbedding(6, 10)), normal(3, 6)
    hidden = x @ layer.linear_1.weight.T + layer.linear_1.bias
    expected = (hidden / (1 + (-hidden).exp())) @ layer.linear_2.weight.T + layer.linear_2.bias
    assert difference(layer(x), expected) < CLOSE


def test_resnet_adds_each_example_s_embedding_to_all_its_frames_and_no_others(
    randomised: Callable[..., Resnet], normal: Make, difference: Callable[..., float]
) -> None:
    resnet = randomised(Resnet(4, 8, groups=2, eps=1e-5, embedding_dim=6))
    x, embedding = normal(2 * 3, 4, 5, 5), normal(2, 6, seed=1)
    together = resnet(x, embedding)
    one_by_one = torch.cat([resnet(x[n : n + 1], embedding[n // 3 : n // 3 + 1]) for n in range(6)])
    assert difference(together, one_by_one) < CLOSE
    assert difference(resnet(x, embedding.flip(0)), together) > 1e-2


def test_resnet_without_new_width_keeps_its_input_as_shortcut(randomised: Callable[..., Resnet], normal: Make) -> None:
    resnet = randomised(Resnet(4, 4, groups=2, eps=1e-6))
    clear(resnet.conv2)
    x = normal(2, 4, 5, 5)
    assert resnet.conv_shortcut is None
    assert torch.equal(resnet(x), x)


@pytest.mark.parametrize("context_dim", [None, 5])
def test_attention_is_softmax_of_scaled_products_head_by_head(
    context_dim: int | None,
    randomised: Callable[..., Attention],
    normal: Make,
    difference: Callable[..., float],
) -> None:
    attention, x = randomised(Attention(12, heads=3, context_dim=context_dim)), normal(2, 7, 12)
    context = x if context_dim is None else normal(2, 4, context_dim, seed=1)
    q, k, v = (
        torch.einsum("nlc,oc->nlo", source, layer.weight).reshape(2, -1, 3, 4)
        for source, layer in ((x, attention.to_q), (context, attention.to_k), (context, attention.to_v))
    )
    weights = torch.einsum("nihd,njhd->nhij", q, k).div(math.sqrt(4)).softmax(-1)
    mixed = torch.einsum("nhij,njhd->nihd", weights, v).reshape(2, 7, 12)
    out = attention.get_submodule("to_out.0")
    expected = mixed @ out.get_parameter("weight").T + out.get_parameter("bias")
    given = None if context_dim is None else attention.keys_values(context)
    assert difference(attention(x, given), expected) < CLOSE


def test_attention_refuses_heads_that_do_not_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="channels=12 is not a multiple of heads=5"):
        Attention(12, heads=5)


def test_feed_forward_gates_the_first_half_with_exact_gelu_of_the_second(
    randomised: Callable[..., FeedForward], normal: Make, difference: Callable[..., float]
) -> None:
    layer, x = randomised(FeedForward(3)), normal(5, 3)
    weights = dict(layer.named_parameters())
    value, gate = (x @ weights["net.0.proj.weight"].T + weights["net.0.proj.bias"]).tensor_split([12], dim=-1)
    gelu = 0.5 * gate * (1 + torch.erf(gate / math.sqrt(2)))
    expected = (value * gelu) @ weights["net.2.weight"].T + weights["net.2.bias"]
    assert difference(layer(x), expected) < CLOSE


def test_every_frame_of_an_example_reads_that_example_s_text(
    randomised: Callable[..., CrossAttentionBlock], normal: Make, difference: Callable[..., float]
) -> None:
    block = randomised(CrossAttentionBlock(8, heads=2, context_dim=5))
    tokens, context = normal(2 * 3, 6, 8), normal(2, 4, 5, seed=1)
    together = block(tokens, block.attn2.keys_values(context))
    repeated = block(tokens, block.attn2.keys_values(context.repeat_interleave(3, dim=0)))
    assert difference(together, repeated) < CLOSE
    other = block(tokens, block.attn2.keys_values(context.flip(0)))
    assert difference(other, together) > 1e-2


def test_spatial_transformer_s_tokens_are_pixels_row_by_row_and_return_to_their_places(
    randomised: Callable[..., SpatialTransformer], normal: Make, difference: Callable[..., float]
) -> None:
    layer = randomised(SpatialTransformer(8, heads=2, context_dim=5, groups=4))
    layer.index = 0
    x, context = normal(2, 8, 3, 4), normal(2, 4, 5, seed=1)
    text = layer.get_submodule("transformer_blocks.0.attn2")
    assert isinstance(text, Attention)
    keys_values = (text.keys_values(context),)
    # Attention and norms over pixels know no places, so shuffling pixels in the plane shuffles the output alike.
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = x.flatten(2)[:, :, order].reshape(x.shape)
    expected = layer(x, keys_values).flatten(2)[:, :, order].reshape(x.shape)
    assert difference(layer(shuffled, keys_values), expected) < CLOSE


def tap(conv: nn.Conv2d, row: int, column: int) -> None:
    """Makes a one-channel convolution read one neighbour: (0, 0) is above left, (1, 1) the pixel itself."""
    clear(conv)
    conv.weight.data[0, 0, row, column] = 1.0


def test_unet_downsampling_pads_all_round() -> None:
    layer, x = Downsample(1), torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    tap(layer.conv, 0, 0)
    assert layer(x).tolist() == [[[[0.0, 0.0], [0.0, 6.0]]]]


def test_vae_downsampling_pads_right_and_bottom_only() -> None:
    layer, x = Downsample(1, padding=0), torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    tap(layer.conv, 0, 0)
    assert layer(x).tolist() == [[[[1.0, 3.0], [9.0, 11.0]]]]
    tap(layer.conv, 2, 2)
    assert layer(x).tolist() == [[[[11.0, 0.0], [0.0, 0.0]]]]


def test_upsampling_repeats_pixels_before_it_convolves() -> None:
    layer = Upsample(1)
    tap(layer.conv, 1, 1)
    assert layer(torch.tensor([[[[1.0, 2.0]]]])).tolist() == [[[[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]]]


@pytest.mark.parametrize("rows", [1, 3, 6, 7, 100])
def test_attention_cut_in_rows_is_attention(rows: int) -> None:
    q, k, v = (torch.randn(7, 2, length, 4, generator=torch.Generator().manual_seed(length)) for length in (5, 6, 6))
    assert torch.equal(attend(q, k, v, rows), attend(q, k, v))


class Rows(TorchFunctionMode):
    """Notes how many rows every attention has."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is nn.functional.scaled_dot_product_attention:
            self.seen.append(len(args[0]))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_attention_over_the_frames_of_many_pixels_stays_within_a_grid(randomised: Callable[..., nn.Module]) -> None:
    """8 guided clips of 64x64 latents are 65,536 rows, one more than CUDA's fused kernels take."""
    layer = randomised(FrameTransformer(4, groups=2, heads=2), dtype=torch.float32)
    x = torch.randn(16 * 2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    with Rows() as rows:
        y = layer(x, 2)
    assert rows.seen == [GRID, 1, GRID, 1]
    apart = torch.cat([layer(part, 2) for part in x.split(16)])
    assert (y - apart).abs().max() < 1e-5
    with Rows() as rows:
        layer(x[:2], 2)
    assert rows.seen == [4096, 4096]  # no cut where none is needed


def test_attention_that_is_only_counted_is_cut_in_two_however_many_rows_it_has() -> None:
    """A billion frames are refused for their memory before all of them could be cut."""
    q = torch.empty(10**9, 1, 1, 8, device="meta")
    with Rows() as rows:
        assert attend(q, q, q).shape == q.shape
    assert rows.seen == [10**9 // 2 + 1, 10**9 // 2 - 1]


def test_attention_cut_in_rows_compiles_to_one_graph() -> None:
    q = torch.randn(7, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(lambda x: attend(x, x, x, rows=3), backend="eager", fullgraph=True, dynamic=False)
    assert torch.equal(compiled(q), attend(q, q, q))
