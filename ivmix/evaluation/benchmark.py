"""What an evaluation asks of a benchmark: its prompts, what it measures of a clip, and what it measures distances to.

All else is general: clips are drawn and kept by `jobs`, compared by `distances` and `statistics`, shown by `report` and
`plots`. The sprite world (`ivmix.sprites.benchmark`) is one benchmark; whoever evaluates says which.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from ivmix.evaluation.arms import Truth
from ivmix.evaluation.design import Design
from ivmix.evaluation.legend import Column
from ivmix.evaluation.metrics.moments import as_features

Features = Callable[[np.ndarray], Tensor]  # of clips (b f h w c) uint8: float32 (b, d)
Measure = Callable[[np.ndarray, Sequence[str], float], Mapping[str, np.ndarray]]  # of clips, prompts, fps: (b,) each


def no_columns(frames: np.ndarray, prompts: Sequence[str], fps: float) -> dict[str, np.ndarray]:
    return {}


@dataclass(frozen=True)
class DrawnReference:
    """Clips of the world that are drawn and kept as those of arms are, and of which only features are."""

    truth: Truth
    design: Design


@dataclass(frozen=True, eq=False)
class Benchmark:
    """What a new benchmark writes is one such value, by a function of what it takes: a pair, files, a network.

    Clips are measured a micro-batch at a time. `measure` and `features` must give a clip the same value whatever it is
    beside. A part on disk is kept where its settings are the same, so whatever else a value depends on (an extractor's
    hash, a protocol, which columns there are) belongs into `settings`; a stored reference, on which no part depends,
    need not be there.

    >>> import torch
    >>> def mean_colour(clips):
    ...     return torch.from_numpy(clips).float().mean((1, 2, 3))
    >>> prompts, photos = ["a red ball", "a blue ball"], torch.rand(99, 3)
    >>> balls = Benchmark("balls", prompts, mean_colour, "mean colour", photos, "photographs")
    >>> balls.features(np.full((1, 8, 4, 4, 3), 7, np.uint8))
    tensor([[7., 7., 7.]])

    ValueError for no prompts, or stored features that are not (m, d), m at least 2, and finite.
    """

    name: str
    prompts: Sequence[str]  # in the order in which clips show them; clips of one prompt are a stratum of all statistics
    features: Features  # what distances are of
    features_of: str  # in the report: "on d features of …"
    reference: Tensor | DrawnReference  # what distances are measured to: features (m, d) as stored, or clips to draw
    reference_of: str  # in the report: "to m …"
    measure: Measure = no_columns
    columns: Mapping[str, Column] = field(default_factory=dict)  # what `measure` gives, in the order of tables
    truths: Sequence[Truth] = ()  # clips of the world itself, measured beside the arms
    floor: str | None = None  # label of the one among them that is as the reference is
    source: Truth | None = None  # what an arm of a strength begins from
    networks: Mapping[str, nn.Module] = field(default_factory=dict)  # that measure, hashed with the pair's weights
    settings: Mapping[str, Any] = field(default_factory=dict)  # what else values depend on, in parts and the report

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ValueError(f"benchmark {self.name!r}: prompts is empty, expected at least one")
        if isinstance(self.reference, Tensor) and len(as_features(self.reference, "reference")) < 2:
            raise ValueError(f"reference has shape {tuple(self.reference.shape)}: expected (m, d), m of 2 or more")

    @property
    def echo(self) -> dict[str, Any]:
        """An entry of parts and reports, where there are settings."""
        return {"benchmark": dict(self.settings)} if self.settings else {}
