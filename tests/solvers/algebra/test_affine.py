import pytest
import torch

from ivmix.solvers import Guided, Network, Schedule, as_affine
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork

VIDEO = GaussianNetwork("video", {"": Gaussian(0.0, 1.0), "cat": Gaussian(1.0, 2.0)})
IMAGE = GaussianNetwork("image", {"": Gaussian(0.5, 0.5)})


def test_algebra_is_the_algebra_of_functions(x):
    u, c, i = VIDEO(""), VIDEO("cat"), IMAGE("")
    combination = (2 * u - c / 4 + (-i) * (lambda sigma: sigma**2)) * 3.0
    expected = 3 * (2 * u(x, 1.5) - c(x, 1.5) / 4 - 2.25 * i(x, 1.5))
    torch.testing.assert_close(combination(x, 1.5), expected, rtol=1e-14, atol=1e-14)
    assert combination.total(1.5) == pytest.approx(3 * (2 - 0.25 - 2.25))


def test_equal_atoms_merge_and_zero_weights_cost_nothing():
    u, c = VIDEO(""), VIDEO("cat")
    guided = u + 1.0 * (c - u)
    assert guided.weights(1.0) == [0.0, 1.0]
    assert guided.cost(1.0) == {"video": 1}
    switched = u + (lambda sigma: float(sigma < 1)) * IMAGE("")
    assert switched.cost(2.0) == {"video": 1}
    assert switched.cost(0.5) == {"video": 1, "image": 1}


def test_a_network_of_weight_zero_is_not_called(x):
    def explode(z, t, condition):
        raise AssertionError("called")

    network = Network(explode, Schedule.scaled_linear(), "epsilon", "image")
    denoise = VIDEO("") + 0.0 * network(None)
    assert torch.equal(denoise(x, 1.0), VIDEO("")(x, 1.0))
    # and so may be out of its range
    assert torch.equal(denoise(x, 1000.0), VIDEO("")(x, 1000.0))


def test_a_model_mixed_with_itself_is_itself(x):
    c = VIDEO("cat")
    mixed = 0.35 * c + 0.65 * c
    assert mixed.cost(1.0) == {"video": 1}
    torch.testing.assert_close(mixed(x, 1.0), c(x, 1.0), rtol=1e-15, atol=1e-15)


def test_an_empty_sum_is_zero(x):
    assert torch.equal((VIDEO("") - VIDEO(""))(x, 1.0), torch.zeros_like(x))


def test_weights_may_be_differentiated(x):
    w = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    denoise = VIDEO("") + w * (VIDEO("cat") - VIDEO(""))
    (gradient,) = torch.autograd.grad(denoise(x, 1.0).sum(), w)
    torch.testing.assert_close(gradient, (VIDEO("cat")(x, 1.0) - VIDEO("")(x, 1.0)).sum())


def test_any_denoiser_can_join(x):
    joined = 0.5 * as_affine(lambda x, sigma: 0 * x + sigma, "other") + 0.5 * VIDEO("")
    torch.testing.assert_close(joined(x, 2.0), 1 + 0.5 * VIDEO("")(x, 2.0))
    assert joined.cost(2.0) == {"other": 1, "video": 1}
    # weighted in the state's precision: 15 times a float16 value is none
    assert torch.equal((15.0 * as_affine(lambda x, sigma: x.half(), "other"))(x, 2.0), 15.0 * x.half().double())


def test_reach_is_what_all_networks_accept():
    low, high = Schedule.scaled_linear(), Schedule.ve(0.1, 5.0)
    one = Network(lambda z, t, c: z, low, "epsilon", "a")(None)
    two = Network(lambda z, t, c: z, high, "epsilon", "b")(None)
    assert (one + two).reach == Guided(one, two).reach == Guided(two, one).reach == (0.1, 5.0)


@pytest.mark.parametrize("other", ["two", None, VIDEO("")])
def test_only_numbers_and_functions_scale(other):
    with pytest.raises(TypeError):
        VIDEO("") * other
    if not hasattr(other, "terms"):
        with pytest.raises(TypeError):
            VIDEO("") + other
