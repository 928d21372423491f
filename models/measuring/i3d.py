"""I3D, the inflated Inception whose Kinetics-400 logits a Fréchet video distance is of (arXiv 1705.07750, 1812.01717).

State-dict names are piergiaj/pytorch-i3d's, which the public file `i3d_pretrained_400.pt` has.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivmix.models.config import check_config

Size = tuple[int, int, int]  # of a kernel or a stride: frames, height, width

# Channels of a block: of its four branches b0, b1a-b1b, b2a-b2b and, after a pool, b3b.
BLOCKS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32), "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64), "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64), "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128), "Mixed_5c": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
POOLS: dict[str, tuple[Size, Size]] = {  # kernel and stride of the pool before a layer
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)), "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)), "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}  # fmt: skip
HEAD: Size = (2, 7, 7)  # what the last pool takes the mean of
STRIDE: Size = (8, 32, 32)  # of the whole, before that pool
LEAST_FRAMES = STRIDE[0] * (HEAD[0] - 1) + 1
LEAST_SIDE, SIDE = STRIDE[1] * (HEAD[1] - 1) + 1, STRIDE[1] * HEAD[1]


@dataclass(frozen=True)
class I3DConfig:
    """`bn_eps` is what the batch norms add to variances, and has no default: the public file does not say it.

    piergiaj's code has 1e-3, as the TensorFlow original; the codes that FVDs are computed with (VideoGPT's, that of
    common_metrics_on_video_quality, cd-fvd) load the same file with 1e-5.
    """

    bn_eps: float
    classes: int = 400

    def __post_init__(self) -> None:
        check_config(self)

    def to_dict(self) -> dict[str, Any]:
        return {"_class_name": "I3D", **asdict(self)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "I3DConfig":
        return cls(raw["bn_eps"], raw["classes"])


def padded(x: Tensor, kernel: Size, stride: Size) -> Tensor:
    """Zeros around (b c f h w) as TensorFlow's "same" has them: ceil(size/stride) places, the odd zero at the end."""
    sides = list[int]()
    for size, k, s in zip(x.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):
        zeros = max((-(-size // s) - 1) * s + k - size, 0)
        sides += [zeros // 2, zeros - zeros // 2]
    return F.pad(x, sides) if any(sides) else x


def max_pool(x: Tensor, kernel: Size, stride: Size) -> Tensor:
    """Of inputs that are nowhere below the zeros around them: they come from a ReLU."""
    return F.max_pool3d(padded(x, kernel, stride), kernel, stride)


class Norm(nn.Module):
    """Batch norm by stored statistics: this network is never trained here."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class Unit(nn.Module):
    """Convolution, norm, ReLU: (b c f h w), every side divided by the stride and rounded up."""

    def __init__(self, channels: int, out: int, side: int, eps: float, step: int = 1) -> None:
        super().__init__()
        self.kernel: Size = (side, side, side)
        self.stride: Size = (step, step, step)
        self.conv3d = nn.Conv3d(channels, out, self.kernel, self.stride, bias=False)
        self.bn = Norm(out, eps)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv3d(padded(x, self.kernel, self.stride))))


class Mixed(nn.Module):
    """Four branches side by side: (b c f h w) -> (b out f h w)."""

    def __init__(self, channels: int, widths: tuple[int, ...], eps: float) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = widths
        self.b0 = Unit(channels, b0, 1, eps)
        self.b1a, self.b1b = Unit(channels, b1a, 1, eps), Unit(b1a, b1b, 3, eps)
        self.b2a, self.b2b = Unit(channels, b2a, 1, eps), Unit(b2a, b2b, 3, eps)
        self.b3b = Unit(channels, b3b, 1, eps)
        self.out = b0 + b1b + b2b + b3b

    def forward(self, x: Tensor) -> Tensor:
        pooled = max_pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


class Logits(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3d(x)


class I3D(nn.Module):
    """Clips (b 3 f h w) in [-1, 1] -> logits (b, classes), the mean of those of all times; no softmax.

    At least 9 frames, of 193 to 224 pixels a side: ValueError for others, which the head cannot pool to one place.
    """

    def __init__(self, config: I3DConfig) -> None:
        super().__init__()
        self.config = config
        eps = config.bn_eps
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, eps, step=2)
        self.Conv3d_2b_1x1 = Unit(64, 64, 1, eps)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3, eps)
        channels = 192
        for name, widths in BLOCKS.items():
            block = Mixed(channels, widths, eps)
            self.add_module(name, block)
            channels = block.out
        self.logits = Logits(channels, config.classes)

    def forward(self, clips: Tensor) -> Tensor:
        check_clips(clips)
        x = clips
        for name, layer in self.named_children():
            if name in POOLS:
                x = max_pool(x, *POOLS[name])
            if name == "logits":
                x = F.avg_pool3d(x, HEAD, stride=1)
            x = layer(x)
        return x.mean((2, 3, 4))                                                  # one place: the mean over time


def check_clips(clips: Tensor) -> None:
    if clips.ndim != 5 or clips.shape[1] != 3:
        raise ValueError(f"clips have shape {tuple(clips.shape)}: expected (b, 3, f, h, w)")
    frames, *sides = clips.shape[2:]
    if frames < LEAST_FRAMES:
        raise ValueError(f"clips have {frames} frames: I3D needs at least {LEAST_FRAMES}, 8 leave it one time to pool")
    if not all(LEAST_SIDE <= side <= SIDE for side in sides):
        raise ValueError(f"clips are of {sides[0]}x{sides[1]} pixels: I3D takes {LEAST_SIDE} to {SIDE} a side")
