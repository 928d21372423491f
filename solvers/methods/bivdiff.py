"""BIVDiff (arXiv 2312.02813): the image model's frames, inverted by both models, mixed, sampled by the video model.

    x0 = image model down;   z_I, z_V = x0 inverted by the image and by the video model
    z = lambda·z_I + (1 - lambda)·z_V,   then the video model down from z

Write F and F_u for a model's flow from noise to clips with its guidance and as it inverts. As a grid is refined the run
converges, at its solver's order, to

    F_V(lambda·F_Iu^-1(F_I(z)) + (1 - lambda)·F_Vu^-1(F_I(z)))

so at lambda 0, where both video flows have one guidance, to the image model's clip as it was, and at lambda 1, where
both image flows have one, to what the video model draws by itself. All that the method does it does by the guidance
that its inversions lack, and by the mixing in between: there is no ODE of both networks that it solves.
"""

from dataclasses import replace

from torch import Tensor

from ivmix.solvers.algebra.guidance import Guidance
from ivmix.solvers.algebra.mixing import HERE
from ivmix.solvers.checks import check_number
from ivmix.solvers.plans.legs import Leg, keeping, mixing, plain
from ivmix.solvers.schedules.grids import check_grid
from ivmix.solvers.steps.solver import Solver


def bivdiff(
    sigmas: Tensor,
    guidance: Guidance = 7.5,
    image_guidance: Guidance = 7.5,
    image_weight: float = 0.25,
    inversion_guidance: Guidance = 0.0,
    solver: Solver | None = None,
    *,
    image: str = "image",
    video: str = "video",
) -> list[Leg]:
    """The plan on the decreasing grid `sigmas` (n + 1,), from noise to 0: 2n - 1 evaluations of either network.

    `image_weight` is lambda, in [0, 1]: the authors take 1 for frames of ControlNet and InstructPix2Pix, 0.25 for
    Prompt2Prompt and 0.1 for inpainting; at 1 and at 0 the inversion that has no weight is not made, n - 1 evaluations
    less. `inversion_guidance` is that of both inversions, 0 (the empty prompt) in the authors' code, which inverts by
    Stable Diffusion whatever network drew the frames. `solver` (Euler by default) plays all steps; a step from 0
    evaluates nothing, as eps is 0 there. An inversion errs by its steps' order as any run does.

    >>> import torch
    >>> for leg in bivdiff(torch.tensor([8.0, 4.0, 0.0]), image_weight=0.25):
    ...     print(leg)
      0 image     image  8 -> 4 +7.5
      1 image     image  4 -> 0 +7.5
      2 keep      states 0 -> 0 = here as clip
      2 invert I  image  0 -> 4 +0
      3 invert I  image  4 -> 8 +0
      4 keep      states 8 -> 8 = here as image
      4 back      states 8 -> 0 = clip
      4 invert V  video  0 -> 4 +0
      5 invert V  video  4 -> 8 +0
      6 mix       states 8 -> 8 = 0.25·image + 0.75·here
      6 step      video  8 -> 4 +7.5
      7 step      video  4 -> 0 +7.5
    """
    check_number("image_weight", image_weight, "a share in [0, 1]", lambda share: 0 <= share <= 1)
    levels = check_grid(sigmas)
    top, end, n = levels[0].item(), levels[-1].item(), len(levels) - 1

    def part(k: int, grid: Tensor, scale: Guidance, network: str, label: str) -> list[Leg]:
        return [replace(leg, label=label, step=k * n + leg.step) for leg in plain(grid, scale, solver, network)]

    up, frames = levels.flip(0), part(0, levels, image_guidance, image, "image")
    if image_weight in (0, 1):
        network, label = (image, "invert I") if image_weight else (video, "invert V")
        inverted = part(1, up, inversion_guidance, network, label)
        return [*frames, *inverted, *part(2, levels, guidance, video, "step")]
    return [
        *frames,
        keeping(end, "clip", n),
        *part(1, up, inversion_guidance, image, "invert I"),
        keeping(top, "image", 2 * n),
        mixing(top, end, {"clip": 1.0}, 2 * n, label="back"),
        *part(2, up, inversion_guidance, video, "invert V"),
        mixing(top, top, {"image": image_weight, HERE: 1 - image_weight}, 3 * n),
        *part(3, levels, guidance, video, "step"),
    ]
