"""Weights for a network that was built on meta: checked key by key, and assigned whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ivmix.models.quoting import printable

N = TypeVar("N", bound=nn.Module)


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


def first_not_finite(module: nn.Module) -> str | None:
    """The first key of a network's state that holds NaN or infinite values; None of a sound one. Reads every weight."""
    state = module.state_dict()
    return next((key for key, value in state.items() if not bool(value.isfinite().all())), None)


def assign(module: N, state: dict[str, Tensor], device: torch.device | str, dtype: torch.dtype | None) -> N:
    """Assigns a checked state, which is used up: tensor by tensor on `device` as `dtype` (default: as stored).

    Evaluation mode, frozen. Raises ValueError if no dtype is given and the weights have more than one.
    """
    stored = sorted({str(value.dtype) for value in state.values()})
    if dtype is None and len(stored) > 1:
        raise ValueError(f"the weights are stored as {' and '.join(stored)}: say which to load them as, with dtype=")
    module.load_state_dict({key: state.pop(key).to(device, dtype) for key in list(state)}, strict=True, assign=True)
    return module.eval().requires_grad_(False)
