"""Bad input: one clear error each, which names the argument, what was given and what would be accepted."""

import math

import pytest
import torch

from ivmix.solvers import (
    DDIM,
    RK4,
    AdamsBashforth4,
    BogackiShampine32,
    DPMSolverPP2S,
    DPMSolverPP3M,
    Euler,
    IVMixed,
    Network,
    NotFiniteError,
    Schedule,
    UniPC3,
    composite,
    integrate,
    plain,
)

SCHEDULE = Schedule.scaled_linear()
SIGMAS = SCHEDULE.grid(6)
LEVELS = SIGMAS.tolist()
every_kind = pytest.mark.parametrize(
    "solver",
    [Euler(), RK4(), DPMSolverPP2S(), AdamsBashforth4(), DPMSolverPP3M(start=RK4()), UniPC3(), BogackiShampine32()],
    ids=lambda solver: type(solver).__name__,
)


def network(output, **options):
    return Network(lambda z, t, c: output(z, t), SCHEDULE, "epsilon", "video", **options)(None)


@pytest.mark.parametrize("levels", [[5.0, 6.0, 1.0], [5.0, 5.0, 1.0], [5.0, 1.0, 2.0, 0.0]])
@pytest.mark.parametrize("plan", [plain, IVMixed().legs], ids=["plain", "IVMixed"])
def test_grids_that_turn_or_stand_still(plan, levels):
    with pytest.raises(ValueError, match=r"sigmas: got .* at positions \d, \d, expected strictly monotone levels"):
        plan(torch.tensor(levels))


@every_kind
@pytest.mark.parametrize(("first", "said"), [(20.0, "got 20"), (math.inf, "got inf")])
def test_levels_a_network_was_not_trained_on(solver, first, said, x):
    denoise = network(lambda z, t: z)
    legs = plain(torch.tensor([first, 2.0, 1.0]), solver=solver)
    with pytest.raises(
        ValueError, match=rf"'video' cannot be evaluated at this level: sigma: {said}, expected .*14\.6"
    ):
        integrate(denoise, legs, x)
    with pytest.raises(ValueError, match=r"sigma: got 0\.001, expected a value in \[0\.029"):
        integrate(denoise, plain(torch.tensor([2.0, 0.001, 0.0005]), solver=solver), x)


@every_kind
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_networks_that_overflow(solver, bad, x):
    """The level 1.61 of step 3 is the first whose time is below 500; a solver that looks ahead meets it one earlier."""
    denoise = network(lambda z, t: torch.full_like(z, bad) if t < 500 else torch.tanh(z))
    ahead = int(solver.stages > 1 and not isinstance(solver, DPMSolverPP2S))
    with pytest.raises(NotFiniteError, match=r"step \d .*from sigma .* to .*; video\) gave NaN or infinite") as caught:
        integrate(denoise, plain(SIGMAS, solver=solver), x)
    assert caught.value.step in (3, 3 - ahead)


@pytest.mark.parametrize("reshape", [lambda z: z[:, :1], lambda z: z[..., None], lambda z: z.transpose(1, 2)])
def test_networks_that_return_another_shape(reshape, x):
    with pytest.raises(ValueError, match=r"network 'video' returned shape \(2, .*\) for input \(2, 3, 4, 2, 1\)"):
        integrate(network(lambda z, t: reshape(z)), plain(SIGMAS), x)
    with pytest.raises(ValueError, match=r"fields\['video'\] returned shape"):
        integrate(lambda y, sigma: reshape(y), plain(SIGMAS), x)


def test_what_is_no_plan_and_no_solver(pair, x):
    for given in (IVMixed(), SIGMAS):
        with pytest.raises(TypeError, match=rf"legs: got a {type(given).__name__}, expected a list, as plain"):
            integrate(pair, given, x)
    for build in (lambda sigmas: plain(sigmas, solver=RK4), IVMixed(solver=RK4).legs, IVMixed(step_solver=RK4).legs):
        with pytest.raises(TypeError, match=r"solver: got .*RK4.*, expected an instance of a solver"):
            build(SIGMAS)


def test_denoisers_that_return_no_tensor(x):
    with pytest.raises(TypeError, match=r"fields\['video'\] returned a NoneType, expected a tensor"):
        integrate(lambda y, sigma: None, plain(SIGMAS), x)


def test_noise_of_another_shape(x):
    with pytest.raises(ValueError, match=r"noise: got shape \(1, 7\), expected the state's, \(2, 3, 4, 2, 1\)"):
        integrate(network(lambda z, t: z), plain(SIGMAS, solver=DDIM()), x, noise=lambda *_: torch.zeros(1, 7))


@pytest.mark.parametrize("pattern", ["IV", "I-VV", "R-R", "XV-IV", ""])
def test_illegal_patterns(pattern, pair):
    for build in (lambda: IVMixed(pattern), lambda: composite(**pair, pattern=pattern, reference=SIGMAS)):
        with pytest.raises(ValueError, match=r"pattern: got .*, expected letters, a dash and as many letters"):
            build()


def test_ordinary_steps_the_video_network_cannot_reach():
    with pytest.raises(ValueError, match=r"sigmas: got level 14\.6.*outside the video network's reach, \[0\.1, 10\]"):
        IVMixed().legs(SIGMAS, reach={"video": (0.1, 10.0)})


def test_zigzags_are_plain_where_the_image_network_cannot_reach():
    legs = IVMixed().legs(SIGMAS, reach={"image": (0.5, 5.0)})
    assert all(0.5 <= leg.told <= 5.0 for leg in legs if leg.network == "image")
    assert {leg.step for leg in legs} == set(range(6))
