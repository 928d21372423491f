import math

import pytest
import torch

from ivmix.solvers import level
from ivmix.solvers.analytic import Gaussian, GaussianNetwork, exponential, flow, reference

K = exponential(4, 1.3, 3.0)


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
