"""The one statement about plans of legs: what any pattern of them converges to, at first order."""

import random
from dataclasses import replace

import pytest
import torch

from ivmix.solvers import (
    HERE,
    Affine,
    Euler,
    Heun,
    IVMixed,
    Leg,
    Schedule,
    View,
    autoguidance,
    composite,
    integrate,
    keeping,
    mixing,
    plain,
    w2sd,
    zsampling,
)
from ivmix.solvers.theory.analytic import reference
from ivmix.solvers.theory.limits import limit

HIGH, LOW = 8.0, 0.2
EVEN = torch.arange(12.0, 0, -1)  # levels of even steps, the last of which no plan steps to here


def period(plan, step=4, steps=1):
    """The legs of some outer steps in the middle of a plan."""
    return [leg for leg in plan if step <= leg.step < step + steps]


def weights(denoise, sigma=1.0):
    """The weight of every atom that has one."""
    found = zip((atom for atom, _ in denoise.terms), denoise.weights(sigma), strict=True)
    return {atom: weight for atom, weight in found if abs(weight) > 1e-12}


def same(ours, theirs):
    assert weights(ours) == pytest.approx(weights(theirs), abs=1e-12)


def walk(seed):
    """A random pattern: (network, guidance, levels moved), as a walk over levels that ends one down from its start."""
    rng = random.Random(seed)
    moves = [+1, -1] * rng.randint(1, 3) + [+1]
    rng.shuffle(moves)
    return [(rng.choice(["image", "video"]), round(rng.uniform(-0.6, 1.2), 2), move) for move in moves]


def walked(pattern, levels, solver):
    """A plan in which every outer step walks the pattern; plain where that leaves the grid."""
    offsets = [sum(move for *_, move in pattern[:j]) for j in range(len(pattern) + 1)]
    plan = []
    for i in range(len(levels) - 1):
        inside = i + min(offsets) >= 0 and i + max(offsets) < len(levels)
        moves = pattern if inside else [(*pattern[-1][:2], +1)]
        at = i
        for j, (network, guidance, move) in enumerate(moves):
            source, target = levels[at], levels[at + move]
            plan.append(Leg(network, f"{j}", source, source, target, guidance, solver, i))
            at += move
    return plan


@pytest.mark.parametrize("solver", [Euler(), Heun()], ids=["Euler", "Heun"])
@pytest.mark.parametrize("seed", range(4))
def test_any_pattern_of_legs_converges_to_its_limit_at_first_order(seed, solver, pair, x, slopes):
    """A pattern's share of each network, whatever the order of its legs and their solver. Networks do not commute."""
    pattern = walk(seed)
    truth = reference(limit(pair, period(walked(pattern, EVEN.tolist(), solver))).denoise, HIGH * x,
                      torch.tensor([HIGH, LOW]), tolerance=1e-9)  # fmt: skip

    def error(n):
        levels = Schedule.ve(LOW, HIGH).grid(n + 1, "uniform-lam")[:-1].tolist()
        return (integrate(pair, walked(pattern, levels, solver), HIGH * x).x - truth).norm()

    # c/n + d/n²: the local slope is 1 + O(1/n)
    assert slopes(error, [160, 320]) == pytest.approx([1.0], abs=0.1)


def test_a_random_pattern_does_not_converge_to_anothers_limit(pair, x):
    """So that the slopes above mean something."""
    a, b = (limit(pair, period(walked(walk(seed), EVEN.tolist(), Euler()))).denoise for seed in (0, 1))
    assert (a(HIGH * x, HIGH) - b(HIGH * x, HIGH)).norm() > 0.1


@pytest.mark.parametrize("sequence", ["down-first", "up-first"])
@pytest.mark.parametrize("pattern", ["I-I", "V-V", "IV-IV", "I-V", "VI-IV", "VIV-IVI", "R-I", "RV-IV", "RR-IV"])
@pytest.mark.parametrize("symmetrised", [False, True])
def test_iv_mixed_is_a_case(pattern, sequence, symmetrised, pair):
    scales = {"guidance": 2.0, "image_guidance": 0.6, "video_guidance": 0.4}
    plan = IVMixed(pattern, sequence, **scales, symmetrised=symmetrised).legs(EVEN)
    found = limit(pair, period(plan))
    expected = composite(**pair, pattern=pattern, **scales, reference=EVEN)
    same(found.denoise, expected.denoise)
    assert found.churn == pytest.approx(expected.churn)


def test_the_published_patterns_in_their_own_terms(pair):
    """I-I: w·d_V and 2·gamma of the image's direction; V-V: w + 2·gamma; IV-IV: both."""

    def found(pattern):
        plan = IVMixed(pattern, guidance=2.0, image_guidance=0.6, video_guidance=0.4).legs(EVEN)
        return limit(pair, period(plan)).denoise

    video, image = pair["video"], pair["image"]
    same(found("I-I"), video.at(2.0) + 1.2 * image.direction)
    same(found("V-V"), video.at(2.8))
    same(found("IV-IV"), video.at(2.8) + 1.2 * image.direction)


def test_a_period_of_several_steps_averages(pair):
    plan = IVMixed(guidance=2.0, period=3).legs(EVEN)
    expected = composite(**pair, guidance=2.0, period=3, reference=EVEN)
    same(limit(pair, period(plan, 3, steps=3)).denoise, expected.denoise)


def test_z_sampling_is_a_case(pair):
    found = limit(pair, period(zsampling(EVEN, 2.0, 0.5)))
    same(found.denoise, pair["video"].at(2.0 + (2.0 - 0.5)))


def test_w2sd_is_a_case(pair):
    found = limit(pair, period(w2sd(EVEN, 2.0, 0.5)))
    same(found.denoise, autoguidance(pair["video"].at(2.0), pair["image"].at(0.5), 2.0))
    assert isinstance(found.denoise, Affine)
    assert found.churn == 0


def forked(weight, i=0, source=8.0, target=7.0):
    """A step of each network from one state, and a weighted sum of where they lead."""
    image, video = (Leg(n, n, source, source, target, s, Euler(), i) for n, s in (("image", 0.6), ("video", 2.0)))
    back = mixing(target, source, {"begin": 1.0}, i)
    mix = mixing(target, target, {"image": weight, HERE: 1 - weight}, i)
    return [keeping(source, "begin", i), image, keeping(target, "image", i), back, video, mix]


def test_mixed_states_are_a_case(pair):
    same(limit(pair, forked(0.3)).denoise, 0.3 * pair["image"].at(0.6) + 0.7 * pair["video"].at(2.0))


def test_mixed_states_that_have_no_limit_are_refused(pair):
    with pytest.raises(ValueError, match="mixes 'image', which no leg before it keeps"):
        limit(pair, [*forked(0.3)[:2], *forked(0.3)[3:]])
    with pytest.raises(ValueError, match="weight of 'image' is no number"):
        limit(pair, forked(torch.tensor([0.3, 0.4])))
    noise = Leg(None, "noise", 7.0, 7.0, 8.0, None, Euler(), 0)
    with pytest.raises(ValueError, match="mixed beside fresh noise"):
        limit(pair, [*forked(0.3), noise, forked(0.3)[1]])


def test_a_leg_that_no_grid_makes_short_or_that_has_a_view_is_refused(pair):
    with pytest.raises(ValueError, match="'step' to or from 0"):
        limit(pair, plain(torch.tensor([1.0, 0.0]), 2.0))
    (leg,) = plain(torch.tensor([8.0, 7.0]), 2.0)
    with pytest.raises(ValueError, match="the view 'twice' of 'step'"):
        limit(pair, [replace(leg, view=View("twice", lambda x: x, lambda y, x: y))])


def test_what_has_no_limit_of_this_kind_is_refused(pair):
    legs = period(w2sd(EVEN, 2.0, 0.5))
    with pytest.raises(ValueError, match="moves sigma by 0"):
        limit(pair, legs[:2])
    with pytest.raises(ValueError, match="moves sigma by 0"):
        limit(pair, [])
    with pytest.raises(ValueError, match="lengths that sum to 2"):
        limit(pair, [legs[0], legs[2]])
    with pytest.raises(TypeError, match=r"fields\['image'\]: got a NoneType"):
        limit({"video": pair["video"]}, legs)
    with pytest.raises(ValueError, match="guidance None for a Guided"):
        limit(pair, plain(EVEN)[:1])
