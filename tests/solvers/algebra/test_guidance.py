import math

import pytest
import torch

from ivmix.solvers import GuidanceRamp, Guided, composite, integrate, mixture, plain
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork

VIDEO = GaussianNetwork("video", {"": Gaussian(0.0, 1.0), "cat": Gaussian(1.0, 2.0)})
GUIDED = Guided(VIDEO(""), VIDEO("cat"))


def test_guidance_is_uncond_plus_scale_times_direction(x):
    u, c = VIDEO("")(x, 2.0), VIDEO("cat")(x, 2.0)
    torch.testing.assert_close(GUIDED.at(7.5)(x, 2.0), u + 7.5 * (c - u), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(GUIDED.direction(x, 2.0), c - u, rtol=1e-13, atol=1e-13)
    assert GUIDED.name == "video"


@pytest.mark.parametrize(("scale", "rows"), [(0.0, 1), (1.0, 1), (7.5, 2), (-4.0, 2)])
def test_scales_0_and_1_evaluate_one_condition(scale, rows):
    assert GUIDED.at(scale).cost(1.0) == {"video": rows}


def test_a_condition_given_instead_of_an_atom_is_refused():
    with pytest.raises(TypeError, match="uncond"):
        Guided("", "cat")


def test_ramp_follows_its_formula():
    ramp = GuidanceRamp(2.0, 6.0, 7.0)
    assert ramp(0.0) == pytest.approx(2.0, rel=1e-14)
    assert ramp(1.0) == pytest.approx(6.0, rel=1e-14)
    assert ramp(0.25) == pytest.approx((2 ** (1 / 7) + 0.25 * (6 ** (1 / 7) - 2 ** (1 / 7))) ** 7, rel=1e-14)


def test_a_constant_ramp_is_exactly_constant():
    assert {GuidanceRamp(4.1)(u) for u in (0.0, 0.3, 1.0)} == {4.1}
    assert GuidanceRamp(4.0, 4.0).constant


@pytest.mark.parametrize("text", ["4.0", "4.0:2.0:7.0", "0.5:0.0:1.0"])
def test_ramps_print_as_they_are_parsed(text):
    assert str(GuidanceRamp.parse(text)) == text


@pytest.mark.parametrize("text", ["", "x", "4:", "4:2:7:1", "1 2", "4:two"])
def test_malformed_ramps_are_refused(text):
    with pytest.raises(ValueError, match="BEGIN"):
        GuidanceRamp.parse(text)


@pytest.mark.parametrize("text", ["nan", "-1", "4:-2", "inf", "4:2:0", "4:0:-1", "4:2:nan"])
def test_meaningless_ramps_are_refused(text):
    with pytest.raises(ValueError, match="expected"):
        GuidanceRamp.parse(text)


@pytest.mark.parametrize("u", [-0.1, 1.1, math.nan])
def test_progress_outside_its_range_is_refused(u):
    with pytest.raises(ValueError, match="u: got"):
        GuidanceRamp(4.0)(u)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("at", [0.0, 1.0, 7.5])
def test_gradients_reach_a_guidance_scale_without_a_warning(at, pair, x):
    """Where a weight is zero its network is left out, but not while a derivative with respect to it is asked for."""
    u, c = pair["video"].uncond, pair["video"].cond
    scale = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    sigmas = torch.tensor([2.0, 0.0])
    for legs, field in (
        (plain(sigmas, scale), pair["video"]),
        (plain(sigmas, lambda u: scale), pair["video"]),
        (plain(sigmas), mixture(pair["image"], pair["video"], scale, 1.0, 0.0)),
        (plain(sigmas), composite(**pair, guidance=scale, image_guidance=0.0, video_guidance=0.0, reference=sigmas)),
    ):
        run = integrate(field, legs, x)
        torch.testing.assert_close(run.x, (u + at * (c - u))(x, 2.0), rtol=0, atol=1e-13)
        (gradient,) = torch.autograd.grad(run.x.sum(), scale)
        torch.testing.assert_close(gradient, (c - u)(x, 2.0).sum(), rtol=0, atol=1e-11)


def test_a_scale_of_several_numbers_is_refused(pair):
    with pytest.raises(ValueError, match="scale: got tensor"):
        pair["video"].at(torch.tensor([1.0, 2.0]))
