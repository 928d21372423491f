"""Computes what notebooks read rather than compute: the arms of data/NAME.arms.json, measured, as data/NAME.json.

    python notebooks/sweep.py [NAME ...] [--clips 64]        such as 05_frames; default: all

Each is `ivmix evaluate --arms` with one repeat; killed, the same command goes on where it stopped, in runs/NAME.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# Those of other pairs than the embedded one; a student is not shipped, `ivmix train sprites` leaves it there.
PAIRS = {
    "crisp": "sprites-crisp", "bridged": "sprites-bridged", "mapped": "sprites-mapped", "few": "runs/sprites/student",
}  # fmt: skip


def sweep(name: str, clips: int) -> None:
    arms, folder = HERE / "data" / f"{name}.arms.json", HERE.parent / "runs" / name
    command = [sys.executable, "-m", "ivmix", "evaluate", "--arms", str(arms), "-o", str(folder)]
    command += ["--pair", PAIRS.get(name, "sprites"), "--clips", str(clips), "--seeds", "1"]
    subprocess.run(command, check=True, cwd=HERE.parent)
    shutil.copy(folder / "report.json", HERE / "data" / f"{name}.json")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", metavar="NAME")
    arguments.add_argument("--clips", type=int, default=64, help="a sampler: each caption once")
    options = arguments.parse_args()
    for name in options.names or sorted(path.name.removesuffix(".arms.json") for path in HERE.glob("data/*.arms.json")):
        sweep(name, options.clips)


if __name__ == "__main__":
    main()
