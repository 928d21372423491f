"""Where the clips of a benchmark lie: the names that a layout gives them, and anyone's files found by it.

A layout is a path in the words of str.format, "{sample}/{id}.mp4". Its fields are {id}, {prompt} (VBench's names are
prompts), {sample}, which counts from 1, and {index}, the same from 0.
"""

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from string import Formatter
from typing import NoReturn

from ivmix.media.files import StrPath
from ivmix.models.quoting import short
from ivmix.typed import whole

Entry = tuple[str, str]  # the id of a prompt, the prompt

SUFFIXES = (".mp4", ".avi", ".webm", ".mkv", ".gif", ".mov")
"""What a video that is looked for may end in."""

LONGEST_NAME = 255  # bytes of UTF-8 that a file system takes, in each name of a path
FEW = 3  # of many faults, those that an error names

_SPECS = {"id": "", "prompt": "", "sample": "(0?[1-9])?d?", "index": "(0?[1-9])?d?"}
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of pairs, ends of lines


def check_layout(layout: str, samples: int = 1) -> None:
    """Raises ValueError for what is no layout, for one that leaves its folder, and for one that gives `samples` clips
    of a prompt one name."""

    def refuse(reason: str) -> NoReturn:
        raise ValueError(f"layout {short(layout)}: {reason}")

    try:
        fields = [rest for _, *rest in Formatter().parse(layout) if rest[0] is not None]
    except ValueError as error:
        refuse(f"{error}; give one such as '{{sample}}/{{id}}.mp4'")
    for name, spec, conversion in fields:
        if name not in _SPECS:
            refuse(f"unknown field {{{name}}}; expected {', '.join(f'{{{known}}}' for known in _SPECS)}")
        if conversion or not re.fullmatch(_SPECS[name], spec or ""):
            refuse(f"{{{name}}} has a format that is not read; numbers may have one such as {{sample:02}}")
    names = {name for name, *_ in fields}
    if not names & {"id", "prompt"}:
        refuse("all prompts would be one file; put {id} in it")
    if samples > 1 and not names & {"sample", "index"}:
        refuse(f"the {samples} samples of a prompt would be one file; put {{sample}} in it")
    parts = layout.split("/")
    if {"", ".", ".."} & set(parts) or "\\" in layout or PureWindowsPath(layout).drive or _unseen(layout):
        refuse("expected a path below a folder, of names joined by /")
    if Path(layout).suffix.lower() not in SUFFIXES:
        refuse(f"it names no video; expected one that ends in {', '.join(SUFFIXES)}")


def path_of(layout: str, id: str, sample: int, prompt: str = "") -> Path:
    """Where a clip lies, below a folder. ValueError for a layout that is none, and for what no file can be named.

    >>> path_of("{id}/v_{id}_g{sample:02}_c01.mp4", "Baking", 3).as_posix()
    'Baking/v_Baking_g03_c01.mp4'
    """
    check_layout(layout)
    path, fault = _named(layout, (id, prompt), whole("sample", sample, 1))
    if fault:
        raise ValueError(f"layout {short(layout)}: {fault}; {_remedy(layout)}")
    return path


def paths_of(layout: str, entries: Sequence[Entry], samples: int) -> list[Path]:
    """As `path_of`, of all clips: the samples of the first prompt, of the second, and so on. One error for them all."""
    check_layout(layout, whole("samples", samples, 1))
    paths, faults = list[Path](), dict[int, str]()
    for number, entry in enumerate(entries):
        for sample in range(1, samples + 1):
            path, fault = _named(layout, entry, sample)
            paths.append(path)
            if fault:
                faults[number] = fault
    if faults:
        raise ValueError(
            f"layout {short(layout)}: {len(faults)} of {len(entries)} prompts cannot name a file: "
            f"{_few(list(faults.values()))}; {_remedy(layout)}"
        )
    return paths


def check_names(layout: str, entries: Sequence[Entry], samples: int) -> None:
    """Raises ValueError, with the first few, for clips that would have no name or the same: also where a file system
    takes a and A for one letter, or é of one character for é of two."""
    seen, alike = dict[str, Path](), list[str]()
    for path in paths_of(layout, entries, samples):
        other = seen.setdefault(unicodedata.normalize("NFC", path.as_posix().casefold()), path)
        if other is not path:
            alike.append(short(str(path)) if other == path else f"{short(str(other))} and {short(str(path))}")
    if alike:
        raise ValueError(
            f"layout {short(layout)}: {len(alike)} of {len(entries) * samples} clips would lie where another does, "
            f"by case or by how accents are written at least: {_few(alike)}; {_remedy(layout)}"
        )


def find(folder: StrPath, layout: str, entries: Sequence[Entry], samples: int) -> list[Path]:
    """The files of anyone's folder, ordered as `paths_of`: each by the layout's suffix, or by one of `SUFFIXES`.

    A single sample need have no folder of its own: where not all lie at "{sample}/{id}.mp4" they may at "{id}.mp4".
    Raises FileNotFoundError, which says how many are missing, the first few and where they were looked for.
    """
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(f"no folder {place}")
    close = _without_sample_folders(layout)
    tried = [layout, close] if samples == 1 and close != layout else [layout]
    missing = list[list[str]]()
    for one in tried:
        paths = paths_of(one, entries, samples)
        found = [_file(place / path) for path in paths]
        missing.append([path.as_posix() for path, file in zip(paths, found, strict=True) if file is None])
        if not missing[-1]:
            return [file for file in found if file is not None]
    least = min(missing, key=len)
    hint = f"; of one sample a prompt {close} would do" if samples > 1 and close != layout else ""
    raise FileNotFoundError(
        f"{len(least)} of {len(entries) * samples} videos are not in {place}: {_few(least)} (looked for "
        f"{' and '.join(tried)}, ending in {', '.join(dict.fromkeys((Path(layout).suffix, *SUFFIXES)))}{hint})"
    )


def _named(layout: str, entry: Entry, sample: int) -> tuple[Path, str]:
    """A clip's path by a layout that was checked, and what is wrong with it, if anything."""
    values = dict(zip(("id", "prompt"), entry, strict=True))
    path = layout.format(**values, sample=sample, index=sample - 1)
    for _, name, *_ in Formatter().parse(layout):
        if name in values and (fault := _fault(values[name])):
            return Path(), f"{name} {short(values[name])} {fault}"
    for part in path.split("/"):
        if (size := len(part.encode())) > LONGEST_NAME:
            return Path(), f"{short(part)} has {size} bytes, and a name {LONGEST_NAME} at most"
    return Path(path), ""


def _fault(text: str) -> str:
    """Why `text` can be no part of a name, if it cannot."""
    if not text.strip():
        return "is empty"
    if "/" in text or "\\" in text:
        return "holds a / or a \\"
    if text in (".", ".."):
        return "is another folder"
    return "holds control characters" if _unseen(text) else ""


def _unseen(text: str) -> bool:
    return any(unicodedata.category(letter) in _UNSEEN for letter in text)


def _remedy(layout: str) -> str:
    return "name clips by {id} instead" if "{prompt}" in layout else "give these prompts other ids"


def _few(texts: Sequence[str]) -> str:
    return ", ".join([*texts[:FEW], *(["…"] if len(texts) > FEW else [])])


def _without_sample_folders(layout: str) -> str:
    """`layout` less the folders that only number samples."""
    *folders, name = layout.split("/")
    kept = [f for f in folders if re.search(r"\{(id|prompt)\}", f) or not re.search(r"\{(sample|index)", f)]
    return "/".join([*kept, name])


def _file(path: Path) -> Path | None:
    """The video at `path`, by its own suffix or another."""
    suffixes = (path.suffix, *SUFFIXES)
    return next((file for suffix in suffixes if os.path.isfile(file := path.with_suffix(suffix))), None)
