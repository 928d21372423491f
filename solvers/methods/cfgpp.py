"""CFG++ (arXiv 2406.08070): x0 is guided, and noised again along the unconditional prediction.

    x' = x0(scale) + sigma'·eps_u,      x0(scale) = x0_u + scale·(x0_c - x0_u)

By Euler's method this is classifier-free guidance of scale / (1 - sigma'/sigma), which grows as steps get short: each
step is Euler's unconditional one and -sigma·scale·d, d = eps_c - eps_u, however short it is. So it has no ODE limit.
As -sigma·d = sigma²·grad log p(c|x), what steps get more of is ascent of log p(c|x): in the limit the state stays
where d = 0, if there is a maximum, and drifts without bound if there is none, as between Gaussians of one covariance.
"""

from torch import Tensor

from ivmix.solvers.algebra.guidance import Guidance, scale_at
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.plans.legs import Leg, plain
from ivmix.solvers.schedules.grids import check_grid

METHOD = Method(
    "CFG++",
    papers=("2406.08070",),
    does="Euler's steps under a guidance of scale/(1 - sigma'/sigma), which depends on their length",
    evaluations={"video": "n"},
    limit="none, because the guidance of a step is -sigma·scale·d however short the step is",
    licence="none",
)


def cfgpp(sigmas: Tensor, scale: Guidance = 0.6, network: str = "video") -> list[Leg]:
    """The plan on the decreasing grid `sigmas` (n + 1,), of Euler's steps of a `Guided`; one evaluation a step.

    `scale` is the paper's lambda, in [0, 1] there, a number or a function of progress; its meaning depends on the
    number of steps. The step to 0, and one from inf, have it as it is. Multistep variants are other methods.

    >>> import torch
    >>> for leg in cfgpp(torch.tensor([8.0, 4.0, 3.0, 0.0]), 0.5):
    ...     print(leg)
      0 step      video  8 -> 4 +1
      1 step      video  4 -> 3 +2
      2 step      video  3 -> 0 +0.5
    """
    levels = check_grid(sigmas)
    n, ratios = len(levels) - 1, (levels[1:] / levels[:-1]).tolist()

    def guidance(u: float) -> float:
        found = scale_at(scale, u, "scale")
        if found is None:
            raise ValueError("scale: got None, expected a number, or a function of progress")
        return found / (1 - ratios[round(u * (n - 1))])

    return plain(sigmas, guidance, network=network)
