"""CFG-Zero* (arXiv 2503.18886): guidance from the unconditional velocity at its best length, and a still start.

    v = s·v_u + g·(v_c - s·v_u),   s = <v_c, v_u> / |v_u|²        (section 4, optimized scale)
    v = 0                          in the first steps             (zero-init)

s·v_u is the projection of v_c on v_u, so guidance pushes along what of v_c is orthogonal to v_u alone. The velocity is
a flow's, eps - x0; where it is 0, z = x/(1 + sigma) stays where it is and only its level falls.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from ivmix.solvers.algebra.adaptive_guidance import AdaptiveGuidance, Weighed, dot, quotient
from ivmix.solvers.algebra.affine import Number
from ivmix.solvers.algebra.network import Prediction
from ivmix.solvers.checks import SLACK
from ivmix.solvers.methods.catalogue import Method

METHOD = Method(
    "CFG-Zero*",
    papers=("2503.18886",),
    does="guidance from the unconditional velocity at its best length: weights made of the predictions; no velocity, "
    "and no evaluation, above a level",
    evaluations={"video": "n"},
    limit="its own field",
    licence="none; Apache-2.0 (diffusers)",
)


@dataclass(frozen=True, eq=False)
class CFGZeroStar(AdaptiveGuidance):
    """Guidance whose weights are g of the conditional and (1 - g)·s of the unconditional prediction.

    s is one number a clip, over c f h w, as the paper has it. Above the level `zero_above` the velocity is 0 and costs
    nothing: sigmas[k] for the first k steps of a grid; inf, the default, for none. The paper takes 4 % of the steps; 1
    is the default of diffusers. The level is an edge of the field: Euler's method does not notice where it is a node.
    s has no bound: it is negative where the two velocities part.

    >>> import torch
    >>> from ivmix.solvers.algebra.guidance import Guided
    >>> from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork
    >>> video = GaussianNetwork("video", {"": Gaussian(0.0, 1.0), "cat": Gaussian(1.0, 1.0)})
    >>> field = CFGZeroStar(Guided(video(""), video("cat")))
    >>> cond, uncond = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 0.0]])
    >>> weights = field.weigh(cond, uncond, 3.0)  # s = 1/2
    >>> weights.cond, weights.uncond
    (3.0, tensor([[-1.]]))
    >>> field.at(3.0)(torch.ones(1, 4, 8, 2, 2), 1.0).shape
    torch.Size([1, 4, 8, 2, 2])
    """

    space: Prediction = "flow"
    zero_above: float = math.inf

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            good = self.zero_above > 0
        except TypeError:
            good = False
        if not good:
            raise ValueError(f"zero_above: got {self.zero_above!r}, expected a level above 0, or inf")

    def weigh(self, cond: Tensor, uncond: Tensor, scale: Number, past: Tensor | None = None) -> Weighed:
        s = quotient(dot(cond, uncond), dot(uncond, uncond))
        return Weighed(scale, (1 - scale) * s)

    def still(self, sigma: Tensor) -> bool:
        return bool(sigma > self.zero_above * (1 + SLACK))
