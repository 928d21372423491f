"""`ivmix evaluate`: every sampler measured over many captions and seeds, with intervals."""

import argparse
import os
from pathlib import Path
from typing import Any

from ivmix.cli.options import add_model, load_model, say


def add(commands: Any) -> None:
    command = commands.add_parser(
        "evaluate",
        help="measure every sampler over many clips",
        description="Draws the world's captions in turn from the same noise with every sampler and measures the clips, "
        "beside clips of the world itself. FOLDER/parts keeps what is computed, so that a run may be killed at any "
        "time: the same command goes on where it stopped. At the end FOLDER holds report.md, report.json, plots and a "
        "contact sheet.",
        epilog="examples:\n"
        "  ivmix evaluate -o runs/core                            the core table: 256 clips x 3 repeats, hours on a CPU\n"
        "  ivmix evaluate -o runs/trial --clips 16 --seeds 2      minutes\n"
        "  ivmix evaluate -o runs/core --full                     every pattern and baseline; what is there is kept\n"
        "  ivmix evaluate -o runs/sweep --seed 500 --arms sweep.json\n"
        "      where sweep.json is [{\"label\": \"gamma 1\", \"options\": {\"sampler\": \"zigzag\", \"image_guidance\": \"1\"}}]\n"
        "  torchrun --nproc-per-node 2 -m ivmix evaluate -o runs/core\n"
        "      two processes share the work and give the same clips and numbers as one\n"
        "  ivmix evaluate -o runs/core --shard 1/4                one of four machines that share a folder; when all are\n"
        "                                                         done, the command without --shard writes the report\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_argument("-o", "--output", required=True, metavar="FOLDER", help="of parts, report and plots")
    command.add_argument(
        "--clips", type=int, default=256, metavar="N", help="clips a sampler and repeat (default: %(default)s)"
    )
    command.add_argument("--seeds", type=int, default=3, metavar="N", help="repeats (default: %(default)s)")
    command.add_argument(
        "--seed", type=int, default=1000, metavar="N",
        help="of the first clip, clip k of repeat r uses seed + r * clips + k (default: %(default)s, for reporting; "
        "choose hyper-parameters with 500 and fewer than 500 clips in all)",
    )  # fmt: skip
    command.add_argument("--full", action="store_true", help="every pattern, interval and baseline beside the core")
    command.add_argument("--arms", metavar="JSON", help="these samplers, the first of them the baseline")
    command.add_argument("--shard", metavar="I/N", help="computes the I-th of N shares and writes no report")
    command.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="clips at a time (default: %(default)s)"
    )
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    add_model(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    import sys
    import warnings

    from ivmix.evaluation.arms import TRUTHS, check_arms, core_arms, full_arms, read_arms
    from ivmix.evaluation.jobs import Design, Maker, all_jobs, collect, pending, ranks
    from ivmix.evaluation.report import main_table, markdown, summarise
    from ivmix.media import write_text
    from ivmix.progress import progress_bar
    from ivmix.sprites.measure import load_judge

    if options.arms and options.full:
        raise ValueError("give either --full or --arms, not both")
    folder, (share, shares) = Path(options.output), parse_shard(options.shard)
    design = Design(options.clips, options.seeds, options.seed, options.batch_size)
    given = read_arms(Path(options.arms)) if options.arms else None
    if options.device == "cuda" and "LOCAL_RANK" in os.environ:  # a GPU a process
        options.device = f"cuda:{os.environ['LOCAL_RANK']}"
    model = load_model(options)
    judge = load_judge(model.pair.folder)
    if judge is None:
        raise ValueError(
            f"pair {model.pair.name!r} brings no judge: only pairs of the sprite world can be measured exactly"
        )
    arms = (*TRUTHS, *(given or (full_arms if options.full else core_arms)(model.pair)))
    check_arms(arms)
    maker, jobs = Maker.of(model, judge, design), all_jobs(arms, design)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    missing = set(pending(jobs, folder, maker))
    with ranks() as (rank, world):
        mine = [job for job in jobs if job.turn % (shares * world) == share * world + rank]
        todo = [job for job in mine if job in missing]
        clips, done = (sum(len(job.rows) for job in group) for group in (mine, [j for j in mine if j not in missing]))
        with progress_bar(clips, not options.quiet and rank == 0, initial=done, unit="clip") as bar:
            for job in todo:
                bar.set_description(job.arm.label)
                maker.compute(job, folder)
                bar.update(len(job.rows))
    if options.shard is not None:
        say(f"share {options.shard} of {folder} is complete")
    elif rank == 0:
        report = summarise(collect(jobs, folder), maker)
        for warning in report.warnings:
            warnings.warn(warning, stacklevel=1)
        write_text(report.to_json(), folder / "report.json")
        write_text(markdown(report), folder / "report.md")
        sys.stdout.write(main_table(report) + "\n")
        say(f"wrote {folder / 'report.md'}")


def parse_shard(text: str | None) -> tuple[int, int]:
    """"2/4" -> (1, 4): the share's place, from 0, and how many there are."""
    if text is None:
        return 0, 1
    place, slash, shares = text.partition("/")
    if not (slash and place.isdigit() and shares.isdigit() and 1 <= int(place) <= int(shares)):
        raise ValueError(f"--shard {text}: expected I/N with 1 <= I <= N, such as 1/4")
    return int(place) - 1, int(shares)
