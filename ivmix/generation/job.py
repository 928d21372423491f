"""A call of `TextToVideo`, resolved and checked before anything is sampled: a `Job`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from itertools import groupby
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ivmix._version import __version__
from ivmix.devices import dtype_name
from ivmix.generation.arguments import (
    Texts,
    check_noise_kind,
    check_video,
    digest,
    read_noise,
    read_prompts,
    read_seeds,
    read_sizes,
    read_strength,
    read_texts,
    read_video,
)
from ivmix.generation.batches import Batch, among_copies, in_order
from ivmix.generation.memory import Load, check_fits, choose_batch
from ivmix.generation.record import Input, NoiseKind, Record
from ivmix.generation.windows import RunWindows, read_windows
from ivmix.media.files import StrPath
from ivmix.models.text.prompts import read_prompts as read_words
from ivmix.pairs.bridge import plan, source_of_atoms
from ivmix.pairs.pair import Pair
from ivmix.samplers.reading import sampling as read_sampling
from ivmix.samplers.samplers import Sampling
from ivmix.solvers import DPMSolverPP2M, Guided, Leg, Run, Schedule, plain, tail
from ivmix.typed import short, whole

STRENGTH = 0.5  # of video to video, unless given: the share of the steps that is played

Callback = Callable[[int, int, Run], object]


@dataclass(frozen=True, eq=False)
class Job:
    """A call that can be: all that it takes to draw it."""

    pair: Pair
    sampling: Sampling
    schedules: tuple[Schedule, Schedule]  # under which image and video model are read
    sigmas: Tensor  # (steps + 1,)
    inversion: list[Leg]  # from the video up to where the legs begin, where it is inverted
    legs: list[Leg]
    video: np.ndarray | None  # (b f h w c) uint8
    noise: Tensor | None  # (b c f h w), instead of the seeds' own
    windows: RunWindows
    batches: list[Batch]
    record: Record  # without what it will have cost
    notes: list[str]  # what the caller should know of the call
    progress: bool
    callback: Callback | None

    @property
    def lead(self) -> int:
        """Which of image and video the run begins on."""
        return leading(self.sampling)

    @property
    def steps(self) -> int:
        """Outer steps of one batch."""
        return len(self.inversion) + len({leg.step for leg in self.legs})


def make_job(
    pair: Pair, /, prompts: Texts, *, negative_prompt: Texts | None = None, image_negative_prompt: Texts | None = None,
    seed: int | Sequence[int] = 0, frames: int | None = None, height: int | None = None, width: int | None = None,
    video: np.ndarray | StrPath | None = None, strength: float | None = None, source_prompt: Texts | None = None,
    raw_prompts: bool = False, latents: Tensor | np.ndarray | None = None, sampling: Sampling | None = None,
    vae_tile: int | None = None, image_frames: int | None = None, window: int | None = None,
    overlap: int | None = None, space_window: int | None = None, noise: NoiseKind = "white",
    batch_size: int | Literal["auto"] = "auto", place: int | None = None, progress: bool = False,
    callback: Callback | None = None, **options: Any,
) -> Job:  # fmt: skip
    """The one declaration of what a call takes; `TextToVideo` says what it means. ValueError for what cannot be."""
    if not (callback is None or callable(callback)):
        raise ValueError(f"callback is {callback!r}: expected a function of (step, total, run)")
    if not isinstance(raw_prompts, bool):
        raise ValueError(f"raw_prompts is {raw_prompts!r}: expected True or False, whether all brackets are text")
    prompts = read_prompts(prompts)
    count = len(prompts)
    seeds = read_seeds(seed, count)
    vae_tile = None if vae_tile is None else whole("vae_tile", vae_tile, 1)
    image_frames = None if image_frames is None else whole("image_frames", image_frames, 1)
    sampling = choose_sampling(pair, sampling, options)
    if video is None and (strength is not None or source_prompt is not None):
        name = "strength" if strength is not None else "source_prompt"
        raise ValueError(f"{name} says how to begin from a video: give one (video, --init), or leave it out")

    own = pair.frames, pair.height, pair.width
    if isinstance(video, np.ndarray):
        own = check_video(video, count, frames, height, width)
    frames, height, width = read_sizes(own, frames, height, width)
    shape = pair.latent_shape(frames, height, width, sampling.home)
    given, notes = (None, []) if latents is None else read_noise(latents, (count, *shape))
    windows = read_windows(pair, frames, window, overlap, space_window)
    if "video" not in sampling.models:
        windows = replace(windows, frames=None)
    check_noise_kind(noise, given is not None)

    load = Load(count, frames, height, width, vae_tile, image_frames, sampling.models, windows)
    size = read_batch_size(pair, load, batch_size, place)
    check_fits(pair, replace(load, clips=size))
    batches = in_order(count, size) if place is None else among_copies(size, whole("place", place, 0, size - 1))

    negatives = read_texts("negative_prompt", negative_prompt, count, pair.defaults["negative_prompt"])
    image_negatives = read_texts("image_negative_prompt", image_negative_prompt, count, negatives)
    sources = None if source_prompt is None else read_texts("source_prompt", source_prompt, count, prompts)
    for side, others in ((pair.image, image_negatives), (pair.video, negatives)):
        for tokenizer in side.tokenizers:
            read_words(tokenizer, [*prompts, *others, *(sources or ())], raw_prompts)
    for name, value in (("image_negative_prompt", image_negative_prompt), ("image_frames", image_frames)):
        if value is not None and "image" not in sampling.models:
            notes.append(f"{name} has no effect: sampler {sampling.name!r} runs the video model alone")
    if windows.frames is None or frames <= windows.frames.length:
        alone = f"sampler {sampling.name!r} runs the image model alone"
        why = f"the video model has all {frames} frames in one window" if "video" in sampling.models else alone
        asked = {"window": window, "overlap": overlap, "noise": None if noise == "white" else noise}
        notes += [f"{name} has no effect: {why}" for name, value in asked.items() if value is not None]
    if space_window is not None and space_window >= max(height, width):
        notes.append(f"space_window has no effect: one window holds all of {height}x{width}")

    schedules = sampling.schedules(pair.image.schedule, pair.video.schedule)
    sigmas, legs = planned(pair, sampling, schedules)
    inversion: list[Leg] = []
    clip: np.ndarray | None = None
    shown: Input | None = None
    if video is not None:
        strength = STRENGTH if strength is None else read_strength(strength)
        if any(next(group).source == 0 for _, group in groupby(legs, key=lambda leg: leg.step)):
            raise ValueError(f"sampler {sampling.name!r} begins again from noise: it cannot start from a video")
        legs = tail(legs, strength)
        clip, shown, changes = read_video(video, frames, height, width, pair.fps)
        notes += changes
        if sources is not None:
            inversion = inverting(schedules[leading(sampling)], legs, sampling.lead)
    record = Record(
        ivmix=__version__,
        torch=torch.__version__,
        pair=pair.source,
        swaps=pair.swaps.to_dict(),
        models=pair.run_as,
        files=pair.files,
        compile=pair.compile,
        prompts=prompts,
        negative_prompts=negatives,
        image_negative_prompts=image_negatives,
        seeds=seeds,
        frames=frames,
        height=height,
        width=width,
        vae_tile=vae_tile,
        image_frames=image_frames,
        batch_sizes=[len(batch.clips) for batch in batches for _ in batch.places],
        batch_places=[place for batch in batches for place in batch.places],
        video=shown,
        strength=strength,
        source_prompts=sources,
        raw_prompts=raw_prompts,
        latents=None if given is None else {"path": None, "sha256": digest(given.float().numpy(force=True))},
        sampling=sampling.to_dict(),
        device=str(pair.device),
        dtype=dtype_name(pair.dtype),
        nfe={},
        forwards={},
        seconds=0.0,
        window=None if windows.frames is None else windows.frames.length,
        overlap=None if windows.frames is None else windows.frames.overlap,
        space_window=space_window,
        noise=noise,
    )
    return Job(
        pair, sampling, schedules, sigmas, inversion, legs, clip, given, windows, batches, record, notes, progress,
        callback,
    )  # fmt: skip


# What a call takes beside the options of a sampler.
KEYWORDS = tuple(signature(make_job).parameters)[2:-1]


def choose_sampling(pair: Pair, sampling: Sampling | None, options: Mapping[str, Any]) -> Sampling:
    """`sampling`, or what its options make of the pair's defaults. ValueError for both, or for what is neither."""
    if sampling is None:
        return read_sampling(pair.defaults, options, KEYWORDS)
    if options:
        raise ValueError(f"give either sampling or the options {', '.join(options)}, not both")
    if not isinstance(sampling, Sampling):
        raise ValueError(f"sampling is {short(sampling)}: expected a Sampling, or its options alone")
    return sampling


def read_batch_size(pair: Pair, load: Load, batch_size: int | Literal["auto"], place: int | None) -> int:
    """How many clips run together: of those of `load`, or copies of a single one. ValueError for another."""
    if batch_size != "auto":
        batch_size = whole("batch_size", batch_size, 1, otherwise=", or \"auto\"")
    if place is None:
        return choose_batch(pair, load) if batch_size == "auto" else min(batch_size, load.clips)
    if load.clips > 1 or batch_size == "auto":
        raise ValueError(f"place={place!r}: expected one prompt and its batch_size, got {load.clips} and {batch_size}")
    return batch_size


def leading(sampling: Sampling) -> int:
    """Which of image and video a run begins on."""
    return int(sampling.lead == "video")


def planned(pair: Pair, sampling: Sampling, schedules: tuple[Schedule, Schedule]) -> tuple[Tensor, list[Leg]]:
    """Levels (steps + 1,) and legs of a whole run. ValueError where the leading model says nothing at the first one."""
    lead, schedule = pair.sides[leading(sampling)], schedules[leading(sampling)]
    sigmas = sampling.grid(schedule)
    if sigmas[0] > lead.network(schedule).reach[1]:
        raise ValueError(
            f"the {lead.name} model predicts epsilon, which says nothing where this run begins, at zero terminal "
            f"SNR: expected spacing 'leading', which begins below, or {lead.name}_prediction 'v' (Swaps; "
            f"--{lead.name}-prediction) for a model that was trained so"
        )
    unread = [source_of_atoms(pair, sampling, side.network(own))(None)
              for side, own in zip(pair.sides, schedules, strict=True)]  # fmt: skip
    image, video = (Guided(atom, atom) for atom in unread)  # no prompt read yet: the legs know none
    _, legs = plan(sampling, image, video, sigmas)
    return sigmas, legs


def inverting(schedule: Schedule, legs: Sequence[Leg], network: str) -> list[Leg]:
    """Unguided, from clean latents to where `legs` begin, in as many steps: even ones of log sigma, so that a solver of
    second order in it does."""
    low, high, n = schedule.sigma_min, legs[0].source, len({leg.step for leg in legs})
    if not low < high < float("inf"):
        raise ValueError(f"source_prompt: no video can be inverted from level {low:g} to {high:g}; take less strength")
    levels = torch.logspace(0, 1, n + 1, base=high / low, dtype=torch.float64) * low
    levels[-1] = high
    return plain(levels, 1.0, DPMSolverPP2M(), network)
