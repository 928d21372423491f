"""FreqPrior (arXiv 2502.03496): FreeInit with a mix of noises that keeps their variance.

    z_T = L(alpha·x0 + sigma_vp·eps) + sqrt(1 - L²)(eta)

where FreeInit has 1 - L. Independent white noises mix to one whose power is L² + (1 - L²) = 1 at every frequency; by
FreeInit's rule it is 1 - 2·L·(1 - L), half as much at the cut-offs.
"""

from collections.abc import Sequence
from dataclasses import replace

from ivmix.solvers.algebra.filters import FrequencyFilter, LowPass, PowerComplement
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.methods.freeinit import freeinit
from ivmix.solvers.plans.legs import Leg

METHOD = Method(
    "FreqPrior",
    papers=("2502.03496",),
    does="FreeInit, here of three runs, with a mix of noises that keeps their variance: legs of noise with two filters",
    evaluations={"video": "3n"},
    limit="none, because noise is fresh between runs; each run has its plan's",
    licence="none",
)


def freqprior(legs: Sequence[Leg], iterations: int = 3, low: FrequencyFilter | None = None) -> list[Leg]:
    """The plan that plays `legs` `iterations` times, `freeinit`'s but for the mix; L is `low`, `LowPass()` by default.

    Not here: the paper's partial sampling, in which earlier runs end at a level above 0, and its second set of noise.

    What FreeInit's rule loses of the noise's variance, of all frequencies and of those with L >= 1/2; here nothing:

    >>> from ivmix.solvers.algebra.filters import GaussianLowPass
    >>> for L in (LowPass(), GaussianLowPass(), LowPass(0.5, 0.5), GaussianLowPass(0.5, 0.5)):
    ...     gain = L.response(16, 64, 64)
    ...     lost = 2 * gain * (1 - gain)
    ...     print(f"{lost.mean():.2%} {lost[gain >= 0.5].mean():.0%}", L)
    0.78% 21% LowPass(spatial=0.25, temporal=0.25, order=4)
    3.98% 41% GaussianLowPass(spatial=0.25, temporal=0.25)
    6.15% 23% LowPass(spatial=0.5, temporal=0.5, order=4)
    25.59% 41% GaussianLowPass(spatial=0.5, temporal=0.5)

    >>> import torch
    >>> from ivmix.solvers.plans.legs import plain
    >>> for leg in freqprior(plain(torch.tensor([10.0, 0.0])), iterations=2):
    ...     print(leg)
      0 step      video  10 -> 0
      1 again     noise  0 -> 10
      1 step      video  10 -> 0
    """
    low = low or LowPass()
    fill = PowerComplement(low)
    return [replace(leg, fill=fill) if leg.keep is low else leg for leg in freeinit(legs, iterations, low)]
