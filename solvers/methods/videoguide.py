"""VideoGuide (arXiv 2410.04364): early in a run, x0 is drawn towards what a teacher makes of it.

    x0 = S + beta·(T - S),     T = some steps of the teacher's from S + sigma·eta, down to its x0
    x' = x0 + sigma'·eps_S

S and eps_S are what the student predicts at x, eta is fresh noise. So the push beta·(T - S) is as long in a short step
as in a long one: this is CFG++ (`cfgpp`) at the scale beta, with the teacher in the place of the condition. As a grid
is refined, beta and the number of guided steps staying what they are, these are all taken at the first level, where
the teacher's steps become one evaluation, and the run converges at first order to

    the student's flow from x_I,     x_(i+1) = x_i + beta·(D_T(y_i) - D_S(x_i)),   y_i = D_S(x_i) + sigma_0·eta_i

With S's own noise, eta = eps_S, y_i is x_i: then a teacher that is the student changes nothing in the limit.

The authors' code has the same fresh noise, and the student's eps kept; its teacher's levels are 24 steps evenly over
training levels from where the student stands, which near the top are every second one of the student's 50. What it
does behind each guided step is `renewed`.
"""

import math
from dataclasses import replace

from torch import Tensor

from ivmix.solvers.algebra.guidance import Guidance, scale_at
from ivmix.solvers.algebra.mixing import HERE
from ivmix.solvers.checks import check_number, whole
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.methods.ivmixed import check_interval, inside
from ivmix.solvers.plans.legs import Leg, keeping, mixing, noising, plain, progress
from ivmix.solvers.schedules.grids import check_grid
from ivmix.solvers.steps.onestep import Euler
from ivmix.solvers.steps.solver import Solver

METHOD = Method(
    "VideoGuide",
    papers=("2410.04364",),
    does="x0 drawn towards what ten steps of a teacher make of it in the first tenth of a run: legs that mix states; "
    "the network is its own teacher unless another is named",
    evaluations={"video": "n + 10·ceil(0.1·(n - 1))"},
    limit="none, because a short step is drawn as far as a long one; of guided steps whose number is fixed, all are "
    "taken at the first level in the end",
    licence="none",
)


def videoguide(
    sigmas: Tensor,
    guidance: Guidance = 7.5,
    teacher_guidance: Guidance = 7.5,
    weight: float = 0.2,
    interval: tuple[float, float] = (0.0, 0.1),
    teacher_steps: int = 10,
    stride: int = 2,
    solver: Solver | None = None,
    *,
    fresh: bool = True,
    student: str = "video",
    teacher: str = "video",
) -> list[Leg]:
    """The plan on the decreasing grid `sigmas` (n + 1,): n evaluations of the student and `teacher_steps` of the
    teacher in each guided step, fewer where the grid ends before.

    Steps of progress u in `interval` [a, b) are guided by beta = `weight`: the first 5 of 50, as the authors', by
    itself. The teacher, another network or the student again, takes `teacher_steps` steps of Euler's over every
    `stride`-th level of the grid, and x0 at the last: the authors' 10 of 25 where the run has 50. With `fresh` False it
    begins at x itself, and no noise is needed. `solver` (Euler by default) plays the steps that are not guided.

    >>> import torch
    >>> for leg in videoguide(torch.tensor([8.0, 4.0, 2.0, 0.0]), teacher_steps=2, teacher="other"):
    ...     print(leg)
      0 keep      states 8 -> 8 = here as x
      0 step      video  8 -> 0 +7.5
      0 keep      states 0 -> 0 = here as x0
      0 noise     noise  0 -> 8
      0 teacher   other  8 -> 2 +7.5
      0 teacher   other  2 -> 0 +7.5
      0 mix       states 0 -> 4 = 0.5·x + 0.3·x0 + 0.2·here
      1 step      video  4 -> 2 +7.5
      2 step      video  2 -> 0 +7.5
    """
    check_number("weight", weight, "a finite number")
    whole("teacher_steps", teacher_steps, 1)
    whole("stride", stride, 1)
    grid = check_grid(sigmas)
    steps = plain(grid, guidance, solver, student)
    check_interval(interval)
    plan: list[Leg] = []
    for step in steps:
        i, at, to, u = step.step, step.source, step.target, progress(step.step, len(steps))
        if not inside(u, interval):
            plan.append(step)
            continue
        levels = [leg.source for leg in steps[i::stride]][:teacher_steps]
        scale = scale_at(teacher_guidance, u, "teacher_guidance")
        lessons = plain(grid.new_tensor([*levels, 0.0]), scale, network=teacher)
        plan += [
            keeping(at, "x", i),
            replace(step, target=0.0, solver=Euler()),
            keeping(0.0, "x0", i),
            noising(0.0, at, i) if fresh else mixing(0.0, at, {"x": 1.0}, i, label="back"),
            *(replace(leg, label="teacher", step=i) for leg in lessons),
            mixing(0.0, to, _weights(at, to, weight), i),
        ]
    return plan


def _weights(at: float, to: float, beta: float) -> dict[str, float]:
    """What x' at the level `to` is of x, x0 and the teacher's x0, where the run is."""
    share, of_x0 = (to, 0.0) if math.isinf(at) else (to / at, to / at)  # of x, and what that has of x0
    weights = {"x": share, "x0": 1 - of_x0 - beta, HERE: beta}
    return {name: weight for name, weight in weights.items() if weight}
