import math
from itertools import pairwise

import pytest
import torch

from ivmix.solvers import (
    GaussianLowPass,
    LowPass,
    Schedule,
    integrate,
    plain,
    planned_nfe,
    videoelevator,
)
from ivmix.solvers.theory.analytic import reference

GRID = Schedule.scaled_linear().grid(10)
LOW = LowPass(0.5, 0.6)


def even(n):
    """n levels from 8, even in sigma, then 0: all steps, the last one too, shrink as n grows."""
    return torch.linspace(8, 0, n + 1, dtype=torch.float64)


def fresh(x, seed=5):
    xi = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))
    return lambda *_: xi


def test_no_refined_step_is_the_image_network_alone():
    assert videoelevator(GRID, 3.0, refined=()) == plain(GRID, 3.0, network="image")
    assert videoelevator(GRID, 3.0) == videoelevator(GRID, 3.0)  # plans are data, views included


def test_the_authors_steps_are_refined():
    legs = videoelevator(Schedule.scaled_linear().grid(50))
    looks = [leg for leg in legs if leg.label == "look"]
    assert [50 - leg.step for leg in looks] == [45, 35, 25, 15]
    # Each look is 1, each clip 8 of the video network and its inversion 7: a leg from 0 asks nothing.
    assert planned_nfe(legs) == {"image": 50 + 4 * (1 + 7), "video": 4 * 8}


def test_a_refined_step_spreads_its_legs_over_the_levels_below():
    legs = [leg for leg in videoelevator(GRID, refined=[0.3], video_steps=3) if leg.step == 3]
    levels = GRID.tolist()
    spread = [levels[i] for i in (3, 5, 8, 10)]
    assert [(leg.source, leg.target) for leg in legs if leg.label == "motion"] == list(pairwise(spread))
    assert [(leg.source, leg.target) for leg in legs if leg.label == "invert"] == list(pairwise(spread[::-1]))
    assert all(a.target == b.source for a, b in pairwise(legs))
    # and takes all of them where they are fewer than asked for
    fewer = videoelevator(GRID, refined=[0.8], video_steps=8)
    assert [(leg.source, leg.target) for leg in fewer if leg.label == "motion"] == list(pairwise(levels[8:]))


def test_a_refined_step_by_hand(pair, x):
    """x0 of the image network, its low-pass, noise, the video network's steps, the image network's way up."""
    s, t, _ = levels = [4.0, 1.5, 0.0]
    legs = videoelevator(torch.tensor(levels), 2.0, 3.0, 0.5, refined=[0.0], video_steps=2, low_pass=LOW)
    image, video = pair["image"], pair["video"]
    xi = fresh(x)
    x0 = LOW(image.at(2.0)(s * x, s))
    y = x0 + s * xi()
    y0 = video.at(3.0)(y, s)
    y = video.at(3.0)(y0 + t / s * (y - y0), t)
    x0 = image.at(0.5)(y, t)
    y = x0 + s / t * (y - x0)
    x0 = image.at(2.0)(y, s)
    expected = image.at(2.0)(x0 + t / s * (y - x0), t)
    run = integrate(pair, legs, s * x, noise=xi)
    torch.testing.assert_close(run.x, expected, rtol=0, atol=1e-13)
    assert run.nfe == planned_nfe(legs) == {"image": 4, "video": 2}


def test_a_run_converges_to_flows_with_kicks_between_them(pair, x, slopes):
    """At first order, with the level of the kick and its noise held."""
    xi, zero = fresh(x), 1e-6
    scales = {"image_guidance": 1.5, "video_guidance": 2.0, "inversion_guidance": 0.5}

    def flow(field, y, *levels):
        return reference(field, y, torch.tensor(levels, dtype=torch.float64), tolerance=1e-9)

    down, up, video = pair["image"].at(1.5), pair["image"].at(0.5), pair["video"].at(2.0)
    y = flow(down, 8 * x, 8, 4)
    clip = flow(video, LOW(down(y, 4)) + 4 * xi(), 4, zero)
    truth = flow(down, flow(up, clip, zero, 4), 4, zero)

    def error(n):
        legs = videoelevator(even(n), **scales, refined=[0.5], video_steps=n, low_pass=LOW)
        return (integrate(pair, legs, 8 * x, noise=xi).x - truth).norm()

    assert slopes(error, [40, 80, 160]) == pytest.approx([1.0, 1.0], abs=0.1)


@pytest.mark.parametrize("inversion_guidance", [1.5, 0.5])
def test_after_the_last_kick_the_image_network_adds_its_difference_of_guidance_alone(
    inversion_guidance, pair, x, slopes
):
    """Under one guidance its way down undoes its way up: the video network's clip comes out."""
    def error(n):
        legs = videoelevator(even(n), 1.5, 2.0, inversion_guidance, refined=[0.5], video_steps=n)
        run = integrate(pair, legs, 8 * x, noise=fresh(x), trace=True)
        clips = [record.x for record in run.trace if record.leg.label == "motion"]
        return (run.x - clips[-1]).norm()

    if inversion_guidance == 1.5:
        assert slopes(error, [40, 80, 160]) == pytest.approx([1.0, 1.0], abs=0.1)
    else:
        assert error(160) > 0.9 * error(80) > 0.1


def test_the_filter_is_of_the_clip_that_is_noised_alone(pair, x):
    def clip(low_pass):
        legs = videoelevator(GRID, refined=[0.3], low_pass=low_pass)
        run = integrate(pair, legs[: [leg.label for leg in legs].index("noise")], GRID[0] * x)
        return run.x

    plainly = clip(lambda x0: x0)
    assert torch.equal(clip(LOW), LOW(plainly))
    assert torch.equal(clip(None), GaussianLowPass(1.0, 0.5)(plainly))


def test_guidance_may_be_of_progress_or_inside():
    legs = videoelevator(even(5), lambda u: 1 + u, lambda u: 2 * u, lambda u: -u, refined=[0.4])
    assert {(leg.label, leg.guidance) for leg in legs if leg.step == 2} == {
        ("step", 1.5), ("look", 1.5), ("noise", None), ("motion", 1.0), ("invert", -0.5)
    }  # fmt: skip
    assert {leg.guidance for leg in videoelevator(even(5), None, None, None)} == {None}


def test_steps_out_of_a_networks_reach_are_not_refined():
    for reach in ({"video": (0.0, 7.0)}, {"image": (3.0, 9.0)}):
        legs = videoelevator(even(4), refined=[0.0, 0.25], reach=reach)
        refined = {leg.step for leg in legs if leg.label == "look"}
        assert refined == ({1} if "video" in reach else set())
        assert [leg for leg in legs if leg.label == "step"] == plain(even(4), 7.5, network="image")


def test_a_step_from_pure_noise_is_not_refined():
    sigmas = Schedule.rectified_flow().grid(4)
    assert {leg.step for leg in videoelevator(sigmas, refined=[0.0, 0.5]) if leg.label == "look"} == {2}


def test_one_network_may_have_both_parts(pair, x):
    both = pair["video"]
    legs = videoelevator(GRID, 2.0, 2.0, 2.0)
    run = integrate({"image": both, "video": both}, legs, GRID[0] * x, noise=fresh(x))
    assert run.forwards == {"video": 2 * sum(planned_nfe(legs).values())}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: videoelevator(GRID, refined=[1.0]), "refined: got 1.0"),
        (lambda: videoelevator(GRID, refined=[math.nan]), "refined: got nan"),
        (lambda: videoelevator(GRID, video_steps=0), "video_steps: got 0"),
        (lambda: videoelevator(GRID.flip(0)), "sigmas"),
        (lambda: videoelevator(GRID, inversion_guidance="0"), "inversion_guidance: got '0'"),
    ],
)
def test_what_cannot_be_refined_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
