"""Clips become features, and scores where a network gives some, a part a batch and extractor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ivmix.benchmarks.clips import Clips, digest
from ivmix.benchmarks.plan import Batch
from ivmix.evaluation.arms import slug
from ivmix.evaluation.features import FeatureSet
from ivmix.evaluation.parts import is_there, read_metadata, write_part
from ivmix.evaluation.preprocessing import Preprocessing
from ivmix.media import Frames

FORMAT = 1  # of a part's file
FEATURES, LENGTH = "features", "length"  # in a part
SCORE = "score."  # before the name of a score


@dataclass(frozen=True, eq=False)
class Scorer:
    """What gives a clip scores by its caption. `settings` are all that they depend on beside the extractor's."""

    scores: Callable[[np.ndarray, Sequence[str]], Mapping[str, np.ndarray]]  # (1 f h w c), one caption: (1,) each
    settings: Mapping[str, Any]
    cut: Callable[[Sequence[str]], int]  # of how many captions the end is not read


@dataclass(frozen=True, eq=False)
class Meter:
    """What measures clips: an extractor (`ivmix.evaluation.extractors`) or any callable of that kind.

    Clips come one at a time, as they may differ in size. `settings` are all that a value depends on, hashes of weights
    among them, ready for JSON. `shown` is what the network sees of a clip: where that is all of its frames, all clips
    of a set must have as many.
    """

    name: str  # of the protocol
    features: Callable[[np.ndarray], Tensor]  # (1 f h w c) uint8 -> (1, d)
    settings: Mapping[str, Any]
    scorer: Scorer | None = None
    shown: Preprocessing | None = None

    @property
    def alike(self) -> bool:
        return self.shown is not None and self.shown.frames is None

    def path(self, clips: Clips, batch: Batch, folder: Path) -> Path:
        return folder / "parts" / self.name / f"{slug(clips.label)}-{batch.name}.safetensors"

    def part_settings(self, clips: Clips, batch: Batch, captions: bool) -> dict[str, Any]:
        raw = {"format": FORMAT, "of": clips.settings(batch), "extractor": dict(self.settings)}
        return raw | ({"scorer": dict(self.scorer.settings)} if captions and self.scorer is not None else {})

    @property
    def signature(self) -> tuple[str, str]:
        """Extractor and weights, as files of features name them."""
        return self.name, digest(self.settings)

    def is_done(self, clips: Clips, batch: Batch, captions: bool, folder: Path) -> bool:
        """ValueError where there are features of other clips, or by another extractor."""
        path, settings = self.path(clips, batch, folder), self.part_settings(clips, batch, captions)
        there = read_metadata(path)
        if there is not None and "scorer" in settings and "scorer" not in there["settings"]:
            return False  # measured before there was a vocabulary
        return is_there(path, settings, folder)

    def of(self, clip: Frames, caption: str | None) -> dict[str, Tensor]:
        """What is kept of one clip (f h w c): a row of each. ValueError for NaN and infinity."""
        rows = {FEATURES: self.features(clip[None])}
        if caption is not None and self.scorer is not None:
            scores = self.scorer.scores(clip[None], [caption])
            rows |= {SCORE + name: torch.from_numpy(values) for name, values in scores.items()}
        if strange := [name for name, row in rows.items() if not row.isfinite().all()]:
            raise ValueError(f"{self.name} gives NaN or infinity as its {strange[0]}")
        return rows | ({LENGTH: torch.tensor([len(clip)])} if self.alike else {})


def measure(meters: Sequence[Meter], clips: Clips, batch: Batch, captions: bool, folder: Path) -> None:
    """Writes the part of a batch by every meter, one clip in memory at a time. ValueError naming the clip that cannot
    be measured."""
    found: list[list[dict[str, Tensor]]] = [[] for _ in meters]
    shown = meters[0].shown if len(meters) == 1 else None
    for clip, prompt in zip(clips.frames(batch, shown), batch.prompts, strict=True):
        for meter, rows in zip(meters, found, strict=True):
            try:
                rows.append(meter.of(clip, prompt.text(batch.sample) if captions else None))
            except ValueError as error:
                raise ValueError(f"{clips.label}: {prompt.id}, sample {batch.sample}: {error}") from None
    for meter, rows in zip(meters, found, strict=True):
        tensors = {name: torch.cat([row[name] for row in rows]).contiguous() for name in rows[0]}
        write_part(tensors, meter.part_settings(clips, batch, captions), {}, meter.path(clips, batch, folder))


@dataclass(frozen=True, eq=False)
class Measured:
    """What a meter found of one set of clips, in order: features of each sample, and scores (n,) of all; how many
    frames every clip has, where the protocol takes them all."""

    samples: tuple[FeatureSet, ...]
    scores: Mapping[str, np.ndarray]
    frames: int | None = None

    @property
    def pooled(self) -> FeatureSet:
        """All samples; a clip's id is its prompt's, with the sample's number from the second on."""
        first, *rest = self.samples
        renamed = [
            FeatureSet(one.features, tuple(f"{id} #{k}" for id in one.ids), one.extractor, one.weights)
            for k, one in enumerate(rest, 2)
        ]
        return FeatureSet.merge([first, *renamed])


def collect(meter: Meter, clips: Clips, batches: Sequence[tuple[Batch, int]], folder: Path) -> Measured:
    """The parts of batches, of each as many clips as are counted. ValueError for clips of unequal length where the
    protocol takes all of their frames."""
    sets: dict[int, list[FeatureSet]] = {}
    scores: dict[str, list[np.ndarray]] = {}
    first: tuple[str, int] | None = None
    for batch, counted in batches:
        part = load_file(meter.path(clips, batch, folder))
        for id, length in zip(batch.ids, part[LENGTH].tolist(), strict=True) if meter.alike else ():
            first = first or (id, length)
            if length != first[1]:
                raise ValueError(
                    f"{clips.label}: {first[0]} has {first[1]} frames, {id} {length}: {meter.name} takes all of a "
                    "clip, and compares clips of one length alone"
                )
        sets.setdefault(batch.sample, []).append(
            FeatureSet(part[FEATURES][:counted], tuple(batch.ids[:counted]), *meter.signature)
        )
        for name, values in part.items():
            if name.startswith(SCORE):
                scores.setdefault(name.removeprefix(SCORE), []).append(values[:counted].numpy())
    samples = tuple(FeatureSet.merge(parts) for _, parts in sorted(sets.items()))
    joined = {name: np.concatenate(values) for name, values in scores.items()}
    return Measured(samples, joined, None if first is None else first[1])
