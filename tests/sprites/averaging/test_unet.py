"""The UNet that ends in averaging: what it computes, how its files are read, and what reads them without knowing it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ivmix.models import MotionConfig, UNet, UNetConfig, inspect, load_unet, save_folder
from ivmix.models.checkpoints.rules import LayoutError
from ivmix.models.checkpoints.state import StateError
from ivmix.models.cost import forward_cost
from ivmix.pairs.description import EMBEDDED
from ivmix.sprites.averaging.layer import AveragingConfig
from ivmix.sprites.averaging.unet import AVERAGING, AveragingUNet, AveragingUNetConfig

Make = Callable[..., Tensor]
EMBEDDED_UNET = EMBEDDED["sprites"] / "video" / "unet"
PUBLIC = UNetConfig(
    block_out_channels=(8, 16), attention_levels=(True, False), layers_per_block=1, cross_attention_dim=12,
    num_attention_heads=2, norm_num_groups=4, temporal=MotionConfig(num_attention_heads=2, max_frames=6),
)  # fmt: skip
CONFIG = AveragingUNetConfig(**vars(PUBLIC), averaging=AveragingConfig(3, 500))


@pytest.fixture
def network(normal: Make, randomised: Callable[..., AveragingUNet]) -> AveragingUNet:
    network = randomised(AveragingUNet(CONFIG))
    network.averaging.clean.copy_(normal(500, 2, seed=7))
    return network


def test_the_layer_is_applied_last_and_the_image_view_leaves_it_out(network: AveragingUNet, normal: Make) -> None:
    z, t, condition = normal(1, 4, 3, 8, 8), torch.tensor(400), network.condition(normal(1, 5, 12, seed=1))
    y = UNet.forward(network, z, t, condition)
    averaged = network.averaging(y, z, t, network.embed_time(z, t, condition))
    assert torch.equal(network(z, t, condition), averaged)
    assert not torch.allclose(averaged, y)
    image = network(z, t, condition, temporal=False)
    assert torch.equal(image, UNet.forward(network, z, t, condition, temporal=False))


def test_a_folder_gives_back_the_network_with_its_table(network: AveragingUNet, tmp_path: Path) -> None:
    save_folder(network, tmp_path)
    loaded = load_unet(tmp_path, layouts=[AVERAGING])
    assert type(loaded) is AveragingUNet
    assert loaded.config == CONFIG
    ours, theirs = network.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_embedded_folder_is_written_again_byte_for_byte(tmp_path: Path) -> None:
    save_folder(load_unet(EMBEDDED_UNET, layouts=[AVERAGING]), tmp_path)
    for file in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (tmp_path / file).read_bytes() == (EMBEDDED_UNET / file).read_bytes()


def test_a_public_unet_is_what_it_is_where_the_layout_is_known(tmp_path: Path) -> None:
    save_folder(UNet(PUBLIC), tmp_path)
    assert type(load_unet(tmp_path, layouts=[AVERAGING])) is UNet
    assert inspect(tmp_path, layouts=[AVERAGING]) == inspect(tmp_path)


def test_who_does_not_know_the_layout_is_told_the_keys_and_what_reads_them() -> None:
    keys = "knows 567 of 571 keys, not: averaging.clean, .*averaging.scale.weight"
    with pytest.raises(LayoutError, match=rf"{keys}.*drop=.*layouts= \(in Python\) reads"):
        load_unet(EMBEDDED_UNET)
    found = inspect(EMBEDDED_UNET)
    assert (found.parts, "averaging.clean" in str(found.problem)) == ((), True)


def test_without_its_last_layer_it_is_a_public_unet() -> None:
    with pytest.warns(UserWarning, match="4 keys left out as asked"):
        public = load_unet(EMBEDDED_UNET, drop=["averaging.*"])
    whole = load_unet(EMBEDDED_UNET, layouts=[AVERAGING]).state_dict()
    assert type(public) is UNet
    assert all(torch.equal(value, whole[key]) for key, value in public.state_dict().items())


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"averaging_features": "1"}, "features is '1', expected a whole number"),
        ({"averaging_timesteps": None}, "timesteps is None"),
        ({"averaging_timesteps": ...}, "lacks the entry 'averaging_timesteps'"),
        ({"averaging_features": 4}, r"averaging.compare.weight is \(3, 4, 5, 5\), expected \(4, 4, 5, 5\)"),
    ],
)
def test_a_config_that_does_not_describe_the_layer_is_refused(
    entries: dict[str, Any], said: str, network: AveragingUNet, tmp_path: Path
) -> None:
    save_folder(network, tmp_path)
    raw = {**json.loads((tmp_path / "config.json").read_text()), **entries}
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if v is not ...}))
    with pytest.raises(ValueError, match=said):
        load_unet(tmp_path, layouts=[AVERAGING])


def test_a_file_without_config_does_not_tell_one_and_takes_the_one_given(
    network: AveragingUNet, tmp_path: Path
) -> None:
    save_folder(network, tmp_path)
    alone = (tmp_path / "diffusion_pytorch_model.safetensors").rename(tmp_path / "alone.safetensors")
    with pytest.raises(ValueError, match=r"does not tell its config .*give config=, a AveragingUNetConfig"):
        load_unet(alone, layouts=[AVERAGING])
    assert load_unet(alone, layouts=[AVERAGING], config=CONFIG).config == CONFIG
    with pytest.raises(StateError, match=r"unexpected averaging\.clean"):
        load_unet(alone, layouts=[AVERAGING], config=PUBLIC)


def test_what_the_layer_costs_is_counted_with_the_frames_scores() -> None:
    ours, public = (forward_cost(config, 4, 8, 8) for config in (CONFIG, replace(PUBLIC)))
    pairs = 2 * 8 * 8 * 4 * 4  # of frames, at every pixel of both rows
    assert ours.flops["frame scores"] - public.flops["frame scores"] == 2 * pairs * (3 + 4)
    assert ours.parameters - public.parameters == 3 * 4 * 25 + 33
