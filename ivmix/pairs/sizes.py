"""How much a pair's files are, as far as is known: their bytes, or how many numbers they hold, in a type that the files
alone tell."""

from collections.abc import Iterable, Mapping
from typing import Any

UNKNOWN = "size not known here"


def bounds(known: Mapping[str, Any]) -> tuple[float, float] | None:
    """The least and the most bytes of a file, of numbers in 16 and in 32 bits; None where nothing is known of it."""
    if "bytes" in known:
        return known["bytes"], known["bytes"]
    return (2 * known["parameters"], 4 * known["parameters"]) if "parameters" in known else None


def size(known: Mapping[str, Any]) -> str:
    """In words.

    >>> size({"parameters": 610_856_096}), size({"bytes": 1_719_125_304}), size({})
    ('1.2 GB in 16 bits or 2.4 GB in 32', '1.7 GB', 'size not known here')
    """
    found = bounds(known)
    if found is None:
        return UNKNOWN
    low, high = (f"{n / 1e9:.2g} GB" for n in found)
    return low if "bytes" in known else f"{low} in 16 bits or {high} in 32"


def total(entries: Iterable[Mapping[str, Any]]) -> str:
    """All of them, in words.

    >>> total([{"bytes": 2_000_000_000}, {"parameters": 1_000_000_000}, {}])
    '4 to 6 GB, and 1 of a size not known here'
    """
    found = [bounds(known) for known in entries]
    low, high = (f"{sum(both[k] for both in found if both is not None) / 1e9:.2g}" for k in (0, 1))
    unknown = found.count(None)
    if unknown == len(found):
        return UNKNOWN
    return f"{low if low == high else f'{low} to {high}'} GB" + (f", and {unknown} of a {UNKNOWN}" if unknown else "")
