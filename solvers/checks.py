"""Numbers from outside: what counts as one, and one way to say what does not."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import debug_unwrap

LARGEST = 1e38  # of a scale: what float32 holds
MOST_LEVELS = 100_000  # of training; what is met has a thousand
# Of a level, relative. A cast to float32 moves one by 6e-8, a cosine schedule computed in float32 its last one by 7e-6;
# neighbouring training levels are hundreds of times as far apart.
SLACK = 1e-5


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


def within(value: Any, low: float, high: float) -> bool:
    """Whether a level lies from `low` to `high`, or outside by no more than the slack that all ranges of levels have.

    >>> within(1 + 6e-8, 0.1, 1.0), within(1.0001, 0.1, 1.0)
    (True, False)
    """
    return bool(low - SLACK * abs(low) <= value <= high + SLACK * abs(high))


def real_numbers(name: str, values: Any) -> Tensor:
    """`values` of any shape as a float64 CPU tensor. Raises ValueError naming the argument for what is not real."""
    try:
        found = torch.as_tensor(values, dtype=None if hasattr(values, "dtype") else torch.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: got a {type(values).__name__}, expected real numbers") from None
    if found.is_complex():
        raise ValueError(f"{name}: got {found.dtype}, expected real numbers")
    return found.to("cpu", torch.float64)


def plain_numbers(name: str, values: Any) -> Tensor:
    """`real_numbers` that go on as Python's: levels of a run, times of a network."""
    check_plain(name, *(values if isinstance(values, list | tuple) else [values]))
    return real_numbers(name, values)


def check_plain(name: str, *values: Any) -> None:
    """Raises ValueError naming the argument for what requires grad, which a Python number would lose."""
    if any(getattr(value, "requires_grad", False) for value in values):
        raise ValueError(
            f"{name}: got a tensor that requires grad, expected {name}.detach(): gradients reach states and networks, "
            "levels and times are plain numbers"
        )


def check_legs(legs: Any) -> None:
    """TypeError for what is no list: a grid, or what makes a plan of one."""
    if not isinstance(legs, Sequence):
        raise TypeError(f"legs: got a {type(legs).__name__}, expected a list, as plain(sigmas) makes it")
