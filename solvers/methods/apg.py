"""Adaptive projected guidance (arXiv 2410.02416, Algorithm 1): the push of guidance, less what is along the prediction.

    m = c - u + beta·m_last                       (momentum; the paper's is reverse, beta < 0)
    m' = min(1, r/|m|)·m                          (rescaling)
    y = c + (g - 1)·(m'_orthogonal + eta·m'_parallel)     to c

What is parallel to c makes colours saturate, what is orthogonal to it makes detail.

Momentum adds over steps, not levels, so that it depends on the grid. As steps are refined m tends to (c - u)/(1 -
beta), at first order whatever the solver: the run without momentum whose g - 1 is divided, and r multiplied, by 1 -
beta.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ivmix.solvers.algebra.adaptive_guidance import AdaptiveGuidance, Weighed, dot, norm, quotient
from ivmix.solvers.algebra.affine import Number
from ivmix.solvers.algebra.network import Prediction
from ivmix.solvers.checks import check_number
from ivmix.solvers.methods.catalogue import Method

METHOD = Method(
    "APG",
    papers=("2410.02416",),
    does="guidance whose push loses what is along the conditional prediction, is no longer than a threshold and keeps "
    "some of the last one: weights made of the predictions, with a memory",
    evaluations={"video": "n"},
    limit="its own field; with momentum beta, the one without whose push is divided, and threshold multiplied, by "
    "1 - beta",
    licence="Apache-2.0 (diffusers)",
)


@dataclass(frozen=True, eq=False)
class APG(AdaptiveGuidance):
    """Guidance with the parallel part of its push weighted by `eta`, the push no longer than `threshold`.

    Plain guidance at eta 1, threshold inf (no rescaling, the default) and momentum 0. The threshold, r, is in units of
    `space` and of a whole clip; for SDXL's x0 the paper takes 15, with eta 0 and momentum -0.5. Its printed code sums
    over the last three axes, c h w of an image; taken as it is to `b c f h w`, it would weigh every channel by itself.
    Here, and in diffusers, sums run over c f h w. diffusers starts from u rather than c, which differs unless eta is 1
    and nothing is rescaled; its `use_original_formulation`, at guidance_scale = g - 1, is this.

    With momentum it remembers: see `Recalling`. Steps under a scale of 1 leave the memory as it is.

    >>> from ivmix.solvers.algebra.guidance import Guided
    >>> from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork
    >>> video = GaussianNetwork("video", {"": Gaussian(0.0, 1.0), "cat": Gaussian(1.0, 1.0)})
    >>> field = APG(Guided(video(""), video("cat")), eta=0.0)
    >>> cond, uncond = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    >>> weights = field.weigh(cond, uncond, 3.0)  # the push, 2·(c - u) = (2, -2), is left with (0, -2)
    >>> weights.cond * cond + weights.uncond * uncond
    tensor([[ 2., -2.]])
    """

    space: Prediction = "x0"
    eta: float = 0.0
    threshold: float = math.inf
    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("eta", self.eta, "a finite number")
        if self.threshold != math.inf:
            check_number("threshold", self.threshold, "a length above 0, or inf", lambda length: length > 0)
        check_number("momentum", self.momentum, "a number in (-1, 1)", lambda momentum: -1 < momentum < 1)

    @property
    def remembers(self) -> bool:
        return self.momentum != 0

    def weigh(self, cond: Tensor, uncond: Tensor, scale: Number, past: Tensor | None = None) -> Weighed:
        push = cond - uncond if past is None else cond - uncond + self.momentum * past
        factor: Number = scale - 1
        if self.threshold < math.inf:
            length = norm(push)
            factor = factor * torch.where(length > self.threshold, quotient(self.threshold, length), 1.0)
        kept = 1 - factor * (1 - self.eta) * quotient(dot(push, cond), dot(cond, cond))
        memory = push if self.remembers else None
        return Weighed(kept + factor, -factor, factor * self.momentum, memory)
