"""The image model of another latent space: an autoencoder of its own, a small transformer, and maps between latents.

None of its networks shares weights, channels or sizes with the pair's: 3 channels of a factor of 2 beside 4 of 4. The
learned maps see encodings of clean frames alone, crisp and degraded ones: noisy latents never cross a bridge.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivmix.models import VAE, DiTConfig, VAEConfig, load_folder, save_folder
from ivmix.pairs.mapping import errors, new_maps
from ivmix.sprites.training.loop import Loss
from ivmix.sprites.training.losses import drawing_loss, levels, pictures, random_frames, some_frames
from ivmix.sprites.training.networks import (
    HALF,
    TEXT_CONFIG,
    VAE_CONFIG,
    Conditioned,
    pair_vae,
    save_scaled,
    save_side,
)
from ivmix.sprites.world import SIZE, Scenes, degrade, render

POOL = 4096  # frames that the image model is trained on

OTHER_VAE_CONFIG = VAEConfig(
    latent_channels=3, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, scaling_factor=1.0,
)  # fmt: skip
TRANSFORMER_CONFIG = DiTConfig(
    in_channels=3, out_channels=3, patch_size=4, num_layers=5, num_attention_heads=4, attention_head_dim=24,
    caption_channels=TEXT_CONFIG.hidden_size, sample_size=SIZE // OTHER_VAE_CONFIG.factor,
)  # fmt: skip


class Maps(nn.Module):
    """Both ways between the latents of two autoencoders."""

    def __init__(self) -> None:
        super().__init__()
        self.to_image, self.to_video = new_maps(VAE_CONFIG, OTHER_VAE_CONFIG)


def bridged(pair: Path) -> Path:
    """The folder beside the pair that these networks are kept in."""
    return pair.parent / "bridged"


def other_vae(pair: Path, device: torch.device) -> VAE:
    return load_folder(VAE, VAEConfig, bridged(pair) / "vae", device, torch.float32)


def other_vae_loss(pair: Path, device: torch.device) -> Loss:
    """As the half-size one's, on squares of frames of the whole size."""
    return drawing_loss(SIZE, 16, device, HALF)


def transformer_loss(pair: Path, device: torch.device) -> Loss:
    """As the pair's image model: crisp frames under their caption, degraded ones, one in six, under the empty prompt.

    They are drawn of a pool that is encoded once, as encoding takes longer than this network does.
    """
    vae, generator = other_vae(pair, device), torch.Generator().manual_seed(0)
    scenes = random_frames(POOL, generator)
    captions = scenes.captions
    crisp, degraded = (encoded(vae, scenes.to(device), amount) for amount in (0.0, 1.0))

    def loss(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        n = 32
        rows, t = torch.randint(POOL, (n,), generator=generator), torch.randint(1000, (n,), generator=generator)
        null = torch.rand(n, generator=generator) < 1 / 6
        x0 = torch.where(null[:, None, None, None, None].to(device), degraded[rows], crisp[rows])
        noise = torch.randn(x0.shape, generator=generator).to(device)
        alpha, sigma_vp = levels(t, device)
        prompts = ["" if empty else captions[k] for empty, k in zip(null.tolist(), rows.tolist(), strict=True)]
        return F.mse_loss(network(alpha * x0 + sigma_vp * noise, t, prompts), noise), {}

    return loss


@torch.no_grad()
def encoded(vae: VAE, scenes: Scenes, degraded: float) -> Tensor:
    """Latents (n c 1 h w) of scenes of one frame."""
    parts = (scenes[slice(k, k + 64)] for k in range(0, len(scenes), 64))
    return torch.cat([vae.encode(degrade(render(part), degraded, degraded)) for part in parts])


def maps_loss(pair: Path, device: torch.device) -> Loss:
    """How far each way's latents are from the other autoencoder's own of the same clean frames, squared."""
    video, image = pair_vae(pair, device), other_vae(pair, device)

    def loss(network: nn.Module, generator: torch.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(network, Maps)
        frames = pictures(*some_frames(generator, device), SIZE)[:, :, None]
        with torch.no_grad():
            x0_v, x0_i = video.encode(frames), image.encode(frames)
        to_image, to_video = errors((network.to_image, network.to_video), x0_v, x0_i)
        return to_image + to_video, {"to_image": to_image.detach(), "to_video": to_video.detach()}

    return loss


def save_other_vae(network: nn.Module, pair: Path) -> None:
    save_scaled(network, bridged(pair) / "vae", SIZE)


def save_transformer(network: nn.Module, pair: Path) -> None:
    assert isinstance(network, Conditioned)
    save_side(network, bridged(pair) / "image", "transformer")


def save_maps(network: nn.Module, pair: Path) -> None:
    assert isinstance(network, Maps)
    for name, part in (("to_image", network.to_image), ("to_video", network.to_video)):
        save_folder(part, pair.parent / "mapped" / name, torch.float16)
