"""What protocols show their networks, against their own codes' arithmetic written out, and what is refused."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ivmix.evaluation.extractors import extraction_of
from ivmix.evaluation.preprocessing import Preprocessing, Resize
from ivmix.evaluation.protocols import PROTOCOLS


def clip(frames: int = 16, height: int = 90, width: int = 120) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def prepared(name: str, video: np.ndarray) -> Tensor:
    return extraction_of(name).preprocessing(video)


@pytest.mark.parametrize(("height", "width"), [(90, 120), (120, 90), (300, 300), (150, 301), (64, 64)])
@pytest.mark.parametrize("name", ["cmvq-videogpt", "cmvq-styleganv"])
def test_cmvq_scales_the_short_side_and_crops_the_middle(name: str, height: int, width: int) -> None:
    video = clip(10, height, width)
    scale = 224 / min(height, width)
    size = (224, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), 224)
    x = torch.from_numpy(video).permute(0, 3, 1, 2).float() / 255
    x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
    x = (x[:, :, top : top + 224, left : left + 224] - 0.5) * 2
    torch.testing.assert_close(prepared(name, video), x.transpose(0, 1), atol=1e-6, rtol=0)


def test_cd_fvd_squeezes_the_picture() -> None:
    video = clip()
    levels = torch.from_numpy(video).float().permute(0, 3, 1, 2)
    small = F.interpolate(levels, size=(224, 224), mode="bilinear", align_corners=False).transpose(0, 1)
    torch.testing.assert_close(prepared("cd-fvd-i3d", video), 2 * small / 255 - 1, atol=1e-6, rtol=0)
    torch.testing.assert_close(prepared("cd-fvd-videomae", video), small / 255, atol=1e-6, rtol=0)


def test_stylegan_v_s_file_is_given_bytes() -> None:
    video = clip(20)
    x = prepared("stylegan-v", video)
    assert (x.dtype, x.shape) == (torch.uint8, (3, 16, 90, 120))
    assert torch.equal(x.permute(1, 2, 3, 0), torch.from_numpy(video[:16]))


def test_umt_sees_twelve_middles_with_antialias_in_whole_levels() -> None:
    video = clip(16, 448, 600) // 2 + 64  # no filter leaves the range of bytes
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = prepared("chronomagic-umt", video)
    assert x.shape == (3, 12, 224, 224)
    levels = (x * std[:, None, None, None] + mean[:, None, None, None]) * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    by_pillow = np.asarray(Image.fromarray(video[0]).resize((224, 224), Image.Resampling.BICUBIC)).astype(int)
    difference = np.abs(levels[:, 0].permute(1, 2, 0).round().numpy() - by_pillow)
    assert difference.max() <= 1  # Pillow rounds between rows and columns too
    plain = Preprocessing(12, "middle", resize=Resize("square", "bicubic"), range=(0, 255))(video)
    assert (plain - levels).abs().mean() > 3


@pytest.mark.parametrize(("count", "chosen"), [
    (16, [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14]),  # parts begin at 0, 1, 2, 4, 5, 6, 8, …
    (12, list(range(12))), (8, [*range(8), 7, 7, 7, 7]), (1, [0] * 12),
    (150, [5, 18, 30, 43, 55, 68, 80, 93, 105, 118, 130, 143]),
])  # fmt: skip
def test_middles_are_those_of_equal_parts_and_short_clips_repeat_their_last(count: int, chosen: list[int]) -> None:
    indices = extraction_of("chronomagic-umt").preprocessing.indices(count)
    assert indices == chosen


@pytest.mark.parametrize(("name", "frames", "wanted"), [
    ("stylegan-v", 8, 16), ("cmvq-videogpt", 9, 10), ("cd-fvd-i3d", 8, 9), ("cd-fvd-videomae", 15, 16),
])  # fmt: skip
def test_too_few_frames_are_refused(name: str, frames: int, wanted: int) -> None:
    with pytest.raises(ValueError, match=rf"^the clip has {frames} frames: expected {wanted} or more$"):
        prepared(name, clip(frames))


def test_no_frames_are_refused_by_every_protocol() -> None:
    for name in (name for name, protocol in PROTOCOLS.items() if protocol.extraction):
        with pytest.raises(ValueError, match="the clip has 0 frames: expected"):
            prepared(name, clip(0))


@pytest.mark.parametrize("wrong", [clip()[..., :1], clip()[0], clip().astype(np.float32) / 255])
def test_what_is_no_clip_of_bytes_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(f, h, w, 3\) of uint8"):
        prepared("cd-fvd-i3d", wrong)
