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

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from ivmix.solvers.algebra.guidance import Guidance
from ivmix.solvers.algebra.mixing import HERE, Share
from ivmix.solvers.checks import check_number, within
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.methods.ivmixed import Reach, check_reach
from ivmix.solvers.plans.legs import Leg, mixing, plain
from ivmix.solvers.schedules.grids import check_grid
from ivmix.solvers.steps.solver import Solver

METHOD = Method(
    "BIVDiff",
    papers=("2312.02813",),
    does="the image network's clip, inverted by both networks, a weighted state of the two, and the video network from "
    "there: legs that mix states",
    evaluations={"video": "2n - 1", "image": "2n - 1"},
    limit="none, because it solves no ODE of both networks: it converges to a chain of their flows, states mixed in "
    "between",
    licence="Apache-2.0",
)


def bivdiff(
    sigmas: Tensor,
    guidance: Guidance = 7.5,
    image_guidance: Guidance = 7.5,
    image_weight: float = 0.25,
    inversion_guidance: Guidance = 0.0,
    solver: Solver | None = None,
    *,
    reach: Reach | None = None,
) -> list[Leg]:
    """The plan on the decreasing grid `sigmas` (n + 1,), from noise to 0: 2n - 1 evaluations of either network.

    `image_weight` is lambda, in [0, 1]: the authors take 1 for frames of ControlNet and InstructPix2Pix, 0.25 for
    Prompt2Prompt and 0.1 for inpainting; at 1 and at 0 the inversion that has no weight is not made, n - 1 evaluations
    less. `inversion_guidance` is that of both inversions, 0 (the empty prompt) in the authors' code, which inverts by
    Stable Diffusion whatever network drew the frames. `solver` (Euler by default) plays all steps; a step from 0
    evaluates nothing, as eps is 0 there. Where `reach` ({"image": (low, high)}) says that the image model does not know
    all levels, it plays between those that it knows: its legs then act on z, and `integrate` takes the schedule.

    >>> import torch
    >>> for leg in bivdiff(torch.tensor([8.0, 4.0, 0.0]), image_weight=0.25):
    ...     print(leg)
      0 image     image  8 -> 4 +7.5
      1 image     image  4 -> 0 +7.5
      1 keep      states 0 -> 0 = here as clip
      2 invert I  image  0 -> 4 +0
      3 invert I  image  4 -> 8 +0
      3 keep      states 8 -> 8 = here as image
      3 back      states 8 -> 0 = clip
      4 invert V  video  0 -> 4 +0
      5 invert V  video  4 -> 8 +0
      5 mix       states 8 -> 8 = 0.25·image + 0.75·here
      6 step      video  8 -> 4 +7.5
      7 step      video  4 -> 0 +7.5
    """
    check_number("image_weight", image_weight, "a share in [0, 1]", lambda share: 0 <= share <= 1)
    levels = check_grid(sigmas)
    top, end = levels[0].item(), levels[-1].item()
    low, high = (check_reach(reach) or {}).get("image", (0.0, math.inf))
    seen = levels[[sigma == 0 or within(sigma, low, high) for sigma in levels.tolist()]]
    if len(seen) < 2:
        raise ValueError(f"reach: got {low:g} to {high:g} of the image model, expected levels of the grid in it")
    plan: list[Leg] = []

    def play(grid: Tensor, scale: Guidance, network: str, label: str) -> None:
        begin = plan[-1].step + 1 if plan else 0
        plan.extend(replace(leg, label=label, step=begin + leg.step) for leg in plain(grid, scale, solver, network))

    def mix(at: float, to: float, weights: Mapping[str, Share], name: str | None, label: str) -> None:
        plan.append(mixing(at, to, weights, plan[-1].step, name, label))

    both = 0 < image_weight < 1
    play(seen, image_guidance, "image", "image")
    if both:
        mix(end, end, {HERE: 1.0}, "clip", "keep")
    if image_weight > 0:
        play(seen.flip(0), inversion_guidance, "image", "invert I")
    if both:
        mix(top, top, {HERE: 1.0}, "image", "keep")
        mix(top, end, {"clip": 1.0}, None, "back")
    if image_weight < 1:
        play(levels.flip(0), inversion_guidance, "video", "invert V")
    if both:
        mix(top, top, {"image": image_weight, HERE: 1 - image_weight}, None, "mix")
    play(levels, guidance, "video", "step")
    return plan
