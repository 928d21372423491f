"""`ivmix train`: the embedded pair from nothing, with its own recipe."""

import argparse
from importlib.util import find_spec
from typing import Any

from ivmix.cli.errors import Stopped
from ivmix.cli.options import output_folder, say


def add(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="train the embedded pair from nothing",
        description="Trains autoencoder, judge, image and video model of the sprite world, measures the pair and "
        "writes its model card. A killed run resumes when the same command is given again. Hours on 2 cores.",
        epilog="examples:\n"
        "  ivmix train sprites -o runs/sprites\n"
        "  ivmix train sprites -o runs/trial --scale 0.01 --clips 4",
    )
    command.add_argument("recipe", choices=("sprites",), help="which pair")
    command.add_argument(
        "-o", "--output", required=True, metavar="FOLDER",
        help="of the run; the pair is in FOLDER/pair, its control in FOLDER/crisp, a student of its video model in "
        "FOLDER/student, an image model of other latents in FOLDER/bridged",
    )  # fmt: skip
    command.add_argument(
        "--device", default="cpu", help="cpu, cuda, auto, … (default: %(default)s, as the embedded pair was trained)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and data (default: %(default)s)")
    command.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="stages trained side by side (default: %(default)s)"
    )
    command.add_argument(
        "--threads", type=int, default=1, metavar="N", help="CPU threads a stage (default: %(default)s)"
    )
    command.add_argument(
        "--scale", type=float, default=1.0, metavar="X", help="of all step counts, for a trial (default: 1)"
    )
    command.add_argument(
        "--clips", type=int, default=128, metavar="N", help="measured a sampler for the card (default: %(default)s)"
    )
    command.add_argument("--stage", help=argparse.SUPPRESS)
    command.add_argument("--position", type=int, default=0, help=argparse.SUPPRESS)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    import torch

    from ivmix.devices import find_device
    from ivmix.sprites.training.recipe import STAGES
    from ivmix.sprites.training.run import assemble, end_with_parent, run_all, run_stage

    for name, least in {"jobs": 1, "threads": 1, "clips": 3}.items():
        if getattr(options, name) < least:
            raise ValueError(f"--{name} {getattr(options, name)}: expected {least} or more")
    if not 0 < options.scale <= 1:
        raise ValueError(f"--scale {options.scale}: expected a number above 0, at most 1")
    folder, device = output_folder(options.output), find_device(options.device)
    if find_spec("matplotlib") is None:
        raise ValueError("the curves of a training are drawn by matplotlib: pip install matplotlib first")
    if not folder.is_dir():
        folder.mkdir(parents=True)
    torch.set_num_threads(options.threads)
    if options.stage:
        end_with_parent()
        stage = {stage.name: stage for stage in STAGES}[options.stage]
        try:
            run_stage(stage, folder, device, options.seed, options.scale, options.position)
        except Stopped as stopped:  # the run that started this stage says so
            return stopped.status
        return 0
    run_all(folder, device, options.seed, options.scale, options.jobs, options.threads)
    torch.set_num_threads(options.threads * options.jobs)
    pair = assemble(folder, options.clips, seed=1000)
    say(f"the pair is in {pair}, its card in {pair / 'README.md'}, curves and sheets in {folder}")
    say(f"try it:  ivmix sample 'a red circle moving left' --pair {pair} -o out.mp4")
    return 0
