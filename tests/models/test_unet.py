"""The UNet: public keys and sizes, the image view, who sees whom, conditions, and what is refused."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ivmix.models import Condition, MotionConfig, UNet, UNetConfig
from ivmix.models.layers import SpatialTransformer
from ivmix.models.unet import FIXED_ENTRIES

Make = Callable[..., Tensor]
Shapes = dict[str, tuple[int, ...]]

# Rounding in float64 (1e-16) carried through the roughly thirty layers of the small network, where another batch size
# may also choose other kernels: 1e-14 is seen. One frame or row seeing another shows at 1e-3 and more.
CLOSE = 1e-12


@pytest.fixture
def image(image_config: UNetConfig, randomised: Callable[..., UNet]) -> UNet:
    return randomised(UNet(image_config))


@pytest.fixture
def video(image_config: UNetConfig, motion: MotionConfig, randomised: Callable[..., UNet]) -> UNet:
    return randomised(UNet(replace(image_config, temporal=motion)))


def run(network: UNet, z: Tensor, context: Tensor, t: float = 400.0, temporal: bool = True) -> Tensor:
    return network(z, torch.tensor(t), network.condition(context), temporal=temporal)


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
    with torch.device("meta"):
        network = UNet(UNetConfig())
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
    with torch.device("meta"):
        network = UNet(UNetConfig(temporal=motion))
    spatial, spatial_total = manifest("sd15_unet_diffusers")
    adapter, adapter_total = manifest(f"animatediff_{version.replace('v1', 'v3')}_adapter_diffusers")
    tables = {key: (1, motion.max_frames, shape[2]) for key, shape in adapter.items() if key.endswith(".pe")}
    assert shapes_of(network) == linear(spatial) | adapter | tables
    assert parameters(network) == spatial_total + adapter_total == total


def test_every_norm_has_the_epsilon_it_was_trained_with(video: UNet) -> None:
    found = {
        ("transformer" if name.endswith(".norm") else "resnet", module.eps)
        for name, module in video.named_modules()
        if isinstance(module, nn.GroupNorm)
    }
    assert found == {("transformer", 1e-6), ("resnet", 1e-5)}
    assert {module.eps for module in video.modules() if isinstance(module, nn.LayerNorm)} == {1e-5}


def test_up_layers_read_what_comes_from_below_first_and_the_skip_second(image: UNet, normal: Make) -> None:
    seen: dict[str, Tensor] = {}
    image.get_submodule("mid_block.resnets.1").register_forward_hook(lambda *a: seen.update(below=a[2]))
    image.get_submodule("down_blocks.2.resnets.0").register_forward_hook(lambda *a: seen.update(skip=a[2]))
    image.get_submodule("up_blocks.0.resnets.0").register_forward_pre_hook(lambda *a: seen.update(joined=a[1][0]))
    run(image, normal(1, 4, 2, 8, 8), normal(1, 5, 12, seed=1))
    assert torch.equal(seen["joined"], torch.cat([seen["below"], seen["skip"]], dim=1))


# --- configurations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(),
        UNetConfig(temporal=MotionConfig()),
        UNetConfig(temporal=MotionConfig(4, 16, mid_block=True, joint_norm=False)),
        UNetConfig(3, 5, (8, 16), (False, True), 1, 12, 2, 4),
    ],
)
def test_config_survives_a_json_file(config: UNetConfig) -> None:
    assert UNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("missing", UNetConfig().to_dict().keys() - {"use_linear_projection"})
def test_config_names_the_entry_it_lacks(missing: str) -> None:
    raw = UNetConfig().to_dict()
    del raw[missing]
    with pytest.raises(KeyError, match=missing):
        UNetConfig.from_dict(raw)


@pytest.mark.parametrize("name", FIXED_ENTRIES)
def test_an_entry_that_would_silently_change_the_function_is_refused(name: str) -> None:
    for config in (UNetConfig(), UNetConfig(temporal=MotionConfig())):
        raw = config.to_dict()
        assert UNetConfig.from_dict(raw | {name: FIXED_ENTRIES[name]}) == config
        with pytest.raises(ValueError, match=f"{name} is 'other'"):
            UNetConfig.from_dict(raw | {name: "other"})


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("_class_name", "UNet3DConditionModel", "expected UNet2DConditionModel or UNetMotionModel"),
        ("attention_head_dim", [5, 10, 20, 20], "one number for all levels"),
        ("layers_per_block", [2, 2, 2, 1], "one number for all levels"),
        ("down_block_types", ["CrossAttnDownBlock2D"] * 3 + ["AttnDownBlock2D"], "down_block_types is"),
        ("up_block_types", ["UpBlock2D"] * 4, "up_block_types is"),
        ("block_out_channels", [320, 640], "attention_levels has 4 entries, block_out_channels 2"),
    ],
)
def test_another_architecture_is_refused(entry: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNetConfig.from_dict(UNetConfig().to_dict() | {entry: value})


def test_a_list_of_equal_head_counts_is_that_count() -> None:
    raw = UNetConfig().to_dict() | {"attention_head_dim": [8, 8, 8, 8]}
    assert UNetConfig.from_dict(raw) == UNetConfig()


# --- one set of weights, two models ---------------------------------------------------------------------------------


def test_before_training_motion_modules_change_nothing(
    image_config: UNetConfig, motion: MotionConfig, normal: Make
) -> None:
    network = UNet(replace(image_config, temporal=motion)).double()
    z, context = normal(2, 4, 3, 8, 8), normal(2, 5, 12, seed=1)
    assert torch.equal(run(network, z, context), run(network, z, context, temporal=False))


def test_the_image_view_is_the_image_network_with_the_same_spatial_weights(
    image_config: UNetConfig, video: UNet, normal: Make, difference: Callable[..., float]
) -> None:
    image = UNet(image_config).double().requires_grad_(False)
    image.load_state_dict({k: v for k, v in video.state_dict().items() if "motion_modules" not in k}, strict=True)
    z, context = normal(2, 4, 3, 8, 8), normal(2, 5, 12, seed=1)
    view = run(video, z, context, temporal=False)
    assert torch.equal(view, run(image, z, context))  # the same operations on the same numbers
    assert difference(run(video, z, context), view) > 1e-2


def test_the_image_view_takes_more_frames_than_the_motion_modules_know(video: UNet, normal: Make) -> None:
    assert run(video, normal(1, 4, 7, 4, 4), normal(1, 5, 12), temporal=False).shape == (1, 4, 7, 4, 4)


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
    batch = video(z, t, video.condition(context))
    rows = [video(z[i : i + 1], t[i : i + 1], video.condition(context[i : i + 1])) for i in range(3)]
    assert difference(torch.cat(rows), batch) < CLOSE


def test_one_time_for_all_rows_equals_the_time_of_each_row(video: UNet, normal: Make) -> None:
    z, condition = normal(2, 4, 3, 8, 8), video.condition(normal(2, 5, 12, seed=1))
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
    conditions = [video.condition(context) for context in contexts]
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
        if name.endswith(("attn2.to_k", "attn2.to_v")) and "motion" not in name:
            module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    condition = video.condition(normal(2, 5, 12))
    layers = sum(isinstance(m, SpatialTransformer) for m in video.modules())
    assert len(calls) == 2 * layers == 14
    for t in (900.0, 500.0, 100.0):
        video(normal(2, 4, 3, 4, 4), torch.tensor(t), condition)
    assert set(calls.values()) == {1}


def test_a_condition_of_another_network_is_refused(image: UNet, video: UNet, normal: Make) -> None:
    other = image.condition(normal(1, 5, 12))
    with pytest.raises(ValueError, match="belongs to another network"):
        video(normal(1, 4, 2, 4, 4), torch.tensor(1.0), other)
    with pytest.raises(ValueError, match="different networks cannot be joined"):
        Condition.cat([other, video.condition(normal(1, 5, 12))])


@pytest.mark.parametrize("rows", [1, 3])
def test_a_condition_of_another_number_of_rows_is_refused(rows: int, video: UNet, normal: Make) -> None:
    with pytest.raises(ValueError, match=f"z has 2 rows, the condition {rows}"):
        run(video, normal(2, 4, 2, 4, 4), normal(rows, 5, 12))


def test_conditions_that_cannot_be_joined_are_named(video: UNet, normal: Make) -> None:
    with pytest.raises(ValueError, match="no conditions to join"):
        Condition.cat([])
    with pytest.raises(ValueError, match=r"contexts of \[5, 6\] tokens"):
        Condition.cat([video.condition(normal(1, 5, 12)), video.condition(normal(1, 6, 12))])


@pytest.mark.parametrize("shape", [(5, 12), (1, 5, 11), (1, 1, 5, 12)])
def test_a_context_of_another_shape_is_refused(shape: tuple[int, ...], video: UNet, normal: Make) -> None:
    with pytest.raises(ValueError, match=r"expected \(b, l, 12\)"):
        video.condition(normal(*shape))


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
    shape: tuple[int, ...], message: str, video: UNet, normal: Make
) -> None:
    with pytest.raises(ValueError, match=message):
        run(video, normal(*shape), normal(1, 5, 12))


def test_times_of_another_number_of_rows_are_refused(video: UNet, normal: Make) -> None:
    with pytest.raises(ValueError, match=r"t has shape \(3,\): expected \(\) or \(2,\)"):
        video(normal(2, 4, 2, 4, 4), torch.tensor([1.0, 2.0, 3.0]), video.condition(normal(2, 5, 12)))
