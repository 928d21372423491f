"""`ivmix sample`: a prompt becomes a video."""

import argparse
from pathlib import Path
from typing import Any

from ivmix.cli.options import add_model, add_prompts, add_sampling, given_sampling, load_model, say


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
    command.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    add_prompts(command)
    add_sampling(command)
    add_model(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    import json

    from ivmix.media import check_writable, write_text, write_video
    from ivmix.models.folder import read_json
    from ivmix.sampling import sampling as read_sampling
    from ivmix.text_to_video import check_prompts

    if (options.prompt is None) == (options.record is None):
        raise ValueError("give either a prompt or --from JSON" + (", not both" if options.prompt is not None else ""))
    output = Path(options.output)
    record_path = output.with_name(output.name + ".json")
    check_writable(options.output)
    check_writable(record_path, (".json",))
    kept = read_json(Path(options.record)) if options.record else {}
    call: dict[str, Any] = {}
    try:
        prompt = kept["prompts"][0] if options.record else options.prompt
        for name in ("negative_prompt", "image_negative_prompt"):
            given = getattr(options, name)
            call[name] = kept[name] if options.record and given is None else given
        call["seed"] = options.seed if options.seed is not None else kept["seeds"][0] if options.record else 0
        height, width = parse_size(options.size) if options.size else (kept.get("height"), kept.get("width"))
        call |= {"frames": options.frames or kept.get("frames"), "height": height, "width": width}
        recorded = dict(kept["sampling"]) if options.record else {}
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"{options.record} is not a record that `ivmix sample` wrote") from None
    check_prompts([prompt])

    model = load_model(options, pair=kept.get("pair", "sprites"))
    defaults = model.pair.defaults
    if recorded:
        name = recorded.pop("sampler", None)
        defaults = {**defaults, "sampler": name, name: recorded}
    sampling = read_sampling(defaults, given_sampling(options))
    result = model([prompt], sampling=sampling, progress=not options.quiet, **call)
    write_video(result.frames[0], options.output, fps=model.pair.fps)
    write_text(json.dumps(result.record.to_dict(), indent=2) + "\n", record_path)
    if not options.quiet:
        nfe = " + ".join(f"{count} {name}" for name, count in result.record.nfe.items())
        say(f"{output}  seed {call['seed']}, {sampling.name}, {nfe} evaluations, {result.record.seconds:.1f} s")


def parse_size(text: str) -> tuple[int, int]:
    height, cross, width = text.lower().partition("x")
    if not (cross and height.isdigit() and width.isdigit()):
        raise ValueError(f"--size {text}: expected HEIGHTxWIDTH in pixels, such as 32x32")
    return int(height), int(width)
