"""`ivmix pairs`: what can be sampled."""

import argparse
import sys
from pathlib import Path
from shlex import quote
from typing import Any

from ivmix.cli.options import flag


def add(commands: Any) -> None:
    command = commands.add_parser(
        "pairs",
        help="list the pairs, or say what one is, needs and does by default",
        description="Lists the pairs that --pair knows by name: the embedded one, and those of public checkpoints, "
        "whose files are downloaded from the Hugging Face hub at first use. Their default scales are the papers' or "
        "their models' pipelines'. A clip's record holds the commits it was drawn with, and `ivmix sample --from` says "
        "if they have changed.",
        epilog="examples:\n"
        "  ivmix pairs\n"
        "  ivmix pairs animatediff          its licence, downloads, and every sampler's defaults as flags\n"
        "  ivmix pairs --json sprites       for programs, as pair.json describes it",
    )
    command.add_argument("pair", nargs="?", metavar="NAME|FOLDER", help="this one, in full (default: all, in short)")
    command.add_argument("--json", action="store_true", help="one JSON array, an object a pair, with all defaults")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    import json

    from ivmix.pairs.description import EMBEDDED, PUBLIC, describe
    from ivmix.samplers.reading import completed

    names = [*EMBEDDED, *PUBLIC] if options.pair is None else [options.pair]
    found = [(name, *describe(name)[:2]) for name in names]
    if options.json:
        raws = [raw | {"defaults": raw["defaults"] | completed(raw["defaults"])} for _, raw, _ in found]
        sys.stdout.write(json.dumps(raws, indent=2, ensure_ascii=False) + "\n")
        return
    blocks = ["\n".join(about(*one)) + "\n" for one in found]
    if options.pair is not None:
        blocks.append("\n".join(defaults(found[0][1])) + "\n")
    sys.stdout.write("\n".join(blocks))


def about(name: str, raw: dict[str, Any], folder: Path) -> list[str]:
    """What a pair is, and what it needs."""
    import torch

    from ivmix.models.quoting import printable
    from ivmix.pairs.description import EMBEDDED
    from ivmix.pairs.parts import named
    from ivmix.pairs.sizes import size as size_of

    size = f"{raw['frames']} frames of {raw['height']}x{raw['width']}, default sampler {raw['defaults']['sampler']}"
    lines = [f"{name}: {size}", *(f"  {printable(raw[note])}" for note in ("about", "authors") if note in raw)]
    licence, hub = printable(raw.get("licence", "licence not said")), [s for _, s in named(raw) if s.startswith("hub:")]
    if not hub:
        weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        where = "embedded, " if name in EMBEDDED else ""
        return [*lines, f"  {where}{weights / 1e6:.1f} MB, {licence}", f"  {folder}"]
    pinned = all("@" in source for source in hub)
    lines.append(f"  {licence}{'' if pinned else '; no revision is pinned: the newest is taken'}")
    if "text_parameters" in raw:
        memory, wide = (raw["text_parameters"] * getattr(torch, dtype).itemsize / 1e9
                        for dtype in (raw.get("dtype", "float32"), "float32"))  # fmt: skip
        leave = "give back when the prompts are read" if raw.get("release_text_encoders") else "keep"
        on_cpu = f" ({wide:.2g} GB in float32, a CPU's default)" if wide > memory else ""
        lines.append(f"  its text encoders take {memory:.2g} GB of memory{on_cpu}, which they {leave}")
    for source, known in raw.get("files", {}).items():
        entry = printable(source + (f" ({known['variant']})" if "variant" in known else ""))
        lines.append(f"  {entry}, {size_of(known)}")
    return lines


def defaults(raw: dict[str, Any]) -> list[str]:
    """What a run of each sampler is told by default, as flags of `ivmix sample`."""
    from ivmix.models.quoting import printable
    from ivmix.samplers.reading import completed, written

    lines = [f"Defaults: --sampler {raw['defaults']['sampler']} --frames {raw['frames']} "
             f"--size {raw['height']}x{raw['width']} --fps {raw['fps']:g} "
             f"--negative-prompt {printable(quote(raw['defaults']['negative_prompt']))}; and by sampler"]  # fmt: skip
    by_sampler = completed(raw["defaults"])
    column = max(map(len, by_sampler))
    for sampler, options in by_sampler.items():
        flags = (f"{flag(name)} {written(value)}" for name, value in options.items() if value is not None)
        lines.append(f"  {sampler:<{column}} {' '.join(flags)}")
    return lines
