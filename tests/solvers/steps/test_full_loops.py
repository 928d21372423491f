"""The full loops of diffusers' own scheduler tests come out of our schedules, networks and solvers."""

import pytest
from full_loops import LOOPS, Loop


@pytest.mark.parametrize("loop", LOOPS, ids=[loop.name for loop in LOOPS])
def test_a_full_loop_of_diffusers_comes_out_as_they_say(loop: Loop) -> None:
    z = loop.play().abs()
    assert z.mean().item() == pytest.approx(loop.mean, rel=0, abs=loop.tolerance[1])
    if loop.total is not None:
        assert z.sum().item() == pytest.approx(loop.total, rel=0, abs=loop.tolerance[0])


def test_no_row_would_pass_for_a_run_that_ends_anywhere() -> None:
    """Each is told more than its tolerance from 0, and no two rows have one name."""
    assert all((loop.total or 0) > loop.tolerance[0] or loop.mean > loop.tolerance[1] for loop in LOOPS)
    assert len({loop.name for loop in LOOPS}) == len(LOOPS)
