"""What a protocol shows its network of a clip, as data: which frames, how resized, in which range.

A published distance is of features of one of these, and of no other: with antialias, or a crop in place of a squeeze,
it is another number.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Resize:
    """To `side` x `side` pixels: "square" whatever the clip's shape, or "crop", its middle once its short side fits.

    Without antialias, filters read the nearest pixels alone, however much smaller the picture becomes. `rounded`: to
    whole grey levels, as torchvision leaves frames of bytes.
    """

    shape: Literal["square", "crop"]
    filter: Literal["bilinear", "bicubic"] = "bilinear"
    antialias: bool = False
    rounded: bool = False
    side: int = 224

    def __call__(self, frames: Tensor) -> Tensor:
        """(f c h w) of grey levels 0 to 255, float32."""
        height, width = frames.shape[-2:]
        size = [self.side, self.side]
        if self.shape == "crop":  # the long side by a product in floats, rounded up: as its users have it
            size[width > height] = math.ceil(max(height, width) * (self.side / min(height, width)))
        out = F.interpolate(frames, size, mode=self.filter, align_corners=False, antialias=self.antialias)
        if self.rounded:
            out = out.clamp(0, 255).round()
        top, left = ((n - self.side) // 2 for n in size)
        return out[..., top : top + self.side, left : left + self.side]


@dataclass(frozen=True)
class Preprocessing:
    """`frames` of a clip (None: all, `least` or more): the "first", or the "middle" of as many equal parts, where a
    clip of fewer repeats its last. Then `resize`; then 0 and 255 become the ends of `range`, less `mean`, by `std`. A
    `range` of None leaves bytes as they are.
    """

    frames: int | None
    choice: Literal["first", "middle"] = "first"
    least: int = 1
    resize: Resize | None = None
    range: tuple[float, float] | None = (-1, 1)
    mean: tuple[float, float, float] = (0, 0, 0)
    std: tuple[float, float, float] = (1, 1, 1)

    def indices(self, count: int) -> list[int]:
        """Which of `count` frames. ValueError for too few.

        >>> Preprocessing(4, "middle").indices(16), Preprocessing(4, "middle").indices(3)
        ([1, 5, 9, 13], [0, 1, 2, 2])
        """
        if self.choice == "middle" and self.frames is not None and count:
            parts = min(self.frames, count)
            edges = np.linspace(0, count, parts + 1).astype(int).tolist()
            chosen = [(a + b - 1) // 2 for a, b in pairwise(edges)]
            return chosen + [chosen[-1]] * (self.frames - parts)
        wanted = self.frames or max(self.least, count)
        if count < wanted:
            raise ValueError(f"the clip has {count} frames: expected {wanted} or more")
        return list(range(wanted))

    def __call__(self, clip: np.ndarray) -> Tensor:
        """A clip (f h w c) uint8 -> (c f h w) float32, or uint8 where there is no range. ValueError for another."""
        if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != np.uint8:
            raise ValueError(f"the clip is {clip.shape} of {clip.dtype}: expected (f, h, w, 3) of uint8")
        frames = torch.from_numpy(clip[self.indices(len(clip))]).permute(0, 3, 1, 2)              # (f c h w)
        if self.range is None:
            return frames.transpose(0, 1).contiguous()
        levels = frames.float() if self.resize is None else self.resize(frames.float())
        low, high = self.range
        mean, std = (torch.tensor(value, dtype=torch.float32)[:, None, None] for value in (self.mean, self.std))
        return ((levels / 255 * (high - low) + low - mean) / std).transpose(0, 1).contiguous()
