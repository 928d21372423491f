"""`ivmix compare`: one prompt through every sampler, side by side."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ivmix.cli.options import add_model, add_prompts, load_model, say


def add(commands: Any) -> None:
    command = commands.add_parser(
        "compare",
        usage="%(prog)s PROMPT -o PATH [options]",
        help="one prompt through every sampler, side by side",
        description="Draws one prompt from the same noise with the video model alone, the image model frame by frame, "
        "IV-Mixed in both sequences, the composite ODE and a late mixture. Writes one labelled video, a contact sheet "
        "(.png) and the figures (.json), and prints a table with its legend.",
        epilog="examples:\n"
        "  ivmix compare 'a red circle moving left' -o cmp.mp4\n"
        "  ivmix compare 'a yellow square moving right' --samplers ddim,image,zigzag -o strip.webp\n"
        "  ivmix compare 'a corgi on a beach' -o corgi.webp --pair animatediff --seed 7",
    )
    command.add_argument("prompt", metavar="PROMPT", help="what to draw, such as 'a red circle moving left'")
    command.add_argument("-o", "--output", required=True, metavar="PATH", help=".mp4, .gif or .webp")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the initial noise (default: %(default)s)")
    command.add_argument("--samplers", metavar="NAME,NAME,…", help="these alone, in this order, such as "
                         "ddim,image,zigzag; `ivmix sample --help` lists all")  # fmt: skip
    command.add_argument(
        "--steps", type=int, metavar="N", help="outer steps, for all samplers (default: the pair's, each its own)"
    )
    command.add_argument("--quiet", action="store_true", help="no progress bars")
    add_prompts(command)
    add_model(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    import json
    import sys

    from ivmix.evaluation.arms import ARMS, Arm, applicable, named_arms
    from ivmix.evaluation.comparison import columns, compare, summary, table
    from ivmix.evaluation.legend import legend
    from ivmix.generation.arguments import read_prompts
    from ivmix.media import check_writable, contact_sheet, side_by_side, write_image, write_text, write_video
    from ivmix.sprites.benchmark import scorer

    output = Path(options.output)
    check_writable(options.output, (".mp4", ".gif", ".webp"))
    [prompt] = read_prompts(options.prompt)
    named = None if options.samplers is None else named_arms(options.samplers.split(","))
    model = load_model(options)
    arms: Sequence[Arm] = applicable(model.pair, ARMS) if named is None else named
    if options.steps is not None:
        arms = [Arm(arm.label, {**arm.options, "steps": options.steps}) for arm in arms]
    scores = scorer(model.pair)
    outcomes = compare(
        model, [prompt], arms, scores, seed=options.seed,
        progress=not options.quiet,
        negative_prompt=options.negative_prompt, image_negative_prompt=options.image_negative_prompt,
        raw_prompts=bool(options.raw_prompts),
    )  # fmt: skip
    report = {"prompt": prompt, "seed": options.seed, **summary(outcomes)}
    clips = [(outcome.arm.label, outcome.frames[0]) for outcome in outcomes]
    write_video(side_by_side(clips), output, fps=model.pair.fps)
    write_image(contact_sheet(clips, title=prompt), output.with_suffix(".png"))
    write_text(json.dumps(report, indent=2) + "\n", output.with_suffix(".json"))
    known = scores.columns if scores is not None else {}
    sys.stdout.write(f"{table(report, known)}\n\n{legend(columns(report, known))}\n")
    say(f"wrote {output}, {output.with_suffix('.png')} and {output.with_suffix('.json')}")
