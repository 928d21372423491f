"""ModelScope's and VideoCrafter2's UNet against diffusers' UNet3DConditionModel on small random networks, through real
folders written by either side."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ivmix.models import SpaceTimeConfig, UNet, UNetConfig, load_folder, save_folder

pytestmark = pytest.mark.slow

Make = Callable[..., Tensor]
Agree = Callable[[Tensor, Tensor], None]

# Widths that are no powers of two, and more heads on wider levels, as ModelScope has them.
LIKE_MODELSCOPE = UNetConfig(
    block_out_channels=(40, 80, 120), attention_levels=(True, True, False), cross_attention_dim=24,
    num_attention_heads=(5, 10, 15), norm_num_groups=8, temporal=SpaceTimeConfig(),
)  # fmt: skip
CONFIGS = {
    "as modelscope": LIKE_MODELSCOPE,
    "shallow": replace(LIKE_MODELSCOPE, attention_levels=(False, True, True), layers_per_block=1, in_channels=3),
    "other heads": replace(LIKE_MODELSCOPE, block_out_channels=(32, 64, 64), num_attention_heads=(2, 4, 4)),
}
FRAMES = 5
TIMES = [999, [0.0, 500.25]]


@pytest.fixture(params=list(CONFIGS.values()), ids=list(CONFIGS))
def config(request: pytest.FixtureRequest) -> UNetConfig:
    return request.param


def arguments(raw: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if not name.startswith("_")}


def compare(ours: UNet, theirs: Any, normal: Make, agree: Agree, fps: float | None = None) -> None:
    z, context = normal(2, ours.config.in_channels, FRAMES, 8, 12), normal(2, 7, 24, seed=1)
    for time in TIMES:
        t = torch.tensor(time)
        out = ours(z, t, ours.condition(context, fps))
        agree(out, theirs(z, t, context).sample)
        assert torch.equal(out, ours(z, t, ours.condition(context, fps)))


def test_diffusers_opens_our_unet_and_computes_the_same(
    config: UNetConfig, diffusers: ModuleType, opened: Callable[..., Any], randomised: Callable[..., UNet],
    normal: Make, agree: Agree, dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    ours = randomised(UNet(config), dtype=dtype)
    save_folder(ours, tmp_path)
    compare(ours, opened(diffusers.UNet3DConditionModel, tmp_path, torch_dtype=dtype), normal, agree)


def test_we_open_diffusers_unet_and_compute_the_same(
    config: UNetConfig, diffusers: ModuleType, randomised: Callable[..., Any], normal: Make, agree: Agree,
    dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    theirs = randomised(diffusers.UNet3DConditionModel(**arguments(config.to_dict())), dtype=dtype)
    theirs.save_pretrained(tmp_path)
    ours = load_folder(UNet, UNetConfig, tmp_path)
    assert ours.config == config
    compare(ours, theirs, normal, agree)


def test_without_its_temporal_layers_it_is_diffusers_image_unet(
    diffusers: ModuleType, randomised: Callable[..., UNet], normal: Make, agree: Agree, dtype: torch.dtype
) -> None:
    ours = randomised(UNet(LIKE_MODELSCOPE), dtype=dtype)
    raw = arguments(replace(LIKE_MODELSCOPE, temporal=None).to_dict())
    theirs = diffusers.UNet2DConditionModel(**raw).to(dtype).eval().requires_grad_(False)
    theirs.load_state_dict({key: ours.state_dict()[key] for key in theirs.state_dict()})
    z, t, context = normal(2, 4, FRAMES, 8, 12), torch.tensor(400), normal(2, 7, 24, seed=1)
    view = ours(z, t, ours.condition(context), temporal=False)
    images = theirs(z.transpose(1, 2).flatten(0, 1), t, context.repeat_interleave(FRAMES, dim=0)).sample
    agree(view, images.unflatten(0, (-1, FRAMES)).transpose(1, 2))


class TimeAndFrameRate(nn.Module):
    """diffusers' time embedding plus its embedding of a frame rate, all of diffusers' parts."""

    def __init__(self, diffusers: ModuleType, time_embedding: nn.Module, channels: int, fps: float) -> None:
        super().__init__()
        self.time, self.fps = time_embedding, fps
        self.features = diffusers.models.embeddings.Timesteps(channels, True, 0)
        self.fps_embedding = diffusers.models.embeddings.TimestepEmbedding(channels, 4 * channels)

    def forward(self, features: Tensor, condition: None) -> Tensor:
        told = self.features(torch.tensor([self.fps])).to(features.dtype)
        return self.time(features, condition) + self.fps_embedding(told)


@pytest.mark.parametrize("fps", [8, 24, 29.97])
def test_videocrafter2_is_modelscope_with_the_frame_rate_added_to_the_time(
    fps: float, diffusers: ModuleType, randomised: Callable[..., Any], normal: Make, agree: Agree, dtype: torch.dtype,
    tmp_path: Path,
) -> None:  # fmt: skip
    theirs = diffusers.UNet3DConditionModel(**arguments(LIKE_MODELSCOPE.to_dict()))
    theirs = randomised(theirs, dtype=dtype)
    theirs.save_pretrained(tmp_path)
    hearing = TimeAndFrameRate(diffusers, theirs.time_embedding, 40, fps)
    randomised(hearing.fps_embedding, seed=1, dtype=dtype)
    # A folder as the port of VideoCrafter2 to diffusers has it: its own class name, and the keys of its own layer.
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    own = {f"fps_embedding.{key}": value for key, value in hearing.fps_embedding.state_dict().items()}
    save_file(load_file(weights) | own, weights, metadata={"format": "pt"})
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | {"_class_name": "UNetVideoCrafter", "fps_cond": True}))

    ours = load_folder(UNet, UNetConfig, tmp_path)
    assert ours.config == replace(LIKE_MODELSCOPE, temporal=SpaceTimeConfig(fps=True))
    with pytest.raises(AssertionError):
        compare(ours, theirs, normal, agree, fps)
    theirs.time_embedding = hearing
    compare(ours, theirs, normal, agree, fps)


def test_videocrafter2_is_modelscope_where_the_frame_rate_adds_nothing(
    diffusers: ModuleType, randomised: Callable[..., UNet], normal: Make, agree: Agree, dtype: torch.dtype,
    tmp_path: Path,
) -> None:  # fmt: skip
    """diffusers opens our folder too; it leaves the fps embedding aside, which then must add nothing."""
    ours = randomised(UNet(replace(LIKE_MODELSCOPE, temporal=SpaceTimeConfig(fps=True))), dtype=dtype)
    assert ours.fps_embedding is not None
    for parameter in ours.fps_embedding.linear_2.parameters():
        nn.init.zeros_(parameter)
    save_folder(ours, tmp_path)
    theirs = diffusers.UNet3DConditionModel.from_pretrained(tmp_path, torch_dtype=dtype, local_files_only=True).eval()
    with torch.no_grad():
        compare(ours, theirs, normal, agree, 24)
