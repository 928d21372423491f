"""Networks across a bridge: what is carried over is what they want changed, and the round trip's own error is not."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from ivmix.solvers import (
    Across,
    Affine,
    Atom,
    Bridge,
    Composite,
    Euler,
    Guided,
    Heun,
    Levels,
    SDEDPMSolverPP2M,
    bridge_noise,
    bridged,
    composite,
    initial_noise,
    integrate,
    mixture,
    normal_noise,
    plain,
    planned_nfe,
)
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, closed_form_pair, exponential

SHAPE, FAR = (2, 1, 4, 4, 4), (2, 4, 4, 2, 2)  # of states here, and of latents of another factor and more channels
GRID = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5, 0.0], dtype=torch.float64)
RATIO, SHIFT = 3.0, 0.7


def normals(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ROTATION = torch.linalg.qr(normals((4, 4), 7))[0]
IDENTITY = Bridge(lambda z: z, lambda z: z)


def there(z):
    """Squares of four pixels as channels, rotated, three times as large, and shifted."""
    folded = F.pixel_unshuffle(z.transpose(1, 2).flatten(0, 1), 2).unflatten(0, (len(z), -1)).transpose(1, 2)
    return RATIO * torch.einsum("dc,bcfhw->bdfhw", ROTATION, folded) + SHIFT


def back(y):
    turned = torch.einsum("dc,bdfhw->bcfhw", ROTATION, (y - SHIFT) / RATIO)
    return F.pixel_shuffle(turned.transpose(1, 2).flatten(0, 1), 2).unflatten(0, (len(y), -1)).transpose(1, 2)


SCALED = Bridge(there, back, Levels(((1.0, RATIO),)))
LOSSY = Bridge(
    lambda z: F.avg_pool3d(z.tanh(), (1, 2, 2)), lambda y: F.interpolate(y.atanh(), scale_factor=(1, 2, 2)) + 0.1
)


def combination(image, video, name="composite"):
    """The two families that ask both models at one state, as samplers build them."""
    if name == "composite":
        gammas = {"image_guidance": 0.7, "video_guidance": 0.5}
        return composite(image, video, guidance=2.0, **gammas, reference=GRID).denoise
    return mixture(image, video, 2.0, 3.0, 0.7)


def across(image, bridge):
    """A guided network of atoms, at the other end of a bridge."""
    [(atom, _)], [(cond, _)] = image.uncond.terms, image.cond.terms
    far = Across(atom.model, bridge)
    return Guided(far(atom.condition), far(cond.condition))


@dataclasses.dataclass(frozen=True)
class Says:
    """An image model that says the same of all noisy latents, and keeps what it heard."""

    x0: torch.Tensor
    heard: list = dataclasses.field(default_factory=list)
    name, reach = "image", (0.0, math.inf)

    def predict(self, x, sigma, conditions):
        self.heard.append((x, sigma))
        return [self.x0] * len(conditions)

    @property
    def guided(self):
        return Guided(*(Affine(((Atom(self, condition), 1.0),)) for condition in ("", "cat")))


def gaussians(spread_of_image=1.0):
    """Two models of one covariance a side, and the image model once more, of what SCALED makes of its data."""
    means = {"": normals(SHAPE, 1)[:1], "cat": normals(SHAPE, 2)[:1]}
    video = GaussianNetwork("video", {c: Gaussian(mean, exponential(4, 0.5)) for c, mean in means.items()})
    here, far = (
        GaussianNetwork("image", {
            condition: Gaussian(move(mean), move_variance * (0.3 if condition else 0.3 * spread_of_image))
            for condition, mean in means.items()
        })
        for move, move_variance in ((lambda mean: mean, 1.0), (there, RATIO**2))
    )  # fmt: skip
    return (Guided(network(""), network("cat")) for network in (here, far, video))


@pytest.mark.parametrize("name", ["composite", "mixture"])
def test_with_the_states_own_noise_one_space_is_the_plain_combination_of_any_networks(name):
    pair, sigma = closed_form_pair(4), 1.3  # mixtures: nothing about them is linear
    x = 2 * normals(SHAPE, 0)
    plain_field = combination(pair["image"], pair["video"], name)
    field = combination(across(pair["image"], IDENTITY), pair["video"], name)
    scale = 3.0 if name == "composite" else 2.0  # the video model's in either
    own = (x - pair["video"].at(scale)(x, sigma)) / sigma
    wanted = plain_field(x, sigma)
    assert (bridged(field, own)(x, sigma) - wanted).abs().max() <= 1e-12
    assert (bridged(field, normals(SHAPE, 1))(x, sigma) - wanted).abs().max() > 0.1  # a draw that is another


def test_a_direction_between_gaussians_crosses_an_affine_bridge_exactly_whatever_the_noise():
    here, far, video = gaussians()
    x, xi = 2 * normals(SHAPE, 0), normals(FAR, 3)
    plain_field, field = combination(here, video), combination(across(far, SCALED), video)
    for sigma in (0.1, 1.0, 8.0):
        assert (bridged(field, xi)(x, sigma) - plain_field(x, sigma)).abs().max() <= 1e-12
    runs = [integrate(f, plain(GRID, solver=Heun()), x) for f in (plain_field, bridged(field, xi))]
    assert (runs[0].x - runs[1].x).abs().max() <= 1e-12


def test_where_covariances_differ_the_noise_across_is_seen():
    here, far, video = gaussians(spread_of_image=2.0)
    x, field = normals(SHAPE, 0), combination(across(far, SCALED), video)
    wanted = combination(here, video)(x, 1.0)
    assert (bridged(field, normals(FAR, 3))(x, 1.0) - wanted).abs().max() > 0.01
    x0 = video.at(3.0)(x, 1.0)
    own = (there(x) - there(x0)) / RATIO  # the state's own noise, which only an affine bridge can carry
    assert (bridged(field, own)(x, 1.0) - wanted).abs().max() <= 1e-12


@pytest.mark.parametrize("name", ["composite", "mixture"])
def test_a_network_that_wants_nothing_changed_changes_nothing_however_lossy_the_round_trip(name):
    """Its direction is 0 in the composite, its x0 that which crossed in the mixture."""
    pair = closed_form_pair(4)
    x = normals(SHAPE, 0)
    x0 = pair["video"].at(3.0 if name == "composite" else 2.0)(x, 1.0)
    assert (LOSSY.back(LOSSY.there(x0)) - x0).abs().max() > 0.1
    carried = LOSSY.there(x0)
    field = combination(across(Says(carried).guided, LOSSY), pair["video"], name)
    assert (bridged(field, torch.zeros_like(carried))(x, 1.0) - x0).abs().max() <= 1e-14


def test_a_direction_of_zero_is_zero_to_the_bit():
    pair, x = closed_form_pair(4), normals(SHAPE, 0)
    image = Says(torch.zeros(2, 1, 4, 2, 2, dtype=torch.float64))
    x0 = pair["video"].at(3.0)(x, 1.0)
    field = combination(across(image.guided, LOSSY), pair["video"])
    assert torch.equal(bridged(field, normals(image.x0.shape, 1))(x, 1.0), x0)
    assert image.heard


def test_the_network_across_is_told_its_own_level_and_a_state_of_it():
    pair, x, xi, image = closed_form_pair(4), normals(SHAPE, 0), normals(FAR, 3), Says(normals(FAR, 4))
    bridge = Bridge(there, back, Levels(((0.5, 1.0), (2.0, 8.0))))
    bridged(combination(across(image.guided, bridge), pair["video"]), xi)(x, 1.0)
    [(y, sigma)] = image.heard
    assert sigma.item() == pytest.approx(8**0.5)  # halfway in log sigma: 1 = sqrt(0.5·2)
    x0 = pair["video"].at(3.0)(x, 1.0)
    assert (y - there(x0) - 8**0.5 * xi).abs().max() <= 1e-12


def test_levels_are_inverted_and_go_on_beyond_their_ends():
    levels = Levels(((0.1, 0.3), (1.0, 1.0), (10.0, 40.0)))
    for sigma in (0.0, 0.01, 0.1, 0.5, 1.0, 3.0, 10.0, 200.0, math.inf):
        assert levels.back(levels.there(sigma)) == pytest.approx(sigma)
    assert levels.there(0.01) == pytest.approx(0.03)
    assert levels.there(20.0) == pytest.approx(80.0)


@pytest.mark.parametrize("pairs", [(), ((1.0, 2.0), (2.0, 2.0)), ((2.0, 1.0), (1.0, 2.0)), ((0.0, 1.0),)])
def test_levels_that_do_not_both_increase_are_refused(pairs):
    with pytest.raises(ValueError, match="levels"):
        Levels(pairs)


def test_reach_is_told_in_the_states_levels_and_a_composite_mixes_where_the_image_model_knows_them():
    _, far, video = gaussians()
    [(atom, _)] = far.cond.terms
    short = GaussianNetwork("image", atom.model.given, reach=(3.0, 12.0))
    far = across(Guided(short(""), short("cat")), SCALED)
    assert far.reach == pytest.approx((1.0, 4.0))
    field = composite(far, video, guidance=2.0, image_guidance=0.7, video_guidance=0.5, reference=GRID,
                      reach={"image": far.reach, "video": video.reach}).denoise  # fmt: skip
    over = bridged(field)
    assert [over.cost(sigma) for sigma in (8.0, 4.0, 0.5)] == [{"video": 2}, {"video": 2, "image": 2}, {"video": 2}]
    assert [over.crosses(sigma) for sigma in (8.0, 4.0, 0.5)] == [False, True, False]
    x = normals(SHAPE, 0)
    assert torch.equal(over(x, 8.0), field(x, 8.0))  # nothing crosses, no noise is needed


def test_what_crosses_is_no_evaluation_and_is_counted_with_any_solver():
    _, far, video = gaussians()
    legs, field = plain(GRID, solver=Heun()), bridged(combination(across(far, SCALED), video), normals(FAR, 3))
    run = integrate(field, legs, 8 * normals(SHAPE, 0))
    assert run.nfe == {"video": 9, "image": 9} == planned_nfe(legs, field)


def test_a_pattern_of_fresh_noise_crosses_with_its_churn():
    here, far, video = gaussians()
    x, options = 8 * normals(SHAPE, 0), {"guidance": 2.0, "image_guidance": 0.7, "reference": GRID}
    plain_field, field = (composite(image, video, "RI-IV", video_guidance=0.5, **options) for image in
                          (here, across(far, SCALED)))  # fmt: skip
    field = Composite(bridged(field.denoise, normals(FAR, 3)), field.churn)
    legs = plain(GRID, solver=SDEDPMSolverPP2M(1.0))
    runs = [integrate(f, legs, x, noise=normal_noise([1, 2], SHAPE[1:])).x for f in (plain_field, field)]
    assert (runs[0] - runs[1]).abs().max() <= 1e-12


def test_fields_that_no_bridge_carries_are_refused():
    _, far, video = gaussians()
    image = across(far, SCALED)
    x, xi = normals(SHAPE, 0), normals(FAR, 3)
    with pytest.raises(ValueError, match=r"got weights of sum 1 at sigma 1, 1 of it across the bridge"):
        bridged(image.at(3.0), xi)(x, 1.0)  # nothing knows the state
    with pytest.raises(ValueError, match=r"got weights of sum 1 at sigma 1, 1 of it across the bridge"):
        bridged(image.at(3.0) + video.direction, xi).cost(1.0)  # nor does what is near
    with pytest.raises(ValueError, match=r"got weights of sum 2 at sigma 1, 0 of it across the bridge"):
        bridged(2 * video.at(2.0) + image.direction, xi).cost(1.0)
    with pytest.raises(TypeError, match="one bridge"):
        bridged(image.direction + across(far, IDENTITY).direction + video.at(2.0), xi).cost(1.0)
    with pytest.raises(TypeError, match=r"lies across a bridge .* use bridged"):
        image.at(3.0)(x, 1.0)
    with pytest.raises(ValueError, match="noise: got None"):
        bridged(combination(image, video))(x, 1.0)
    with pytest.raises(ValueError, match="noise returned shape"):
        bridged(combination(image, video), normals(SHAPE, 3))(x, 1.0)


def test_a_field_without_atoms_across_is_itself():
    here, _, video = gaussians()
    field = combination(here, video)
    assert isinstance(field, Affine)
    assert bridged(field) is field


def test_the_noise_across_is_a_draw_of_the_seed_apart_from_the_first():
    xi = bridge_noise([3, 5], FAR[1:])
    assert torch.equal(xi[1], bridge_noise([5], FAR[1:])[0])
    assert not torch.equal(xi, initial_noise([3, 5], FAR[1:]))


def test_euler_crosses_as_any_denoiser_does():
    here, far, video = gaussians()
    x = 8 * normals(SHAPE, 0)
    field = bridged(combination(across(far, SCALED), video), normals(FAR, 3))
    runs = [integrate(f, plain(GRID, solver=Euler()), x).x for f in (combination(here, video), field)]
    assert (runs[0] - runs[1]).abs().max() <= 1e-12
