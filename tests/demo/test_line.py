"""One run at a time: the line, its waiting, its cancelling."""

import threading
from collections.abc import Iterator

import pytest

from ivmix.demo.line import Cancelled, Cancelling, Line, Tell, Waiting


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


class Work:
    """A run that tells "begun", waits to be let go and tells the rest of what it is given."""

    def __init__(self, *rest: str) -> None:
        self.rest, self.go, self.ended = rest, threading.Event(), threading.Event()

    def __call__(self, tell: Tell) -> None:
        try:
            tell("begun")
            assert self.go.wait(30)
            for event in self.rest:
                tell(event)
        finally:
            self.ended.set()


def test_a_run_is_seen_as_it_tells_and_ends(line: Line) -> None:
    work = Work("one", "two")
    work.go.set()
    assert list(line.run("me", work)) == ["begun", "one", "two"]


def test_the_second_run_waits_and_is_told_so_until_the_first_has_ended(line: Line) -> None:
    first, second = Work(), Work()
    second.go.set()
    ahead, mine = line.run("a", first), line.run("b", second)
    assert next(ahead) == "begun"
    assert next(mine) == Waiting(1)
    assert not second.ended.is_set()
    first.go.set()
    assert list(ahead) == []
    assert list(mine) in (["begun"], [Waiting(0), "begun"])


def test_whoever_is_third_moves_up_when_the_second_gives_up(line: Line) -> None:
    first, third = Work(), Work()
    ahead, second, mine = line.run("a", first), line.run("b", Work()), line.run("c", third)
    assert [next(ahead), next(second), next(mine)] == ["begun", Waiting(1), Waiting(2)]
    line.cancel("b")
    with pytest.raises(Cancelled):
        list(second)
    assert next(mine) == Waiting(1)
    first.go.set()
    third.go.set()
    assert list(mine)[-1] == "begun"


def test_a_cancelled_run_ends_where_it_next_tells_something(line: Line) -> None:
    work = Work("never seen")
    seen = line.run("me", work)
    assert next(seen) == "begun"
    line.cancel("another")
    line.cancel("me")
    work.go.set()
    with pytest.raises(Cancelled):
        list(seen)


def test_a_cancelled_run_in_a_long_step_is_told_that_it_is_being_cancelled(line: Line) -> None:
    work = Work("never seen")
    seen = line.run("me", work)
    assert next(seen) == "begun"
    line.cancel("me")
    assert next(seen) == Cancelling()
    work.go.set()
    with pytest.raises(Cancelled):
        next(seen)


def test_a_run_that_nobody_looks_at_any_more_is_cancelled(line: Line) -> None:
    work = Work("never told")
    seen = line.run("me", work)
    assert next(seen) == "begun"
    seen.close()  # type: ignore[attr-defined]
    work.go.set()
    assert work.ended.wait(30)
    after = Work()
    after.go.set()
    assert list(line.run("me", after))[-1] == "begun"


def test_what_a_run_raises_is_raised_where_it_is_looked_at_and_the_next_one_runs(line: Line) -> None:
    def broken(tell: Tell) -> None:
        tell("begun")
        raise ValueError("no such word")

    seen = line.run("me", broken)
    assert next(seen) == "begun"
    with pytest.raises(ValueError, match="no such word"):
        list(seen)
    work = Work()
    work.go.set()
    assert list(line.run("me", work)) == ["begun"]


def test_closing_the_line_ends_those_that_wait_and_the_one_that_plays() -> None:
    line, first = Line(), Work("never told")
    playing, waiting = line.run("a", first), line.run("b", Work())
    assert [next(playing), next(waiting)] == ["begun", Waiting(1)]
    first.go.set()
    line.cancel()
    line.close()
    for seen in (playing, waiting):
        with pytest.raises(Cancelled):
            list(seen)
