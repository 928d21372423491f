"""`ivmix evaluate`: every sampler measured over many captions and seeds, with intervals."""

import argparse
from typing import Any

from ivmix.cli import benchmark, catalogue
from ivmix.cli.options import MODEL, add_model, flag, given_arms, load_model, output_folder, say
from ivmix.cli.workers import local_device, parse_shard

SPRITES = "sprites"
CLIPS, SEEDS, SEED, REFERENCES = 256, 3, 1000, 2048  # of the sprite world

EXAMPLES = """examples:
  ivmix evaluate -o runs/core                           the core table: 256 clips x 3 repeats, hours on a CPU
  ivmix evaluate -o runs/trial --clips 16 --seeds 2     a trial: a twenty-fourth of it
  ivmix evaluate -o runs/core --full                    every pattern and baseline; what is there is kept
  ivmix evaluate -o runs/sweep --seed 500 --clips 64 --arms sweep.json
      where sweep.json holds [{"label": "gamma 1", "options": {"sampler": "zigzag", "image_guidance": "1"}}, ...]
  ivmix evaluate -o runs/all --catalogue --clips 64 --seeds 1     every sampler at 20, 50, 100 and 250 evaluations
  ivmix evaluate -o runs/all --catalogue --clips 16 --seeds 1     a report of its first clips, if it was cut
resume: the same command, after a kill or a crash at any time
public benchmarks: --dry-run first, which says what is missing
  ivmix evaluate --benchmark chronomagic-150 --pair animatediff -o runs/cm150 --dry-run
  ivmix evaluate --benchmark chronomagic-150 --pair animatediff -o runs/cm150 \\
    --extractor chronomagic-umt=UMT-msrvtt-7k.pth --vocabulary vocab.txt
  ivmix evaluate --benchmark ucf101 -o runs/theirs --videos clips/ --prompts classInd.txt --real UCF-101/ \\
    --extractor cmvq-videogpt=i3d_pretrained_400.pt             anyone's files, drawn with whatever
share: the same clips and numbers as one process
  torchrun --nproc-per-node 2 -m ivmix evaluate -o runs/core      on one machine
  ivmix evaluate -o runs/core --shard 1/4                         on one of four that see the same folder;
  ivmix evaluate -o runs/core                                     once all four are done: the report
"""


def add(commands: Any) -> None:
    command = commands.add_parser(
        "evaluate",
        usage="%(prog)s -o FOLDER [options]",
        help="measure samplers over many clips: the sprite world's, or the paper's benchmarks",
        description="Draws the prompts of a benchmark, of the sprite world unless another is named, from the same "
        "noise with every sampler and measures the clips, beside clips of the world itself or what is in print. "
        "FOLDER/parts keeps what is computed, so that a run may be killed at any time: the same command goes on where "
        "it stopped. At the end FOLDER holds report.md, report.json and pictures of them.",
        epilog=EXAMPLES,
    )  # fmt: skip
    command.add_argument("-o", "--output", required=True, metavar="FOLDER", help="of parts, report and plots")
    group = command.add_argument_group("what is measured")
    group.add_argument(
        "--benchmark", default=SPRITES, metavar="NAME|FILE", help="whose prompts and measures (default: %(default)s)"
    )
    group.add_argument("--full", action="store_true", help="every pattern, interval and baseline beside the core")
    catalogue.add(group)
    group.add_argument(
        "--arms", metavar="JSON", help="these samplers, the first of them the baseline (default: the core)"
    )
    group.add_argument(
        "--clips", type=int, metavar="N", help=f"clips a sampler and repeat (default: {CLIPS}; of a public benchmark "
        "all of its prompts, of which fewer are a fair sample)"
    )  # fmt: skip
    group.add_argument(
        "--seeds", type=int, metavar="N",
        help=f"repeats (default: {SEEDS}, or a public benchmark's samples of a prompt)",
    )  # fmt: skip
    group.add_argument(
        "--seed", type=int, metavar="N",
        help=f"of the first clip, clip k of repeat r uses seed + r * clips + k (default: {SEED}, for reporting; "
        "choose hyper-parameters with 500 and fewer than 500 clips in all); of a public benchmark, a clip's noise is a "
        "hash of it, prompt and sample (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--references", type=int, metavar="N",
        help=f"crisp clips that distances are measured to (default: {REFERENCES})",
    )  # fmt: skip
    group = command.add_argument_group("how it is computed")
    group.add_argument("--batch-size", type=int, default=8, metavar="N", help="clips at a time (default: %(default)s)")
    group.add_argument(
        "--shard", metavar="I/N", help="computes the I-th of N shares and writes no report (default: all of it)"
    )
    group.add_argument("--quiet", action="store_true", help="no progress bar")
    benchmark.add(command)
    add_model(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    if options.arms is not None and options.full:
        raise ValueError("give either --full or --arms, not both")
    catalogue.check(options)
    share = parse_shard(options.shard)
    options.device = local_device(options.device)
    if options.benchmark != SPRITES:
        benchmark.run(options, share)
        return
    if given := [name for name in benchmark.OWN if getattr(options, name) not in (None, False)]:
        raise ValueError(f"{flag(given[0])} is of public benchmarks: name one by --benchmark")
    run_sprites(options, share)


def run_sprites(options: argparse.Namespace, share: tuple[int, int] | None) -> None:
    import sys
    import warnings

    from ivmix.evaluation.arms import core_arms, full_arms
    from ivmix.evaluation.design import Design
    from ivmix.evaluation.report import main_table
    from ivmix.evaluation.run import evaluate, plots
    from ivmix.pairs.description import describe
    from ivmix.sprites.benchmark import sprites, unmeasurable

    folder = output_folder(options.output)
    clips, seeds, seed, references = (
        default if value is None else value
        for value, default in ((options.clips, CLIPS), (options.seeds, SEEDS), (options.seed, SEED),
                               (options.references, REFERENCES))
    )  # fmt: skip
    design = Design(clips, seeds, seed, options.batch_size)
    given = given_arms(options.arms)
    raw, _, _ = describe(MODEL["pair"] if options.pair is None else options.pair)
    if "judge" not in raw:  # before anything of the pair is fetched or loaded
        raise unmeasurable(raw["name"])
    model = load_model(options)
    if options.catalogue:
        arms = catalogue.arms_of(options, model.pair)
    else:
        arms = (full_arms if options.full else core_arms)(model.pair) if given is None else given
    report = evaluate(
        model, sprites(model.pair, references), arms, design, folder, share=share, progress=not options.quiet
    )
    if share is not None:
        say(f"share {options.shard} of {folder} is complete")
    if report is not None:
        for warning in report.warnings:
            warnings.warn(warning, stacklevel=1)
        sys.stdout.write(main_table(report) + "\n")
        say(f"wrote {folder / 'report.md'}, {', '.join(('report.json', *plots(report)))} and clips.png")
