"""Every method has a row, and what the row says of evaluations and limits is what its code does."""

import math
import re
from importlib import import_module

import pytest
import torch

from ivmix.solvers import (
    APG,
    MAMBOG,
    TCFG,
    Affine,
    CFGZeroStar,
    EulerAncestral,
    IVMixed,
    Official,
    Schedule,
    SuperDiffOr,
    autoguidance,
    bivdiff,
    cfgpp,
    composite,
    evs,
    fdg,
    freeinit,
    freqprior,
    i4vgen,
    mixture,
    pag,
    plain,
    planned_nfe,
    renewed,
    stg,
    switch,
    videoelevator,
    videoguide,
    w2sd,
    zsampling,
)
from ivmix.solvers.methods.catalogue import catalogue, files
from ivmix.solvers.theory.analytic import closed_form_pair
from ivmix.solvers.theory.limits import limit

PAIR = closed_form_pair()
VIDEO, IMAGE = PAIR["video"], PAIR["image"]
STRONG, WEAK = VIDEO.at(2.0), IMAGE.at(0.5)
EVEN = torch.arange(12.0, 0, -1)  # levels of even steps, the last of which no plan steps to here
SCALES = {"guidance": 2.0, "image_guidance": 0.6, "video_guidance": 0.4}
ROLES = {"strong": "video", "weak": "image", "perturbed": "image"}
FORMULA = {"w": 2.0, "gamma_I": 0.6, "gamma_V": 0.4, "D_V": VIDEO.at, "D_I": IMAGE.at, "d_I": IMAGE.direction,
           "D_s": STRONG, "D_w": WEAK, "D": VIDEO.at, "scale": 3.0, "m": 0.3, "w_I": 1.5, "gamma_1": 2.0,
           "gamma_2": 0.5, "D_c": VIDEO.cond, "D_p": WEAK}  # fmt: skip

PLANS = {  # a method's plan of a grid, and the fields that it is played with: None where each leg's network is its own
    "apg": lambda sigmas: (plain(sigmas, 2.0), APG(VIDEO)),
    "autoguidance": lambda sigmas: (plain(sigmas), autoguidance(STRONG, WEAK)),
    "bivdiff": lambda sigmas: (bivdiff(sigmas), None),
    "cfg_zero_star": lambda sigmas: (plain(sigmas, 2.0), CFGZeroStar(VIDEO)),
    "cfgpp": lambda sigmas: (cfgpp(sigmas), None),
    "composite": lambda sigmas: (plain(sigmas), composite(**PAIR, reference=sigmas)),
    "evs": lambda sigmas: (evs(sigmas, range(0, 10, 2)), None),
    "fdg": lambda sigmas: (plain(sigmas), fdg(VIDEO, (10.0, 5.0))),
    "freeinit": lambda sigmas: (freeinit(plain(sigmas)), None),
    "freqprior": lambda sigmas: (freqprior(plain(sigmas)), None),
    "i4vgen": lambda sigmas: (i4vgen(sigmas), None),
    "ivmixed": lambda sigmas: (IVMixed().legs(sigmas), None),
    "mambo_g": lambda sigmas: (plain(sigmas, 2.0), MAMBOG(VIDEO)),
    "mixture": lambda sigmas: (plain(sigmas), mixture(IMAGE, VIDEO, 2.0, 2.0, 0.3)),
    "official": lambda sigmas: (Official("animatediff", len(sigmas) - 1).legs(Official.schedule()), None),
    "pag": lambda sigmas: (plain(sigmas, 2.0), pag(VIDEO, WEAK)),
    "renewed": lambda sigmas: (renewed(plain(sigmas)), None),
    "stg": lambda sigmas: (plain(sigmas, 2.0), stg(VIDEO, WEAK)),
    "superdiff": lambda sigmas: (plain(sigmas, solver=EulerAncestral()), SuperDiffOr([VIDEO.cond, IMAGE.cond])),
    "switch": lambda sigmas: (switch(sigmas, ("video", "image"), [sigmas[2].item()]), None),
    "tcfg": lambda sigmas: (plain(sigmas, 2.0), TCFG(VIDEO)),
    "videoelevator": lambda sigmas: (videoelevator(sigmas), None),
    "videoguide": lambda sigmas: (videoguide(sigmas), None),
    "w2sd": lambda sigmas: (w2sd(sigmas), None),
    "zsampling": lambda sigmas: (zsampling(sigmas), None),
}


def computed(plan):
    """The limit of one step in the middle of a plan."""
    return limit(PAIR, [leg for leg in plan if leg.step == 4]).denoise


LIMITS = {  # what the theory, or the field itself, has of a limit that is a formula
    "autoguidance": lambda: autoguidance(STRONG, WEAK, 3.0),
    "composite": lambda: composite(**PAIR, **SCALES, reference=EVEN).denoise,
    "evs": lambda: limit(PAIR, evs(EVEN, (1, 4, 7), 2.0, 1.5, enlarge=1)[:10]).denoise,
    "ivmixed": lambda: computed(IVMixed(**SCALES).legs(EVEN)),
    "mixture": lambda: mixture(IMAGE, VIDEO, 2.0, 1.5, 0.3),
    "pag": lambda: pag(VIDEO, WEAK, 3.0).at(2.0),
    "stg": lambda: stg(VIDEO, STRONG, 3.0).at(2.0),
    "w2sd": lambda: computed(w2sd(EVEN, 2.0, 0.5)),
    "zsampling": lambda: computed(zsampling(EVEN, 2.0, 0.5)),
}


def test_every_file_of_a_method_has_a_row():
    lacking = [name for name in files() if not hasattr(import_module(f"ivmix.solvers.methods.{name}"), "METHOD")]
    assert not lacking, "METHOD = Method(...), see ivmix.solvers.methods.catalogue"


@pytest.mark.parametrize("steps", [30, 50])
@pytest.mark.parametrize("name", files())
def test_the_evaluations_are_those_of_the_plan(name, steps):
    planned = planned_nfe(*PLANS[name](Schedule.scaled_linear().grid(steps)))
    told = {ROLES.get(network, network): at(steps, text) for network, text in catalogue()[name].evaluations.items()}
    assert told == ({"all": sum(planned.values())} if "all" in told else planned)


def at(n, formula):
    """A formula of n, as it is written."""
    return eval(re.sub(r"(?<=\d)n", "·n", formula).replace("·", "*"), {"n": n, "floor": math.floor, "ceil": math.ceil})


@pytest.mark.parametrize("name", files())
def test_a_limit_is_a_formula_that_holds_or_says_why_it_is_none(name):
    text = catalogue()[name].limit
    if text.startswith(("its own field", "none, because ")):
        assert name not in LIMITS
        return
    formula = eval(text.replace("·", "*"), dict(FORMULA))
    assert isinstance(formula, Affine)
    assert weights(formula) == pytest.approx(weights(LIMITS[name]()), abs=1e-12)


def weights(denoise):
    """The weight of every atom that has one."""
    found = zip((atom for atom, _ in denoise.terms), denoise.weights(1.0), strict=True)
    return {atom: weight for atom, weight in found if abs(weight) > 1e-12}


@pytest.mark.parametrize("name", files())
def test_papers_are_numbers_of_arxiv_that_the_file_names(name):
    module = import_module(f"ivmix.solvers.methods.{name}")
    assert all(paper in module.__doc__ for paper in catalogue()[name].papers)
