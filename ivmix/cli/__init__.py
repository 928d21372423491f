"""The `ivmix` command. Each subcommand is one module with `add(subparsers)`; heavy imports wait until it runs."""

import argparse
import sys
import warnings
from collections.abc import Sequence

from ivmix._version import __version__
from ivmix.cli import bench, compare, evaluate, inspect, pairs, sample, train


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="ivmix",
        description="Sample a video and an image diffusion model together (IV-Mixed Sampler, arXiv 2410.04171).",
        epilog="Start with:  ivmix sample 'a red circle moving left' -o out.mp4",
    )
    top.add_argument("--version", action="version", version=f"ivmix {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (sample, compare, evaluate, bench, inspect, pairs, train):
        module.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 done, 1 `inspect` found a fault, 2 bad input, 130 interrupted. Errors and warnings are single lines
    on stderr."""
    options = parser().parse_args(arguments)

    def tell(message: Warning | str, *_: object) -> None:
        sys.stderr.write(f"ivmix {options.command}: warning: {message}\n")

    try:
        with warnings.catch_warnings():
            warnings.showwarning = tell  # type: ignore[assignment]
            return options.run(options) or 0
    except (ValueError, OSError, FloatingPointError) as error:
        sys.stderr.write(f"ivmix {options.command}: error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"ivmix {options.command}: interrupted; nothing half-written is left\n")
        return 130
