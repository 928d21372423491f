"""I4VGen (arXiv 2406.02230): an image, held still as a clip, set in motion by a video model, noised and drawn again.

    x0 = the image model's first frame, in all frames
    x0 <- x0 - r·w·(eps_V(x0 + sigma·eta) - eta),   w = sigma²/(1 + sigma²), over the first levels of the grid
    then the video model down from x0 + sigma_max·xi

The second line is noise-invariant score distillation: eta is one noise for all of its steps. As eps_V - eta is (x0 -
D)/sigma, each is x0 <- (1 - a)·x0 + a·D(x0 + sigma·eta) with a = r·sigma/(1 + sigma²), however short the step of the
grid. So there is no ODE that it solves: with ever more steps x0 settles where D(x0 + sigma·eta) = x0, wherever it came
from, and the image is forgotten; what it leaves is left by the steps' being few.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ivmix.solvers.algebra.guidance import Guidance
from ivmix.solvers.algebra.mixing import HERE
from ivmix.solvers.checks import check_number
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.plans.legs import Leg, View, keeping, mixing, noising, plain
from ivmix.solvers.schedules.grids import check_grid

METHOD = Method(
    "I4VGen",
    papers=("2406.02230",),
    does="an image held still as a clip, set in motion by a distillation from the video network, noised and drawn "
    "again: legs that mix states",
    evaluations={"image": "n", "video": "n + floor(0.6·n) + 1"},
    limit="none, because the distillation pulls as far in a short step as in a long one",
    licence="Apache-2.0",
)

STILL = View("first frame", lambda x: x[:, :, :1], lambda y, x: y.expand_as(x))
"""The first frame alone, `b c 1 h w`; held in all frames on the way out."""


def i4vgen(
    sigmas: Tensor,
    guidance: Guidance = 7.5,
    image_guidance: Guidance = 7.5,
    share: float = 0.6,
    rates: Sequence[float] = (10.0, 10.0, 10.0),
    *,
    image: str = "image",
    video: str = "video",
) -> list[Leg]:
    """The plan on the decreasing grid `sigmas` (n + 1,), to 0: n evaluations of the image model, of one frame each, and
    n and those of the distillation of the video model.

    The distillation takes the first int(share·n) + 1 levels of the grid, at most n, with r from `rates`, and 1 where
    they end: the authors' 0.6, and 10, 10, 10, 1, … on a grid of 25. At inf w·(eps_V - eta) is 0 and nothing is
    evaluated. They choose the image among several by a network that grades them, which is left out.

    >>> import torch
    >>> for leg in i4vgen(torch.tensor([8.0, 4.0, 0.0]), share=0.0):
    ...     print(leg)
      0 image     image  8 -> 4 +7.5
      1 image     image  4 -> 0 +7.5
      2 keep      states 0 -> 0 = here as clip
      2 noise     noise  0 -> inf
      2 keep      states inf -> inf = here as eta
      2 noised    states inf -> 8 = clip + 8·eta
      2 distil    video  8 -> 0 +7.5
      2 pull      states 0 -> 0 = -0.2308·clip + 1.231·here as clip
      3 again     noise  0 -> 8
      3 step      video  8 -> 4 +7.5
      4 step      video  4 -> 0 +7.5
    """
    check_number("share", share, "a share in [0, 1]", lambda share: 0 <= share <= 1)
    steps = plain(check_grid(sigmas), guidance, network=video)
    n = len(steps)
    if steps[-1].target != 0:
        raise ValueError(f"sigmas: got a grid that ends at {steps[-1].target:g}, expected one to 0")
    distilled = [step for step in steps[: int(share * n) + 1] if math.isfinite(step.source)]
    frames = plain(sigmas, image_guidance, network=image)
    plan = [replace(leg, label="image", view=STILL) for leg in frames]
    plan += [keeping(0.0, "clip", n), noising(0.0, math.inf, n), keeping(math.inf, "eta", n)]
    at = math.inf
    for k, step in enumerate(distilled):
        sigma, rate = step.source, rates[k] if k < len(rates) else 1.0
        check_number("rates", rate, "finite numbers")
        a = rate * sigma / (1 + sigma**2)
        plan += [
            mixing(at, sigma, {"clip": 1.0, "eta": sigma}, n + k, label="noised"),
            replace(step, label="distil", target=0.0, step=n + k),
            mixing(0.0, 0.0, {"clip": 1 - a, HERE: a}, n + k, "clip", "pull"),
        ]
        at = 0.0
    begin = n + len(distilled)
    plan.append(noising(0.0, steps[0].source, begin, "again"))
    return plan + [replace(step, step=begin + step.step) for step in steps]
