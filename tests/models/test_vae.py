"""The autoencoder: public keys and sizes, frames one by one or together, scaling, and what is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from ivmix.models import VAE, VAEConfig, load_folder
from ivmix.models.meta import build
from ivmix.models.vae import FIXED_ENTRIES, shares, tiled, tiles
from ivmix.pairs.description import EMBEDDED
from ivmix.sprites.world import random_scenes, render

Make = Callable[..., Tensor]
CLOSE = 1e-12  # float64 rounding through some twenty layers; another batch size may choose other kernels


@pytest.fixture
def vae(vae_config: VAEConfig, randomised: Callable[..., VAE]) -> VAE:
    return randomised(VAE(vae_config))


def test_the_default_is_stable_diffusion_s_autoencoder_key_by_key(
    manifest: Callable[[str], tuple[dict[str, tuple[int, ...]], int]], shapes_of: Callable[..., Any]
) -> None:
    network = build(VAE, VAEConfig())
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


PUBLIC = {  # Stable Diffusion 1.5's vae/config.json
    "_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0", "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D"] * 4, "in_channels": 3,
    "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3, "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip
LATER = {
    "force_upcast": True, "scaling_factor": 0.18215, "shift_factor": None, "latents_mean": None, "latents_std": None,
    "use_quant_conv": True, "use_post_quant_conv": True, "mid_block_add_attention": True, "_name_or_path": "vae",
}  # fmt: skip


def test_config_files_of_old_and_new_diffusers_are_stable_diffusion_s_autoencoder() -> None:
    oldest = {k: v for k, v in PUBLIC.items() if k != "norm_num_groups"}
    for raw in (PUBLIC, oldest, PUBLIC | LATER):
        assert VAEConfig.from_dict(raw) == VAEConfig()


@pytest.mark.parametrize("name", ["down_block_types", "up_block_types"])
def test_blocks_of_another_kind_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is"):
        VAEConfig.from_dict(PUBLIC | {name: ["AttnDownEncoderBlock2D"] * 4})


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


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize(("size", "tile"), [(12, 4), (13, 4), (7, 6), (9, 5), (5, 1), (4, 4), (3, 8)])
def test_shares_of_tiles_are_one_in_sum_and_rise_linearly(size: int, tile: int, overlap: float) -> None:
    total, last = torch.zeros(size * 2, dtype=torch.float64), -1
    for begin, share in shares(size, tile, overlap, 2):
        assert begin > last
        assert len(share) == 2 * min(tile, size)
        assert (share > 0).all()
        total[2 * begin : 2 * begin + len(share)] += share
        last = begin
    assert float((total - 1).abs().max()) < 1e-15
    assert last == size - min(tile, size)


def test_a_cross_fade_is_a_straight_line_over_the_overlap() -> None:
    (_, first), (begin, second) = shares(14, 8, 0.25, 2)
    assert begin == 6
    assert first[12:].tolist() == pytest.approx([0.875, 0.625, 0.375, 0.125], abs=1e-15)
    assert (first[:12] == 1).all()
    assert (second[4:] == 1).all()


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_tiles_of_a_network_that_sees_one_pixel_are_the_whole(
    overlap: float, normal: Make, difference: Callable[..., float]
) -> None:
    """Then any difference would be of the tiling itself: its places, its shares, its steps."""
    latents, images = normal(2, 3, 10, 13), normal(2, 3, 20, 26)

    def up(x: Tensor) -> Tensor:
        return 2 * x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    def down(x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 2)

    assert difference(tiled(up, 4, overlap, 1, 2)(latents), up(latents)) < 1e-15
    assert difference(tiled(down, 4, overlap, 2, 1)(images), down(images)) < 1e-15


def test_shares_of_tiles_are_made_once_for_all_parts_and_calls(vae: VAE, normal: Make) -> None:
    latents = normal(1, 4, 3, 10, 18)
    tiles.cache_clear()
    with torch.inference_mode():
        first = vae.decode(latents, 1, tile=4)
    assert torch.equal(vae.decode(latents, 1, tile=4), first)
    assert (tiles.cache_info().misses, tiles.cache_info().hits) == (1, 5)
    vae.decode(latents.requires_grad_(), 1, tile=4).sum().backward()                               # whoever asked first


@pytest.mark.parametrize("tile", [6, 7, 100])
def test_a_tile_that_covers_a_frame_is_the_plain_result_to_the_bit(tile: int, vae: VAE, normal: Make) -> None:
    video, latents = normal(1, 3, 2, 8, 12), normal(1, 4, 2, 4, 6)
    assert torch.equal(vae.encode(video, tile=tile), vae.encode(video))
    assert torch.equal(vae.decode(latents, tile=tile), vae.decode(latents))


def test_no_network_sees_more_than_a_tile(vae: VAE, normal: Make) -> None:
    """Memory is bounded by the tile and the frames of a batch, not by the frame."""
    seen: dict[str, set[tuple[int, ...]]] = {"encoder": set(), "decoder": set()}
    for name, shapes in seen.items():
        vae.get_submodule(name).register_forward_pre_hook(lambda _, args, s=shapes: s.add(tuple(args[0].shape)))
    assert vae.encode(normal(1, 3, 3, 20, 36), 2, tile=4).shape == (1, 4, 3, 10, 18)
    assert vae.decode(normal(1, 4, 3, 10, 18), 2, tile=4).shape == (1, 3, 3, 20, 36)
    assert vae.decode(normal(1, 4, 1, 3, 18), tile=4).shape == (1, 3, 1, 6, 36)
    assert seen["encoder"] == {(2, 3, 8, 8), (1, 3, 8, 8)}
    assert seen["decoder"] == {(2, 4, 4, 4), (1, 4, 4, 4), (1, 4, 3, 4)}


def test_tiles_of_the_shipped_vae_differ_as_little_as_its_documentation_says() -> None:
    """16 rendered clips in one frame of 64x64 latents; one frame of time suffices here, frames being independent."""
    network = load_folder(VAE, VAEConfig, EMBEDDED["sprites"] / "vae", dtype=torch.float32)
    clips = render(random_scenes(16, torch.Generator().manual_seed(0)))[:, :, :1]      # ((i j) c f h w)
    canvas = rearrange(clips, "(i j) c f h w -> 1 c f (i h) (j w)", i=4)
    z = network.encode(canvas)
    assert z.shape[-2:] == (64, 64)
    plain = network.decode(z)
    for tile, overlap, low, high in ((48, 0.25, 0.005, 0.02), (32, 0.25, 0.01, 0.03), (32, 0.0, 0.03, 0.06)):
        rms = float((network.decode(z, tile=tile, overlap=overlap) - plain).square().mean().sqrt())
        assert low < rms < high, (tile, overlap, rms)


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [(0, 0.25, "tile=0: expected a number of latents"), (4, 0.6, "overlap=0.6: expected a share of the tile, 0 to 0.5"),
     (4, -0.1, "overlap=-0.1"), (4, float("nan"), "overlap=nan")],
)  # fmt: skip
def test_tiles_that_cannot_be_are_refused(tile: int, overlap: float, message: str, vae: VAE, normal: Make) -> None:
    with pytest.raises(ValueError, match=message):
        vae.decode(normal(1, 4, 1, 8, 8), tile=tile, overlap=overlap)
    with pytest.raises(ValueError, match=message):
        vae.encode(normal(1, 3, 1, 8, 8), tile=tile, overlap=overlap)
