"""`ivmix pairs`: what can be sampled."""

import argparse
import sys
from typing import Any


def add(commands: Any) -> None:
    command = commands.add_parser(
        "pairs", help="list the pairs that can be named", description="Lists the embedded pairs."
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from ivmix.models.folder import read_json
    from ivmix.pair import EMBEDDED

    for name, folder in sorted(EMBEDDED.items()):
        raw = read_json(folder / "pair.json")
        size = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e6
        sys.stdout.write(
            f"{name}: {raw['frames']} frames of {raw['height']}x{raw['width']}, {size:.1f} MB, {raw['licence']}, "
            f"default sampler {raw['defaults']['sampler']}\n  {folder}\n"
        )
