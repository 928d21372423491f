"""Prompts to videos: the whole way from text to frames, over any pair and any sampler."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Concatenate, ParamSpec, TypeVar

import torch

from ivmix.generation.announcements import announcements
from ivmix.generation.drawing import draw
from ivmix.generation.job import Job, make_job
from ivmix.generation.record import Record
from ivmix.generation.result import Result
from ivmix.models.compile import Mode
from ivmix.pairs.pair import Pair, load_pair
from ivmix.pairs.swaps import Swaps

P = ParamSpec("P")
R = TypeVar("R")


def called_by(
    make: Callable[Concatenate[Pair, P], Job],
) -> Callable[[Callable[["TextToVideo", Job], R]], Callable[Concatenate["TextToVideo", P], R]]:
    """A method of a job becomes one of the call that makes the job: what that takes is declared by `make` alone, and
    is what `help`, editors and type checkers show of the method."""

    def of_call(method: Callable[["TextToVideo", Job], R]) -> Callable[Concatenate["TextToVideo", P], R]:
        this, _ = signature(method).parameters.values()
        _, *taken = signature(make).parameters.values()
        shown = signature(method).replace(parameters=[this, *taken])

        @wraps(method)
        def called(self: "TextToVideo", /, *arguments: P.args, **named: P.kwargs) -> R:
            try:
                shown.bind(self, *arguments, **named)
            except TypeError as error:  # as Python says it, of this method instead of `make`
                raise TypeError(f"{method.__qualname__}(): {error}") from None
            job = make(self.pair, *arguments, **named)
            for note in job.notes:
                warnings.warn(note, stacklevel=2)
            return method(self, job)

        called.__signature__ = shown  # type: ignore[attr-defined]
        return called

    return of_call


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
        offload: bool = False,
    ) -> "TextToVideo":
        """Loads a pair by name, or any folder with a pair.json; see `ivmix.pairs.pair.load_pair`."""
        try:
            return cls(load_pair(name_or_folder, device, dtype, swaps, compile, commits, offload))
        except (MemoryError, RuntimeError) as error:
            error.add_note(f"loading pair {str(name_or_folder)!r}")
            raise

    def to(
        self, device: torch.device | torch.dtype | str | None = None, dtype: torch.dtype | str | None = None
    ) -> "TextToVideo":
        """Moves every network, in place, and returns this model; a dtype may stand first. ValueError for a device that
        cannot be had, and where weights are offloaded."""
        self.pair = self.pair.to(device, dtype)
        return self

    def read_ahead(self, prompts: Sequence[str], raw_prompts: bool = False) -> None:
        """Has text encoders that do not stay in memory (`release_text_encoders`) read the prompts of calls to come, and
        the pair's negative one, so that their files are read once for all; others read prompts call by call."""
        texts = [*prompts, self.pair.defaults["negative_prompt"]] if prompts else []
        self.pair.read_ahead({side.name: texts for side in self.pair.sides}, raw_prompts)

    def release_text_encoders(self) -> None:
        """Frees the memory of the text encoders; from here on they are in it only while there is a new prompt to read,
        and read from their files then.

        Prompts are read one by one from here on, which may change last bits where several clips run together.
        """
        self.pair.release_text_encoders()

    @called_by(make_job)
    def __call__(self, job: Job) -> Result:
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

        More `frames` than the video model knows positions for are drawn by windows of `window` frames, by default the
        pair's own length, each sharing `overlap` of them with the next, by default half, and averaged there
        (`ivmix.solvers.windowed`); so are fewer where `window` is given. A warning says what that costs. `space_window`
        is the same over squares of so many pixels a side, for both models, and never by default. `noise` "freenoise"
        begins all windows from the noise of the first, in another order (arXiv 2310.15169); "white" is the default.

        `vae_tile` decodes frames in overlapping squares of that many latents a side, which bounds memory and gives
        nearly the same picture (`VAE.decode`). `image_frames` is how many frames the image model, which knows each
        alone, has at a time: less memory, the same picture to a rounding. `batch_size` clips run together, "auto" as
        many as `choose_batch` in `memory.py` says; that, and a clip's place among them, decides its last bits. To have
        those of a record again, `place` draws one clip there in a batch of copies of it.

        `callback(step, total, run)` follows every step of a batch: returning False stops there, and the result, marked
        as cancelled, is what the state shows then of the clips begun so far. `preview.py` shows a run's x0.
        ValueError for anything that cannot be, before sampling.
        """
        for text in announcements(job):
            warnings.warn(text, stacklevel=3)
        return draw(job)

    @called_by(make_job)
    def record(self, job: Job) -> Record:
        """What `self(prompts, …)` would record, found without sampling. ValueError for a call that cannot be."""
        return job.record
