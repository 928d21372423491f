"""`ivmix reproduce`: the paper's four benchmarks under one budget of time."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ivmix.cli.benchmark import arms_of, estimated
from ivmix.cli.options import add_model, load_model, output_folder, say
from ivmix.cli.workers import local_device, parse_shard

if TYPE_CHECKING:
    from ivmix.benchmarks.description import Description
    from ivmix.benchmarks.setup import Given

EXAMPLES = """examples:
  ivmix reproduce --pair animatediff -o runs/paper --dry-run       what is missing, how long, how much disk
  ivmix reproduce --pair animatediff -o runs/paper --hours 10 \\
    --extractor chronomagic-umt=UMT-msrvtt-7k.pth --vocabulary vocab.txt
  ivmix reproduce --pair modelscope -o runs/all --prompts ucf101=classInd.txt --real ucf101=UCF-101 \\
    --prompts msrvtt=train_val_videodatainfo.json --real msrvtt=TrainValVideo \\
    --extractor cmvq-videogpt=i3d_pretrained_400.pt --extractor cmvq-styleganv=i3d_torchscript.pt
resume: the same command; --hours anew, what is there is kept
share: torchrun --nproc-per-node 8 -m ivmix reproduce …, or --shard 1/8 to 8/8, then without
"""


def add(commands: Any) -> None:
    command = commands.add_parser(
        "reproduce",
        usage="%(prog)s -o FOLDER [options]",
        help="the paper's four benchmarks under one budget of time",
        description="Evaluates a pair on every benchmark of the paper whose networks are given, as `ivmix evaluate "
        "--benchmark` does: first one sample of 32 prompts of each, the cheapest first, then one of all prompts, then "
        "all samples, so that whatever is there when time is over is a fair sample. FOLDER/report.md has their tables, "
        "FOLDER/NAME all of each.",
        epilog=EXAMPLES,
    )  # fmt: skip
    command.add_argument("-o", "--output", required=True, metavar="FOLDER", help="of a folder for each benchmark")
    group = command.add_argument_group("what is measured")
    group.add_argument("--dry-run", action="store_true", help="what is missing, how long it will take, how much disk")
    group.add_argument("--benchmarks", metavar="NAMES", help="these alone, or JSON files, with commas between "
                       "(default: all four)")  # fmt: skip
    group.add_argument("--arms", metavar="JSON", help="these samplers, the first of them the baseline (default: the "
                       "paper's rows)")  # fmt: skip
    group.add_argument("--full", action="store_true", help="every pattern, interval and baseline")
    group.add_argument("--prompts", action="append", metavar="NAME=FILE", help="of a benchmark; may be repeated")
    group.add_argument("--real", action="append", metavar="NAME=FOLDER", help="videos of a benchmark's reference; may "
                       "be repeated")  # fmt: skip
    group.add_argument("--extractor", action="append", metavar="PROTOCOL=SOURCE", help="weights of the network of a "
                       "protocol, a file or hub:owner/name/file; may be repeated")  # fmt: skip
    group.add_argument("--vocabulary", metavar="SOURCE", help="BERT's, for UMTScore")
    group = command.add_argument_group("how it is computed")
    group.add_argument("--hours", type=float, metavar="H", help="begin nothing after so long, and report what is there")
    group.add_argument("--batch-size", type=int, default=8, metavar="N", help="clips at a time (default: %(default)s)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of all noise (default: %(default)s)")
    group.add_argument("--keep", choices=("clips", "features"), default="clips",
                       help="lossless clips, or features alone and the video files (default: %(default)s)")  # fmt: skip
    group.add_argument("--shard", metavar="I/N", help="computes the I-th of N shares and writes no report")
    group.add_argument("--quiet", action="store_true", help="no progress bar")
    add_model(command)
    command.set_defaults(run=run, catalogue=False)  # as `evaluate` has it


def run(options: argparse.Namespace) -> None:
    from ivmix.benchmarks.estimate import total
    from ivmix.benchmarks.reproduce import markdown, reproduce
    from ivmix.benchmarks.run import check_folder, deadline
    from ivmix.benchmarks.setup import check_given, make_task
    from ivmix.media import write_text

    if options.arms is not None and options.full:
        raise ValueError("give either --full or --arms, not both")
    folder, share, chosen = output_folder(options.output), parse_shard(options.shard), named(options)
    deadline(options.hours)
    for description, _ in chosen:
        check_folder(folder / description.name, description.name)
    if options.dry_run:
        found = [estimated(*one, options, folder / one[0].name) for one in chosen]
        sys.stdout.write("\n\n".join(["\n".join(one.lines) for one in found] + [total(found)]) + "\n")
        return
    ready = [(one, given) for one, given in chosen if given.extractors]
    for description, given in chosen:
        if not given.extractors:
            networks = ", ".join(dict.fromkeys(description.distances.values()))
            say(f"{description.name} is left out: no --extractor of {networks}")
    if not ready:
        raise ValueError("no benchmark has a network that measures: name one by --extractor; --dry-run says which")
    for description, given in ready:
        check_given(description, given)
    options.device = local_device(options.device)
    model = load_model(options)
    arms = arms_of(options, model.pair)
    tasks = [make_task(one, given, folder / one.name, model, arms, model.pair.device) for one, given in ready]
    reports = reproduce(tasks, share=share, hours=options.hours, progress=not options.quiet, said=say)
    if share is not None:
        say(f"share {options.shard} of {folder} is done")
    if reports:
        text = markdown([reports[one.name] for one, _ in ready if one.name in reports])
        write_text(text, folder / "report.md")
        sys.stdout.write(text)
        say(f"wrote {folder / 'report.md'}")


def named(options: argparse.Namespace) -> list[tuple["Description", "Given"]]:
    """The benchmarks that are asked for, each with what is given for it."""
    from ivmix.benchmarks.description import NAMES, describe
    from ivmix.benchmarks.setup import Given, by_protocol

    asked = NAMES if options.benchmarks is None else options.benchmarks.split(",")
    descriptions = [describe(name) for name in asked]
    names = [description.name for description in descriptions]
    if len(set(names)) < len(names):
        raise ValueError(f"--benchmarks {options.benchmarks}: expected each once")
    prompts, real = (by_benchmark(getattr(options, what) or (), f"--{what}", names) for what in ("prompts", "real"))
    extractors = by_protocol(options.extractor or (), "--extractor")
    found = []
    for description in descriptions:
        own = {one: path for one, path in extractors.items() if one in description.distances.values()}
        given = Given(
            prompts=prompts.get(description.name), real=(real[description.name],) if description.name in real else (),
            extractors=own, seed=options.seed, batch_size=options.batch_size, keep=options.keep,
        )  # fmt: skip
        found.append((description, replace(given, vocabulary=options.vocabulary if description.scores else None)))
    used = {name for _, given in found for name in given.extractors}
    if unused := sorted(set(extractors) - used):
        raise ValueError(f"--extractor {unused[0]}: none of {', '.join(names)} is measured by it")
    return found


def by_benchmark(entries: Sequence[str], option: str, names: Sequence[str]) -> Mapping[str, str]:
    """["ucf101=classInd.txt"] -> {"ucf101": "classInd.txt"}. ValueError for what is no such entry."""
    found = dict[str, str]()
    for entry in entries:
        name, equals, path = entry.partition("=")
        if not equals or name not in names or not path or name in found:
            raise ValueError(f"{option} {entry}: expected NAME=FILE, once for each of {', '.join(names)}")
        found[name] = path
    return found
