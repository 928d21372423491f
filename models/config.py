"""A network's config: a dataclass whose entries are checked against their types, read from a public config.json."""

from collections.abc import Mapping
from types import UnionType
from typing import Any, Protocol, Self, Union, get_args, get_origin, get_type_hints

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
        if not _fits(value, hint):
            raise ValueError(f"{name} is {short(value)}, expected {_expected(hint)}")


def _fits(value: Any, hint: Any) -> bool:
    kind = get_origin(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if kind is tuple:
        return isinstance(value, tuple) and len(value) > 0 and all(_fits(one, get_args(hint)[0]) for one in value)
    if hint in (int, float):
        number = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
        return number and 0 < value <= LARGEST_SIZE
    return isinstance(value, hint)


def _expected(hint: Any) -> str:
    """A hint in words."""
    kind = get_origin(hint)
    if kind in (Union, UnionType):
        return " or ".join(_expected(one) for one in get_args(hint))
    if kind is tuple:
        return f"a list, each {_expected(get_args(hint)[0])}"
    span = f"from 1 to {LARGEST_SIZE:,}"
    words = {int: f"a whole number {span}", float: f"a number above 0, at most {LARGEST_SIZE:,}", str: "text",
             bool: "true or false"}  # fmt: skip
    return words.get(hint) or ("null" if hint is type(None) else hint.__name__)


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
