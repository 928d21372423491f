"""What is computed in the order of hours, kept as files that are there whole or not at all, each with what made it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor


def write_part(tensors: Mapping[str, Tensor], settings: Mapping[str, Any], cost: Mapping[str, Any], path: Path) -> None:
    """Writes a file that appears when it is whole. Raises OSError naming it, and what goes on from there."""
    data = save(dict(tensors), {"settings": json.dumps(settings), "cost": json.dumps(cost)})
    temporary = path.with_name(f".{path.stem}.tmp")  # of one name: what a kill leaves, the next run replaces
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        reason = f"cannot write {path}: {error.strerror}; what is computed is kept, the same command goes on from it"
        raise OSError(error.errno, reason) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_metadata(path: Path) -> dict[str, Any] | None:
    """{"settings": …, "cost": …} of a part; None where there is none or a broken one, which is then computed."""
    try:
        with safe_open(path, "pt") as file:
            raw = file.metadata()
        return {name: json.loads(raw[name]) for name in ("settings", "cost")}
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def is_there(path: Path, settings: Mapping[str, Any], folder: Path) -> bool:
    """Whether a part needs no computing. ValueError if it was made of other settings, saying which."""
    found = read_metadata(path)
    if found is not None and (differences := differing(found["settings"], settings)):
        raise ValueError(
            f"{folder} holds parts of another evaluation: {path.name} was made with "
            f"{'; '.join(differences)}. Give the same options, or another folder with -o"
        )
    return found is not None


def differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """["steps 20, now 3", …]: entries of nested settings that are not the same."""
    lines = []
    for name in dict.fromkeys([*there, *here]):
        a, b = there.get(name), here.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differing(a, b)
        elif a != b:
            lines.append(f"{name} {_short(a)}, now {_short(b)}")
    return lines


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "…"
