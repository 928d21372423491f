"""What a network is told about its prompts, computed once and used at every step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ivmix.models.layers import KeysValues


@dataclass(frozen=True, eq=False)
class Condition:
    """What a network is told about one batch of prompts and what stays constant over steps: bound to one network.

    `keys_values` has one (b, heads, l, d) pair per cross-attention layer; `embedding` (b, 4 c) is what a frame rate, or
    pooled text and sizes, add to the time embedding, None for a network that is told neither; `mask` (b, 1, 1, l) is
    False at tokens that are no text, None where all are looked at. Made by `UNet.condition` or `DiT.condition`.
    """

    network: nn.Module = field(repr=False)
    keys_values: tuple[KeysValues, ...] = field(repr=False)
    embedding: Tensor | None = field(default=None, repr=False)
    mask: Tensor | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.keys_values[0][0])

    @staticmethod
    def cat(conditions: Sequence["Condition"]) -> "Condition":
        """Rows of several conditions of one network, in order: one batch for one forward pass."""
        if not conditions:
            raise ValueError("no conditions to join: give at least one")
        if any(c.network is not conditions[0].network for c in conditions):
            raise ValueError("conditions of different networks cannot be joined: bind each prompt to its own network")
        lengths = [c.keys_values[0][0].shape[2] for c in conditions]
        if len(set(lengths)) > 1:
            raise ValueError(f"contexts of {lengths} tokens cannot be joined: pad them to one length")
        layers = zip(*(c.keys_values for c in conditions), strict=True)
        joined = tuple((torch.cat([k for k, _ in kv]), torch.cat([v for _, v in kv])) for kv in layers)
        embeddings = [c.embedding for c in conditions if c.embedding is not None]
        masks = [c.mask for c in conditions if c.mask is not None]
        if masks and len(masks) < len(conditions):
            raise ValueError("conditions with a mask and without cannot be joined: give all of them one")
        return Condition(
            conditions[0].network, joined, torch.cat(embeddings) if embeddings else None,
            torch.cat(masks) if masks else None,
        )  # fmt: skip
