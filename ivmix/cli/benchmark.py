"""`ivmix evaluate --benchmark` of public benchmarks: draws or reads clips, measures them, reports beside the paper."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ivmix.cli import catalogue
from ivmix.cli.options import MODEL, flag, given_arms, load_model, output_folder, say

if TYPE_CHECKING:
    from ivmix.benchmarks.description import Description
    from ivmix.benchmarks.estimate import Estimate
    from ivmix.benchmarks.report import Report
    from ivmix.benchmarks.setup import Given


def add(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "public benchmarks",
        "--benchmark chronomagic-150, chronomagic-1649, msrvtt, ucf101, or a JSON file\nof one's own. Prompts, real "
        "videos and networks that measure are others':\n--dry-run says which are missing, and where they are.",
    )  # fmt: skip
    group.add_argument("--dry-run", action="store_true", help="what is missing, how long it will take, how much disk; "
                       "nothing is computed")  # fmt: skip
    group.add_argument("--prompts", metavar="FILE", help="in place of where the benchmark has them from")
    group.add_argument("--real", action="append", metavar="FOLDER|PROTOCOL=FILE", help="videos of the reference, or "
                       "features of them by a protocol; may be repeated")  # fmt: skip
    group.add_argument("--pool", action="append", metavar="PROTOCOL=FILE", help="features of more real clips, to say "
                       "what real is from real; may be repeated")  # fmt: skip
    group.add_argument("--extractor", action="append", metavar="PROTOCOL=SOURCE", help="weights of the network of a "
                       "protocol, a file or hub:owner/name/file; may be repeated")  # fmt: skip
    group.add_argument("--vocabulary", metavar="SOURCE", help="BERT's, for UMTScore")
    group.add_argument("--bn-eps", type=float, metavar="EPS", help="of I3D's batch norms, 1e-3 or 1e-5 (default: the "
                       "protocol's own)")  # fmt: skip
    group.add_argument("--videos", action="append", metavar="FOLDER", help="measure these files, named as the "
                       "benchmark has it, and draw nothing; may be repeated, a row each")  # fmt: skip
    group.add_argument("--frames", type=int, metavar="N", help="of a drawn clip (default: the pair's)")
    group.add_argument("--hours", type=float, metavar="H", help="begin nothing after so long, and report what is there")
    group.add_argument("--keep", choices=("clips", "features"), help="lossless clips, or features alone and the video "
                       "files (default: clips)")  # fmt: skip


# Options that public benchmarks alone have, as argparse names them.
OWN = (
    "dry_run", "prompts", "real", "pool", "extractor", "vocabulary", "bn_eps", "videos", "frames", "hours", "keep",
)  # fmt: skip

# Options that files which are there already have no use for.
DRAWING = ("pair", "arms", "full", "catalogue", "frames", "keep")


def run(options: argparse.Namespace, share: tuple[int, int] | None) -> None:
    import torch

    from ivmix.benchmarks.description import describe
    from ivmix.benchmarks.run import check_folder, deadline, evaluate
    from ivmix.benchmarks.setup import check_given, make_task
    from ivmix.devices import find_device

    if options.references is not None:
        raise ValueError("--references is of the sprite world: real clips are named by --real")
    if options.videos and (unused := [name for name in DRAWING if getattr(options, name) not in (None, False)]):
        raise ValueError(f"--videos measures files and draws nothing: leave {flag(unused[0])} out")
    description, given, folder = describe(options.benchmark), given_of(options), output_folder(options.output)
    deadline(options.hours)
    check_folder(folder, description.name)
    if options.dry_run:
        sys.stdout.write("\n".join(estimated(description, given, options, folder).lines) + "\n")
        return
    check_given(description, given)
    model, arms = None, ()
    if not given.videos:
        model = load_model(options)
        arms = arms_of(options, model.pair)
    device = model.pair.device if model is not None else find_device(options.device or MODEL["device"])
    task = make_task(description, given, folder, model, arms, torch.device(device))
    found = evaluate(task, share=share, hours=options.hours, progress=not options.quiet)
    if found is None:
        if share is not None:
            say(f"share {options.shard} of {folder} is done")
        return
    tell(found, folder, options)


def given_of(options: argparse.Namespace) -> "Given":
    from ivmix.benchmarks.setup import Given, by_protocol

    return Given(
        options.prompts, tuple(options.real or ()), tuple(options.pool or ()),
        by_protocol(options.extractor or (), "--extractor"), options.vocabulary, options.bn_eps,
        tuple(options.videos or ()), options.clips, options.seeds, 0 if options.seed is None else options.seed,
        options.batch_size, options.frames, options.keep or "clips",
    )  # fmt: skip


def arms_of(options: argparse.Namespace, pair: Any) -> Any:
    """What is drawn: what --arms, --full or --catalogue names, or the paper's rows."""
    from ivmix.benchmarks.setup import paper_arms
    from ivmix.evaluation.arms import full_arms

    if (given := given_arms(options.arms)) is not None:
        return given
    if options.catalogue:
        return catalogue.arms_of(options, pair)
    return full_arms(pair) if options.full else paper_arms(pair.defaults["sampler"])


def estimated(description: "Description", given: "Given", options: argparse.Namespace, folder: Path) -> "Estimate":
    """What a dry run says, without loading a network or downloading anything."""
    from ivmix.benchmarks.estimate import estimate

    named = None if given.videos else options.pair or MODEL["pair"]
    if options.catalogue:
        found = estimate(description, given, named, (), False, folder)
        return replace(found, notes=(*found.notes, "--catalogue draws rows that are known once the pair is loaded"))
    return estimate(description, given, named, given_arms(options.arms), options.full, folder)


def tell(found: "Report", folder: Path, options: argparse.Namespace) -> None:
    import warnings

    from ivmix.benchmarks.report import main_table

    caveats = [text for one in found.results for metric in one.distances for text in one.main(metric).warnings]
    for warning in (*found.warnings, *caveats):
        warnings.warn(warning, stacklevel=1)
    sys.stdout.write(main_table(found) + "\n")
    if found.complete[0] < found.complete[1]:
        say("a part: {:,} of {:,} clips a row, the first of a fair order".format(*found.complete))
    say(f"wrote {folder / 'report.md'}, report.json, features and videos beside them")
