"""Anyone's video files as the clips that networks see: one after another, never all of them in memory."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ivmix.benchmarks.rules import ClipRule
from ivmix.evaluation.extractors import Extractor
from ivmix.evaluation.preprocessing import Preprocessing
from ivmix.media import Frames, count_frames, read_frames
from ivmix.media.files import StrPath
from ivmix.models.quoting import short
from ivmix.typed import whole

SHOWN = 3  # names in an error


def read_ruled(path: StrPath, rule: ClipRule, key: str) -> Frames:
    """The frames `f h w c` that a rule takes of a file; `key`, such as the clip's id, decides on a random place.

    They are those of `ivmix.media.read_clip`, but no others are held, however long the file. Where the place depends on
    how many frames there are, they are counted by decoding all: what a header says may be wrong. Raises what
    `read_clip` raises, and ValueError for a file of fewer frames than the rule needs.
    """
    if rule.frames is None:
        return read_frames(path, range(0, sys.maxsize, rule.stride))
    count = rule.span if rule.start == "first" else count_frames(path)
    frames = read_frames(path, rule.window(count, key)) if count >= rule.span else ()
    if len(frames) < rule.frames:
        needed = f"{rule.span} are needed" + (f", {rule.frames} each {rule.stride} apart" if rule.stride > 1 else "")
        raise ValueError(f"{str(path)!r} has {count_frames(path)} frames: {needed}")
    return np.asarray(frames)


@dataclass(frozen=True)
class VideoSet:
    """Files of clips, in order: what each shows (`ids`), which sample of that it is (from 1), where it lies.

    A file is whatever `ivmix.media.read_clip` reads, a folder of pictures too. ValueError for no files, lists of
    unequal length or a sample of an id that occurs twice; FileNotFoundError for files that are not there.
    """

    label: str
    ids: tuple[str, ...]
    samples: tuple[int, ...]
    paths: tuple[Path, ...]
    rule: ClipRule

    def __post_init__(self) -> None:
        counts = len(self.ids), len(self.samples), len(self.paths)
        if len({*counts}) > 1 or not self.paths:
            raise ValueError("{}: {} ids, {} samples, {} paths: expected as many".format(self.label, *counts))
        (most, times), *_ = Counter(zip(self.ids, self.samples, strict=True)).most_common(1)
        if times > 1:
            twice = [path for path, *key in zip(self.paths, self.ids, self.samples, strict=True) if tuple(key) == most]
            raise ValueError(f"{self.label}: {times} files are sample {most[1]} of {short(most[0])}: {_named(twice)}")
        if missing := [path for path in self.paths if not path.exists()]:
            raise FileNotFoundError(
                f"{self.label}: {len(missing)} of {len(self)} videos are not there: {_named(missing)}"
            )

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def of_pattern(cls, folder: Path | str, pattern: str, rule: ClipRule) -> Self:
        """The files below `folder` that match, such as "*/v_*.avi", by name; ids are their paths without suffix.

        Hidden ones are left out. FileNotFoundError or NotADirectoryError for the folder; ValueError for a pattern that
        leaves it or that nothing matches, with what there is.
        """
        folder = Path(folder)
        if not folder.exists():
            raise FileNotFoundError(f"{str(folder)!r} is not there: expected a folder of videos")
        if not folder.is_dir():
            raise NotADirectoryError(f"{str(folder)!r} is not a folder: expected one of videos")
        if not pattern or pattern.startswith("/") or ".." in pattern.split("/"):
            raise ValueError(f"pattern {short(pattern)}: expected one below the folder, such as '*/v_*.avi'")
        found = sorted(
            (path.relative_to(folder).as_posix(), path)
            for path in folder.glob(pattern) if not path.name.startswith(".")
        )  # fmt: skip
        if not found:
            raise ValueError(f"no video {short(pattern)} in {str(folder)!r}: it holds {_content(folder)}")
        paths = tuple(path for _, path in found)
        ids = tuple(name if path.is_dir() else name.removesuffix(path.suffix) for name, path in found)
        return cls(str(folder), ids, (1,) * len(ids), paths, rule)

    def part(self, start: int, stop: int) -> Self:
        """The files from `start` to before `stop`. ValueError if there are none."""
        rows = slice(start, stop)
        return replace(self, ids=self.ids[rows], samples=self.samples[rows], paths=self.paths[rows])

    @property
    def stamps(self) -> tuple[tuple[str, int, int], ...]:
        """Name, bytes and time of change (ns) of each file, so that features know of which files they are; of a folder
        of pictures the bytes of all and the latest time."""
        return tuple(_stamp(path) for path in self.paths)

    def batches(self, size: int, shown: Preprocessing) -> Iterator[Frames]:
        """Clips `b f h w c` in order, at most `size` at once: fewer where the next clip has another shape.

        They are for extractors that show their network what `shown` says: where the rule takes all frames, they have
        those of them alone that it chooses (to which it chooses the same again). Where `shown` too takes all, all clips
        must have as many: ValueError naming two that have not, for too few frames, and as `read_ruled`.
        """
        whole("size", size, 1)
        held: list[Frames] = []
        first = 0
        for path, id, sample in zip(self.paths, self.ids, self.samples, strict=True):
            clip = _clip(path, self.rule, f"{id} {sample}", shown)
            first = first or len(clip)
            if shown.frames is None and len(clip) != first:
                raise ValueError(
                    f"{str(self.paths[0])!r} has {first} frames and {str(path)!r} {len(clip)}, and all are taken: "
                    "expected as many of each, or a rule that says how many"
                )
            if held and (len(held) == size or clip.shape != held[0].shape):
                yield _stacked(held)
            held.append(clip)
        yield _stacked(held)


def features_of(videos: VideoSet, extractor: Extractor, size: int = 1) -> Tensor:
    """Features (n, d) float32 of all clips, `size` of them in memory at once.

    Rows go into one tensor made beforehand. Kept one by one they would lie scattered between the frames of their time,
    whose memory then cannot be given back or used again: 0.7 MB a clip of 16 frames of 320x240, as measured.
    """
    out = torch.empty(0)
    done = 0
    for clips in videos.batches(size, extractor.extraction.preprocessing):
        rows = extractor(clips)
        if not done:
            out = torch.empty(len(videos), rows.shape[1])
        out[done : done + len(rows)] = rows
        done += len(rows)
    return out


def _stacked(held: list[Frames]) -> Frames:
    """A batch of clips, which are let go: whoever has the batch works long, and they would be there twice."""
    batch = np.stack(held)
    held.clear()
    return batch


def _clip(path: Path, rule: ClipRule, key: str, shown: Preprocessing) -> Frames:
    """What `shown` chooses of a file's frames, or what it chooses from."""
    if rule.frames is not None or shown.frames is None:
        clip = read_ruled(path, rule, key)
        _chosen(path, len(clip), shown)
        return clip
    there = range(0, count_frames(path), rule.stride)
    return read_frames(path, [there[k] for k in sorted({*_chosen(path, len(there), shown)})])


def _chosen(path: Path, count: int, shown: Preprocessing) -> list[int]:
    """Of `count` frames of a file. ValueError naming it for too few."""
    try:
        return shown.indices(count)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from None


def _stamp(path: Path) -> tuple[str, int, int]:
    stats = [one.stat() for one in ((path, *path.iterdir()) if path.is_dir() else (path,))]
    return path.name, sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)


def _content(folder: Path) -> str:
    """What a folder holds, in words."""
    inside = sorted(folder.iterdir())
    folders = sum(path.is_dir() for path in inside)
    if not inside:
        return "nothing"
    return f"{folders} folders and {len(inside) - folders} files, {_named([Path(path.name) for path in inside])}"


def _named(paths: Sequence[Path]) -> str:
    names = [short(str(path), 300) for path in paths[:SHOWN]]
    return ", ".join(names) + (", …" if len(paths) > SHOWN else "")
