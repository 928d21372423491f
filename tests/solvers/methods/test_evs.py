"""EVS: whose the steps are, at what size, and the mixture that short ones are."""

import pytest
import torch

from ivmix.solvers import Network, Schedule, as_affine, enlarged, evs, integrate, mixture, plain, planned_nfe
from ivmix.solvers.methods.evs import magnified
from ivmix.solvers.theory.analytic import closed_form_pair, reference
from ivmix.solvers.theory.limits import limit

SIGMAS = Schedule.scaled_linear().grid(8)
HIGH, LOW = 8.0, 0.2


def test_each_step_is_one_evaluation_of_the_network_it_belongs_to(pair, x):
    legs = evs(SIGMAS, {2, 3, 5}, 2.0, 1.5, enlarge=1)
    run = integrate(pair, legs, 14 * x, trace=True)
    assert run.nfe == planned_nfe(legs) == {"video": 5, "image": 3}
    assert [leg.network for leg in legs] == [("image" if k in (2, 3, 5) else "video") for k in range(8)]
    assert evs(SIGMAS, [], 2.0) == plain(SIGMAS, 2.0)


def test_the_image_network_sees_its_steps_enlarged_and_the_state_keeps_its_size(pair):
    seen = []

    def look(x, sigma):
        seen.append(tuple(x.shape))
        return x / 2

    x = torch.ones(1, 1, 4, 6, 5, dtype=torch.float64)
    run = integrate({"video": look, "image": look}, evs(SIGMAS, [7], None, None), x)
    assert seen == [(1, 1, 4, 6, 5)] * 7 + [(1, 1, 4, 12, 10)]
    assert run.x.shape == x.shape


def test_what_the_view_does_to_the_state_it_undoes(x):
    view = magnified(3)
    assert view.enter(x).shape == (2, 3, 4, 6, 3)
    torch.testing.assert_close(view.leave(view.enter(x), x), x, rtol=0, atol=1e-14)


def test_by_eulers_method_it_is_the_enlarged_network(x):
    """Only the prediction is resized, as the state comes back as it was: one of a network that is no filter."""

    def forward(z, t, condition):
        return torch.tanh(z + 0.3 * z.roll(1, -1) * z.roll(1, -2))

    schedule = Schedule.scaled_linear()
    large, small = (
        Network(f, schedule, "epsilon", "image")(None) for f in (enlarged(forward, 4), forward)
    )
    x = 14 * x[..., :2, :].repeat(1, 1, 1, 1, 2)  # b c f 2 2, of which twice is 4 x 4
    viewed = integrate(small, evs(SIGMAS, range(8), None, None, 2), x)
    torch.testing.assert_close(viewed.x, integrate(large, plain(SIGMAS), x).x, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("image_steps", "share"), [([5], 1 / 3), ([4, 5], 2 / 3)])
def test_its_limit_is_a_mixture_by_the_share_of_steps(image_steps, share, pair):
    legs = evs(torch.arange(12, 0, -1), image_steps, 2.0, 1.5, enlarge=1)
    found = limit(pair, [leg for leg in legs if 3 <= leg.step < 6]).denoise
    expected = mixture(**pair, guidance=2.0, image_scale=1.5, image_weight=share)
    weights = dict(zip((atom for atom, _ in expected.terms), expected.weights(1.0), strict=True))
    assert dict(zip((atom for atom, _ in found.terms), found.weights(1.0), strict=True)) == pytest.approx(weights)


def test_enlarged_steps_converge_to_the_mixture_with_the_enlarged_image_model(slopes):
    """Of mixtures, to which k x k times the pixels are k x k times the evidence: another field than at k = 1."""
    both = closed_form_pair(frames=2)
    video, image = both["video"].at(2.0), both["image"].cond
    view = magnified(2)
    large = as_affine(lambda x, sigma: view.leave(image(view.enter(x), sigma), x), "image")
    x = HIGH * torch.randn(2, 1, 2, 2, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    way = torch.tensor([HIGH, LOW])
    truth, other = (reference(0.5 * video + 0.5 * field, x, way, tolerance=1e-9) for field in (large, image))

    def end(n):
        sigmas = Schedule.ve(LOW, HIGH).grid(n + 1, "uniform-lam")[:-1]
        return integrate({"video": video, "image": image}, evs(sigmas, range(1, n, 2), None, None), x).x

    assert slopes(lambda n: (end(n) - truth).norm(), [320, 640]) == pytest.approx([1.0], abs=0.15)
    assert (truth - other).norm() > 10 * (end(640) - truth).norm()


@pytest.mark.parametrize(
    ("options", "name"),
    [({"image_steps": [8]}, "image_steps"), ({"image_steps": [1], "enlarge": 0}, "enlarge"),
     ({"image_steps": [1], "image_guidance": "7"}, "image_guidance")],
)  # fmt: skip
def test_what_cannot_be_is_refused(options, name):
    with pytest.raises(ValueError, match=name):
        evs(SIGMAS, **options)
