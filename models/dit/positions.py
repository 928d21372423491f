"""Positions of patches and frames, as sines and cosines: constants, which no file of weights holds."""

import torch
from torch import Tensor


def sines(positions: Tensor, channels: int) -> Tensor:
    """Positions (n,) -> (n, channels): sines of p·10000^(-2i/channels), then their cosines (arXiv 2212.09748).

    In float32, in which the networks were trained with them, from angles in float64.
    """
    steps = torch.arange(channels // 2, dtype=torch.float64, device="cpu")  # float64 is not on every device
    frequency = 10000.0 ** (-steps / (channels / 2))
    angle = torch.outer(positions.double(), frequency)
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def along(patches: int, base_size: int, scale: float) -> Tensor:
    """Positions of the patches along one side (n,): from 0 to base_size/scale, whatever their number."""
    return torch.arange(patches, dtype=torch.float32, device="cpu") / (patches / base_size) / scale


class Positions:
    """Tables of `channels` by what they are asked for; `base_size` and `scale` are those of `along`.

    They are kept, being small, on the device that asked: a captured graph reads them where they were.
    """

    def __init__(self, channels: int, base_size: int, scale: float) -> None:
        self.channels, self.base_size, self.scale = channels, base_size, scale
        self.known: dict[tuple[str, int, torch.device, torch.dtype], Tensor] = {}

    def of_frames(self, frames: int, like: Tensor) -> Tensor:
        """(frames, channels)"""
        return self._kept("frames", frames, like)

    def of_patches(self, height: int, width: int, like: Tensor) -> Tensor:
        """(height, width, channels): half of the channels tells the column, the other the row."""
        row, column = (self._kept("patches", n, like) for n in (height, width))
        return torch.cat([column.expand(height, -1, -1), row[:, None].expand(-1, width, -1)], dim=-1)

    def _kept(self, kind: str, n: int, like: Tensor) -> Tensor:
        key = kind, n, like.device, like.dtype
        if key not in self.known:
            self.known[key] = self._table(kind, n).to(like)
        return self.known[key]

    def _table(self, kind: str, n: int) -> Tensor:
        if kind == "frames":
            return sines(torch.arange(n, device="cpu"), self.channels)
        return sines(along(n, self.base_size, self.scale), self.channels // 2)
