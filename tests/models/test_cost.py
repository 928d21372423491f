"""Costs counted on meta: against a real run, and the way they grow."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ivmix.models import DiTConfig, MotionConfig, UNet, UNetConfig
from ivmix.models.cost import Alive, Cost, forward_cost
from ivmix.models.predictor import Predictor, PredictorConfig
from ivmix.sprites.averaging.unet import AveragingUNetConfig


@pytest.fixture(params=["image", "animatediff", "averaging", "videocrafter", "pixart", "latte"])
def config(
    request: pytest.FixtureRequest, image_config: UNetConfig, motion: MotionConfig, space_time_config: UNetConfig
) -> PredictorConfig:
    video = replace(image_config, temporal=motion)
    averaging = AveragingUNetConfig(**vars(video))
    pixart = DiTConfig(num_layers=2, num_attention_heads=2, attention_head_dim=8, caption_channels=12, sample_size=8)
    configs: dict[str, PredictorConfig] = {
        "image": image_config, "animatediff": video, "averaging": averaging, "videocrafter": space_time_config,
        "pixart": pixart, "latte": replace(pixart, temporal=6),
    }  # fmt: skip
    return configs[request.param]


def counted(config: PredictorConfig, frames: int = 2, side: int = 8, temporal: bool = True) -> Cost:
    return forward_cost(config, frames, side, side, tokens=3, temporal=temporal, dtype=torch.float64)


@pytest.mark.parametrize("temporal", [True, False])
def test_counts_are_those_of_a_real_run(
    config: PredictorConfig, temporal: bool, randomised: Callable[..., Predictor], normal: Callable[..., torch.Tensor]
) -> None:
    network, told = randomised(config.network(config)), counted(config, temporal=temporal)
    context, z = normal(2, 3, config.context_dim), normal(2, config.in_channels, 2, 8, 8)
    condition = network.condition(context, **network.told(len(context)))
    with torch.no_grad():
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            network(z, torch.tensor(500.0), condition, temporal=temporal)
        with Alive() as alive:
            network(z, torch.tensor(500.0), condition, temporal=temporal)
    assert told.total == counter.get_total_flops()
    assert alive.most <= told.activations * 1.1  # norms' means, and attention's log-sums
    assert alive.most >= told.activations * 0.9


@pytest.mark.slow
def test_kinds_grow_as_they_say(config: PredictorConfig) -> None:
    one, more_frames, more_pixels = counted(config), counted(config, frames=6), counted(config, side=16)
    growth = {
        "convolutions": (3, 4), "spatial layers": (3, 4), "pixel scores": (3, 16), "temporal layers": (3, 4),
        "frame scores": (9, 4), "rest": (1, 1),
    }  # fmt: skip
    assert set(growth) == set(one.flops)
    for kind, (by_frames, by_pixels) in growth.items():
        assert more_frames.flops[kind] == by_frames * one.flops[kind]
        assert more_pixels.flops[kind] == by_pixels * one.flops[kind]
    assert one.flops["rest"] > 0


def test_the_image_view_has_no_temporal_cost(image_config: UNetConfig, motion: MotionConfig) -> None:
    video = AveragingUNetConfig(**vars(replace(image_config, temporal=motion)))
    assert counted(video, temporal=False) == counted(image_config)
    assert counted(video).flops["frame scores"] > 0
    assert counted(image_config).parameters == sum(p.numel() for p in UNet(image_config).parameters())


def test_views_and_what_came_from_outside_are_not_counted() -> None:
    outside = torch.zeros(100)
    with Alive() as alive:
        a = outside + 1  # 400 bytes
        b = a[:50].reshape(5, 10)
        del a
        c = b * 2  # 200 more
        del b, c
        outside.view(10, 10).add_(1)
        torch.zeros(25)
    assert (alive.most, alive.now) == (600, 0)
