"""Plans of legs: pure lists, checked without a network."""

import math
from itertools import pairwise

import pytest
import torch

from ivmix.solvers import (
    Euler,
    GuidanceRamp,
    Heun,
    IVMixed,
    Leg,
    Schedule,
    composite,
    parse_pattern,
    plain,
    planned_nfe,
)

SIGMAS = Schedule.scaled_linear().grid(10)
sequences = pytest.mark.parametrize("sequence", ["down-first", "up-first"])


def moves(legs, step):
    index = {level: i for i, level in enumerate(SIGMAS.tolist())}
    return [(leg.label, index[leg.source], index[leg.target], leg.guidance) for leg in legs if leg.step == step]


def test_down_first_plays_the_authors_order():
    assert moves(IVMixed(guidance=7.5, image_guidance=3.0, video_guidance=5.0).legs(SIGMAS), 4) == [
        ("I down 1", 4, 5, 3.0),
        ("V down 2", 5, 6, 5.0),
        ("I up 1", 6, 5, -3.0),
        ("V up 2", 5, 4, -5.0),
        ("step", 4, 5, 7.5),
    ]


def test_up_first_plays_the_papers_figure():
    legs = IVMixed(sequence="up-first", guidance=7.5, image_guidance=3.0, video_guidance=5.0).legs(SIGMAS)
    assert moves(legs, 4) == [
        ("I up 1", 4, 3, -3.0),
        ("V up 2", 3, 2, -5.0),
        ("I down 1", 2, 3, 3.0),
        ("V down 2", 3, 4, 5.0),
        ("step", 4, 5, 7.5),
    ]


@sequences
@pytest.mark.parametrize("n", [3, 10, 50])
def test_evaluations_are_5_n_minus_2_plus_2(sequence, n):
    counts = planned_nfe(IVMixed(sequence=sequence).legs(Schedule.scaled_linear().grid(n)))
    assert counts["image"] == 2 * (n - 2)
    assert counts["video"] == 3 * (n - 2) + 2


def test_plain_steps_stand_where_legs_would_leave_the_grid():
    def plain_steps(sequence):
        legs = IVMixed(sequence=sequence).legs(SIGMAS)
        return [step for step in range(10) if len(moves(legs, step)) == 1]

    assert plain_steps("down-first") == [8, 9]
    assert plain_steps("up-first") == [0, 1]


@sequences
@pytest.mark.parametrize("pattern", ["I-V", "R-I", "IV-IV", "RV-IV", "VIV-IVI"])
@pytest.mark.parametrize("n", [1, 2, 3, 12])
def test_legs_join_end_to_end_on_the_grid(sequence, pattern, n):
    sigmas = Schedule.scaled_linear().grid(n)
    legs = IVMixed(pattern, sequence).legs(sigmas)
    levels = set(sigmas.tolist())
    assert all(leg.source in levels and leg.target in levels and leg.told == leg.source for leg in legs)
    assert all(a.target == b.source for a, b in pairwise(legs))
    assert (legs[0].source, legs[-1].target) == (sigmas[0], sigmas[-1])
    assert all(leg.label == "step" for leg in legs if leg.target == 0)
    assert [leg.step for leg in legs if leg.label == "step"] == list(range(n))


@sequences
def test_no_mixed_leg_touches_infinity(sequence):
    legs = IVMixed(sequence=sequence).legs(Schedule.rectified_flow().grid(6))
    mixed = [leg for leg in legs if leg.label != "step"]
    assert mixed
    assert all(math.isfinite(leg.source) and math.isfinite(leg.target) for leg in mixed)


def test_noise_legs_have_no_network():
    legs = IVMixed("RV-IV").legs(SIGMAS)
    assert [leg.network for leg in legs[:5]] == ["image", "video", None, "video", "video"]
    assert legs[2].guidance is None
    assert planned_nfe(legs) == {"image": 8, "video": 26}


def test_schedules_are_functions_of_progress():
    ramp = GuidanceRamp(4.0, 1.0, 1.0)
    legs = IVMixed(image_guidance=ramp, guidance=lambda u: 10 * u).legs(SIGMAS)
    for leg in legs:
        u = leg.step / 9
        if leg.label == "step":
            assert leg.guidance == 10 * u
        elif leg.network == "image":
            assert abs(leg.guidance) == ramp(u)


@pytest.mark.parametrize(
    ("interval", "mixed"),
    [
        ((0.0, 1.0), range(2, 10)),
        ((0.0, 4 / 9), range(2, 4)),  # half-open
        ((4 / 9, 6 / 9), range(4, 6)),
        ((0.5, 1.0), range(5, 10)),  # closed at 1
    ],
)
def test_the_interval_is_half_open_in_progress(interval, mixed):
    legs = IVMixed(sequence="up-first", interval=interval).legs(SIGMAS)
    assert [step for step in range(10) if len(moves(legs, step)) == 5] == list(mixed)


def test_period_replaces_the_image_network():
    legs = IVMixed(period=3, image_guidance=1.0, video_guidance=2.0).legs(SIGMAS)
    for step in range(8):
        first = next(leg for leg in legs if leg.step == step)
        assert (first.network, first.guidance) == (("video", 2.0) if step % 3 == 2 else ("image", 1.0))
    assert "image" not in planned_nfe(IVMixed(period=1).legs(SIGMAS))


def test_levels_out_of_reach_are_plain_steps():
    low, high = SIGMAS[7].item(), SIGMAS[3].item()
    legs = IVMixed().legs(SIGMAS, reach={"image": (low, high)})
    # the image network is told levels i and i + 2
    assert [step for step in range(10) if len(moves(legs, step)) == 5] == [3, 4, 5]
    with pytest.raises(ValueError, match="video network's reach"):
        IVMixed().legs(SIGMAS, reach={"video": (low, high)})


def test_a_reach_of_unknown_networks_is_refused(pair):
    for build in (IVMixed().legs, lambda sigmas, reach: composite(**pair, reference=sigmas, reach=reach)):
        with pytest.raises(ValueError, match=r"reach: got the names \['imgae'\], expected 'image', 'video' or both"):
            build(SIGMAS, reach={"imgae": (0.1, 5.0), "video": (0.0, 20.0)})


def test_a_two_stage_solver_must_reach_both_ends():
    low, high = SIGMAS[7].item(), SIGMAS[3].item()
    legs = IVMixed(solver=Heun()).legs(SIGMAS, reach={"image": (low, high)})
    # down i -> i + 1 and up i + 2 -> i + 1: the same levels in all, i to i + 2
    assert [step for step in range(10) if len(moves(legs, step)) == 5] == [3, 4, 5]
    for solver, first in ((Euler(), 2), (Heun(), 3)):  # up i + 1 -> i: Heun's method asks for i too
        legs = IVMixed("I-V", solver=solver).legs(SIGMAS, reach={"image": (low, high)})
        assert [step for step in range(10) if len(moves(legs, step)) == 3] == list(range(first, 7))


def test_guidance_none_leaves_fields_as_they_are():
    legs = IVMixed(guidance=None, image_guidance=None, video_guidance=None).legs(SIGMAS)
    assert {leg.guidance for leg in legs} == {None}


def test_inner_and_ordinary_solver_are_separate():
    legs = IVMixed(solver=Heun(), step_solver=Euler()).legs(SIGMAS)
    assert {type(leg.solver) for leg in legs if leg.label == "step"} == {Euler}
    assert {type(leg.solver) for leg in legs if leg.label != "step"} == {Heun}


def test_plans_are_comparable_values():
    assert IVMixed().legs(SIGMAS) == IVMixed().legs(SIGMAS)
    only_steps = [leg for leg in IVMixed(guidance=7.5).legs(SIGMAS) if leg.label == "step"]
    assert only_steps == plain(SIGMAS, 7.5)


def test_symmetrised_legs_are_a_palindrome_within_their_step():
    legs = [leg for leg in IVMixed(guidance=7.5, symmetrised=True).legs(SIGMAS) if leg.step == 4]
    a, b = SIGMAS[4].item(), SIGMAS[5].item()
    m = (a + b) / 2
    assert [(leg.label, leg.network, leg.source, leg.target, leg.guidance) for leg in legs] == [
        ("I down 1", "image", a, m, 4.0),
        ("V down 2", "video", m, b, 4.0),
        ("I up 1", "image", b, m, -4.0),
        ("V up 2", "video", m, a, -4.0),
        ("step", "video", a, b, 7.5),
        ("V up 2'", "video", b, m, -4.0),
        ("I up 1'", "image", m, a, -4.0),
        ("V down 2'", "video", a, m, 4.0),
        ("I down 1'", "image", m, b, 4.0),
    ]
    assert all(leg.told == leg.source for leg in legs)


@sequences
@pytest.mark.parametrize("pattern", ["I-V", "IV-IV", "RV-IV", "VIV-IVI"])
@pytest.mark.parametrize("schedule", [Schedule.scaled_linear(), Schedule.rectified_flow()], ids=["vp", "flow"])
def test_symmetrised_legs_join_end_to_end(sequence, pattern, schedule):
    sigmas = schedule.grid(8)
    legs = IVMixed(pattern, sequence, symmetrised=True).legs(sigmas)
    assert all(a.target == b.source for a, b in pairwise(legs))
    assert (legs[0].source, legs[-1].target) == (sigmas[0], 0)
    assert [leg.step for leg in legs if leg.label == "step"] == list(range(8))
    mixed = [leg for leg in legs if leg.label != "step"]
    assert len(mixed) == 4 * pattern.index("-") * len({leg.step for leg in mixed})
    assert all(math.isfinite(leg.source) and leg.target > 0 for leg in mixed)
    # a leg's two halves add up to a whole move: forward at the one end of the step, mirrored at the other
    first, last = mixed[0], [leg for leg in mixed if leg.step == mixed[0].step][-1]
    assert last.label == first.label + "'"
    assert (first.source > first.target) == (last.source > last.target)


def test_symmetrised_steps_take_their_guidance_in_the_middle():
    legs = IVMixed(guidance=lambda u: u, symmetrised=True).legs(SIGMAS)
    steps = [leg.guidance for leg in legs if leg.label == "step"]
    assert steps == [min(1.0, (i + 0.5) / 9) for i in range(10)]
    assert IVMixed(guidance=lambda u: u, symmetrised=True).legs(SIGMAS[-2:])[0].guidance == 0.0


def test_symmetrised_levels_out_of_reach_are_plain_steps():
    low, high = SIGMAS[7].item(), SIGMAS[3].item()
    legs = IVMixed(symmetrised=True).legs(SIGMAS, reach={"image": (low, high)})
    assert [step for step in range(10) if len([leg for leg in legs if leg.step == step]) == 9] == [3, 4, 5, 6]


ILLEGAL = ["", "-", "IV", "IV-", "-IV", "IV-I", "I-IV", "IR-IR", "I-R", "IX-IV", "iv-iv", "I-V-I", "IV IV", None, 4]


@pytest.mark.parametrize("pattern", ILLEGAL)
def test_illegal_patterns_are_refused(pattern):
    with pytest.raises(ValueError, match=r"pattern: got .* such as 'IV-IV'"):
        IVMixed(pattern)


def test_every_legal_pattern_of_two_letters_parses():
    legal = [f"{a}{b}-{c}{d}" for a in "RIV" for b in "RIV" for c in "IV" for d in "IV"]
    assert [parse_pattern(pattern) for pattern in legal] == [tuple(pattern.split("-")) for pattern in legal]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"sequence": "upfirst"}, "sequence"),
        ({"interval": (0.5, 0.5)}, "interval"),
        ({"interval": (0.2, 1.2)}, "interval"),
        ({"interval": (math.nan, 1.0)}, "interval"),
        ({"interval": 0.5}, "interval"),
        ({"period": 0}, "period"),
        ({"period": 2.5}, "period"),
    ],
)
def test_bad_options_are_refused(options, name):
    with pytest.raises(ValueError, match=name):
        IVMixed(**options)


def test_nan_guidance_is_refused():
    with pytest.raises(ValueError, match="guidance: got nan"):
        IVMixed(guidance=math.nan).legs(SIGMAS)


def test_rising_grids_are_refused():
    with pytest.raises(ValueError, match="rising"):
        IVMixed().legs(torch.tensor([1.0, 2.0]))


def test_a_leg_prints_as_one_line():
    leg = Leg("video", "step", 2.0, 1.0, 0.5, 7.5, Euler(), 3)
    assert str(leg) == "  3 step      video  1 -> 0.5 (told 2) +7.5"
