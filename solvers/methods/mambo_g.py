"""MAMBO-G (arXiv 2508.03442): guidance that is damped where it would move the prediction by much.

    y = u + w·(c - u),   w = 1 + (g - 1)·exp(-alpha·r),   r = |c - u| / |u|

r is largest in a run's first steps, where the prediction knows least.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ivmix.solvers.algebra.adaptive_guidance import AdaptiveGuidance, Weighed, norm
from ivmix.solvers.algebra.affine import Number
from ivmix.solvers.algebra.network import Prediction
from ivmix.solvers.checks import check_number
from ivmix.solvers.methods.catalogue import Method

METHOD = Method(
    "MAMBO-G",
    papers=("2508.03442",),
    does="guidance damped where it would move the prediction by much: weights made of the predictions",
    evaluations={"video": "n"},
    limit="its own field",
    licence="Apache-2.0 (diffusers)",
)


@dataclass(frozen=True, eq=False)
class MAMBOG(AdaptiveGuidance):
    """Guidance under a scale of its own for every clip, between 1 and the given one; `alpha` >= 0, 0 being plain.

    r is over c f h w of a clip. `space` is what the network was trained on in published code, a flow's velocity in the
    paper. Where c = u, r is 0; where u alone is 0, r is infinite and the scale 1.

    >>> from ivmix.solvers.algebra.guidance import Guided
    >>> from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork
    >>> video = GaussianNetwork("video", {"": Gaussian(0.0, 1.0), "cat": Gaussian(1.0, 1.0)})
    >>> field = MAMBOG(Guided(video(""), video("cat")), alpha=2.0)
    >>> cond, uncond = torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0, 0.0]])
    >>> weights = field.weigh(cond, uncond, 10.0)  # r = 0.7071
    >>> weights.cond, weights.uncond
    (tensor([[3.1881]]), tensor([[-2.1881]]))
    """

    space: Prediction = "flow"
    alpha: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha, "a finite number >= 0", lambda alpha: alpha >= 0)

    def weigh(self, cond: Tensor, uncond: Tensor, scale: Number, past: Tensor | None = None) -> Weighed:
        r = norm(cond - uncond) / norm(uncond)
        own = 1 + (scale - 1) * torch.exp((-self.alpha * r).nan_to_num(nan=0.0))  # 0/0 and 0·inf: nothing to damp
        return Weighed(own, 1 - own)
