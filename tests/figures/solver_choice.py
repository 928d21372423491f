"""Which solver, on which grid, for how many evaluations and which guidance: errors in closed form, as a table.

    python tests/figures/solver_choice.py [--guidance 1 7.5 15] [--evaluations 6 10 20 40 100] [--clips 64]

The video network is the mixture of Gaussians of `closed_form_pair`, whose states have a standard deviation of about 1
unguided, under Stable Diffusion's schedule, or for "flow" as a rectified flow with even times shifted by 3. An entry is
the root mean square difference, over clips, of a run to sigma = 0 from the exact end of the ODE (Dormand and Prince's
pair, from the same start). Every column has the same number of evaluations: a solver of k evaluations a step takes a
k-th of the steps. "3m" is DPM-Solver++(3M) with the exact weight, "3m public" with that of public codes; "end=euler"
has the step to 0 of other packages.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ivmix.progress import progress_bar
from ivmix.solvers import (
    RK4,
    AdamsBashforth2,
    AdamsBashforth3,
    AdamsBashforth4,
    DormandPrince54,
    DPMSolverPP2M,
    DPMSolverPP2S,
    DPMSolverPP3M,
    Euler,
    ExponentialAB2,
    Heun,
    Schedule,
    Solver,
    UniPC2,
    UniPC3,
    integrate,
    plain,
)
from ivmix.solvers.algebra.affine import Affine
from ivmix.solvers.theory.analytic import closed_form_pair

SCHEDULE, FLOW = Schedule.scaled_linear(), Schedule.rectified_flow()
GRIDS: dict[str, Callable[[int], Tensor]] = {
    "trailing": SCHEDULE.grid,
    "leading": partial(SCHEDULE.grid, spacing="leading"),
    "karras": partial(SCHEDULE.grid, spacing="karras"),
    "beta": partial(SCHEDULE.grid, spacing="beta"),
    "flow": partial(FLOW.grid, spacing="shifted-flow", shift=3.0),
}
SOLVERS: dict[str, Solver] = {
    "euler": Euler(),
    "2m": DPMSolverPP2M(),
    "2m, end=euler": DPMSolverPP2M(end="euler"),
    "3m": DPMSolverPP3M(),
    "3m public": DPMSolverPP3M(weight="public"),
    "exp-ab2": ExponentialAB2(),
    "unipc2": UniPC2(),
    "unipc3": UniPC3(),
    "ab2": AdamsBashforth2(),
    "ab3": AdamsBashforth3(),
    "ab4": AdamsBashforth4(),
    "heun": Heun(),
    "2s": DPMSolverPP2S(),
    "rk4": RK4(),
}


def end_of(denoise: Affine, z: Tensor, solver: Solver, sigmas: Tensor) -> Tensor:
    """Where a run from z / alpha, or z where alpha = 0, leads."""
    start = z if sigmas[0].isinf() else SCHEDULE.start(z, sigmas[0])
    return integrate(denoise, plain(sigmas, solver=solver), start).x


def exact(denoise: Affine, z: Tensor, sigma: float) -> Tensor:
    """The end of the ODE; below 1e-4 it moves by less than 1e-7."""
    return end_of(denoise, z, DormandPrince54(rtol=1e-7, atol=1e-8), torch.tensor([sigma, 1e-4, 0.0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 7.5, 15.0])
    parser.add_argument("--evaluations", type=int, nargs="+", default=[6, 10, 20, 40, 100])
    parser.add_argument("--clips", type=int, default=64)
    given = parser.parse_args()
    z = torch.randn(given.clips, 2, 4, 2, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    video, rows = closed_form_pair(frames=4)["video"], []
    with progress_bar(len(given.guidance) * len(GRIDS) * len(SOLVERS), True, desc="solvers") as bar:
        for scale in given.guidance:
            denoise, truths = video.at(scale), dict[float, Tensor]()
            for spacing, grid in GRIDS.items():
                for name, solver in SOLVERS.items():
                    errors = []
                    for evaluations in given.evaluations:
                        steps = evaluations // solver.stages
                        if steps < 2:
                            errors.append("-")
                            continue
                        sigmas = grid(steps)
                        first = float(sigmas[0])
                        if first not in truths:
                            truths[first] = exact(denoise, z, first)
                        wrong = end_of(denoise, z, solver, sigmas) - truths[first]
                        errors.append(f"{wrong.square().mean().sqrt().item():.2g}")
                    rows.append([f"{scale:g}", spacing, name, *errors])
                    bar.update()
    for row in [["guidance", "grid", "solver", *map(str, given.evaluations)], *rows]:
        print(f"{row[0]:>8s}  {row[1]:9s} {row[2]:14s}" + "".join(f"{cell:>10s}" for cell in row[3:]))


if __name__ == "__main__":
    main()
