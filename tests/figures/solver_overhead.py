"""What sampling costs beside its network: ours against diffusers' schedulers, interleaved in one process.

    python tests/figures/solver_overhead.py [--steps 50] [--repeats 40] [--shapes 1,4,1,8,8 1,4,16,32,32]

Both sides run the same number of steps on the same latents with a network of one multiplication, whose own cost is
measured too and subtracted. Stochastic solvers draw on one CPU generator on both sides. Times are CPU times of the
process, one thread: other programs on the machine hardly matter. Each round times every side once, in turn; ratios are
taken within a round, and their median and quartiles shown. "extra" is the most memory that the loop holds at once
beyond the latents it was given and the network's output, in units of the latents, counted tensor by tensor as operators
create them.
"""

import argparse
import inspect
import time
import warnings
import weakref
from collections.abc import Callable
from importlib.metadata import version
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ivmix.solvers import (
    DDIM,
    DPMSolverPP2M,
    DPMSolverPP3M,
    Euler,
    EulerAncestral,
    Heun,
    Network,
    Schedule,
    SDEDPMSolverPP2M,
    Solver,
    UniPC2,
    UniPC3,
    integrate,
    normal_noise,
    plain,
)

STOCHASTIC = (DDIM, SDEDPMSolverPP2M)
SCHEDULE = Schedule.scaled_linear()
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def network(z: Tensor, t: Tensor, condition: object = None) -> Tensor:
    return 0.1 * z


def ours(solver: Solver, z: Tensor, steps: int) -> Callable[[], Tensor]:
    """Everything from the plan to the result; the schedule is loaded once, as with a model."""

    def run() -> Tensor:
        sigmas = SCHEDULE.grid(steps)
        start = SCHEDULE.start(z, sigmas[0])
        noise = normal_noise([0] * len(z), z.shape[1:]) if isinstance(solver, STOCHASTIC) else None
        field = Network(network, SCHEDULE, "epsilon", "video")(None)
        return integrate(field, plain(sigmas, solver=solver), start, noise=noise).x

    return run


def theirs(scheduler: Any, z: Tensor, steps: int) -> Callable[[], Tensor]:
    """The loop of diffusers' pipelines, grid included."""
    draws = "generator" in inspect.signature(scheduler.step).parameters

    def run() -> Tensor:
        scheduler.set_timesteps(steps)
        x = z * scheduler.init_noise_sigma
        options = {"generator": torch.Generator().manual_seed(0)} if draws else {}
        for t in scheduler.timesteps:
            y = network(scheduler.scale_model_input(x, t), t)
            x = scheduler.step(y, t, x, return_dict=False, **options)[0]
        return x

    return run


def bare(z: Tensor, evaluations: int) -> Callable[[], Tensor]:
    def run() -> Tensor:
        for _ in range(evaluations):
            y = network(z, z)
        return y

    return run


class Peak(TorchDispatchMode):
    """Counts the bytes of storages created while it is on, and the most that lived at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.now = self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in given and storage._cdata not in self.alive:
                    self._add(storage)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.alive[key] = size
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self.alive.pop(key, 0)


def extra_memory(run: Callable[[], Tensor], z: Tensor) -> float:
    """The peak beyond the network's output, in units of the latents."""
    run()
    with Peak() as peak:
        run()
    return peak.most / z.untyped_storage().nbytes() - 1


def timed(run: Callable[[], Tensor]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def peers() -> dict[str, tuple[Solver, Any]]:
    """Our solvers, arriving at 0 as diffusers' do, and its schedulers of the same methods."""
    import diffusers

    common = {**BETAS, "timestep_spacing": "trailing"}
    multistep = {**common, "final_sigmas_type": "zero"}
    dpm, unipc = diffusers.DPMSolverMultistepScheduler, diffusers.UniPCMultistepScheduler
    return {
        "Euler / DDIM": (Euler(), diffusers.DDIMScheduler(**common, clip_sample=False)),
        "Euler / EulerDiscrete": (Euler(), diffusers.EulerDiscreteScheduler(**common)),
        "Heun / HeunDiscrete": (Heun(end="euler"), diffusers.HeunDiscreteScheduler(**common)),
        "ancestral / EulerAncestral": (EulerAncestral(), diffusers.EulerAncestralDiscreteScheduler(**common)),
        "2M / DPMSolverMultistep": (DPMSolverPP2M(end="euler"), dpm(**multistep)),
        "3M / DPMSolverMultistep": (DPMSolverPP3M(end="euler"), dpm(**multistep, solver_order=3)),
        "UniPC2 / UniPCMultistep": (UniPC2(end="euler"), unipc(**multistep)),
        "UniPC3 / UniPCMultistep": (UniPC3(end="euler"), unipc(**multistep, solver_order=3)),
        "SDE-2M / DPMSolverMultistep": (SDEDPMSolverPP2M(), dpm(**multistep, algorithm_type="sde-dpmsolver++")),
    }


def compare(shape: list[int], steps: int, repeats: int) -> None:
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    sides = {
        name: (ours(solver, z, steps), theirs(scheduler, z, steps), bare(z, solver.stages * (steps - 1) + 1))
        for name, (solver, scheduler) in peers().items()
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for one, other, _ in sides.values():
        timed(one), timed(other)  # warm
    for _ in range(repeats):
        for name, (one, other, floor) in sides.items():
            base = timed(floor)
            times[name].append((timed(one) - base, timed(other) - base))
    print(f"\n{shape}")
    print(f"{'solver':28s} ours µs/step   theirs µs/step   ratio (quartiles)      extra: ours   theirs")
    for name, (one, other, _) in sides.items():
        us = [1e6 * median(side) / steps for side in zip(*times[name], strict=True)]
        ratios = [a / b for a, b in times[name]]
        low, _, high = quantiles(ratios, n=4)
        extra = extra_memory(one, z), extra_memory(other, z)
        print(
            f"{name:28s} {us[0]:12.1f} {us[1]:16.1f}   {median(ratios):.2f} ({low:.2f} to {high:.2f})   "
            f"{extra[0]:14.2f} {extra[1]:8.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--shapes", nargs="+", default=["1,4,1,8,8", "1,4,16,32,32"], metavar="b,c,f,h,w")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"torch {torch.__version__}, diffusers {version('diffusers')}, one CPU thread, float32")
    with torch.inference_mode():
        for shape in given.shapes:
            compare([int(size) for size in shape.split(",")], given.steps, given.repeats)


if __name__ == "__main__":
    main()
