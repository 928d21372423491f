"""Samplers and a model without scores: the consistency function of a Gaussian, in closed form.

A consistency model tells f(x, sigma), where the trajectory through x ends, not the mean D(x, sigma) of what x may have
been. Of data of variance k, per eigenvector of a covariance, with r(sigma) = sqrt(k + sigma²),

    D = mean + k/r²·(x - mean),      f = mean + sqrt(k)/r·(x - mean)

and eps = (x - D)/sigma is the score's, but (x - f)/sigma is no score's. What comes of f:

    x0, then fresh noise (`few_step`)     the data, from whatever levels, in any number of steps: each x0 is a sample.
                                          Of D each is a mean: of variance k²/r² or less, too narrow.
    an ODE's step to 0 (`plain`, n = 1)   the data: it is f itself.
    the ODE of f, n -> inf                x(sigma') = mean + (sqrt(k) + r')/(sqrt(k) + r)·(x - mean): at 0, from high
                                          levels, twice as wide as the data. More steps are worse steps.
    inversion, legs up                    the same upwards: a clip at 0 comes to (sqrt(k) + r)/2 where its trajectory is
                                          at r, and f of that is half the clip. One leg from 0 does not move it at all.
    a zigzag                              its limit (`ivmix.solvers.theory.limits`) is the ODE of its fields, whatever
                                          they are: with f in it, the one above. A leg of f's own, a jump to 0, has no
                                          leg up that undoes it: f forgets. Fresh noise is the only way up.

So the plans for such a model go down to x0 and up by noise, and another model has its part in x0 or its turns.
"""

from dataclasses import dataclass

from torch import Tensor

from ivmix.solvers.algebra.denoiser import level
from ivmix.solvers.theory.analytic import Gaussian, along_frames


@dataclass(frozen=True, eq=False)
class Consistency:
    """f of Gaussian `data`, to be put where a denoiser stands; x is `… f h w`.

    >>> import torch
    >>> f = Consistency(Gaussian(0.0, 9.0))
    >>> x = torch.full((1, 1, 1, 1, 1), 5.0)
    >>> f(x, 4.0).item(), f.followed(x, 4.0, 0.0).item()
    (3.0, 3.75)
    """

    data: Gaussian

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Where the trajectory through x at the level `sigma` ends; of x's dtype."""
        values, _ = self.data.spectrum
        sigma = level(sigma)
        if sigma.isinf():  # x is unit noise
            return self.data.mu.to(x) + self._along(values.sqrt(), x)
        return self.data.mu.to(x) + self._along((values / (values + sigma.square())).sqrt(), x - self.data.mu.to(x))

    def followed(self, x: Tensor, sigma: float | Tensor, sigma_next: float | Tensor) -> Tensor:
        """The exact state at `sigma_next` of dx/dsigma = (x - f)/sigma, up or down, finite levels; of x's dtype."""
        root = self.data.spectrum[0].sqrt()
        here, there = (root + (root.square() + level(s).square()).sqrt() for s in (sigma, sigma_next))
        return self.data.mu.to(x) + self._along(there / here, x - self.data.mu.to(x))

    def _along(self, factors: Tensor, y: Tensor) -> Tensor:
        """y times a factor per eigenvector."""
        _, vectors = self.data.spectrum
        if vectors is None:
            return factors.to(y) * y
        Q = vectors.to(y)
        return along_frames(Q * factors.to(y) @ Q.mT, y)
