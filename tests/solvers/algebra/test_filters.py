import math

import pytest
import torch

from ivmix.solvers import (
    DPMSolverPP2M,
    Filter,
    GaussianLowPass,
    Guided,
    IVMixed,
    LowPass,
    Network,
    Schedule,
    composite,
    integrate,
    plain,
)
from ivmix.solvers.algebra.affine import evaluate
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, reference

FILTERS = [LowPass(), LowPass(0.5, 0.6, order=2), GaussianLowPass(), GaussianLowPass(1.0, 0.5)]
IMAGE = GaussianNetwork("image", {"": Gaussian(0.5, 0.5), "cat": Gaussian(0.2, 0.1)})
VIDEO = GaussianNetwork("video", {"": Gaussian(0.0, 1.0), "cat": Gaussian(1.0, 2.0)})
LOW, BROAD = LowPass(0.5, 0.6), GaussianLowPass(1.0, 0.5)
W, V = Filter.of(LOW), Filter.of(BROAD)


def same(a, b, size=1.0):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-14 * size)


@pytest.fixture
def clip():
    return torch.randn(2, 3, 6, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_algebra_of_filters_is_that_of_functions(clip):
    c, i = VIDEO("cat"), IMAGE("cat")
    combination = ((2 - W) * c + V * W * (i - c) / 2) * 3.0 + (lambda sigma: sigma * W) * i
    x_c, x_i = c(clip, 1.5), i(clip, 1.5)
    expected = 3 * (2 * x_c - LOW(x_c) + BROAD(LOW(x_i - x_c)) / 2) + 1.5 * LOW(x_i)
    same(combination(clip, 1.5), expected, 10)
    assert combination.cost(1.5) == {"video": 1, "image": 1}


def test_products_are_played_from_the_right(clip):
    last_frame, double = (lambda x: x * (torch.arange(6) == 5).reshape(-1, 1, 1)), (lambda x: x.roll(1, 2))
    product = Filter.of(last_frame) * Filter.of(double)
    assert torch.equal(product * clip, last_frame(double(clip)))
    assert not torch.equal(Filter.of(double) * Filter.of(last_frame) * clip, product * clip)


@pytest.mark.parametrize("other", [W, V, 0.3, torch.tensor(0.3, dtype=torch.float64)], ids=["W", "V", "0.3", "tensor"])
def test_filters_commute_with_numbers_and_with_filters_diagonal_in_frequency(other, clip):
    c = VIDEO("cat")
    same((W * (other * c))(clip, 1.0), (other * (W * c))(clip, 1.0))
    same((W * other) * clip, (other * W) * clip)
    same((W + other) * clip, (other + W) * clip, 3)
    same((W - other) * clip, -((other - W) * clip), 3)


def test_weights_that_sum_to_one_are_the_number_one():
    c, i = VIDEO("cat"), IMAGE("cat")
    mixed = W * c + (1 - W) * i
    assert mixed.total(1.0) == 1.0
    assert isinstance(mixed.total(1.0), float)
    assert (W * c + (1 - Filter.of(LowPass(0.5, 0.6))) * c).weights(1.0) == [1.0]  # equal maps are the same map
    assert (2 * W - W * 2, W * V - W * V) == (0.0, 0.0)


def test_a_filter_that_passes_all_leaves_the_plain_method(clip):
    every = Filter.of(lambda x: x)
    guided = Guided(VIDEO(""), VIDEO("cat"))
    same((guided.uncond + 7.5 * every * guided.direction)(clip, 2.0), guided.at(7.5)(clip, 2.0), 10)
    # and where the maps cancel nothing is filtered: the same bits at the same cost
    cancelled = guided.uncond + (7.5 + W - W) * guided.direction
    assert torch.equal(cancelled(clip, 2.0), guided.at(7.5)(clip, 2.0))
    assert ((W - W) * IMAGE("cat") + VIDEO("cat")).cost(1.0) == {"video": 1}


@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow"])
def test_the_same_filters_combine_every_prediction(prediction, clip):
    """Where they sum to 1; x0 of a network of the combined output is the combined x0."""
    schedule = Schedule.rectified_flow() if prediction == "flow" else Schedule.scaled_linear()
    video, image = (model.forward(schedule, prediction) for model in (VIDEO, IMAGE))

    def both(z, t, condition):
        y_v, y_i = video(z, t, condition), image(z, t, condition)
        return LOW(y_v) + y_i - LOW(y_i)

    joined = Network(both, schedule, prediction, "both")("cat")
    same((W * VIDEO("cat") + (1 - W) * IMAGE("cat"))(clip, 1.7), joined(clip, 1.7), 10)


def test_atoms_shared_by_combinations_are_filtered_in_each(clip):
    c, u = VIDEO("cat"), VIDEO("")
    first, second = evaluate((u + W * (c - u), c), clip, 2.0)
    same(first, u(clip, 2.0) + LOW(c(clip, 2.0) - u(clip, 2.0)))
    assert torch.equal(second, c(clip, 2.0))


def test_a_number_before_a_filter_may_be_differentiated(clip):
    w = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    denoise = VIDEO("") + (w * W) * (VIDEO("cat") - VIDEO(""))
    (gradient,) = torch.autograd.grad(denoise(clip, 1.0).square().sum(), w)
    push = LOW(VIDEO("cat")(clip, 1.0) - VIDEO("")(clip, 1.0))
    torch.testing.assert_close(gradient, 2 * (VIDEO("")(clip, 1.0) * push).sum())


@pytest.mark.parametrize("low_pass", FILTERS)
@pytest.mark.parametrize("size", [(8, 4, 6), (5, 3, 7), (1, 1, 1)])
def test_a_frequency_filter_is_linear_real_and_keeps_means(low_pass, size):
    a, b = torch.randn(2, 2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    same(low_pass(2 * a - b), 2 * low_pass(a) - low_pass(b), 10)
    same(low_pass(a).mean((-3, -2, -1)), a.mean((-3, -2, -1)))
    spectrum = torch.fft.fftn(a, dim=(-3, -2, -1)) * low_pass.response(*size)
    whole = torch.fft.ifftn(spectrum, dim=(-3, -2, -1))  # whole spectra: the factors of u and -u are the same
    assert whole.imag.abs().max() < 1e-15
    same(low_pass(a), whole.real)


def test_the_gaussian_filter_has_its_cut_offs():
    response = GaussianLowPass(spatial=0.5, temporal=0.25).response(8, 8, 8)
    assert response[0, 0, 0] == 1
    for index, square in (((1, 0, 0), 1.0), ((0, 2, 0), 1.0), ((2, 0, 2), 5.0), ((0, 0, 4), 4.0)):
        assert response[index] == pytest.approx(math.exp(-square / 2), rel=1e-15)


def test_the_ode_of_a_filtered_mixture_is_each_frequencys_own(clip):
    """x0 = k/(k + sigma²)·x of each network: a frequency of gain L shrinks as L of one's and 1 - L of the other's ODE
    would have it."""
    K_v, K_i, high, low = 2.0, 0.1, 9.0, 0.3
    video, image = (GaussianNetwork(name, {"": Gaussian(0.0, K)})("") for name, K in (("video", K_v), ("image", K_i)))
    levels = torch.tensor([high, low], dtype=torch.float64)
    found = reference(W * video + (1 - W) * image, high * clip, levels)
    L = LOW.response(*clip.shape[-3:])
    shrink_v, shrink_i = (math.sqrt((K + low**2) / (K + high**2)) for K in (K_v, K_i))
    spectrum = torch.fft.fftn(high * clip, dim=(-3, -2, -1)) * shrink_v**L * shrink_i ** (1 - L)
    torch.testing.assert_close(found, torch.fft.ifftn(spectrum, dim=(-3, -2, -1)).real, rtol=0, atol=1e-11)


@pytest.mark.parametrize("sequence", ["down-first", "up-first"])
def test_zigzags_of_filtered_legs_converge_to_the_composite_of_the_filtered_networks(sequence, pair, x, slopes):
    """The image network's guidance is of high frequencies alone: the limit is eps_Vu + (w + 2·gamma_V)·d_V +
    2·gamma_I·(1 - W)·d_I."""
    image, video = pair["image"], pair["video"]
    sharp = {"image": Guided(image.uncond, image.uncond + (1 - W) * image.direction), "video": video}
    scales = {"guidance": 1.5, "image_guidance": 0.4, "video_guidance": 0.2}

    def grid(n):
        return Schedule.ve(0.2, 8.0).grid(n, "uniform-lam")

    limit = composite(**sharp, **scales, reference=grid(11)).denoise
    by_hand = video.uncond + 1.9 * video.direction + 0.8 * (1 - W) * image.direction
    same(limit(x, 2.0), by_hand(x, 2.0), 10)
    assert limit.total(2.0) == pytest.approx(1.0, abs=1e-14)
    truth = reference(by_hand, 8.0 * x, grid(11)[[0, 10]], tolerance=1e-9)

    def error(n):
        legs = IVMixed(sequence=sequence, **scales).legs(grid(n))[:-1]
        return (integrate(sharp, legs, 8.0 * x).x - truth).norm()

    assert slopes(error, [40, 80, 160]) == pytest.approx([1.0, 1.0], abs=0.1)


def test_a_run_of_a_filtered_field_has_its_solvers_order(clip, slopes):
    """Filters are constant along a run: multistep memory is as good as ever."""
    field = (lambda sigma: 1 / (1 + sigma) * W) * IMAGE("cat") + (lambda sigma: 1 - 1 / (1 + sigma) * W) * VIDEO("cat")
    truth = reference(field, 8.0 * clip, torch.tensor([8.0, 0.2]), tolerance=1e-11)

    def error(n):
        legs = plain(Schedule.ve(0.2, 8.0).grid(n, "uniform-lam"), solver=DPMSolverPP2M())[:-1]
        return (integrate(field, legs, 8.0 * clip).x - truth).norm()

    assert slopes(error, [40, 80]) == pytest.approx([2.0], abs=0.15)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Filter.of(0.5), TypeError, "linear: got a float"),
        (lambda: float(W), TypeError, "a weight that is a filter is no number"),
        (lambda: W - "two", TypeError, "unsupported operand"),
        (lambda: W + torch.ones(3), TypeError, "unsupported operand"),
        (lambda: Guided(VIDEO(""), VIDEO("cat")).at(W), ValueError, "scale: got Filter"),
        (lambda: Filter.of(lambda x: x[..., 1:]) * torch.ones(1, 1, 2, 2, 2), ValueError, "filter .* returned shape"),
        (lambda: GaussianLowPass(temporal=math.inf), ValueError, "temporal: got inf"),
    ],
)
def test_what_is_no_filter_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
