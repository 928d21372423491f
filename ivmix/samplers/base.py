"""What every sampler is: its options as fields, checked as they are declared, and a plan of fields and legs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any, ClassVar, Literal

from torch import Tensor

from ivmix.samplers.options import OPTIONS, Option
from ivmix.samplers.solver_names import SOLVERS
from ivmix.solvers import Field, GuidanceRamp, Guided, HigherOrder, Leg, Schedule, Solver
from ivmix.typed import short, whole

Plan = tuple[Field | dict[str, Field], list[Leg]]
Role = Literal["image", "video"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The option every sampler has, and what it says of a run.

    Raises ValueError for a value that `ivmix.samplers.options` does not allow; None is one where it is the default.
    """

    name: ClassVar[str]
    lead: ClassVar[Role] = "video"  # whose schedule the run begins on
    models: ClassVar[tuple[Role, ...]] = ("image", "video")  # which it evaluates
    steps: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (value is None is field.default or isinstance(value, Solver)):
                _check(field.name, value, OPTIONS[field.name])

    @property
    def home(self) -> Role:
        """Whose latents the state is in: the image model's where it draws alone."""
        return "video" if "video" in self.models else "image"

    @property
    def outer_steps(self) -> int:
        """How many steps a whole run reports."""
        return self.steps

    def schedules(self, image: Schedule, video: Schedule) -> tuple[Schedule, Schedule]:
        """Under which schedules the networks are read: their own."""
        return image, video

    def grid(self, schedule: Schedule) -> Tensor:
        """The decreasing levels (steps + 1,) of a run, from the lead's schedule."""
        raise NotImplementedError

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        """Fields and legs of a run on the grid `sigmas` (steps + 1,); pure."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values that `sampling` reads back."""
        return {"sampler": self.name, **{f.name: _plain(getattr(self, f.name)) for f in fields(self)}}


@dataclass(frozen=True, kw_only=True)
class Solved(Sampling):
    """Options of all samplers with steps of one's own choice: the rule `solver` for the ordinary ones, by name or an
    instance, their grid's `spacing`, and how a solver of order 2 and more steps to 0, None: as it does by itself
    (`ivmix.solvers.HigherOrder`)."""

    solver: str | Solver = "euler"
    spacing: str = "trailing"
    end: Literal["ab2", "euler"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.end not in (None, "euler") and not isinstance(self.rule, HigherOrder):
            raise ValueError(f"end {self.end!r} has no meaning for solver {self.solver!r}, which ends with Euler's")

    @property
    def rule(self) -> Solver:
        rule = self.solver if isinstance(self.solver, Solver) else SOLVERS[self.solver]
        return replace(rule, end=self.end) if self.end and isinstance(rule, HigherOrder) else rule

    def to_dict(self) -> dict[str, Any]:
        said, rule = super().to_dict(), self.rule
        if not isinstance(rule, HigherOrder):
            return said | {"end": None}
        return said | {"solver": _plain(replace(rule, end=type(rule).end)), "end": rule.end}  # whoever asked for it

    def grid(self, schedule: Schedule) -> Tensor:
        try:
            return schedule.grid(self.steps, self.spacing)  # type: ignore[arg-type]
        except ValueError as error:  # of n, as steps are called there
            said = str(error).removeprefix("n: ")
            raise ValueError(f"steps={self.steps}, spacing={self.spacing}: {said}") from None


def _plain(value: Any) -> Any:
    """As JSON has it; a solver that has a name by that, another by how it is written in Python."""
    if hasattr(value, "item"):  # a number of NumPy's
        return value.item()
    if isinstance(value, Solver):
        return next((name for name, solver in SOLVERS.items() if solver == value), repr(value))
    return str(value) if isinstance(value, GuidanceRamp) else list(value) if isinstance(value, tuple) else value


def _check(name: str, value: Any, option: Option) -> None:
    """Raises ValueError for a value that an option cannot have, whatever the others are."""
    if option.choices is not None:
        one_of(name, value, option.choices)
    elif option.kind == "whole":
        whole(name, value, option.least or 0, option.most)
    elif option.kind == "number" and not _fits(value, option):
        raise ValueError(f"{name}={short(value)}: expected {option.expected}")
    elif option.kind == "part" and not 0 <= value[0] < value[1] <= 1:
        raise ValueError(f"{name}={value[0]:g}:{value[1]:g}: expected A:B with 0 <= A < B <= 1")


def one_of(name: str, value: Any, accepted: Iterable[str]) -> None:
    if not isinstance(value, str) or value not in accepted:
        raise ValueError(f"{name} {short(value)}: expected one of {', '.join(accepted)}")


def _fits(value: Any, option: Option) -> bool:
    """Whether a value is a finite number within an option's bounds."""
    finite = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    least, most, above = option.least, option.most, option.above
    return (
        finite
        and (least is None or value >= least)
        and (most is None or value <= most)
        and (above is None or value > above)
    )
