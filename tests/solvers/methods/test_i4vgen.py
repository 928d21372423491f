"""I4VGen: the loop, what it costs, and what its distillation forgets."""

import math

import pytest
import torch

from ivmix.solvers import Schedule, i4vgen, integrate, normal_noise, planned_nfe
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, exponential

SCHEDULE = Schedule.scaled_linear()
SIGMAS = SCHEDULE.grid(10)


def noise(x):
    return normal_noise(range(len(x)), tuple(x.shape[1:]))


def networks():
    """An image network that takes any number of frames, and a video network of four."""
    image = GaussianNetwork("image", {"cat": Gaussian(0.4, 0.5)})
    video = GaussianNetwork("video", {"cat": Gaussian(-0.2, exponential(4, 0.8, 3.0))})
    return {"image": image("cat"), "video": video("cat")}


def test_the_papers_loop_in_its_own_symbols(x):
    """DDIM of one frame, that frame as a clip, score distillation with one noise, and DDIM from the clip noised."""
    fields, draw = networks(), noise(x)
    alpha_bar = torch.cat([SCHEDULE.alpha_at(SIGMAS[:-1]) ** 2, torch.ones(1, dtype=torch.float64)])

    def eps(z, network, i):
        a, s = alpha_bar[i].sqrt(), (1 - alpha_bar[i]).sqrt()
        return (z - a * fields[network](z / a, SIGMAS[i])) / s

    def down(z, network):
        for i in range(10):
            e = eps(z, network, i)
            x0 = (z - (1 - alpha_bar[i]).sqrt() * e) / alpha_bar[i].sqrt()
            z = alpha_bar[i + 1].sqrt() * x0 + (1 - alpha_bar[i + 1]).sqrt() * e
        return z

    def noised(x0, e, i):
        return alpha_bar[i].sqrt() * x0 + (1 - alpha_bar[i]).sqrt() * e

    clip = down(x[:, :, :1], "image").expand_as(x)
    eta, xi = draw(None, None).to(x), draw(None, None).to(x)
    for i in range(7):  # int(0.6·10) + 1
        gradient = (1 - alpha_bar[i]) * (eps(noised(clip, eta, i), "video", i) - eta)
        clip = clip - (10.0 if i < 3 else 1.0) * gradient
    expected = down(noised(clip, xi, 0), "video")
    legs = i4vgen(SIGMAS, None, None)
    run = integrate(fields, legs, SCHEDULE.start(x, SIGMAS[0]), noise=noise(x))
    torch.testing.assert_close(run.x, expected, rtol=0, atol=1e-11)
    assert run.nfe == planned_nfe(legs) == {"image": 10, "video": 17}


def test_the_image_model_draws_one_frame(x):
    seen = []

    def look(x, sigma):
        seen.append(x.shape[2])
        return x / 2

    integrate({"image": look, "video": networks()["video"]}, i4vgen(SIGMAS, None, None), x, noise=noise(x))
    assert seen == [1] * 10


def test_from_pure_noise_nothing_is_distilled_at_inf(x):
    legs = i4vgen(Schedule.rectified_flow().grid(10), None, None)
    run = integrate(networks(), legs, x, noise=noise(x))
    assert run.nfe == planned_nfe(legs) == {"image": 10, "video": 16}
    assert run.x.isfinite().all()


def clip_after(x, n):
    """The distilled clip, at the level 0, and the constant noise, on a grid of n steps of rate 1."""
    legs = i4vgen(Schedule.ve(2.0, 4.0).grid(n, "uniform-lam"), None, None, share=1.0, rates=())
    run = integrate(networks(), legs, 4 * x, noise=noise(x), trace=True)
    states = {record.leg.mix.name: record.x for record in run.trace if record.leg.mix}
    return states["clip"], states["eta"]


def test_with_ever_more_steps_it_settles_where_the_noised_clip_is_its_own_x0_and_the_image_is_forgotten(x):
    """Of a Gaussian of mean m and covariance K, x0 = m + K·eta/sigma, at the lowest level; a step comes nearer by the
    share a·sigma²/(k + sigma²) of the way along an eigenvector of K, of eigenvalue k."""
    K = exponential(4, 0.8, 3.0)
    apart = []
    for n in (10, 100, 1000):
        (one, eta), (other, _) = clip_after(x, n), clip_after(x + 3.0, n)
        apart.append((one - other).norm().item())
    assert apart[1] < apart[0] / 5
    assert apart[2] < 1e-9
    rest = -0.2 + (K @ eta.flatten(-2)).unflatten(-1, eta.shape[-2:]) / 2.0
    assert (one - rest).norm() < 0.02 * rest.norm()


@pytest.mark.parametrize(
    ("options", "name"),
    [({"share": 1.5}, "share"), ({"rates": [math.nan]}, "rates"), ({"sigmas": SIGMAS[:-1]}, "sigmas")],
)
def test_what_cannot_be_is_refused(options, name):
    with pytest.raises(ValueError, match=name):
        i4vgen(**{"sigmas": SIGMAS, **options})
