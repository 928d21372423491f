import pytest

from ivmix.samplers.reading import sampling
from ivmix.solvers import GaussianLowPass, LowPass, Schedule, freeinit, freqprior, plain, planned_nfe
from ivmix.solvers.theory.analytic import closed_form_pair
from ivmix.sprites.training.recipe import DEFAULTS

GRID = Schedule.scaled_linear().grid(50)
PAIR = closed_form_pair()


def planned(sampler, **given):
    return sampling(DEFAULTS, {"sampler": sampler, "steps": 50, **given}).plan(**PAIR, sigmas=GRID)


def test_freqprior_is_freeinit_but_for_the_mix_of_noises():
    given = {"iterations": 2, "spatial_cutoff": 0.5, "temporal_cutoff": 0.3}
    alone, low = plain(GRID, 2.0), LowPass(0.5, 0.3)
    assert planned("freqprior", **given)[1] == freqprior(alone, 2, low)
    assert planned("freeinit", **given)[1] == freeinit(alone, 2, low)
    assert sampling(DEFAULTS, {"sampler": "freqprior", "steps": 5}).outer_steps == 15


def test_fdg_guides_the_finest_level_by_its_own_scale():
    field, legs = planned("fdg", guidance=2.0, detail_guidance=5.0, solver="dpm++2m")
    assert repr(field.weights(1.0)[1]) == "Filter(-3·Coarse(level=1) + 5)"
    assert {leg.guidance for leg in legs} == {None}


def test_videoelevator_refines_the_steps_and_has_the_scales_it_is_told():
    given = {"guidance": 2.0, "image_guidance": "3:1:1", "inversion_guidance": 0.5, "refining_steps": 6}
    fields, legs = planned("videoelevator", **given)
    looks = [leg for leg in legs if leg.label == "look"]
    assert [leg.step for leg in looks] == [5, 15, 25, 35]
    assert planned_nfe(legs) == {"image": 50 + 4 * (1 + 5), "video": 4 * 6}
    assert {leg.guidance for leg in legs if leg.label == "motion"} == {2.0}
    assert {leg.guidance for leg in legs if leg.label == "invert"} == {0.5}
    assert (legs[0].guidance, legs[-1].guidance) == (3.0, 1.0)
    assert set(fields) == {"image", "video"}
    assert looks[0].view.leave.linear == GaussianLowPass(1.0, 0.5)
    assert [leg.step for leg in planned("videoelevator", refinements=1)[1] if leg.label == "look"] == [5]


def test_videoelevator_has_one_solver():
    with pytest.raises(ValueError, match=r"solver 'heun': videoelevator is made of Euler's steps"):
        planned("videoelevator", solver="heun")
