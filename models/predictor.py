"""What every family of networks has in common that a pair can ask: UNets, transformers."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ivmix.models.condition import Condition


class PredictorConfig(Protocol):
    """What is asked of a network's config, of whichever family."""

    @property
    def in_channels(self) -> int: ...
    @property
    def temporal(self) -> Any:
        """What joins its frames; None for an image model."""
    @property
    def max_frames(self) -> int | None:
        """The longest video it knows positions for; None: any length."""
    @property
    def multiple(self) -> int:
        """What the height and width of its latents are multiples of."""
    @property
    def tokens(self) -> int:
        """Of text, that it was trained with."""
    @property
    def context_dim(self) -> int:
        """Channels of the text features it is told."""
    @property
    def network(self) -> "type[Predictor]":
        """The class of networks that it describes."""
    def to_dict(self) -> dict[str, Any]: ...


class Predictor(nn.Module):
    """Noise predictor of latent diffusion: z (b c f h w) at training time t, told a condition -> the same shape."""

    kind = "network"  # in words
    repeated: tuple[type[nn.Module], ...] = ()  # blocks that it has many of: what is compiled, where anything is
    config: Any  # a PredictorConfig
    # (text features (b l d), and what else the family is told) -> what is constant over the steps of a run
    condition: Callable[..., Condition]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def told(self, rows: int) -> dict[str, Any]:
        """What `condition` needs of so many rows beside text, with values that say nothing: to count what it costs."""
        return {}

    @property
    def reads_padding(self) -> bool:
        """Whether a negative prompt is read as far as its prompt reaches, with its padding."""
        return False

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def forward(self, z: Tensor, t: Tensor, condition: Condition, temporal: bool = True) -> Tensor:
        """`temporal=False` leaves out all that joins frames."""
        raise NotImplementedError

    def check_context(self, context: Tensor) -> None:
        width = self.config.context_dim
        if context.ndim != 3 or context.shape[-1] != width:
            raise ValueError(f"context has shape {tuple(context.shape)}: expected (b, l, {width})")

    def check_inputs(self, z: Tensor, t: Tensor, condition: Condition) -> None:
        """Raises ValueError naming the first argument of `forward` that does not fit."""
        config: PredictorConfig = self.config
        if z.ndim != 5 or z.shape[1] != config.in_channels or 0 in z.shape:
            raise ValueError(f"z has shape {tuple(z.shape)}: expected (b, {config.in_channels}, f, h, w)")
        b, _, _, h, w = z.shape
        if condition.network is not self:
            raise ValueError("the condition belongs to another network: make it with this network's condition()")
        if len(condition) != b:
            raise ValueError(f"z has {b} rows, the condition {len(condition)}: give one prompt a row")
        if h % config.multiple or w % config.multiple:
            raise ValueError(f"latents of {h}x{w}: height and width must be multiples of {config.multiple}")
        if t.shape not in ((), (1,), (b,)):
            raise ValueError(f"t has shape {tuple(t.shape)}: expected () or ({b},)")
