"""Classifier-free guidance and its schedules.

eps(w) = eps_u + w·(eps_c - eps_u), w = 1 being the conditional prediction itself (arXiv 2207.12598, whose own w is this
one minus 1). A schedule is a function of the progress u in [0, 1] of a run.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import overload

from torch import Tensor

from ivmix.solvers.algebra.affine import Affine, Weight
from ivmix.solvers.algebra.denoiser import Denoiser
from ivmix.solvers.checks import check_number, in_range

Guidance = float | Callable[[float], float] | None
"""A scale, a schedule of scales over progress, or None: the field has its guidance inside."""


class Guidable(ABC):
    """What becomes a denoiser under a scale: the field of legs that have one."""

    @abstractmethod
    def at(self, scale: Weight) -> Denoiser:
        """The denoiser under `scale`, a number or a function of sigma."""


@dataclass(frozen=True, eq=False)
class Guided(Guidable):
    """One network without and with its condition, to be guided with any scale.

    >>> from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork
    >>> network = GaussianNetwork("video", {"": Gaussian(0.0, 1.0), "cat": Gaussian(1.0, 1.0)})
    >>> Guided(network(""), network("cat")).at(7.5).weights(1.0)
    [-6.5, 7.5]
    """

    uncond: Affine
    cond: Affine

    def __post_init__(self) -> None:
        for name in ("uncond", "cond"):
            if not isinstance(getattr(self, name), Affine):
                kind = type(getattr(self, name)).__name__
                raise TypeError(f"{name}: got {kind}, expected an Affine, as network(condition) returns it")

    @property
    def direction(self) -> Affine:
        """cond - uncond, of total weight 0."""
        return self.cond - self.uncond

    def at(self, scale: Weight) -> Affine:
        """uncond + scale·(cond - uncond); `scale` is a number or a function of sigma."""
        check_scale(scale)
        return self.uncond + scale * self.direction

    @property
    def name(self) -> str:
        return "+".join(dict.fromkeys(self.uncond.names + self.cond.names))

    @property
    def reach(self) -> tuple[float, float]:
        """The levels that both accept."""
        (a, b), (c, d) = self.uncond.reach, self.cond.reach
        return max(a, c), min(b, d)


def check_scale(scale: Weight) -> None:
    if not callable(scale):
        check_number("scale", scale, "a number that float32 holds, or a function of sigma", in_range)


@dataclass(frozen=True)
class GuidanceRamp:
    """gamma(u) = (begin^(1/rho) + u·(end^(1/rho) - begin^(1/rho)))^rho (arXiv 2410.04171); constant without `end`.

    gamma >= 0; rho is any number but 0, and with rho < 0 both ends are above 0.

    >>> ramp = GuidanceRamp(4.0, 2.0, rho=1.0)
    >>> ramp(0.0), ramp(0.5), ramp(1.0)
    (4.0, 3.0, 2.0)
    """

    begin: float
    end: float | None = None
    rho: float = 7.0

    def __post_init__(self) -> None:
        for name, value in (("begin", self.begin), ("end", self._end)):
            check_number(name, value, "a finite number >= 0", lambda value: value >= 0)
        check_number("rho", self.rho, "a finite number other than 0", lambda rho: rho != 0)
        if self.rho < 0 and not min(self.begin, self._end) > 0:
            raise ValueError(f"rho: got {self.rho} with an end at 0, expected rho > 0 or both ends above 0")

    def __call__(self, u: float) -> float:
        check_number("u", u, "progress in [0, 1]", lambda u: 0 <= u <= 1)
        if self.constant:
            return float(self.begin)
        begin, end = self.begin ** (1 / self.rho), self._end ** (1 / self.rho)
        return float((begin + u * (end - begin)) ** self.rho)

    @property
    def constant(self) -> bool:
        return self.begin == self._end

    @property
    def _end(self) -> float:
        return self.begin if self.end is None else self.end

    @classmethod
    def parse(cls, text: str) -> "GuidanceRamp":
        """The ramp written BEGIN[:END[:RHO]].

        >>> GuidanceRamp.parse("4:2:1")
        GuidanceRamp(begin=4.0, end=2.0, rho=1.0)
        """
        parts = text.split(":")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        if not 1 <= len(numbers) <= 3:
            raise ValueError(f"guidance: got {text!r}, expected BEGIN[:END[:RHO]], such as 4 or 4:2 or 4:2:7")
        return cls(*numbers)

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return f"{self.begin!r}" if self.end is None else f"{self.begin!r}:{self.end!r}:{self.rho!r}"


def scale_at(guidance: Guidance, u: float, name: str = "guidance") -> float | None:
    """The scale at progress `u`; `name` is the argument's, for its error."""
    scale = guidance(u) if callable(guidance) else guidance
    if scale is not None:
        check_number(name, scale, f"a number that float32 holds at progress {u:g}, or a function of progress", in_range)
    return scale


@overload
def guide(field: Guided | Affine, scale: Weight | None, name: str = ...) -> Affine: ...
@overload
def guide(field: Guidable | Denoiser, scale: Weight | None, name: str = ...) -> Denoiser: ...
def guide(field: Guidable | Denoiser, scale: Weight | None, name: str = "field") -> Denoiser:
    """`field` under `scale`: a Guided, or another `Guidable`, needs one; any other denoiser has its guidance inside and
    takes None.

    A scale that would have no effect is an error rather than ignored.
    """
    if isinstance(field, Guidable):
        if scale is None:
            raise ValueError(f"{name}: got guidance None for a {type(field).__name__}, expected a number")
        return field.at(scale)
    if scale is not None:
        shown = scale if isinstance(scale, int | float | Tensor) else "a schedule"
        raise ValueError(
            f"{name}: got guidance {shown} for a denoiser that takes none; pass a Guided, or guidance=None"
        )
    return field
