"""Linear layers by oneDNN: the same products as torch's, and torch's own wherever oneDNN's would not do."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from ivmix.models.linear import HAS_ONEDNN, Gated, Linear, by_onednn, gated, product

# Sums of 24 products of standard normals: rounding of each by 6e-8, of values that reach 15.
CLOSE = 1e-5
SHAPES = [(8, 24), (24,), (0, 24), (2, 0, 24), (2, 3, 4, 5, 24)]


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def layer(request: pytest.FixtureRequest) -> Linear:
    torch.manual_seed(0)
    return Linear(24, 10, bias=request.param)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_product_is_torch_s_in_values_shape_and_layout(layer: Linear, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    with torch.inference_mode():
        own, expected = layer(x), F.linear(x, layer.weight, layer.bias)
    assert own.stride() == expected.stride()
    torch.testing.assert_close(own, expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    "view", [lambda x: x.transpose(0, 1), lambda x: x[:, ::2], lambda x: x[:, :1].expand(-1, 7, -1)], ids="tse"
)
def test_tokens_in_any_layout_give_the_same(layer: Linear, view: Callable[[Tensor], Tensor]) -> None:
    x = view(torch.randn(4, 6, 24))
    with torch.inference_mode():
        assert torch.equal(layer(x), layer(x.contiguous()))


@pytest.mark.parametrize("gelu", ["none", "tanh"])
def test_the_gelu_of_a_product_is_torch_s(gelu: str) -> None:
    layer, x = Linear(24, 10, gelu=gelu), torch.randn(5, 3, 24)
    with torch.inference_mode():
        expected = F.gelu(F.linear(x, layer.weight, layer.bias), approximate=gelu)
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=CLOSE)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)  # with gradients, torch's own


def test_the_second_half_of_a_gated_product_is_the_gate() -> None:
    layer, x = Gated(24, 10), torch.randn(5, 3, 24)
    with torch.inference_mode():
        value, gate = F.linear(x, layer.weight, layer.bias).chunk(2, dim=-1)
        torch.testing.assert_close(layer(x), value * F.gelu(gate), rtol=0, atol=CLOSE)
    torch.testing.assert_close(layer(x), value * F.gelu(gate), rtol=0, atol=CLOSE)
    assert layer.state_dict().keys() == nn.Linear(24, 10).state_dict().keys()


@pytest.mark.skipif(not HAS_ONEDNN, reason="this torch has no oneDNN for this processor")
def test_only_float32_on_the_cpu_without_gradients_is_onednn_s() -> None:
    x, weight = torch.randn(3, 24), torch.randn(10, 24)
    with torch.no_grad():
        assert by_onednn(x, weight)
        assert not by_onednn(x.double(), weight.double())
        assert not by_onednn(x, weight.double())
        assert not by_onednn(x.to("meta"), weight.to("meta"))
        with torch.autocast("cpu"):
            assert not by_onednn(x, weight)
            assert product(x, weight).dtype == torch.bfloat16
        with torch.backends.mkldnn.flags(enabled=False):
            assert not by_onednn(x, weight)
    assert not by_onednn(x, weight)


@pytest.mark.parametrize("layer", [Linear(24, 10), Linear(24, 10, gelu="tanh"), Gated(24, 10)], ids=repr)
def test_derivatives_and_batches_of_torch_func_are_those_with_gradients_on(layer: nn.Linear) -> None:
    x, along = torch.randn(3, 24), torch.randn(3, 24)
    y, pushed = torch.func.jvp(layer, (x,), (along,))
    with torch.no_grad():
        torch.testing.assert_close(torch.func.jvp(layer, (x,), (along,)), (y, pushed), rtol=0, atol=0)
        torch.testing.assert_close(torch.func.vmap(layer)(x), y)
        gradient = torch.func.grad(lambda x: layer(x).sum())(x)
    layer(x.requires_grad_()).sum().backward()
    torch.testing.assert_close(gradient, x.grad)


def test_derivatives_go_backward_and_forward(layer: Linear) -> None:
    x, along = torch.randn(3, 24), torch.randn(3, 24)
    expected = F.linear(along, layer.weight)
    layer(x.requires_grad_()).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(3, -1))
    x = x.detach()
    with torch.no_grad(), forward_ad.dual_level():
        _, pushed = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, along)))
    torch.testing.assert_close(pushed, expected)


def test_a_wrong_width_is_told_as_torch_tells_it() -> None:
    with torch.no_grad(), pytest.raises(RuntimeError, match="3x7 and 24x5"):
        gated(torch.randn(3, 7), torch.randn(10, 24), torch.randn(10))


@pytest.mark.slow
def test_a_compiled_layer_is_torch_s_own(layer: Linear) -> None:
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    torch._dynamo.reset()
    x = torch.randn(3, 24)
    with torch.no_grad():
        compiled = torch.compile(layer, backend=backend)(x)
        assert torch.equal(compiled, F.linear(x, layer.weight, layer.bias))
    assert seen
    assert not any("pointwise" in name for name in seen)
