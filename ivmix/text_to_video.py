"""Prompts to videos: the whole way from text to frames, over any pair and any sampler."""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ivmix._version import __version__
from ivmix.description import Swaps
from ivmix.media import to_frames
from ivmix.models.compile import Mode
from ivmix.models.prompts import read_prompts
from ivmix.pair import Pair, Side, load_pair
from ivmix.progress import progress_bar
from ivmix.sampling import Sampling
from ivmix.sampling import sampling as read_sampling
from ivmix.solvers import Guided, Leg, Run, Schedule, initial_noise, integrate, normal_noise

PIXELS = 2**20  # decoded at a time: four frames of 512x512


@dataclass(frozen=True)
class Record:
    """All that reproduces a result, and what it cost. `seeds` has one entry a prompt, `pair` is a name or a folder,
    `swaps` what was put in place of its models."""

    ivmix: str
    torch: str
    pair: str
    swaps: dict[str, Any]
    compile: str
    prompts: list[str]
    negative_prompt: str
    image_negative_prompt: str
    seeds: list[int]
    frames: int
    height: int
    width: int
    vae_tile: int | None
    sampling: dict[str, Any]
    device: str
    dtype: str
    nfe: dict[str, int]
    forwards: dict[str, int]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Result:
    """`frames` (b f h w c) uint8, `latents` (b c f h w), and the record of how they were made."""

    frames: np.ndarray
    latents: Tensor
    record: Record


class TextToVideo:
    """A loaded pair, ready to sample.

    >>> from ivmix import TextToVideo
    >>> model = TextToVideo.from_pair("sprites")                                        # doctest: +SKIP
    >>> result = model("a red circle moving left", sampler="composite", steps=10)       # doctest: +SKIP
    >>> result.frames.shape                                                             # doctest: +SKIP
    (1, 8, 64, 64, 3)
    """

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    @classmethod
    def from_pair(
        cls,
        name_or_folder: str = "sprites",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        swaps: Swaps = Swaps(),  # noqa: B008 - immutable
        compile: Mode = "off",
    ) -> "TextToVideo":
        """Loads a pair by name, or any folder with a pair.json; see `ivmix.pair.load_pair`."""
        return cls(load_pair(name_or_folder, device, dtype, swaps, compile))

    @torch.no_grad()
    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        negative_prompt: str | None = None,
        image_negative_prompt: str | None = None,
        seed: int | Sequence[int] = 0,
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        sampling: Sampling | None = None,
        vae_tile: int | None = None,
        batch_size: int = 8,
        progress: bool = False,
        callback: Callable[[int, int, Run], object] | None = None,
        **options: Any,
    ) -> Result:
        """One clip a prompt. Sample k starts from noise of seed + k, or of `seed[k]`, whatever the batch it runs in.

        Prompts may hold weights, "a (red:1.3) circle" (`ivmix.models.prompts`); what is too long loses its end, and a
        warning says so.

        `negative_prompt` goes to both models, `image_negative_prompt` overrides it for the image model; defaults are
        the pair's. What to run is either `sampling` or its `options` (sampler, steps, solver, guidance, …), whose
        defaults are again the pair's. `vae_tile` decodes frames in overlapping squares of that many latents a side,
        which bounds memory and gives nearly the same picture (`VAE.decode`). `batch_size` clips run together;
        `callback(step, total, run)` follows every step and may raise to stop. Raises ValueError for prompts, sizes or
        options that cannot be, before sampling.
        """
        pair, began = self.pair, time.perf_counter()
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        check_prompts(prompts)
        seeds = [seed + k for k in range(len(prompts))] if isinstance(seed, int) else list(seed)
        if len(seeds) != len(prompts):
            raise ValueError(
                f"seed has {len(seeds)} entries for {len(prompts)} prompts: give one a prompt, or one number"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: expected 1 or more")
        if vae_tile is not None and vae_tile < 1:
            raise ValueError(f"vae_tile={vae_tile}: expected a number of latents, 1 or more")
        if sampling is not None and options:
            raise ValueError(f"give either sampling or the options {', '.join(options)}, not both")
        sampling = sampling or read_sampling(pair.defaults, options)
        frames = pair.frames if frames is None else frames
        height = pair.height if height is None else height
        width = pair.width if width is None else width
        shape = pair.latent_shape(frames, height, width)
        negative = pair.defaults["negative_prompt"] if negative_prompt is None else negative_prompt
        image_negative = negative if image_negative_prompt is None else image_negative_prompt
        for side, other in ((pair.image, image_negative), (pair.video, negative)):
            read_prompts(side.tokenizer, [*prompts, other])  # what cannot be read is found before the first batch

        image_schedule, video_schedule = sampling.schedules(pair.image.schedule, pair.video.schedule)
        schedule = image_schedule if sampling.lead == "image" else video_schedule
        sigmas = sampling.grid(schedule)
        batches = [slice(i, i + batch_size) for i in range(0, len(prompts), batch_size)]
        latents, nfe, forwards = list[Tensor](), dict[str, int](), dict[str, int]()
        with progress_bar(len(batches) * sampling.outer_steps, progress, desc=sampling.name) as bar:

            def on_step(step: int, total: int, run: Run) -> None:
                bar.set_postfix_str(" + ".join(f"{v} {k}" for k, v in run.nfe.items()) + " evaluations", refresh=False)
                bar.update()
                if callback is not None:
                    callback(step, total, run)

            for rows in batches:
                image = self._guided(pair.image, image_schedule, prompts[rows], image_negative)
                video = self._guided(pair.video, video_schedule, prompts[rows], negative)
                fields, legs = sampling.plan(image, video, sigmas)
                if not latents:
                    self._announce(sampling, sigmas, legs)
                z = initial_noise(seeds[rows], shape).to(torch.promote_types(pair.dtype, torch.float32))
                x = schedule.start(z, legs[0].source).to(pair.device)
                noise, end = normal_noise(seeds[rows], shape), legs[-1].target
                run = integrate(fields, legs, x, noise=noise, schedule=schedule, callback=on_step)
                latents.append(run.x if end == 0 else schedule.alpha_at(end) * run.x)
                nfe = dict(run.nfe)  # the same for every batch: evaluations are counted per clip
                forwards = dict(run.forwards)
        z = torch.cat(latents)
        at_once = max(1, PIXELS // (height * width))
        decoded = pair.vae.decode(z.to(pair.dtype), frames_per_batch=at_once, tile=vae_tile)
        video_frames = to_frames(decoded.float())
        record = Record(
            __version__, torch.__version__, pair.source, pair.swaps.to_dict(), pair.compile, prompts, negative,
            image_negative, seeds, frames, height, width, vae_tile, sampling.to_dict(), str(pair.device),
            str(pair.dtype).removeprefix("torch."), nfe, forwards, round(time.perf_counter() - began, 3),
        )  # fmt: skip
        return Result(video_frames, z, record)

    @staticmethod
    def _guided(side: Side, schedule: Schedule, prompts: Sequence[str], negative: str) -> Guided:
        """One model under these prompts."""
        network = side.network(schedule)
        return Guided(network(side.condition([negative] * len(prompts))), network(side.condition(prompts)))

    def _announce(self, sampling: Sampling, sigmas: Tensor, legs: Sequence[Leg]) -> None:
        """Says where a run that is to mix does not, or the image model has no part in one that is to mix both."""
        if sampling.name == "zigzag" and all(leg.label == "step" for leg in legs):
            message = f"none of {sampling.steps} steps mixes, as the first or last ones of a zigzag never do: take more"
            warnings.warn(message, stacklevel=4)
            return
        low, high = self.pair.image.schedule.sigma_min, self.pair.image.schedule.sigma_max
        outside = sum(not low <= float(sigma) <= high for sigma in sigmas[:-1])
        if outside and sampling.name in ("zigzag", "composite", "mixture"):
            warnings.warn(
                f"{outside} of {len(sigmas) - 1} levels are out of the image model's range [{low:g}, {high:g}]: "
                "those steps are the video model's alone",
                stacklevel=4,
            )


def check_prompts(prompts: Sequence[str]) -> None:
    """Raises ValueError for no prompt, an empty one, or one that is not text or holds control characters."""
    if not prompts:
        raise ValueError("prompts: got none, expected at least one")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise ValueError(f"prompt {prompt!r}: expected text, got {type(prompt).__name__}")
        if not prompt.strip():
            raise ValueError("the prompt is empty: describe the clip, such as 'a red circle moving left'")
        if not prompt.isprintable():
            bad = next(c for c in prompt if not c.isprintable())
            raise ValueError(f"the prompt has the control character {bad!r}: remove it")
