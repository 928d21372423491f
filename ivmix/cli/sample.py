"""`ivmix sample`: a prompt becomes a video."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ivmix.cli.options import add_model, add_prompts, add_sampling, given_sampling, load_model, parse_size, say


def add(commands: Any) -> None:
    command = commands.add_parser(
        "sample",
        help="a prompt becomes a video",
        description="Samples one clip and writes it beside a JSON record that reproduces it.",
        epilog="examples:\n"
        "  ivmix sample 'a red circle moving left' -o out.mp4\n"
        "  ivmix sample 'a blue cross moving up' -o out.gif --sampler zigzag --pattern IV-IV --steps 20\n"
        "  ivmix sample --from out.mp4.json -o again.mp4\n"
        "  ivmix sample --from out.mp4.json -o heun.mp4 --solver heun",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("prompt", nargs="?", help="what to draw, such as 'a red circle moving left'")
    command.add_argument("-o", "--output", required=True, metavar="PATH",
                         help=".mp4, .gif, .webp, or a folder of PNG frames")  # fmt: skip
    command.add_argument(
        "--from", dest="record", metavar="JSON", help="reproduce a record; options given beside it vary it"
    )
    command.add_argument("--seed", type=int, help="of the initial noise (default: 0)")
    command.add_argument("--frames", type=int, metavar="N", help="length (default: the pair's)")
    command.add_argument("--size", metavar="HxW", help="in pixels (default: the pair's)")
    command.add_argument("--vae-tile", type=int, metavar="N", help="decode in overlapping squares of N latents a side: "
                         "less memory, nearly the same picture")  # fmt: skip
    command.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    add_prompts(command)
    add_sampling(command)
    add_model(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    import json

    from ivmix.media import check_writable, write_text, write_video
    from ivmix.sampling import sampling as read_sampling
    from ivmix.text_to_video import check_prompts

    if (options.prompt is None) == (options.record is None):
        raise ValueError("give either a prompt or --from JSON" + (", not both" if options.prompt is not None else ""))
    output = Path(options.output)
    record_path = output.with_name(output.name + ".json")
    check_writable(options.output)
    check_writable(record_path, (".json",))
    kept = recall(Path(options.record)) if options.record else Kept(options.prompt)
    check_prompts([kept.prompt])
    height, width = parse_size(options.size) if options.size else (None, None)
    names = ("seed", "frames", "vae_tile", "negative_prompt", "image_negative_prompt")
    given = {name: getattr(options, name) for name in names} | {"height": height, "width": width}
    call = {"seed": 0, **kept.call, **{name: value for name, value in given.items() if value is not None}}

    model = load_model(options, kept.model)
    sampling = read_sampling({**model.pair.defaults, **kept.sampling}, given_sampling(options))
    result = model([kept.prompt], sampling=sampling, progress=not options.quiet, **call)
    write_video(result.frames[0], options.output, fps=model.pair.fps)
    write_text(json.dumps(result.record.to_dict(), indent=2) + "\n", record_path)
    if not options.quiet:
        nfe = " + ".join(f"{count} {name}" for name, count in result.record.nfe.items())
        say(f"{output}  seed {call['seed']}, {sampling.name}, {nfe} evaluations, {result.record.seconds:.1f} s")


@dataclass(frozen=True)
class Kept:
    """What a run starts from before the command line's options: nothing but a prompt, or a whole record."""

    prompt: str
    call: dict[str, Any] = field(default_factory=dict)  # seed, sizes, tile, negative prompts
    model: dict[str, Any] = field(default_factory=dict)  # pair, what is swapped in it, device, dtype, compile
    sampling: dict[str, Any] = field(default_factory=dict)  # in the form of a pair's defaults


def recall(path: Path) -> Kept:
    """Reads the record of an earlier run. Raises ValueError for a file that is none."""
    from ivmix.models.folder import read_json

    raw = read_json(path)
    try:
        (prompt,), (seed,) = raw["prompts"], raw["seeds"]
        call = {name: raw[name] for name in ("frames", "height", "width", "negative_prompt", "image_negative_prompt")}
        call["vae_tile"] = raw.get("vae_tile")  # older records have none
        model = {name: raw[name] for name in ("pair", "device", "dtype", "compile", "swaps")}
        options = dict(raw["sampling"])
        name = options.pop("sampler")
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} is not a record that `ivmix sample` wrote") from None
    return Kept(prompt, {"seed": seed, **call}, model, {"sampler": name, name: options})
