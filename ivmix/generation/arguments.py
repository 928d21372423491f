"""What a call of `TextToVideo` may be given: read into one form, or refused in one line that names the argument."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from ivmix.generation.record import Input, NoiseKind
from ivmix.media import fit, read_clip
from ivmix.media.files import StrPath
from ivmix.models.text.prompts import clean
from ivmix.typed import short, whole

Texts = str | Sequence[str]


def read_prompts(prompts: Texts) -> list[str]:
    """One text, or a list of them. ValueError for anything else."""
    if not isinstance(prompts, str | Iterable):
        raise ValueError(f"prompts is {short(prompts)}: expected text, or a list of texts")
    found = [read_prompt(prompt) for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
    if not found:
        raise ValueError("prompts: got none, expected at least one")
    return found


def read_prompt(prompt: str) -> str:
    """A prompt as `clean` makes it. ValueError for an empty one, or one that is no text or holds control characters."""
    if not isinstance(prompt, str):
        raise ValueError(f"prompt {short(prompt)}: expected text, got {type(prompt).__name__}")
    if not (text := clean(prompt)):
        raise ValueError("the prompt is empty: describe the clip, such as 'a red circle moving left'")
    return text


def read_texts(name: str, given: Texts | None, count: int, default: Texts) -> list[str]:
    """`count` texts, cleaned, from one for all or one each. ValueError for another number of them."""
    texts = default if given is None else given
    texts = list(texts) if isinstance(texts, Iterable) and not isinstance(texts, str) else [texts] * count
    if len(texts) != count or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} is {short(texts)}: expected one text, or {count}, one a prompt")
    return [clean(text, name) for text in texts]


def read_seeds(seed: int | Sequence[int], count: int) -> list[int]:
    """`count` seeds from the first or all of them. ValueError for anything but whole numbers in [0, 2**63)."""
    if isinstance(seed, str) or not hasattr(seed, "__len__"):
        first = whole("seed", seed, 0)
        seeds = [first + k for k in range(count)]
    else:
        seeds = [whole("seed", one, 0) for one in seed]  # type: ignore[union-attr]
    if len(seeds) != count:
        raise ValueError(f"seed has {len(seeds)} entries for {count} prompts: give one a prompt, or one number")
    if max(seeds) >= 2**63:
        raise ValueError(f"seed={max(seeds)}: expected a whole number below 2**63")
    return seeds


def read_strength(strength: float) -> float:
    """ValueError for anything but a share above 0, at most 1."""
    if not isinstance(strength, Real) or isinstance(strength, bool) or not 0 < strength <= 1:
        raise ValueError(f"strength={strength!r}: expected a share of the steps, above 0 and at most 1, such as 0.3")
    return float(strength)


def read_sizes(
    own: tuple[int, int, int], frames: int | None, height: int | None, width: int | None
) -> tuple[int, int, int]:
    """Frames, height and width, from `own` where they are not given. ValueError for anything but whole numbers."""
    given = zip(("frames", "height", "width"), (frames, height, width), own, strict=True)
    f, h, w = (default if size is None else whole(name, size, 1) for name, size, default in given)
    return f, h, w


def read_noise(latents: Tensor | np.ndarray, shape: tuple[int, ...]) -> tuple[Tensor, list[str]]:
    """Noise of that shape, and in words what is odd about it. ValueError for another shape."""
    noise = torch.as_tensor(latents)
    if tuple(noise.shape) != shape or not noise.is_floating_point():
        raise ValueError(f"latents is {noise.dtype} of shape {tuple(noise.shape)}: expected unit normals {shape}")
    deviation = float(noise.std())
    odd = [] if 0.5 < deviation < 2 else [f"latents has a deviation of {deviation:.3g}: expected unit normals"]
    return noise, odd


def check_noise_kind(noise: NoiseKind, given: bool) -> None:
    """ValueError for a kind of noise that there is not, or for another than white where the noise is `given`."""
    if noise not in get_args(NoiseKind):
        raise ValueError(f"noise {short(noise)}: expected one of {', '.join(get_args(NoiseKind))}")
    if noise != "white" and given:
        raise ValueError(f"noise={noise!r} beside latents, which are the noise to begin from: leave one out")


def check_video(
    video: np.ndarray, count: int, frames: int | None, height: int | None, width: int | None
) -> tuple[int, int, int]:
    """Frames, height and width of an array. ValueError for one that is no clip, or holds neither one for all nor one of
    each of `count` prompts, or is not of the sizes asked for."""
    fine = video.ndim == 4 or (video.ndim == 5 and len(video) in (1, count))
    if video.dtype != np.uint8 or not fine or video.shape[-1] != 3 or 0 in video.shape:
        raise ValueError(
            f"video is {tuple(video.shape)} of {video.dtype}: expected uint8 frames (f, h, w, 3), or "
            f"({count}, f, h, w, 3), one clip a prompt"
        )
    f, h, w = video.shape[-4:-1]
    asked = read_sizes((f, h, w), frames, height, width)
    if asked != (f, h, w):
        raise ValueError(
            f"video is {tuple(video.shape)}, but {asked[0]} frames of {asked[1]}x{asked[2]} are asked for: leave the "
            "sizes out, or fit the video to them (ivmix.media.fit)"
        )
    return f, h, w


def read_video(
    video: np.ndarray | StrPath, frames: int, height: int, width: int, fps: float
) -> tuple[np.ndarray, Input, list[str]]:
    """A clip (b f h w c) of these sizes, what the record says of it, and in words what was done to a file's frames, a
    rate that is not `fps` among it."""
    if isinstance(video, np.ndarray):
        return video if video.ndim == 5 else video[None], {"path": None, "sha256": digest(video)}, []
    if not isinstance(video, str | PathLike):
        kind = type(video).__name__
        raise ValueError(f"video is a {kind}: expected a file, or frames (f, h, w, 3) as a uint8 NumPy array")
    path = str(Path(video).resolve())
    clip = read_clip(path, limit=frames + 1)
    fitted, changes = fit(clip.frames, frames, height, width)
    if clip.fps is not None and not math.isclose(clip.fps, fps, rel_tol=0.02):
        changes.append(f"its {clip.fps:.3g} frames a second are taken as the pair's {fps:g}")
    said = [f"{path}: {change}" for change in changes]
    return fitted[None], {"path": path, "sha256": digest(fitted)}, said


def digest(values: np.ndarray) -> str:
    kind = f"{values.dtype} {values.shape}".encode()
    return hashlib.sha256(kind + np.ascontiguousarray(values).tobytes()).hexdigest()


