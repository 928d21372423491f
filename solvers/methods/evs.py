"""EVS (arXiv 2507.13753): one run whose steps are the image model's or the video model's, no noise in between.

    x' = a step of the video model's, or M of a step of the image model's from U·x

U repeats every latent k x k times and M is the mean of such a block, M·U = 1: the image model works at k times the
size. By Euler's method only its prediction is resized, as by `enlarged`, and as steps of a period of p, of which j are
the image model's, get short, the run converges at first order to the mixture

    dx/dsigma = (1 - j/p)·eps_V(x) + (j/p)·M·eps_I(U·x)

which is `mixture` of image weight j/p at k = 1. In a run of few steps, as theirs, each model works on what the other
left, and which comes last is seen.
"""

from collections.abc import Collection
from dataclasses import replace

from torch import Tensor

from ivmix.solvers.algebra.guidance import Guidance, scale_at
from ivmix.solvers.checks import whole
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.plans.legs import Leg, View, plain, progress
from ivmix.solvers.schedules.grids import check_grid

METHOD = Method(
    "EVS",
    papers=("2507.13753",),
    does="some steps of a run by the image network, at an enlarged size, the others by the video network: legs, with a "
    "view; m is the image network's share of them, and its prediction is resized in the limit too",
    evaluations={"all": "n"},
    limit="(1 - m)·D_V(w) + m·D_I(w_I)",
    licence="unknown",
)


def evs(
    sigmas: Tensor,
    image_steps: Collection[int],
    guidance: Guidance = 7.5,
    image_guidance: Guidance = 7.5,
    enlarge: int = 2,
    *,
    image: str = "image",
    video: str = "video",
) -> list[Leg]:
    """The plan on the decreasing grid `sigmas` (n + 1,): n evaluations, of the image model in the steps `image_steps`.

    Steps are numbered from 0; which are whose is for the caller to say. In those of the image model the state is seen
    `enlarge` times as large (2, the authors' "X2.0"; 1 is no view), at `enlarge`² times the price. The authors' video
    models are distilled ones, of few steps.

    >>> import torch
    >>> for leg in evs(torch.tensor([8.0, 4.0, 2.0, 0.0]), [1], image_guidance=3.0):
    ...     print(leg, "seen", leg.view.name if leg.view else "as it is")
      0 step      video  8 -> 4 +7.5 seen as it is
      1 image     image  4 -> 2 +3 seen enlarged x2
      2 step      video  2 -> 0 +7.5 seen as it is
    """
    whole("enlarge", enlarge, 1)
    steps = plain(check_grid(sigmas), guidance, network=video)
    for k in image_steps:
        whole("image_steps", k, 0, len(steps) - 1)
    view, plan = magnified(enlarge) if enlarge > 1 else None, []
    for step in steps:
        if step.step in image_steps:
            scale = scale_at(image_guidance, progress(step.step, len(steps)), "image_guidance")
            step = replace(step, network=image, label="image", guidance=scale, view=view)
        plan.append(step)
    return plan


def magnified(k: int) -> View:
    """The view of `b c f h w` as `b c f k·h k·w`: latents repeated on the way in, blocks averaged on the way out."""

    def enter(x: Tensor) -> Tensor:
        return x.repeat_interleave(k, -2).repeat_interleave(k, -1)

    def leave(y: Tensor, x: Tensor) -> Tensor:
        return y.unflatten(-1, (-1, k)).unflatten(-3, (-1, k)).mean((-3, -1))

    return View(f"enlarged x{k}", enter, leave)
