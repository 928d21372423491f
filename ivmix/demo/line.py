"""The line before the one place where clips are drawn: one run at a time, in the order they were asked for."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue

Tell = Callable[[object], None]
LOOK = 0.2  # seconds between two looks at whether a run that waits has moved up, or is wanted no more


class Cancelled(Exception):
    """A run that nobody wants any more; raised in it, where it next tells something."""


@dataclass(frozen=True)
class Cancelling:
    """The run being played is wanted no more, and ends with the step it is at."""


@dataclass(frozen=True)
class Waiting:
    """So many runs are to end before this one begins."""

    ahead: int


class Ticket:
    """One run in the line, and what it has told so far."""

    def __init__(self, owner: str, work: Callable[[Tell], None]) -> None:
        self.owner, self.work = owner, work
        self.told, self.unwanted = SimpleQueue[object](), threading.Event()

    def tell(self, event: object) -> None:
        if self.unwanted.is_set():
            raise Cancelled
        self.told.put(event)


class Line:
    """Runs of any number of owners, played one by one in a thread of their own."""

    def __init__(self) -> None:
        self._player = ThreadPoolExecutor(1, "ivmix-demo")
        self._tickets: list[Ticket] = []  # the one being played, and those that wait
        self._lock = threading.Lock()

    def run(self, owner: str, work: Callable[[Tell], None]) -> Iterator[object]:
        """Plays `work`, once its turn has come: yields what it tells, and `Waiting` before that as long as others are
        ahead, and `Cancelling` where `cancel` has to wait for a step. Raises what it raises, and `Cancelled` after
        `cancel`. Closing the iterator cancels the run."""
        ticket = Ticket(owner, work)
        with self._lock:
            self._tickets.append(ticket)
        done = self._player.submit(self._play, ticket)
        try:
            yield from self._seen(ticket, done)
            done.result()
        finally:
            ticket.unwanted.set()
            if done.cancel():
                self._leave(ticket)

    def cancel(self, owner: str | None = None) -> None:
        """Ends the runs of one owner, or of all: those that wait at once, the one being played where it next tells
        something."""
        with self._lock:
            for ticket in self._tickets:
                if owner in (None, ticket.owner):
                    ticket.unwanted.set()

    def close(self) -> None:
        """Cancels all runs and waits for the one being played. The line takes none after that."""
        self.cancel()
        self._player.shutdown()

    def _seen(self, ticket: Ticket, done: "Future[None]") -> Iterator[object]:
        before, cancelling = 0, False
        while not (ended := done.done()) or not ticket.told.empty():
            try:
                yield ticket.told.get(timeout=0 if ended else LOOK)
            except Empty:
                if not done.running() and ticket.unwanted.is_set():
                    raise Cancelled from None
                if not done.running() and (ahead := self._ahead(ticket)) != before:
                    yield Waiting(ahead)
                    before = ahead
                if done.running() and ticket.unwanted.is_set() and not cancelling:
                    yield Cancelling()
                    cancelling = True

    def _play(self, ticket: Ticket) -> None:
        try:
            if ticket.unwanted.is_set():
                raise Cancelled
            ticket.work(ticket.tell)
        finally:
            self._leave(ticket)

    def _ahead(self, ticket: Ticket) -> int:
        with self._lock:
            return self._tickets.index(ticket) if ticket in self._tickets else 0

    def _leave(self, ticket: Ticket) -> None:
        with self._lock:
            self._tickets.remove(ticket)
