"""Frames in memory: from tensors, enlarged, and brought to the size that a pair draws."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor  # a type only: `ivmix` answers before torch loads

Frames = NDArray[np.uint8]
"""Frames `f h w c`, RGB, uint8."""

SHORTEST = 256
"""Pixels on the shorter side of a written video, at least."""


def to_frames(video: "Tensor") -> Frames:
    """Pixels `b c f h w` in [-1, 1] as uint8 frames `b f h w c`, to the nearest of 256 levels.

    Values outside [-1, 1] show as the nearest displayable level: the one place where values are clamped. Raises
    ValueError for another shape and for NaN or infinite values.
    """
    if video.ndim != 5 or video.shape[1] != 3:
        raise ValueError(f"video is {tuple(video.shape)}; expected b c f h w with c = 3")
    if not bool(video.isfinite().all()):
        raise ValueError("video holds NaN or infinite values: it cannot be shown")
    levels = video.detach().cpu().float().add(1).mul(127.5).round().clamp(0, 255)
    frames: Frames = levels.permute(0, 2, 3, 4, 1).contiguous().numpy().astype(np.uint8)
    return frames


def enlargement(height: int, width: int, shortest: int = SHORTEST) -> int:
    """The factor by which `upscale` enlarges frames of this size; 1: not at all."""
    side = min(height, width)
    return 1 if side >= shortest else 2 * math.ceil(shortest / side / 2)


def upscale(frames: Frames, shortest: int = SHORTEST) -> Frames:
    """Frames `f h w c` enlarged by the smallest even factor that brings the shorter side to at least `shortest` pixels.

    Every pixel becomes a square (nearest neighbour), nothing is blended; an even factor keeps the squares aligned with
    the halved colour planes of video files. Frames that are large enough come back as they are.
    """
    check_frames(frames)
    factor = enlargement(frames.shape[1], frames.shape[2], shortest)
    return frames if factor == 1 else frames.repeat(factor, axis=1).repeat(factor, axis=2)


def fit(frames: Frames, length: int, height: int, width: int) -> tuple[Frames, list[str]]:
    """Frames `f h w c` as `length` frames of `height` x `width`, and in words what was done to them (nothing: empty).

    The middle is cropped to the aspect ratio, then resized: by the mean of whole blocks where the size is a multiple,
    which undoes `upscale` exactly, else by Lanczos when it shrinks and bicubic when it grows. The first `length`
    frames are kept (`read_clip(path, limit=length + 1)` reads enough to say so); a single picture is repeated. Sizes in
    words are height x width, as in `--size`.

    Raises ValueError for a clip of several frames that is shorter than `length`, and for a size below 1.
    """
    check_frames(frames)
    for name, value in (("length", length), ("height", height), ("width", width)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected 1 or more")
    f, h, w, _ = frames.shape
    if 1 < f < length:
        raise ValueError(
            f"the clip has {f} frames and {length} are to be drawn; draw fewer (--frames {f}) or give a longer clip"
        )
    notes = []
    if f > length:
        notes.append(f"cut to the first {length} frames" if length > 1 else "cut to the first frame")

    scale = min(h / height, w / width)
    rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
    top, left = (h - rows) // 2, (w - columns) // 2
    fitted = frames[:length, top : top + rows, left : left + columns]
    steps = [f"cropped to {rows}x{columns}"] if (rows, columns) != (h, w) else []
    if (rows, columns) != (height, width):
        steps.append(f"resized to {height}x{width}")
        fitted = _resize(fitted, height, width)
    if steps:
        notes.append(f"{h}x{w} {' and '.join(steps)}")

    if f < length:
        notes.append(f"one picture repeated to {length} frames")
        fitted = np.repeat(fitted, length, axis=0)
    return fitted, notes


def _resize(frames: Frames, height: int, width: int) -> Frames:
    _, h, w, _ = frames.shape
    if h % height == 0 and w % width == 0:
        kernel = Image.Resampling.BOX
    else:
        kernel = Image.Resampling.LANCZOS if h * w > height * width else Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), kernel)) for frame in frames])


def check_frames(frames: Frames, name: str = "frames") -> None:
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
        raise ValueError(f"{name} is {getattr(frames, 'dtype', type(frames).__name__)}; expected a uint8 array f h w c")
    if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(f"{name} is {frames.shape}; expected f h w c with c = 3 and nothing empty")
