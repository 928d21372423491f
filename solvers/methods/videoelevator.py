"""VideoElevator (arXiv 2403.05438) as a plan of legs: an image model's run, put right by a video model on its way.

The image network's ordinary steps go from level to level. At chosen steps the clip is first refined:

    look     image, to 0        x0 = D_I(x, sigma), then W(x0), a low-pass
    noise    0 -> sigma         fresh noise, up to the level it came from (SDEdit, arXiv 2108.01073)
    motion   video, to 0        a few steps
    invert   image, 0 -> sigma  DDIM's inversion without guidance, by the levels of these steps

As the grid is refined, a run converges to flows with kicks between them: noise is drawn at the same few levels however
fine the grid is, so there is no limit ODE. After the last kick the image network's flow first goes up and then comes
down again: were it under one guidance both ways, the video network's clip would come out as it is, so all that the
image network does to it there is the difference of the two scales.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor

from ivmix.solvers.algebra.filters import GaussianLowPass, Linear
from ivmix.solvers.algebra.guidance import Guidance, scale_at
from ivmix.solvers.checks import check_number, whole
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.methods.ivmixed import Reach, playable
from ivmix.solvers.plans.legs import Leg, View, plain, progress
from ivmix.solvers.schedules.grids import check_grid
from ivmix.solvers.steps.onestep import Euler

METHOD = Method(
    "VideoElevator",
    papers=("2403.05438",),
    does="the image network's run; at four steps its x0, low-passed, is noised again, drawn by the video network in "
    "eight steps and inverted by the image network: legs and a filter",
    evaluations={"image": "n + 32", "video": "32"},
    limit="none, because noise is drawn at the same few levels however fine the grid is",
    licence="none",
)


def videoelevator(
    sigmas: Tensor,
    image_guidance: Guidance = 7.5,
    video_guidance: Guidance = 7.5,
    inversion_guidance: Guidance = 0.0,
    refined: Sequence[float] = (0.1, 0.3, 0.5, 0.7),
    video_steps: int = 8,
    low_pass: Linear | None = None,
    reach: Reach | None = None,
) -> list[Leg]:
    """The plan on the decreasing grid `sigmas` (n + 1,), of Euler's steps (DDIM).

    Step s·n, rounded down, is refined for each share s in `refined`; the default is the authors', steps 45, 35, 25 and
    15 of 50 counted from the end. `video_steps` are spread evenly over the grid's levels from there to 0, or all of
    them where they are fewer. `low_pass` is `GaussianLowPass(1.0, 0.5)` by default, which is mostly over frames.
    Guidance is a number, a function of progress, or None for a denoiser. Steps from inf, where noise leaves nothing of
    a clip, are not refined, nor are those that would ask a network for a level outside of its `reach`. The image
    network is taken as it is; the paper's is inflated, its frames not independent.

    >>> import torch
    >>> for leg in videoelevator(torch.tensor([8.0, 4.0, 2.0, 0.0]), refined=[0.5], video_steps=2):
    ...     print(leg)
      0 step      image  8 -> 4 +7.5
      1 look      image  4 -> 0 +7.5
      1 noise     noise  0 -> 4
      1 motion    video  4 -> 2 +7.5
      1 motion    video  2 -> 0 +7.5
      1 invert    image  0 -> 2 +0
      1 invert    image  2 -> 4 +0
      1 step      image  4 -> 2 +7.5
      2 step      image  2 -> 0 +7.5
    """
    levels: list[float] = check_grid(sigmas).tolist()
    n = len(levels) - 1
    whole("video_steps", video_steps, 1)
    for share in refined:
        check_number("refined", share, "shares of the run in [0, 1)", lambda share: 0 <= share < 1)
    chosen = {math.floor(share * n + 1e-9) for share in refined}
    view, plan = View("low-pass", _entered, _Passed(low_pass or GaussianLowPass(1.0, 0.5))), []
    for step in plain(sigmas, image_guidance, network="image"):
        if step.step in chosen and math.isfinite(step.source):
            u, below = progress(step.step, n), levels[step.step :]
            count = min(video_steps, len(below) - 1)
            spread = [below[round(k * (len(below) - 1) / count)] for k in range(count + 1)]
            video, inversion = scale_at(video_guidance, u), scale_at(inversion_guidance, u, "inversion_guidance")
            legs = [
                replace(step, label="look", target=0.0, view=view),
                Leg(None, "noise", 0.0, 0.0, below[0], None, Euler(), step.step),
                *(Leg("video", "motion", a, a, b, video, Euler(), step.step) for a, b in pairwise(spread)),
                *(Leg("image", "invert", a, a, b, inversion, Euler(), step.step) for a, b in pairwise(spread[::-1])),
            ]
            if playable([leg for leg in legs if leg.told > 0], reach):  # a leg from 0 asks nothing
                plan += legs
        plan.append(step)
    return plan


def _entered(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class _Passed:
    linear: Linear

    def __call__(self, x0: Tensor, x: Tensor) -> Tensor:
        return self.linear(x0)
