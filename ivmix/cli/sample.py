"""`ivmix sample`: prompts become videos."""

import argparse
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ivmix.cli.options import (
    add_model,
    add_prompts,
    add_sampling,
    given_sampling,
    load_model,
    named_model,
    parse_size,
    say,
)
from ivmix.cli.workers import local_device

if TYPE_CHECKING:
    from ivmix.generation.record import Record
    from ivmix.generation.replay import Kept
    from ivmix.generation.requests import Request
    from ivmix.generation.result import Result
    from ivmix.generation.text_to_video import TextToVideo

USAGE = """%(prog)s PROMPT … -o PATH [options]
       %(prog)s --prompts FILE -o PATH [options]
       %(prog)s --from JSON -o PATH [options]"""
EXAMPLES = """examples:
  ivmix sample 'a red circle moving left' -o out.mp4
  ivmix sample 'a blue cross moving up' -o out.gif --sampler zigzag --pattern IV-IV --steps 20
  ivmix sample 'a corgi on a beach' -o corgi.mp4 --pair animatediff --device cuda
  ivmix sample --from out.mp4.json -o again.mp4                      the same again
  ivmix sample --from out.mp4.json -o heun.mp4 --solver heun         the same but for its solver
  ivmix sample 'a red circle moving left' -o out.mp4 --preview now.png           seen while it is drawn
  ivmix sample 'a red circle moving left' --init soft.mp4 --strength 0.3 -o crisp.mp4
  ivmix sample 'a red circle moving left' --seeds 0:8 -o clip.mp4    clip-000.mp4 … clip-007.mp4
  ivmix sample --prompts prompts.csv -o clips.mp4 --resume           after a kill: only what is missing
  torchrun --nproc-per-node 4 -m ivmix sample --prompts prompts.csv -o clips.mp4    the same clips, shared by four
"""


def add(commands: Any) -> None:
    command = commands.add_parser(
        "sample",
        usage=USAGE,
        help="prompts become videos",
        description="Samples a clip, or several, and writes each beside a JSON record that makes it again.",
        epilog=EXAMPLES,
    )
    command.add_argument("prompts", nargs="*", metavar="PROMPT",
                         help="what to draw, in quotes: 'a red circle moving left'")  # fmt: skip
    command.add_argument("-o", "--output", required=True, metavar="PATH",
                         help=".mp4, .gif, .webp, or a folder of PNG frames; several clips are numbered")  # fmt: skip
    command.add_argument(
        "--from", dest="record", metavar="JSON",
        help="make what a record describes again; a prompt or options given beside it vary it",
    )  # fmt: skip
    add_sampling(command)
    add_prompts(command)
    group = command.add_argument_group("several clips")
    group.add_argument("--prompts", dest="file", metavar="FILE",
                       help="a line each of .txt; or .csv, .jsonl with prompt and, if you like, seed, negative_prompt, "
                            "image_negative_prompt, source_prompt")  # fmt: skip
    group.add_argument("--seed", type=int, metavar="N", help="of the first clip's noise, the next has N + 1 … "
                       "(default: 0)")  # fmt: skip
    group.add_argument("--seeds", metavar="A:B|A,B,…", help="every prompt from each of these")
    group.add_argument("--batch-size", type=number_or_auto, metavar="N", help="clips at a time; among others a clip "
                       "differs by roundings, so a record knows how many ran together, and --from runs as many "
                       "(default: auto, what an accelerator's memory holds, and 1 on the CPU)")  # fmt: skip
    group.add_argument("--resume", action="store_true", help="leave out clips whose record is there and asks the same")
    group = command.add_argument_group("from a video")
    group.add_argument("--init", metavar="FILE", help="begin from this video or picture: noise is added, and the last "
                       "steps are played; it is cut and resized to what is drawn")  # fmt: skip
    group.add_argument("--strength", type=float, metavar="X",
                       help="the share of the steps, 0 to 1: more changes more (default: 0.5)")  # fmt: skip
    group.add_argument("--source-prompt", metavar="TEXT", help="what the video shows: it is inverted under that prompt "
                       "instead of having noise added, which keeps more of it")  # fmt: skip
    group = command.add_argument_group("output")
    group.add_argument("--frames", type=int, metavar="N", help="length (default: the pair's)")
    group.add_argument("--size", metavar="HxW", help="in pixels (default: the pair's)")
    group.add_argument("--window", type=int, metavar="N", help="frames that the video model has at a time: it is asked "
                       "for windows that overlap, and their average is taken (default: all, and of a clip longer than "
                       "it knows positions for, the pair's own length)")  # fmt: skip
    group.add_argument("--overlap", type=int, metavar="N", help="frames that a window shares with the next (default: "
                       "half of them)")  # fmt: skip
    group.add_argument("--space-window", type=int, metavar="N", help="likewise over space, for both models: squares of "
                       "N pixels a side, each sharing half with the next (default: the whole frame)")  # fmt: skip
    group.add_argument("--noise", choices=("white", "freenoise"), help="to begin from: freenoise repeats that of the "
                       "first window, in another order, so that all begin alike (default: white)")  # fmt: skip
    group.add_argument("--fps", type=float, metavar="X", help="frames a second of the file (default: the pair's)")
    group.add_argument("--preview", metavar="PATH", help="a file replaced after every step by what it shows of the "
                       "clips being drawn: .png is a sheet of frames; .gif, .webp and .mp4 play")  # fmt: skip
    group.add_argument("--no-upscale", action="store_true",
                       help="write small frames as they are, instead of enlarged to 256 pixels or more")  # fmt: skip
    group.add_argument("--no-clobber", action="store_true", help="an error instead of replacing a file")
    group.add_argument("--vae-tile", type=int, metavar="N", help="decode in overlapping squares of N latents a side: "
                       "less memory, nearly the same picture")  # fmt: skip
    group.add_argument("--image-frames", type=int, metavar="N", help="frames that the image model has at a time: less "
                       "memory, the same picture to a rounding (default: all)")  # fmt: skip
    group.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    add_model(command, in_full=True)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from ivmix.evaluation.workers import meet, ranks
    from ivmix.generation.replay import Kept, recall, warn_of_changes
    from ivmix.generation.result import check_outputs, numbered
    from ivmix.media import check_fps, check_writable

    kept = recall(Path(options.record)) if options.record else Kept()
    requests = read(options, kept)
    check_writable(options.output)
    paths = numbered(options.output, len(requests))
    call = read_call(options, kept, paths)
    if not options.resume:
        for path in paths:
            check_outputs(path, not options.no_clobber)
    if options.fps is not None:
        check_fps(options.fps)
    if options.preview is not None:
        check_preview(options, [*paths, call.get("video")])

    options.device = local_device(options.device, kept.model.get("device"))
    model = load_kept(options, kept)
    jobs = list(zip(requests, paths, strict=True))
    wanted = []
    for number, request in enumerate(requests, 1):  # what cannot be is found before the first is drawn
        try:
            wanted.append(model.record(**arguments([request], model), **call))
        except ValueError as error:
            which = f"clip {number} of {len(requests)}: " if len(requests) > 1 else ""
            raise ValueError(f"{which}{error}") from None
    if kept.record is not None:
        warn_of_changes(kept.record, wanted[0])
    there = set[str]()
    if options.resume:
        there = {path for path, record in zip(paths, wanted, strict=True) if is_there(record, path)}
        for path in paths:
            if path not in there:
                check_outputs(path, not options.no_clobber)
        if not options.quiet and there:
            say(f"{len(there)} of {len(paths)} clips are there already")
    with ranks() as (rank, world):
        meet()  # before the first is written: whoever looks later would find it there
        options.quiet = options.quiet or rank > 0
        draw(jobs, there, model, call, options, kept, (rank, world))
    if world > 1 and not options.quiet:
        say(f"{len(jobs)} clips are there, shared by {world} processes")


def check_preview(options: argparse.Namespace, used: Sequence[str | None]) -> None:
    """Raises ValueError or OSError if previews could not be written, or would replace what the run writes or reads."""
    from ivmix.generation.preview import SUFFIXES
    from ivmix.media import check_writable

    check_writable(options.preview, SUFFIXES, clobber=not options.no_clobber)
    for path in used:
        if path and os.path.realpath(path) == os.path.realpath(options.preview):
            raise ValueError(f"--preview {options.preview} would replace the run's own {path}: choose another name")


def load_kept(options: argparse.Namespace, kept: "Kept") -> "TextToVideo":
    """The model; ValueError with what to do where a record's device is not here."""
    from ivmix.devices import find_device

    if options.device is None and kept.record is not None:
        try:
            find_device(kept.record.device)
        except ValueError as error:
            slow = find_device("auto").type == "cpu" and kept.record.dtype in ("float16", "bfloat16")
            faster = f", and --dtype float32, as {kept.record.dtype} is slow on a CPU" if slow else ""
            raise ValueError(
                f"{options.record}: {error}. --device auto draws it on what is, to a rounding{faster}"
            ) from None
    model: TextToVideo = load_model(options, kept.model)
    return model


def number_or_auto(text: str) -> int | str:
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, or auto") from None


def read_call(options: argparse.Namespace, kept: "Kept", paths: Sequence[str]) -> dict[str, Any]:
    """What all clips have in common of a call of `TextToVideo`; all that needs no model to be wrong is refused."""
    from ivmix.pairs.description import describe
    from ivmix.samplers.reading import sampling
    from ivmix.typed import whole

    for name in ("frames", "vae_tile", "image_frames", "batch_size", "window", "space_window"):
        if getattr(options, name) not in (None, "auto"):
            whole(name, getattr(options, name), 1)
    height, width = parse_size(options.size) if options.size else (None, None)
    given = {"frames": options.frames, "height": height, "width": width, "vae_tile": options.vae_tile,
             "image_frames": options.image_frames, "video": options.init, "strength": options.strength,
             "raw_prompts": options.raw_prompts, "window": options.window, "overlap": options.overlap,
             "space_window": options.space_window, "noise": options.noise}  # fmt: skip
    call = {**kept.call, **{name: value for name, value in given.items() if value is not None}}
    video = call.get("video")
    if kept.record and kept.record.video and video is None:
        raise ValueError(f"{options.record}: the clip began from a video given in Python; name its file with --init")
    if video and (same := [path for path in paths if os.path.realpath(path) == os.path.realpath(video)]):
        raise ValueError(f"the clip would begin from {video} and be written to {same[0]}, one file: write elsewhere")
    description, _, _ = describe(named_model(options, kept.model)["pair"])
    chosen = sampling({**description["defaults"], **kept.sampling}, given_sampling(options))
    if kept.sampling and chosen.name != kept.sampling["sampler"] and not options.quiet:
        say(f"the options of {chosen.name} are the pair's and those given, not those of the record's "
            f"{kept.sampling['sampler']}")  # fmt: skip
    return call | {"sampling": chosen}


def draw(
    jobs: Sequence[tuple["Request", str]], there: Collection[str], model: "TextToVideo", call: dict[str, Any],
    options: argparse.Namespace, kept: "Kept", worker: tuple[int, int],
) -> None:  # fmt: skip
    """Draws and writes the clips, a batch at a time: of the size given, a record's, or what the device holds. Batches
    are cut as if none was `there`, so that a run that goes on draws what it would have drawn; every `worker` (its place
    from 0, how many there are) has its share of them."""
    from ivmix.evaluation.workers import agreed
    from ivmix.generation.latent_rgb import map_path
    from ivmix.generation.preview import Preview
    from ivmix.generation.result import record_path

    if len(there) == len(jobs):
        return
    size: Any = options.batch_size or "auto"
    place = None
    if kept.record is not None and options.batch_size is None:
        size = kept.record.batch_sizes[0]
        place = kept.record.batch_places[0] if len(jobs) == len(kept.requests) == 1 else None
    planned = model.record(**arguments([r for r, _ in jobs], model), **call, batch_size=size, place=place)
    size = agreed(planned.batch_sizes[0])
    if not options.quiet:
        say(f"on {planned.device} in {planned.dtype}" + (f", {size} clips at a time" if size > 1 else ""))
    if not options.quiet and place is not None and size > 1:
        say(f"the record's clip was one of {size}: as many run, so that it is the same (--batch-size 1: it alone)")
    rank, world = worker
    shown = options.preview is not None and rank == 0
    preview = Preview(model.pair, options.preview, home=call["sampling"].home) if shown else None
    if preview is not None and not options.quiet:
        stored = map_path(model.pair.vae_file)
        how = stored if stored.is_file() else "a decoded piece of each clip (`ivmix preview-map` fits a map instead)"
        say(f"previews in {options.preview}, coloured by {how}")
    starts = range(0, len(jobs), size)[rank::world]
    mine = {start: jobs[start : start + size] for start in starts}
    texts = [text for batch in mine.values() for request, path in batch if path not in there for text in request.texts]
    model.read_ahead(texts, bool(call.get("raw_prompts")))
    for start, batch in mine.items():
        if all(path in there for _, path in batch):
            continue
        if not options.quiet and len(jobs) > len(batch):
            say(f"clip {start + 1} of {len(jobs)}")
        if preview is not None:
            preview.clips = len(batch)  # of a batch of copies, one
        result = model(**arguments([r for r, _ in batch], model), **call, batch_size=size, place=place,
                       progress=not options.quiet, callback=preview)  # fmt: skip
        for clip, (_, path) in zip(result, batch, strict=True):
            if path in there:
                continue
            clip.save(path, fps=options.fps, upscaled=not options.no_upscale, clobber=not options.no_clobber)
            if not options.quiet:
                say(summary(path, record_path(path), clip, enlarged=not options.no_upscale))


def read(options: argparse.Namespace, kept: "Kept") -> list["Request"]:
    """The clips asked for: of the prompts given, a file, or a record, whose place prompts take."""
    from ivmix.generation.arguments import read_prompts, read_seeds
    from ivmix.generation.requests import Request, parse_seeds, read_requests, spread

    prompts = options.prompts
    if len(prompts) > 1 and not any(len(prompt.split()) > 1 for prompt in prompts):
        raise ValueError(f"{len(prompts)} prompts of one word: put a prompt in quotes, {' '.join(prompts)!r}")
    if prompts and options.file:
        raise ValueError("give either prompts or --prompts FILE, not both")
    if options.seed is not None and options.seeds is not None:
        raise ValueError("give either --seed or --seeds, not both")
    if options.file:
        requests = read_requests(Path(options.file))
    elif prompts:
        requests = [Request(prompt) for prompt in read_prompts(prompts)]
    elif kept.requests:
        requests = [Request(request.prompt, request.seed) for request in kept.requests]
    else:
        raise ValueError("give a prompt, such as 'a red circle moving left', --prompts FILE, or --from JSON")
    before = kept.requests or [Request("", 0)]
    before = before if len(before) == len(requests) else before[:1] * len(requests)
    for name in ("negative_prompt", "image_negative_prompt", "source_prompt"):  # a file's own, the line's, a record's
        found = ([getattr(r, name), getattr(options, name), getattr(old, name)]
                 for r, old in zip(requests, before, strict=True))  # fmt: skip
        values = [next((text for text in texts if text is not None), None) for texts in found]
        requests = [replace(r, **{name: v}) for r, v in zip(requests, values, strict=True)]  # type: ignore[arg-type]
    said = options.seed is not None or options.seeds is not None
    if said and not options.file:
        requests = [replace(request, seed=None) for request in requests]
    first = options.seed if options.seed is not None else before[0].seed
    assert first is not None
    requests = spread(requests, first, None if options.seeds is None else parse_seeds(options.seeds))
    read_seeds([request.seed for request in requests if request.seed is not None], len(requests))
    return requests


def arguments(requests: Sequence["Request"], model: "TextToVideo") -> dict[str, Any]:
    """What `TextToVideo` takes of these clips."""
    default = model.pair.defaults["negative_prompt"]
    negatives = [default if r.negative_prompt is None else r.negative_prompt for r in requests]
    given: dict[str, Any] = {
        "prompts": [r.prompt for r in requests], "seed": [r.seed for r in requests], "negative_prompt": negatives
    }  # fmt: skip
    if any(r.image_negative_prompt is not None for r in requests):
        pairs = zip(requests, negatives, strict=True)
        given["image_negative_prompt"] = [
            other if r.image_negative_prompt is None else r.image_negative_prompt for r, other in pairs
        ]
    if any(r.source_prompt is not None for r in requests):
        given["source_prompt"] = [r.prompt if r.source_prompt is None else r.source_prompt for r in requests]
    return given


def is_there(wanted: "Record", path: str) -> bool:
    """Whether a clip is there already, with a record that asks for the same."""
    from ivmix.generation.record import read_record
    from ivmix.generation.result import record_path
    from ivmix.media import read_clip

    try:
        asked = Path(path).exists() and read_record(record_path(path)).asks_as(wanted)
        return asked and len(read_clip(path).frames) == wanted.frames  # and whole
    except (ValueError, OSError):
        return False


def summary(path: str, record: Path, clip: "Result", enlarged: bool) -> str:
    from ivmix.media import enlargement

    made, factor = clip.record, enlargement(*clip.frames.shape[2:4]) if enlarged else 1
    nfe = " + ".join(f"{count} {name}" for name, count in sorted(made.nfe.items()))
    size = f"{made.height}x{made.width}" + (f" enlarged {factor} times" if factor > 1 else "")
    return (f"{path}  {size}, seed {made.seeds[0]}, {made.sampling['sampler']}, {nfe} evaluations, "
            f"{made.seconds:.1f} s; {record.name} makes it again")  # fmt: skip
