"""Evaluations that adaptive solvers take at equal error: ours and k-diffusion's dpm_adaptive, in one run.

    pip install --no-deps -c tests/constraints.txt k-diffusion
    python tests/figures/adaptive.py [--errors 2e-3 8e-4 2e-4 5e-5] [--seeds 3]

Each solver goes from sigma 14.6 to 0.03 at tolerances from 1 to 1e-6; its evaluations at an error are read off
between its runs, in logarithms, and are the mean over seeds, each a clip of noise. "-": in none of its runs. Errors are
root mean squares against Dormand and Prince's pair at 1e-10. The problems are mixtures of Gaussians whose states are of
unit size, under guidance.
"""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from ivmix.progress import progress_bar
from ivmix.solvers import BogackiShampine32, Denoiser, DormandPrince54, DPMSolverPP32, Guided, integrate, plain
from ivmix.solvers.steps.solver import Solver
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, Mixture, closed_form_pair, exponential

sys.path.insert(0, str(Path(__file__).parents[1]))
from k_diffusion_sampling import k_diffusion_sampling  # beside the tests

HIGH, LOW = 14.6, 0.03
TOLERANCES = [10 ** (-k / 3) for k in range(0, 19)]
MODES = Mixture([Gaussian(mean, 0.05) for mean in (-1.5, -0.5, 0.5, 1.5)])
Count = tuple[int, float]
Method = Callable[[Denoiser, Tensor, Tensor, float], Count]


def problems() -> dict[str, Denoiser]:
    video = closed_form_pair(frames=4)["video"]
    modes = GaussianNetwork("video", {"": MODES, "cond": Gaussian(0.6, 0.3)})
    gaussians = GaussianNetwork("video", {"": Gaussian(-0.2, exponential(4, 1.5)), "cond": Gaussian(0.5, 0.3)})
    return {
        "two modes, guidance 1": video.at(1.0),
        "two modes, guidance 7.5": video.at(7.5),
        "two modes, guidance 15": video.at(15.0),
        "four modes, guidance 3": Guided(modes(""), modes("cond")).at(3.0),
        "Gaussians, guidance 7.5": Guided(gaussians(""), gaussians("cond")).at(7.5),
    }


def ours(solver: Callable[..., Solver]) -> Method:
    def run(denoise: Denoiser, x: Tensor, truth: Tensor, tolerance: float) -> Count:
        legs = plain(torch.tensor([HIGH, LOW]), solver=solver(rtol=tolerance, atol=tolerance / 3))
        played = integrate(lambda y, sigma: denoise(y, sigma), legs, x)  # a plain denoiser: each call is counted once
        return played.nfe["video"], rms(played.x - truth)

    return run


def theirs(sampling: ModuleType) -> Method:
    def run(denoise: Denoiser, x: Tensor, truth: Tensor, tolerance: float) -> Count:
        end, info = sampling.sample_dpm_adaptive(
            lambda y, sigma: denoise(y, sigma[0]), x, LOW, HIGH, rtol=tolerance, atol=tolerance / 6, return_info=True
        )
        return info["nfe"], rms(end - truth)

    return run


def rms(error: Tensor) -> float:
    return error.square().mean().sqrt().item()


def at_error(runs: list[Count], wanted: float) -> float:
    """Evaluations at which an error falls below `wanted` for good, between two runs; NaN in none."""
    for (n, above), (m, below) in zip(runs[-2::-1], runs[:0:-1], strict=True):
        if below <= wanted < above:
            share = math.log(above / wanted) / math.log(above / below)
            return math.exp((1 - share) * math.log(n) + share * math.log(m))
    return math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--errors", type=float, nargs="+", default=[2e-3, 8e-4, 2e-4, 5e-5])
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    with k_diffusion_sampling() as sampling:
        methods: dict[str, Method] = {
            "dpm_adaptive": theirs(sampling),
            "BogackiShampine32": ours(BogackiShampine32),
            "the same, flow time": ours(lambda **options: BogackiShampine32(time="flow", **options)),
            "DPMSolverPP32": ours(DPMSolverPP32),
        }
        rows = []
        with progress_bar(len(problems()) * given.seeds * len(methods), True, desc="adaptive") as bar:
            for problem, denoise in problems().items():
                found: dict[str, list[list[float]]] = {name: [] for name in methods}
                for seed in range(given.seeds):
                    generator = torch.Generator().manual_seed(seed)
                    x = HIGH * torch.randn(1, 2, 4, 2, 2, generator=generator, dtype=torch.float64)
                    exact = plain(torch.tensor([HIGH, LOW]), solver=DormandPrince54(rtol=1e-10, atol=1e-10))
                    truth = integrate(denoise, exact, x).x
                    for name, method in methods.items():
                        runs = [method(denoise, x, truth, tolerance) for tolerance in TOLERANCES]
                        found[name].append([at_error(runs, error) for error in given.errors])
                        bar.update()
                for name, values in found.items():
                    means = torch.tensor(values).mean(0).tolist()
                    cells = "".join(f"{'-' if math.isnan(mean) else round(mean):>8}" for mean in means)
                    rows.append(f"{problem:24s} {name:20s}{cells}")
    print(f"{'evaluations for an error of':45s}" + "".join(f"{error:>8g}" for error in given.errors))
    print("\n".join(rows))


if __name__ == "__main__":
    main()
