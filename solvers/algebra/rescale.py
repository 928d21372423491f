"""CFG-rescale: guidance that keeps the standard deviation of the conditional prediction.

It is not linear in the networks, so it is a wrapper around a `Guided` rather than an `Affine`, and no part of a
composite or a mixture.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from ivmix.solvers.algebra.affine import Weight, count_rows, evaluate, union
from ivmix.solvers.algebra.denoiser import level
from ivmix.solvers.algebra.guidance import Guided
from ivmix.solvers.algebra.network import Prediction
from ivmix.solvers.checks import check_number


@dataclass(frozen=True, eq=False)
class Rescaled:
    """A denoiser: `guided` at `scale`, its prediction y rescaled per sample to y·(1 - m + m·std(y_cond)/std(y)).

    m = `rescale` in [0, 1]; `scale` is a number or a function of sigma. `prediction` names the y whose standard
    deviation, over all but the batch, is kept: "x0", or what the network was trained on, as published pipelines do
    ("epsilon", "v", "flow"). Legs of it have guidance None. One guided evaluation, whose rows are those of `guided`.
    Source: arXiv 2305.08891, section 3.4.

    >>> import torch
    >>> from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork
    >>> video = GaussianNetwork("video", {"": Gaussian(0.0, 1.0), "cat": Gaussian(0.0, 2.0)})
    >>> guided = Guided(video(""), video("cat"))
    >>> x = torch.randn(1, 4, 8, 2, 2)
    >>> ratio = Rescaled(guided, 7.5, rescale=1.0)(x, 1.0).std() / guided.cond(x, 1.0).std()
    >>> round(float(ratio), 5)
    1.0
    """

    guided: Guided
    scale: Weight
    rescale: float = 0.7
    prediction: Prediction = "x0"

    def __post_init__(self) -> None:
        if not isinstance(self.guided, Guided):
            raise TypeError(f"guided: got a {type(self.guided).__name__}, expected a Guided")
        check_number("rescale", self.rescale, "a share in [0, 1]", lambda rescale: 0 <= rescale <= 1)
        if self.prediction not in ("epsilon", "x0", "v", "flow"):
            raise ValueError(f"prediction: got {self.prediction!r}, expected 'epsilon', 'x0', 'v' or 'flow'")

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0 of x's shape and dtype; x is `b c f h w`."""
        sigma = level(sigma)
        guided, cond = evaluate((self.guided.at(self.scale), self.guided.cond), x, sigma)
        share = self._share(sigma.item())  # y is a multiple of x - x0 / share, or x0 itself where the share is 0
        y, y_cond = (x0 if share == 0 else share * x - x0 for x0 in (guided, cond))
        spread = [v.flatten(1).std(1).reshape(-1, *[1] * (x.ndim - 1)) for v in (y, y_cond)]
        factor = 1 - self.rescale + self.rescale * spread[1] / spread[0]
        return share * x - factor * (share * x - guided) if share else factor * guided

    def cost(self, sigma: float | Tensor) -> dict[str, int]:
        """Rows that a call at `sigma` sends to each network, by name."""
        return count_rows(union((self.guided.at(self.scale), self.guided.cond), level(sigma)))

    @property
    def reach(self) -> tuple[float, float]:
        """The levels that the network accepts."""
        return self.guided.reach

    def _share(self, sigma: float) -> float:
        """c of x in y = c·x - x0, up to a factor: what each prediction is of x and x0."""
        if self.prediction == "x0" or math.isinf(sigma):
            return 0.0
        return {"epsilon": 1.0, "v": 1 / (1 + sigma**2), "flow": 1 / (1 + sigma)}[self.prediction]
