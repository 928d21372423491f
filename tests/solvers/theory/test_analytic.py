import math

import pytest
import torch

from ivmix.solvers import Network, Schedule, level
from ivmix.solvers.theory.analytic import (
    Gaussian,
    GaussianNetwork,
    Mixture,
    closed_form_pair,
    exponential,
    flow,
    reference,
)

K = exponential(4, 1.3, 3.0)


@pytest.fixture
def mixture():
    """Three videos that a network may have in mind: other means, other covariances, one without correlation."""
    means = torch.randn(3, 3, 4, 2, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return Mixture([Gaussian(means[0], K), Gaussian(means[1], 0.4), Gaussian(means[2], K @ K / 4)], [3.0, 1.0, 2.0])


def test_the_denoiser_is_the_conditional_mean(x):
    """By conditioning the joint Gaussian of (x0, x), assembled here as one matrix."""
    sigma = 0.7
    observed = x[0, 0, :, 0, 0]
    joint = torch.cat([torch.cat([K, K], 1), torch.cat([K, K + sigma**2 * torch.eye(4, dtype=torch.float64)], 1)])
    expected = 0.5 + joint[:4, 4:] @ torch.linalg.solve(joint[4:, 4:], observed - 0.5)
    torch.testing.assert_close(Gaussian(0.5, K)(x, sigma)[0, 0, :, 0, 0], expected, rtol=0, atol=1e-13)


def test_a_variance_is_a_diagonal_covariance(x):
    torch.testing.assert_close(
        Gaussian(0.5, 2.0)(x, 1.1), Gaussian(0.5, 2.0 * torch.eye(4))(x, 1.1), rtol=0, atol=1e-14
    )


def test_ends_of_the_axis(x):
    gaussian = Gaussian(0.5, K)
    torch.testing.assert_close(gaussian(x, 0.0), x, rtol=0, atol=1e-14)
    torch.testing.assert_close(gaussian(x, math.inf), torch.full_like(x, 0.5), rtol=0, atol=0)


def test_flow_of_one_gaussian_is_its_formula(x):
    """x(sigma) = m + sqrt((K + sigma²) / (K + sigma_0²))·(x - m), exactly."""
    values, Q = torch.linalg.eigh(K)
    scale = ((values + 0.3**2) / (values + 9.0**2)).sqrt()
    expected = 0.5 + torch.einsum("fg,bcghw->bcfhw", Q * scale @ Q.mT, 9 * x - 0.5)
    denoise = GaussianNetwork("video", {None: Gaussian(0.5, K)})(None)
    torch.testing.assert_close(flow(denoise, 9 * x, 9.0, 0.3), expected, rtol=0, atol=1e-12)


def test_flow_to_zero_is_reached_continuously(commuting, x):
    """dx/dsigma vanishes with sigma, so the states at 1e-8 and at 0 differ by 1e-16."""
    torch.testing.assert_close(flow(commuting, 9 * x, 9.0, 0.0), flow(commuting, 9 * x, 9.0, 1e-8), rtol=0, atol=1e-12)


@pytest.mark.parametrize("ends", [(9.0, 0.1), (0.1, 9.0)])
def test_flow_and_reference_agree(ends, commuting, x):
    """The quadrature and the extrapolation are independent; both claim rounding, 1e-16 times a growth of up to 1e2."""
    sigmas = torch.logspace(math.log10(ends[0]), math.log10(ends[1]), 13, dtype=torch.float64)
    truth = flow(commuting, ends[0] * x, *ends)
    torch.testing.assert_close(reference(commuting, ends[0] * x, sigmas, substeps=2), truth, rtol=0, atol=1e-11)


def test_flow_composes(commuting, x):
    halfway = flow(commuting, 9 * x, 9.0, 1.0)
    torch.testing.assert_close(flow(commuting, halfway, 1.0, 0.2), flow(commuting, 9 * x, 9.0, 0.2), rtol=0, atol=1e-12)


def test_reference_evaluates_no_interval_at_its_end(x):
    told = []

    def denoise(y, sigma):
        told.append(sigma.item())
        return 0 * y

    reference(denoise, x, torch.tensor([4.0, 2.0]))
    assert max(told) == 4.0
    assert min(told) > 2.0


def test_flow_refuses_what_has_no_closed_form(pair, x):
    video = pair["video"]
    with pytest.raises(ValueError, match="commute"):
        flow(video.at(2.0), x, 2.0, 1.0)
    with pytest.raises(ValueError, match="depend on sigma"):
        flow(video.at(lambda sigma: sigma), x, 2.0, 1.0)


def test_a_mixtures_denoiser_is_the_mean_given_x():
    """By quadrature over x0, one frame of one pixel."""
    sigma, x = 0.7, torch.linspace(-3, 3, 7, dtype=torch.float64)
    x0 = torch.linspace(-12, 12, 24001, dtype=torch.float64)

    def bell(y, variance):
        return torch.exp(-(y**2) / (2 * variance)) / math.sqrt(variance)

    joint = (0.75 * bell(x0 + 1, 0.2) + 0.25 * bell(x0 - 1.5, 0.6)) * bell(x[:, None] - x0, sigma**2)  # (7, points)
    mixture = Mixture([Gaussian(-1.0, 0.2), Gaussian(1.5, 0.6)], [3.0, 1.0])
    torch.testing.assert_close(mixture(x.reshape(7, 1, 1, 1, 1), sigma).flatten(), joint @ x0 / joint.sum(1))


@pytest.mark.parametrize("framewise", [False, True])
def test_a_mixtures_denoiser_is_the_slope_of_its_density(framewise, mixture, x):
    """E[x0 | x] = x + sigma²·grad log p(x) (Tweedie), with covariances over frames and frame by frame."""
    denoise = Mixture([Gaussian(-1.0, 0.3), Gaussian(0.8, 0.1)], [1.0, 2.0], framewise=True) if framewise else mixture
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(denoise.log_density(x, 0.8).sum(), x)
    torch.testing.assert_close(x + 0.8**2 * slope, denoise(x, 0.8), rtol=0, atol=1e-13)


def test_a_density_integrates_to_one():
    axis = torch.linspace(-8, 8, 161, dtype=torch.float64)
    plane = torch.cartesian_prod(axis, axis).reshape(-1, 1, 2, 1, 1)
    for mixture in (
        Mixture([Gaussian(-1.0, exponential(2, 0.5)), Gaussian(1.0, 0.3)]),
        Mixture([Gaussian(-1.0, 0.2), Gaussian(1.0, 0.3)], framewise=True),
    ):
        assert (mixture.log_density(plane, 0.4).exp().sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1.0)


def test_a_mixture_of_one_or_of_equals_is_a_gaussian(x):
    gaussian = Gaussian(0.5, K)
    for mixture in (Mixture([gaussian]), Mixture([gaussian, gaussian], [1.0, 5.0])):
        torch.testing.assert_close(mixture(x, 0.9), gaussian(x, 0.9), rtol=0, atol=1e-14)
    mean, covariance = torch.full((4,), 0.5, dtype=torch.float64), K + 0.9**2 * torch.eye(4, dtype=torch.float64)
    expected = torch.distributions.MultivariateNormal(mean, covariance).log_prob(x.movedim(2, -1)).sum((1, 2, 3))
    torch.testing.assert_close(Mixture([gaussian]).log_density(x, 0.9), expected, rtol=0, atol=1e-12)


def test_mixtures_of_mixtures_are_mixtures(x):
    a, b, c = Gaussian(-1.0, 0.3), Gaussian(0.5, K), Gaussian(2.0, 1.0)
    nested = Mixture([Mixture([a, b], [1.0, 3.0]), c], [2.0, 1.0])
    torch.testing.assert_close(nested(x, 1.1), Mixture([a, b, c], [1 / 6, 3 / 6, 1 / 3])(x, 1.1), rtol=0, atol=1e-14)


def test_framewise_mixtures_see_one_frame_at_a_time(x):
    image = Mixture([Gaussian(-1.0, 0.3), Gaussian(0.8, 0.1)], framewise=True)
    alone = torch.cat([image(x[:, :, k : k + 1], 0.7) for k in range(x.shape[2])], 2)
    torch.testing.assert_close(image(x, 0.7), alone, rtol=0, atol=1e-14)


def test_ends_of_the_axis_of_a_mixture(mixture, x):
    torch.testing.assert_close(mixture(x, 0.0), x, rtol=0, atol=1e-13)
    mean = sum(share * gaussian.mu for gaussian, share in mixture.parts)
    torch.testing.assert_close(mixture(x, math.inf), mean.expand_as(x), rtol=0, atol=1e-14)
    torch.testing.assert_close(mixture(1e9 * x, 1e9), mixture(x, math.inf) + 0 * x, rtol=0, atol=1e-6)
    assert mixture(x.float(), 0.5).dtype == mixture(x.float(), math.inf).dtype == torch.float32


def test_mixtures_are_usable_behind_a_network(mixture, x):
    schedule = Schedule.scaled_linear()
    closed = GaussianNetwork("video", {"cond": mixture})
    network = Network(closed.forward(schedule, "v"), schedule, "v", "video")
    torch.testing.assert_close(network("cond")(x, 2.0), closed("cond")(x, 2.0), rtol=0, atol=1e-12)


def test_the_closed_form_pair_is_sharp_and_soft():
    """The image network knows no time and its data are narrow; the video network's frames depend on each other."""
    pair = closed_form_pair(frames=4)
    x = torch.zeros(1, 1, 4, 1, 1, dtype=torch.float64)
    moved = x.clone()
    moved[:, :, 0] = 1.0
    for name, independent in (("image", True), ("video", False)):
        for field in (pair[name].uncond, pair[name].cond):
            change = (field(moved, 0.5) - field(x, 0.5)).flatten()
            assert change[0] > 0.1
            assert bool((change[1:] == 0).all()) == independent
    ones = torch.ones_like(x)
    near = 1.2 * ones
    assert (pair["image"].cond(near, 0.3) - ones).abs().max() < (pair["video"].cond(near, 0.3) - ones).abs().max()
    assert pair["image"].direction(x, 1.0).min() > 0  # the condition draws to 1
    assert pair["video"].direction(x, 1.0).min() > 0


def test_reference_halves_its_steps_until_they_are_good_enough(commuting, x):
    """One interval for a whole run: without error control wrong in the third digit, with it right to the twelfth."""
    truth = flow(commuting, 9 * x, 9.0, 0.1)
    ends = torch.tensor([9.0, 0.1], dtype=torch.float64)
    torch.testing.assert_close(reference(commuting, 9 * x, ends), truth, rtol=0, atol=1e-11)
    assert (reference(commuting, 9 * x, ends, tolerance=math.inf) - truth).abs().max() > 1e-6


def test_reference_agrees_with_itself_on_mixtures():
    """Mixtures have no closed form: two orders, two grids."""
    denoise = closed_form_pair()["video"].at(3.0)
    x = 9 * torch.randn(4, 1, 2, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a = reference(denoise, x, torch.tensor([9.0, 0.1], dtype=torch.float64))
    b = reference(denoise, x, torch.logspace(math.log10(9.0), -1, 6, dtype=torch.float64), order=8)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_reference_names_the_level_of_a_jump(x):
    with pytest.raises(ValueError, match="not smooth at sigma 1"):
        reference(lambda y, sigma: y if sigma > 1 else 0 * y, x, torch.tensor([4.0, 0.3]))


def test_flow_refuses_mixtures(mixture, x):
    with pytest.raises(ValueError, match="mixture"):
        flow(GaussianNetwork("video", {None: mixture})(None), x, 2.0, 1.0)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"components": []}, "shares"),
        ({"components": [Gaussian(0.0, 1.0)], "shares": [1.0, 2.0]}, "shares"),
        ({"components": [Gaussian(0.0, 1.0)], "shares": [0.0]}, "shares"),
        ({"components": [Gaussian(0.0, 1.0)], "shares": [math.nan]}, "shares"),
        ({"components": [Gaussian(0.0, K)], "framewise": True}, "framewise"),
        ({"components": [Mixture([Gaussian(0.0, 1.0)])], "framewise": True}, "framewise"),
    ],
)
def test_impossible_mixtures_are_refused(options, name):
    with pytest.raises(ValueError, match=name):
        Mixture(**options)


@pytest.mark.parametrize("covariance", [0.0, -1.0, torch.ones(2, 2), torch.ones(2, 3), torch.ones(3)])
def test_impossible_covariances_are_refused(covariance):
    with pytest.raises(ValueError, match="covariance"):
        Gaussian(0.0, covariance)


def test_unknown_conditions_are_refused():
    with pytest.raises(ValueError, match="'dog'"):
        GaussianNetwork("video", {"cat": Gaussian(0.0, 1.0)})("dog")


@pytest.mark.parametrize("sigma", [-1.0, math.nan, torch.ones(2)])
def test_levels_are_checked(sigma):
    with pytest.raises(ValueError, match="sigma"):
        level(sigma)
