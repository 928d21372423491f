"""Networks: one UNet and one transformer for image and video, VAE and text encoder, loaded from any public layout."""

from ivmix.models.checkpoints.folders import save_folder
from ivmix.models.checkpoints.inspection import Inspection, inspect
from ivmix.models.checkpoints.load import load_folder, load_text_encoder, load_transformer, load_unet, load_vae
from ivmix.models.checkpoints.lora import LoRA, merge_loras, read_lora
from ivmix.models.checkpoints.measuring import load_i3d, load_umt, load_videomae, load_wordpiece
from ivmix.models.checkpoints.state import first_not_finite
from ivmix.models.compile import compile_network
from ivmix.models.condition import Condition
from ivmix.models.dit.config import DiTConfig
from ivmix.models.dit.dit import DiT
from ivmix.models.latent_map import LatentMap, LatentMapConfig
from ivmix.models.measuring.i3d import I3D, I3DConfig
from ivmix.models.measuring.umt import UMT, UMTConfig
from ivmix.models.measuring.vit import VideoMAE, ViTConfig
from ivmix.models.measuring.wordpiece import WordPiece
from ivmix.models.text.clip import CLIPText, CLIPTextConfig
from ivmix.models.text.prompts import encode_captions, encode_prompts, parse_weights
from ivmix.models.text.t5 import T5Config, T5Text
from ivmix.models.text.t5_tokenizer import T5Tokenizer
from ivmix.models.text.text import Text
from ivmix.models.text.tokenizer import Tokenizer
from ivmix.models.unet.config import UNetConfig
from ivmix.models.unet.perturbed import perturbed
from ivmix.models.unet.temporal import MotionConfig, SpaceTimeConfig
from ivmix.models.unet.unet import UNet
from ivmix.models.vae import VAE, VAEConfig

__all__ = [
    "I3D",
    "UMT",
    "VAE",
    "CLIPText",
    "CLIPTextConfig",
    "Condition",
    "DiT",
    "DiTConfig",
    "I3DConfig",
    "Inspection",
    "LatentMap",
    "LatentMapConfig",
    "LoRA",
    "MotionConfig",
    "SpaceTimeConfig",
    "T5Config",
    "T5Text",
    "T5Tokenizer",
    "Text",
    "Tokenizer",
    "UMTConfig",
    "UNet",
    "UNetConfig",
    "VAEConfig",
    "ViTConfig",
    "VideoMAE",
    "WordPiece",
    "compile_network",
    "encode_captions",
    "encode_prompts",
    "first_not_finite",
    "inspect",
    "load_folder",
    "load_i3d",
    "load_text_encoder",
    "load_transformer",
    "load_umt",
    "load_unet",
    "load_vae",
    "load_videomae",
    "load_wordpiece",
    "merge_loras",
    "parse_weights",
    "perturbed",
    "read_lora",
    "save_folder",
]
