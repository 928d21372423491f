"""The measuring network: what is in a frame, where it is, and how degraded it looks. It reads pixels only."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from ivmix.models.config import check_config


@dataclass(frozen=True)
class JudgeConfig:
    widths: tuple[int, ...] = (16, 32, 64, 96, 96)
    features: int = 128

    def __post_init__(self) -> None:
        check_config(self)

    def to_dict(self) -> dict[str, Any]:
        return {"_class_name": "Judge", **asdict(self)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "JudgeConfig":
        return cls(tuple(raw["widths"]), raw["features"])


class Reading(NamedTuple):
    """One row a frame."""

    colour: Tensor  # (n, 4) logits
    shape: Tensor  # (n, 4) logits
    position: Tensor  # (n, 2) pixels
    softness: Tensor  # (n,) 0 crisp .. 1 fully degraded
    watermark: Tensor  # (n,) 0 none .. 1 full
    features: Tensor  # (n, features)


class Judge(nn.Module):
    """A small convolutional network: frames (n 3 64 64) in [-1, 1] -> `Reading`."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        widths = (3, *config.widths)
        layers: list[nn.Module] = []
        for level, (i, o) in enumerate(pairwise(widths)):
            stride = 1 if level == 0 else 2
            layers += [nn.Conv2d(i, o, 3, stride, 1), nn.GroupNorm(8, o), nn.SiLU()]
            layers += [nn.Conv2d(o, o, 3, 1, 1), nn.GroupNorm(8, o), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.neck = nn.Linear(widths[-1] * 16, config.features)
        self.head = nn.Linear(config.features, 4 + 4 + 2 + 1 + 1)

    def forward(self, frames: Tensor) -> Reading:
        features = F.silu(self.neck(self.body(frames).flatten(1)))
        colour, shape, place, softness, watermark = self.head(features).split([4, 4, 2, 1, 1], dim=1)
        return Reading(colour, shape, 32 + 32 * place, softness[:, 0], watermark[:, 0], features)


def judge_loss(reading: Reading, colour: Tensor, shape: Tensor, position: Tensor, soft: Tensor, mark: Tensor) -> Tensor:
    """Cross-entropies plus squared errors, positions in units of 32 pixels; targets have one row a frame."""
    return (
        F.cross_entropy(reading.colour, colour)
        + F.cross_entropy(reading.shape, shape)
        + 10 * F.mse_loss(reading.position / 32, position / 32)
        + F.mse_loss(reading.softness, soft)
        + F.mse_loss(reading.watermark, mark)
    )
