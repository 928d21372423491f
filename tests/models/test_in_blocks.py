"""Blocks compiled one by one: what is compiled how often, and whose weights and layers it reads."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from public_configs import MODELSCOPE
from torch import Tensor, nn

from ivmix.models import (
    CLIPText,
    CLIPTextConfig,
    DiT,
    DiTConfig,
    MotionConfig,
    UNet,
    UNetConfig,
    perturbed,
)
from ivmix.models.graphs import Graphs
from ivmix.models.in_blocks import InBlocks
from ivmix.models.layers import CrossAttentionBlock, Resnet
from ivmix.models.unet.temporal import FrameTransformer

Make = Callable[..., Tensor]

# Rounding in float64 (1e-16) through some thirty layers; a wrong prompt, time or weight shows at 1e-3 and more.
CLOSE = 1e-12


class Counter:
    """A backend of torch.compile that runs what it is given as it is, and counts."""

    def __init__(self) -> None:
        self.compiled = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.compiled += 1
        return graph.forward


@pytest.fixture(autouse=True)
def fresh(request: pytest.FixtureRequest) -> Iterator[None]:
    if "slow" not in request.keywords:
        yield
        return
    import torch._dynamo

    torch._dynamo.reset()
    with torch.no_grad():
        yield
    torch._dynamo.reset()


@pytest.fixture
def network(image_config: UNetConfig, motion: MotionConfig, randomised: Callable[..., UNet]) -> UNet:
    """Two levels of one width: blocks of four shapes but for those that read skips, eight times over."""
    config = replace(
        image_config, block_out_channels=(8, 8), attention_levels=(True, True), layers_per_block=2, temporal=motion
    )
    return randomised(UNet(config))


@pytest.fixture
def told(normal: Make) -> Callable[..., tuple[Tensor, Tensor, Any]]:
    """`told(network, seed, f)`: latents, a time as samplers give it, and a condition."""

    def make(network: Any, seed: int = 0, f: int = 3) -> tuple[Tensor, Tensor, Any]:
        context = normal(2, 5, network.config.context_dim, seed=seed + 100)
        condition = network.condition(context, **network.told(2))
        return normal(2, 4, f, 8, 8, seed=seed), torch.tensor(100.5 * (seed + 1), dtype=torch.float64), condition

    return make


@pytest.mark.slow
def test_blocks_of_one_shape_are_compiled_once_whatever_the_latents_the_time_and_the_prompt(
    network: UNet, told: Callable[..., Any], difference: Callable[[Tensor, Tensor], float]
) -> None:
    counter = Counter()
    forward = InBlocks(network, counter)
    # On each of two levels resnets of 8 channels and of 16, transformers, motion modules.
    shapes = 2 * (2 + 1 + 1)
    for expected, shape in enumerate([{}, {"f": 2}], start=1):
        for seed in range(3):
            given = told(network, seed, **shape)
            assert difference(forward(*given), network(*given)) <= CLOSE
            assert counter.compiled == expected * shapes
    assert len(forward.blocks) == sum(isinstance(m, UNet.repeated) for m in network.modules()) == 12 + 11 + 11
    assert difference(forward(*given, temporal=False), network(*given, temporal=False)) <= CLOSE
    assert counter.compiled == 2 * shapes  # the image's layers are the video's


@pytest.mark.slow
@pytest.mark.parametrize("family", ["space-time", "transformer", "text"])
def test_other_families_compile_their_own_blocks(
    family: str, space_time_config: UNetConfig, randomised: Callable[..., Any], told: Callable[..., Any],
    difference: Callable[[Tensor, Tensor], float],
) -> None:  # fmt: skip
    small = DiTConfig(num_layers=4, num_attention_heads=2, attention_head_dim=8, caption_channels=12, sample_size=8)
    network, kinds = {
        "space-time": (UNet(space_time_config), None),
        "transformer": (DiT(replace(small, temporal=6)), 2),
        "text": (CLIPText(CLIPTextConfig(50, 8, 16, 2, 2)), 1),  # says of no block that it repeats
    }[family]
    network, counter = randomised(network), Counter()
    forward = InBlocks(network, counter)
    for seed in range(2):
        given = ((torch.arange(18) + seed).reshape(2, 9),) if family == "text" else told(network, seed)
        assert difference(forward(*given), network(*given)) <= CLOSE
        before = counter.compiled
    forward(*given)
    assert counter.compiled == before
    assert kinds is None or before == kinds


@pytest.mark.slow
def test_a_network_compiles_more_shapes_of_a_block_than_torch_takes_by_itself(
    network: UNet, told: Callable[..., Any]
) -> None:
    """A UNet of Stable Diffusion has resnets of 14 shapes, torch gives up after 8."""
    counter = Counter()
    with torch._dynamo.config.patch(recompile_limit=1):
        InBlocks(network, counter)(*told(network))
    assert counter.compiled == 8


@pytest.mark.slow
def test_weights_are_read_where_they_are_now_and_the_network_stays_as_it_is(
    network: UNet, told: Callable[..., Any], randomised: Callable[..., Any],
    difference: Callable[[Tensor, Tensor], float],
) -> None:  # fmt: skip
    counter = Counter()
    forward, given = InBlocks(network, counter), told(network)

    def check() -> None:
        expected = network(*given)
        before = counter.compiled
        assert difference(forward(*given), expected) <= CLOSE
        assert torch.equal(network(*given), expected)
        assert not any("forward" in vars(module) for module in network.modules())
        assert counter.compiled == before or before == 0

    check()
    resnet = network.mid_block.resnets[0]
    resnet.conv1.weight.mul_(2)
    check()
    resnet.conv1.weight.data = resnet.conv1.weight * 1.5
    check()
    network.load_state_dict({k: 1.1 * v for k, v in network.state_dict().items()}, assign=True)
    check()
    network.mid_block.resnets[0] = randomised(Resnet(8, 8, 4, 1e-5, 32), seed=5)  # runs eagerly
    check()


@pytest.mark.slow
def test_a_view_is_compiled_with_its_own_layers(
    network: UNet, told: Callable[..., Any], difference: Callable[[Tensor, Tensor], float]
) -> None:
    counter = Counter()
    view = perturbed(network, ["mid_block.resnets"], ["up_blocks"])
    whole, seen = InBlocks(network, counter), InBlocks(view, counter)
    z, t, condition = told(network)
    for _ in range(2):
        assert difference(whole(z, t, condition), network(z, t, condition)) <= CLOSE
        other = replace(condition, network=view)
        assert difference(seen(z, t, other), view(z, t, other)) <= CLOSE
        assert difference(view(z, t, other), network(z, t, condition)) > 1e-3


@pytest.mark.slow
def test_compiled_blocks_are_compiled_before_they_are_recorded(
    network: UNet, told: Callable[..., Any], difference: Callable[[Tensor, Tensor], float]
) -> None:
    """A recording of what still compiles fails on a GPU: torch waits for it, and tries kernels out."""
    counter = Counter()
    recorded = []

    def record(function: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, Callable[[], None]]:
        before = counter.compiled
        output = function()
        recorded.append(counter.compiled - before)

        def replay() -> None:
            output.copy_(function())

        return output, replay

    graphs = Graphs(network, record, InBlocks(network, counter))
    for seed in range(4):
        with torch.inference_mode():  # whose tensors are compiled for anew, and no buffer is one
            given = told(network, seed)
            assert difference(graphs(*given), network(*given)) <= CLOSE
    assert recorded == [0]


@pytest.mark.slow
def test_what_cannot_be_compiled_runs_eagerly_and_says_so_once(network: UNet, told: Callable[..., Any]) -> None:
    def fail(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        raise AttributeError("module 'triton.language' has no attribute 'tensor'")

    forward = InBlocks(network, fail)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for seed in range(3):
            given = told(network, seed)
            assert torch.equal(forward(*given), network(*given))
    ours = [str(w.message) for w in said if "is not compiled" in str(w.message)]
    assert len(ours) == 1
    assert ours[0].startswith("UNet is not compiled, it runs eagerly: ")
    assert "no attribute 'tensor'" in ours[0]
    assert not any("forward" in vars(module) for module in network.modules())


@pytest.mark.slow
def test_an_error_of_the_network_is_its_own(network: UNet, told: Callable[..., Any]) -> None:
    z, t, condition = told(network)
    forward = InBlocks(network, "eager")
    with pytest.raises(ValueError, match="9 frames, but this motion module knows positions for 6"):
        forward(z.repeat(1, 1, 3, 1, 1), t, condition)
    assert not any("forward" in vars(module) for module in network.modules())


def test_autograd_and_autocast_leave_it_alone(network: UNet, told: Callable[..., Any]) -> None:
    def unasked(*_: Any) -> Any:
        raise AssertionError("compiled")

    forward = InBlocks(network, unasked)
    z, t, condition = told(network)
    y = forward(z.requires_grad_(), t, condition)
    assert y.requires_grad
    with torch.no_grad(), torch.autocast("cpu"):
        assert torch.equal(forward(z, t, condition), network(z, t, condition))


@pytest.mark.slow
def test_graphs_of_torch_are_told_where_a_call_begins_and_their_output_is_copied(
    network: UNet, told: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its blocks' outputs stay until the next call begins: without a sign, each block would be a call of its own."""
    began: list[None] = []
    monkeypatch.setattr("torch.compiler.cudagraph_mark_step_begin", lambda: began.append(None))
    forward = InBlocks(network, "cudagraphs")
    own = torch.ones(1, dtype=torch.float64)
    forward.blocks = [(nn.Identity(), lambda *_: own)]
    given = told(network)
    for calls in range(1, 4):
        assert torch.equal(forward(*given), network(*given))
        assert len(began) == calls
    one = nn.Identity()
    alone = InBlocks(one, "cudagraphs")
    alone.__dict__["blocks"] = [(one, lambda *_: own)]
    one.parameters = lambda: iter([SimpleNamespace(device=torch.device("cpu"))])  # type: ignore[method-assign, assignment, return-value]
    assert alone(own).data_ptr() != own.data_ptr()


def test_repeated_blocks_are_most_of_a_public_unet() -> None:
    from ivmix.models.meta import build

    network = build(UNet, UNetConfig(temporal=MotionConfig()))
    count = {kind: sum(isinstance(m, kind) for m in network.modules()) for kind in UNet.repeated}
    assert (count[Resnet], count[CrossAttentionBlock], count[FrameTransformer]) == (22, 16, 20)
    inside = {id(p) for m in network.modules() if isinstance(m, UNet.repeated) for p in m.parameters()}
    total = sum(p.numel() for p in network.parameters())
    assert sum(p.numel() for p in network.parameters() if id(p) in inside) > 0.9 * total
    video = build(UNet, MODELSCOPE)
    assert sum(isinstance(m, UNet.repeated) for m in video.modules()) == 22 + 16 + 17 + 22
