"""Compiling: what is picked, graphs' bookkeeping on a stand-in for CUDA, no graph breaks.

A `Tape` stands in for a CUDA graph: it keeps the recorded function, and a replay computes it again from the memory it
was recorded with, into the output it was recorded with. Whatever reads a graph's memory wrongly reads a tape's wrongly.
The tests at the end need CUDA itself.
"""

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ivmix.models import (
    VAE,
    CLIPText,
    CLIPTextConfig,
    Condition,
    DiT,
    DiTConfig,
    MotionConfig,
    SpaceTimeConfig,
    UNet,
    UNetConfig,
    VAEConfig,
    perturbed,
)
from ivmix.models.compile import choose, compile_network
from ivmix.models.graphs import SHAPES, Graphs, Recorder, Weights
from ivmix.models.in_blocks import InBlocks
from ivmix.models.meta import build
from ivmix.models.triton import missing
from ivmix.sprites.averaging.unet import AveragingUNet, AveragingUNetConfig

Make = Callable[..., Tensor]
Arguments = tuple[Tensor, Tensor, Condition]

# Rounding in float64 (1e-16) through some thirty layers, where a traced graph may call other kernels for the same sum;
# a wrong prompt, time or mask shows at 1e-3 and more.
CLOSE = 1e-12


@pytest.fixture
def image_config(image_config: UNetConfig) -> UNetConfig:
    return replace(image_config, block_out_channels=(8, 16), attention_levels=(True, False))


@pytest.fixture
def network(image_config: UNetConfig, motion: MotionConfig, randomised: Callable[..., UNet]) -> UNet:
    return randomised(AveragingUNet(AveragingUNetConfig(**vars(replace(image_config, temporal=motion)))))


@pytest.fixture
def space_time(image_config: UNetConfig, randomised: Callable[..., UNet]) -> UNet:
    """VideoCrafter2 in small: its condition holds a frame rate besides the text."""
    return randomised(UNet(replace(image_config, num_attention_heads=(2, 4), temporal=SpaceTimeConfig(fps=True))))


@pytest.fixture
def transformer(randomised: Callable[..., DiT]) -> DiT:
    """Latte in small: its condition holds which tokens are text."""
    sizes = DiTConfig(num_layers=2, num_attention_heads=2, attention_head_dim=8, caption_channels=12, sample_size=8)
    return randomised(DiT(replace(sizes, temporal=6)))


@pytest.fixture
def arguments(network: UNet, normal: Make) -> Callable[..., Arguments]:
    """`arguments(seed, b, f, h)`: latents, a time as samplers give it, and a condition, all different for each seed."""

    def make(seed: int = 0, b: int = 2, f: int = 3, h: int = 8) -> Arguments:
        like = network.conv_in.weight
        t = torch.tensor(100.5 * (seed + 1), dtype=torch.float64)
        context = normal(b, 5, 12, seed=seed + 100).to(like)
        return normal(b, 4, f, h, 8, seed=seed).to(like), t, network.condition(context)

    return make


@pytest.fixture
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


# --- what is picked -------------------------------------------------------------------------------------------------


def on(device: str) -> Any:
    """A network that says it is there."""
    network = nn.Module()
    network.parameters = lambda: iter([SimpleNamespace(device=torch.device(device))])  # type: ignore[method-assign, assignment, return-value]
    return network


@pytest.mark.parametrize(
    ("mode", "device", "triton", "path", "recorded", "compiled"),
    [
        ("auto", "cuda:0", False, "cuda graphs", True, False),
        ("auto", "cuda:0", True, "cuda graphs", True, False),
        ("auto", "cpu", True, "eager", False, False),
        ("auto", "mps", True, "eager", False, False),
        ("graphs", "cuda:0", False, "cuda graphs", True, False),
        ("cudagraphs", "cuda:0", False, "cudagraphs", False, True),
        ("inductor", "cuda:0", True, "inductor", True, True),
        ("inductor", "cpu", False, "inductor", False, True),
        ("off", "cuda:0", True, "eager", False, False),
        ("off", "cpu", False, "eager", False, False),
    ],
)
def test_the_path_is_the_one_the_documentation_promises(
    mode: Any, device: str, triton: bool, path: str, recorded: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled blocks on a GPU are recorded, but by the backend that has graphs of its own."""
    monkeypatch.setattr("ivmix.models.triton.find_spec", lambda name: None)
    monkeypatch.setattr("ivmix.models.compile.missing", lambda: not triton)
    network, recorder = on(device), Recorder()
    picked = compile_network(network, mode, recorder)
    assert picked.path == path
    assert picked.reason
    forward: Any = picked.forward
    assert isinstance(forward, Graphs) == recorded
    if recorded:
        assert forward.record is recorder
        forward = forward.forward
    assert isinstance(forward, InBlocks) == compiled
    assert compiled or forward is network


def test_another_network_is_called_in_the_same_way_from_the_same_memory() -> None:
    one = compile_network(on("cuda:0"))
    view = on("cuda:0")
    other = one.of(view)
    assert (other.path, other.reason) == (one.path, one.reason)
    assert isinstance(other.forward, Graphs)
    assert isinstance(one.forward, Graphs)
    assert other.forward.network is view
    assert other.forward.record is one.forward.record


def test_inductor_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "C++ compiler" in choose("inductor", "cpu")[1]
    monkeypatch.setattr("ivmix.models.triton.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"mode='inductor'.*not installed.*pip install triton.*mode='auto'"):
        compile_network(on("cuda:0"), "inductor")


@pytest.mark.parametrize("mode", ["graphs", "cudagraphs"])
def test_graphs_that_are_asked_for_need_a_gpu(mode: Any, network: UNet) -> None:
    with pytest.raises(ValueError, match=f"mode='{mode}' needs an NVIDIA GPU, the network is on cpu: take mode='auto'"):
        compile_network(network, mode)


def test_an_unknown_mode_is_refused(network: UNet) -> None:
    with pytest.raises(ValueError, match="mode='fast': expected 'auto', 'graphs', 'cudagraphs', 'inductor' or 'off'"):
        compile_network(network, "fast")  # type: ignore[arg-type]


def test_without_a_gpu_auto_is_the_network_itself(network: UNet, arguments: Callable[..., Arguments]) -> None:
    picked = compile_network(network)
    assert picked.forward is network
    assert torch.equal(picked(*arguments(), temporal=False), network(*arguments(), temporal=False))


HIDDEN = """
import builtins, importlib.abc, sys, torch

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "triton":
            asked.append(name)
            raise ModuleNotFoundError(name)

asked = []
sys.meta_path.insert(0, Hide())
torch.cuda.is_available = lambda: True
import ivmix.models.compile as c
from ivmix.models import UNet, UNetConfig

network = UNet(UNetConfig(block_out_channels=(8,), attention_levels=(True,), norm_num_groups=4, cross_attention_dim=8))

class OnTheGPU(torch.nn.Module):
    def parameters(self):
        yield type("Parameter", (), {"device": torch.device("cuda")})

picked = c.compile_network(OnTheGPU())
assert picked.path == "cuda graphs", picked

def record(function, device):
    output = function()
    return output, lambda: output.copy_(function())

picked = c.Compiled(c.Graphs(network, record), *c.choose("auto", "cuda"), picked.recorder)
with torch.no_grad():
    for seed in range(4):
        torch.manual_seed(seed)
        z, t, condition = torch.randn(1, 4, 2, 8, 8), torch.tensor(9.0 + seed), network.condition(torch.randn(1, 5, 8))
        assert torch.equal(picked(z, t, condition), network(z, t, condition))
assert None not in picked.forward.programs.values()
assert not asked, f"asked for {asked}"
slow = [m for m in sys.modules if m.startswith(("torch._dynamo", "torch._inductor", "triton"))]
assert not slow, f"imported {slow}"
print("graphs without triton")
"""


def test_auto_picks_and_runs_graphs_on_a_gpu_machine_without_triton() -> None:
    done = subprocess.run([sys.executable, "-c", HIDDEN], capture_output=True, text=True)
    assert done.stdout == "graphs without triton\n", done.stderr


# --- graphs: whose memory is read and written when ------------------------------------------------------------------


class Tape:
    """Counts and keeps what a Recorder would have recorded."""

    def __init__(self) -> None:
        self.recorded = self.replays = 0

    def __call__(self, function: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, Callable[[], None]]:
        self.recorded += 1
        output = function().fill_(torch.nan)  # recording computes nothing

        def replay() -> None:
            self.replays += 1
            output.copy_(function())

        return output, replay


@pytest.fixture
def tape() -> Tape:
    return Tape()


@pytest.fixture
def graphs(network: UNet, tape: Tape, no_grad: None) -> Graphs:
    return Graphs(network, tape)


def test_a_shape_is_recorded_once_whatever_the_latents_the_time_and_the_prompt(
    graphs: Graphs, network: UNet, tape: Tape, arguments: Callable[..., Arguments]
) -> None:
    for seed in range(5):
        z, t, condition = arguments(seed)
        assert torch.equal(graphs(z, t, condition), network(z, t, condition))
    assert (tape.recorded, tape.replays) == (1, 4)


def test_the_frame_rate_is_read_anew_at_every_replay(space_time: UNet, tape: Tape, no_grad: None, normal: Make) -> None:
    graphs, z, t = Graphs(space_time, tape), normal(1, 4, 3, 8, 8), torch.tensor(5.0)
    for fps in (8, 12, 24, 28):
        condition = space_time.condition(normal(1, 5, 12), fps)
        assert torch.equal(graphs(z, t, condition), space_time(z, t, condition))
    assert tape.recorded == 1


def test_the_mask_is_read_anew_at_every_replay(transformer: DiT, tape: Tape, no_grad: None, normal: Make) -> None:
    graphs, z, t = Graphs(transformer, tape), normal(1, 4, 3, 8, 6), torch.tensor(5.0)
    for length in range(1, 5):
        condition = transformer.condition(normal(1, 5, 12), mask=torch.arange(5)[None] < length)
        assert torch.equal(graphs(z, t, condition), transformer(z, t, condition))
    assert tape.recorded == 1


def test_shapes_and_views_have_their_own_recordings(
    graphs: Graphs, network: UNet, tape: Tape, arguments: Callable[..., Arguments]
) -> None:
    shapes = [{}, {"b": 1}, {"f": 1}, {"h": 16}]
    for seed in range(3):
        for shape in shapes:
            for temporal in (True, False):
                given = arguments(seed, **shape)
                assert torch.equal(graphs(*given, temporal=temporal), network(*given, temporal=temporal))
    assert (tape.recorded, tape.replays) == (8, 16)


def test_arguments_of_another_type_have_a_recording_of_their_own(
    graphs: Graphs, tape: Tape, arguments: Callable[..., Arguments]
) -> None:
    z, t, condition = arguments(f=1)
    for _ in range(2):
        for kind in (torch.float64, torch.float32):
            graphs(z, t.to(kind), condition)
    assert tape.recorded == 2


def test_a_view_of_a_network_has_recordings_of_its_own(
    graphs: Graphs, network: UNet, tape: Tape, arguments: Callable[..., Arguments]
) -> None:
    view = perturbed(network, ["mid_block"])
    of_view = Graphs(view, tape)
    for seed in range(3):
        z, t, condition = arguments(seed)
        seen = replace(condition, network=view)
        assert torch.equal(of_view(z, t, seen), view(z, t, seen))
        assert torch.equal(graphs(z, t, condition), network(z, t, condition))
    assert (tape.recorded, tape.replays) == (2, 4)


def test_an_earlier_result_outlives_the_next_replay(
    graphs: Graphs, network: UNet, arguments: Callable[..., Arguments]
) -> None:
    held = [graphs(*arguments(seed)) for seed in range(5)]  # as a multistep solver holds them
    for seed, y in enumerate(held):
        assert torch.equal(y, network(*arguments(seed)))


def test_arguments_are_not_kept_or_written_to(graphs: Graphs, arguments: Callable[..., Arguments]) -> None:
    given = [arguments(seed) for seed in range(4)]
    for z, t, condition in given:
        graphs(z, t, condition)
    for seed, (z, t, condition) in enumerate(given):
        fresh = arguments(seed)
        assert torch.equal(z, fresh[0])
        assert torch.equal(t, fresh[1])
        assert torch.equal(condition.keys_values[0][0], fresh[2].keys_values[0][0])


def test_weights_changed_in_place_are_read_and_weights_that_moved_are_recorded_anew(
    graphs: Graphs, network: UNet, tape: Tape, arguments: Callable[..., Arguments], randomised: Callable[..., UNet]
) -> None:
    def check() -> None:
        for seed in range(3):
            assert torch.equal(graphs(*arguments(seed)), network(*arguments(seed)))

    check()
    network.conv_in.weight.mul_(2)
    check()
    assert tape.recorded == 1
    network.conv_in.weight.data = network.conv_in.weight * 2
    check()
    assert tape.recorded == 2
    network.load_state_dict({k: 1.1 * v for k, v in network.state_dict().items()}, assign=True)
    check()
    assert tape.recorded == 3
    network.conv_out = randomised(nn.Conv2d(8, 4, 3, padding=1), seed=7)
    check()
    assert tape.recorded == 4
    deep = network.mid_block.attentions[0].transformer_blocks[0].attn1  # type: ignore[union-attr]
    deep.to_q.weight = nn.Parameter(deep.to_q.weight * 2, requires_grad=False)  # as a LoRA is merged
    check()
    assert tape.recorded == 5
    deep.to_q = Twice(deep.to_q)  # as a LoRA is put beside a layer
    check()
    assert tape.recorded == 6
    deep.to_q.inner.weight.data = deep.to_q.inner.weight * 3
    check()
    assert tape.recorded == 7
    deep.to_q.bias = nn.Parameter(torch.ones(16, dtype=torch.float64), requires_grad=False)
    check()
    assert tape.recorded == 8
    table = network.mid_block.motion_modules[0].transformer_blocks[0].pos_embed  # type: ignore[union-attr]
    table.pe = table.pe * 2
    check()
    assert tape.recorded == 9
    network.to(torch.float32).to(torch.float64)
    check()
    assert tape.recorded == 10


class Twice(nn.Module):
    """A layer in the place of one that it holds."""

    bias: Tensor

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.bias = nn.Parameter(torch.zeros(16, dtype=torch.float64), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.inner(x) + self.bias


def test_weights_are_found_where_a_walk_finds_them(network: UNet) -> None:
    def walk() -> list[int]:
        return sorted(t.data_ptr() for t in (*network.parameters(), *network.buffers()))

    weights = Weights(network)
    assert sorted(weights.addresses()) == walk()
    network.mid_block.resnets[1] = nn.Linear(3, 3)
    assert sorted(weights.addresses()) == walk()


def test_autograd_and_autocast_run_eagerly(
    network: UNet, tape: Tape, arguments: Callable[..., Arguments]
) -> None:
    graphs = Graphs(network, tape)
    for seed in range(3):
        z, t, condition = arguments(seed)
        y = graphs(z.requires_grad_(), t, condition)
        (slope,) = torch.autograd.grad(y.sum(), z)
        assert slope.abs().max() > 0
    with torch.no_grad(), torch.autocast("cpu"):
        for seed in range(3):
            assert torch.equal(graphs(*arguments(seed)), network(*arguments(seed)))
    assert tape.recorded == 0


def test_inference_mode_and_no_grad_share_one_recording(
    graphs: Graphs, network: UNet, tape: Tape, arguments: Callable[..., Arguments]
) -> None:
    for seed in range(6):
        with torch.inference_mode() if seed % 2 else torch.no_grad():  # the second call records
            given = arguments(seed)
            assert torch.equal(graphs(*given), network(*given))
    assert tape.recorded == 1


def test_the_longest_unused_shape_goes_first(
    graphs: Graphs, tape: Tape, arguments: Callable[..., Arguments]
) -> None:
    for _ in range(2):
        for b in (1, 2):
            graphs(*arguments(b=b))
    assert tape.recorded == 2
    for f in range(1, SHAPES):
        graphs(*arguments(b=1))
        graphs(*arguments(b=3, f=min(f, 6), h=8 if f < 7 else 16))
    assert len(graphs.programs) == SHAPES
    before = tape.replays
    graphs(*arguments(b=1))
    assert tape.replays == before + 1  # was in use all the time
    assert tape.recorded == 2
    graphs(*arguments(b=2))
    graphs(*arguments(b=2))
    assert tape.recorded == 3  # had gone


def test_what_cannot_be_recorded_runs_eagerly_and_says_so_once(
    network: UNet, arguments: Callable[..., Arguments], no_grad: None
) -> None:
    graphs = Graphs(network, Recorder())  # of a network that is not on a GPU
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for seed in range(4):
            assert torch.equal(graphs(*arguments(seed)), network(*arguments(seed)))
    said = "no CUDA graph of AveragingUNet, it runs eagerly: the network has moved to cpu"
    assert [str(w.message) for w in told] == [said]


def test_refusals_are_the_networks_own(graphs: Graphs, arguments: Callable[..., Arguments]) -> None:
    z, t, _ = arguments(b=2)
    _, _, condition = arguments(b=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="z has 2 rows, the condition 1"):
            graphs(z, t, condition)


def test_recordings_share_stream_and_memory_and_a_failed_one_gives_the_stream_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch.cuda's names replaced: `torch.cuda.graph` too leaves its stream current when a recording fails."""
    current = ["the caller's"]
    seen: list[tuple[Any, ...]] = []

    class Context:
        def __init__(self, stream: Any) -> None:
            self.stream, self.before = stream, current[0]

        def __enter__(self) -> None:
            current[0] = self.stream

        def __exit__(self, *_: object) -> None:
            current[0] = self.before

    class Recording(Context):
        def __init__(self, graph: Any, pool: Any, stream: Any, mode: str) -> None:
            super().__init__(stream)
            seen.append((pool, stream))

        def __exit__(self, kind: Any, *_: object) -> None:
            if kind:
                raise RuntimeError("operation not permitted when stream is capturing")
            super().__exit__()

    monkeypatch.setattr("torch.cuda.Stream", lambda device: SimpleNamespace(device=device))
    monkeypatch.setattr("torch.cuda.stream", Context)
    monkeypatch.setattr("torch.cuda.graph", Recording)
    names = iter("abcd")

    def graph() -> Any:
        name = next(names)
        return SimpleNamespace(pool=lambda: name, replay=None)

    monkeypatch.setattr("torch.cuda.CUDAGraph", graph)

    recorder, first, second = Recorder(), torch.device("cuda", 0), torch.device("cuda", 1)
    recorder(lambda: torch.zeros(1), first)
    with pytest.raises(RuntimeError, match="not permitted"):
        recorder(lambda: 1 / 0, first)  # type: ignore[arg-type, return-value]
    assert current == ["the caller's"]
    recorder(lambda: torch.zeros(1), first)
    recorder(lambda: torch.zeros(1), second)
    assert [pool for pool, _ in seen] == [None, "a", "a", None]
    assert [stream.device for _, stream in seen] == [first, first, first, second]
    assert seen[0][1] is seen[1][1] is seen[2][1]


class Devices(TorchDispatchMode):
    """Every operation that reads or writes a tensor elsewhere than on `device`."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.elsewhere = device, list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        if any(x.device.type != self.device for x in tensors):
            self.elsewhere.append(str(func))
        return result


@pytest.mark.parametrize("name", ["video", "space-time", "transformer", "vae", "text"])
def test_a_call_stays_on_its_device(name: str, network: UNet, space_time: UNet, transformer: DiT) -> None:
    """A recording may not copy from the CPU or wait for a value, such as a shape that depends on data.

    On the meta device there are no values, so a call that needs one raises. A shape is seen before it is recorded.
    """
    call: Callable[[], Tensor]
    with torch.device("meta"), torch.no_grad():
        z, t = torch.empty(2, 4, 3, 8, 8), torch.tensor(5.0, dtype=torch.float64)
        match name:
            case "video" | "space-time":
                unet = build(UNet, (network if name == "video" else space_time).config)
                condition = unet.condition(torch.empty(2, 5, 12), None if name == "video" else 24)
                call = partial(unet, z, t, condition)
            case "transformer":
                dit = build(DiT, transformer.config)
                condition = dit.condition(torch.empty(2, 5, 12), mask=torch.ones(2, 5, dtype=torch.bool))
                call = partial(dit, z, t, condition)
                call()
            case "vae":
                vae = build(VAE, VAEConfig(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4))
                call = partial(vae.decode, z, frames_per_batch=4)
            case _:
                text = build(CLIPText, CLIPTextConfig(50, 8, 16, 2, 2))
                call = partial(text, torch.zeros(2, 9, dtype=torch.int64))
    with torch.no_grad(), Devices("meta") as seen:
        call()
    assert seen.elsewhere == []


def test_a_call_that_leaves_its_device_would_be_seen() -> None:
    with Devices("meta") as seen:
        torch.zeros(2, device="cpu").to("meta")
    assert len(seen.elsewhere) == 2
    with pytest.raises(RuntimeError, match="meta"):
        torch.zeros((), device="meta").item()


# --- torch.compile: no graph breaks ----------------------------------------------------------------------------------


@pytest.fixture
def fresh() -> Iterator[None]:
    import torch._dynamo

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("fresh", "no_grad")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", ["image", "video", "view", "space-time", "transformer", "vae", "text"])
def test_networks_compile_whole_and_compute_the_same(
    name: str, backend: str, network: UNet, space_time: UNet, transformer: DiT, image_config: UNetConfig,
    vae_config: VAEConfig, randomised: Callable[..., Any], normal: Make, arguments: Callable[..., Arguments],
    difference: Callable[[Tensor, Tensor], float],
) -> None:  # fmt: skip
    function: Callable[..., Tensor] = network
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
    match name:
        case "video":
            calls = [(arguments(b=1, f=5, h=16), {}), (arguments(), {"temporal": False})]
        case "view":
            function = view = perturbed(network, ["up_blocks.1", "mid_block.resnets"], ["mid_block"])
            z, t, condition = arguments()
            calls = [((z, t, replace(condition, network=view)), {})]
        case "space-time":
            function, (z, t, _) = space_time, arguments()
            calls = [((z, t, space_time.condition(normal(2, 5, 12), 24)), {})]
        case "transformer":
            function, (z, t, _) = transformer, arguments()
            condition = transformer.condition(normal(2, 5, 12), mask=torch.arange(5) < torch.tensor([[2], [5]]))
            calls = [((z, t, condition), {}), ((z, t, condition), {"temporal": False})]
        case "image":
            function = image = randomised(UNet(image_config))
            z, t, _ = arguments()
            calls = [((z, t, image.condition(normal(2, 5, 12))), {})]
        case "vae":
            function = randomised(VAE(vae_config)).decode
            calls = [((normal(b, 4, 3, 8, 8), 4), {}) for b in (1, 2)]
        case _:
            function = randomised(CLIPText(CLIPTextConfig(50, 8, 16, 2, 2)))
            calls = [((torch.arange(b * 9).reshape(b, 9),), {}) for b in (1, 3)]
    compiled = torch.compile(function, fullgraph=True, backend=backend, dynamic=False)
    for args, kwargs in calls:
        assert difference(compiled(*args, **kwargs), function(*args, **kwargs)) <= CLOSE


# --- on CUDA --------------------------------------------------------------------------------------------------------


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="records CUDA graphs: needs a GPU and IVMIX_TEST_GPU=1")


@cuda
@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float16, 1e-2)])
def test_replays_on_cuda_equal_eager_calls_through_changes_of_shape_prompt_and_weights(
    dtype: torch.dtype, close: float, network: UNet, arguments: Callable[..., Arguments],
    difference: Callable[[Tensor, Tensor], float],
) -> None:  # fmt: skip
    """The same kernels on the same numbers; the tolerance leaves room for a library that chooses by alignment."""
    picked = compile_network(network.to("cuda", dtype))
    assert isinstance(picked.forward, Graphs)
    shapes: list[dict[str, int]] = [{}, {"b": 1}, {"f": 5}, {"h": 16}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a recording that failed would warn
        for _ in range(2):
            held = {(seed, i): picked(*arguments(seed, **shapes[i])) for seed in range(4) for i in range(len(shapes))}
            for (seed, i), y in held.items():
                assert difference(y, network(*arguments(seed, **shapes[i]))) <= close
            assert len(picked.forward.programs) == len(shapes)
            assert None not in picked.forward.programs.values()
            network.conv_in.weight.data = network.conv_in.weight * 2


@cuda
@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize("mode", ["graphs", "cudagraphs", "inductor"])
def test_every_mode_on_cuda_equals_eager_calls(
    mode: Any, network: UNet, arguments: Callable[..., Arguments], difference: Callable[[Tensor, Tensor], float]
) -> None:
    if mode == "inductor" and missing():
        pytest.skip("needs Triton")
    picked = compile_network(network.to("cuda", torch.float32), mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        held = {(seed, f): picked(*arguments(seed, f=f)) for seed in range(5) for f in (3, 2)}
    for (seed, f), y in held.items():
        assert difference(y, network(*arguments(seed, f=f))) <= 1e-4


@cuda
@pytest.mark.usefixtures("no_grad")
def test_networks_that_share_memory_on_cuda_keep_their_results(
    network: UNet, arguments: Callable[..., Arguments], difference: Callable[[Tensor, Tensor], float]
) -> None:
    """Image and video in turn, as a pair's; recorded in either order, each overwrites what the other computed with."""
    recorder = Recorder()
    video = compile_network(network.to("cuda", torch.float32), recorder=recorder)
    view = perturbed(network, ["mid_block"])
    other = video.of(view)
    held = []
    for seed in range(6):
        z, t, condition = arguments(seed, h=16)
        seen = replace(condition, network=view)
        held.append((video(z, t, condition), other(z, t, seen), network(z, t, condition), view(z, t, seen)))
    for a, b, expected, of_view in held:
        assert difference(a, expected) <= 1e-5
        assert difference(b, of_view) <= 1e-5


@cuda
@pytest.mark.usefixtures("no_grad")
def test_a_network_that_leaves_the_gpu_runs_eagerly(network: UNet, arguments: Callable[..., Arguments]) -> None:
    picked = compile_network(network.to("cuda"))
    for seed in range(3):
        picked(*arguments(seed))
    network.to("cpu")
    assert torch.equal(picked(*arguments()), network(*arguments()))
    with pytest.warns(UserWarning, match="the network has moved to cpu"):
        assert torch.equal(picked(*arguments()), network(*arguments()))
