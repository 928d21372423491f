"""FreeInit (arXiv 2312.07537): a plan played K times, each time from the low frequencies of the last result.

Between two runs the result x0 is diffused to the first level with the very noise that the first run began with, and
the high frequencies of that state are replaced by those of fresh noise.
"""

from collections.abc import Sequence
from dataclasses import replace

from ivmix.solvers.algebra.filters import Linear, LowPass
from ivmix.solvers.checks import whole
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.plans.legs import Leg
from ivmix.solvers.steps.onestep import Euler

METHOD = Method(
    "FreeInit",
    papers=("2312.07537",),
    does="a plan played five times, each time from the low frequencies of the last result and the high ones of fresh "
    "noise: legs of noise with a linear filter",
    evaluations={"video": "5n"},
    limit="none, because noise is fresh between runs; each run has its plan's",
    licence="MIT",
)


def freeinit(legs: Sequence[Leg], iterations: int = 5, keep: Linear | None = None) -> list[Leg]:
    """The plan that plays `legs` `iterations` times; 1 is `legs` themselves.

    Before every run but the first, z_T = L(alpha·x0 + sigma_vp·eps) + (1 - L)(eta) at the first level, with x0 the last
    result, eps the z that `integrate` began with, eta fresh unit normals from its `noise`, and L the linear filter
    `keep`, `LowPass()` by default (arXiv 2312.07537, section 4, noise reinitialization). Unit variance is kept where L
    is 0 or 1 alone: independent noises of variance 1 mix to L² + (1 - L)². At a first level of inf nothing of x0 is
    left. The authors' code takes the last training level, which is the first of a "trailing" grid, not of a "leading".

    `legs` go from above 0 to 0, as `plain` and `IVMixed` plan them. Pass `noise` and `schedule` to `integrate`.

    >>> import torch
    >>> from ivmix.solvers.plans.legs import plain
    >>> for leg in freeinit(plain(torch.tensor([10.0, 1.0, 0.0]), guidance=7.5), iterations=2):
    ...     print(leg)
      0 step      video  10 -> 1 +7.5
      1 step      video  1 -> 0 +7.5
      2 again     noise  0 -> 10
      2 step      video  10 -> 1 +7.5
      3 step      video  1 -> 0 +7.5
    """
    whole("iterations", iterations, 1)
    if not legs or not legs[0].source > 0 or legs[-1].target != 0:
        ends = f"{legs[0].source:g} -> {legs[-1].target:g}" if legs else "none"
        raise ValueError(f"legs: got {ends}, expected a plan from a level above 0 to 0")
    steps = legs[-1].step - legs[0].step + 1
    begin = Leg(None, "again", 0.0, 0.0, legs[0].source, None, Euler(), legs[0].step, keep=keep or LowPass())
    runs = [[replace(leg, step=leg.step + k * steps) for leg in (begin, *legs)] for k in range(iterations)]
    return [leg for run in runs for leg in run][1:]
