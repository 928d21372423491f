"""The files of a pair on this machine: found or fetched before anything is loaded, and pinned by size and hash."""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ivmix.models.checkpoints.files import read_state
from ivmix.models.checkpoints.folders import Local
from ivmix.models.checkpoints.hub import Hub, MissingError, cache
from ivmix.models.checkpoints.load import matching
from ivmix.models.checkpoints.sources import locate, sha256
from ivmix.pairs import bridge
from ivmix.pairs.description import PARTS, read_weighted
from ivmix.pairs.facts import Read
from ivmix.pairs.sizes import bounds, size

Files = dict[tuple[str, str], Local]  # of a part and its source


def named(raw: Mapping[str, Any]) -> list[tuple[str, str]]:
    """All that a description names to be read: parts and their sources."""
    sides = (raw["image"], raw["video"])
    parts = [(part, side[part]) for side in sides for part in (*PARTS, "motion") if part in side]
    loras = [("lora", read_weighted(side["lora"])[0]) for side in sides if "lora" in side]
    return [("vae", raw["vae"]), *parts, *loras, *bridge.sources(raw)]


def fetch_all(raw: Mapping[str, Any], loras: Iterable[str], hub: Hub) -> Files:
    """The local files of every part of a pair, those of the hub downloaded first; of a source on the hub in the variant
    that `files` names, or the plain one where that is not to be had.

    Raises one FileNotFoundError that names all that the hub and its cache lack.
    """
    wanted = named(raw)
    known_already = {"pair", "option", *(source for _, source in wanted)}
    said = [file for side in (raw["image"], raw["video"]) for file in side["from"].values()]
    wanted += [("scheduler", file) for file in said if file not in known_already]
    wanted += [("lora", lora) for lora in loras]
    found, missing, commands = Files(), list[MissingError](), list[str]()
    for part, source in dict.fromkeys(wanted):
        if not source.startswith("hub:"):
            found[part, source] = locate(source, part)
            continue
        known = raw.get("files", {}).get(source, {})
        try:
            sharded = known.get("sharded", False)
            found[part, source] = hub.fetch(source, part, known.get("variant"), fall_back=True, sharded=sharded)
        except MissingError as error:
            missing.append(error)
            commands.append(f"  {error.command}" + (f"  # {size(known)}" if bounds(known) else ""))
    hub.tell_plain()
    if missing:
        reasons = dict.fromkeys(error.reason for error in missing)
        raise FileNotFoundError(
            f"pair {raw['name']!r} lacks files that neither the hub ({'; '.join(reasons)}) nor its cache {cache()} "
            "gave. Where there is a network, run\n" + "\n".join(commands) + "\nand bring that cache here, or give what "
            "you have by --image-model, --video-model, --motion, --vae and --tokenizer (Swaps in Python): folders, or "
            "single files, which bring no tokenizer"
        )
    return found


def by_source(files: Iterable[Local], own: Mapping[str, Any], folder: Path) -> dict[str, tuple[Local, ...]]:
    """What was read, by source; a pair's own files by their place in its folder, wherever that is."""
    shipped = {source for _, source in named(own)}
    found: dict[str, tuple[Local, ...]] = {}
    for local in files:
        name = local.source
        if name in shipped and not name.startswith("hub:"):
            name = Path(os.path.relpath(name, folder)).as_posix()
        found[name] = (*found.get(name, ()), local)
    return found


def pinned(sources: Mapping[str, tuple[Local, ...]]) -> dict[str, Read]:
    """Size and hash of every file that was read, and the hub's commit. Reads them whole."""
    with ThreadPoolExecutor() as pool:  # hashing gives the other threads way
        pool.map(sha256, {path for found in sources.values() for local in found for path in local.files})
    return {
        source: {
            "commit": found[0].commit,
            "files": {
                path.relative_to(local.root).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
                for local in found for path in local.files
            },
        }
        for source, found in sources.items()
    }  # fmt: skip


def patterns_by_file(files: Files, patterns: Sequence[str]) -> dict[Local, list[str]]:
    """Which of the patterns of keys to leave out fit something in which files of weights. ValueError for one that fits
    nothing in any."""
    weights = [local for (part, _), local in files.items() if part not in ("tokenizer", "scheduler", "lora")]
    if not patterns:
        return {local: [] for local in weights}
    keys = {local: read_state(local.weights).keys() for local in weights}
    found = {local: [p for p in patterns if matching(names, [p])] for local, names in keys.items()}
    for pattern in patterns:
        if not any(pattern in fits for fits in found.values()):
            raise ValueError(f"drop={pattern!r} fits no key of any file of weights: {', '.join(map(str, keys))}")
    return found
