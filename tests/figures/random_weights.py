"""Networks with random weights, made where they run: in seconds, and with outputs far from zero and finite."""

from typing import TypeVar

import torch
from torch import nn

from ivmix.models.unet.temporal import FramePositions, frame_positions

N = TypeVar("N", bound=nn.Module)


@torch.no_grad()
def filled(network: N, device: torch.device, dtype: torch.dtype, seed: int = 0) -> N:
    """A network that was built on meta, drawn on the device: unit variance through every layer, neutral norms."""
    network.to(dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
        else:
            parameter.fill_(float(name.endswith("weight")))
    for module in network.modules():
        if isinstance(module, FramePositions):
            module.pe.copy_(frame_positions(*module.pe.shape[1:]))
    return network.eval().requires_grad_(False)
