"""Where the clips of one row of a report come from: a sampler draws them, or they are files of anybody."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import safe_open

from ivmix.benchmarks.layouts import path_of
from ivmix.benchmarks.plan import Batch
from ivmix.benchmarks.prompts import Prompt
from ivmix.evaluation.arms import Arm, slug
from ivmix.evaluation.jobs import model_settings
from ivmix.evaluation.parts import is_there, read_metadata, write_part
from ivmix.evaluation.preprocessing import Preprocessing
from ivmix.generation.text_to_video import TextToVideo
from ivmix.media import Frames, write_video

FORMAT = 1  # of a part's file
FRAMES = "frames"


class Clips(Protocol):
    """One row's."""

    @property
    def label(self) -> str: ...

    def settings(self, batch: Batch) -> dict[str, Any]:
        """All that decides these clips, ready for JSON."""

    def frames(self, batch: Batch, shown: Preprocessing | None = None) -> Iterator[Frames]:
        """The clips (f h w c) of a batch, one after the other, as they may be large; or of their frames only those that
        are `shown` to one network."""


def digest(settings: Mapping[str, Any]) -> str:
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Sampled:
    """Clips that an arm draws: lossless in `folder/parts/clips`, a part a batch, and as videos beside them."""

    arm: Arm
    model: TextToVideo
    weights: str  # `ivmix.pairs.pair.fingerprint`
    folder: Path
    layout: str  # of the video files

    @property
    def label(self) -> str:
        return self.arm.label

    def settings(self, batch: Batch) -> dict[str, Any]:
        return {
            "format": FORMAT, **model_settings(self.model, self.weights), "arm": self.label,
            **self.arm.settings(self.model), "batch": len(batch.prompts), "ids": batch.ids, "sample": batch.sample,
            "captions": batch.captions, "seeds": list(batch.seeds),
        }  # fmt: skip

    def path(self, batch: Batch) -> Path:
        return self.folder / "parts" / "clips" / f"{slug(self.label)}-{batch.name}.safetensors"

    @property
    def videos(self) -> Path:
        return self.folder / "videos" / slug(self.label)

    def video(self, prompt: Prompt, sample: int) -> Path:
        return self.videos / path_of(self.layout, prompt.id, sample, prompt.texts[0])

    def is_drawn(self, batch: Batch) -> bool:
        """ValueError where there are clips of other settings."""
        return is_there(self.path(batch), self.settings(batch), self.folder)

    def draw(self, batch: Batch) -> None:
        """The videos first: where the part is, they are. Brackets of captions are text, no weights."""
        drawn = self.arm.draw(self.model, batch.captions, batch.seeds, raw_prompts=True)
        for frames, prompt in zip(drawn.frames, batch.prompts, strict=True):
            path = self.video(prompt, batch.sample)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(frames, path, self.model.pair.fps)
        cost = {"nfe": drawn.nfe, "forwards": drawn.forwards, "seconds": drawn.seconds}
        self._write(batch, torch.from_numpy(np.ascontiguousarray(drawn.frames)), cost)

    def forget(self, batch: Batch) -> None:
        """Leaves of a batch what it was drawn with and what it cost, not its clips."""
        cost = self.cost(batch)
        if cost is not None and self.holds(batch):
            self._write(batch, None, cost)

    def _write(self, batch: Batch, frames: torch.Tensor | None, cost: Mapping[str, Any]) -> None:
        write_part({} if frames is None else {FRAMES: frames}, self.settings(batch), cost, self.path(batch))

    def holds(self, batch: Batch) -> bool:
        """Whether the clips of a batch that is drawn were not forgotten."""
        with safe_open(self.path(batch), "pt") as file:
            return FRAMES in file.keys()  # noqa: SIM118

    def cost(self, batch: Batch) -> Mapping[str, Any] | None:
        """{"nfe", "forwards", "seconds"} of a batch that is drawn."""
        found = read_metadata(self.path(batch))
        return None if found is None else found["cost"]

    def check_holds(self, batch: Batch) -> None:
        """ValueError, with what to do, for a batch that was drawn and forgotten."""
        if not self.holds(batch):
            raise ValueError(
                f"{self.path(batch)} holds no clips any more, as --keep features said: measure the files with --videos "
                f"{self.videos} and another -o, or draw again into another folder"
            )

    def frames(self, batch: Batch, shown: Preprocessing | None = None) -> Iterator[Frames]:
        with safe_open(self.path(batch), "pt") as file:
            yield from file.get_tensor(FRAMES).numpy()
