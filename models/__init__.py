"""Networks: one UNet for image and video, its VAE and text encoder, loaded from diffusers-style folders."""

from ivmix.models.folder import load_folder, save_folder
from ivmix.models.temporal import MotionConfig, SpaceTimeConfig
from ivmix.models.text import CLIPText, CLIPTextConfig
from ivmix.models.tokenizer import Tokenizer
from ivmix.models.unet import Condition, UNet, UNetConfig
from ivmix.models.vae import VAE, VAEConfig

__all__ = [
    "VAE",
    "CLIPText",
    "CLIPTextConfig",
    "Condition",
    "MotionConfig",
    "SpaceTimeConfig",
    "Tokenizer",
    "UNet",
    "UNetConfig",
    "VAEConfig",
    "load_folder",
    "save_folder",
]
