"""Options that several subcommands share."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ivmix.samplers.options import OPTIONS, Option, describe_samplers

MODEL = {"pair": "sprites", "device": "auto", "dtype": "auto", "compile": "off"}
PREDICTIONS = ("epsilon", "x0", "v", "flow")


def add_model(command: argparse.ArgumentParser, in_full: bool = False) -> None:
    """The pair and where it runs, and what takes its models' places: explained `in_full`, or by a word on where."""
    group = command.add_argument_group("pair and device")
    group.add_argument("--pair", metavar="NAME|FOLDER", help=f"a name that `ivmix pairs` lists, or a folder with a "
                       f"pair.json (default: {MODEL['pair']})")  # fmt: skip
    group.add_argument("--device", help="cpu, cuda, cuda:1, mps, … (default: auto, the accelerator that torch finds, "
                       "else the CPU)")  # fmt: skip
    group.add_argument("--dtype", choices=("auto", "float32", "float16", "bfloat16", "float64"),
                       help="of the networks; the state is at least float32 (default: auto, on an accelerator what the "
                            "pair says, float16 for public ones, and float32 on the CPU)")  # fmt: skip
    group.add_argument("--compile", choices=("off", "auto", "graphs", "cudagraphs", "inductor"),
                       help="auto: graphs on a GPU, which are captured CUDA graphs and need no Triton, off elsewhere; "
                            "cudagraphs, inductor: torch.compile of the networks' blocks by that backend, the second "
                            "with Triton on a GPU; first calls may take minutes "
                            f"(default: {MODEL['compile']})")  # fmt: skip
    group.add_argument("--offload", action="store_true", help="networks rest in CPU memory and come to the device in "
                       "turn: less memory, the same picture, and time for what moves, which is said")  # fmt: skip
    group = command.add_argument_group(
        "models in place of the pair's own",
        "A SOURCE is a folder as diffusers writes it, a single file in any layout that `ivmix inspect` knows, or "
        "hub:owner/name[/path][@revision]." if in_full else
        "--image-model, --video-model, --motion, --vae, --lora and their like, as `ivmix sample --help` lists them.",
    )  # fmt: skip

    def swap(name: str, help: str, **options: Any) -> None:
        group.add_argument(name, help=help if in_full else argparse.SUPPRESS, **options)

    swap("--image-model", "UNet, text encoder, tokenizer, as far as it has them", metavar="SOURCE")
    swap("--video-model", "likewise, and its VAE; with --motion, the spatial half", metavar="SOURCE")
    swap("--motion", "AnimateDiff's motion modules, for the video model", metavar="SOURCE")
    swap("--motion-norm", "whose group norms they have (default: the authors' in files of the authors' layout, "
         "diffusers' in a MotionAdapter)", choices=("authors", "diffusers"))  # fmt: skip
    swap("--vae", "decodes the latents of both", metavar="SOURCE")
    swap("--tokenizer", "or hub:…, for both models: single files bring none", metavar="FOLDER")
    swap("--lora", "added to both models, at weight 1 if none is said; may be repeated", action="append",
         metavar="SOURCE[:WEIGHT]")  # fmt: skip
    for side in ("image", "video"):
        swap(f"--{side}-lora", f"likewise, to the {side} model", action="append", metavar="SOURCE[:WEIGHT]")
    swap("--clip-skip", "read the text encoders' Nth layer from the end (default: the pair's, 1 as a rule)", type=int,
         metavar="N")  # fmt: skip
    swap("--image-clip-skip", "of the image model alone (default: --clip-skip)", type=int, metavar="N")
    swap("--image-prediction", "what the image model predicts (default: what its files say, or the pair)",
         choices=PREDICTIONS)  # fmt: skip
    swap("--image-schedule", "what it was trained on: scaled_linear, linear, zero-snr (its own, rescaled to zero "
         "terminal SNR), a scheduler_config.json, or its text (default: likewise)",
         metavar="NAME|FILE|JSON")  # fmt: skip
    swap("--video-prediction", "likewise, of the video model", choices=PREDICTIONS)
    swap("--video-schedule", "likewise, of the video model", metavar="NAME|FILE|JSON")
    swap("--drop", "leave out keys of weights that are no network's, such as 'optimizer.*'; may be repeated",
         action="append", metavar="PATTERN")  # fmt: skip


def add_prompts(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("prompts")
    group.add_argument("--negative-prompt", metavar="TEXT", help="for both models (default: the pair's)")
    group.add_argument(
        "--image-negative-prompt", metavar="TEXT", help="for the image model (default: --negative-prompt)"
    )
    group.add_argument("--raw-prompts", action=argparse.BooleanOptionalAction,
                       help=r"take (), [] and \ of all prompts as text, not as weights such as (word:1.3) "
                            "(default: as weights)")  # fmt: skip


def add_sampling(command: argparse.ArgumentParser) -> None:
    """A flag for every option of any sampler, as `ivmix.samplers.options` declares it."""
    lines = "\n".join(f"{name:<11} {line}" for name, line in describe_samplers().items())
    group = command.add_argument_group(
        "sampling", f"{lines}\n\nWhat is not given is the pair's default for the sampler: `ivmix pairs NAME`\n"
        "shows it. What the sampler does not have is an error.",
    )  # fmt: skip
    group.add_argument("--sampler", metavar="NAME", help="one of these (default: the pair's)")
    for name, option in OPTIONS.items():
        group.add_argument(flag(name), type={"whole": int, "number": float}.get(option.kind, str),
                           metavar=option.metavar, help=explained(option))  # fmt: skip


def flag(name: str) -> str:
    """How the command writes an option's name.

    >>> flag("image_guidance")
    '--image-guidance'
    """
    return f"--{name.replace('_', '-')}"


def explained(option: Option) -> str:
    """What an option means, and all that it may be unless that is said already."""
    unnamed = [choice for choice in option.choices or () if choice not in option.help]
    return f"{option.help}: {', '.join(option.choices or ())}" if unnamed else option.help


def given_sampling(options: argparse.Namespace) -> dict[str, Any]:
    """What was given of `add_sampling`'s options, by their names in `ivmix.samplers`."""
    return {name: getattr(options, name) for name in ("sampler", *OPTIONS) if getattr(options, name) is not None}


def given_swaps(options: argparse.Namespace) -> dict[str, Any]:
    """What was given in place of a pair's models, in the form of `ivmix.pairs.swaps.Swaps`."""
    from ivmix.pairs.swaps import Swaps

    given = {field.name: getattr(options, field.name) for field in fields(Swaps)}
    for side in ("image_lora", "video_lora"):
        given[side] = [*(options.lora or ()), *(getattr(options, side) or ())]
    for name, value in given.items():
        if value == "":
            raise ValueError(f"{flag(name)} '': expected a folder, a file or hub:owner/name")
    return {name: value for name, value in given.items() if value not in (None, [])}


def named_model(options: argparse.Namespace, kept: Mapping[str, Any]) -> dict[str, Any]:
    """Pair, device, dtype and compilation, as given, as `kept`, or by default."""
    given = {name: value for name in MODEL if (value := getattr(options, name)) is not None}
    return {**MODEL, **{name: kept[name] for name in MODEL if name in kept}, **given}


def load_model(options: argparse.Namespace, kept: Mapping[str, Any] | None = None) -> Any:
    """The `TextToVideo` that the options of `add_model` name; what is not given is as in `kept`, or the default."""
    from ivmix.generation.text_to_video import TextToVideo
    from ivmix.pairs.swaps import Swaps

    kept = kept or {}
    named = named_model(options, kept)
    swaps = Swaps.from_dict({**kept.get("swaps", {}), **given_swaps(options)})
    model = TextToVideo.from_pair(
        named["pair"], named["device"], named["dtype"], swaps, named["compile"], kept.get("commits", {}),
        options.offload,
    )  # fmt: skip
    for side in model.pair.sides:
        if any(source != "pair" for source in side.source.values()):
            say(side.announcement)
    if named["compile"] != "off":
        call = model.pair.video.call
        say(f"networks run by {call.path}: {call.reason}")
    return model


def say(text: str) -> None:
    """One line for the person at the terminal, on stderr, so that stdout stays free for results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def given_arms(path: str | None) -> Any:
    """The samplers that --arms names, a tuple of `ivmix.evaluation.arms.Arm`; None where it is not given."""
    from ivmix.evaluation.arms import read_arms

    if path == "":
        raise ValueError("--arms '': expected a file of JSON")
    return None if path is None else read_arms(Path(path))


def output_folder(text: str) -> Path:
    """The folder that -o names. ValueError for none."""
    if not text.strip():
        raise ValueError(f"-o {text!r}: it names no folder; give one such as runs/first")
    return Path(text)


def parse_size(text: str) -> tuple[int, int]:
    """"32x48" -> (32, 48), height and width in pixels. ValueError for anything else."""
    height, cross, width = text.lower().partition("x")
    if not (cross and height.isdigit() and width.isdigit()):
        raise ValueError(f"--size {text}: expected HEIGHTxWIDTH in pixels, such as 64x64")
    return int(height), int(width)
