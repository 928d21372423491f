import math

import pytest
import torch

from ivmix.solvers import Schedule, check_grid

SCHEDULE = Schedule.scaled_linear()


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace", "karras", "uniform-lam"])
@pytest.mark.parametrize("n", [2, 7, 50, 999])
def test_every_grid_has_n_steps_and_ends_in_zero(spacing, n):
    grid = SCHEDULE.grid(n, spacing)
    assert grid.shape == (n + 1,)
    assert grid.dtype == torch.float64
    assert grid[-1] == 0
    check_grid(grid)
    SCHEDULE.t(grid[:-1])  # all in range


@pytest.mark.parametrize(
    ("spacing", "times"),
    [
        # the values diffusers' schedulers give for 10 steps out of 1000
        ("trailing", [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]),
        ("leading", [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]),
        ("linspace", [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]),
    ],
)
def test_index_spacings_visit_the_published_timesteps(spacing, times):
    assert SCHEDULE.t(SCHEDULE.grid(10, spacing)[:-1]).tolist() == times


def test_karras_is_even_in_its_root():
    grid = SCHEDULE.grid(9, "karras", rho=5.0, sigma_min=0.1, sigma_max=10.0)[:-1]
    roots = grid ** (1 / 5)
    torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(8), rtol=1e-12, atol=0)
    assert (grid[0], grid[-1]) == (10.0, 0.1)


def test_uniform_lam_is_even_in_log_sigma():
    lam = -SCHEDULE.grid(9, "uniform-lam")[:-1].log()
    torch.testing.assert_close(lam.diff(), lam.diff().mean().expand(8), rtol=1e-12, atol=0)


def test_a_flow_starts_at_infinity():
    grid = Schedule.rectified_flow().grid(4)
    torch.testing.assert_close(
        grid, torch.tensor([math.inf, 3.0, 1.0, 1 / 3, 0.0], dtype=torch.float64), rtol=1e-14, atol=0
    )


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"n": 0}, "n: got 0"),
        ({"n": 2.5}, "n: got 2.5"),
        ({"n": 1001}, "at most the 1000"),
        ({"n": 1, "spacing": "linspace"}, "n >= 2"),
        ({"n": 5, "spacing": "uniform"}, "spacing"),
        ({"n": 5, "rho": 7.0}, "does not take rho"),
        ({"n": 5, "spacing": "leading", "offset": 300}, "offset"),
        ({"n": 5, "spacing": "karras", "rho": 0.0}, "rho"),
        ({"n": 5, "spacing": "karras", "sigma_min": 20.0}, "sigma_min"),
    ],
)
def test_bad_grids_are_refused(arguments, name):
    with pytest.raises(ValueError, match=name):
        SCHEDULE.grid(**arguments)


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
def test_a_shifted_flow_is_the_published_map_of_times(shift):
    """arXiv 2403.03206, eq. 23: s' = shift·s / (1 + (shift - 1)·s) of even times s."""
    flow = Schedule.rectified_flow()
    grid = flow.grid(8, "shifted-flow", shift=shift)
    s = torch.arange(8, 0, -1, dtype=torch.float64) / 8
    torch.testing.assert_close(flow.t(grid[:-1]), shift * s / (1 + (shift - 1) * s), rtol=1e-13, atol=0)
    assert grid[-1] == 0
    assert math.isinf(grid[0])
    if shift == 1:
        torch.testing.assert_close(grid, flow.grid(8), rtol=1e-13, atol=0)


def test_shifts_are_for_flows():
    with pytest.raises(ValueError, match="rectified flows"):
        SCHEDULE.grid(5, "shifted-flow", shift=3.0)
    flow = Schedule.rectified_flow(n=50)
    for shift in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="shift"):
            flow.grid(5, "shifted-flow", shift=shift)
    with pytest.raises(ValueError, match="below the schedule's lowest"):
        flow.grid(40, "shifted-flow", shift=0.1)


def test_a_flow_needs_a_finite_start_for_karras():
    with pytest.raises(ValueError, match="sigma_max"):
        Schedule.rectified_flow().grid(5, "karras")


@pytest.mark.parametrize(
    "levels",
    [[1.0], [[1.0, 0.5]], [1.0, 1.0], [1.0, 2.0, 0.5], [0.5, 1.0], [1.0, -0.5], [1.0, math.nan], [math.inf, math.inf]],
)
def test_custom_levels_are_checked(levels):
    with pytest.raises(ValueError, match="sigmas"):
        check_grid(torch.tensor(levels))


def test_rising_grids_are_for_inversion():
    for levels in ([0.5, 1.0], [0.0, 1.0], [1.0, math.inf], [0.0, 1.0, math.inf]):
        assert check_grid(torch.tensor(levels), direction="any").tolist() == levels
        with pytest.raises(ValueError, match="sigmas: got a grid rising from"):
            check_grid(torch.tensor(levels))
    for levels in ([1.0, 3.0, 2.0], [0.0, 0.0], [0.0, math.inf, math.inf], [-1.0, 1.0]):
        with pytest.raises(ValueError, match="sigmas"):
            check_grid(torch.tensor(levels), direction="any")
