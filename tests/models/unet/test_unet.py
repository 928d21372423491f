"""The UNet: public keys and sizes, the image view, who sees whom, conditions, and what is refused."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from public_configs import MODELSCOPE, SD21_BASE, VIDEOCRAFTER2
from torch import Tensor, nn

from ivmix.models import Condition, MotionConfig, SpaceTimeConfig, UNet, UNetConfig
from ivmix.models.layers import Attention, SpatialTransformer, sinusoid
from ivmix.models.meta import build

Make = Callable[..., Tensor]
Shapes = dict[str, tuple[int, ...]]

# Rounding in float64 (1e-16) carried through the roughly thirty layers of the small network, where another batch size
# may also choose other kernels: 1e-14 is seen. One frame or row seeing another shows at 1e-3 and more.
CLOSE = 1e-12


@pytest.fixture
def image(image_config: UNetConfig, randomised: Callable[..., UNet]) -> UNet:
    return randomised(UNet(image_config))


@pytest.fixture
def animatediff(image_config: UNetConfig, motion: MotionConfig, randomised: Callable[..., UNet]) -> UNet:
    return randomised(UNet(replace(image_config, temporal=motion)))


@pytest.fixture
def videocrafter(space_time_config: UNetConfig, randomised: Callable[..., UNet]) -> UNet:
    return randomised(UNet(space_time_config))


@pytest.fixture(params=["animatediff", "videocrafter"])
def video(request: pytest.FixtureRequest) -> UNet:
    return request.getfixturevalue(request.param)


def told(network: UNet, context: Tensor) -> Condition:
    return network.condition(context, fps=24 if network.fps_embedding else None)


def run(network: UNet, z: Tensor, context: Tensor, t: float = 400.0, temporal: bool = True) -> Tensor:
    return network(z, torch.tensor(t), told(network, context), temporal=temporal)


# --- the public networks --------------------------------------------------------------------------------------------


def linear(shapes: Shapes) -> Shapes:
    """Stable Diffusion 1.5 stores the projections around a spatial transformer as 1x1 convolutions, [C, C, 1, 1]."""
    projection = (".proj_in.weight", ".proj_out.weight")
    return {key: shape[:2] if key.endswith(projection) else shape for key, shape in shapes.items()}


def parameters(network: UNet) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_default_is_stable_diffusion_1_5_key_by_key(
    manifest: Callable[[str], tuple[Shapes, int]], shapes_of: Callable[..., Shapes]
) -> None:
    network = build(UNet, UNetConfig())
    public, total = manifest("sd15_unet_diffusers")
    assert sum(shape[2:] == (1, 1) and "proj" in key for key, shape in public.items()) == 32
    assert shapes_of(network) == linear(public)
    assert parameters(network) == total == 859_520_964


@pytest.mark.parametrize(
    ("version", "motion", "total"),
    [
        ("v2", MotionConfig(max_frames=32, mid_block=True), 1_312_730_244),
        ("v3", MotionConfig(max_frames=32), 1_276_658_564),
        ("v1", MotionConfig(max_frames=24), 1_276_658_564),  # mm_sd_v15.ckpt: v3's tensors, a shorter position table
    ],
)
def test_animatediff_is_stable_diffusion_plus_the_published_adapter(
    version: str,
    motion: MotionConfig,
    total: int,
    manifest: Callable[[str], tuple[Shapes, int]],
    shapes_of: Callable[..., Shapes],
) -> None:
    network = build(UNet, UNetConfig(temporal=motion))
    spatial, spatial_total = manifest("sd15_unet_diffusers")
    adapter, adapter_total = manifest(f"animatediff_{version.replace('v1', 'v3')}_adapter_diffusers")
    tables = {key: (1, motion.max_frames, shape[2]) for key, shape in adapter.items() if key.endswith(".pe")}
    assert shapes_of(network) == linear(spatial) | adapter | tables
    assert parameters(network) == spatial_total + adapter_total == total


@pytest.mark.parametrize(
    ("name", "config", "total"),
    [
        ("sd21_base_unet_diffusers", SD21_BASE, 865_910_724),
        ("modelscope_unet3d_diffusers", MODELSCOPE, 1_411_233_860),
        ("videocrafter2_unet_diffusers", VIDEOCRAFTER2, 1_413_284_420),
    ],
)
def test_public_networks_have_their_keys_and_sizes(
    name: str, config: UNetConfig, total: int, manifest: Callable[[str], tuple[Shapes, int]],
    shapes_of: Callable[..., Shapes],
) -> None:  # fmt: skip
    network = build(UNet, config)
    public, public_total = manifest(name)
    assert shapes_of(network) == public  # all three store linear projections
    assert parameters(network) == public_total == total


@pytest.mark.parametrize("config", [SD21_BASE, MODELSCOPE, VIDEOCRAFTER2])
def test_heads_of_these_networks_are_64_wide_everywhere(config: UNetConfig) -> None:
    network = build(UNet, config)
    layers = {name: m for name, m in network.named_modules() if isinstance(m, Attention)}
    assert {m.to_q.out_features / m.heads for m in layers.values()} == {64}
    assert {m.heads for name, m in layers.items() if name.startswith("transformer_in")} <= {8}


def test_every_norm_has_the_epsilon_it_was_trained_with(video: UNet) -> None:
    found = {
        ("transformer" if name.endswith(".norm") else "resnet or convolution", module.eps)
        for name, module in video.named_modules()
        if isinstance(module, nn.GroupNorm)
    }
    assert found == {("transformer", 1e-6), ("resnet or convolution", 1e-5)}
    assert {module.eps for module in video.modules() if isinstance(module, nn.LayerNorm)} == {1e-5}


def test_up_layers_read_what_comes_from_below_first_and_the_skip_second(image: UNet, normal: Make) -> None:
    seen: dict[str, Tensor] = {}
    image.get_submodule("mid_block.resnets.1").register_forward_hook(lambda *a: seen.update(below=a[2]))
    image.get_submodule("down_blocks.2.resnets.0").register_forward_hook(lambda *a: seen.update(skip=a[2]))
    image.get_submodule("up_blocks.0.resnets.0").register_forward_pre_hook(lambda *a: seen.update(joined=a[1][0]))
    run(image, normal(1, 4, 2, 8, 8), normal(1, 5, 12, seed=1))
    assert torch.equal(seen["joined"], torch.cat([seen["below"], seen["skip"]], dim=1))


# --- one set of weights, two models ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["animatediff", "videocrafter"])
def test_before_training_temporal_layers_change_nothing(
    name: str, request: pytest.FixtureRequest, normal: Make
) -> None:
    network = UNet(request.getfixturevalue(name).config).double()
    z, context = normal(2, 4, 3, 8, 8), normal(2, 5, 12, seed=1)
    assert torch.equal(run(network, z, context), run(network, z, context, temporal=False))


def test_the_image_view_is_the_image_network_with_the_same_spatial_weights(
    video: UNet, normal: Make, difference: Callable[..., float]
) -> None:
    image = UNet(replace(video.config, temporal=None)).double().requires_grad_(False)
    temporal = re.compile("motion_modules|temp_convs|temp_attentions|transformer_in|fps_embedding")
    image.load_state_dict({k: v for k, v in video.state_dict().items() if not temporal.search(k)}, strict=True)
    if video.fps_embedding is not None:  # the view hears the frame rate still: it is no layer over frames
        for parameter in video.fps_embedding.parameters():
            nn.init.zeros_(parameter)
    z, context = normal(2, 4, 3, 8, 8), normal(2, 5, 12, seed=1)
    view = run(video, z, context, temporal=False)
    assert torch.equal(view, run(image, z, context))  # the same operations on the same numbers
    assert difference(run(video, z, context), view) > 1e-2


def test_the_image_view_takes_more_frames_than_the_motion_modules_know(animatediff: UNet, normal: Make) -> None:
    assert run(animatediff, normal(1, 4, 7, 4, 4), normal(1, 5, 12), temporal=False).shape == (1, 4, 7, 4, 4)


# --- who sees whom --------------------------------------------------------------------------------------------------


def test_frames_of_an_image_network_are_independent(
    image: UNet, normal: Make, difference: Callable[..., float]
) -> None:
    z, context, order = normal(2, 4, 5, 8, 8), normal(2, 5, 12, seed=1), torch.tensor([3, 0, 4, 1, 2])
    out = run(image, z, context)
    assert difference(run(image, z[:, :, order], context), out[:, :, order]) < CLOSE
    alone = torch.cat([run(image, z[:, :, f : f + 1], context) for f in range(5)], dim=2)
    assert difference(alone, out) < CLOSE


def test_frames_of_a_video_network_are_not(video: UNet, normal: Make, difference: Callable[..., float]) -> None:
    z, context, order = normal(2, 4, 5, 8, 8), normal(2, 5, 12, seed=1), torch.tensor([3, 0, 4, 1, 2])
    out = run(video, z, context)
    assert difference(run(video, z[:, :, order], context), out[:, :, order]) > 1e-3
    changed = z.clone()
    changed[:, :, 4] += 1.0
    assert difference(run(video, changed, context)[:, :, 0], out[:, :, 0]) > 1e-3


def test_rows_of_a_batch_are_independent(video: UNet, normal: Make, difference: Callable[..., float]) -> None:
    z, context, t = normal(3, 4, 4, 8, 8), normal(3, 5, 12, seed=1), torch.tensor([7.0, 400.0, 999.0])
    batch = video(z, t, told(video, context))
    rows = [video(z[i : i + 1], t[i : i + 1], told(video, context[i : i + 1])) for i in range(3)]
    assert difference(torch.cat(rows), batch) < CLOSE


def test_one_time_for_all_rows_equals_the_time_of_each_row(video: UNet, normal: Make) -> None:
    z, condition = normal(2, 4, 3, 8, 8), told(video, normal(2, 5, 12, seed=1))
    scalar = video(z, torch.tensor(400), condition)
    assert torch.equal(scalar, video(z, torch.tensor([400]), condition))
    assert torch.equal(scalar, video(z, torch.tensor([400.0, 400.0]), condition))


def test_the_same_call_gives_the_same_bits(video: UNet, normal: Make) -> None:
    z, context = normal(2, 4, 3, 8, 8), normal(2, 5, 12, seed=1)
    assert torch.equal(run(video, z, context), run(video, z, context))


def test_every_weight_and_every_input_matters(video: UNet, normal: Make) -> None:
    video.requires_grad_(True)
    z, context = normal(2, 4, 3, 8, 8).requires_grad_(), normal(2, 5, 12, seed=1).requires_grad_()
    run(video, z, context).square().sum().backward()
    tensors = dict(video.named_parameters()) | {"z": z, "context": context}
    silent = [name for name, tensor in tensors.items() if tensor.grad is None or not tensor.grad.any()]
    assert silent == []


# --- conditions -----------------------------------------------------------------------------------------------------


def test_joined_conditions_equal_separate_calls(video: UNet, normal: Make, difference: Callable[..., float]) -> None:
    z, contexts = normal(1, 4, 3, 8, 8), [normal(1, 5, 12, seed=1), normal(2, 5, 12, seed=2)]
    conditions = [told(video, context) for context in contexts]
    joined = Condition.cat(conditions)
    assert [len(c) for c in (*conditions, joined)] == [1, 2, 3]
    t = torch.tensor(400.0)
    together = video(z.expand(3, -1, -1, -1, -1), t, joined)
    apart = torch.cat([video(z.expand(len(c), -1, -1, -1, -1), t, c) for c in conditions])
    assert difference(together, apart) < CLOSE
    assert difference(together[:1], together[1:2]) > 1e-3


def test_text_keys_and_values_are_computed_once_for_all_steps(video: UNet, normal: Make) -> None:
    calls: Counter[str] = Counter()
    for name, module in video.named_modules():
        if re.search(r"(^|\.)attentions\.\d+\..*attn2\.to_[kv]$", name):
            module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    condition = told(video, normal(2, 5, 12))
    layers = sum(isinstance(m, SpatialTransformer) for m in video.modules())
    assert len(calls) == 2 * layers == 14, calls
    for t in (900.0, 500.0, 100.0):
        video(normal(2, 4, 3, 4, 4), torch.tensor(t), condition)
    assert set(calls.values()) == {1}


def test_a_condition_of_another_network_is_refused(image: UNet, video: UNet, normal: Make) -> None:
    other = image.condition(normal(1, 5, 12))
    with pytest.raises(ValueError, match="belongs to another network"):
        video(normal(1, 4, 2, 4, 4), torch.tensor(1.0), other)
    with pytest.raises(ValueError, match="different networks cannot be joined"):
        Condition.cat([other, told(video, normal(1, 5, 12))])


@pytest.mark.parametrize("rows", [1, 3])
def test_a_condition_of_another_number_of_rows_is_refused(rows: int, video: UNet, normal: Make) -> None:
    with pytest.raises(ValueError, match=f"z has 2 rows, the condition {rows}"):
        run(video, normal(2, 4, 2, 4, 4), normal(rows, 5, 12))


def test_conditions_that_cannot_be_joined_are_named(video: UNet, normal: Make) -> None:
    with pytest.raises(ValueError, match="no conditions to join"):
        Condition.cat([])
    with pytest.raises(ValueError, match=r"contexts of \[5, 6\] tokens"):
        Condition.cat([told(video, normal(1, 5, 12)), told(video, normal(1, 6, 12))])


@pytest.mark.parametrize("shape", [(5, 12), (1, 5, 11), (1, 1, 5, 12)])
def test_a_context_of_another_shape_is_refused(shape: tuple[int, ...], video: UNet, normal: Make) -> None:
    with pytest.raises(ValueError, match=r"expected \(b, l, 12\)"):
        told(video, normal(*shape))


# --- the frame rate -------------------------------------------------------------------------------------------------


def test_the_frame_rate_is_embedded_like_a_time_and_added_to_the_time_embedding(
    videocrafter: UNet, normal: Make, difference: Callable[..., float]
) -> None:
    z, context = normal(2, 4, 3, 8, 8), normal(2, 5, 12, seed=1)
    weights = videocrafter.state_dict()
    features = sinusoid(torch.tensor([24.0]), 8).double()
    hidden = features @ weights["fps_embedding.linear_1.weight"].T + weights["fps_embedding.linear_1.bias"]
    hidden = hidden / (1 + (-hidden).exp())
    added = hidden @ weights["fps_embedding.linear_2.weight"].T + weights["fps_embedding.linear_2.bias"]
    # The same sum by another road: what is added after linear_2 may as well be in its bias.
    silent = UNet(replace(videocrafter.config, temporal=SpaceTimeConfig())).double().requires_grad_(False)
    rest = {k: v for k, v in weights.items() if not k.startswith("fps_embedding")}
    rest["time_embedding.linear_2.bias"] = rest["time_embedding.linear_2.bias"] + added[0]
    silent.load_state_dict(rest)
    expected = silent(z, torch.tensor(400.0), silent.condition(context))
    assert difference(run(videocrafter, z, context), expected) < CLOSE
    assert difference(videocrafter(z, torch.tensor(400.0), videocrafter.condition(context, fps=8)), expected) > 1e-2


def test_joined_conditions_keep_the_frame_rate_of_each(
    videocrafter: UNet, normal: Make, difference: Callable[..., float]
) -> None:
    z, context, t = normal(2, 4, 3, 8, 8), normal(1, 5, 12, seed=1), torch.tensor(400.0)
    conditions = [videocrafter.condition(context, fps=fps) for fps in (8, 24)]
    together = videocrafter(z, t, Condition.cat(conditions))
    apart = torch.cat([videocrafter(z[i : i + 1], t, c) for i, c in enumerate(conditions)])
    assert difference(together, apart) < CLOSE


def test_a_frame_rate_is_given_where_it_is_read_and_only_there(
    videocrafter: UNet, animatediff: UNet, normal: Make
) -> None:
    context = normal(1, 5, 12)
    with pytest.raises(ValueError, match="fps=None: expected a number"):
        videocrafter.condition(context)
    with pytest.raises(ValueError, match="fps=8: expected none"):
        animatediff.condition(context, fps=8)


# --- AnimateDiff v1 as its authors ran it ---------------------------------------------------------------------------


def test_joint_resnet_norms_take_frames_together_in_every_resnet_and_before_the_output(
    animatediff: UNet, normal: Make, difference: Callable[..., float]
) -> None:
    """Where motion modules do nothing, frames see each other through these norms alone, and in every one of them."""
    motion = replace(animatediff.config.temporal, joint_norm=False, joint_resnet_norm=True)
    network = UNet(replace(animatediff.config, temporal=motion)).double().requires_grad_(False)
    network.load_state_dict(animatediff.state_dict())
    for name, parameter in network.named_parameters():
        if re.search(r"motion_modules\.\d+\.proj_out", name):
            nn.init.zeros_(parameter)
    seen: Counter[str] = Counter()
    norms = [n for n, m in network.named_modules() if isinstance(m, nn.GroupNorm) and not n.endswith(".norm")]
    for name in norms:
        network.get_submodule(name).register_forward_hook(
            lambda _, args, __, name=name: seen.update({name: args[0].ndim == 5 and args[0].shape[2] == 3})
        )
    z, context = normal(2, 4, 3, 8, 8), normal(2, 5, 12, seed=1)
    together = run(network, z, context)
    assert dict(seen) == dict.fromkeys(norms, 1)
    assert difference(together, run(network, z, context, temporal=False)) > 1e-3
    # Frames that are all alike have the statistics of one of them.
    alike = z[:, :, :1].expand(-1, -1, 3, -1, -1)
    assert difference(run(network, alike, context), run(network, alike, context, temporal=False)) < CLOSE


# --- what else is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4, 2, 6, 8), "latents of 6x8: height and width must be multiples of 4"),
        ((1, 4, 2, 8, 9), "latents of 8x9: height and width must be multiples of 4"),
        ((1, 4, 8, 8), r"z has shape \(1, 4, 8, 8\): expected \(b, 4, f, h, w\)"),
        ((1, 3, 2, 8, 8), r"expected \(b, 4, f, h, w\)"),
        ((1, 4, 0, 8, 8), r"expected \(b, 4, f, h, w\)"),
        ((1, 4, 7, 4, 4), "7 frames, but this motion module knows positions for 6"),
    ],
)
def test_latents_of_a_wrong_size_are_one_clear_error(
    shape: tuple[int, ...], message: str, animatediff: UNet, normal: Make
) -> None:
    with pytest.raises(ValueError, match=message):
        run(animatediff, normal(*shape), normal(1, 5, 12))


def test_times_of_another_number_of_rows_are_refused(video: UNet, normal: Make) -> None:
    with pytest.raises(ValueError, match=r"t has shape \(3,\): expected \(\) or \(2,\)"):
        video(normal(2, 4, 2, 4, 4), torch.tensor([1.0, 2.0, 3.0]), told(video, normal(2, 5, 12)))
