"""`ivmix evaluate`: every sampler measured over many prompts and seeds, with intervals."""

import argparse
from pathlib import Path
from typing import Any

from ivmix.cli.options import add_model, load_model, say


def add(commands: Any) -> None:
    command = commands.add_parser(
        "evaluate",
        help="measure every sampler over many clips",
        description="Draws the world's captions in turn from the same noise with every sampler and measures the clips. "
        "Intervals are 95 % bootstrap intervals over captions. Writes Markdown and JSON.",
        epilog="example:  ivmix evaluate --clips 128 -o runs/evaluation.json",
    )
    command.add_argument(
        "-o", "--output", required=True, metavar="PATH", help=".json; the table is written beside it as .md"
    )
    command.add_argument("--clips", type=int, default=128, metavar="N", help="clips a sampler (default: %(default)s)")
    command.add_argument(
        "--seed", type=int, default=1000, help="of the first clip; clip k uses seed + k (default: %(default)s)"
    )
    command.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="clips at a time (default: %(default)s)"
    )
    command.add_argument("--quiet", action="store_true", help="no progress bars")
    add_model(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    import json
    import sys

    from ivmix.comparison import compare, summary, table
    from ivmix.media import check_writable, write_text
    from ivmix.sprites.measure import load_judge
    from ivmix.sprites.world import all_captions

    output = Path(options.output)
    check_writable(output, (".json",))
    if options.clips < 1:
        raise ValueError(f"--clips {options.clips}: expected 1 or more")
    model = load_model(options)
    judge = load_judge(model.pair.folder)
    if judge is None:
        raise ValueError(
            f"pair {model.pair.name!r} brings no judge: only pairs of the sprite world can be measured exactly"
        )
    captions = all_captions()
    prompts = [captions[k % len(captions)] for k in range(options.clips)]
    outcomes = compare(
        model, prompts, judge=judge, seed=options.seed, batch_size=options.batch_size, progress=not options.quiet
    )
    report = {"pair": model.pair.name, "seed": options.seed, **summary(outcomes)}
    markdown = table(report, intervals=True)
    write_text(json.dumps(report, indent=2) + "\n", output)
    write_text(markdown + "\n", output.with_suffix(".md"))
    sys.stdout.write(markdown + "\n")
    say(f"wrote {output} and {output.with_suffix('.md')}")
