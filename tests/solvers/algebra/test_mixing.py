"""Weighted sums of states: what they are, which of them are states, and what a run does with them."""

import math

import pytest
import torch

from ivmix.solvers import HERE, Heun, LowPass, Mix, Schedule, integrate, invert, keeping, mixing, plain, planned_nfe
from ivmix.solvers.plans.legs import Leg
from ivmix.solvers.steps.onestep import Euler
from ivmix.solvers.theory.analytic import reference

SIGMAS = torch.tensor([8.0, 4.0, 2.0, 0.5], dtype=torch.float64)


def steps(weight, sigmas=SIGMAS, solver=None):
    """A run whose every step is a sum of the two networks' steps."""
    plan = []
    for i, (source, target) in enumerate(zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)):
        image, video = (Leg(n, n, source, source, target, None, solver or Euler(), i) for n in ("image", "video"))
        plan += [
            keeping(source, "begin", i),
            image,
            keeping(target, "image", i),
            mixing(target, source, {"begin": 1.0}, i, label="back"),
            video,
            mixing(target, target, {"image": weight, HERE: 1 - weight}, i),
        ]
    return plan


@pytest.fixture
def fields(pair):
    return {"image": pair["image"].at(1.5), "video": pair["video"].at(2.0)}


def test_mixed_euler_steps_are_the_euler_step_of_the_mixed_field(fields, x):
    run = integrate(fields, steps(0.3), 8 * x)
    mixture = 0.3 * fields["image"] + 0.7 * fields["video"]
    torch.testing.assert_close(run.x, integrate(mixture, plain(SIGMAS), 8 * x).x, rtol=0, atol=1e-13)
    assert run.nfe == planned_nfe(steps(0.3)) == {"image": 3, "video": 3}


def test_weights_may_differ_from_frame_to_frame(fields, x):
    """As between Diffusion²'s views and video (arXiv 2404.02148): each frame is its own mixture's."""
    shares = torch.tensor([0.0, 0.3, 0.8, 1.0], dtype=torch.float64)
    run = integrate(fields, steps(shares.reshape(4, 1, 1))[:6], 8 * x)
    for k, share in enumerate(shares.tolist()):
        one = integrate(fields, steps(share)[:6], 8 * x)
        torch.testing.assert_close(run.x[:, :, k], one.x[:, :, k], rtol=0, atol=1e-13)


def test_weights_may_be_linear_maps(x):
    low = LowPass()
    legs = [keeping(8.0, "a", 0), mixing(8.0, 8.0, {"a": low, HERE: lambda y: y - low(y)}, 0)]
    torch.testing.assert_close(integrate({}, legs, x).x, x, rtol=0, atol=1e-14)


def test_states_of_pure_noise_mix_too(x):
    """x - x0 is sigma·eps; divided by sigma it is the state at inf, from which a state at any level can be made."""
    legs = [
        keeping(2.0, "noisy", 0),
        Leg("video", "clip", 2.0, 2.0, 0.0, None, Euler(), 0),
        keeping(0.0, "clip", 0),
        mixing(0.0, math.inf, {"noisy": 0.5, "clip": -0.5}, 0, "eps"),
        mixing(math.inf, 3.0, {"clip": 1.0, "eps": 3.0}, 0),
    ]
    run = integrate(lambda x, sigma: x / 4, legs, x)
    torch.testing.assert_close(run.x, x / 4 + 3 * (x - x / 4) / 2)


def test_what_a_run_says_of_a_mix_is_that_nothing_was_asked(fields, x):
    run = integrate(fields, steps(0.3), 8 * x, trace=True)
    asked = [record for record in run.trace if record.told]
    assert len(asked) == 6
    assert all(record.leg.mix is None and record.x0 is not None for record in asked)
    assert all(record.x0 is None for record in run.trace if record.leg.mix)


def test_a_plan_shows_its_sums():
    assert [str(leg)[4:] for leg in steps(0.3)[:6]] == [
        "keep      states 8 -> 8 = here as begin",
        "image     image  8 -> 4",
        "keep      states 4 -> 4 = here as image",
        "back      states 4 -> 8 = begin",
        "video     video  8 -> 4",
        "mix       states 4 -> 4 = 0.3·image + 0.7·here",
    ]


def test_gradients_reach_the_states_that_are_kept(fields, x):
    at = (8 * x).requires_grad_()
    integrate(fields, steps(0.3), at).x.sum().backward()
    mixed = 8 * x.clone()
    mixed.requires_grad_()
    integrate(0.3 * fields["image"] + 0.7 * fields["video"], plain(SIGMAS), mixed).x.sum().backward()
    torch.testing.assert_close(at.grad, mixed.grad)


@pytest.mark.parametrize(
    ("legs", "message"),
    [
        ([mixing(8.0, 8.0, {"clip": 1.0}, 3)], "leg 'mix' of step 3 mixes 'clip', which no leg before it keeps"),
        ([mixing(8.0, 8.0, {HERE: 0.5}, 0)], "has 0.5 of x0, where a state at 8 has 1"),
        ([mixing(8.0, 4.0, {HERE: 1.0}, 0)], "has 8 of noise, where a state at 4 has 4"),
        (
            [keeping(8.0, "a", 0), mixing(8.0, 8.0, {"a": torch.tensor([0.5, 0.6]).reshape(2, 1, 1), HERE: 0.5}, 0)],
            "has 1 to 1.1 of x0",
        ),
        ([mixing(8.0, 4.0, {HERE: LowPass()}, 0)], "expected all states at 4, where it goes"),
    ],
)
def test_sums_that_are_no_states_are_refused_before_anything_is_evaluated(legs, message, x):
    with pytest.raises(ValueError, match=message):
        integrate(lambda x, sigma: pytest.fail("evaluated"), [*legs, *plain(torch.tensor([legs[-1].target, 0.0]))], x)


def test_what_is_no_mix_is_refused():
    with pytest.raises(ValueError, match="weights: got none"):
        Mix({})
    with pytest.raises(ValueError, match="weights: got nan of 'here'"):
        Mix({HERE: math.nan})
    with pytest.raises(ValueError, match="name: got 'here'"):
        Mix({HERE: 1.0}, HERE)
    with pytest.raises(ValueError, match="mix: got Mix"):
        Leg("video", "mix", 8.0, 8.0, 8.0, None, Euler(), 0, mix=Mix({HERE: 1.0}))
    with pytest.raises(ValueError, match="mixes states and has no inverse"):
        invert([keeping(8.0, "a", 0)])


def test_a_solver_of_higher_order_mixes_at_first_order(fields, x, slopes):
    """Sums of Heun's steps are steps of the mixed field but for their products: Lie's splitting, of order 1."""
    mixture = 0.3 * fields["image"] + 0.7 * fields["video"]
    truth = reference(mixture, 8 * x, torch.tensor([8.0, 0.2]), tolerance=1e-10)

    def error(n):
        sigmas = Schedule.ve(0.2, 8.0).grid(n + 1, "uniform-lam")[:-1]
        return (integrate(fields, steps(0.3, sigmas, Heun()), 8 * x).x - truth).norm()

    assert slopes(error, [80, 160]) == pytest.approx([1.0], abs=0.1)
