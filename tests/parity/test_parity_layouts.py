"""The tables against diffusers' own converters: one small file in another layout, read by both, weight by weight."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ivmix.models import (
    VAE,
    CLIPText,
    CLIPTextConfig,
    MotionConfig,
    UNet,
    UNetConfig,
    VAEConfig,
    load_text_encoder,
    load_unet,
    load_vae,
    save_folder,
)
from ivmix.models.checkpoints.layouts import LAYOUTS

pytestmark = pytest.mark.slow

State = dict[str, Tensor]
SPATIAL = UNetConfig(
    block_out_channels=(8, 16, 16), attention_levels=(True, True, False), cross_attention_dim=12,
    num_attention_heads=2, norm_num_groups=4,
)  # fmt: skip
AUTOENCODER = VAEConfig(block_out_channels=(4, 4, 8, 8), norm_num_groups=4)
TEXT = CLIPTextConfig(
    vocab_size=30, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=7, hidden_act="gelu",
)  # fmt: skip


def public(name: str, ours: State, prefix: str = "") -> State:
    """Our state in another layout, by the table backwards; matrices that are convolutions there become such."""
    (layout,) = (layout for layout in LAYOUTS if layout.name == name)
    theirs: State = {}
    for key, tensor in ours.items():
        sources = layout.sources(key)
        if "upsamplers" in key and len(sources) > 1:
            before = f"{key.partition('.upsamplers')[0]}.attentions.0.norm.weight" in ours
            sources = sources[before : before + 1]
        rule, names = layout.look_up(sources[0]) or pytest.fail(key)
        if len(names) > 1:
            tensor = torch.cat([ours[other] for other in names])
        if rule.linear and tensor.ndim == 2 and ("proj_" in key or "mid_block.attentions" in key):
            tensor = tensor[:, :, None, None]
        theirs |= {prefix + source: tensor.clone() for source in sources}
    return theirs


def equal(ours: State, theirs: State) -> bool:
    """Bit by bit, whether a projection is a matrix or a convolution."""
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k].reshape(ours[k].shape)) for k in ours)


@pytest.fixture
def convert(diffusers: ModuleType) -> ModuleType:
    import diffusers.loaders.single_file_utils as utils

    return utils


def test_ldm_unets_are_read_as_diffusers_reads_them(
    convert: ModuleType, randomised: Callable[..., Any], tmp_path: Path
) -> None:
    network = randomised(UNet(SPATIAL), dtype=torch.float32)
    file = public("LDM UNet", network.state_dict(), "model.diffusion_model.")
    save_file(file, tmp_path / "a.safetensors")
    theirs = convert.convert_ldm_unet_checkpoint(dict(file), SPATIAL.to_dict() | {"class_embed_type": None})
    assert equal(load_unet(tmp_path / "a.safetensors", config=SPATIAL).state_dict(), theirs)


def test_ldm_vaes_are_read_as_diffusers_reads_them(
    convert: ModuleType, randomised: Callable[..., Any], tmp_path: Path
) -> None:
    file = public("LDM VAE", randomised(VAE(AUTOENCODER), dtype=torch.float32).state_dict(), "first_stage_model.")
    save_file(file, tmp_path / "a.safetensors")
    theirs = convert.convert_ldm_vae_checkpoint(dict(file), AUTOENCODER.to_dict())
    assert equal(load_vae(tmp_path / "a.safetensors", config=AUTOENCODER).state_dict(), theirs)


def test_vaes_with_old_names_are_read_as_diffusers_reads_them(
    diffusers: ModuleType, randomised: Callable[..., Any], tmp_path: Path
) -> None:
    network = randomised(VAE(AUTOENCODER), dtype=torch.float32)
    save_folder(network, tmp_path)
    old = public("diffusers VAE, old names", network.state_dict())
    old = {key: value.reshape(value.shape[:2]) if ".attentions." in key else value for key, value in old.items()}
    assert any(".query." in key for key in old)
    save_file(old, tmp_path / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    theirs = diffusers.AutoencoderKL.from_pretrained(tmp_path)
    assert equal(load_vae(tmp_path).state_dict(), theirs.state_dict())


def test_open_clip_s_text_is_read_as_diffusers_reads_it(
    convert: ModuleType, transformers: ModuleType, randomised: Callable[..., Any], tmp_path: Path
) -> None:
    network = randomised(CLIPText(TEXT), dtype=torch.float32)
    prefix = "cond_stage_model.model."
    file = public("open_clip text", network.state_dict(), prefix)
    file |= {f"{prefix}text_projection": torch.zeros(8, 8)}  # diffusers reads the width from it
    save_file(file, tmp_path / "a.safetensors")
    raw = {name: value for name, value in TEXT.to_dict().items() if name not in ("architectures", "model_type")}
    peer = transformers.CLIPTextModel(transformers.CLIPTextConfig(**raw))
    theirs = convert.convert_open_clip_checkpoint(peer, dict(file), prefix=prefix)
    theirs = {key if key.startswith("text_model.") else f"text_model.{key}": v for key, v in theirs.items()}
    theirs.pop("text_model.embeddings.position_ids", None)
    assert equal(load_text_encoder(tmp_path / "a.safetensors", config=TEXT).state_dict(), theirs)


@pytest.mark.parametrize("mid_block", [False, True])
def test_motion_modules_are_joined_as_diffusers_joins_them(
    mid_block: bool, diffusers: ModuleType, convert: ModuleType, randomised: Callable[..., Any], tmp_path: Path
) -> None:
    motion = MotionConfig(num_attention_heads=8, max_frames=6, mid_block=mid_block)
    video = randomised(UNet(replace(SPATIAL, temporal=motion)), dtype=torch.float32)
    image = UNet(SPATIAL)
    image.load_state_dict({k: v for k, v in video.state_dict().items() if ".motion_modules." not in k})
    save_folder(image, tmp_path / "unet")
    file = public("AnimateDiff motion module",
                  {k: v for k, v in video.state_dict().items() if ".motion_modules." in k})  # fmt: skip
    torch.save(file, tmp_path / "mm.ckpt")

    adapter = diffusers.MotionAdapter(
        block_out_channels=SPATIAL.block_out_channels, motion_norm_num_groups=4, motion_max_seq_length=6,
        use_motion_mid_block=mid_block,
    )  # fmt: skip
    converted = convert.convert_animatediff_checkpoint_to_diffusers(dict(file))  # it computes position tables anew
    adapter.load_state_dict(converted | {k: v for k, v in adapter.state_dict().items() if k.endswith(".pe")})
    adapter.save_pretrained(tmp_path / "adapter")
    peer = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "unet")
    theirs = diffusers.UNetMotionModel.from_unet2d(peer, adapter).state_dict()

    for source in ("mm.ckpt", "adapter"):  # the authors' file, and the folder that diffusers wrote
        ours = load_unet(tmp_path / "unet", motion=tmp_path / source, motion_norm="diffusers")
        assert ours.config == replace(SPATIAL, temporal=motion)
        assert equal(ours.state_dict(), theirs)
