"""Bad input: one clear error each, which names the argument, what was given and what would be accepted."""

import math
import re
from dataclasses import replace

import numpy as np
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
    GuidanceRamp,
    IVMixed,
    LowPass,
    Network,
    NotFiniteError,
    Official,
    Rescaled,
    Schedule,
    SDEDPMSolverPP2M,
    UniPC3,
    composite,
    freeinit,
    integrate,
    invert,
    late,
    level,
    mixture,
    plain,
    restart,
    tail,
    zsampling,
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
        for change in (invert, lambda legs: tail(legs, 0.5), lambda legs: restart(legs, [])):
            with pytest.raises(TypeError, match=rf"legs: got a {type(given).__name__}"):
                change(given)
    for build in (
        lambda sigmas: plain(sigmas, solver=RK4),
        lambda sigmas: plain(sigmas, solver=RK4, lower_order_final=True),
        IVMixed(solver=RK4).legs,
        IVMixed(step_solver=RK4).legs,
    ):
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


def test_a_network_that_begins_with_nan_is_named_and_one_that_guidance_drives_there_is_not(pair, x):
    broken, plan = network(lambda z, t: z * math.nan), IVMixed(guidance=2.0, image_guidance=None).legs(SIGMAS)
    with pytest.raises(NotFiniteError, match=r"the very first evaluation of image: are the weights finite") as caught:
        integrate({**pair, "image": Network(lambda z, t, c: z * math.nan, SCHEDULE, "epsilon", "image")(None)}, plan, x)
    assert (caught.value.step, caught.value.networks) == (0, ("image",))
    with pytest.raises(NotFiniteError) as caught:
        integrate(broken, plain(SIGMAS), x)
    assert caught.value.networks == ("video",)
    with pytest.raises(NotFiniteError, match="or is the guidance too large") as caught:
        integrate(network(lambda z, t: 1e200 * z), plain(SIGMAS), x)
    assert caught.value.networks == ()


TEXTS = {
    "guidance: got '7'": lambda pair: plain(SIGMAS, guidance="7"),
    "guidance: got '2'": lambda pair: composite(**pair, guidance="2", reference=SIGMAS),
    "image_guidance: got '2'": lambda pair: composite(**pair, image_guidance="2", reference=SIGMAS),
    "video_guidance: got '2'": lambda pair: IVMixed(video_guidance="2").legs(SIGMAS),
    "inversion_guidance: got '0'": lambda pair: zsampling(SIGMAS, inversion_guidance="0"),
    "begin: got '4'": lambda pair: GuidanceRamp("4"),
    "end: got '4'": lambda pair: GuidanceRamp(4, "4"),
    "rho: got '7'": lambda pair: GuidanceRamp(4, 2, "7"),
    "u: got '0'": lambda pair: GuidanceRamp(4)("0"),
    "scale: got '7'": lambda pair: mixture(**pair, guidance="7", image_scale=1, image_weight=0.5),
    "image_weight: got '1'": lambda pair: mixture(**pair, guidance=7, image_scale=1, image_weight="1"),
    "below: got '1'": lambda pair: late(0.5, below="1"),
    "interval: got '01'": lambda pair: IVMixed(interval="01"),
    "pattern: got 5": lambda pair: IVMixed(5),
    "period: got '3'": lambda pair: IVMixed(period="3"),
    "period: got 2.0": lambda pair: IVMixed(period=2.0),
    "n: got True": lambda pair: SCHEDULE.grid(True),
    "rho: got '3'": lambda pair: SCHEDULE.grid(5, "karras", rho="3"),
    "sigma_max: got '3'": lambda pair: SCHEDULE.grid(5, "karras", sigma_max="3"),
    "strength: got '1'": lambda pair: tail(plain(SIGMAS), "1"),
    "iterations: got '2'": lambda pair: freeinit(plain(SIGMAS), "2"),
    "zigzags: got '2'": lambda pair: zsampling(SIGMAS, zigzags="2"),
    "spatial: got '1'": lambda pair: LowPass("1"),
    "rtol: got '1'": lambda pair: BogackiShampine32("1"),
    "eta: got '1'": lambda pair: DDIM("1"),
    "churn: got '1'": lambda pair: SDEDPMSolverPP2M("1"),
    "rescale: got '1'": lambda pair: Rescaled(pair["video"], 7.5, "1"),
    "steps: got '9'": lambda pair: Official("animatediff", "9"),
}


@pytest.mark.parametrize("message", TEXTS)
def test_a_text_where_a_number_is_expected_is_named(message, pair):
    with pytest.raises(ValueError, match=f"^{message}, expected"):
        TEXTS[message](pair)


LEARNED = SIGMAS.clone().requires_grad_()
LOST = {  # what Python numbers cannot carry
    "sigmas: got a tensor that requires grad, expected sigmas.detach()": lambda: plain(LEARNED),
    "sigmas: got a tensor that requires grad": lambda: plain(list(LEARNED)),
    "sigma: got a tensor that requires grad": lambda: network(lambda z, t: z)(torch.zeros(1, 4, 1, 2, 2), LEARNED[1]),
    "sigma: got a tensor that requires grad, expected": lambda: SCHEDULE.t(LEARNED),
    "t: got a tensor that requires grad": lambda: SCHEDULE.sigma(torch.tensor(5.0, requires_grad=True)),
    "alpha: got a tensor that requires grad": lambda: replace(SCHEDULE, alpha=SCHEDULE.alpha.clone().requires_grad_()),
    "alpha_bar: got a tensor that requires grad": lambda: Schedule.from_alpha_bar((SCHEDULE.alpha**2).requires_grad_()),
    "sigmas: got torch.complex128, expected real numbers": lambda: IVMixed().legs(SIGMAS.cdouble()),
    "sigmas: got torch.complex64, expected real numbers": lambda: plain(np.ones(3, np.complex64)),
    "sigmas: got a list, expected real numbers": lambda: plain([1j, 0.0]),
    "sigma: got torch.complex128, expected real numbers": lambda: level(SIGMAS[0] + 0j),
    "alpha_bar: got torch.complex128, expected real numbers": lambda: Schedule.from_alpha_bar(SCHEDULE.alpha + 0j),
}


@pytest.mark.parametrize("message", LOST)
def test_what_a_level_would_lose_is_refused(message):
    with pytest.raises(ValueError, match=f"^(network 'video' .* this level: )?{re.escape(message)}"):
        LOST[message]()


def test_a_closed_form_is_differentiable_in_sigma(pair, x):
    sigma = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(pair["video"].at(2.0)(x, sigma).sum(), sigma)
    ends = [pair["video"].at(2.0)(x, s).sum() for s in (2 - 1e-5, 2 + 1e-5)]
    # a central difference errs by 1e-10 of the third derivative and by 1e-16 / 1e-5 of the sum
    assert slope.item() == pytest.approx((ends[1] - ends[0]).item() / 2e-5, rel=1e-7)


def test_whole_numbers_may_be_numpys(pair, x):
    """A loop over np.arange draws steps, periods and seeds from it."""
    three = np.int64(3)
    assert torch.equal(SCHEDULE.grid(three), SCHEDULE.grid(3))
    assert IVMixed(period=three).legs(SIGMAS)[0].label == "I down 1"
    assert len(zsampling(SIGMAS, zigzags=three)) == len(zsampling(SIGMAS, zigzags=3))
    assert len(freeinit(plain(SIGMAS), three)) == len(freeinit(plain(SIGMAS), 3))
    assert Official("animatediff", np.int64(4)).timesteps() == Official("animatediff", 4).timesteps()
    ours, numpys = (integrate(pair["video"], plain(SIGMAS, guidance=w), x).x for w in (2, np.float32(2)))
    assert torch.equal(ours, numpys)


@pytest.mark.parametrize("noise", [torch.Generator(), torch.zeros(2, 3, 4, 2, 1)])
def test_noise_that_is_no_function(noise, x):
    with pytest.raises(TypeError, match=f"noise: got a {type(noise).__name__}, expected a function, as normal_noise"):
        integrate(network(lambda z, t: z), plain(SIGMAS, solver=DDIM()), x, noise=noise)
