"""A plan as a denoiser: where some steps of a plan lead from x is an x0 of it.

Of one step it is its field's own x0, of ever more of them, down to 0, the end of the field's trajectory through x,
which is a consistency function (arXiv 2303.01469). Either is a denoiser like others: a field of legs, or `as_affine` of
it a part of a guidance or a mixture. It is not linear in its networks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isclose

from torch import Tensor

from ivmix.solvers.algebra.denoiser import Noise, level
from ivmix.solvers.algebra.field import Field
from ivmix.solvers.checks import SLACK
from ivmix.solvers.plans.integrate import Run, integrate
from ivmix.solvers.plans.legs import Leg, planned_nfe


@dataclass(frozen=True, eq=False)
class Nested:
    """The denoiser whose x0 is where the legs `plan(sigma)`, from the level sigma to 0, lead from x.

    `fields` are the legs' own, as `integrate` takes them. A plan with fresh noise takes it from `noise`, which is drawn
    on: one of a run's own. As a field it costs the evaluations of its legs, which `integrate` counts and `planned_nfe`
    tells; as an atom, `as_affine(nested, name)`, a call counts as one under that name. Each call waits for the device
    once, to see whether what it found is finite.

    >>> import torch
    >>> from ivmix.solvers.plans.legs import plain
    >>> from ivmix.solvers.theory.analytic import closed_form_pair
    >>> video = closed_form_pair()["video"].at(2.0)
    >>> end = Nested(video, lambda sigma: plain(torch.tensor([sigma, sigma / 2, 0.0])))
    >>> run = integrate(end, plain(torch.tensor([8.0, 4.0, 0.0])), torch.ones(1, 1, 2, 1, 1))
    >>> run.nfe, planned_nfe(plain(torch.tensor([8.0, 4.0, 0.0])), end)
    ({'video': 4}, {'video': 4})
    """

    fields: Field | Mapping[str, Field]
    plan: Callable[[float], Sequence[Leg]]
    noise: Noise | None = None

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0 of x's shape; x is `b c f h w`."""
        return self.run(x, sigma).x.to(x.dtype)

    def run(self, x: Tensor, sigma: float | Tensor) -> Run:
        """The run from `x` at `sigma` to x0, with what it costs."""
        return integrate(self.fields, self.legs(level(sigma).item()), x, noise=self.noise)

    def legs(self, sigma: float) -> Sequence[Leg]:
        """The legs from `sigma` to 0. ValueError for a plan that has others."""
        legs = self.plan(sigma)
        if not legs or legs[-1].target != 0 or not isclose(legs[0].source, sigma, rel_tol=SLACK):
            ends = f"{legs[0].source:g} -> {legs[-1].target:g}" if legs else "none"
            raise ValueError(f"plan: got legs {ends} at {sigma:g}, expected some from there to 0")
        return legs

    def planned(self, sigma: float | Tensor) -> dict[str, int]:
        """Guided evaluations per network of a call at `sigma`, as `planned_nfe` counts them."""
        return planned_nfe(self.legs(level(sigma).item()), self.fields)
