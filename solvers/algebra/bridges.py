"""Bridges: a network whose latents are others takes part by where it would have x0 go.

With near and across the parts of a field whose networks are of the state's own latent space and of another, W the sum
of the weights across, `there` and `back` the maps between the two spaces, at the level sigma:

    x0_V  = near / (its weights' sum)                       what the state's own networks say: nothing noisy crosses
    x0_I  = there(x0_V)
    x_I   = x0_I + sigma_I·xi                                sigma_I hides as much there as sigma does here
    delta = sum of w·x0(x_I, sigma_I) across  -  W·x0_I      a guidance direction where W = 0, as in a composite
    x0    = x0_V + back(x0_I + delta) - back(x0_I)

What a round trip loses is in both terms of the difference and cancels: where the network across wants nothing changed,
x0 is x0_V itself. `xi` is one draw for a whole run, so that the field is a function of the state and the level and its
run an ODE; the state's own noise, (x - x0_V)/sigma, cannot cross. Where it is the state's own, and the two spaces are
one, this is the plain combination, whatever the networks. Else x_I has the posterior's mean where x has a sample of it:
its spread is smaller than the network was trained on. A direction that does not depend on x, as between Gaussians of
one covariance, does not notice: with an affine bridge that scales all distances alike it is carried over exactly.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from torch import Tensor

from ivmix.solvers.algebra.affine import Affine, Atom, Batch, Model, combine, count_rows, predict
from ivmix.solvers.algebra.denoiser import cast, level, like
from ivmix.solvers.algebra.filters import Filter
from ivmix.solvers.checks import check_number


@dataclass(frozen=True)
class Levels:
    """Levels at which two latent spaces hide as much, as (sigma here, sigma there), both increasing and above 0.

    Linear in their logarithms in between; beyond the ends their ratio stays what it is there, as small noise passes any
    smooth map linearly, and nothing is left to measure in great noise.

    >>> levels = Levels(((0.1, 0.2), (10.0, 40.0)))
    >>> levels.there(0.1), levels.there(0.01), levels.back(levels.there(3.0))
    (0.2, 0.02, 3.0)
    """

    pairs: tuple[tuple[float, float], ...] = ((1.0, 1.0),)

    def __post_init__(self) -> None:
        for pair in self.pairs:
            for value in pair:
                check_number("levels", value, "levels above 0", lambda value: 0 < value < math.inf)
        if not self.pairs or any(not (a < c and b < d) for (a, b), (c, d) in pairwise(self.pairs)):
            raise ValueError(f"levels: got {self.pairs}, expected pairs of levels that both increase")

    def there(self, sigma: float) -> float:
        """The level across of the level `sigma` here; 0 of 0, inf of inf."""
        return _interpolated(sigma, self.pairs)

    def back(self, sigma: float) -> float:
        """The level here of the level `sigma` across."""
        return _interpolated(sigma, [(there, here) for here, there in self.pairs])


def _interpolated(value: float, pairs: Sequence[tuple[float, float]]) -> float:
    i = bisect_left(pairs, value, key=lambda pair: pair[0])
    if i in (0, len(pairs)):
        x, y = pairs[min(i, len(pairs) - 1)]
        return value * (y / x) if value != x else y
    (x0, y0), (x1, y1) = pairs[i - 1], pairs[i]
    share = math.log(value / x0) / math.log(x1 / x0)
    return y1 if value == x1 else y0 * (y1 / y0) ** share


@dataclass(frozen=True, eq=False)
class Bridge:
    """The way between the state's latents and those of another network: two maps of clean latents `b c f h w`, and the
    map of levels. The maps need not undo each other.

    >>> bridge = Bridge(lambda z: 2 * z, lambda z: z / 2, Levels(((1.0, 2.0),)))
    >>> import torch
    >>> from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork
    >>> video = GaussianNetwork("video", {"": Gaussian(0.0, 1.0)})
    >>> image = GaussianNetwork("image", {"": Gaussian(0.0, 4.0), "cat": Gaussian(6.0, 4.0)})
    >>> far = Across(image, bridge)
    >>> denoise = bridged(video("") + far("cat") - far(""), torch.zeros(1, 1, 2, 1, 1))
    >>> denoise(torch.ones(1, 1, 2, 1, 1), 1.0).flatten(), denoise.cost(1.0)  # 0.5 and half of (6 - 0)/2
    (tensor([2., 2.]), {'video': 1, 'image': 2})
    """

    there: Callable[[Tensor], Tensor] = field(repr=False)
    back: Callable[[Tensor], Tensor] = field(repr=False)
    levels: Levels = Levels()


@dataclass(frozen=True, eq=False)
class Across:
    """A network at the other end of a bridge, as a source of atoms: `across(condition)` is an `Affine` of weight 1.

    `bridged` is what evaluates fields that have such atoms. Its `reach` is in levels of the state.
    """

    model: Model
    bridge: Bridge

    def __call__(self, condition: Any = None) -> Affine:
        return Affine(((Atom(self, condition), 1.0),))

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def reach(self) -> tuple[float, float]:
        low, high = map(self.bridge.levels.back, self.model.reach)
        return low, high

    def predict(self, x: Tensor, sigma: Tensor, conditions: Sequence[Any]) -> Sequence[Tensor]:
        raise TypeError(f"network {self.name!r} lies across a bridge and knows no such x: use bridged(field, noise)")


@dataclass(frozen=True, eq=False)
class Bridged:
    """A denoiser: `field`, some of whose atoms lie across a bridge, by the equations above.

    `noise` are unit normals of the other space's shape `b c f h w`, one draw for a whole run; None for one that is only
    counted. Where the weights of all atoms across are 0, nothing crosses and it is the field itself.
    """

    field: Affine
    noise: Tensor | None = None

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0 of x's shape and dtype."""
        sigma = level(sigma)
        near, across, bridge, share = self._parts(sigma)
        x0 = combine(predict(near, x, sigma), x)
        if bridge is None:
            return x0
        if self.noise is None:
            raise ValueError("noise: got None, expected unit normals of the shape of latents across the bridge")
        here = 1 - share if share else 1.0
        x0_v = x0 if here == 1 else x0 / here
        x0_i = bridge.there(x0_v)
        there = level(bridge.levels.there(sigma.item()))
        xi = like(x0_i, self.noise, "noise").to(x0_i)
        outputs = predict(across, x0_i.add(xi, alpha=there.item()), there)
        delta = combine(outputs, x0_i)
        if share:
            delta = delta.sub(x0_i, alpha=share)
        moved = bridge.back(x0_i + delta) - bridge.back(x0_i)
        return x0_v + cast(like(x, moved, "bridge.back"), x.dtype)

    def cost(self, sigma: float | Tensor) -> dict[str, int]:
        """Rows that a call at `sigma` sends to each network, by name; what crosses the bridge is no evaluation."""
        near, across, _, _ = self._parts(level(sigma))
        return count_rows((*near, *across))

    def crosses(self, sigma: float | Tensor) -> bool:
        """Whether a call at `sigma` crosses the bridge: there once, and back twice."""
        return self._parts(level(sigma))[2] is not None

    @property
    def reach(self) -> tuple[float, float]:
        return self.field.reach

    def _parts(self, sigma: Tensor) -> tuple[list[Batch], list[Batch], Bridge | None, float]:
        """Batches near, and across under the names and conditions there; the bridge, if it is crossed; and the sum of
        the weights across. ValueError for a field that has nothing near, or whose weights are no numbers of sum 1."""
        batches = self.field.batches(sigma)
        near = [batch for batch in batches if not isinstance(batch.model, Across)]
        far = [(batch, batch.model) for batch in batches if isinstance(batch.model, Across)]
        if not far:
            return near, [], None, 0.0
        bridges = {id(model.bridge): model.bridge for _, model in far}
        weights = [weight for batch in batches for weight in batch.weights]
        if len(bridges) > 1 or any(isinstance(weight, Filter) for weight in weights):
            raise TypeError("field: expected networks across one bridge, and weights that are numbers")
        share, total = (sum(float(w) for b in some for w in b.weights) for some in ([b for b, _ in far], batches))
        if not near or math.isclose(share, 1, abs_tol=1e-9) or not math.isclose(total, 1, abs_tol=1e-9):
            raise ValueError(
                f"field: got weights of sum {total:g} at sigma {sigma.item():g}, {share:g} of it across the bridge: "
                "expected a sum of 1, and a part of it that knows the state"
            )
        across = [Batch(model.model, tuple(Atom(model.model, atom.condition) for atom in batch.atoms), batch.weights)
                  for batch, model in far]  # fmt: skip
        return near, across, next(iter(bridges.values())), 0.0 if abs(share) < 1e-9 else share


def bridged(field: Affine, noise: Tensor | None = None) -> Affine | Bridged:
    """`field` with its atoms `Across` evaluated over their bridge, under `noise`; itself if it has none."""
    return Bridged(field, noise) if any(isinstance(atom.model, Across) for atom, _ in field.terms) else field
