"""A plan as a denoiser: which x0 it gives, what it costs, and what it is the limit of."""

import math

import pytest
import torch

from ivmix.solvers import (
    Affine,
    Guided,
    Heun,
    Nested,
    RecordedNoise,
    Schedule,
    as_affine,
    few_step,
    integrate,
    mixture,
    normal_noise,
    plain,
    planned_nfe,
    switched,
)
from ivmix.solvers.theory.analytic import reference

HIGH, LOW = 8.0, 0.2
SIGMAS = torch.tensor([8.0, 4.0, 1.0, 0.0], dtype=torch.float64)


def shrinking(*ratios, guidance=None, solver=None):
    """A plan from sigma over its shares `ratios` to 0."""
    return lambda sigma: plain(torch.tensor([sigma, *(r * sigma for r in ratios), 0.0]), guidance, solver)


def test_of_one_step_it_is_its_field(pair, x):
    nested = Nested(pair, shrinking(guidance=2.0))
    assert torch.equal(nested(x, 3.0), pair["video"].at(2.0)(x, torch.tensor(3.0, dtype=torch.float64)))
    assert torch.equal(nested(x, math.inf), pair["video"].at(2.0)(x, math.inf))


@pytest.mark.parametrize("solver", [None, Heun()], ids=["Euler", "Heun"])
def test_a_run_costs_what_it_and_the_plans_inside_it_ask(solver, pair, x):
    """Three steps of a field that asks twice or, inside as well, in five evaluations by Heun's method."""
    nested = Nested(pair, shrinking(0.5, guidance=2.0, solver=solver))
    inner = 3 if solver else 2
    run = integrate(nested, plain(SIGMAS, solver=solver), 8 * x, trace=True)
    assert run.nfe == planned_nfe(plain(SIGMAS, solver=solver), nested) == {"video": inner * (5 if solver else 3)}
    assert run.forwards == {"video": 2 * run.nfe["video"]}
    each = (2, 2, 1) if solver else (1, 1, 1)
    assert [record.forwards["video"] for record in run.trace] == [2 * inner * times for times in each]


def test_networks_inside_are_counted_under_their_own_names(pair, x):
    field = switched([pair["video"].at(2.0), pair["image"].at(1.5)], [2.0])
    nested = Nested(field, shrinking(0.5, 0.25))
    assert nested.planned(8.0) == nested.run(x, 8.0).nfe == {"video": 2, "image": 1}
    run = integrate({"outer": nested}, plain(SIGMAS, network="outer"), 8 * x)
    assert run.nfe == planned_nfe(plain(SIGMAS, network="outer"), {"outer": nested}) == {"video": 3, "image": 6}


def test_as_an_atom_it_combines_and_a_call_is_one_under_its_name(pair, x):
    student, teacher = pair["image"].at(1.5), as_affine(Nested(pair, shrinking(0.5, guidance=2.0)), "teacher")
    both = 0.7 * student + 0.3 * teacher
    assert isinstance(both, Affine)
    expected = 0.7 * student(x, 3.0) + 0.3 * Nested(pair, shrinking(0.5, guidance=2.0))(x, 3.0)
    torch.testing.assert_close(both(x, 3.0), expected, rtol=0, atol=1e-14)
    assert integrate(both, plain(SIGMAS), x).nfe == {"image": 3, "teacher": 3}


def test_of_ever_more_steps_it_is_the_end_of_the_trajectory_from_anywhere_on_it(pair, x):
    """A consistency function: what it says does not depend on where along the way it is asked."""
    field = pair["video"].at(2.0)
    fine = lambda sigma: plain(torch.cat([Schedule.ve(1e-4, sigma).grid(200, "uniform-lam")]), None, Heun())  # noqa: E731
    nested = Nested(field, fine)
    middle = reference(field, HIGH * x, torch.tensor([HIGH, 1.0]))
    torch.testing.assert_close(nested(HIGH * x, HIGH), nested(middle, 1.0), rtol=0, atol=5e-3)


def test_a_fixed_number_of_steps_of_a_run_is_one_evaluation_in_the_limit(pair, x, slopes):
    """Whose levels are the run's: they all tend to the first of them, at first order, and what is mixed with such a
    teacher to a mixture of networks."""
    student, teacher = pair["video"].at(2.0), pair["image"].at(1.5)
    field = mixture(pair["image"], pair["video"], 2.0, 1.5, 0.3)
    truth = reference(field, HIGH * x, torch.tensor([HIGH, LOW]), tolerance=1e-10)

    def error(n):
        ratio = (LOW / HIGH) ** (1 / n)
        inner = as_affine(Nested(teacher, shrinking(ratio**2, ratio**4)), "teacher")
        sigmas = Schedule.ve(LOW, HIGH).grid(n + 1, "uniform-lam")[:-1]
        return (integrate(Guided(student, inner), plain(sigmas, 0.3), HIGH * x).x - truth).norm()

    assert slopes(error, [80, 160]) == pytest.approx([1.0], abs=0.1)


def test_it_may_draw_noise_of_its_own(pair, x):
    shape = tuple(x.shape[1:])
    plan = lambda sigma: few_step(torch.tensor([sigma, sigma / 2, 0.0]), 2.0)  # noqa: E731
    with pytest.raises(ValueError, match="adds fresh noise"):
        Nested(pair, plan)(x, 3.0)
    recorded = RecordedNoise(normal_noise([0, 1], shape))
    found = Nested(pair, plan, recorded)(x, 3.0)
    (xi,) = recorded.draws.values()
    field = pair["video"].at(2.0)
    torch.testing.assert_close(found, field(field(x, 3.0) + 1.5 * xi, 1.5))


def test_gradients_reach_the_state_through_all_of_its_steps(pair, x):
    nested = Nested(pair, shrinking(0.5, guidance=2.0))
    assert torch.autograd.gradcheck(lambda y: nested(y, 3.0), x[:1].clone().requires_grad_())


@pytest.mark.parametrize(
    "plan", [lambda sigma: [], lambda sigma: plain(SIGMAS), lambda sigma: plain(torch.tensor([sigma, sigma / 2]))]
)
def test_a_plan_that_does_not_lead_to_0_from_where_it_is_asked_is_refused(plan, pair, x):
    with pytest.raises(ValueError, match=r"plan: got legs .* at 3, expected some from there to 0"):
        Nested(pair["video"].at(2.0), plan)(x, 3.0)
