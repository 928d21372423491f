"""A network on disk: one folder with config.json and one safetensors file, in diffusers' and transformers' layout."""

import json
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn


class Config(Protocol):
    def to_dict(self) -> dict[str, Any]: ...
    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self: ...


N = TypeVar("N", bound=nn.Module)
WEIGHTS = {"diffusion_pytorch_model.safetensors", "model.safetensors"}  # diffusers' name, transformers' name


def save_folder(network: nn.Module, folder: Path | str, dtype: torch.dtype | None = None) -> None:
    """Writes config.json and the weights, as `dtype` (default: as they are). Both appear under their names only whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config: Config = network.config  # type: ignore[assignment]
    raw = config.to_dict()
    name = "diffusion_pytorch_model.safetensors" if "_class_name" in raw else "model.safetensors"
    state = {k: v.detach().to("cpu", dtype).contiguous() for k, v in network.state_dict().items()}
    save_file(state, folder / f"{name}.part", metadata={"format": "pt"})
    (folder / f"{name}.part").replace(folder / name)
    (folder / "config.json.part").write_text(json.dumps(raw, indent=2) + "\n")
    (folder / "config.json.part").replace(folder / "config.json")


def load_folder(
    network: type[N],
    config: type[Config],
    folder: Path | str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> N:
    """Builds `network` on meta from the folder's config.json and assigns its weights: never half-loaded.

    Returns it in evaluation mode, frozen, on `device` as `dtype` (default: as stored). Raises FileNotFoundError for a
    missing file, ValueError listing every missing, unexpected or mis-shaped key.
    """
    folder = Path(folder)
    raw = read_json(folder / "config.json")
    try:
        built_from = config.from_dict(raw)
    except KeyError as missing:
        raise ValueError(f"{folder / 'config.json'} lacks the entry {missing}") from None
    files = [folder / name for name in sorted(WEIGHTS) if (folder / name).is_file()]
    if len(files) != 1:
        raise FileNotFoundError(f"{folder} holds {len(files)} weight files: expected one of {' or '.join(sorted(WEIGHTS))}")
    try:
        state = load_file(files[0], device=str(device))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{files[0]} is not a readable safetensors file: {error}") from None
    with torch.device("meta"):
        module = network(built_from)
    check_state(files[0], {k: tuple(v.shape) for k, v in state.items()}, module)
    module.load_state_dict(state, strict=True, assign=True)
    return module.to(dtype=dtype).eval().requires_grad_(False)


def check_state(path: Path, found: dict[str, tuple[int, ...]], module: nn.Module) -> None:
    """Raises ValueError naming every key of `path` that is missing, unexpected or of another shape than `module`'s."""
    wanted = {k: tuple(v.shape) for k, v in module.state_dict().items()}
    problems = [f"missing {k} {wanted[k]}" for k in sorted(wanted.keys() - found.keys())]
    problems += [f"unexpected {k} {found[k]}" for k in sorted(found.keys() - wanted.keys())]
    problems += [
        f"{k} is {found[k]}, expected {wanted[k]}" for k in sorted(found.keys() & wanted.keys()) if found[k] != wanted[k]
    ]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise ValueError(f"{path} does not fit {type(module).__name__}: {shown}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from disk, or one clear error: FileNotFoundError, or ValueError for anything unreadable."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {path}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path} holds a JSON {type(raw).__name__}, expected an object")
    return raw
