"""Numbers from outside: what counts as one, and one way to say what does not."""

import math
import operator
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.func import debug_unwrap

LARGEST = 1e38  # of a scale: what float32 holds


def count(value: Any) -> int | None:
    """`value` as an int if it counts, as NumPy's integers do too; None for bools, floats and all else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def whole(name: str, value: Any, least: int, most: int | None = None, otherwise: str = "") -> int:
    """`value` as an int: whatever counts (NumPy's integers too), but no bool, float or text.

    Raises ValueError naming the argument, with what is accepted beside numbers from `least` to `most` in `otherwise`.

    >>> import numpy
    >>> whole("steps", numpy.int64(3), 1)
    3
    """
    number = count(value)
    if number is None or number < least or (most is not None and number > most):
        span = f">= {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}: got {value!r}, expected a whole number {span}{otherwise}")
    return number


def in_range(value: Any) -> bool:
    """Whether a weight of predictions is one that their dtype holds."""
    return -LARGEST <= value <= LARGEST


def check_number(name: str, value: Any, expected: str, fits: Callable[[Any], bool] = lambda value: True) -> None:
    """Raises ValueError naming the argument for what is no finite number, as a text is not, or does not fit.

    >>> check_number("rho", "7", "a finite number")
    Traceback (most recent call last):
    ValueError: rho: got '7', expected a finite number
    """
    numbers = [value]
    if isinstance(value, Tensor) and value.ndim == 0:  # one number, or what a function transform carries in its place
        numbers = debug_unwrap(value).detach().flatten().tolist()
    try:
        good = all(not isinstance(one, str | bytes) and math.isfinite(one) and fits(one) for one in numbers)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # several numbers, or a whole one past all floats
        good = False
    if not good:
        raise ValueError(f"{name}: got {value!r}, expected {expected}")
