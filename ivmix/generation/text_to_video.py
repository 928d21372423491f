"""Prompts to videos: the whole way from text to frames, over any pair and any sampler."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from ivmix._version import __version__
from ivmix.devices import dtype_name
from ivmix.generation.arguments import (
    Texts,
    check_video,
    digest,
    one_each,
    read_noise,
    read_prompts,
    read_seeds,
    read_sizes,
    read_strength,
    read_video,
)
from ivmix.generation.memory import Load, check_fits, choose_batch, frames_at_once
from ivmix.generation.record import Given, Record
from ivmix.generation.result import Result
from ivmix.media import to_frames
from ivmix.media.files import StrPath
from ivmix.models import first_not_finite
from ivmix.models.compile import Mode
from ivmix.models.text.prompts import read_prompts as read_words
from ivmix.pairs.pair import Pair, Side, load_pair
from ivmix.pairs.swaps import Swaps
from ivmix.progress import progress_bar
from ivmix.samplers.reading import sampling as read_sampling
from ivmix.samplers.samplers import Sampling
from ivmix.solvers import (
    DPMSolverPP2M,
    Guided,
    Leg,
    NotFiniteError,
    Run,
    Schedule,
    initial_noise,
    integrate,
    noised,
    normal_noise,
    plain,
    tail,
)
from ivmix.solvers.checks import within
from ivmix.solvers.methods.ivmixed import inside
from ivmix.solvers.plans.legs import progress
from ivmix.typed import short, whole

STRENGTH = 0.5  # of video to video, unless given: the share of the steps that is played

Callback = Callable[[int, int, Run], object]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Job:
    """A call that can be: all that is resolved and checked before anything is sampled."""

    sampling: Sampling
    schedules: tuple[Schedule, Schedule]  # under which image and video model are read
    sigmas: Tensor  # (steps + 1,)
    climb: list[Leg]  # from the video up to where the legs begin, where it is inverted
    legs: list[Leg]
    video: np.ndarray | None  # (b f h w c) uint8
    noise: Tensor | None  # (b c f h w), instead of the seeds' own
    record: Record  # without what it will have cost

    @property
    def at_once(self) -> int:
        """Frames that the autoencoder has at a time."""
        return frames_at_once(self.record.height, self.record.width)

    @property
    def batches(self) -> list[list[int]]:
        """Which clips run together; one that has its `place` in a batch of copies, as often as the batch is large."""
        sizes = self.record.batch_sizes
        return [[min(k, len(sizes) - 1) for k in range(i, i + sizes[i])] for i in range(0, len(sizes), sizes[0])]

    @property
    def lead(self) -> int:
        """Which of image and video the run begins on."""
        return int(self.sampling.lead == "video")

    @property
    def steps(self) -> int:
        """Outer steps of one batch."""
        return len(self.climb) + len({leg.step for leg in self.legs})


class TextToVideo:
    """A loaded pair, ready to sample.

    >>> from ivmix import TextToVideo
    >>> model = TextToVideo.from_pair("sprites")                                        # doctest: +SKIP
    >>> result = model("a red circle moving left", sampler="composite", steps=10)       # doctest: +SKIP
    >>> result.frames.shape                                                             # doctest: +SKIP
    (1, 8, 64, 64, 3)
    >>> result.save("out.mp4")                                                          # doctest: +SKIP
    [PosixPath('out.mp4')]
    """

    def __init__(self, pair: Pair) -> None:
        if not isinstance(pair, Pair):
            raise TypeError(f"pair: got {pair!r}, expected a Pair; by name it is TextToVideo.from_pair({pair!r})")
        self.pair = pair

    def __repr__(self) -> str:
        p = self.pair
        return f"TextToVideo({p.source!r}, {p.device}, {p.dtype}: {p.frames} frames of {p.height}x{p.width})"

    @classmethod
    def from_pair(
        cls,
        name_or_folder: str | Path = "sprites",
        device: torch.device | str = "auto",
        dtype: torch.dtype | str = "auto",
        swaps: Swaps = Swaps(),  # noqa: B008 - immutable
        compile: Mode = "off",
        commits: Mapping[str, str] = MappingProxyType({}),
    ) -> "TextToVideo":
        """Loads a pair by name, or any folder with a pair.json; see `ivmix.pairs.pair.load_pair`."""
        try:
            return cls(load_pair(name_or_folder, device, dtype, swaps, compile, commits))
        except (MemoryError, RuntimeError) as error:
            error.add_note(f"loading pair {str(name_or_folder)!r}")
            raise

    def to(
        self, device: torch.device | torch.dtype | str | None = None, dtype: torch.dtype | str | None = None
    ) -> "TextToVideo":
        """Moves every network, in place, and returns this model; a dtype may stand first. ValueError for a device that
        cannot be had."""
        self.pair = self.pair.to(device, dtype)
        return self

    def __call__(
        self,
        prompts: Texts,
        *,
        negative_prompt: Texts | None = None,
        image_negative_prompt: Texts | None = None,
        seed: int | Sequence[int] = 0,
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        video: np.ndarray | StrPath | None = None,
        strength: float | None = None,
        source_prompt: Texts | None = None,
        raw_prompts: bool = False,
        latents: Tensor | np.ndarray | None = None,
        sampling: Sampling | None = None,
        vae_tile: int | None = None,
        image_frames: int | None = None,
        batch_size: int | Literal["auto"] = "auto",
        place: int | None = None,
        progress: bool = False,
        callback: Callback | None = None,
        **options: Any,
    ) -> Result:
        """One clip a prompt. Sample k starts from noise of seed + k, or of `seed[k]`, whatever the batch it runs in.

        Prompts may hold weights, "a (red:1.3) circle" (`ivmix.models.text.prompts`), unless `raw_prompts`, when
        brackets of all prompts are text; what is too long loses its end, and a warning says so. `negative_prompt` goes
        to both models, `image_negative_prompt` overrides it for the image model; defaults are the pair's, and each is
        one text or one a prompt.

        What to run is either `sampling` or its `options` (sampler, steps, solver, spacing, end, guidance, …: the fields
        of `ivmix.samplers`), whose defaults are again the pair's; `solver` may be an instance of any solver. `latents`
        (b c f h w) are the noise to begin from instead of the seeds' own: unit normals, not a result's clean latents.

        Video to video: with `video`, a file, or frames (f h w c) or (b f h w c) uint8, noise is added to it and only
        the last `strength`, 0 to 1, of the steps is played (SDEdit, arXiv 2108.01073); frames of an array are taken as
        they are, those of a file are cut and resized to the sizes asked for, and a warning says how. With
        `source_prompt`, what the video shows, the noise is instead found by taking the video up the leading model's ODE
        under that prompt, unguided (DDIM inversion, arXiv 2010.02502), which keeps more of it.

        `vae_tile` decodes frames in overlapping squares of that many latents a side, which bounds memory and gives
        nearly the same picture (`VAE.decode`). `image_frames` is how many frames the image model, which knows each
        alone, has at a time: less memory, the same picture to a rounding. `batch_size` clips run together, "auto" as
        many as `choose_batch` in `memory.py` says; that, and a clip's place among them, decides its last bits. To have
        those of a record again, `place` draws one clip there in a batch of copies of it.

        `callback(step, total, run)` follows every step of a batch: returning False stops there, and the result, marked
        as cancelled, is what the state shows then of the clips begun so far. `preview.py` shows a run's x0.
        ValueError for anything that cannot be, before sampling.
        """
        if not (callback is None or callable(callback)):
            raise ValueError(f"callback is {callback!r}: expected a function of (step, total, run)")
        job = self._job(
            prompts, negative_prompt=negative_prompt, image_negative_prompt=image_negative_prompt, seed=seed,
            frames=frames, height=height, width=width, video=video, strength=strength, source_prompt=source_prompt,
            raw_prompts=raw_prompts, latents=latents, sampling=sampling, vae_tile=vae_tile, image_frames=image_frames,
            batch_size=batch_size, place=place, **options,
        )  # fmt: skip
        record, began = job.record, time.perf_counter()
        self._announce(job)
        drawn, shown, run, goes_on = list[Tensor](), list[np.ndarray](), None, True
        with progress_bar(len(job.batches) * job.steps, progress, desc=job.sampling.name) as bar:

            def on_step(step: int, total: int, run: Run) -> bool:
                nonlocal goes_on
                bar.set_postfix_str(" + ".join(f"{v} {k}" for k, v in run.nfe.items()) + " evaluations", refresh=False)
                bar.update()
                goes_on = callback is None or callback(step, total, run) is not False
                return goes_on

            for rows in job.batches:
                try:
                    run, z = self._sample(job, rows, on_step)
                    first = record.batch_places[rows[0]]
                    wanted = slice(first, first + len(set(rows)))
                    drawn.append(z[wanted])
                    shown.append(self._decode(job, z)[wanted])
                except NotFiniteError as error:
                    raise self._blame(error) from None
                except (MemoryError, RuntimeError) as error:
                    error.add_note(
                        f"drawing {len(rows)} x {record.frames} frames of {record.height}x{record.width} in "
                        f"{record.dtype} on {record.device}"
                    )
                    raise
                if not goes_on:
                    break
        assert run is not None
        z = torch.cat(drawn)
        record = replace(
            record.of(slice(len(z))), nfe=dict(run.nfe), forwards=dict(run.forwards),
            seconds=round(time.perf_counter() - began, 3),
            cancelled=run.cancelled or len(z) < len(record.prompts),
        )  # fmt: skip
        return Result(np.concatenate(shown), z, record, self.pair.fps)

    def record(self, prompts: Texts, **call: Any) -> Record:
        """What `self(prompts, **call)` would record, found without sampling. ValueError for a call that cannot be."""
        return self._job(prompts, **call).record

    def _job(
        self, prompts: Texts, *, negative_prompt: Texts | None = None, image_negative_prompt: Texts | None = None,
        seed: int | Sequence[int] = 0, frames: int | None = None, height: int | None = None, width: int | None = None,
        video: np.ndarray | StrPath | None = None, strength: float | None = None, source_prompt: Texts | None = None,
        raw_prompts: bool = False, latents: Tensor | np.ndarray | None = None, sampling: Sampling | None = None,
        vae_tile: int | None = None, image_frames: int | None = None, batch_size: int | Literal["auto"] = "auto",
        place: int | None = None, **options: Any,
    ) -> Job:  # fmt: skip
        pair, prompts = self.pair, read_prompts(prompts)
        b = len(prompts)
        seeds = read_seeds(seed, b)
        vae_tile = None if vae_tile is None else whole("vae_tile", vae_tile, 1)
        if not isinstance(raw_prompts, bool):
            raise ValueError(f"raw_prompts is {raw_prompts!r}: expected True or False, whether all brackets are text")
        image_frames = None if image_frames is None else whole("image_frames", image_frames, 1)
        if batch_size != "auto":
            batch_size = whole("batch_size", batch_size, 1, otherwise=", or \"auto\"")
        if sampling is not None and options:
            raise ValueError(f"give either sampling or the options {', '.join(options)}, not both")
        if sampling is not None and not isinstance(sampling, Sampling):
            raise ValueError(f"sampling is {short(sampling)}: expected a Sampling, or its options alone")
        sampling = sampling or read_sampling(pair.defaults, options, KEYWORDS)

        own = pair.frames, pair.height, pair.width
        if isinstance(video, np.ndarray):
            own = check_video(video, b, frames, height, width)
        frames, height, width = read_sizes(own, frames, height, width)
        shape = pair.latent_shape(frames, height, width)
        latents = None if latents is None else read_noise(latents, (b, *shape))
        if video is None and (strength is not None or source_prompt is not None):
            name = "strength" if strength is not None else "source_prompt"
            raise ValueError(f"{name} says how to begin from a video: give one (video, --init), or leave it out")

        load = Load(b, frames, height, width, vae_tile, image_frames, sampling.models)
        size = choose_batch(pair, load) if batch_size == "auto" else min(batch_size, b)
        if place is not None:
            if b > 1 or batch_size == "auto":
                raise ValueError(f"place={place!r}: expected one prompt and its batch_size, got {b} and {batch_size}")
            size, place = batch_size, whole("place", place, 0, batch_size - 1)
        check_fits(pair, replace(load, clips=size))
        negatives = one_each("negative_prompt", negative_prompt, b, pair.defaults["negative_prompt"])
        image_negatives = one_each("image_negative_prompt", image_negative_prompt, b, negatives)
        sources = None if source_prompt is None else one_each("source_prompt", source_prompt, b, prompts)
        for side, others in ((pair.image, image_negatives), (pair.video, negatives)):
            read_words(side.tokenizer, [*prompts, *others, *(sources or ())], raw_prompts)  # before the first batch
        for name, value in (("image_negative_prompt", image_negative_prompt), ("image_frames", image_frames)):
            if value is not None and "image" not in sampling.models:
                message = f"{name} has no effect: sampler {sampling.name!r} runs the video model alone"
                warnings.warn(message, stacklevel=3)

        schedules = sampling.schedules(pair.image.schedule, pair.video.schedule)
        schedule = schedules[sampling.lead == "video"]
        sigmas = sampling.grid(schedule)
        lead = pair.sides[sampling.lead == "video"]
        if sigmas[0] > lead.network(schedule).reach[1]:
            raise ValueError(
                f"the {lead.name} model predicts epsilon, which says nothing where this run begins, at zero terminal "
                f"SNR: expected spacing 'leading', which begins below, or {lead.name}_prediction 'v' (Swaps; "
                f"--{lead.name}-prediction) for a model that was trained so"
            )
        unread = [side.network(k)(None) for side, k in zip(pair.sides, schedules, strict=True)]
        image, other = (Guided(atom, atom) for atom in unread)  # no prompt read yet: the legs know none
        _, legs = sampling.plan(image, other, sigmas)
        climb: list[Leg] = []
        given: Given | None = None
        clip: np.ndarray | None = None
        if video is not None:
            strength = STRENGTH if strength is None else read_strength(strength)
            if any(leg.keep for leg in legs):
                raise ValueError(f"sampler {sampling.name!r} begins again from noise: it cannot start from a video")
            legs = tail(legs, strength)
            clip, given = read_video(video, frames, height, width, pair.fps)
            if sources is not None:
                climb = ascent(schedule, legs, sampling.lead)
        noise: Given | None = None
        if latents is not None:
            noise = {"path": None, "sha256": digest(latents.detach().float().cpu().contiguous().numpy())}
        record = Record(
            ivmix=__version__,
            torch=torch.__version__,
            pair=pair.source,
            swaps=pair.swaps.to_dict(),
            models={side.name: side.run_as for side in pair.sides},
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
            batch_sizes=[size if place is not None else min(size, b - k // size * size) for k in range(b)],
            batch_places=[k % size if place is None else place for k in range(b)],
            video=given,
            strength=strength,
            source_prompts=sources,
            raw_prompts=raw_prompts,
            latents=noise,
            sampling=sampling.to_dict(),
            device=str(pair.device),
            dtype=dtype_name(pair.dtype),
            nfe={},
            forwards={},
            seconds=0.0,
        )
        return Job(sampling, schedules, sigmas, climb, legs, clip, latents, record)

    @torch.no_grad()
    def _sample(self, job: Job, rows: list[int], callback: Callback) -> tuple[Run, Tensor]:
        """Plays one batch: the run, and its last state as latents z (b c f h w)."""
        pair, record = self.pair, job.record
        prompts, seeds = pick(record.prompts, rows), pick(record.seeds, rows)
        shape = pair.latent_shape(record.frames, record.height, record.width)
        negatives = pick(record.image_negative_prompts, rows), pick(record.negative_prompts, rows)
        image, video = (
            self._guided(side, schedule, record, prompts, negative)
            for side, schedule, negative in zip(pair.sides, job.schedules, negatives, strict=True)
        )
        fields, _ = job.sampling.plan(image, video, job.sigmas)
        lead, schedule, source = job.lead, job.schedules[job.lead], job.legs[0].source
        z = initial_noise(seeds, shape) if job.noise is None else job.noise[rows]
        z = z.to(pair.device, torch.promote_types(pair.dtype, torch.float32))
        up: Run | None = None
        if job.video is None:
            x = schedule.start(z, source)
        else:
            clip = job.video if len(job.video) == 1 else job.video[rows]
            x0 = self._encode(job, clip).to(z.dtype).expand_as(z)
            if record.source_prompts is None:
                x = noised(x0, source, z)
            else:
                side, negative = pair.sides[lead], negatives[lead]
                field = {side.name: self._guided(side, schedule, record, pick(record.source_prompts, rows), negative)}
                up = integrate(field, job.climb, x0, callback=lambda step, _, run: callback(step, job.steps, run))
                x = up.x
        if up is not None and up.cancelled:
            return up, schedule.alpha_at(up.at) * up.x
        begun = len(job.climb)
        run = integrate(
            fields, job.legs, x, noise=normal_noise(seeds, shape), schedule=schedule,
            callback=lambda step, _, run: callback(begun + step, job.steps, after(up, run)),
        )  # fmt: skip
        return after(up, run), run.x if run.at == 0 else schedule.alpha_at(run.at) * run.x

    def _encode(self, job: Job, clip: np.ndarray) -> Tensor:
        """Frames (b f h w c) uint8 -> latents (b c f h w)."""
        pair = self.pair
        pixels = torch.from_numpy(clip).to(pair.device).permute(0, 4, 1, 2, 3).to(pair.dtype) / 127.5 - 1
        return pair.vae.encode(pixels, frames_per_batch=job.at_once, tile=job.record.vae_tile)

    @torch.no_grad()
    def _decode(self, job: Job, z: Tensor) -> np.ndarray:
        """Latents (b c f h w) -> frames (b f h w c) uint8."""
        pair = self.pair
        video = pair.vae.decode(z.to(pair.dtype), frames_per_batch=job.at_once, tile=job.record.vae_tile)
        return to_frames(video.float())

    @staticmethod
    def _guided(
        side: Side, schedule: Schedule, record: Record, prompts: Sequence[str], negatives: Sequence[str]
    ) -> Guided:
        """One model under these prompts."""
        network = side.network(schedule, record.image_frames)
        negative, positive = (side.condition(texts, record.raw_prompts) for texts in (negatives, prompts))
        return Guided(network(negative), network(positive))

    def _blame(self, error: NotFiniteError) -> NotFiniteError:
        """The error, or one that names the weights that are to blame."""
        for side in self.pair.sides:
            for part, network in (("UNet", side.unet), ("text encoder", side.text_encoder)):
                if side.name in error.networks and (key := first_not_finite(network)):
                    message = f"the {side.name} model's {part} holds NaN or infinite weights, first in {key}"
                    return NotFiniteError(f"{message}: is the file whole, or {self.pair.dtype} too narrow for it?",
                                          error.step, error.networks)  # fmt: skip
        return error

    def _announce(self, job: Job) -> None:
        """Says where a run that is to mix does not, or a model has no part in it, or is not what it is taken for."""
        if "video" in job.sampling.models and self.pair.video.unet.config.temporal is None:
            warnings.warn("the video model has no temporal layers: its frames know nothing of each other", stacklevel=3)
        name, n = job.sampling.name, job.sampling.steps
        levels = {leg.step: leg.source for leg in job.legs if leg.label == "step"}
        if name == "zigzag" and all(leg.label == "step" for leg in job.legs):
            message = f"none of {len(levels)} steps mixes, as the first or last ones of a zigzag never do: take more"
            warnings.warn(message, stacklevel=3)
            return
        begin, end = getattr(job.sampling, "interval", (0.0, 1.0))
        if (begin, end) != (0.0, 1.0) and not any(inside(progress(i, n), (begin, end)) for i in levels):
            message = f"none of {len(levels)} steps begins in the interval {begin:g}:{end:g}: none mixes"
            warnings.warn(message, stacklevel=3)
        low, high = self.pair.image.network().reach
        outside = sum(not within(level, low, high) for level in levels.values())
        if outside and name in ("zigzag", "composite", "mixture"):
            warnings.warn(
                f"{outside} of {len(levels)} levels are out of the image model's range [{low:g}, {high:g}]: "
                "those steps are the video model's alone",
                stacklevel=3,
            )


# What a call takes beside the options of a sampler.
KEYWORDS = tuple(signature(TextToVideo.__call__).parameters)[2:-1]


def ascent(schedule: Schedule, legs: Sequence[Leg], network: str) -> list[Leg]:
    """Unguided, from clean latents to where `legs` begin, in as many steps: even ones of log sigma, so that a solver of
    second order in it does."""
    low, high, n = schedule.sigma_min, legs[0].source, len({leg.step for leg in legs})
    if not low < high < float("inf"):
        raise ValueError(f"source_prompt: no video can be inverted from level {low:g} to {high:g}; take less strength")
    levels = torch.logspace(0, 1, n + 1, base=high / low, dtype=torch.float64) * low
    levels[-1] = high
    return plain(levels, 1.0, DPMSolverPP2M(), network)


def pick(values: Sequence[T], rows: Sequence[int]) -> list[T]:
    return [values[k] for k in rows]


def after(first: Run | None, then: Run) -> Run:
    """`then`, with what `first` had cost."""
    if first is None:
        return then
    costs = [
        {name: a.get(name, 0) + b.get(name, 0) for name in {**a, **b}}
        for a, b in ((first.nfe, then.nfe), (first.forwards, then.forwards))
    ]
    return replace(then, nfe=costs[0], forwards=costs[1])
