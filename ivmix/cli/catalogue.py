"""`--catalogue` and `--budgets` of `ivmix evaluate`: every sampler at equal cost."""

import argparse
from typing import TYPE_CHECKING, Any

from ivmix.cli.options import say

if TYPE_CHECKING:
    from ivmix.evaluation.arms import Arm
    from ivmix.pairs.pair import Pair

BUDGETS = "20,50,100,250"


def add(group: Any) -> None:
    group.add_argument(
        "--catalogue", action="store_true",
        help="every sampler, in the largest number of steps within each budget, and at the pair's defaults; each batch "
        "of clips is drawn with all of them before the next, so that of a run of --seeds 1 that was cut the same "
        "command with fewer --clips, whole batches, is the report",
    )  # fmt: skip
    group.add_argument(
        "--budgets", metavar="N,N,…", help="of --catalogue: evaluations of all networks together, what is valued most "
        f"first (default: {BUDGETS})"
    )  # fmt: skip


def check(options: argparse.Namespace) -> None:
    """ValueError for --catalogue beside what names other samplers, or budgets that cannot be."""
    if options.catalogue and (options.full or options.arms is not None):
        raise ValueError(f"give either {'--full' if options.full else '--arms'} or --catalogue, not both")
    if options.budgets is not None and not options.catalogue:
        raise ValueError(f"--budgets {options.budgets}: it is of --catalogue, give that too")
    if options.catalogue:
        parse_budgets(options)


def parse_budgets(options: argparse.Namespace) -> tuple[int, ...]:
    """"20,50" -> (20, 50). ValueError for anything but whole numbers of 1 to 5000, each once."""
    text = BUDGETS if options.budgets is None else options.budgets
    parts = text.split(",")
    budgets = tuple(int(part) for part in parts if part.isascii() and part.isdigit() and 1 <= int(part) <= 5000)
    if len(set(budgets)) < len(parts):
        raise ValueError(f"--budgets {text}: expected whole numbers of 1 to 5000, each once, such as 20,50")
    return budgets


def arms_of(options: argparse.Namespace, pair: "Pair") -> tuple["Arm", ...]:
    """What --catalogue draws; what it leaves out is said."""
    from ivmix.evaluation.catalogue import catalogue_arms

    found = catalogue_arms(pair, parse_budgets(options))
    for line in found.left_out:
        say(f"left out: {line}")
    return found.arms
