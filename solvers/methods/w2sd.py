"""W2SD, weak-to-strong diffusion with reflection (arXiv 2502.00473), as a plan of legs of two networks.

    i -> i+1   strong        i+1 -> i   weak        then the ordinary step i -> i+1, strong

What the reflection leaves behind is, to first order in the step, a push along strong - weak (the paper's theorem, x~ =
x + sigma^2·dt·(score_s - score_w)): as a grid is refined, the run converges to that of 2·D_s - D_w, `autoguidance` of
scale 2. `zsampling` is the case of one network under two scales, `IVMixed` "V-V" that of opposite ones.
"""

from dataclasses import replace

from torch import Tensor

from ivmix.solvers.algebra.guidance import Guidance
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.methods.ivmixed import Reach, playable
from ivmix.solvers.methods.zsampling import zsampling
from ivmix.solvers.plans.legs import Leg
from ivmix.solvers.steps.solver import Solver

METHOD = Method(
    "W2SD",
    papers=("2502.00473",),
    does="down by a strong network, up by a weak one, down by the strong one: legs",
    evaluations={"strong": "2n - 1", "weak": "n - 1"},
    limit="2·D_s - D_w",
    licence="MIT",
    training_free="given a weaker network",
)


def w2sd(
    sigmas: Tensor,
    guidance: Guidance = 5.5,
    inversion_guidance: Guidance = 1.0,
    zigzags: int | None = None,
    solver: Solver | None = None,
    *,
    strong: str = "video",
    weak: str = "image",
    reach: Reach | None = None,
) -> list[Leg]:
    """The plan on the decreasing grid `sigmas` (n + 1,): n + zigzags evaluations of `strong`, zigzags of `weak`.

    `guidance` is the strong network's, `inversion_guidance` the weak one's; defaults are the authors' for LoRAs of SDXL
    (5.5 and 1.0). All arguments are `zsampling`'s, but for the names of the two networks and their `reach`: steps whose
    detour would ask a network for a level outside of its own ({"image": (low, high)}) are plain. The weak network is
    told the level the state is at; the authors' code tells it the level above, an error of first order, which leaves
    the limit as it is.

    >>> import torch
    >>> for leg in w2sd(torch.tensor([8.0, 4.0, 0.0])):
    ...     print(leg)
      0 zig       video  8 -> 4 +5.5
      0 zag       image  4 -> 8 +1
      0 step      video  8 -> 4 +5.5
      1 step      video  4 -> 0 +5.5
    """
    legs = zsampling(sigmas, guidance, inversion_guidance, zigzags, solver, network=strong)
    legs = [replace(leg, network=weak) if leg.label == "zag" else leg for leg in legs]
    out = {leg.step for leg in legs if leg.label == "zag" and not playable([leg], reach)}
    return [leg for leg in legs if leg.label == "step" or leg.step not in out]
