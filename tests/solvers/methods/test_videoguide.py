"""VideoGuide: the loop, what it costs, that it is CFG++ of a student and a teacher, and where it converges to."""

import math

import pytest
import torch

from ivmix.solvers import (
    Guided,
    Nested,
    Schedule,
    as_affine,
    cfgpp,
    integrate,
    normal_noise,
    plain,
    planned_nfe,
    videoguide,
)
from ivmix.solvers.theory.analytic import reference

SCHEDULE = Schedule.scaled_linear()
SIGMAS = SCHEDULE.grid(8)
HIGH, LOW = 8.0, 0.2


def noise(x):
    """The same draws every time."""
    return normal_noise(range(len(x)), tuple(x.shape[1:]))


def first(k, n=8):
    """The interval of the first k of n steps."""
    return (0.0, k / (n - 1)) if k < n else (0.0, 1.0)


def test_the_papers_loop_in_its_own_symbols(pair, x):
    """DDIM with x0 drawn towards the teacher's: three of its steps, two of the run's long, from x0 under new noise."""
    alpha_bar = torch.cat([SCHEDULE.alpha_at(SIGMAS[:-1]) ** 2, torch.ones(1, dtype=torch.float64)])
    student, teacher = pair["video"].at(2.0), pair["image"].at(1.5)
    fresh = noise(x)

    def split(z, field, i):
        a, s = alpha_bar[i].sqrt(), (1 - alpha_bar[i]).sqrt()
        x0 = field(z / a, SIGMAS[i])
        return x0, (z - a * x0) / s

    def join(x0, e, i):
        return alpha_bar[i].sqrt() * x0 + (1 - alpha_bar[i]).sqrt() * e

    z = x
    for i in range(8):
        x0, e = split(z, student, i)
        if i < 3:
            y = join(x0, fresh(None, None).to(x), i)
            for j in (i, i + 2, i + 4):
                lesson, e_teacher = split(y, teacher, j)
                y = join(lesson, e_teacher, j + 2) if j < i + 4 else y
            x0 = x0 + 0.2 * (lesson - x0)
        z = join(x0, e, i + 1)
    legs = videoguide(SIGMAS, 2.0, 1.5, 0.2, first(3), 3, teacher="image")
    run = integrate(pair, legs, SCHEDULE.start(x, SIGMAS[0]), noise=noise(x))
    torch.testing.assert_close(run.x, z, rtol=0, atol=1e-12)
    assert run.nfe == planned_nfe(legs) == {"video": 8, "image": 9}


@pytest.mark.parametrize(
    ("options", "nfe"),
    [
        ({"interval": first(5)}, {"video": 8 + 4 + 4 + 3 + 3 + 2}),  # two of the run's long, to the end of the grid
        ({"teacher_steps": 3, "interval": first(2)}, {"video": 8 + 6}),
        ({"interval": (0.1, 0.12)}, {"video": 8}),
        ({"interval": (0.7, 0.8), "stride": 1}, {"video": 8 + 3}),
        ({"teacher": "image", "stride": 1, "interval": first(8)}, {"video": 8, "image": 36}),
    ],
)
def test_every_step_of_the_teachers_is_counted_where_the_grid_has_it(options, nfe, pair, x):
    legs = videoguide(SIGMAS, 2.0, 1.5, **options)
    assert integrate(pair, legs, x, noise=noise(x)).nfe == planned_nfe(legs) == nfe


@pytest.mark.parametrize("sigmas", [SIGMAS, Schedule.rectified_flow().grid(8)], ids=["vp", "from pure noise"])
def test_without_fresh_noise_it_is_cfgpp_whose_condition_is_the_teacher(sigmas, pair, x):
    def lessons(sigma):
        i = sigmas.tolist().index(sigma)
        return plain(torch.cat([sigmas[:-1][i::2][:3], torch.zeros(1)]), 1.5, network="image")

    field = Guided(pair["video"].at(2.0), as_affine(Nested(pair, lessons), "teacher"))
    expected = integrate(field, cfgpp(sigmas, 0.2)[:4], x).x
    legs = [leg for leg in videoguide(sigmas, 2.0, 1.5, 0.2, first(4), 3, fresh=False, teacher="image") if leg.step < 4]
    torch.testing.assert_close(integrate(pair, legs, x).x, expected, rtol=0, atol=1e-12)


def end(pair, n, x, source=None, **options):
    sigmas = Schedule.ve(LOW, HIGH).grid(n + 1, "uniform-lam")[:-1]
    return integrate(pair, videoguide(sigmas, 2.0, 1.5, 0.2, first(3, n), 4, **options), HIGH * x, noise=source).x


@pytest.mark.parametrize("fresh", [True, False])
def test_it_converges_to_the_students_flow_from_a_start_that_is_pushed_at_the_first_level(fresh, pair, x, slopes):
    """At first order: all guided steps tend to the first level, all of the teacher's to one evaluation."""
    student, teacher, draw = pair["video"].at(2.0), pair["image"].at(1.5), noise(x)
    at = HIGH * x
    for _ in range(3):
        x0 = student(at, HIGH)
        y = x0 + HIGH * draw(None, None).to(x) if fresh else at
        at = at + 0.2 * (teacher(y, HIGH) - x0)
    truth = reference(student, at, torch.tensor([HIGH, LOW]), tolerance=1e-10)

    def error(n):
        return (end(pair, n, x, noise(x), fresh=fresh, teacher="image") - truth).norm()

    assert slopes(error, [160, 320]) == pytest.approx([1.0], abs=0.1)


def test_a_teacher_that_is_the_student_changes_nothing_in_the_limit_but_by_its_noise(pair, x, slopes):
    alone = reference(pair["video"].at(2.0), HIGH * x, torch.tensor([HIGH, LOW]), tolerance=1e-10)
    same = {"video": pair["video"].at(2.0)}

    def error(n, fresh):
        sigmas = Schedule.ve(LOW, HIGH).grid(n + 1, "uniform-lam")[:-1]
        legs = videoguide(sigmas, None, None, 0.2, first(3, n), 4, fresh=fresh)
        return (integrate(same, legs, HIGH * x, noise=noise(x)).x - alone).norm()

    assert slopes(lambda n: error(n, False), [160, 320]) == pytest.approx([1.0], abs=0.1)
    assert error(640, True) > 0.6 * error(160, True)  # a quarter, if it vanished


def test_by_itself_it_guides_the_first_5_of_50_steps_as_the_authors_do():
    legs = videoguide(SCHEDULE.grid(50))
    assert {leg.step for leg in legs if leg.label == "teacher"} == set(range(5))
    assert planned_nfe(legs) == {"video": 100}


def test_at_weight_0_it_is_the_student_alone(pair, x):
    run = integrate(pair, videoguide(SIGMAS, 2.0, 1.5, 0.0), 8 * x, noise=noise(x))
    torch.testing.assert_close(run.x, integrate(pair, plain(SIGMAS, 2.0), 8 * x).x, rtol=0, atol=1e-12)


def test_a_last_step_that_is_guided_ends_at_x0(pair, x):
    legs = videoguide(SIGMAS, 2.0, 1.5, 0.2, first(8), 2)
    run = integrate(pair, legs, 14 * x, noise=noise(x), trace=True)
    x0, lesson = ([r.x for r in run.trace if r.leg.label == label][-1] for label in ("step", "teacher"))
    torch.testing.assert_close(run.x, 0.8 * x0 + 0.2 * lesson, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": math.nan}, "weight: got nan"),
        ({"interval": (0.5, 0.2)}, "interval: got"),
        ({"teacher_steps": 0}, "teacher_steps: got 0"),
        ({"stride": 0}, "stride: got 0"),
        ({"teacher_guidance": "7"}, "teacher_guidance: got '7'"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        videoguide(SIGMAS, **options)
