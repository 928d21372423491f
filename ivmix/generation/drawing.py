"""A job drawn: batch after batch from noise or a video to latents and frames, its legs played by `integrate`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ivmix.generation.batches import Batch
from ivmix.generation.job import Callback, Job
from ivmix.generation.memory import frames_at_once
from ivmix.generation.result import Result
from ivmix.media import to_frames
from ivmix.models import first_not_finite
from ivmix.pairs.bridge import plan, source_of_atoms, times
from ivmix.pairs.pair import Pair
from ivmix.progress import progress_bar
from ivmix.solvers import (
    Guided,
    NotFiniteError,
    Run,
    bridge_noise,
    initial_noise,
    integrate,
    noised,
    normal_noise,
    rescheduled_noise,
)

T = TypeVar("T")


@dataclass
class Follower:
    """Follows every step of a run: moves the bar, asks the caller, and remembers whether it goes on."""

    bar: "tqdm[Any]"
    callback: Callback | None
    goes_on: bool = True

    def __call__(self, step: int, total: int, run: Run) -> bool:
        cost = " + ".join(f"{count} {name}" for name, count in run.nfe.items())
        self.bar.set_postfix_str(f"{cost} evaluations", refresh=False)
        self.bar.update()
        self.goes_on = self.callback is None or self.callback(step, total, run) is not False
        return self.goes_on


def draw(job: Job) -> Result:
    """Draws the clips of a job, as many of them as the callback lets begin."""
    began, latents, frames = time.perf_counter(), list[Tensor](), list[np.ndarray]()
    read_ahead(job)
    with progress_bar(len(job.batches) * job.steps, job.progress, desc=job.sampling.name) as bar:
        follow = Follower(bar, job.callback)
        for batch in job.batches:
            run, z, shown = draw_batch(job, batch, follow)
            latents.append(z)
            frames.append(shown)
            if not follow.goes_on:
                break
    z = torch.cat(latents)
    record = replace(
        job.record.of(slice(len(z))), nfe=dict(run.nfe), forwards=dict(run.forwards),
        seconds=round(time.perf_counter() - began, 3),
        cancelled=run.cancelled or len(z) < len(job.record.prompts),
    )  # fmt: skip
    return Result(np.concatenate(frames), z, record, job.pair.fps)


@torch.no_grad()
def read_ahead(job: Job) -> None:
    """Has text encoders that do not stay read all that the job says, before the first latent is there."""
    said, sources = job.record, job.record.source_prompts or []
    negatives = {"image": said.image_negative_prompts, "video": said.negative_prompts}
    texts: dict[str, list[str]] = {
        name: [*said.prompts, *negatives[name], *sources] for name in job.sampling.models
    }
    job.pair.read_ahead(texts, said.raw_prompts)


@torch.no_grad()
def draw_batch(job: Job, batch: Batch, follow: Callback) -> tuple[Run, Tensor, np.ndarray]:
    """The run of a batch, and of the clips that are kept the latents (b c f h w) and frames (b f h w c) uint8."""
    record = job.record
    try:
        run, z = sample(job, batch, follow)
        return run, z[batch.kept], decode(job, z)[batch.kept]
    except NotFiniteError as error:
        raise blame(job.pair, error) from None
    except (MemoryError, RuntimeError) as error:
        error.add_note(
            f"drawing {len(batch.clips)} x {record.frames} frames of {record.height}x{record.width} in "
            f"{record.dtype} on {record.device}"
        )
        raise


def sample(job: Job, batch: Batch, follow: Callback) -> tuple[Run, Tensor]:
    """Plays the legs of a batch: the run, and its last state as latents z (b c f h w)."""
    record, schedule, seeds = job.record, job.schedules[job.lead], pick(job.record.seeds, batch)
    image, video = (guided(job, k, batch, record.prompts) for k in (0, 1))
    fields, _ = plan(job.sampling, image, video, job.sigmas, crossing_noise(job, seeds))
    shape = job.pair.latent_shape(record.frames, record.height, record.width, job.sampling.home)
    z = first_noise(job, seeds, shape) if job.noise is None else job.noise[list(batch.clips)]
    x, up = begin(job, batch, z.to(job.pair.device, torch.promote_types(job.pair.dtype, torch.float32)), follow)
    if up is not None and up.cancelled:
        return up, schedule.alpha_at(up.at) * up.x
    begun = len(job.inversion)
    run = integrate(
        fields, job.legs, x, noise=normal_noise(seeds, shape), schedule=schedule,
        callback=lambda step, _, run: follow(begun + step, job.steps, with_cost_of(up, run)),
    )  # fmt: skip
    return with_cost_of(up, run), run.x if run.at == 0 else schedule.alpha_at(run.at) * run.x


def first_noise(job: Job, seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Unit normals (b c f h w) of the seeds, of the kind that the run asks for."""
    windows = job.windows.frames
    if job.record.noise == "white" or windows is None:
        return initial_noise(seeds, shape)
    return rescheduled_noise(seeds, shape, windows.length, windows.stride)


def crossing_noise(job: Job, seeds: Sequence[int]) -> Tensor | None:
    """Unit normals (b c f h w) that hide what crosses to the image model's latents, where a bridge leads there."""
    if job.pair.bridge is None:
        return None
    xi = bridge_noise(seeds, job.pair.latent_shape(job.record.frames, *size_of(job, "image"), "image"))
    return xi.to(job.pair.device)  # once: every evaluation has it


def begin(job: Job, batch: Batch, z: Tensor, follow: Callback) -> tuple[Tensor, Run | None]:
    """The state (b c f h w) that the legs begin with, from unit normals z or a video, and the run of its inversion."""
    source = job.legs[0].source
    if job.video is None:
        return job.schedules[job.lead].start(z, source), None
    clip = job.video if len(job.video) == 1 else job.video[list(batch.clips)]
    x0 = encode(job, clip).to(z.dtype).expand_as(z)
    if job.record.source_prompts is None:
        return noised(x0, source, z), None
    field = {job.pair.sides[job.lead].name: guided(job, job.lead, batch, job.record.source_prompts)}
    run = integrate(field, job.inversion, x0, callback=lambda step, _, run: follow(step, job.steps, run))
    return run.x, run


def guided(job: Job, k: int, batch: Batch, prompts: Sequence[str]) -> Guided:
    """The image model (k = 0) or the video model (1) under these prompts and the negative ones that are its own.

    One that the sampler never evaluates reads none.
    """
    side, record = job.pair.sides[k], job.record
    negatives = (record.image_negative_prompts, record.negative_prompts)[k]
    network = side.network(job.schedules[k], record.image_frames, job.windows.of(side.name))
    if side.name not in job.sampling.models:
        return Guided(network("negative"), network("prompt"))
    texts = side.read_both(pick(negatives, batch), pick(prompts, batch), record.raw_prompts)  # all, then the network
    height, width = size_of(job, side.name)
    most = record.space_window or max(height, width)  # a window is told that it is a clip by itself
    negative, positive = (side.told(text, (min(height, most), min(width, most))) for text in texts)
    at_a_time = frames_at_once(*size_of(job, "image"))
    bridge = None if job.pair.bridge is None else job.pair.bridge.between(job.pair.vae, at_a_time, record.vae_tile)
    atoms = source_of_atoms(job.pair, job.sampling, network, bridge)
    return Guided(atoms(negative), atoms(positive))


def encode(job: Job, clip: np.ndarray) -> Tensor:
    """Frames (b f h w c) uint8 -> latents (b c f h w)."""
    vae = job.pair.autoencoder(job.sampling.home)
    pixels = torch.from_numpy(clip).to(job.pair.device).permute(0, 4, 1, 2, 3).to(vae.dtype) / 127.5 - 1
    return vae.encode(pixels, frames_per_batch=at_once(job), tile=job.record.vae_tile)


def decode(job: Job, z: Tensor) -> np.ndarray:
    """Latents (b c f h w) -> frames (b f h w c) uint8."""
    vae = job.pair.autoencoder(job.sampling.home)
    video = vae.decode(z.to(vae.dtype), frames_per_batch=at_once(job), tile=job.record.vae_tile)
    return to_frames(video.float())


def size_of(job: Job, model: str) -> tuple[int, int]:
    """Height and width in pixels of the frames that a model draws, or has across a bridge."""
    k = times(job.pair, model, job.sampling.home)
    return k * job.record.height, k * job.record.width


def at_once(job: Job) -> int:
    """Frames that the autoencoder has at a time."""
    return frames_at_once(job.record.height, job.record.width)


def pick(values: Sequence[T], batch: Batch) -> list[T]:
    """The value of every place."""
    return [values[k] for k in batch.clips]


def with_cost_of(earlier: Run | None, run: Run) -> Run:
    """A run that also cost what an earlier one did."""
    if earlier is None:
        return run
    nfe, forwards = (
        {name: a.get(name, 0) + b.get(name, 0) for name in {**a, **b}}
        for a, b in ((earlier.nfe, run.nfe), (earlier.forwards, run.forwards))
    )
    return replace(run, nfe=nfe, forwards=forwards)


def blame(pair: Pair, error: NotFiniteError) -> NotFiniteError:
    """The error, or one that names the weights that are to blame."""
    for side in pair.sides:
        for part, network in side.networks.items():
            away = next(network.parameters()).is_meta  # a text encoder, whose words were looked at as it said them
            if side.name in error.networks and not away and (key := first_not_finite(network)):
                message = f"the {side.name} model's {part} holds NaN or infinite weights, first in {key}"
                return NotFiniteError(f"{message}: is the file whole, or {pair.dtype} too narrow for it?",
                                      error.step, error.networks)  # fmt: skip
    return error
