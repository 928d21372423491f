"""Anyone's video files as the clips that networks see: one after another, never all of them in memory."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from ivmix.benchmarks.plan import Batch
from ivmix.benchmarks.rules import ClipRule
from ivmix.evaluation.preprocessing import Preprocessing
from ivmix.media import Frames, count_frames, read_frames
from ivmix.media.files import StrPath
from ivmix.models.quoting import short

FORMAT = 1  # of what settings say
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
class Files:
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
    def of_pattern(cls, label: str, folder: Path | str, pattern: str, rule: ClipRule) -> Self:
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
        return cls(label, ids, (1,) * len(ids), paths, rule)

    @cached_property
    def _places(self) -> dict[tuple[str, int], Path]:
        return dict(zip(zip(self.ids, self.samples, strict=True), self.paths, strict=True))

    def settings(self, batch: Batch) -> dict[str, Any]:
        """What decides the clips of a batch, ready for JSON: a file that has changed is another."""
        rule = [self.rule.frames, self.rule.stride, self.rule.start]
        stamps = [list(_stamp(self._places[id, batch.sample])) for id in batch.ids]
        return {"format": FORMAT, "ids": batch.ids, "sample": batch.sample, "captions": batch.captions, "rule": rule,
                "files": stamps}  # fmt: skip

    def frames(self, batch: Batch, shown: Preprocessing | None = None) -> Iterator[Frames]:
        """The clips (f h w c) of a batch, each read when it is asked for.

        Where a network alone sees them and the rule takes all frames, they have those of them alone that are `shown` to
        it, and are chosen again of these. ValueError for too few frames, and as `read_ruled`.
        """
        for id in batch.ids:
            yield _clip(self._places[id, batch.sample], self.rule, f"{id} {batch.sample}", shown)


def _clip(path: Path, rule: ClipRule, key: str, shown: Preprocessing | None) -> Frames:
    """What `shown` chooses of a file's frames, or what it chooses from."""
    if shown is None or rule.frames is not None or shown.frames is None:
        clip = read_ruled(path, rule, key)
        if shown is not None:
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
