"""Every sampler at equal cost: as many steps as budgets of evaluations allow, and as the pair has it by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

from ivmix.evaluation.arms import Arm, evaluations
from ivmix.pairs.pair import Pair
from ivmix.samplers.base import Sampling
from ivmix.samplers.few_steps import LCM
from ivmix.samplers.reading import sampling
from ivmix.samplers.samplers import SAMPLERS


@dataclass(frozen=True)
class Catalogue:
    """Arms, and a line for each that there cannot be, saying why."""

    arms: tuple[Arm, ...]
    left_out: tuple[str, ...]


def catalogue_arms(pair: Pair, budgets: Sequence[int]) -> Catalogue:
    """Each sampler in the largest number of steps within each budget of evaluations, and in the pair's own; all else is
    as the pair's defaults have it.

    Evaluations are of all networks together, as planned. A number of steps that two budgets, or a budget and the
    defaults, have in common is one arm. Budgets are in their order, samplers within each in that of `SAMPLERS`: every
    micro-batch of an evaluation begins with what is valued most.
    """
    own, costs, arms, left_out = dict[str, int](), dict[str, dict[int, int]](), list[Arm](), list[str]()
    for name in SAMPLERS:
        try:
            by_itself = sampling(pair.defaults, {"sampler": name})
            evaluations(pair, by_itself)
            check_applies(by_itself, pair)
        except ValueError as error:
            left_out.append(f"{name}: {error}")
            continue
        own[name] = by_itself.steps
        costs[name] = costs_of_steps(pair, name, max(budgets), own[name])
    drawn = set[tuple[str, int]]()
    for budget in budgets:
        for name, cost in costs.items():
            steps = max((n for n, spent in cost.items() if spent <= budget), default=0)
            label = f"{name}, {budget}"
            if steps == 0:
                left_out.append(f"{label}: its shortest run is of {min(cost.values())} evaluations")
            elif (name, steps) in drawn:
                left_out.append(f"{label}: its {steps} steps are there already")
            else:
                drawn.add((name, steps))
                arms.append(Arm(label, {"sampler": name, "steps": steps}))
    arms += [Arm(name, {"sampler": name}) for name, steps in own.items() if (name, steps) not in drawn]
    return Catalogue(tuple(arms), tuple(left_out))


def check_applies(by_itself: Sampling, pair: Pair) -> None:
    """ValueError for a sampler of ends with a model of means, or the other way round."""
    if isinstance(by_itself, LCM) and not pair.video.consistency:
        raise ValueError("it takes a video model's x0 for a clip, and this one's is a mean")
    if pair.video.consistency and "video" in by_itself.models and not isinstance(by_itself, LCM):
        raise ValueError("it asks the video model for scores, and a consistency model has none")


def costs_of_steps(pair: Pair, name: str, budget: int, own: int) -> dict[int, int]:
    """Evaluations by number of steps, up to the first above the budget; one of them at least, as `own` steps can be."""
    costs = dict[int, int]()
    for steps in range(1, max(budget, own) + 1):  # none is free
        try:
            costs[steps] = evaluations(pair, sampling(pair.defaults, {"sampler": name, "steps": steps}))
        except ValueError:  # too few for its other options, or too many for its authors' tables
            continue
        if costs[steps] > budget:
            break
    return costs
