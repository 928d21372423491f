"""What stands still is averaged over the frames: a last layer for a video UNet."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ivmix.models.config import check_config
from ivmix.models.layers import OverFrames, to_device


@dataclass(frozen=True)
class AveragingConfig:
    """`features` the frames are compared by, of 5x5 patches; `timesteps` of the schedule the network is trained on."""

    features: int = 16
    timesteps: int = 1000

    def __post_init__(self) -> None:
        check_config(self)


class FrameAveraging(OverFrames):
    """Attention over frames by distance, whose values are the clean frames that the UNet's output stands for.

    A network that removes noise frame by frame leaves a little of it, another in every frame: flicker. So what its
    output y says about the clean frames, x0 = a z + b y, is averaged, pixel by pixel, over the frames that agree there:
    x0_f <- sum_g A_fg x0_g with A = softmax_g(-relu(|phi(x0_f) - phi(x0_g)|^2 - 1)). Frames closer than 1 count the
    same, so a place where all are is the same in every frame, exactly; where something moves, each frame stands alone.
    phi is a 5x5 convolution, its scale a function of time. The bilateral filter (Tomasi and Manduchi, ICCV 1998) over
    frames, with learned distances; attention by distance is L2 attention (arXiv 2006.04710).

    `clean` (timesteps, 2) holds a and b, stored like a position table: alpha and -sigma for a network that predicts v.
    As made here, (0, 1), y is x0.
    """

    clean: Tensor

    def __init__(self, channels: int, embedding: int, config: AveragingConfig) -> None:
        super().__init__()
        self.compare = nn.Conv2d(channels, config.features, 5, padding=2, padding_mode="replicate", bias=False)
        self.scale = nn.Linear(embedding, 1)
        nn.init.zeros_(self.scale.weight)
        nn.init.constant_(self.scale.bias, math.log(6))  # predictions a few hundredths apart, of unit latents, agree
        self.register_buffer("clean", torch.tensor([0.0, 1.0]).repeat(config.timesteps, 1))

    def weights(self, x0: Tensor, embedding: Tensor) -> Tensor:
        """x0 (b c f h w), embedding (b d) -> A (b h w f f), whose rows sum to 1. At least in float32."""
        f = x0.shape[2]
        y = self.compare(rearrange(x0, "b c f h w -> (b f) c h w"))
        phi = rearrange(y, "(b f) c h w -> b h w f c", f=f) * self.scale(F.silu(embedding)).exp()[:, None, None, None]
        phi = phi.to(torch.promote_types(phi.dtype, torch.float32))
        square = phi.square().sum(-1)
        distance = square[..., :, None] + square[..., None, :] - 2 * phi @ phi.transpose(-1, -2)
        return (-F.relu(distance - 1)).softmax(-1)

    def forward(self, y: Tensor, z: Tensor, t: Tensor, embedding: Tensor) -> Tensor:
        """y and z (b c f h w), t () or (b,), embedding (b d) -> the y that stands for the averaged clean frames."""
        last = len(self.clean) - 1
        t = to_device(t, y.device, torch.promote_types(y.dtype, torch.float32)).reshape(-1).clamp(0, last)
        low = t.floor().long()
        below, above = (self.clean.index_select(0, i) for i in (low, (low + 1).clamp(max=last)))
        a, b = below.lerp(above, (t - low)[:, None].to(y))[..., None, None, None, None].unbind(1)
        x0 = a * z + b * y
        averaged = torch.einsum("bhwfg,bcghw->bcfhw", self.weights(x0, embedding).to(y), x0)
        return y + (averaged - x0) / b
