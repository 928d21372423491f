"""What a leg's field may be."""

import math
from dataclasses import dataclass

from ivmix.solvers.algebra.affine import Affine, Weight
from ivmix.solvers.algebra.bridges import Bridged
from ivmix.solvers.algebra.denoiser import Denoiser
from ivmix.solvers.algebra.guidance import Guidable


@dataclass(frozen=True, eq=False)
class Composite:
    """A mean denoiser, an `Affine` whose weights sum to 1 or one that is made of it (`bridged`), and the rate of fresh
    noise, k_R (0: an ODE)."""

    denoise: Affine | Bridged
    churn: Weight = 0.0

    @property
    def eta(self) -> Weight:
        """sqrt(churn): the stochasticity of the `DDIM` that follows it, as `SDEDPMSolverPP2M(churn)` does."""
        churn = self.churn
        return (lambda sigma: math.sqrt(churn(sigma))) if callable(churn) else math.sqrt(churn)


Field = Guidable | Composite | Denoiser
"""What a leg may step: a guided network (a `Guided`, or one of adaptive guidance), a composite, or any denoiser."""
