"""The transformer against diffusers' PixArtTransformer2DModel and LatteTransformer3DModel on small random networks,
through real folders written by either side."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from ivmix.models import DiT, DiTConfig, load_transformer, save_folder

pytestmark = pytest.mark.slow

Make = Callable[..., Tensor]
Agree = Callable[[Tensor, Tensor], None]

# Sizes that are no powers of two; another patch, no variance and other channels, as no public file has them.
IMAGE = DiTConfig(
    num_layers=2, num_attention_heads=3, attention_head_dim=12, caption_channels=20, sample_size=12,
)  # fmt: skip
OTHER = replace(IMAGE, in_channels=6, out_channels=6, patch_size=3, interpolation_scale=2, sample_size=24)
CONFIGS = {
    "pixart": IMAGE,
    "other": OTHER,
    "latte": replace(IMAGE, temporal=5),
    "latte, of large images": replace(IMAGE, temporal=5, sample_size=128, interpolation_scale=2),
}
TIMES = [torch.tensor(999), torch.tensor([0.0, 500.25])]
LENGTHS = torch.tensor([[4], [7]])  # of the text in each row


@pytest.fixture(params=list(CONFIGS.values()), ids=list(CONFIGS))
def config(request: pytest.FixtureRequest) -> DiTConfig:
    return request.param


def peer(diffusers: ModuleType, config: DiTConfig) -> Any:
    return getattr(diffusers, config.to_dict()["_class_name"])


def theirs_of(network: Any, z: Tensor, t: Tensor, context: Tensor, mask: Tensor, temporal: bool) -> Tensor:
    """Their noise b c f h w. Of masks, Latte's class takes what is added to scores, a row a frame."""
    frames, channels = z.shape[2], z.shape[1]

    def repeated(x: Tensor) -> Tensor:
        return x.expand(len(z), *x.shape[1:]).repeat_interleave(frames, 0)

    t = t.expand(len(z))
    if hasattr(network, "temporal_transformer_blocks"):
        bias = (1 - mask.to(z.dtype))[:, None] * -10000
        said = {"timestep": t, "encoder_hidden_states": context, "encoder_attention_mask": repeated(bias)}
        return network(z, **said, enable_temporal_attentions=temporal).sample[:, :channels]
    images = z.transpose(1, 2).flatten(0, 1)
    told = {"encoder_hidden_states": repeated(context), "encoder_attention_mask": repeated(mask)}
    return network(images, timestep=repeated(t), **told).sample[:, :channels].unflatten(0, (-1, frames)).transpose(1, 2)


def compare(ours: DiT, theirs: Any, normal: Make, agree: Agree, frames: int = 5, temporal: bool = True) -> None:
    mask = torch.arange(7) < LENGTHS
    for h, w in ((12, 12), (6, 18)):  # of the second, positions are drawn together and apart
        z, context = normal(2, ours.config.in_channels, frames, h, w), normal(2, 7, 20, seed=1)
        for t in TIMES:
            told = ours.condition(context, mask=mask)
            out = ours(z, t, told, temporal=temporal)
            agree(out, theirs_of(theirs, z, t, context, mask, temporal))
            assert torch.equal(out, ours(z, t, told, temporal=temporal))


def test_diffusers_opens_our_transformer_and_computes_the_same(
    config: DiTConfig, diffusers: ModuleType, opened: Callable[..., Any], randomised: Callable[..., DiT],
    normal: Make, agree: Agree, dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    ours = randomised(DiT(config), dtype=dtype)
    save_folder(ours, tmp_path)
    compare(ours, opened(peer(diffusers, config), tmp_path, torch_dtype=dtype), normal, agree)


def test_we_open_diffusers_transformer_and_compute_the_same(
    config: DiTConfig, diffusers: ModuleType, randomised: Callable[..., Any], normal: Make, agree: Agree,
    dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    raw = {name: value for name, value in config.to_dict().items() if not name.startswith("_")}
    theirs = randomised(peer(diffusers, config)(**raw), dtype=dtype)
    theirs.save_pretrained(tmp_path / "transformer", max_shard_size="50KB")
    assert (tmp_path / "transformer" / "diffusion_pytorch_model.safetensors.index.json").is_file()
    ours = load_transformer(tmp_path)
    assert ours.config == config
    compare(ours, theirs, normal, agree)


def test_a_clip_of_one_frame_has_no_place_in_time_and_the_view_no_time(
    diffusers: ModuleType, opened: Callable[..., Any], randomised: Callable[..., DiT], normal: Make, agree: Agree,
    dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    ours = randomised(DiT(CONFIGS["latte"]), dtype=dtype)
    save_folder(ours, tmp_path)
    theirs = opened(diffusers.LatteTransformer3DModel, tmp_path, torch_dtype=dtype)
    compare(ours, theirs, normal, agree, frames=1)
    compare(ours, theirs, normal, agree, temporal=False)


def test_latte_without_its_blocks_over_frames_is_pixart(
    diffusers: ModuleType, randomised: Callable[..., DiT], normal: Make, agree: Agree, dtype: torch.dtype
) -> None:
    """Every key of the one is a key of the other: with its values, it is that network."""
    ours = randomised(DiT(CONFIGS["latte"]), dtype=dtype)
    raw = {name: value for name, value in IMAGE.to_dict().items() if not name.startswith("_")}
    theirs = diffusers.PixArtTransformer2DModel(**raw).to(dtype).eval().requires_grad_(False)
    theirs.load_state_dict({key: ours.state_dict()[key] for key in theirs.state_dict()})
    compare(ours, theirs, normal, agree, temporal=False)
