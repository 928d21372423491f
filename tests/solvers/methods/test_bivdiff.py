"""BIVDiff: the loop, what it costs, and what is left of it as steps are refined."""

import math

import pytest
import torch

from ivmix.solvers import Heun, Schedule, bivdiff, integrate, plain, planned_nfe
from ivmix.solvers.theory.analytic import reference

SCHEDULE = Schedule.scaled_linear()
SIGMAS = SCHEDULE.grid(6)
HIGH, LOW = 8.0, 0.2
WAY = torch.tensor([HIGH, LOW], dtype=torch.float64)


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.25, 1.0])
def test_the_papers_loop_in_its_own_symbols(weight, pair, x):
    """DDIM of the image model, DDIM inversion of its frames by both, without a prompt, a weighted sum, DDIM of the
    video model. Latents at t = -1 are clean ones."""
    alpha_bar = torch.cat([SCHEDULE.alpha_at(SIGMAS[:-1]) ** 2, torch.ones(1, dtype=torch.float64)])

    def move(z, field, i, j):
        a, s = alpha_bar[i].sqrt(), (1 - alpha_bar[i]).sqrt()
        e = (z - a * field(z / a, SIGMAS[i])) / s if s > 0 else torch.zeros_like(z)
        return alpha_bar[j].sqrt() * (z - s * e) / a + (1 - alpha_bar[j]).sqrt() * e

    def down(z, field):
        for i in range(6):
            z = move(z, field, i, i + 1)
        return z

    def up(z, field):
        for i in reversed(range(6)):
            z = move(z, field, i + 1, i)
        return z

    clip = down(x, pair["image"].at(1.5))
    mixed = weight * up(clip, pair["image"].uncond) + (1 - weight) * up(clip, pair["video"].uncond)
    expected = down(mixed, pair["video"].at(2.0))
    run = integrate(pair, bivdiff(SIGMAS, 2.0, 1.5, weight), SCHEDULE.start(x, SIGMAS[0]))
    torch.testing.assert_close(run.x, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("weight", "nfe"),
    [(0.0, {"image": 6, "video": 11}), (0.5, {"image": 11, "video": 11}), (1.0, {"image": 11, "video": 6})],
)
def test_an_inversion_without_weight_is_not_made(weight, nfe, pair, x):
    legs = bivdiff(SIGMAS, 2.0, 1.5, weight)
    assert integrate(pair, legs, x).nfe == planned_nfe(legs) == nfe
    assert [leg.step for leg in legs] == sorted(leg.step for leg in legs)
    assert {leg.step for leg in legs} == set(range(24 if 0 < weight < 1 else 18))


def end(pair, n, *arguments, x, solver=None):
    sigmas = Schedule.ve(LOW, HIGH).grid(n + 1, "uniform-lam")[:-1]
    return integrate(pair, bivdiff(sigmas, *arguments, solver=solver), HIGH * x).x


def through(field, x, *way):
    return reference(field, x, torch.tensor(way, dtype=torch.float64))


@pytest.mark.parametrize("solver", [None, Heun()], ids=["Euler", "Heun"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_it_converges_to_a_composition_of_flows_at_its_solvers_order(weight, solver, pair, x, slopes):
    """Of six exact flows between which noises are mixed; slopes are p + O(1/n)."""
    image, video = pair["image"], pair["video"]
    clip = through(image.at(1.5), HIGH * x, HIGH, LOW)
    z = weight * through(image.uncond, clip, LOW, HIGH) + (1 - weight) * through(video.uncond, clip, LOW, HIGH)
    truth = through(video.at(2.0), z, HIGH, LOW)
    order = solver.order if solver else 1
    found = slopes(lambda n: (end(pair, n, 2.0, 1.5, weight, x=x, solver=solver) - truth).norm(), [80, 160])
    assert found == pytest.approx([order], abs=0.15)


def test_frames_inverted_as_they_were_drawn_are_no_part_of_it(pair, x, slopes):
    """At lambda 1 and one guidance of the image model's, whatever it is, the video model draws what it draws alone."""
    alone = through(pair["video"].at(2.0), HIGH * x, HIGH, LOW)
    assert slopes(
        lambda n: (end(pair, n, 2.0, 1.5, 1.0, 1.5, x=x) - alone).norm(), [80, 160]
    ) == pytest.approx([1.0], abs=0.15)


def test_a_clip_inverted_as_it_is_sampled_stays_what_the_image_model_drew(pair, x, slopes):
    """At lambda 0 and one guidance of the video model's: no smoothing over time is left."""
    frames = through(pair["image"].at(1.5), HIGH * x, HIGH, LOW)
    assert slopes(
        lambda n: (end(pair, n, 2.0, 1.5, 0.0, 2.0, x=x) - frames).norm(), [80, 160]
    ) == pytest.approx([1.0], abs=0.15)


def test_between_gaussians_the_ends_mix_as_the_noises_do(pair, x, slopes):
    """Flows of Gaussians are affine: with one guidance of each model the limit is lambda of the video model's own clip
    and 1 - lambda of the image model's, however unlike they are."""
    own, frames = (through(pair[name].at(1.5), HIGH * x, HIGH, LOW) for name in ("video", "image"))
    both = 0.3 * own + 0.7 * frames
    assert slopes(
        lambda n: (end(pair, n, 1.5, 1.5, 0.3, 1.5, x=x) - both).norm(), [80, 160]
    ) == pytest.approx([1.0], abs=0.15)


def test_from_pure_noise_too(pair, x):
    """A rectified flow begins at sigma = inf, and is inverted back to there."""
    sigmas = Schedule.rectified_flow().grid(4)
    run = integrate(pair, bivdiff(sigmas, 2.0, 1.5, 0.3), x, trace=True)
    mixed = next(record for record in run.trace if record.leg.label == "mix")
    assert (mixed.leg.source, mixed.leg.target) == (math.inf, math.inf)
    assert run.nfe == planned_nfe(bivdiff(sigmas, 2.0, 1.5, 0.3))
    assert torch.equal(run.x, integrate(pair, plain(sigmas, 2.0), mixed.x).x)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_an_image_model_of_fewer_levels_plays_between_its_own_on_the_same_z(weight, pair, x):
    """From unit noise, which is what it knows of levels above its own, and back to it."""
    own = torch.cat([SIGMAS[1:5], SIGMAS[-1:]])
    legs = bivdiff(SIGMAS, 2.0, 1.5, weight, reach={"image": (own[3].item(), own[0].item())})
    assert {leg.told for leg in legs if leg.network == "image" and leg.source > 0} == set(own[:-1].tolist())
    run = integrate(pair, legs, SCHEDULE.start(x, legs[0].source), schedule=SCHEDULE, trace=True)
    assert run.nfe == planned_nfe(legs)
    frames = integrate(pair["image"], plain(own, 1.5), SCHEDULE.start(x, own[0])).x
    torch.testing.assert_close(run.trace[3].x, frames, rtol=0, atol=1e-12)
    if weight == 0.3:
        inverted = integrate(pair["image"], plain(own.flip(0), 0.0), frames).x
        (kept,) = (record.x for record in run.trace if record.leg.mix and record.leg.mix.name == "image")
        z, expected = SCHEDULE.alpha_at(SIGMAS[0]) * kept, SCHEDULE.alpha_at(own[0]) * inverted
        torch.testing.assert_close(z, expected, rtol=0, atol=1e-12)


def test_an_image_model_of_no_level_of_the_grid_is_refused():
    with pytest.raises(ValueError, match=r"reach: got 0.5 to 0.6 of the image model"):
        bivdiff(SIGMAS, reach={"image": (0.5, 0.6)})


@pytest.mark.parametrize("weight", [-0.1, 1.5, math.nan, "0.3"])
def test_shares_that_are_none_are_refused(weight):
    with pytest.raises(ValueError, match="image_weight"):
        bivdiff(SIGMAS, image_weight=weight)
