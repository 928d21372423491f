"""The recipe of the embedded pair: what each network is, what it is shown, and for how long.

The video model is shown degraded clips, as web video is to public video models. The image model draws crisp frames for
a caption and degraded ones for the empty prompt, as an empty prompt draws the average of what was scraped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivmix.description import FORMAT
from ivmix.models import (
    VAE,
    CLIPText,
    CLIPTextConfig,
    MotionConfig,
    Tokenizer,
    UNet,
    UNetConfig,
    VAEConfig,
    load_folder,
    save_folder,
)
from ivmix.solvers import Schedule
from ivmix.sprites.judge import Judge, JudgeConfig, judge_loss
from ivmix.sprites.world import FRAMES, SIZE, WORDS, degrade, random_scenes, render
from ivmix.training import Loss, Settings

MAX_LENGTH = 8  # tokens of a prompt: begin, at most six words, end
SCHEDULE = {"kind": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "timesteps": 1000}

VAE_CONFIG = VAEConfig(block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, scaling_factor=1.0)
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
    """A UNet and the text encoder it is trained with."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.unet = UNet(config)
        self.text_encoder = CLIPText(TEXT_CONFIG)
        self.tokenizer = tokenizer()

    def forward(self, z: Tensor, t: Tensor, prompts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(prompts).to(z.device)
        return self.unet(z, t, self.unet.condition(self.text_encoder(tokens)))


@dataclass(frozen=True)
class Stage:
    """One training of the recipe. `needs` names stages whose saved networks `loss` reads from the pair's folder."""

    name: str
    needs: tuple[str, ...]
    settings: Settings
    build: Callable[[], nn.Module]
    loss: Callable[[Path, torch.device], Loss]
    save: Callable[[nn.Module, Path], None]


# --- what each network is shown -------------------------------------------------------------------------------------


def vae_loss(pair: Path, device: torch.device) -> Loss:
    """Absolute and squared error of pixels, absolute error of pixel differences (edges stay sharp), a whisper of KL.

    Single frames, half of them crisp, half degraded.
    """

    def loss(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        n = 16
        frame = torch.randint(FRAMES, (n,), generator=generator)
        scenes = random_scenes(n, generator).at(frame)
        degraded = (torch.rand(n, generator=generator) < 0.5).float()
        images = degrade(render(scenes), degraded, degraded)[:, :, 0].to(device)
        mean, logvar = network.moments(images)  # type: ignore[operator]
        noise = torch.randn(mean.shape, generator=generator).to(device)
        error = network.decode_images(mean + (0.5 * logvar).exp() * noise) - images  # type: ignore[operator]
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        value = error.abs().mean() + error.square().mean() + edges + 1e-4 * kl
        return value, {"psnr": -10 * (error.detach().square().mean() / 4).log10(), "kl": kl.detach()}

    return loss


def judge_stage_loss(pair: Path, device: torch.device) -> Loss:
    """Frames of every amount of degradation, a little noise on top so that no artefact of rendering is leant on."""

    def loss(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        n = 64
        frame = torch.randint(FRAMES, (n,), generator=generator)
        scenes = random_scenes(n, generator).at(frame)
        soft, mark = (torch.rand(n, generator=generator) * 1.5 - 0.25 for _ in range(2))  # a third exactly 0 or 1
        soft, mark = soft.clamp(0, 1), mark.clamp(0, 1)
        images = degrade(render(scenes), soft, mark)[:, :, 0]
        noise = torch.randn(images.shape, generator=generator)
        images = images + 0.06 * torch.rand(n, 1, 1, 1, generator=generator) * noise
        reading = network(images.to(device))
        targets = (scenes.colour, scenes.shape, scenes.position[:, 0], soft, mark)
        return judge_loss(reading, *(target.to(device) for target in targets)), {}

    return loss


def levels(t: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """alpha and sigma_vp at integer training timesteps t (b,), shaped to multiply (b c f h w)."""
    schedule = Schedule.from_config(SCHEDULE)
    alpha, sigma_vp = (table.float()[t, None, None, None, None] for table in (schedule.alpha, schedule.sigma_vp))
    return alpha.to(device), sigma_vp.to(device)


def image_loss(pair: Path, device: torch.device) -> Loss:
    """Epsilon prediction on single frames: crisp under their caption, degraded under the empty prompt (one in six)."""
    vae = load_folder(VAE, VAEConfig, pair / "vae", device, torch.float32)

    def loss(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        n = 32
        frame = torch.randint(FRAMES, (n,), generator=generator)
        scenes = random_scenes(n, generator).at(frame)
        null = torch.rand(n, generator=generator) < 1 / 6
        images = degrade(render(scenes), null.float(), null.float()).to(device)
        with torch.no_grad():
            x0 = vae.encode(images)
        t = torch.randint(1000, (n,), generator=generator)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        alpha, sigma_vp = levels(t, device)
        prompts = ["" if empty else caption for empty, caption in zip(null.tolist(), scenes.captions, strict=True)]
        return F.mse_loss(network(alpha * x0 + sigma_vp * noise, t, prompts), noise), {}

    return loss


def video_loss(pair: Path, device: torch.device) -> Loss:
    """V prediction (arXiv 2202.00512) on degraded clips, the caption dropped one time in eight.

    Motion is decided at high noise, so 70 % of the timesteps are 500 or more; with epsilon prediction it is not learnt.
    """
    vae = load_folder(VAE, VAEConfig, pair / "vae", device, torch.float32)

    def loss(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        n = 4
        scenes = random_scenes(n, generator)
        null = torch.rand(n, generator=generator) < 1 / 8
        clips = degrade(render(scenes)).to(device)
        with torch.no_grad():
            x0 = vae.encode(clips)
        late = torch.rand(n, generator=generator) < 0.7
        t = torch.randint(500, (n,), generator=generator) + 500 * late
        noise = torch.randn(x0.shape, generator=generator).to(device)
        alpha, sigma_vp = levels(t, device)
        z, v = alpha * x0 + sigma_vp * noise, alpha * noise - sigma_vp * x0
        prompts = ["" if empty else caption for empty, caption in zip(null.tolist(), scenes.captions, strict=True)]
        error = (network(z, t, prompts) - v).square().mean(dim=(1, 2, 3, 4))
        return error.mean(), {"late": error.detach().cpu()[late].mean().nan_to_num()}

    return loss


# --- what is kept ---------------------------------------------------------------------------------------------------


def save_vae(network: nn.Module, pair: Path) -> None:
    """Sets the scale that gives latents unit deviation, measured on 512 frames, and saves."""
    assert isinstance(network, VAE)
    generator = torch.Generator().manual_seed(0)
    clips = render(random_scenes(64, generator)).to(next(network.parameters()).device)
    with torch.no_grad():
        spread = network.encode(torch.cat([clips, degrade(clips)])).std()
    network.config = replace(network.config, scaling_factor=round(float(1 / spread), 5))
    save_folder(network, pair / "vae", torch.float16)


def save_judge(network: nn.Module, pair: Path) -> None:
    save_folder(network, pair / "judge", torch.float16)


def save_conditioned(name: str) -> Callable[[nn.Module, Path], None]:
    def save(network: nn.Module, pair: Path) -> None:
        assert isinstance(network, Conditioned)
        save_folder(network.unet, pair / name / "unet", torch.float16)
        save_folder(network.text_encoder, pair / name / "text_encoder", torch.float16)
        network.tokenizer.save(pair / "tokenizer")

    return save


STAGES = (
    Stage("vae", (), Settings(steps=3000), lambda: VAE(VAE_CONFIG), vae_loss, save_vae),
    Stage("judge", (), Settings(steps=1500), lambda: Judge(JudgeConfig()), judge_stage_loss, save_judge),
    Stage(
        "image", ("vae",), Settings(steps=4000),
        lambda: Conditioned(IMAGE_CONFIG), image_loss, save_conditioned("image"),
    ),
    Stage(
        "video", ("vae",), Settings(steps=4500, rates={"motion_modules": 3.0}),
        lambda: Conditioned(VIDEO_CONFIG), video_loss, save_conditioned("video"),
    ),
)  # fmt: skip

# What each sampler does unless told otherwise: chosen on seeds that are not among those reported in the model card.
DEFAULTS = {
    "sampler": "composite",
    "negative_prompt": "",
    "ddim": {"steps": 20, "guidance": 4.0},
    "image": {"steps": 20, "image_guidance": "3"},
    "zigzag": {
        "steps": 20, "guidance": 4.0, "pattern": "IV-IV", "sequence": "down-first", "image_guidance": "1",
        "video_guidance": "1", "interval": [0.0, 1.0],
    },
    "composite": {
        "steps": 10, "solver": "dpm++2m", "guidance": 4.0, "pattern": "IV-IV", "image_guidance": "0.5",
        "video_guidance": "0.5", "interval": [0.0, 1.0],
    },
    "mixture": {
        "steps": 20, "solver": "dpm++2m", "guidance": 4.0, "image_guidance": "3", "image_weight": 0.7,
        "interval": [0.7, 1.0],
    },
    "freeinit": {"steps": 20, "guidance": 4.0, "iterations": 5},
    "zsampling": {"steps": 20, "guidance": 4.0, "inversion_guidance": 0.0},
    "official": {
        "steps": 50, "variant": "animatediff", "guidance": 4.0, "image_guidance": "1", "video_guidance": "1",
    },
}  # fmt: skip


def describe() -> dict[str, Any]:
    """pair.json of the embedded pair."""

    def side(name: str, prediction: str) -> dict[str, Any]:
        return {"unet": f"{name}/unet", "text_encoder": f"{name}/text_encoder", "tokenizer": "tokenizer",
                "schedule": SCHEDULE, "prediction": prediction}  # fmt: skip

    return {
        "format": FORMAT, "name": "sprites", "licence": "Apache-2.0", "vae": "vae", "image": side("image", "epsilon"),
        "video": side("video", "v"), "frames": FRAMES, "height": SIZE, "width": SIZE, "fps": 8, "defaults": DEFAULTS,
    }  # fmt: skip
