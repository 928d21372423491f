"""The autoencoder: public keys and sizes, frames one by one or together, scaling, and what is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ivmix.models import VAE, VAEConfig
from ivmix.models.vae import FIXED_ENTRIES

Make = Callable[..., Tensor]
CLOSE = 1e-12  # float64 rounding through some twenty layers; another batch size may choose other kernels


@pytest.fixture
def vae(vae_config: VAEConfig, randomised: Callable[..., VAE]) -> VAE:
    return randomised(VAE(vae_config))


def test_the_default_is_stable_diffusion_s_autoencoder_key_by_key(
    manifest: Callable[[str], tuple[dict[str, tuple[int, ...]], int]], shapes_of: Callable[..., Any]
) -> None:
    with torch.device("meta"):
        network = VAE(VAEConfig())
    public, total = manifest("sd15_vae_diffusers")
    assert shapes_of(network) == public
    assert sum(p.numel() for p in network.parameters()) == total == 83_653_863
    assert network.config.factor == 8


def test_every_norm_has_the_epsilon_it_was_trained_with(vae: VAE) -> None:
    assert {module.eps for module in vae.modules() if isinstance(module, nn.GroupNorm)} == {1e-6}


def test_config_survives_a_json_file(vae_config: VAEConfig) -> None:
    for config in (VAEConfig(), vae_config):
        assert VAEConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_config_without_scaling_factor_has_stable_diffusion_s() -> None:
    raw = VAEConfig(scaling_factor=0.5).to_dict()
    del raw["scaling_factor"]
    assert VAEConfig.from_dict(raw).scaling_factor == 0.18215


@pytest.mark.parametrize("name", FIXED_ENTRIES)
def test_an_entry_that_would_silently_change_the_function_is_refused(name: str) -> None:
    raw = VAEConfig().to_dict()
    assert VAEConfig.from_dict(raw | {name: FIXED_ENTRIES[name]}) == VAEConfig()
    with pytest.raises(ValueError, match=f"{name} is 'other'"):
        VAEConfig.from_dict(raw | {name: "other"})


@pytest.mark.parametrize("frames_per_batch", [1, 2, 4, 64])
def test_slices_of_frames_equal_all_frames_at_once(
    frames_per_batch: int, vae: VAE, normal: Make, difference: Callable[..., float]
) -> None:
    video, latents = normal(2, 3, 5, 8, 12), normal(2, 4, 5, 4, 6)
    encoded, decoded = vae.encode(video, frames_per_batch=10), vae.decode(latents, frames_per_batch=10)
    assert encoded.shape == latents.shape
    assert decoded.shape == video.shape
    assert difference(vae.encode(video, frames_per_batch), encoded) < CLOSE
    assert difference(vae.decode(latents, frames_per_batch), decoded) < CLOSE


def test_each_frame_of_each_row_is_an_image_of_its_own(
    vae: VAE, normal: Make, difference: Callable[..., float]
) -> None:
    video = normal(2, 3, 3, 8, 8)
    mean = torch.stack([vae.moments(video[:, :, f])[0] for f in range(3)], dim=2)
    assert difference(vae.encode(video), vae.config.scaling_factor * mean) < CLOSE
    latents = normal(2, 4, 3, 4, 4)
    images = [vae.decode_images(latents[:, :, f] / vae.config.scaling_factor) for f in range(3)]
    assert difference(vae.decode(latents), torch.stack(images, dim=2)) < CLOSE


def test_log_variances_are_kept_within_bounds(vae: VAE, normal: Make) -> None:
    vae.get_parameter("quant_conv.bias").data[4:] = torch.tensor([1e3, -1e3, 0.0, 0.0], dtype=torch.float64)
    logvar = vae.moments(normal(1, 3, 8, 8))[1]
    assert logvar[:, 0].unique().tolist() == [20.0]
    assert logvar[:, 1].unique().tolist() == [-30.0]


def test_every_weight_matters(vae: VAE, normal: Make) -> None:
    vae.requires_grad_(True)
    mean, logvar = vae.moments(normal(2, 3, 8, 8))
    vae.decode_images(mean + (0.5 * logvar).exp() * normal(2, 4, 4, 4, seed=1)).square().sum().backward()
    silent = [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.any()]
    # A key's bias shifts all scores of a query alike, and softmax does not see it: its gradient is rounding.
    assert [name for name in silent if not name.endswith("to_k.bias")] == []


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 2, 9, 8), "video of 9x8: height and width must be multiples of 2"),
        ((1, 3, 2, 8, 7), "video of 8x7"),
        ((1, 3, 8, 8), r"video has shape \(1, 3, 8, 8\): expected \(b, 3, f, h, w\)"),
        ((1, 4, 2, 8, 8), r"expected \(b, 3, f, h, w\)"),
        ((1, 3, 0, 8, 8), r"expected \(b, 3, f, h, w\)"),
    ],
)
def test_videos_of_a_wrong_size_are_one_clear_error(
    shape: tuple[int, ...], message: str, vae: VAE, normal: Make
) -> None:
    with pytest.raises(ValueError, match=message):
        vae.encode(normal(*shape))


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 3, 2, 8, 8), (0, 4, 2, 8, 8)])
def test_latents_of_a_wrong_size_are_one_clear_error(shape: tuple[int, ...], vae: VAE, normal: Make) -> None:
    with pytest.raises(ValueError, match=r"latents has shape .*: expected \(b, 4, f, h, w\)"):
        vae.decode(normal(*shape))


@pytest.mark.parametrize("frames_per_batch", [0, -1])
def test_slices_of_no_frames_are_refused(frames_per_batch: int, vae: VAE, normal: Make) -> None:
    with pytest.raises(ValueError, match=f"frames_per_batch={frames_per_batch}: expected at least 1"):
        vae.decode(normal(1, 4, 2, 4, 4), frames_per_batch)
    with pytest.raises(ValueError, match=f"frames_per_batch={frames_per_batch}: expected at least 1"):
        vae.encode(normal(1, 3, 2, 8, 8), frames_per_batch)
