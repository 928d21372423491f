import math
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch

from ivmix.solvers import Schedule, check_grid
from ivmix.solvers.schedules.grids import beta_quantiles
from ivmix.solvers.schedules.spacings import SPACINGS, Spacing

SCHEDULE = Schedule.scaled_linear()
FLOW = Schedule.rectified_flow()
ZERO = SCHEDULE.zero_terminal_snr()
TWO_ENDS = {"karras", "uniform-lam", "exponential"}  # spacings between two levels


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("n", [1, 2, 7, 50, 138, 999])
def test_every_grid_has_n_steps_and_ends_in_zero(spacing, n):
    if (spacing, n) in {("linspace", 1), ("beta", 999), ("dpm-leading", 999), ("lcm", 138), ("lcm", 999)}:
        return  # refused, below
    schedule = FLOW if spacing == "shifted-flow" else SCHEDULE
    grid = schedule.grid(n, spacing)
    assert grid.shape == (n + 1,)
    assert grid.dtype == torch.float64
    assert grid[-1] == 0
    check_grid(grid)
    schedule.t(grid[:-1])  # all in range


def test_every_name_is_known_to_the_type_checker():
    assert get_args(Spacing) == tuple(SPACINGS)


@pytest.mark.parametrize("schedule", [ZERO, FLOW], ids=["zero terminal SNR", "flow"])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_where_the_last_level_is_infinite_a_grid_begins_there_or_says_that_it_cannot(schedule, spacing):
    if spacing in TWO_ENDS or (schedule is ZERO and spacing == "linear_quadratic"):
        with pytest.raises(ValueError, match=f"spacing='{spacing}' has no level to begin at"):
            schedule.grid(6, spacing)
    elif spacing.endswith("leading"):  # some way below the end, as ever
        assert schedule.grid(6, spacing).isfinite().all()
    elif schedule is FLOW or spacing != "shifted-flow":
        assert schedule.grid(6, spacing).isinf().tolist() == [True] + 6 * [False]
    if spacing in TWO_ENDS:
        assert schedule.grid(6, spacing, sigma_max=10.0)[0] == 10.0


@pytest.mark.parametrize(
    ("spacing", "times"),
    [
        # the values diffusers' schedulers give for 10 steps out of 1000
        ("trailing", [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]),
        ("leading", [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]),
        ("linspace", [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]),
        ("dpm-linspace", [999, 899, 799, 699, 599, 500, 400, 300, 200, 100]),
        ("dpm-leading", [901, 811, 721, 631, 541, 451, 361, 271, 181, 91]),
        ("lcm", [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]),
        # those of ComfyUI's samplers over the same 1000 levels
        ("simple", [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]),
        ("beta", [999, 959, 876, 765, 637, 500, 362, 234, 123, 40]),
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


def test_exponential_is_another_name_of_uniform_lam():
    options = {"sigma_min": 0.05, "sigma_max": 9.0}
    assert torch.equal(SCHEDULE.grid(9, "exponential", **options), SCHEDULE.grid(9, "uniform-lam", **options))


@pytest.mark.parametrize("schedule", [SCHEDULE, FLOW], ids=["vp", "flow"])
@pytest.mark.parametrize("spacing", ["normal", "sgm_uniform"])
def test_even_times_are_read_between_the_training_levels(spacing, schedule):
    """ "normal" is a row of even times from the last to the first, "sgm_uniform" that of one time more, but for the
    last; levels are joined in log sigma, a flow's in s = sigma/(1 + sigma)."""
    n, s = 7, schedule.sigma_vp / (schedule.alpha + schedule.sigma_vp)
    place = np.arange(n) * 999 / (n - 1 if spacing == "normal" else n)  # counted from the last
    grid = schedule.grid(n, spacing)[:-1]
    joined = (s if schedule is FLOW else schedule.sigmas.log()).flip(0).numpy()
    expected = torch.from_numpy(np.interp(place, np.arange(1000), joined))
    # s near 1 is known to 1e-16 and sigma = s/(1 - s) is compared as s
    torch.testing.assert_close(grid.reciprocal().add(1).reciprocal() if schedule is FLOW else grid.log(), expected,
                               rtol=0, atol=1e-12)  # fmt: skip


def test_simple_counts_the_training_levels_down_from_the_last():
    for n in (3, 7, 30, 999, 1000):
        steps = [math.floor(i * (1000 / n)) for i in range(n)]
        assert torch.equal(SCHEDULE.grid(n, "simple")[:-1], SCHEDULE.sigmas.flip(0)[steps])


@pytest.mark.parametrize("n", [1, 2, 5, 8, 50])
def test_linear_quadratic_is_mochis_line_and_parabola(n):
    """1 - x of x even up to 0.025 over the first half, then a parabola that leaves with that slope and would end at 1:
    in s on a flow, in sigma elsewhere, as ComfyUI scales it."""
    share = SCHEDULE.grid(n, "linear_quadratic") / SCHEDULE.sigma_max
    half = n // 2
    known = {5: [1.0, 0.9875, 0.975, 0.8583333333, 0.5333333333],  # by Mochi's own recurrence
             8: [1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875]}  # fmt: skip
    if n in known:
        assert share[:-1].tolist() == pytest.approx(known[n], abs=1e-10)
    x = (1 - share).tolist()
    if n > 2:  # where there is a line and a parabola
        assert x[: half + 1] == pytest.approx([0.025 * i / half for i in range(half + 1)], abs=1e-14)
        bends = [c - 2 * b + a for (a, b), (_, c) in pairwise(pairwise(x[half:]))]
        assert bends == pytest.approx(len(bends) * [bends[0]], abs=1e-13)
        slope = x[half + 1] - x[half] - bends[0] / 2  # of the parabola where it leaves
        assert slope == pytest.approx(0.025 / half, abs=1e-13)
    s = FLOW.grid(n, "linear_quadratic").reciprocal().add(1).reciprocal()
    torch.testing.assert_close(s, share, rtol=0, atol=1e-14)


def test_quantiles_of_the_beta_distribution():
    """Beta(1/2, 1/2) is the arcsine law, x = sin²(pi·p/2); of Beta(0.6, 0.6) the density is summed again."""
    p = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(beta_quantiles(p, 0.5), torch.sin(torch.pi * p / 2) ** 2, rtol=0, atol=1e-14)
    x = beta_quantiles(p)
    assert (x[0], x[50], x[100]) == (0, 0.5, 1)
    # with x = sin²(u³) the integrand x^-0.4·(1 - x)^-0.4·dx/du is smooth at 0
    u = torch.linspace(0, 1, 20001, dtype=torch.float64) * torch.asin(x[1:51].sqrt())[:, None] ** (1 / 3)
    share = torch.trapezoid((torch.sin(2 * u**3) / 2) ** 0.2 * 6 * u**2, u)
    B = math.gamma(0.6) ** 2 / math.gamma(1.2)
    torch.testing.assert_close(share / B, p[1:51], rtol=0, atol=1e-8)  # the rule errs as (1/20000)²


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
        ({"n": 5, "spacing": ["karras"]}, "spacing: got .*, expected one of 'trailing'"),
        ({"n": 5, "spacing": "simple", "offset": 1}, "spacing='simple' does not take offset"),
        ({"n": 139, "spacing": "beta"}, "n: got 139 steps, of which two would begin at one training level"),
        ({"n": 1000, "spacing": "dpm-linspace"}, "n: got 1000 steps, of which two"),
        ({"n": 1000, "spacing": "dpm-leading"}, "n: got 1000 steps, of which two"),
        ({"n": 999, "spacing": "dpm-leading"}, "offset: got 1, which leaves the 1000 training levels"),
        ({"n": 5, "spacing": "dpm-leading", "offset": 170}, "offset: got 170, which leaves the 1000 training levels"),
        ({"n": 5, "spacing": "shifted-flow"}, "is for rectified flows"),
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
    with pytest.raises(ValueError, match=r"n: got 300, whose last level .* is below the schedule's lowest"):
        Schedule.rectified_flow(n=50).grid(300, "linear_quadratic")


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
