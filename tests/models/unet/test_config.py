"""A UNet's config: public config.json files are read entry by entry, and what they would change is refused."""

import json
from dataclasses import replace
from typing import Any

import pytest
from public_configs import MODELSCOPE, SD21_BASE, VIDEOCRAFTER2

from ivmix.models import MotionConfig, SpaceTimeConfig, UNetConfig
from ivmix.models.unet.config import FIXED_ENTRIES


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(),
        UNetConfig(temporal=MotionConfig()),
        UNetConfig(temporal=MotionConfig(4, 16, mid_block=True, joint_norm=False)),
        UNetConfig(temporal=MotionConfig(joint_norm=False, joint_resnet_norm=True)),
        UNetConfig(3, 5, (8, 16), (False, True), 1, 12, 2, 4),
        SD21_BASE,
        replace(SD21_BASE, temporal=MotionConfig()),
        MODELSCOPE,
        VIDEOCRAFTER2,
        UNetConfig(3, 5, (8, 8), (False, True), 1, 12, (2, 2), 4, SpaceTimeConfig()),
    ],
)
def test_config_survives_a_json_file(config: UNetConfig) -> None:
    assert UNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("missing", sorted(UNetConfig().to_dict().keys() - {"use_linear_projection"}))
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
        ("_class_name", "UNetSpatioTemporalConditionModel", "expected one of UNet2DConditionModel, UNetMotionModel"),
        ("attention_head_dim", [5, 10, 20], "num_attention_heads has 3 entries, block_out_channels 4"),
        ("num_attention_heads", 8, "num_attention_heads is 8, only None is supported"),
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
    assert UNetConfig.from_dict(raw) == UNetConfig() == UNetConfig(num_attention_heads=(8, 8, 8, 8))


@pytest.mark.parametrize("heads", [(5, 10, 20, 19), 7, 8])
def test_modelscope_s_heads_must_be_equally_wide(heads: int | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="the heads of all levels are equally wide"):
        UNetConfig(num_attention_heads=heads, temporal=SpaceTimeConfig())


def blocks(suffix: str) -> dict[str, Any]:
    attended = ["CrossAttnDownBlock", "CrossAttnDownBlock", "CrossAttnDownBlock", "DownBlock"]
    down = [name + suffix for name in attended]
    return {"down_block_types": down, "up_block_types": [name.replace("Down", "Up") for name in reversed(down)]}


# What the public files of these names hold, entry by entry.
SIZES = {
    "act_fn": "silu", "block_out_channels": [320, 640, 1280, 1280], "downsample_padding": 1, "in_channels": 4,
    "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4,
}  # fmt: skip
SD15_FILE = SIZES | blocks("2D") | {
    "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "attention_head_dim": 8,
    "center_input_sample": False, "cross_attention_dim": 768, "flip_sin_to_cos": True, "freq_shift": 0,
    "sample_size": 64,
}  # fmt: skip
SD21_FILE = SIZES | blocks("2D") | {
    "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.10.0.dev0", "attention_head_dim": [5, 10, 20, 20],
    "center_input_sample": False, "cross_attention_dim": 1024, "dual_cross_attention": False, "flip_sin_to_cos": True,
    "freq_shift": 0, "num_class_embeds": None, "only_cross_attention": False, "sample_size": 64,
    "use_linear_projection": True,
}  # fmt: skip
MODELSCOPE_FILE = SIZES | blocks("3D") | {
    "_class_name": "UNet3DConditionModel", "_diffusers_version": "0.15.0.dev0", "attention_head_dim": 64,
    "cross_attention_dim": 1024, "sample_size": 32,
}  # fmt: skip
VIDEOCRAFTER2_FILE = MODELSCOPE_FILE | {
    "_class_name": "UNetVideoCrafter", "fps_cond": True, "num_attention_heads": None,
}  # fmt: skip
# What today's diffusers adds to the first two when it saves them again.
SAVED_AGAIN = {
    "_name_or_path": "somewhere", "addition_embed_type": None, "addition_embed_type_num_heads": 64,
    "addition_time_embed_dim": None, "attention_type": "default", "class_embed_type": None,
    "class_embeddings_concat": False, "conv_in_kernel": 3, "conv_out_kernel": 3, "cross_attention_norm": None,
    "dropout": 0.0, "dual_cross_attention": False, "encoder_hid_dim": None, "encoder_hid_dim_type": None,
    "mid_block_only_cross_attention": None, "mid_block_type": "UNetMidBlock2DCrossAttn", "num_attention_heads": None,
    "num_class_embeds": None, "only_cross_attention": False, "projection_class_embeddings_input_dim": None,
    "resnet_out_scale_factor": 1.0, "resnet_skip_time_act": False, "resnet_time_scale_shift": "default",
    "reverse_transformer_layers_per_block": None, "time_cond_proj_dim": None, "time_embedding_act_fn": None,
    "time_embedding_dim": None, "time_embedding_type": "positional", "timestep_post_act": None,
    "transformer_layers_per_block": 1, "upcast_attention": False, "use_linear_projection": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "config"),
    [
        (SD15_FILE, UNetConfig()),
        (SAVED_AGAIN | SD15_FILE, UNetConfig()),
        (SD21_FILE, SD21_BASE),
        (SAVED_AGAIN | SD21_FILE | {"sample_size": 96, "upcast_attention": True}, SD21_BASE),  # 2.1 at 768 pixels
        (MODELSCOPE_FILE, MODELSCOPE),
        (VIDEOCRAFTER2_FILE, VIDEOCRAFTER2),
        (VIDEOCRAFTER2_FILE | {"_class_name": "UNet3DConditionModel"}, VIDEOCRAFTER2),
        (VIDEOCRAFTER2_FILE | {"fps_cond": False}, MODELSCOPE),
        ({k: v for k, v in VIDEOCRAFTER2_FILE.items() if k != "fps_cond"}  # its default, in the port's own class
         | {"_class_name": "UNet3DVideoCrafterConditionModel"}, VIDEOCRAFTER2),
    ],
)
def test_public_config_files_are_read(raw: dict[str, Any], config: UNetConfig) -> None:
    assert UNetConfig.from_dict(json.loads(json.dumps(raw))) == config
