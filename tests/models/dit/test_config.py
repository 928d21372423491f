"""A transformer's config: public config.json files are read entry by entry, and what they would change is refused."""

import json
from typing import Any

import pytest

from ivmix.models import DiTConfig
from ivmix.models.dit.config import FIXED_ENTRIES, IMAGE, VIDEO, WRITTEN
from ivmix.models.text.t5_tokenizer import LENGTH

# PixArt-alpha's, as written when its class had another name, with entries of other architectures.
PUBLIC = DiTConfig().to_dict() | {
    "_class_name": "Transformer2DModel", "attention_type": "default", "double_self_attention": False, "dropout": 0.0,
    "norm_num_groups": 32, "num_vector_embeds": None, "only_cross_attention": False, "upcast_attention": False,
    "use_linear_projection": False,
}  # fmt: skip
for entry in ("interpolation_scale", "use_additional_conditions"):
    del PUBLIC[entry]


def test_as_much_text_is_counted_as_its_tokenizer_pads_to() -> None:
    assert DiTConfig().tokens == LENGTH == 120


@pytest.mark.parametrize(
    "config",
    [
        DiTConfig(),
        DiTConfig(temporal=16),
        DiTConfig(6, 12, 3, 2, 5, 12, 20, 128, 1.5),
        DiTConfig(6, 6, 1, 2, 5, 12, 20, 256, 2, 24),
    ],
)
def test_config_survives_a_json_file(config: DiTConfig) -> None:
    assert DiTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_released_files_are_read_whatever_their_class_was_called() -> None:
    assert DiTConfig.from_dict(PUBLIC) == DiTConfig.from_dict(PUBLIC | {"_class_name": IMAGE}) == DiTConfig()
    assert DiTConfig.from_dict(PUBLIC | {"_class_name": VIDEO, "video_length": 16}) == DiTConfig(temporal=16)


@pytest.mark.parametrize("missing", sorted(PUBLIC.keys() & {*DiTConfig().to_dict()} - {"num_embeds_ada_norm"}))
def test_config_names_the_entry_it_lacks(missing: str) -> None:
    raw = {name: value for name, value in PUBLIC.items() if name != missing}
    with pytest.raises(KeyError, match=missing):
        DiTConfig.from_dict(raw)


@pytest.mark.parametrize("name", FIXED_ENTRIES)
def test_an_entry_that_would_silently_change_the_function_is_refused(name: str) -> None:
    assert name in PUBLIC or name not in WRITTEN
    with pytest.raises(ValueError, match=f"{name} is 'other'"):
        DiTConfig.from_dict(PUBLIC | {name: "other"})


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"_class_name": "SD3Transformer2DModel"}, "expected one of PixArtTransformer2DModel, Latte"),
        ({"sample_size": 128}, "told the size and aspect of images .*: not supported, expected"),
        ({"use_additional_conditions": True}, "told the size and aspect of images .*: not supported, expected"),
        ({"cross_attention_dim": 4096}, "cross_attention_dim is 4096, only 1152 is supported"),
        ({"out_channels": 6}, r"out_channels is 6, expected 4 \(noise\) or 8"),
        ({"attention_head_dim": 9, "num_attention_heads": 2}, "18 channels do not hold sines"),
        ({"sample_size": 1}, "patch_size is 2, but sample_size 1"),
        ({"sample_size": "64"}, "sample_size is '64', expected a whole number"),
        ({"num_layers": 0}, "num_layers is 0, expected a whole number from 1"),
        ({"caption_channels": None}, "caption_channels is None, expected a whole number"),
        ({"interpolation_scale": -1}, "interpolation_scale is -1, expected a number above 0"),
        ({"_class_name": VIDEO, "video_length": True}, "temporal is True, expected a whole number"),
    ],
)
def test_an_entry_of_another_architecture_is_refused(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiTConfig.from_dict(PUBLIC | entries)


def test_positions_lie_as_diffusers_has_them_where_a_file_does_not_say() -> None:
    told = {"use_additional_conditions": False}
    scales = [DiTConfig.from_dict(PUBLIC | told | {"sample_size": n}).interpolation_scale for n in (32, 64, 128, 200)]
    assert scales == [1, 1, 2, 3]
