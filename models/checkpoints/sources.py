"""Where a network is read from, as local files: a folder as diffusers writes it, a single file, or the hub."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from ivmix.models.checkpoints import hub
from ivmix.models.checkpoints.folders import PICKLES, SAFETENSORS, Local, choose, shards

Source = str | Path | Local


def locate(source: Source, part: str, variant: str | None = None) -> Local:
    """The files of one part of a source; those of the hub are downloaded, as `hub.Hub.fetch` has it.

    `part` is "unet", "transformer", "vae", "text_encoder", "motion", "lora", "scheduler", "tokenizer", either of the
    texts' with "_2", or "" for a network without a name of its own; a folder may hold it in a subfolder of that name.
    Raises FileNotFoundError for what is not there, ValueError for a folder with two that could be meant.
    """
    if isinstance(source, Local):
        return source
    if str(source).startswith("hub:"):
        if part == "lora" and not str(source).partition("@")[0].endswith((SAFETENSORS, *PICKLES)):
            raise ValueError(f"source {str(source)!r}: name the file, hub:owner/name/file{SAFETENSORS}, for a LoRA")
        return hub.fetch(str(source), part, variant)
    place = Path(source)
    if not place.exists():
        raise FileNotFoundError(f"no file or folder {place}")
    if part in ("tokenizer", "tokenizer_2"):  # which looks itself for what it needs
        if (place / part).is_dir() and not any((place / name).is_file() for name in hub.TOKENIZER):
            place = place / part
        return Local(str(source), place, tuple(path for name in hub.TOKENIZER if (path := place / name).is_file()))
    if part == "scheduler":
        return Local(str(source), place.parent, (place,))
    if part == "lora":
        path = _only_file(place) if place.is_dir() else place
        beside = path.with_name("adapter_config.json")
        return Local(str(source), path.parent, (path, *([beside] if beside.is_file() else [])), variant)
    if not place.is_dir():
        return Local(str(source), place.parent, (place, *(shards(place) if place.suffix == ".json" else [])), variant)
    inside = (p for p in (place, place / part) if p.is_dir())
    names = {path.relative_to(place).as_posix() for folder in inside for path in folder.iterdir()}
    path = place / choose(names, part, variant, place)
    rest = shards(path) if path.suffix == ".json" else []
    return Local(str(source), place, (path, path.with_name("config.json"), *rest), variant)


def _only_file(folder: Path) -> Path:
    for suffixes in ((SAFETENSORS,), PICKLES):
        files = sorted(file for file in folder.iterdir() if file.suffix in suffixes)
        if len(files) > 1:
            raise ValueError(f"{folder} holds {len(files)} files: name one of {', '.join(file.name for file in files)}")
        if files:
            return files[0]
    raise FileNotFoundError(f"{folder} holds no {SAFETENSORS}, {', '.join(PICKLES)} file")


def sha256(path: Path) -> str:
    """The hash of a file's bytes; of one that has not changed since it was asked for, from memory."""
    stat = os.stat(path)
    return _sha256(os.path.realpath(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _sha256(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
