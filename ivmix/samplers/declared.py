"""Every option with what the samplers make of it: its type, and which of them have it."""

from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from ivmix.samplers.options import OPTIONS, Option
from ivmix.samplers.samplers import SAMPLERS


@dataclass(frozen=True)
class Declared:
    """An option: its name, the type that a sampler's field has, what it means, and the names of the samplers that have
    it."""

    name: str
    hint: Any
    option: Option
    samplers: tuple[str, ...]


def declared() -> dict[str, Declared]:
    """Every option of any sampler by its name, in the order of the help."""
    having = {name: {field.name for field in fields(kind)} for name, kind in SAMPLERS.items()}
    found = {}
    for name, option in OPTIONS.items():
        samplers = tuple(sampler for sampler, names in having.items() if name in names)
        found[name] = Declared(name, get_type_hints(SAMPLERS[samplers[0]])[name], option, samplers)
    return found
