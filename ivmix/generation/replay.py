"""Records of earlier runs, to be made again or varied."""

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ivmix.generation.record import WINDOWS, Record, read_record
from ivmix.generation.requests import Request
from ivmix.generation.result import record_path
from ivmix.pairs.facts import Read
from ivmix.pairs.trained_as import in_words


@dataclass(frozen=True)
class Kept:
    """What a run starts from before the command line's options: nothing, or a whole record."""

    requests: list[Request] = field(default_factory=list)
    call: dict[str, Any] = field(default_factory=dict)  # sizes, tile, the video it began from
    model: dict[str, Any] = field(default_factory=dict)  # pair, what is swapped in it, device, dtype, compile, commits
    sampling: dict[str, Any] = field(default_factory=dict)  # in the form of a pair's defaults
    record: Record | None = None


def recall(path: Path) -> Kept:
    """Reads the record of an earlier run. Raises ValueError for a file that is none, or one that no file can repeat."""
    beside = record_path(path)
    if path.suffix != ".json" and beside.is_file():
        raise ValueError(f"{path} is the clip: expected its record, {beside}")
    record = read_record(path)
    if record.latents is not None:
        raise ValueError(f"{path}: the clip began from noise given in Python (latents), which no record holds")
    negatives = zip(record.negative_prompts, record.image_negative_prompts, strict=True)
    requests = [
        Request(prompt, seed, negative, None if image == negative else image)
        for prompt, seed, (negative, image) in zip(record.prompts, record.seeds, negatives, strict=True)
    ]
    if record.source_prompts is not None:
        requests = [replace(r, source_prompt=s) for r, s in zip(requests, record.source_prompts, strict=True)]
    names = ("frames", "height", "width", "vae_tile", "image_frames", "strength", "raw_prompts", *WINDOWS)
    call = {name: getattr(record, name) for name in names}
    call["video"] = None if record.video is None else record.video["path"]
    model = {name: getattr(record, name) for name in ("pair", "device", "dtype", "compile", "swaps", "commits")}
    options = dict(record.sampling)
    name = options.pop("sampler", None)
    if "solver" in options:
        options.setdefault("end", "euler")  # how every solver ended when records did not say it
    return Kept(requests, call, model, {"sampler": name, str(name): options}, record)


def warn_of_changes(record: Record, wanted: Record) -> None:
    """Warns of what makes a clip another than its record's without anybody having asked for it."""
    if record.ivmix != wanted.ivmix:
        _warn(f"is of ivmix {record.ivmix}, this is {wanted.ivmix}: the clip may differ")
    if all(getattr(record, name) == getattr(wanted, name) for name in ("pair", "swaps")):
        for source, read in record.files.items():
            _warn_of_file(source, read, wanted.files.get(source))
        for name, model in record.models.items():
            for entry in {**model, **wanted.models[name]}:
                was, now = model.get(entry), wanted.models[name].get(entry)
                if was != now and entry != "from":  # where it was said is no matter
                    said = [in_words(value) if isinstance(value, dict) else value for value in (was, now)]
                    _warn(f"was drawn with {entry} {said[0]} of the {name} model, now {said[1]}: the clip differs")
    if record.video and wanted.video and record.video["path"] == wanted.video["path"] and record.video != wanted.video:
        _warn(f"began from a video at {record.video['path']} that shows something else now: the clip differs")
    if record.cancelled:
        _warn("is of a run that was cancelled: this one runs to its end")


def _warn_of_file(source: str, read: Read, now: Read | None) -> None:
    if now is None:
        _warn(f"was drawn with {' and '.join(read['files'])} of {source}, which is not read now: the clip may differ")
        return
    changed = [name for name in read["files"] if read["files"][name] != now["files"].get(name)]
    commits = "" if now["commit"] == read["commit"] else f" (commit {read['commit']}, now {now['commit']})"
    if changed:
        _warn(f"was drawn with another {' and '.join(changed)} of {source}{commits}: the clip differs")


def _warn(text: str) -> None:
    warnings.warn(f"the record {text}", stacklevel=3)
