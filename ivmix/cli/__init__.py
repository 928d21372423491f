"""The `ivmix` command. Each subcommand is one module with `add(subparsers)`; heavy imports wait until it runs."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress

from ivmix._version import __version__
from ivmix.cli import (
    bench,
    bridge,
    compare,
    demo,
    distance,
    evaluate,
    inspect,
    pairs,
    preview_map,
    reproduce,
    sample,
    train,
)
from ivmix.cli.errors import STATUSES, Parser, explain, flush, open_streams, show_traceback, stoppable
from ivmix.samplers.elsewhere import ELSEWHERE


def parser() -> Parser:
    top = Parser(
        prog="ivmix",
        description="Sample a video and an image diffusion model together (IV-Mixed Sampler, arXiv 2410.04171).",
        epilog="Start with:  ivmix sample 'a red circle moving left' -o out.mp4\n"
        f"Options and examples of a command:  ivmix COMMAND --help\n\n{STATUSES}",
    )
    top.add_argument("--version", action="version", version=f"ivmix {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (
        sample, compare, demo, evaluate, reproduce, distance, bench, inspect, pairs, bridge, preview_map, train,
    ):
        module.add(commands)
    return top


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of a command line. Exits, saying why in one line, for one that cannot be."""
    top = parser()
    options, extra = top.parse_known_args(arguments)
    if extra:
        top.prog += f" {options.command}"
        prompt = getattr(options, "prompt", None)
        if extra[0].startswith("-"):
            name = extra[0].partition("=")[0].lstrip("-").replace("-", "_")
            ours = ELSEWHERE.get(name, "").split(" and ")
            words = " and ".join(f"--{one.replace('_', '-')}" for one in ours)
            hint = f": it is {words} here" if vars(options).keys() >= set(ours) else ""
            top.error(f"unknown option {extra[0]}{hint}")
        if prompt is not None:
            given = " ".join([*([prompt] if isinstance(prompt, str) else prompt), *extra])
            top.error(f"{len(extra)} words after the prompt: quote it, {top.prog} {given!r}")
        top.error(f"unexpected {' '.join(map(repr, extra))}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: `errors.STATUSES`. Errors and warnings are single lines on stderr."""
    open_streams()
    options = argparse.Namespace(command=None)

    def run() -> int:
        nonlocal options
        try:
            options = parse(arguments)
        except SystemExit as end:  # argparse's, of --help, --version and usage errors
            return end.code if isinstance(end.code, int) else 0
        with warnings.catch_warnings():
            said = set[str]()  # what several clips have in common is said once

            def warn(message: Warning | str, *_: object, **__: object) -> None:
                if str(message) not in said:
                    said.add(str(message))
                    tell(options, f"warning: {message}")

            warnings.showwarning = warn
            return options.run(options) or 0

    with stoppable() as stops:
        try:
            status = run()
            flush(sys.stdout)
        except BaseException as error:
            error = stops[0] if stops else error
            show_traceback(error)
            status, said = explain(error, options)
            tell(options, said)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            flush(stream)
    return status


def tell(options: argparse.Namespace, said: str) -> None:
    """One line on stderr, if somebody is there to read it."""
    with suppress(OSError):
        sys.stderr.write(f"ivmix{f' {options.command}' if options.command else ''}: {said}\n" if said else "")
