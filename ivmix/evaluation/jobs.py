"""What an evaluation computes: one file a micro-batch and arm, resumable after a kill, in any number of processes.

Micro-batches are cut by a clip's index in its `Design`, so it has the same bits whoever computes it beside whatever
else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from ivmix._version import __version__
from ivmix.evaluation.arms import Arm, Drawn, Truth, slug
from ivmix.evaluation.benchmark import Benchmark, DrawnReference
from ivmix.evaluation.design import Design
from ivmix.evaluation.parts import is_there, read_metadata, write_part
from ivmix.generation.text_to_video import TextToVideo
from ivmix.pairs.pair import fingerprint

FORMAT = 2  # of a part's file
COLUMN = "column."  # before a column's name in a part


@dataclass(frozen=True, eq=False)
class Job:
    """One micro-batch of one arm: clips of these indices, captions and seeds. `turn` decides who computes it."""

    arm: Arm | Truth
    rows: range
    captions: Sequence[str]
    seeds: Sequence[int]
    turn: int
    features_only: bool = False  # neither columns nor frames are kept

    def path(self, folder: Path) -> Path:
        return folder / "parts" / f"{slug(self.arm.label)}-{self.rows.start:06d}.safetensors"


def all_jobs(arms: Sequence[Arm | Truth], design: Design, prompts: Sequence[str]) -> list[Job]:
    """Every arm for the first micro-batch, then for the next: a run cut short has as much of each.

    Turns step along both, so that any number of workers share every arm and every micro-batch evenly.
    """
    return [
        Job(arm, rows, design.captions(rows, prompts), design.seeds(rows), a + b)
        for b, rows in enumerate(design.batches())
        for a, arm in enumerate(arms)
    ]


def reference_jobs(benchmark: Benchmark) -> list[Job]:
    """What draws the reference; none where its features are stored."""
    match benchmark.reference:
        case DrawnReference(truth, design):
            return [replace(job, features_only=True) for job in all_jobs([truth], design, benchmark.prompts)]
    return []


def model_settings(model: TextToVideo, weights: str) -> dict[str, Any]:
    """What clips depend on beside an arm, captions and seeds, ready for JSON."""
    pair = model.pair
    return {
        "ivmix": __version__, "torch": torch.__version__, "pair": pair.name, "weights": weights,
        "device": pair.device.type, "dtype": str(pair.dtype).removeprefix("torch."), "compile": pair.compile,
        "negative_prompt": pair.defaults["negative_prompt"],
    }  # fmt: skip


@dataclass(frozen=True)
class Maker:
    """A loaded pair and a benchmark: with a job, all that a part depends on."""

    model: TextToVideo
    benchmark: Benchmark
    weights: str  # `ivmix.pairs.pair.fingerprint` of both

    @classmethod
    def of(cls, model: TextToVideo, benchmark: Benchmark) -> "Maker":
        return cls(model, benchmark, fingerprint(model.pair, **benchmark.networks))

    def settings(self, job: Job) -> dict[str, Any]:
        """What made a part, ready for JSON: a part on disk with the same settings has the same tensors."""
        return {
            "format": FORMAT, **model_settings(self.model, self.weights), "arm": job.arm.label,
            **job.arm.settings(self.model), "batch": len(job.rows), "captions": job.captions, "seeds": job.seeds,
            **self.benchmark.echo,
        }  # fmt: skip

    def draw(self, job: Job) -> Drawn:
        """The clips of a micro-batch."""
        if isinstance(job.arm, Arm):
            return job.arm.draw(self.model, job.captions, job.seeds, self.benchmark.source)
        return job.arm.draw(self.model, job.captions, job.seeds)

    def compute(self, job: Job, folder: Path) -> None:
        """Draws and measures a micro-batch and writes its part, which appears when it is whole."""
        drawn = self.draw(job)
        tensors = {"features": self.benchmark.features(drawn.frames).contiguous()}
        if not job.features_only:
            values = self.benchmark.measure(drawn.frames, job.captions, self.model.pair.fps)
            tensors |= {COLUMN + name: torch.from_numpy(np.asarray(v, np.float64)) for name, v in values.items()}
            tensors["frames"] = torch.from_numpy(np.ascontiguousarray(drawn.frames))
        check_measured(self.benchmark, tensors, len(job.rows))
        cost = {"nfe": drawn.nfe, "forwards": drawn.forwards, "seconds": drawn.seconds}
        write_part(tensors, self.settings(job), cost, job.path(folder))


def check_measured(benchmark: Benchmark, tensors: Mapping[str, Tensor], clips: int) -> None:
    """ValueError for what a benchmark gave that is not a row a clip, or a column that it does not declare."""
    dimensions = {"features": 2, "frames": 5} | {COLUMN + name: 1 for name in benchmark.columns}
    for name, tensor in tensors.items():
        if tensor.ndim != dimensions.get(name) or len(tensor) != clips:
            expected = f"a row for each of {clips} clips" if name in dimensions else f"one of {list(benchmark.columns)}"
            raise ValueError(
                f"benchmark {benchmark.name!r}: {name.removeprefix(COLUMN)} of shape {tuple(tensor.shape)}, "
                f"expected {expected}"
            )


def pending(jobs: Sequence[Job], folder: Path, maker: Maker) -> list[Job]:
    """The jobs without a part. ValueError if a part was made of other settings, saying which, or an arm cannot be."""
    return [job for job in jobs if not is_there(job.path(folder), maker.settings(job), folder)]


@dataclass(frozen=True, eq=False)
class Measured:
    """All clips of one arm in order of their index: features (n, d) float32, columns (n,) float64, and the cost."""

    arm: Arm | Truth
    features: Tensor
    columns: Mapping[str, np.ndarray]
    nfe: Mapping[str, int]  # evaluations a clip
    forwards: Mapping[str, int]  # rows through each network, a clip
    seconds: float  # a clip


def collect(jobs: Sequence[Job], folder: Path) -> list[Measured]:
    """What the parts of all jobs hold, an arm each, in the order of the jobs."""
    arms = list(dict.fromkeys(slug(job.arm.label) for job in jobs))
    return [_measured([job for job in jobs if slug(job.arm.label) == name], folder) for name in arms]


def _measured(jobs: Sequence[Job], folder: Path) -> Measured:
    paths, parts = [job.path(folder) for job in jobs], list[dict[str, Tensor]]()
    for path in paths:
        with safe_open(path, "pt") as file:
            parts.append({name: file.get_tensor(name) for name in file.keys() if name != "frames"})  # noqa: SIM118
    tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    costs = [(read_metadata(path) or {})["cost"] for path in paths]
    return Measured(
        jobs[0].arm, tensors["features"],
        {name.removeprefix(COLUMN): value.numpy() for name, value in tensors.items() if name.startswith(COLUMN)},
        costs[0]["nfe"], costs[0]["forwards"], sum(c["seconds"] for c in costs) / len(tensors["features"]),
    )  # fmt: skip


def read_frames(job: Job, folder: Path) -> np.ndarray:
    """The clips (b f h w 3) uint8 of a part."""
    with safe_open(job.path(folder), "pt") as file:
        frames: np.ndarray = file.get_tensor("frames").numpy()
    return frames
