"""A network from its config and its weights: built on meta, checked key by key, and given its weights whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ivmix.models.checkpoints.folder import printable

N = TypeVar("N", bound=nn.Module)

MOST_TENSORS = 5_000  # of a network; the largest public one here has a third of it


class Blueprint(TorchFunctionMode):
    """Modules built inside draw no initial weights, and cannot grow without bound.

    On meta, drawing imports torch's compiler: seconds for nothing.
    """

    tensors = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else (kwargs or {})["tensor"]
        if func is torch.empty:
            self.tensors += 1
            if self.tensors > MOST_TENSORS:
                raise ValueError(f"more than {MOST_TENSORS:,} tensors")
        return func(*args, **(kwargs or {}))


def build(network: type[N], config: Any) -> N:
    """The network on meta: shapes without memory."""
    with torch.device("meta"), Blueprint():
        return network(config)


class StateError(ValueError):
    """Weights that do not fit a network. `problems` names every key at fault; the message a few of each kind."""

    def __init__(self, path: Path, network: str, kinds: Sequence[Sequence[str]], shown: int = 5) -> None:
        self.problems = tuple(problem for kind in kinds for problem in kind)
        lines = list[str]()
        for kind in kinds:
            lines += [*kind[:shown], *([f"{len(kind) - shown} more like this"] if len(kind) > shown else [])]
        super().__init__(f"{path} does not fit {network}: {'; '.join(printable(line, 200) for line in lines)}")


def misfits(state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> list[list[str]]:
    """What is wrong with `state` for a network of the shapes `wanted`: missing, unexpected, misshapen, no numbers."""
    found = {k: tuple(v.shape) for k, v in state.items()}
    shared = sorted(found.keys() & wanted.keys())
    return [
        [f"missing {k} {wanted[k]}" for k in sorted(wanted.keys() - found.keys())],
        [f"unexpected {k} {found[k]}" for k in sorted(found.keys() - wanted.keys())],
        [f"{k} is {found[k]}, expected {wanted[k]}" for k in shared if found[k] != wanted[k]],
        [f"{k} is {state[k].dtype}, expected floating point" for k in shared if not state[k].is_floating_point()],
    ]


def check_state(path: Path, state: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], network: str) -> None:
    """Raises StateError for keys of `path` that are missing, unexpected, or of a shape or type unlike `wanted`."""
    kinds = misfits(state, wanted)
    if any(kinds):
        raise StateError(path, network, kinds)


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def first_not_finite(module: nn.Module) -> str | None:
    """The first key of a network's state that holds NaN or infinite values; None of a sound one. Reads every weight."""
    state = module.state_dict()
    return next((key for key, value in state.items() if not bool(value.isfinite().all())), None)


def give(module: N, state: dict[str, Tensor], device: torch.device | str, dtype: torch.dtype | None) -> N:
    """Assigns a checked state, which is used up: tensor by tensor on `device` as `dtype` (default: as stored).

    Evaluation mode, frozen. Raises ValueError if no dtype is given and the weights have more than one.
    """
    stored = sorted({str(value.dtype) for value in state.values()})
    if dtype is None and len(stored) > 1:
        raise ValueError(f"the weights are stored as {' and '.join(stored)}: say which to load them as, with dtype=")
    module.load_state_dict({key: state.pop(key).to(device, dtype) for key in list(state)}, strict=True, assign=True)
    return module.eval().requires_grad_(False)
