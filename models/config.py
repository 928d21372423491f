"""A network's config: a dataclass whose entries are checked against their types, read from a public config.json."""

from collections.abc import Mapping
from typing import Any, Protocol, Self, get_type_hints

from ivmix.models.hints import fits, in_words
from ivmix.models.quoting import short

LARGEST_SIZE = 10**9  # of any number in a config


class Config(Protocol):
    def to_dict(self) -> dict[str, Any]: ...
    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self: ...


def check_config(config: Any) -> None:
    """Raises ValueError for an entry of a config, a dataclass, that is not of its type, or a number that is none.

    Every number of a network counts or scales something: it is above 0, and no more than any network could have.
    """
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not fits(value, hint, LARGEST_SIZE):
            raise ValueError(f"{name} is {short(value)}, expected {in_words(hint, LARGEST_SIZE)}")


def check_entries(raw: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises ValueError naming the first entry of `raw` that is there and not as expected."""
    for name, value in expected.items():
        if name in raw and raw[name] != value:
            raise ValueError(f"{name} is {short(raw[name])}, only {value!r} is supported")


def one_number(raw: Mapping[str, Any], name: str) -> Any:
    """`raw[name]`, where a list with one value a level is accepted if they are all the same."""
    values = raw[name] if isinstance(raw[name], list) else [raw[name]]
    if not values or any(value != values[0] for value in values):
        raise ValueError(f"{name} is {short(raw[name])}, only one number for all levels is supported")
    return values[0]
