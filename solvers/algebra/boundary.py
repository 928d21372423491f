"""The boundary of a consistency model, which tells where the trajectory through z ends: at t = 0 that is z itself.

    f(z, t) = c_skip·z + c_out·x0(z, t),   c_skip = s²/((k·t)² + s²),   c_out = k·t/sqrt((k·t)² + s²)

of what its network predicts (arXiv 2303.01469, eq. 5; the scalings are LCM's, 2310.04378, with k = 10 and s = 0.5 for
1000 training levels). c_skip is 1 at t = 0, and a millionth from t = 50 on: what they make sure of is training's, not
a run's.
"""

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from ivmix.solvers.checks import check_number

N = TypeVar("N", float, Tensor)


@dataclass(frozen=True)
class Boundary:
    """c_skip and c_out over the network time t; `scaling` is k, `spread` s, the deviation of the data.

    >>> Boundary().at(0.0), [f"{c:.3g}" for c in Boundary().at(19.0)]
    ((1.0, 0.0), ['6.93e-06', '1'])
    """

    scaling: float = 10.0
    spread: float = 0.5

    def __post_init__(self) -> None:
        for name in ("scaling", "spread"):
            check_number(name, getattr(self, name), "a finite number > 0", lambda value: value > 0)

    def at(self, t: N) -> tuple[N, N]:
        """c_skip and c_out at the network time `t` >= 0, a number or a tensor of any shape."""
        scaled, square = self.scaling * t, self.spread**2
        total = scaled**2 + square
        return square / total, scaled / total**0.5
