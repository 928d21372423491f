"""The networks of the embedded pair: their sizes, initial values, and how they are kept in its folder."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ivmix.models import (
    VAE,
    CLIPText,
    CLIPTextConfig,
    DiTConfig,
    MotionConfig,
    Tokenizer,
    UNetConfig,
    VAEConfig,
    load_folder,
    load_unet,
    save_folder,
)
from ivmix.models.layers import SpatialTransformer
from ivmix.models.unet.temporal import FrameTransformer
from ivmix.solvers import Schedule
from ivmix.sprites.averaging.unet import AVERAGING, AveragingUNet, AveragingUNetConfig
from ivmix.sprites.world import SIZE, WORDS, degrade, random_scenes, render

HALF = SIZE // 2  # pixels: the pictures that the latents are made of
MAX_LENGTH = 8  # tokens of a prompt: begin, at most six words, end
SCHEDULE = {"kind": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "timesteps": 1000}
HALF_CONFIG = VAEConfig(block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, scaling_factor=1.0)
VAE_CONFIG = replace(HALF_CONFIG, block_out_channels=(32, *HALF_CONFIG.block_out_channels))
IMAGE_CONFIG = UNetConfig(
    block_out_channels=(32, 64, 64), attention_levels=(False, True, True), layers_per_block=1,
    cross_attention_dim=64, num_attention_heads=4, norm_num_groups=8,
)  # fmt: skip
VIDEO_CONFIG = replace(IMAGE_CONFIG, temporal=MotionConfig(num_attention_heads=4, max_frames=16))
TEXT_CONFIG = CLIPTextConfig(
    vocab_size=len(WORDS) + 2, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=MAX_LENGTH,
)  # fmt: skip


def tokenizer() -> Tokenizer:
    return Tokenizer.from_words(WORDS, MAX_LENGTH)


class Conditioned(nn.Module):
    """A UNet, or a transformer, and the text encoder it is trained with."""

    def __init__(self, config: UNetConfig | DiTConfig) -> None:
        super().__init__()
        self.unet: Any = config.network(config)  # type: ignore[arg-type]
        self.text_encoder = CLIPText(TEXT_CONFIG)
        self.tokenizer = tokenizer()

    def forward(self, z: Tensor, t: Tensor, prompts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(prompts).to(z.device)
        return self.unet(z, t, self.unet.condition(self.text_encoder(tokens)))


def video_network() -> Conditioned:
    """Initial values under which a word, the frame's index and a place act together on the output from the first step.

    Which way a sprite moves is the product of the three. With the usual values that product is a millionth of the
    variance of the UNet's last features and the direction is never learnt; with these it is nearly a hundredth.
    """
    network = Conditioned(VIDEO_CONFIG)
    with torch.no_grad():
        for module in network.unet.modules():
            block: Any
            if isinstance(module, SpatialTransformer):
                block = module.transformer_blocks[0]
                block.attn2.to_v.weight *= 3
                block.attn2.to_out[0].weight *= 3**0.5
                block.ff.net[0].proj.weight *= 3
                block.ff.net[2].weight *= 3
                module.proj_out.weight *= 2
            elif isinstance(module, FrameTransformer):
                block = module.transformer_blocks[0]
                for norm, attention in ((block.norm1, block.attn1), (block.norm2, block.attn2)):
                    norm.weight.fill_(0.5)  # the frame's index beside it counts twice
                    attention.to_q.weight.copy_(2 * torch.eye(len(attention.to_q.weight)))
                    attention.to_k.weight.copy_(attention.to_q.weight)  # every frame attends to itself
                    nn.init.xavier_uniform_(attention.to_v.weight)
                    nn.init.xavier_uniform_(attention.to_out[0].weight)
                block.ff.net[0].proj.weight *= 2
                block.ff.net[2].weight *= 2
                nn.init.xavier_uniform_(module.proj_out.weight)
        network.unet.conv_in.weight *= 0.03  # hardly hears the noise
        network.unet.conv_out.weight.zero_()
        network.unet.conv_out.bias.zero_()
    return network


def grown_vae(pair: Path) -> VAE:
    """One level more than the half-size autoencoder, whose weights it starts from and whose scale it keeps."""
    half = half_vae(pair, torch.device("cpu"))
    network = VAE(replace(VAE_CONFIG, scaling_factor=half.config.scaling_factor))
    state = network.state_dict()
    for key, value in half.state_dict().items():
        key = re.sub(r"down_blocks\.(\d)", lambda level: f"down_blocks.{int(level[1]) + 1}", key)
        if key in state and state[key].shape == value.shape:
            state[key] = value
    network.load_state_dict(state)
    return network


def averaging_video(pair: Path) -> Conditioned:
    """What the stage before has saved, and a last layer that averages what stands still."""
    network = load_conditioned("video", VIDEO_CONFIG)(pair)
    unet, schedule = AveragingUNet(AveragingUNetConfig(**vars(VIDEO_CONFIG))), Schedule.from_config(SCHEDULE)
    before = {key: value for key, value in network.unet.state_dict().items() if not key.startswith("averaging.")}
    unet.load_state_dict(unet.averaging.state_dict(prefix="averaging.") | before)
    unet.averaging.clean.copy_(torch.stack([schedule.alpha, -schedule.sigma_vp], dim=1))  # x0 of z and v
    network.unet = unet
    return network


def half_vae(pair: Path, device: torch.device) -> VAE:
    return load_folder(VAE, VAEConfig, pair.parent / "half", device, torch.float32)


def pair_vae(pair: Path, device: torch.device) -> VAE:
    return load_folder(VAE, VAEConfig, pair / "vae", device, torch.float32)


def load_conditioned(name: str, config: UNetConfig) -> Callable[[Path], Conditioned]:
    """What a stage before has saved, to be trained further."""

    def load(pair: Path) -> Conditioned:
        network, side, cpu = Conditioned(config), pair / name, torch.device("cpu")
        network.unet = load_unet(side / "unet", layouts=[AVERAGING], dtype=torch.float32)
        network.text_encoder = load_folder(CLIPText, CLIPTextConfig, side / "text_encoder", cpu, torch.float32)
        return network.requires_grad_(True).train()

    return load


def save_half(network: nn.Module, pair: Path) -> None:
    """Beside the pair."""
    save_scaled(network, pair.parent / "half", HALF)


def save_scaled(network: nn.Module, folder: Path, size: int) -> None:
    """Sets the scale that gives latents unit deviation, measured on 512 frames drawn at `size`, and saves."""
    assert isinstance(network, VAE)
    generator = torch.Generator().manual_seed(0)
    clips = render(random_scenes(64, generator).to(next(network.parameters()).device), size)
    with torch.no_grad():
        spread = network.encode(torch.cat([clips, degrade(clips)])).std()
    network.config = replace(network.config, scaling_factor=round(float(1 / spread), 5))
    save_folder(network, folder, torch.float16)


def save_vae(network: nn.Module, pair: Path) -> None:
    save_folder(network, pair / "vae", torch.float16)


def save_judge(network: nn.Module, pair: Path) -> None:
    save_folder(network, pair / "judge", torch.float16)


def save_conditioned(name: str) -> Callable[[nn.Module, Path], None]:
    def save(network: nn.Module, pair: Path) -> None:
        assert isinstance(network, Conditioned)
        save_side(network, pair / name)
        network.tokenizer.save(pair / "tokenizer")

    return save


def save_crisp(network: nn.Module, pair: Path) -> None:
    """Beside the pair, all else of which the other pair shares."""
    assert isinstance(network, Conditioned)
    save_side(network, pair.parent / "crisp" / "image")


def save_side(network: Conditioned, folder: Path, part: str = "unet") -> None:
    save_folder(network.unet, folder / part, torch.float16)
    save_folder(network.text_encoder, folder / "text_encoder", torch.float16)
