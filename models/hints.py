"""Values against type hints, and hints in words: what the checks of configs and of JSON files have in common."""

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

WORDS = {str: "text", bool: "true or false", NoneType: "null", dict: "an object"}


def fits(value: Any, hint: Any, most: int | None = None) -> bool:
    """Whether `value` is what `hint` says; where there is a `most`, its numbers are above 0 and at most that.

    Hints are str, int, float (which takes whole numbers), bool, None, Any, Literal, other classes, list[…],
    dict[str, …], tuple[…, ...] (which is not empty), unions and TypedDicts of these.
    """
    kind, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if kind in (Union, UnionType):
        return any(fits(value, one, most) for one in inner)
    if kind is Literal:
        return value in inner
    if kind in (list, dict, tuple):
        if not isinstance(value, kind) or (kind is tuple and not value):
            return False
        each = inner[-1] if kind is dict else inner[0]
        return all(fits(one, each, most) for one in (value.values() if kind is dict else value))
    if hint in (int, float):
        number = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
        return number and (most is None or 0 < value <= most)
    if is_typeddict(hint):
        hints = get_type_hints(hint)
        known = isinstance(value, dict) and hint.__required_keys__ <= value.keys() <= hints.keys()
        return known and all(fits(one, hints[name], most) for name, one in value.items())
    return isinstance(value, NoneType if hint is None else hint)


def in_words(hint: Any, most: int | None = None) -> str:
    """A hint in words.

    >>> in_words(int | None), in_words(list[float], most=1000)
    ('a whole number or null', 'a list, each a number above 0, at most 1,000')
    """
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(in_words(one, most) for one in inner)
    if kind is Literal:
        return " or ".join(map(repr, inner))
    if kind in (list, tuple):
        return f"a list, each {in_words(inner[0], most)}"
    if kind is dict or is_typeddict(hint):
        return "an object"
    if hint is int:
        return "a whole number" + ("" if most is None else f" from 1 to {most:,}")
    if hint is float:
        return "a number" + ("" if most is None else f" above 0, at most {most:,}")
    return WORDS.get(NoneType if hint is None else hint, getattr(hint, "__name__", str(hint)))
