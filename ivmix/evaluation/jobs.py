"""What an evaluation computes: one file a micro-batch and arm, resumable after a kill, in any number of processes.

Clip k of repeat r has the index i = r * clips + k, starts from noise of seed + i and shows the caption k mod 64 of
`balanced_captions`. Micro-batches are cut by index, so a clip has the same bits whoever computes it beside whatever
else.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ivmix._version import __version__
from ivmix.evaluation.arms import Arm, Truth, slug
from ivmix.evaluation.clips import clip_features, columns
from ivmix.generation.text_to_video import TextToVideo
from ivmix.pairs.pair import fingerprint
from ivmix.sprites.judge import Judge
from ivmix.sprites.world import all_captions

FORMAT = 2  # of a part's file
COLUMN = "column."  # before a column's name in a part


@lru_cache(maxsize=1)
def balanced_captions() -> tuple[str, ...]:
    """All captions, ordered so that few clips are a fair sample: 4 from a multiple of 4 on show every colour, shape and
    motion once, 16 from a multiple of 16 on every pair of them.

    Colour, shape and motion are a, a + b and 2 a + b + c in the field of four elements: orthogonal Latin squares.
    """
    double, four = (0, 2, 3, 1), range(4)  # in that field, where + is ^
    names = all_captions()
    return tuple(names[16 * a + 4 * (a ^ b) + (double[a] ^ b ^ c)] for c in four for b in four for a in four)


@dataclass(frozen=True)
class Design:
    """Which clips are drawn: `repeats` times `clips`, and how many at a time."""

    clips: int = 256
    repeats: int = 3
    seed: int = 1000
    batch_size: int = 8

    def __post_init__(self) -> None:
        least = {"clips": 2, "repeats (--seeds)": 1, "seed": 0, "batch_size": 1}
        for name, low in least.items():
            value = getattr(self, name.split()[0])
            if value < low:
                raise ValueError(f"{name}={value}: expected {low} or more")
        if self.seed + len(self) > 2**63:  # the last one's is torch's largest
            raise ValueError(f"seed={self.seed}: expected a number below 2**63 with every clip's own")
        if (self.clips - 1) * self.repeats < 2:  # a caption is left out at a time, and two clips have a covariance
            raise ValueError(f"clips={self.clips} in one repeat: expected 3 or more")

    def __len__(self) -> int:
        return self.clips * self.repeats

    def captions(self, rows: range) -> list[str]:
        names = balanced_captions()
        return [names[i % self.clips % len(names)] for i in rows]

    def seeds(self, rows: range) -> list[int]:
        return [self.seed + i for i in rows]

    def batches(self) -> list[range]:
        return [range(i, min(i + self.batch_size, len(self))) for i in range(0, len(self), self.batch_size)]


REFERENCE = Truth("reference")
REFERENCES, REFERENCE_SEED = 2048, 1_000_000  # far from any clip's own seed


@dataclass(frozen=True, eq=False)
class Job:
    """One micro-batch of one arm's design; `turn` decides who computes it."""

    arm: Arm | Truth
    design: Design
    rows: range
    turn: int

    @property
    def captions(self) -> list[str]:
        return self.design.captions(self.rows)

    @property
    def seeds(self) -> list[int]:
        return self.design.seeds(self.rows)

    def path(self, folder: Path) -> Path:
        return folder / "parts" / f"{slug(self.arm.label)}-{self.rows.start:06d}.safetensors"


def all_jobs(arms: Sequence[Arm | Truth], design: Design) -> list[Job]:
    """Every arm for the first micro-batch, then for the next: a run cut short has as much of each.

    Turns step along both, so that any number of workers share every arm and every micro-batch evenly.
    """
    return [Job(arm, design, rows, a + b) for b, rows in enumerate(design.batches()) for a, arm in enumerate(arms)]


def reference_jobs(references: int = REFERENCES) -> list[Job]:
    """Crisp clips, captions in turn, that every arm's distances are measured to. ValueError for fewer than two."""
    if references < 2:
        raise ValueError(f"references={references}: expected 2 or more")
    return all_jobs([REFERENCE], Design(references, 1, REFERENCE_SEED, batch_size=64))


@dataclass(frozen=True)
class Maker:
    """A loaded pair with its judge: with a job, all that a part depends on."""

    model: TextToVideo
    judge: Judge
    weights: str  # `ivmix.pairs.pair.fingerprint` of both

    @classmethod
    def of(cls, model: TextToVideo, judge: Judge) -> "Maker":
        return cls(model, judge, fingerprint(model.pair, judge=judge))

    def settings(self, job: Job) -> dict[str, Any]:
        """What made a part, ready for JSON: a part on disk with the same settings has the same tensors."""
        pair = self.model.pair
        return {
            "format": FORMAT, "ivmix": __version__, "torch": torch.__version__, "pair": pair.name,
            "weights": self.weights, "device": pair.device.type, "dtype": str(pair.dtype).removeprefix("torch."),
            "compile": pair.compile, "arm": job.arm.label, **job.arm.settings(self.model),
            "negative_prompt": pair.defaults["negative_prompt"], "batch": len(job.rows),
            "captions": job.captions, "seeds": job.seeds,
        }  # fmt: skip

    def compute(self, job: Job, folder: Path) -> None:
        """Draws and measures a micro-batch and writes its part, which appears when it is whole."""
        path, drawn = job.path(folder), job.arm.draw(self.model, job.captions, job.seeds)
        tensors = {"features": clip_features(drawn.frames, self.judge)}
        if job.arm != REFERENCE:  # whose features are all that is asked for
            values = columns(drawn.frames, job.captions, self.judge, self.model.pair.fps)
            tensors |= {COLUMN + name: torch.from_numpy(np.asarray(v, np.float64)) for name, v in values.items()}
            tensors["frames"] = torch.from_numpy(drawn.frames)
        cost = {"nfe": drawn.nfe, "forwards": drawn.forwards, "seconds": drawn.seconds}
        metadata = {"settings": json.dumps(self.settings(job)), "cost": json.dumps(cost)}
        write_part(save(tensors, metadata), path)


def write_part(data: bytes, path: Path) -> None:
    """Writes a file that appears when it is whole. Raises OSError naming it, and what goes on from there."""
    temporary = path.with_name(f".{path.stem}.tmp")  # of one name: what a kill leaves, the next run replaces
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        reason = f"cannot write {path}: {error.strerror}; what is computed is kept, the same command goes on from it"
        raise OSError(error.errno, reason) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_metadata(path: Path) -> dict[str, Any] | None:
    """{"settings": …, "cost": …} of a part; None where there is none or a broken one, which is then computed."""
    try:
        with safe_open(path, "pt") as file:
            raw = file.metadata()
        return {name: json.loads(raw[name]) for name in ("settings", "cost")}
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def pending(jobs: Sequence[Job], folder: Path, maker: Maker) -> list[Job]:
    """The jobs without a part. ValueError if a part was made of other settings, saying which, or an arm cannot be."""
    todo = []
    for job in jobs:
        settings, found = maker.settings(job), read_metadata(job.path(folder))
        if found is None:
            todo.append(job)
        elif differences := differing(found["settings"], settings):
            raise ValueError(
                f"{folder} holds parts of another evaluation: {job.path(folder).name} was made with "
                f"{'; '.join(differences)}. Give the same options, or another folder with -o"
            )
    return todo


def differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """["steps 20, now 3", …]: entries of nested settings that are not the same."""
    lines = []
    for name in dict.fromkeys([*there, *here]):
        a, b = there.get(name), here.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differing(a, b)
        elif a != b:
            lines.append(f"{name} {_short(a)}, now {_short(b)}")
    return lines


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "…"


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


@contextmanager
def ranks() -> Iterator[tuple[int, int]]:
    """This process's rank and the world's size under torchrun, whose processes meet at the end; else (0, 1)."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield 0, 1
        return
    dist.init_process_group("gloo", timeout=timedelta(days=7))  # one may wait long for another's last batch
    try:
        yield dist.get_rank(), dist.get_world_size()
        done = dist.barrier(async_op=True)
        while not done.is_completed():  # in Python, where a signal is heard
            time.sleep(0.05)
        done.wait()
    finally:
        dist.destroy_process_group()
