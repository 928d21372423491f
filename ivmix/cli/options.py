"""Options that several subcommands share."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

MODEL = {"pair": "sprites", "device": "auto", "dtype": "auto", "compile": "off"}


def add_model(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("model")
    group.add_argument("--pair", metavar="NAME|FOLDER", help=f"a name that `ivmix pairs` lists, or a folder with a "
                       f"pair.json (default: {MODEL['pair']})")  # fmt: skip
    group.add_argument("--device", help="cpu, cuda, cuda:1, mps, … (default: auto, the accelerator that torch finds, "
                       "else the CPU)")  # fmt: skip
    group.add_argument("--dtype", choices=("auto", "float32", "float16", "bfloat16", "float64"),
                       help="of the networks; the state is at least float32 (default: auto, on an accelerator what the "
                            "pair says, float16 for public ones, and float32 on the CPU)")  # fmt: skip
    group.add_argument("--compile", choices=("off", "auto", "inductor"),
                       help="auto: CUDA graphs on a GPU, which need no Triton; inductor: torch.compile "
                            f"(default: {MODEL['compile']})")  # fmt: skip
    group = command.add_argument_group(
        "models", "In place of the pair's own: a folder as diffusers writes it, a single file in any layout that "
        "`ivmix inspect` knows, or hub:owner/name[/path][@revision]."
    )  # fmt: skip
    group.add_argument("--image-model", metavar="SOURCE", help="UNet, text encoder, tokenizer, as far as it has them")
    group.add_argument("--video-model", metavar="SOURCE", help="likewise, and its VAE; with --motion, the spatial half")
    group.add_argument("--motion", metavar="SOURCE", help="AnimateDiff's motion modules, for the video model")
    group.add_argument("--motion-norm", choices=("authors", "diffusers"),
                       help="whose group norms they have (default: the authors' in files of the authors' layout, "
                            "diffusers' in a MotionAdapter)")  # fmt: skip
    group.add_argument("--vae", metavar="SOURCE", help="decodes the latents of both")
    group.add_argument("--tokenizer", metavar="FOLDER", help="or hub:…, for both models: single files bring none")
    for name in ("lora", "image-lora", "video-lora"):
        models = {"lora": "both models"}.get(name, f"the {name.partition('-')[0]} model")
        group.add_argument(f"--{name}", action="append", metavar="SOURCE[:WEIGHT]",
                           help=f"added to {models}; may be repeated")  # fmt: skip
    group.add_argument("--clip-skip", type=int, metavar="N", help="read the text encoders' Nth layer from the end "
                       "(default: the pair's, 1 as a rule)")  # fmt: skip
    group.add_argument("--image-clip-skip", type=int, metavar="N", help="of the image model alone")
    for side in ("image", "video"):
        group.add_argument(f"--{side}-prediction", choices=("epsilon", "x0", "v", "flow"),
                           help=f"of the {side} model (default: what its files say, or the pair)")  # fmt: skip
        group.add_argument(f"--{side}-schedule", metavar="NAME|FILE|JSON",
                           help="what it was trained on: scaled_linear, linear, zero-snr (its own, rescaled to zero "
                                "terminal SNR), a scheduler_config.json, or its text (default: likewise)")  # fmt: skip
    group.add_argument("--drop", action="append", metavar="PATTERN", help="leave out keys of weights that are no "
                       "network's, such as 'optimizer.*'; may be repeated")  # fmt: skip


def add_prompts(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("prompts")
    group.add_argument("--negative-prompt", metavar="TEXT", help="for both models (default: the pair's)")
    group.add_argument(
        "--image-negative-prompt", metavar="TEXT", help="for the image model (default: --negative-prompt)"
    )
    group.add_argument("--raw-prompts", action=argparse.BooleanOptionalAction,
                       help=r"take (), [] and \ of all prompts as text, not as weights such as (word:1.3)")  # fmt: skip


def add_sampling(command: argparse.ArgumentParser) -> None:
    """Every option of `ivmix.samplers.samplers.Sampling`; what is not given is the pair's default for the sampler."""
    group = command.add_argument_group("sampling", "What is not given is the pair's default for the sampler.")
    group.add_argument("--sampler", metavar="NAME",
                       help="ddim: the video model alone; zigzag: IV-Mixed as published; composite: the ODE it "
                            "converges to, one evaluation of each model a step; mixture: a convex mixture of both "
                            "models; image: the image model frame by frame; official: the authors' own loop, with "
                            "--variant; freeinit and zsampling: the video model alone, for comparison")  # fmt: skip
    group.add_argument("--steps", type=int, metavar="N", help="outer steps")
    group.add_argument("--solver", metavar="NAME", help="euler (= DDIM), heun, midpoint, rk4, ab2, ab3, ab4, exp-ab2, "
                       "dpm2, dpm++2s, dpm++2m, dpm++3m, unipc2 or unipc3; with fresh noise euler-ancestral, er-sde, "
                       "sde-dpm++2s, sde-dpm++2m, sde-dpm++3m or sde-exp-ab2")  # fmt: skip
    group.add_argument("--spacing", metavar="NAME",
                       help="which levels the steps visit: training levels by diffusers' rules (trailing, leading, "
                            "linspace; of its multistep solvers dpm-linspace, dpm-leading), even in sigma^(1/7) "
                            "(karras) or in log sigma (uniform-lam, also called exponential), or as ComfyUI has them "
                            "(normal, sgm_uniform, simple, beta; linear_quadratic, which is for flows)")  # fmt: skip
    group.add_argument("--end", choices=("ab2", "euler"),
                       help="how a solver of order 2 and more steps to 0: with the slope it remembers, or as other "
                            "packages do (default: the pair's, or ab2)")  # fmt: skip
    group.add_argument("--guidance", type=float, metavar="W", help="video model's guidance scale; 1 is none")
    group.add_argument("--image-guidance", metavar="BEGIN[:END[:RHO]]",
                       help="scale of the image model's legs over the run (zigzag, composite), "
                            "or its own scale (mixture, image)")  # fmt: skip
    group.add_argument(
        "--video-guidance", metavar="BEGIN[:END[:RHO]]", help="scale of the video model's legs over the run"
    )
    group.add_argument(
        "--pattern", metavar="UP-DOWN", help="letters R, I, V that go up, a dash, I, V that come down: IV-IV"
    )
    group.add_argument(
        "--sequence", metavar="NAME", help="down-first (the authors' code) or up-first (the paper's figure)"
    )
    group.add_argument("--interval", metavar="A:B",
                       help="part of the run in which the image model takes part: 0:1 is all of it (official: the "
                            "authors' first and last step, a and b of n, are a/n:(b+1)/n)")  # fmt: skip
    group.add_argument("--period", type=int, metavar="N",
                       help="every Nth mixed step has the video model on the I legs too; the authors' zz")  # fmt: skip
    group.add_argument("--variant", metavar="NAME", help="of the authors' loops: animatediff, modelscope, videocrafter")
    group.add_argument("--image-weight", type=float, metavar="M", help="image model's share of a mixture, 0 to 1")
    group.add_argument("--iterations", type=int, metavar="K",
                       help="runs of freeinit, each from the low frequencies of the last one's clip")  # fmt: skip
    for name, along in (("spatial", "rows and columns"), ("temporal", "frames")):
        group.add_argument(f"--{name}-cutoff", type=float, metavar="D",
                           help=f"freeinit: what is low along {along}; 1 is Nyquist's frequency")  # fmt: skip
    group.add_argument("--inversion-guidance", type=float, metavar="W",
                       help="zsampling: guidance scale at which a step is undone")  # fmt: skip
    group.add_argument(
        "--zigzags", type=int, metavar="N", help="zsampling: how many first steps are so retaken (all but the last)"
    )


def given_sampling(options: argparse.Namespace) -> dict[str, Any]:
    """What was given of `add_sampling`'s options, by their names in `ivmix.samplers`."""
    from ivmix.samplers.options import OPTIONS

    return {name: getattr(options, name) for name in ("sampler", *OPTIONS) if getattr(options, name) is not None}


def given_swaps(options: argparse.Namespace) -> dict[str, Any]:
    """What was given in place of a pair's models, in the form of `ivmix.pairs.swaps.Swaps`."""
    from ivmix.pairs.swaps import Swaps

    given = {field.name: getattr(options, field.name) for field in fields(Swaps)}
    for side in ("image_lora", "video_lora"):
        given[side] = [*(options.lora or ()), *(getattr(options, side) or ())]
    for name, value in given.items():
        if value == "":
            raise ValueError(f"--{name.replace('_', '-')} '': expected a folder, a file or hub:owner/name")
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
        named["pair"], named["device"], named["dtype"], swaps, named["compile"], kept.get("commits", {})
    )
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
