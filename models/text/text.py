"""What networks are told of prompts: what text encoders made of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Text:
    """States of every token (b l d), of each prompt as a whole (b p), and which tokens are text (b l) bool.

    `pooled` is None of an encoder that says nothing of a whole, `mask` of one all of whose tokens are looked at.
    """

    states: Tensor
    pooled: Tensor | None = None
    mask: Tensor | None = None

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Text":
        """On a device, and but for the mask in a dtype; None: as it is."""
        pooled = None if self.pooled is None else self.pooled.to(device, dtype)
        return Text(self.states.to(device, dtype), pooled, None if self.mask is None else self.mask.to(device))

    @staticmethod
    def cat(texts: Sequence["Text"]) -> "Text":
        """Prompts of several texts of one encoder, in order."""
        pooled = [text.pooled for text in texts if text.pooled is not None]
        masks = [text.mask for text in texts if text.mask is not None]
        states = torch.cat([text.states for text in texts])
        return Text(states, torch.cat(pooled) if pooled else None, torch.cat(masks) if masks else None)


def joined(texts: Sequence[Text]) -> Text:
    """What several encoders read of the same prompts: their states side by side, pooled text and mask of the last."""
    return Text(torch.cat([text.states for text in texts], dim=-1), texts[-1].pooled, texts[-1].mask)


def read_as_far(text: Text, other: Text) -> Text:
    """The text, whose padding counts as text as far as the other's text reaches, row by row; without masks as it is."""
    if text.mask is None or other.mask is None:
        return text
    return replace(text, mask=text.mask | other.mask)


def without_empty(text: Text, prompts: Sequence[str]) -> Text:
    """Zeros in place of all that was read of an empty prompt, as where a model was trained to be told nothing."""
    said = torch.tensor([bool(prompt.strip()) for prompt in prompts], device=text.states.device)
    pooled = None if text.pooled is None else text.pooled * said[:, None]
    return Text(text.states * said[:, None, None], pooled, text.mask)
