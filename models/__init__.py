"""Networks: one UNet for image and video, its VAE and text encoder, loaded from any public layout."""

from ivmix.models.averaging import AveragingConfig
from ivmix.models.build import first_not_finite
from ivmix.models.compile import compile_network
from ivmix.models.folder import save_folder
from ivmix.models.inspection import Inspection, inspect
from ivmix.models.load import load_folder, load_text_encoder, load_unet, load_vae
from ivmix.models.lora import LoRA, merge_loras, read_lora
from ivmix.models.prompts import encode_prompts, parse_weights
from ivmix.models.temporal import MotionConfig, SpaceTimeConfig
from ivmix.models.text import CLIPText, CLIPTextConfig
from ivmix.models.tokenizer import Tokenizer
from ivmix.models.unet import Condition, UNet, UNetConfig
from ivmix.models.vae import VAE, VAEConfig

__all__ = [
    "VAE",
    "AveragingConfig",
    "CLIPText",
    "CLIPTextConfig",
    "Condition",
    "Inspection",
    "LoRA",
    "MotionConfig",
    "SpaceTimeConfig",
    "Tokenizer",
    "UNet",
    "UNetConfig",
    "VAEConfig",
    "compile_network",
    "encode_prompts",
    "first_not_finite",
    "inspect",
    "load_folder",
    "load_text_encoder",
    "load_unet",
    "load_vae",
    "merge_loras",
    "parse_weights",
    "read_lora",
    "save_folder",
]
