"""What a call of `TextToVideo` returns, and how it is kept."""

import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ivmix.generation.record import Record
from ivmix.media import check_fps, check_writable, write_text, write_video
from ivmix.media.files import StrPath

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """`frames` (b f h w c) uint8, `latents` (b c f h w), the record of how they were made, and the pair's `fps`.

    `result[k]` is clip k alone, with its own record; a result iterates over its clips.
    """

    frames: np.ndarray
    latents: "Tensor"
    record: Record
    fps: float

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, k: int | slice) -> "Result":
        """Clip k, from the end for k < 0, or a slice of clips. IndexError beyond them."""
        if not isinstance(k, slice):
            if not -len(self) <= k < len(self):
                raise IndexError(f"result[{k}]: it has {len(self)} clip{'s' * (len(self) != 1)}")
            k = slice(k % len(self), k % len(self) + 1)
        return Result(self.frames[k], self.latents[k], self.record.of(k), self.fps)

    def __iter__(self) -> "Iterator[Result]":
        return (self[k] for k in range(len(self)))

    def __repr__(self) -> str:
        (b, f, h, w, _), record = self.frames.shape, self.record
        stopped = ", cancelled" if record.cancelled else ""
        nfe = " + ".join(f"{count} {name}" for name, count in sorted(record.nfe.items()))
        return (
            f"Result({b} clip{'s' * (b != 1)} of {f} frames {h}x{w}, {record.sampling['sampler']}, {nfe} evaluations a "
            f"clip, {record.seconds:.1f} s{stopped})"
        )

    def save(
        self, path: StrPath, *, fps: float | None = None, upscaled: bool = True, clobber: bool = True
    ) -> list[Path]:
        """Writes every clip and, beside it, the JSON record that makes it again; returns the clips' paths.

        One clip is `path` and `path`.json; several are numbered, out-000.mp4, out-001.mp4, … The suffix decides the
        format (`ivmix.media.write_video`); `fps` is the pair's unless given, small frames are enlarged unless
        `upscaled` is False, and with `clobber` False a file that exists is an error. ValueError and OSError before
        anything is written.
        """
        fps = self.fps if fps is None else fps
        check_fps(fps)
        paths = numbered(path, len(self))
        for one in paths:
            check_outputs(one, clobber)
        if reason := self.record.lost:
            warnings.warn(f"the record cannot make the clip again: {reason}", stacklevel=2)
        for one, clip in zip(paths, self, strict=True):
            write_video(clip.frames[0], one, fps, upscaled)
            write_text(json.dumps(clip.record.to_dict(), indent=2) + "\n", record_path(one))
        return [Path(one) for one in paths]


def record_path(path: StrPath) -> Path:
    """Where the record of the clip at `path` lies: out.mp4.json beside out.mp4."""
    return Path(path).with_name(Path(path).name + ".json")


def check_outputs(path: StrPath, clobber: bool = True) -> None:
    """Raises ValueError or OSError if a clip and its record could not be written there."""
    check_writable(path, clobber=clobber)
    check_writable(record_path(path), (".json",), clobber=clobber)


def numbered(path: StrPath, count: int) -> list[str]:
    """`path` for one clip, else path-000, path-001, … before the suffix; a trailing slash stays.

    >>> numbered("out.mp4", 2), numbered("frames/", 2), numbered("out.mp4", 1)
    (['out-000.mp4', 'out-001.mp4'], ['frames-000/', 'frames-001/'], ['out.mp4'])
    """
    text = os.fspath(path)
    if count == 1:
        return [text]
    slash = "/" if text.endswith("/") else ""
    whole = Path(text)
    width = max(3, len(str(count - 1)))
    return [str(whole.with_name(f"{whole.stem}-{k:0{width}d}{whole.suffix}")) + slash for k in range(count)]
