"""Frames in memory: every level survives, and small frames are enlarged by whole squares."""

import re

import numpy as np
import pytest
import torch

from ivmix.media import enlargement, to_frames, upscale


def noise(f: int, h: int, w: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (f, h, w, 3), dtype=np.uint8)


def test_every_level_survives_the_way_to_a_tensor_and_back():
    levels = torch.arange(256, dtype=torch.float64)
    video = (levels / 127.5 - 1).reshape(1, 1, 1, 16, 16).expand(2, 3, 4, 16, 16)
    for dtype in (torch.float64, torch.float32):
        frames = to_frames(video.to(dtype))
        assert frames.shape == (2, 4, 16, 16, 3)
        assert frames.dtype == np.uint8
        assert (frames[1, 2, :, :, 1].reshape(-1) == np.arange(256)).all()


def test_to_frames_moves_the_axes_and_rounds_to_nearest():
    video = torch.zeros(1, 3, 2, 4, 5)
    video[0, 0, 1, 2, 3] = 0.2 / 127.5 + 1 / 255  # level 128.2
    frames = to_frames(video)
    assert frames[0, 1, 2, 3].tolist() == [128, 128, 128]
    video[0, 0, 1, 2, 3] = 1.3 / 127.5 + 1 / 255
    assert to_frames(video)[0, 1, 2, 3].tolist() == [129, 128, 128]
    assert to_frames(torch.full((1, 3, 1, 1, 1), -7.0)).item(0) == 0
    assert to_frames(torch.full((1, 3, 1, 1, 1), 7.0, dtype=torch.bfloat16)).item(0) == 255


def test_to_frames_refuses_what_cannot_be_shown():
    for value in (float("nan"), float("inf")):
        video = torch.zeros(1, 3, 1, 2, 2)
        video[0, 0, 0, 1, 1] = value
        with pytest.raises(ValueError, match="NaN or infinite"):
            to_frames(video)
    with pytest.raises(ValueError, match=re.escape("video is (1, 4, 1, 2, 2); expected b c f h w with c = 3")):
        to_frames(torch.zeros(1, 4, 1, 2, 2))


@pytest.mark.parametrize(
    ("size", "factor"),
    [((32, 32), 8), ((32, 200), 8), ((37, 64), 8), ((200, 150), 2), ((256, 256), 1), ((300, 511), 1)],
)
def test_small_videos_are_enlarged_by_an_even_factor_to_256_pixels(size, factor):
    frames = noise(2, *size)
    large = upscale(frames)
    assert large.shape == (2, size[0] * factor, size[1] * factor, 3)
    assert min(large.shape[1:3]) >= 256
    assert all((large[:, i::factor, j::factor] == frames).all() for i in range(factor) for j in range(factor))


@pytest.mark.parametrize("size", [(64, 64), (255, 300), (256, 256), (1, 1)])
def test_an_enlargement_is_told_as_it_is_done(size):
    assert enlargement(*size) == len(upscale(noise(1, *size))[0]) // size[0]
    assert enlargement(*size, shortest=96) == len(upscale(noise(1, *size), 96)[0]) // size[0]
