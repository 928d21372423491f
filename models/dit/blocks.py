"""The blocks of a diffusion transformer: tokens b f l c, those of l patches in each of f frames.

Parameter names are diffusers' names. Architecture: arXiv 2212.09748 (DiT), 2310.00426 (one modulation for all blocks,
to which each adds a table of its own: adaLN-single), 2401.03048 (blocks over frames).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivmix.models.dit.config import DiTConfig
from ivmix.models.layers import Attention, KeysValues, OverFrames
from ivmix.models.linear import Linear


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (b f l c), normed over its channels, times 1 + scale, plus shift; both (b 1 1 c)."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)


def table(rows: int, width: int) -> nn.Parameter:
    """What a layer adds to what it is told of the time (rows, width); as it is before training."""
    return nn.Parameter(nn.init.normal_(torch.empty(rows, width), std=width**-0.5))


class FeedForward(nn.Module):
    """Four times as wide inside, gelu by its tanh."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first = nn.ModuleDict({"proj": Linear(width, 4 * width, gelu="tanh")})
        self.net = nn.ModuleList([first, nn.Identity(), Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0]["proj"](x))  # type: ignore[index]


class ToPatches(Linear):
    """What a token says of its patch: (b f l c) -> (b f l (p q c))."""


class Block(nn.Module):
    """Self-attention and feed-forward, each of a modulated norm and behind a gate; residual.

    `modulation` (b 6 c) is what all blocks are told of the time: shift, scale and gate of the one, then of the other.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.scale_shift_table = table(6, config.width)
        self.attn1 = Attention(config.width, config.num_attention_heads, qkv_bias=True)
        self.ff = FeedForward(config.width)

    def forward(
        self, x: Tensor, modulation: Tensor, text: KeysValues | None = None, mask: Tensor | None = None
    ) -> Tensor:
        told = (self.scale_shift_table + modulation)[:, :, None, None]            # (b, 6, 1, 1, c)
        shift, scale, gate, ff_shift, ff_scale, ff_gate = told.unbind(1)
        x = torch.addcmul(x, gate, self.attend(modulated(x, shift, scale)))
        if text is not None:
            x = x + self.read(x, text, mask)
        return torch.addcmul(x, ff_gate, self.ff(modulated(x, ff_shift, ff_scale)))

    def attend(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def read(self, x: Tensor, text: KeysValues, mask: Tensor | None) -> Tensor:
        raise NotImplementedError


class PatchBlock(Block):
    """The patches of a frame look at each other, then all of them at the text, whose keys and values are
    (b, heads, m, d); its mask is (b, 1, 1, m)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        self.attn2 = Attention(config.width, config.num_attention_heads, qkv_bias=True)

    def attend(self, x: Tensor) -> Tensor:
        return self.attn1(x.flatten(0, 1)).view_as(x)

    def read(self, x: Tensor, text: KeysValues, mask: Tensor | None) -> Tensor:
        return self.attn2(x.flatten(1, 2), text, mask).view_as(x)  # one row an example: nothing is repeated per frame

    def keys_values(self, caption: Tensor) -> KeysValues:
        """What this block reads of the text (b m c); contiguous, as joined ones are."""
        keys, values = self.attn2.keys_values(caption)
        return keys.contiguous(), values.contiguous()


class FrameBlock(Block, OverFrames):
    """The frames of a patch look at each other."""

    def attend(self, x: Tensor) -> Tensor:
        rows = x.transpose(1, 2)                                                  # (b, l, f, c)
        return self.attn1(rows.flatten(0, 1)).view(rows.shape).transpose(1, 2)
