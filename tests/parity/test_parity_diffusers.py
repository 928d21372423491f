"""Our UNet and VAE against diffusers' on small random networks, through real folders written by either side."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ivmix.models import VAE, MotionConfig, UNet, UNetConfig, VAEConfig, load_folder, save_folder
from ivmix.models.layers import SpatialTransformer, sinusoid
from ivmix.models.unet.temporal import frame_positions

pytestmark = pytest.mark.slow

Make = Callable[..., Tensor]
Agree = Callable[[Tensor, Tensor], None]

# Widths that are no powers of two: sinusoid frequencies are then rounded, and must be rounded alike.
LIKE_SD = UNetConfig(
    block_out_channels=(40, 80, 80), attention_levels=(True, True, False), cross_attention_dim=24,
    num_attention_heads=4, norm_num_groups=8,
)  # fmt: skip
LIKE_SD21 = replace(LIKE_SD, num_attention_heads=(2, 4, 5))  # more heads on wider levels
SHALLOW = replace(LIKE_SD, attention_levels=(False, True, True), layers_per_block=1, in_channels=3, out_channels=5)
MOTIONS = {
    "v1": MotionConfig(4, max_frames=24),
    "v2": MotionConfig(8, max_frames=32, mid_block=True),
    "v3": MotionConfig(4, max_frames=32),
    "short": MotionConfig(2, max_frames=5, mid_block=True),
}
FRAMES = 5
TIMES = [999, [0.0, 500.25]]
VAES = [
    VAEConfig(block_out_channels=(16, 24, 24), norm_num_groups=8),
    VAEConfig(1, 2, 3, (8, 16), layers_per_block=1, norm_num_groups=4, scaling_factor=0.7),
]


def as_images(video: Tensor) -> Tensor:
    return video.transpose(1, 2).flatten(0, 1)


def as_video(images: Tensor) -> Tensor:
    return images.unflatten(0, (-1, FRAMES)).transpose(1, 2)


def peer_image(network: Any, z: Tensor, t: Tensor, context: Tensor) -> Tensor:
    """An image network of diffusers on every frame: it wants one time and one context an image."""
    t = t.expand(len(z)).repeat_interleave(FRAMES)
    return as_video(network(as_images(z), t, context.repeat_interleave(FRAMES, dim=0)).sample)


def peer_video(network: Any, z: Tensor, t: Tensor, context: Tensor) -> Tensor:
    """UNetMotionModel wants times by the row but, unlike its own time embedding, the context repeated by the frame."""
    return network(z, t, context.repeat_interleave(FRAMES, dim=0)).sample


def peer_class(diffusers: ModuleType, config: UNetConfig) -> tuple[Any, Callable[..., Tensor]]:
    if config.temporal:
        return diffusers.UNetMotionModel, peer_video
    return diffusers.UNet2DConditionModel, peer_image


def compare(ours: UNet, call: Callable[..., Tensor], theirs: Any, normal: Make, agree: Agree) -> None:
    z, context = normal(2, ours.config.in_channels, FRAMES, 8, 12), normal(2, 7, 24, seed=1)
    for time in TIMES:
        t = torch.tensor(time)
        out = ours(z, t, ours.condition(context))
        agree(out, call(theirs, z, t, context))
        assert torch.equal(out, ours(z, t, ours.condition(context)))


UNETS = {
    "image": LIKE_SD,
    "shallow image": SHALLOW,
    "shallow video": replace(SHALLOW, temporal=MOTIONS["short"]),
    "image like sd 2.1": LIKE_SD21,
    "video like sd 2.1": replace(LIKE_SD21, temporal=MOTIONS["v3"]),
    **{name: replace(LIKE_SD, temporal=motion) for name, motion in MOTIONS.items()},
}


@pytest.fixture(params=list(UNETS.values()), ids=list(UNETS))
def config(request: pytest.FixtureRequest) -> UNetConfig:
    return request.param


def test_diffusers_opens_our_unet_and_computes_the_same(
    config: UNetConfig, diffusers: ModuleType, opened: Callable[..., Any], randomised: Callable[..., UNet],
    normal: Make, agree: Agree, dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    ours = randomised(UNet(config), dtype=dtype)
    save_folder(ours, tmp_path)
    cls, call = peer_class(diffusers, config)
    compare(ours, call, opened(cls, tmp_path, torch_dtype=dtype), normal, agree)


def test_we_open_diffusers_unet_and_compute_the_same(
    config: UNetConfig, diffusers: ModuleType, randomised: Callable[..., Any], normal: Make, agree: Agree,
    dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    cls, call = peer_class(diffusers, config)
    raw = {name: value for name, value in config.to_dict().items() if not name.startswith("_")}
    theirs = randomised(cls(**raw), dtype=dtype)
    theirs.save_pretrained(tmp_path)
    ours = load_folder(UNet, UNetConfig, tmp_path)
    assert ours.config == config
    compare(ours, call, theirs, normal, agree)


def test_we_open_an_image_unet_that_diffusers_joined_with_a_motion_adapter(
    diffusers: ModuleType, randomised: Callable[..., Any], normal: Make, agree: Agree, dtype: torch.dtype,
    tmp_path: Path,
) -> None:  # fmt: skip
    raw = {name: value for name, value in LIKE_SD.to_dict().items() if not name.startswith("_")}
    adapter = diffusers.MotionAdapter(
        block_out_channels=LIKE_SD.block_out_channels, motion_layers_per_block=2, motion_num_attention_heads=4,
        motion_norm_num_groups=8, motion_max_seq_length=16, use_motion_mid_block=True,
    )  # fmt: skip
    image = randomised(diffusers.UNet2DConditionModel(**raw), dtype=dtype)
    joined = diffusers.UNetMotionModel.from_unet2d(image, randomised(adapter, seed=1, dtype=dtype))
    joined = joined.to(dtype).eval().requires_grad_(False)
    joined.save_pretrained(tmp_path)
    ours = load_folder(UNet, UNetConfig, tmp_path)
    compare(ours, peer_video, joined, normal, agree)
    # The image view of the joined network is the image network it was made from.
    z, t, context = normal(2, 4, FRAMES, 8, 12), torch.tensor(400), normal(2, 7, 24, seed=1)
    agree(ours(z, t, ours.condition(context), temporal=False), peer_image(image, z, t, context))


@pytest.mark.parametrize("temporal", [None, MOTIONS["v2"]], ids=["image", "video"])
def test_we_compute_the_same_from_projections_stored_as_convolutions(
    temporal: MotionConfig | None, diffusers: ModuleType, randomised: Callable[..., Any], normal: Make, agree: Agree,
    dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    """Stable Diffusion 1.5 projects by 1x1 convolutions, [C, C, 1, 1]: the same numbers as our [C, C]."""
    config = replace(LIKE_SD, temporal=temporal)
    cls, call = peer_class(diffusers, config)
    raw = {name: value for name, value in config.to_dict().items() if not name.startswith("_")}
    theirs = randomised(cls(**raw | {"use_linear_projection": False}), dtype=dtype)
    theirs.save_pretrained(tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    projections = [key for key, value in state.items() if "proj_" in key and value.ndim == 4]
    assert len(projections) == 2 * sum(isinstance(m, SpatialTransformer) for m in UNet(config).modules())
    save_file(state | {key: state[key].flatten(1) for key in projections}, weights)
    ours = load_folder(UNet, UNetConfig, tmp_path)
    assert ours.config == config
    compare(ours, call, theirs, normal, agree)


class Laid(nn.Module):
    """A norm of what `there` makes of its input, laid out as the input again by `back`."""

    def __init__(self, norm: nn.GroupNorm, there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.norm, self.there, self.back = norm, there, back

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.norm(self.there(x)))


def frame_by_frame(norm: nn.GroupNorm) -> Laid:
    """Of (b c f h w), with the statistics of each frame."""
    return Laid(norm, as_images, as_video)


def jointly(norm: nn.GroupNorm) -> Laid:
    """Of ((b f) c h w), with the statistics of all frames of an example."""
    return Laid(norm, as_video, as_images)


def test_frame_by_frame_norms_are_the_only_difference_to_the_authors_motion_module(
    diffusers: ModuleType, opened: Callable[..., Any], randomised: Callable[..., UNet], normal: Make, agree: Agree,
    dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    """diffusers norms all frames jointly, AnimateDiff's authors norm each alone: theirs, with that one change."""
    ours = randomised(UNet(replace(LIKE_SD, temporal=replace(MOTIONS["v2"], joint_norm=False))), dtype=dtype)
    save_folder(ours, tmp_path)
    theirs = opened(diffusers.UNetMotionModel, tmp_path, torch_dtype=dtype)  # it ignores `motion_joint_norm`
    z, t, context = normal(2, 4, FRAMES, 8, 12), torch.tensor(400), normal(2, 7, 24, seed=1)
    out = ours(z, t, ours.condition(context))
    with pytest.raises(AssertionError):
        agree(out, peer_video(theirs, z, t, context))
    for name, module in list(theirs.named_modules()):
        if name.split(".")[-2:-1] == ["motion_modules"]:
            module.norm = frame_by_frame(module.norm)
    agree(out, peer_video(theirs, z, t, context))


def test_norms_where_they_are_the_only_difference_to_the_authors_animatediff_v1(
    diffusers: ModuleType, opened: Callable[..., Any], randomised: Callable[..., UNet], normal: Make, agree: Agree,
    dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    """The authors' v1 norms frames jointly in resnets and at the output, and each alone in motion modules: theirs, with
    the axes of those norms exchanged."""
    motion = replace(MOTIONS["v1"], joint_norm=False, joint_resnet_norm=True)
    ours = randomised(UNet(replace(LIKE_SD, temporal=motion)), dtype=dtype)
    save_folder(ours, tmp_path)
    assert load_folder(UNet, UNetConfig, tmp_path).config == ours.config
    theirs = opened(diffusers.UNetMotionModel, tmp_path, torch_dtype=dtype)  # it ignores both switches
    for name, module in list(theirs.named_modules()):
        kind = name.split(".")[-2:-1]
        if kind == ["motion_modules"]:
            module.norm = frame_by_frame(module.norm)
        if kind == ["resnets"]:
            module.norm1, module.norm2 = jointly(module.norm1), jointly(module.norm2)
    theirs.conv_norm_out = jointly(theirs.conv_norm_out)
    compare(ours, peer_video, theirs, normal, agree)


@pytest.mark.parametrize("channels", [40, 64, 320])
def test_tables_of_sinusoids_are_diffusers_to_the_bit(channels: int, diffusers: ModuleType) -> None:
    embeddings = diffusers.models.embeddings
    for t in (torch.arange(1000), torch.arange(1000) + 0.37):
        theirs = embeddings.get_timestep_embedding(t, channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        assert torch.equal(sinusoid(t, channels), theirs)
    pe = embeddings.SinusoidalPositionalEmbedding(channels, max_seq_length=32).pe
    assert torch.equal(frame_positions(32, channels), pe)


@pytest.mark.parametrize("config", VAES)
def test_diffusers_opens_our_vae_and_computes_the_same(
    config: VAEConfig, diffusers: ModuleType, opened: Callable[..., Any], randomised: Callable[..., VAE],
    normal: Make, agree: Agree, dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    ours = randomised(VAE(config), dtype=dtype)
    save_folder(ours, tmp_path)
    compare_vae(ours, opened(diffusers.AutoencoderKL, tmp_path, torch_dtype=dtype), normal, agree)


@pytest.mark.parametrize("config", VAES)
def test_we_open_diffusers_vae_and_compute_the_same(
    config: VAEConfig, diffusers: ModuleType, randomised: Callable[..., Any], normal: Make, agree: Agree,
    dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    raw = {name: value for name, value in config.to_dict().items() if not name.startswith("_")}
    theirs = randomised(diffusers.AutoencoderKL(**raw), dtype=dtype)
    theirs.save_pretrained(tmp_path)
    ours = load_folder(VAE, VAEConfig, tmp_path)
    assert ours.config == config
    compare_vae(ours, theirs, normal, agree)


def compare_vae(ours: VAE, theirs: Any, normal: Make, agree: Agree) -> None:
    config, scale = ours.config, theirs.config.scaling_factor
    size = 6 * config.factor
    video, latents = normal(2, config.in_channels, FRAMES, size, size), normal(2, config.latent_channels, FRAMES, 6, 6)
    posterior = theirs.encode(as_images(video)).latent_dist
    mean, logvar = ours.moments(as_images(video))
    agree(mean, posterior.mean)
    agree(logvar, posterior.logvar)
    agree(ours.encode(video), as_video(posterior.mean * scale))
    agree(ours.decode(latents), as_video(theirs.decode(as_images(latents) / scale).sample))
