"""What the columns of a table are: unit, range, which way is better, and how a mean of them is shown."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A value a clip.

    >>> Column("pixels; lower is better", "{:.2f}").show(0.456, sign=True)
    '+0.46'
    """

    text: str  # unit, range, which way is better
    form: str = "{:.3f}"  # of a mean
    main: bool = False  # in the first table and its plot, where there are not too many
    cost: bool = False  # plotted against evaluations
    wide: bool = False  # on an axis that is logarithmic from 1 up
    void: tuple[str, float] | None = None  # says nothing where the mean of that other column is as much, or more

    def show(self, value: float, sign: bool = False) -> str:
        text = self.form.format(value)
        return f"+{text}" if sign and value > 0 else text


COSTS = {
    "evaluations I+V": Column("guided evaluations of the image and the video model, a clip"),
    "s/clip": Column("seconds on this machine, a clip", "{:.2f}"),
}


def bullets(columns: Mapping[str, Column]) -> str:
    """A line of Markdown each."""
    return "\n".join(f"- {name}: {column.text}" for name, column in columns.items())


def legend(columns: Mapping[str, Column]) -> str:
    """A line each."""
    width = max(map(len, columns), default=0)
    return "\n".join(f"{name.ljust(width)}  {column.text}" for name, column in columns.items())
