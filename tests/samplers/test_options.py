"""Options are declared once: what a declaration says is what samplers have, take and refuse."""

import re
import subprocess
import sys
from dataclasses import fields
from typing import Literal, get_args, get_origin

import pytest

from ivmix.samplers.declared import declared
from ivmix.samplers.options import OPTIONS, SOLVERS, SPACINGS, describe_samplers
from ivmix.samplers.reading import completed, sampling, written
from ivmix.samplers.samplers import SAMPLERS
from ivmix.samplers.solver_names import STOCHASTIC
from ivmix.solvers import GuidanceRamp, Schedule
from ivmix.solvers.schedules.spacings import Spacing
from ivmix.sprites.training.recipe import DEFAULTS

KINDS = {"whole": int, "number": float, "text": str, "ramp": GuidanceRamp, "part": tuple[float, float]}
NUMBERS = [(name, option) for name, option in OPTIONS.items() if option.kind in ("whole", "number")]


def test_every_field_of_every_sampler_has_help_and_every_help_a_field():
    had = {field.name for kind in SAMPLERS.values() for field in fields(kind)}
    assert had == set(OPTIONS) == set(declared())
    assert all(len(option.help.split()) > 1 for option in OPTIONS.values())


def test_every_sampler_has_a_line_in_the_same_order():
    assert list(describe_samplers()) == list(SAMPLERS)
    assert all(describe_samplers().values())


@pytest.mark.parametrize("one", declared().values(), ids=lambda one: one.name)
def test_an_option_is_of_the_type_that_its_samplers_hold(one):
    held = [hint for hint in get_args(one.hint) or [one.hint] if hint is not type(None)]
    if get_origin(one.hint) is Literal:
        assert get_args(one.hint) == one.option.choices
    elif one.name == "end":
        assert get_args(held[0]) == one.option.choices
    elif one.option.kind == "part":
        assert one.hint == KINDS["part"]
    else:
        assert held[0] == KINDS[one.option.kind]


def test_an_option_that_few_samplers_have_says_which():
    for one in declared().values():
        if len(one.samplers) < len(SAMPLERS) - 2:
            named = {name for name in SAMPLERS if re.search(rf"\b{name}\b", one.option.help)}
            assert named - {"image"} == set(one.samplers) - {"image"}  # which is a word, too


def test_the_names_of_solvers_and_grids_are_those_of_the_solvers_room():
    assert (*SPACINGS, "shifted-flow") == tuple(sorted(get_args(Spacing), key=[*SPACINGS, "shifted-flow"].index))
    names = list(SOLVERS)
    assert tuple(names[names.index("euler-ancestral") :]) == STOCHASTIC  # as the help says


@pytest.mark.parametrize(("name", "option"), NUMBERS, ids=[name for name, _ in NUMBERS])
def test_the_bounds_that_are_declared_are_those_that_hold(name, option):
    sampler = declared()[name].samplers[-1]
    if name in ("steps", "period"):
        sampler = "zigzag" if name == "period" else "ddim"

    def held(value):
        return getattr(sampling(DEFAULTS, {"sampler": sampler, name: value}), name)

    for bound, beyond in ((option.least, -1), (option.most, 1)):
        if bound is not None:
            assert held(bound) == bound
            with pytest.raises(ValueError, match=f"{name}={bound + beyond}: expected"):
                held(bound + beyond)
    if option.above is not None:
        assert held(option.above + 1e-3) > option.above
        with pytest.raises(ValueError, match=f"{name}={option.above}: expected"):
            held(option.above)
    for value in (float("nan"), "4", True):
        with pytest.raises(ValueError, match=f"{name}={value!r}: expected"):
            held(value)


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.choices])
def test_a_choice_that_is_none_is_told_with_all_there_are(name):
    sampler = declared()[name].samplers[0]
    with pytest.raises(ValueError, match=rf"{name}.*'nothing'.*{re.escape(OPTIONS[name].choices[-1])}"):
        sampling(DEFAULTS, {"sampler": sampler, name: "nothing"})


def test_a_grid_that_cannot_be_names_the_options_that_asked_for_it():
    chosen = sampling(DEFAULTS, {"sampler": "ddim", "steps": 1000, "spacing": "beta"})
    with pytest.raises(ValueError, match=r"^steps=1000, spacing=beta: got 1000 steps, of which two"):
        chosen.grid(Schedule.scaled_linear())


def test_completed_defaults_are_what_a_run_is_told():
    found = completed(DEFAULTS)
    for name, options in found.items():
        given = {option: written(v) if isinstance(v, list) else v for option, v in options.items()}
        assert sampling({"sampler": name, name: {}}, given) == sampling(DEFAULTS, {"sampler": name})
    assert completed({"sampler": "ddim", "ddim": {"steps": 3}}) == {"ddim": {"steps": 3}}  # it lacks the guidance


def test_declarations_are_read_without_torch():
    code = "import sys, ivmix.samplers.options\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
