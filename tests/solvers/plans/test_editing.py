import math

import pytest
import torch

from ivmix.solvers import (
    DDIM,
    Euler,
    Heun,
    IVMixed,
    Official,
    Schedule,
    initial_noise,
    integrate,
    invert,
    noised,
    plain,
    tail,
)

SCHEDULE = Schedule.scaled_linear()


@pytest.mark.parametrize("solver", [Euler(), Heun()], ids=["Euler", "Heun"])
def test_there_and_back_returns_the_latents_at_least_at_the_solvers_order(solver, pair, x, slopes):
    """A schedule of guidance included: each leg is undone with the guidance it had."""

    def error(n):
        legs = plain(SCHEDULE.grid(n, "uniform-lam"), lambda u: 1 + u, solver)[:-1]
        noise = integrate(pair, invert(legs), x).x
        return (integrate(pair, legs, noise).x - x).norm()

    # Heun's leading error is odd in the step and comes back with the opposite sign: order 3 was measured
    assert slopes(error, [60, 120])[0] > solver.order - 0.15


def test_a_zigzag_is_undone_leg_by_leg():
    sigmas = SCHEDULE.grid(6)
    legs = IVMixed().legs(sigmas)
    back = invert(legs)
    assert (back[0].source, back[-1].target) == (0.0, sigmas[0])
    for leg, undone in zip(reversed(legs), back, strict=True):
        assert (leg.source, leg.target, leg.guidance, leg.network) == (
            undone.target, undone.source, undone.guidance, undone.network,
        )  # fmt: skip
        assert undone.told == undone.source
    assert [leg.step for leg in back] == sorted(5 - leg.step for leg in legs)


def test_the_inverse_of_a_flows_run_goes_from_a_clean_clip_to_pure_noise():
    legs = plain(torch.tensor([math.inf, 2.0, 0.5, 0.0]))
    assert [(leg.source, leg.target) for leg in invert(legs)] == [(0.0, 0.5), (0.5, 2.0), (2.0, math.inf)]


@pytest.mark.parametrize(
    "legs",
    [
        IVMixed("R-V").legs(SCHEDULE.grid(5)),
        plain(SCHEDULE.grid(5), 2.0, DDIM(1.0)),
        Official("animatediff", steps=5).legs(Official.schedule()),
    ],
    ids=["noise", "stochastic", "official"],
)
def test_what_has_no_inverse_is_refused(legs):
    with pytest.raises(ValueError, match="has no inverse"):
        invert(legs)


@pytest.mark.parametrize(("strength", "first"), [(1.0, 0), (0.6, 4), (0.59, 5), (0.1, 9)])
def test_strength_is_the_share_of_steps_kept(strength, first, pair, x):
    sigmas = SCHEDULE.grid(10)
    kept = tail(plain(sigmas, lambda u: 1 + u), strength)
    assert kept == plain(sigmas, lambda u: 1 + u)[first:]
    latents = noised(x, kept[0].source, initial_noise([1, 2], x.shape[1:]))
    assert integrate(pair, kept, latents).nfe == {"video": 10 - first}


def test_rounding_costs_no_step():
    assert 0.29 * 100 < 29
    assert len(tail(plain(SCHEDULE.grid(100)), 0.29)) == 29


def test_a_weak_edit_stays_near_the_latents(commuting, x):
    """At strength 0.1 the state never leaves the neighbourhood of x0 that one level's noise spans."""
    legs = tail(plain(SCHEDULE.grid(20)), 0.1)
    noise = initial_noise([1, 2], x.shape[1:])
    near = integrate(commuting, legs, noised(x, legs[0].source, noise)).x - x
    far = integrate(commuting, plain(SCHEDULE.grid(20)), noised(x, SCHEDULE.sigma_max, noise)).x - x
    assert near.norm() < 0.6 * far.norm()


def test_a_zigzags_tail_begins_where_its_step_does():
    legs = IVMixed(sequence="up-first").legs(SCHEDULE.grid(10))
    kept = tail(legs, 0.5)
    assert {leg.step for leg in kept} == set(range(5, 10))
    assert kept[0].source == SCHEDULE.grid(10)[5]


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.5, math.nan, 0.05])
def test_meaningless_strengths_are_refused(strength):
    with pytest.raises(ValueError, match="strength: got"):
        tail(plain(SCHEDULE.grid(10)), strength)


def test_noised(x):
    assert torch.equal(noised(x, 2.0, x.float()), x + 2 * x.float().double())
    assert torch.equal(noised(x, math.inf, -x), -x)
    with pytest.raises(ValueError, match="noise: got shape"):
        noised(x, 1.0, x[:1])
