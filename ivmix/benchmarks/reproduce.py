"""The whole of the paper's tables under one budget of time: cheap benchmarks first, and a little of each before more,
so that a run that is cut is a fair sample of all that it reached."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from ivmix.benchmarks.plan import Plan
from ivmix.benchmarks.report import Report, main_table
from ivmix.benchmarks.run import NothingYet, Task, compute, deadline, report
from ivmix.evaluation.distance import DRAWS
from ivmix.evaluation.workers import meet, ranks, turn

FIRST = 32  # prompts of the first round
ROUNDS: tuple[Callable[[Plan], Plan], ...] = (
    lambda plan: replace(plan, clips=min(FIRST, plan.clips), samples=1),
    lambda plan: replace(plan, samples=1),
    lambda plan: plan,
)


def rounds(tasks: Sequence[Task]) -> Iterator[Task]:
    """One sample of a few prompts of every benchmark, one sample of all, all samples; in each round the cheapest first.

    Each is a part of the next: what is computed is not computed again.
    """
    cheap = sorted(tasks, key=lambda task: len(task.plan))
    for shrink in ROUNDS:
        for task in cheap:
            yield replace(task, plan=shrink(task.plan))


def reproduce(
    tasks: Sequence[Task], *, share: tuple[int, int] | None = None, hours: float | None = None,
    progress: bool = False, draws: int = DRAWS, said: Callable[[str], None] = lambda text: None,
) -> dict[str, Report]:  # fmt: skip
    """Reports by benchmark, of what there was time for: `evaluate` of every round, until the hours are over.

    What a round before the last computed is reported with neither floor nor p, which take as long whatever follows.
    ValueError as there, before anything is computed. Of a share, and of all ranks but the first, none.
    """
    end, found = deadline(hours), dict[str, Report]()
    for task in tasks:
        task.check()
    with ranks() as (rank, world):
        worker, workers = turn(share, rank, world)
        for number, task in enumerate(rounds(tasks), 1):
            todo, last = task.check(), number > (len(ROUNDS) - 1) * len(tasks)
            mine = [job for job in todo if job.turn % workers == worker]
            if mine and rank == 0 and time.monotonic() < end:
                said(f"{task.benchmark.name}: {task.plan.clips} prompts, {task.plan.samples} of each")
            compute(mine, task, end, progress and rank == 0)
            meet()
            if share is None and rank == 0 and (last or (todo and time.monotonic() < end)):
                with suppress(NothingYet):
                    found[task.benchmark.name] = report(task, progress, draws if last else 0)
    if share is None and rank == 0 and not found:
        said("no batch of all rows is there yet: give more hours, or none")
    return found


def markdown(reports: Sequence[Report]) -> str:
    """Their first tables, one after the other."""
    lines = ["# The paper's benchmarks", ""]
    for one in reports:
        (there, wanted), name = one.complete, one.benchmark.name
        lines += [f"## {name}", "", main_table(one), ""]
        lines += [f"{there:,} of {wanted:,} clips a row; all of it in [{name}/report.md]({name}/report.md).", ""]
    return "\n".join(lines)
