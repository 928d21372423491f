"""`ivmix bench`: what the samplers cost here."""

import argparse
import sys
from typing import Any

from ivmix.cli.options import add_model, given_arms, load_model, parse_size

PROMPT = "a red circle moving left"  # one that the embedded pair knows; to the others it is as dear as any


def add(commands: Any) -> None:
    command = commands.add_parser(
        "bench",
        usage="%(prog)s [options]",
        help="time the samplers against each other",
        description="Draws one clip, or a batch, by every sampler in turn, several times over, and prints the median "
        "seconds a clip, how many are drawn in an hour, and the ratio to the first of them in the same round, with its "
        "range over the rounds. On a busy machine seconds mean little, and ratios of few rounds scatter: one round "
        "gave .27, .41, .33, 1.15 and 2.73 where medians of five quiet rounds were .33, .61, .47, 1.31 and 3.3. Take "
        "more rounds there, and look at the range.",
        epilog="examples:\n"
        "  ivmix bench\n"
        "  ivmix bench --pair animatediff --rounds 3\n"
        "  ivmix bench --pair animatediff --batch-size 4 --rounds 3\n"
        '  ivmix bench --arms mine.json      where mine.json holds [{"label": "heun", "options": {"sampler": '
        '"composite", "solver": "heun"}}, ...]',
    )
    command.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="how often each is timed (default: %(default)s)"
    )
    command.add_argument("--arms", metavar="JSON", help="these samplers, the first of them the one to divide "
                         "by (default: the video model alone in 50 steps, then each way to mix)")  # fmt: skip
    command.add_argument("--frames", type=int, metavar="N", help="length (default: the pair's)")
    command.add_argument("--size", metavar="HxW", help="in pixels (default: the pair's)")
    command.add_argument("--batch-size", type=int, default=1, metavar="N", help="clips at a time (default: 1)")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    add_model(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from ivmix.evaluation.arms import applicable, check_arms
    from ivmix.evaluation.bench import ARMS, bench, table
    from ivmix.typed import whole

    for name in ("rounds", "batch_size", "frames"):  # before anything is loaded
        if getattr(options, name) is not None:
            whole(name, getattr(options, name), 1)
    given = given_arms(options.arms)
    check_arms(ARMS if given is None else given)
    height, width = parse_size(options.size) if options.size is not None else (None, None)
    model = load_model(options)
    arms = applicable(model.pair, ARMS) if given is None else given
    for arm in arms:
        arm.settings(model)  # an arm that cannot be is found before the first is timed
    timings = bench(
        model, PROMPT, arms, options.rounds, progress=not options.quiet, batch_size=options.batch_size,
        frames=options.frames, height=height, width=width,
    )  # fmt: skip
    sys.stdout.write(table(timings) + "\n")
