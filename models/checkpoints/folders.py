"""A network on disk: one folder with config.json and one file of weights, in diffusers' and transformers' layout."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from ivmix.models.config import Config
from ivmix.models.json_files import read_json

SAFETENSORS, PICKLES = ".safetensors", (".ckpt", ".pth", ".pt", ".bin")
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")  # diffusers' name, transformers' two
LONGEST_FILE_NAME = 255  # bytes of a file's name, as file systems have it


@dataclass(frozen=True)
class Local:
    """What a source is on this machine.

    `files` are all that is read of it: the weights first, or the index of their shards, then config.json if a folder
    was named, which is `root`; of a single file, that is its folder. `commit` is the hub's.
    """

    source: str
    root: Path
    files: tuple[Path, ...]
    variant: str | None = None
    commit: str | None = None

    def __str__(self) -> str:
        return self.source

    @property
    def weights(self) -> Path:
        return self.files[0]

    @property
    def config(self) -> Path | None:
        return next((path for path in self.files if path.name == "config.json"), None)


def weight_names(variant: str | None) -> dict[str, set[str]]:
    """Names of a folder's file of weights, or of the index of its shards, by format: the preferred one first."""
    v = f".{variant}" if variant else ""
    return {
        extension: {name for stem in STEMS for name in (
            f"{stem}{v}.{extension}", f"{stem}{v}.{extension}.index.json", f"{stem}.{extension}.index{v}.json",
        )}
        for extension in ("safetensors", "bin")
    }  # fmt: skip


def choose(names: Collection[str], part: str, variant: str | None, where: object) -> str:
    """The file of weights among `names`, the paths in a folder: of the folder itself, or of its subfolder `part`.

    Without a variant that is the plain one, or the only one there is. Raises FileNotFoundError if there is none, or
    more than one.
    """
    inside = "config.json" not in names and f"{part}/config.json" in names
    prefix = f"{part}/" if inside else ""
    here = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    for candidates in weight_names(variant).values():
        found = sorted(candidates & here)
        if len(found) > 1:
            raise FileNotFoundError(f"{where} holds {len(found)} weight files, {' and '.join(found)}: expected one")
        if found:
            return prefix + found[0]
    there = sorted(name for name in here if name.startswith(STEMS))
    if variant is None and len(there) == 1 and re.fullmatch(r"\w+\.\w+\.(safetensors|bin)", there[0]):
        return prefix + there[0]
    others = there or sorted(name for name in names if name.endswith((SAFETENSORS, *PICKLES)))
    hint = f"{'of another variant there are' if there else 'or name one of'} {', '.join(others[:5])}"
    what = (f" for {part}" if part else "") + (f", variant {variant}" if variant else "")
    raise FileNotFoundError(
        f"{where} holds no weight file{what}: expected "
        f"{' or '.join(sorted(name for name in weight_names(variant)['safetensors'] if 'index' not in name))}"
        + (f"; {hint}" if others else "")
    )


def shards(index: Path) -> list[Path]:
    """The files that an index of shards points to, in its own folder. ValueError for what is no such index."""
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not where or not all(isinstance(file, str) for file in where.values()):
        raise ValueError(f"{index} has no weight_map of tensor names to file names")
    files = sorted(set(where.values()))
    for file in files:
        name = file == Path(file).name and file.isprintable() and len(file.encode()) <= LONGEST_FILE_NAME
        if not (name and file.endswith((SAFETENSORS, *PICKLES))):
            raise ValueError(f"{index} points to {file[:200]!r}: expected the name of a weight file beside it")
    return [index.parent / file for file in files]


def save_folder(network: nn.Module, folder: Path | str, dtype: torch.dtype | None = None) -> None:
    """Writes config.json and the weights, as `dtype` (default: as they are).

    Both are complete under another name before either replaces what was there: neither is ever half-written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config: Config = network.config  # type: ignore[assignment]
    raw = config.to_dict()
    name = "diffusion_pytorch_model.safetensors" if "_class_name" in raw else "model.safetensors"
    state = {k: v.detach().to("cpu", dtype).contiguous() for k, v in network.state_dict().items()}
    parts = {folder / f"{final}.part": folder / final for final in (name, "config.json")}
    try:
        save_file(state, folder / f"{name}.part", metadata={"format": "pt"})
        (folder / "config.json.part").write_text(json.dumps(raw, indent=2) + "\n")
        for part, final in parts.items():
            part.replace(final)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
