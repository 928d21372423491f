"""TCFG (arXiv 2503.18137): guidance from the part of the unconditional prediction that both predictions share.

    y = u' + g·(c - u'),   u' = the projection of u on the leading right singular vector of the rows (c, u)

Two rows need no decomposition. With h² = (|c|² - |u|²)² + 4<c, u>², the eigenvectors of their 2x2 Gram matrix give

    u' = <c, u>/h·c + (1 - (|c|² - |u|²)/h)/2·u
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ivmix.solvers.algebra.adaptive_guidance import AdaptiveGuidance, Weighed, dot, quotient
from ivmix.solvers.algebra.affine import Number
from ivmix.solvers.algebra.network import Prediction
from ivmix.solvers.methods.catalogue import Method

METHOD = Method(
    "TCFG",
    papers=("2503.18137",),
    does="guidance from what the unconditional prediction shares with the conditional one: weights made of both",
    evaluations={"video": "n"},
    limit="its own field",
    licence="Apache-2.0 (diffusers)",
)


@dataclass(frozen=True, eq=False)
class TCFG(AdaptiveGuidance):
    """Guidance away from u', the unconditional prediction less what is tangential.

    One decomposition a clip, over c f h w. `space` is what the network was trained on in published code; the paper
    speaks of scores, which eps is. Predictions that are as long as each other and orthogonal have no leading direction:
    u' is u/2 there, the mean of its projections.

    >>> from ivmix.solvers.algebra.guidance import Guided
    >>> from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork
    >>> video = GaussianNetwork("video", {"": Gaussian(0.0, 1.0), "cat": Gaussian(1.0, 1.0)})
    >>> field = TCFG(Guided(video(""), video("cat")))
    >>> cond, uncond = torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 2.0]])
    >>> weights = field.weigh(cond, uncond, 3.0)  # u' = (c + u)/2
    >>> weights.cond, weights.uncond
    (tensor([[2.]]), tensor([[-1.]]))
    """

    space: Prediction = "epsilon"

    def weigh(self, cond: Tensor, uncond: Tensor, scale: Number, past: Tensor | None = None) -> Weighed:
        longer, common = dot(cond, cond) - dot(uncond, uncond), dot(cond, uncond)
        h = torch.hypot(longer, 2 * common)
        along_c, along_u = quotient(common, h), (1 - quotient(longer, h)) / 2
        return Weighed(scale + (1 - scale) * along_c, (1 - scale) * along_u)
