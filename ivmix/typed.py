"""Values of a JSON file against type hints: a dataclass or a TypedDict alone says what a file may hold."""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from ivmix.models.hints import fits, in_words
from ivmix.models.quoting import printable
from ivmix.models.quoting import short as short
from ivmix.solvers.checks import count


def check(value: Any, hint: Any, where: str) -> None:
    """Raises ValueError, which begins with `where`, unless `value` is what `hint` says.

    Hints are those of `ivmix.models.hints`; a TypedDict's unknown and missing keys are errors.

    >>> check({"steps": 5}, dict[str, int], "out.json: sampling")
    >>> check({"steps": "5"}, dict[str, int], "out.json: sampling")
    Traceback (most recent call last):
    ValueError: out.json: sampling: steps is '5', expected a whole number
    """
    if is_typeddict(hint) and isinstance(value, dict):
        hints = get_type_hints(hint)
        check_keys(value, hints, hint.__required_keys__, where)
        for name, inner in value.items():
            check(inner, hints[name], f"{where}: {name}")
    elif get_origin(hint) in (list, dict) and isinstance(value, get_origin(hint)):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in entries:
            place = f"{where}: {printable(name, 60)}" if isinstance(value, dict) else f"{where}[{name}]"
            check(inner, get_args(hint)[-1], place)
    elif not fits(value, hint):
        place, _, name = where.rpartition(": ")
        raise ValueError(f"{place}{': ' if place else ''}{name} is {short(value)}, expected {in_words(hint)}")


def check_keys(raw: Mapping[str, Any], known: Mapping[str, Any], needed: Collection[str], where: str) -> None:
    """Raises ValueError for a key that is not `known`, with the likeliest one that was meant, or is `needed` and not
    there."""
    for name in raw:
        if name not in known:
            raise ValueError(f"{where}: unknown entry {short(name)}; {meant(name, known)}")
    for name in known:
        if name in needed and name not in raw:
            raise ValueError(f"{where}: it lacks the entry {name!r}")


def meant(name: str, known: Iterable[str]) -> str:
    """"did you mean 'steps'?", or all that is known."""
    known = list(known)
    close = get_close_matches(str(name), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"expected {', '.join(known)}"


def whole(name: str, value: Any, least: int, most: int | None = None, otherwise: str = "") -> int:
    """A whole number of any library's, as an int. Raises ValueError naming it for anything else, or out of range, with
    what else would do.

    >>> whole("steps", 2.5, 1, 1000)
    Traceback (most recent call last):
    ValueError: steps=2.5: expected a whole number from 1 to 1000
    """
    number = count(value)
    if number is None or number < least or (most is not None and number > most):
        span = f"of {least} or more" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}={short(value)}: expected a whole number {span}{otherwise}")
    return number
