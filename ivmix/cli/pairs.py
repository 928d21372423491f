"""`ivmix pairs`: what can be sampled."""

import argparse
import sys
from typing import Any


def add(commands: Any) -> None:
    command = commands.add_parser(
        "pairs",
        help="list the pairs that can be named",
        description="Lists the pairs that --pair knows by name: the embedded one, and those of public checkpoints, "
        "whose files are downloaded from the Hugging Face hub at first use. Their default scales are the papers'. "
        "A clip's record holds the commits it was drawn with, and `ivmix sample --from` says if they have changed.",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from ivmix.pairs.description import EMBEDDED, PUBLIC, describe
    from ivmix.pairs.parts import named

    blocks = []
    for name in (*EMBEDDED, *PUBLIC):
        raw, folder, _ = describe(name)
        size = f"{raw['frames']} frames of {raw['height']}x{raw['width']}, default sampler {raw['defaults']['sampler']}"
        lines = [f"{name}: {size}", f"  {raw['about']}"]
        if name in EMBEDDED:
            weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
            lines += [f"  embedded, {weights / 1e6:.1f} MB, {raw['licence']}", f"  {folder}"]
        else:
            pinned = all("@" in source for _, source in named(raw) if source.startswith("hub:"))
            lines += [
                f"  {raw['authors']}",
                f"  {raw['licence']}{'' if pinned else '; no revision is pinned: the newest is taken'}",
            ]
            for source, known in raw["files"].items():
                entry = source + (f" ({known['variant']})" if "variant" in known else "")
                size = f"{known['bytes'] / 1e9:.2g} GB" if "bytes" in known else "size not known here"
                lines.append(f"  {entry}, {size}")
        blocks.append("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(blocks))
