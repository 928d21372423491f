"""The networks of a public pair, small and random, as diffusers lays them out."""

import json
from dataclasses import replace
from pathlib import Path

import small_t5
import torch
from safetensors.torch import save_file

from ivmix.models import (
    VAE,
    CLIPText,
    CLIPTextConfig,
    DiT,
    DiTConfig,
    MotionConfig,
    Tokenizer,
    UNet,
    UNetConfig,
    VAEConfig,
    save_folder,
)
from ivmix.models.unet.config import TextTimeConfig

WORDS = ("a", "red", "cat", "runs")
UNET = UNetConfig(
    block_out_channels=(32, 64), attention_levels=(True, False), layers_per_block=1, cross_attention_dim=32,
    num_attention_heads=4, norm_num_groups=8,
)  # fmt: skip
MOTION = MotionConfig(num_attention_heads=4, max_frames=8)
SD15_SCHEDULER = {  # as its repository has it
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True,
    "steps_offset": 1, "trained_betas": None, "clip_sample": False,
}  # fmt: skip
VAE_CONFIG = VAEConfig(block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8)
TEXT = CLIPTextConfig(len(WORDS) + 2, 32, 64, 1, 4, 8)
XL_TEXT = CLIPTextConfig(len(WORDS) + 2, 48, 64, 3, 4, 8, "gelu", projection_dim=20)
XL_UNET = UNetConfig(
    block_out_channels=(32, 64), attention_levels=(False, True), layers_per_block=1, cross_attention_dim=32 + 48,
    num_attention_heads=4, norm_num_groups=8, transformer_depth=(1, 2), text_time=TextTimeConfig(20, 8),
)  # fmt: skip

DIT = DiTConfig(  # as many layers as the pair's defaults name
    num_layers=15, num_attention_heads=2, attention_head_dim=8, caption_channels=small_t5.TEXT.d_model, sample_size=8
)
VIDEO_DIT = replace(DIT, temporal=4)
DIT_SCHEDULER = {"_class_name": "DDIMScheduler", "beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02,
                 "num_train_timesteps": 1000}  # fmt: skip


def write_pipeline(folder: Path, seed: int = 0) -> None:
    """unet, vae, text_encoder, tokenizer and scheduler."""
    torch.manual_seed(seed)
    save_folder(UNet(UNET), folder / "unet")
    save_folder(VAE(VAE_CONFIG), folder / "vae")
    save_folder(CLIPText(TEXT), folder / "text_encoder")
    Tokenizer.from_words(WORDS, 8).save(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SD15_SCHEDULER))


def write_xl_pipeline(folder: Path, seed: int = 0) -> None:
    """The same as SDXL has it, with a second text encoder and its tokenizer."""
    torch.manual_seed(seed)
    save_folder(UNet(XL_UNET), folder / "unet")
    save_folder(VAE(replace(VAE_CONFIG, scaling_factor=0.13025)), folder / "vae")
    for second, text in (("", replace(TEXT, num_hidden_layers=2)), ("_2", XL_TEXT)):
        save_folder(CLIPText(text), folder / f"text_encoder{second}")
        Tokenizer.from_words(WORDS, 8).save(folder / f"tokenizer{second}")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SD15_SCHEDULER))


def write_modules(path: Path, unet: UNetConfig = UNET) -> None:
    """Motion modules for that pipeline's UNet, in one file."""
    torch.manual_seed(1)
    network = UNet(replace(unet, temporal=MOTION))
    state = {k: torch.randn_like(v) / 8 for k, v in network.state_dict().items() if ".motion_modules." in k}
    save_file(state | {k: v for k, v in network.state_dict().items() if k.endswith(".pe")}, path)


def write_adapter(folder: Path) -> None:
    """The same as a MotionAdapter's folder."""
    folder.mkdir(parents=True)
    write_modules(folder / "diffusion_pytorch_model.safetensors")
    raw = {"_class_name": "MotionAdapter", "motion_num_attention_heads": 4, "motion_norm_num_groups": 8}
    (folder / "config.json").write_text(json.dumps(raw))


def write_transformers(folder: Path, config: DiTConfig, seed: int) -> None:
    """A pipeline of PixArt's or Latte's kind, its text encoder T5."""
    torch.manual_seed(seed)
    save_folder(DiT(config), folder / "transformer")
    save_folder(VAE(VAE_CONFIG), folder / "vae")
    small_t5.write_text(folder)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(DIT_SCHEDULER))
