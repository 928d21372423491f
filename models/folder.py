"""A network on disk: one folder with config.json and one safetensors file, in diffusers' and transformers' layout."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Config(Protocol):
    def to_dict(self) -> dict[str, Any]: ...
    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self: ...


N = TypeVar("N", bound=nn.Module)
WEIGHTS = {"diffusion_pytorch_model.safetensors", "model.safetensors"}  # diffusers' name, transformers' name


class NoInit(TorchFunctionMode):
    """Modules built inside draw no initial weights. On meta, drawing imports torch's compiler: seconds for nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


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


def load_folder(
    network: type[N],
    config: type[Config],
    folder: Path | str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> N:
    """Builds `network` on meta from the folder's config.json and assigns its weights: never half-loaded.

    Returns it in evaluation mode, frozen, on `device` as `dtype` (default: as stored). Raises FileNotFoundError for a
    missing file, ValueError for a config.json that describes no such network, StateError for weights that do not fit.
    """
    folder = Path(folder)
    raw = read_json(folder / "config.json")
    try:
        with torch.device("meta"), NoInit():
            module = network(config.from_dict(raw))
    except KeyError as missing:
        raise ValueError(f"{folder / 'config.json'} lacks the entry {missing}") from None
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{folder / 'config.json'} describes no {network.__name__}: {error}") from None
    files = [folder / name for name in sorted(WEIGHTS) if (folder / name).is_file()]
    if len(files) != 1:
        expected = " or ".join(sorted(WEIGHTS))
        raise FileNotFoundError(f"{folder} holds {len(files)} weight files: expected one of {expected}")
    try:
        state = load_file(files[0], device=str(device))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{files[0]} is not a readable safetensors file: {error}") from None
    prefix = getattr(network, "optional_prefix", "")
    if prefix and not any(key.startswith(prefix) for key in state):
        state = {prefix + key: value for key, value in state.items()}
    check_state(files[0], state, module)
    module.load_state_dict(state, strict=True, assign=True)
    return module.to(dtype=dtype).eval().requires_grad_(False)


class StateError(ValueError):
    """Weights that do not fit a network. `problems` names every key at fault; the message a few of each kind."""

    def __init__(self, path: Path, network: str, kinds: Sequence[Sequence[str]], shown: int = 5) -> None:
        self.problems = tuple(problem for kind in kinds for problem in kind)
        lines = list[str]()
        for kind in kinds:
            lines += [*kind[:shown], *([f"{len(kind) - shown} more like this"] if len(kind) > shown else [])]
        super().__init__(f"{path} does not fit {network}: {'; '.join(lines)}")


def check_state(path: Path, state: Mapping[str, Tensor], module: nn.Module) -> None:
    """Raises StateError for keys of `path` that are missing, unexpected, or of a shape or type unlike `module`'s."""
    found = {k: tuple(v.shape) for k, v in state.items()}
    wanted = {k: tuple(v.shape) for k, v in module.state_dict().items()}
    shared = sorted(found.keys() & wanted.keys())
    kinds = [
        [f"missing {k} {wanted[k]}" for k in sorted(wanted.keys() - found.keys())],
        [f"unexpected {k} {found[k]}" for k in sorted(found.keys() - wanted.keys())],
        [f"{k} is {found[k]}, expected {wanted[k]}" for k in shared if found[k] != wanted[k]],
        [f"{k} is {state[k].dtype}, expected floating point" for k in shared if not state[k].is_floating_point()],
    ]
    if any(kinds):
        raise StateError(path, type(module).__name__, kinds)


def check_entries(raw: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises ValueError naming the first entry of `raw` that is there and not as expected."""
    for name, value in expected.items():
        if name in raw and raw[name] != value:
            raise ValueError(f"{name} is {raw[name]!r}, only {value!r} is supported")


def one_number(raw: Mapping[str, Any], name: str) -> Any:
    """`raw[name]`, where a list with one value a level is accepted if they are all the same."""
    values = raw[name] if isinstance(raw[name], list) else [raw[name]]
    if len(set(values)) != 1:
        raise ValueError(f"{name} is {raw[name]!r}, only one number for all levels is supported")
    return values[0]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from disk, or one clear error: FileNotFoundError, or ValueError for anything unreadable."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {path}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path} holds a JSON {type(raw).__name__}, expected an object")
    return raw
