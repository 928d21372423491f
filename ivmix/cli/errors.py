"""What a person sees of a run that ends badly, decided once: one line on stderr, and the exit status.

Nothing here imports torch: what its errors are is known once it is loaded.
"""

import argparse
import errno
import os
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, metadata
from types import FrameType
from typing import Any, NoReturn, TextIO

BAD_INPUT = 2
BUG = 70  # EX_SOFTWARE of sysexits.h
CLOSED = 128 + signal.SIGPIPE  # what a shell shows of `yes | head -1`
TRACEBACK = "IVMIX_TRACEBACK"
STATUSES = (
    "exit status: 0 done; 1 inspect found a fault; 2 bad input, or a machine too\n"
    f"small; 70 a bug of ivmix ({TRACEBACK}=1 in the environment shows where);\n"
    "130 interrupted; 141 nobody read the output any more; 143 terminated"
)
LONGEST = 2000  # characters of a message: a hundred lines of somebody's input help nobody

# What takes less memory, by the option that does it.
REMEDIES = {
    "frames": "fewer --frames", "size": "a smaller --size", "batch_size": "a smaller --batch-size",
    "image_frames": "--image-frames N", "vae_tile": "--vae-tile N", "dtype": "--dtype float16",
    "window": "--window N",
}  # fmt: skip


class Help(argparse.RawDescriptionHelpFormatter):
    """Breaks lines between words alone: half of `sde-dpm++2m` cannot be copied. What has lines keeps them."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = text.splitlines() if "\n" in text else self._split_lines(text, width - len(indent))
        return "\n".join((indent + line).rstrip() for line in lines)


class Parser(argparse.ArgumentParser):
    """Says what is wrong with its arguments in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=Help, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {shorten(message)} (see {self.prog} --help)\n")


class Stopped(KeyboardInterrupt):
    """SIGINT or SIGTERM, raised wherever the run is, so that it unwinds and leaves nothing half-written."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number
        self.how = "interrupted" if number == signal.SIGINT else "terminated"


@contextmanager
def stoppable() -> Iterator[list[Stopped]]:
    """Inside, the signals that end a run raise `Stopped`, which is also put in the list: code that was interrupted in
    the middle of an import may say something else.

    What the caller ignores (nohup) or handles stays so. After the first signal a second SIGINT ends the process where
    it stands, and SIGTERM nothing more: the run is ending.
    """
    stops: list[Stopped] = []

    def stop(number: int, _: FrameType | None) -> None:
        stops.append(Stopped(number))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise stops[-1]

    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    mine = {number for number, handler in before.items() if handler in usual}
    if threading.current_thread() is not threading.main_thread():  # the only one that may set handlers
        mine = set()
    for number in mine:
        signal.signal(number, stop)
    try:
        yield stops
    finally:
        for number in mine:
            signal.signal(number, before[number])


def explain(error: BaseException, options: argparse.Namespace) -> tuple[int, str]:
    """The exit status of a run that ended by `error`, and what to say of it; "" is nothing."""
    if isinstance(error, Stopped):
        return error.status, f"{error.how}; nothing half-written is left"
    if isinstance(error, BrokenPipeError):
        return CLOSED, ""
    if is_memory(error):
        ways = [text for name, text in REMEDIES.items() if hasattr(options, name)]
        remedy = f": try {', '.join(ways[:-1])} or {ways[-1]}" if len(ways) > 1 else ""
        return BAD_INPUT, f"error: {' '.join(['out of memory', *getattr(error, '__notes__', [])])}{remedy}"
    if isinstance(error, ValueError | OSError | FloatingPointError):
        return BAD_INPUT, f"error: {words(error)}"
    again = "" if os.environ.get(TRACEBACK) else f"; {TRACEBACK}=1 in the environment shows where"
    return BUG, f"a bug of ivmix: {type(error).__name__}: {words(error)}{again}. Please report it{place()}"


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's and NumPy's error, the system's, or torch's, which is told by its words; a
    library that finds no room says its own (on a disk it may not run from, it says more)."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if isinstance(error, ImportError):
        return str(error).endswith(("failed to map segment from shared object", "Cannot allocate memory"))
    signs = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "storage size calculation")
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)


def words(error: BaseException) -> str:
    """The message of an error, without the number that the system has for it."""
    if isinstance(error, OSError) and error.strerror:
        named = [os.fspath(error.filename)] if isinstance(error.filename, str | os.PathLike) else []
        return shorten(": ".join([*named, error.strerror]))
    return shorten(str(error) or type(error).__name__)


def shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def place() -> str:
    """Where to report a bug, as the package's own metadata has it."""
    with suppress(PackageNotFoundError):
        urls = dict(url.split(", ", 1) for url in metadata("ivmix").get_all("Project-URL") or ())
        if issues := urls.get("Issues"):
            return f": {issues}"
    return " with the command that led to it"


def show_traceback(error: BaseException) -> None:
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)


# Streams


def open_streams() -> None:
    """Plugs the standard streams that were closed before this process began (`>&-`): Python has None for them, and the
    next file to be opened would be taken for one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives


def flush(stream: TextIO) -> None:
    """Writes out what a stream holds. Raises OSError where nobody takes it, and turns the stream away, so that the
    interpreter does not try again as it exits."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        raise
