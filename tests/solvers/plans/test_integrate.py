import math
import subprocess
import sys
import weakref
from dataclasses import replace

import pytest
import torch

from ivmix.solvers import (
    RK4,
    AdamsBashforth4,
    DPMSolverPP2M,
    DPMSolverPP2S,
    DPMSolverPP3M,
    Euler,
    EulerAncestral,
    Guided,
    Heun,
    IVMixed,
    Leg,
    Network,
    NotFiniteError,
    RecordedNoise,
    Schedule,
    SDEDPMSolverPP2M,
    UniPC3,
    View,
    integrate,
    invert,
    normal_noise,
    plain,
    planned_nfe,
    tail,
)

SCHEDULE = Schedule.scaled_linear()
SIGMAS = SCHEDULE.grid(8)


def test_counts_are_what_the_plan_says(pair, x):
    for solver in (Euler(), Heun()):
        legs = IVMixed(solver=solver).legs(SIGMAS)
        run = integrate(pair, legs, x, trace=True)
        assert run.nfe == planned_nfe(legs)
        assert run.forwards == {name: 2 * count for name, count in run.nfe.items()}
        assert [record.leg for record in run.trace] == legs


def test_conditional_and_unconditional_share_one_network_call(x):
    calls = []

    def forward(z, t, condition):
        calls.append(z.shape[0])
        return torch.tanh(z + condition.reshape(-1, 1, 1, 1, 1))

    network = Network(forward, SCHEDULE, "epsilon", "video")
    guided = Guided(network(torch.zeros(2)), network(torch.ones(2)))
    run = integrate(guided, plain(SIGMAS, 7.5), x)
    assert calls == [4] * 8
    assert (run.nfe, run.forwards) == ({"video": 8}, {"video": 16})
    assert integrate(guided, plain(SIGMAS, 1.0), x).forwards == {"video": 8}


def test_the_trace_shows_states_and_levels(pair, x):
    legs = plain(SIGMAS, 2.0, Heun())
    run = integrate(pair, legs, x, trace=True)
    assert run.trace[0].told == (legs[0].source, legs[0].target)
    assert run.trace[-1].told == (legs[-1].source,)
    assert run.trace[0].forwards == {"video": 4}
    assert torch.equal(run.trace[-1].x, run.x)
    again = integrate(pair, legs[3:], run.trace[2].x)
    torch.testing.assert_close(again.x, run.x, rtol=0, atol=0)


@pytest.mark.parametrize("solver", [Euler(), Heun(), RK4()], ids=lambda solver: type(solver).__name__)
def test_mixing_a_network_with_itself_at_guidance_zero_is_only_a_detour(solver, pair, x, slopes):
    """With gamma = 0 and one network, the legs of a step go out and come back along one field; what they leave behind
    shrinks at the inner solver's order or, where its leading errors there and back cancel, one faster."""
    video = pair["video"].uncond
    fields = {"image": video, "video": video}

    def error(n):
        sigmas = Schedule.ve(0.2, 8.0).grid(n, "uniform-lam")
        sampler = IVMixed(guidance=None, image_guidance=None, video_guidance=None, solver=solver, step_solver=solver)
        mixed = integrate(fields, sampler.legs(sigmas), 8 * x).x
        return (mixed - integrate(video, plain(sigmas, solver=solver), 8 * x).x).norm()

    assert slopes(error, [80, 160]) == pytest.approx([solver.order + (solver.order > 1)], abs=0.15)


def test_multistep_memory_stays_in_its_lane(pair, x):
    """The ordinary steps of a zigzag are played here by hand, with their own memory and that of no other leg."""
    solver = DPMSolverPP2M()
    legs = IVMixed(step_solver=solver, guidance=2.0, image_guidance=0.3, video_guidance=0.3).legs(SIGMAS)
    state, memory = x, None
    for leg in legs:
        field = pair[leg.network].at(leg.guidance)
        if leg.label == "step":
            state, memory = solver.step(field, state, leg.source, leg.target, memory)
        else:
            state, _ = Euler().step(field, state, leg.source, leg.target)
    torch.testing.assert_close(integrate(pair, legs, x).x, state, rtol=0, atol=1e-13)


def test_networks_that_take_turns_do_not_share_memory(pair, x):
    solver, memory, state = DPMSolverPP2M(), {"video": None, "image": None}, x
    legs = [
        replace(leg, network=("video", "image")[leg.step % 2]) for leg in plain(SIGMAS, guidance=2.0, solver=solver)
    ]
    for leg in legs:
        field = pair[leg.network].at(2.0)
        state, memory[leg.network] = solver.step(field, state, leg.source, leg.target, memory[leg.network])
    torch.testing.assert_close(integrate(pair, legs, x).x, state, rtol=0, atol=1e-13)


def test_no_state_survives_a_run(pair, x):
    legs = plain(SIGMAS, 2.0, DPMSolverPP2M())
    first = integrate(pair, legs, x).x
    assert torch.equal(integrate(pair, legs, x).x, first)


def test_nested_runs_do_not_disturb_each_other(pair, x):
    legs = plain(SIGMAS, 2.0, DPMSolverPP2M())

    def nosy(y, sigma):
        integrate(pair, legs[:3], x)
        return pair["video"].at(2.0)(y, sigma)

    torch.testing.assert_close(
        integrate(nosy, plain(SIGMAS, solver=DPMSolverPP2M()), x).x, integrate(pair, legs, x).x, rtol=0, atol=0
    )


@pytest.mark.parametrize("solver", [Euler(), Heun(), DPMSolverPP2M()], ids=lambda solver: type(solver).__name__)
def test_runs_are_differentiable(solver, pair, x):
    start = x.clone().requires_grad_()
    legs = IVMixed(step_solver=solver, guidance=2.0, image_guidance=0.3, video_guidance=0.3).legs(SIGMAS[3:])
    direction = torch.ones_like(x)
    (gradient,) = torch.autograd.grad(integrate(pair, legs, start).x.sum(), start)
    # all denoisers here are affine in x, so a finite difference of any length is exact
    with torch.no_grad():
        moved = integrate(pair, legs, x + direction).x.sum() - integrate(pair, legs, x).x.sum()
    torch.testing.assert_close((gradient * direction).sum(), moved, rtol=1e-10, atol=1e-10)


TRANSFORMED = [Euler(), Heun(), DPMSolverPP2M(), DPMSolverPP3M(start=RK4()), UniPC3(), AdamsBashforth4()]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, of its jvp
@pytest.mark.parametrize("solver", TRANSFORMED, ids=lambda solver: type(solver).__name__)
def test_function_transforms_pass_through_a_run(solver, pair, x):
    """Over states and over guidance scales: vmap is one run each, grad and jvp are derivatives, and they compose."""
    scales = torch.tensor([1.0, 2.0], dtype=torch.float64)

    def total(x, scale):
        return integrate(pair, plain(SIGMAS[3:], scale, solver), x).x.square().sum()

    def derivative(scale, width=1e-4):  # a central difference errs by width², and 1e-12 of rounding over width
        return (total(x, scale + width) - total(x, scale - width)) / (2 * width)

    together = torch.func.vmap(total, in_dims=(0, None))(x[:, None], 2.0)
    torch.testing.assert_close(together, torch.stack([total(row[None], 2.0) for row in x]))
    torch.testing.assert_close(
        torch.func.vmap(total, in_dims=(None, 0))(x, scales), torch.stack([total(x, scale) for scale in scales])
    )
    slopes = torch.stack([derivative(scale) for scale in scales])
    every = torch.func.vmap(torch.func.grad(total, argnums=1), in_dims=(None, 0))(x, scales)
    torch.testing.assert_close(every, slopes, rtol=1e-6, atol=1e-6)
    _, along = torch.func.jvp(total, (x, scales[0]), (torch.zeros_like(x), torch.ones_like(scales[0])))
    torch.testing.assert_close(along, slopes[0], rtol=1e-6, atol=1e-6)


def test_one_run_that_fails_among_several_of_vmap_names_its_step():
    def failing(z, t, condition):
        return torch.where((z.mean() > 0) & (t < 400), math.nan, 0 * z)

    network = Network(failing, SCHEDULE, "epsilon", "video")
    runs = torch.func.vmap(lambda x: integrate(network(None), plain(SIGMAS), x).x)
    signs = torch.tensor([-1.0, -1.0, 1.0]).reshape(3, 1, 1, 1, 1, 1)
    assert runs(signs[:2]).shape == (2, 1, 1, 1, 1, 1)
    with pytest.raises(NotFiniteError, match="step 5"):
        runs(signs)


def test_no_graph_is_kept_unless_asked_for(pair, x):
    assert not integrate(pair, plain(SIGMAS, 2.0), x, trace=True).x.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_state_is_at_least_float32(dtype, pair, x):
    run = integrate(pair, plain(SIGMAS, 2.0), x.to(dtype))
    assert run.x.dtype == torch.float32
    double = integrate(pair, plain(SIGMAS, 2.0), x.to(dtype).double()).x
    # 8 steps of float32: a few hundred units in the last place
    torch.testing.assert_close(run.x.double(), double, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("solver", [Euler(), Heun(), UniPC3()], ids=lambda solver: type(solver).__name__)
def test_a_denoisers_output_is_read_in_the_states_dtype(solver, x):
    def half(y, sigma):
        return torch.tanh(y).half()

    legs = plain(SIGMAS, solver=solver)
    run = integrate(half, legs, x.float()).x
    assert run.dtype == torch.float32
    assert torch.equal(run, integrate(lambda y, sigma: half(y, sigma).float(), legs, x.float()).x)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_network_that_fails_names_its_step(bad, pair, x):
    def failing(z, t, condition):
        y = torch.zeros_like(z)
        if t < 400:
            y[-1, -1, -1, -1, -1] = bad  # one value is enough
        return y

    network = Network(failing, SCHEDULE, "epsilon", "video")
    with pytest.raises(NotFiniteError, match=r"step 5 \(number 6 of 8, from sigma 1.069 to 0.6932; video\)") as caught:
        integrate(network(None), plain(SIGMAS), x)
    assert caught.value.step == 5


def test_a_bad_start_is_named(pair, x):
    x[0, 0, 0, 0, 0] = math.nan
    with pytest.raises(NotFiniteError, match="initial state"):
        integrate(pair, plain(SIGMAS, 2.0), x)


def test_callback_sees_every_outer_step(pair, x):
    seen = []
    run = integrate(
        pair, IVMixed().legs(SIGMAS), x, callback=lambda step, total, run: seen.append((step, total, run.nfe))
    )
    assert [(step, total) for step, total, _ in seen] == [(i + 1, 8) for i in range(8)]
    assert seen[0][2] == {"image": 2, "video": 3}
    assert seen[-1][2] == run.nfe
    assert not run.cancelled


@pytest.mark.parametrize("solver", [Euler(), Heun(), DPMSolverPP2M()], ids=lambda solver: type(solver).__name__)
def test_callback_and_trace_see_the_x0_that_each_leg_found_at_its_beginning(solver, pair, x):
    legs, seen = plain(SIGMAS, 2.0, solver), []
    run = integrate(pair, legs, x.requires_grad_(), trace=True, callback=lambda *given: seen.append(given[2]))
    states = [x.detach(), *(record.x for record in run.trace)]
    for number, (leg, state, record, shown) in enumerate(zip(legs, states, run.trace, seen, strict=False)):
        expected = pair["video"].at(2.0)(state, leg.source)
        assert torch.equal(shown.x0, expected)
        assert record.x0 is shown.x0
        assert record.number == shown.leg == number
        assert not shown.x0.requires_grad
    assert run.x0 is seen[-1].x0


def test_a_noise_leg_finds_no_x0_and_leaves_the_last_one_to_be_shown(pair, x):
    legs, seen = IVMixed("RV-IV", solver=Heun()).legs(SIGMAS), []
    noise = normal_noise([0, 1], x.shape[1:])
    run = integrate(pair, legs, x, noise=noise, trace=True, callback=lambda *given: seen.append(given[2]))
    assert [record.number for record in run.trace] == list(range(len(legs)))
    assert [record.x0 is None for record in run.trace] == [leg.network is None for leg in legs]
    up = integrate(pair, [Leg(None, "R up 1", 3.0, 3.0, 5.0, None, Euler(), 0)], x, noise=noise, trace=True)
    assert up.x0 is up.trace[0].x0 is None
    last = [record for record in run.trace if record.leg.step == 3][-1]
    assert seen[3].x0 is last.x0
    assert seen[3].leg == last.number


def test_x0_has_the_states_shape_whatever_a_legs_view_shows_its_network(pair, x):
    half = View("half", lambda x: x[:, :, ::2], lambda y, x: y.repeat_interleave(2, 2))
    legs = [replace(leg, view=half) for leg in plain(SIGMAS)]
    run = integrate(lambda y, sigma: y / 2, legs, x, trace=True)
    assert torch.equal(run.trace[0].x0, x[:, :, ::2].repeat_interleave(2, 2) / 2)


def test_a_run_that_nobody_follows_keeps_no_x0(pair, x):
    """Beside the state nothing but what solvers remember lives from step to step, and Euler remembers nothing."""
    kept = []

    def denoise(y, sigma):
        assert all(x0() is None for x0 in kept[:-1])
        x0 = y / 2
        kept.append(weakref.ref(x0))
        return x0

    assert integrate(denoise, plain(SIGMAS), x).x0 is None
    assert len(kept) == 8


@pytest.mark.parametrize("solver", [Euler(), Heun()], ids=lambda solver: type(solver).__name__)
def test_watching_shows_what_every_network_predicted_and_changes_nothing(solver, pair, x):
    legs, seen = IVMixed(solver=solver, step_solver=solver, guidance=2.0).legs(SIGMAS), []
    run = integrate(pair, legs, x, trace=True, watch=seen.append)
    assert torch.equal(run.x, integrate(pair, legs, x).x)
    told = [(record.number, level) for record in run.trace for level in record.told]
    assert [(one.leg, one.told) for one in seen] == told
    for one in seen:
        leg = legs[one.leg]
        guided = pair[leg.network].at(leg.guidance)
        assert [output.atom for output in one.outputs] == [atom for atom, _ in guided.terms]
        assert [output.weight for output in one.outputs] == [1 - leg.guidance, leg.guidance]
        for output in one.outputs:
            gaussian = output.atom.model.given[output.atom.condition]
            assert torch.equal(output.x0, gaussian(one.x, one.told))
        assert "tensor" not in repr(one.outputs)
        torch.testing.assert_close(one.x0, guided(one.x, one.told), rtol=0, atol=0)


def test_watching_a_denoiser_that_is_no_affine_shows_its_x0_alone(x):
    seen = []
    integrate(lambda y, sigma: y / 2, plain(SIGMAS), x.requires_grad_(), watch=seen.append)
    assert torch.equal(seen[0].x0, x.detach() / 2)
    assert [one.outputs for one in seen] == [()] * 8
    assert not any(one.x0.requires_grad or one.x.requires_grad for one in seen)


def test_recorded_noise_is_the_same_at_the_same_step_and_leg_of_another_plan(pair, x):
    """Another solver, the end of the plan alone, legs left out: what a leg of a step draws does not depend on them."""
    recorded = RecordedNoise(normal_noise([0, 1], x.shape[1:]))
    legs = IVMixed("R-V", step_solver=EulerAncestral(), guidance=2.0).legs(SIGMAS)
    whole = integrate(pair, legs, x, noise=recorded, trace=True)
    assert set(recorded.draws) == {(leg.step, leg.label, 0) for leg in legs if leg.network is None} | {
        (leg.step, leg.label, 0) for leg in legs if leg.label == "step" and leg.target > 0
    }
    replayed = RecordedNoise(draws=recorded.draws)
    begin = next(record for record in reversed(whole.trace) if record.leg.step == 3)
    end = tail(legs, 0.5)
    assert torch.equal(integrate(pair, end, begin.x, noise=replayed).x, whole.x)
    assert torch.equal(integrate(pair, legs, x, noise=recorded).x, whole.x)


def test_another_solver_draws_the_recorded_noise(pair, x):
    """SDE-2M without memory and at churn 1 is ancestral sampling: with the same noise it takes the very same step."""
    recorded = RecordedNoise(normal_noise([0, 1], x.shape[1:]))
    integrate(pair, plain(SIGMAS, 2.0, EulerAncestral()), x, noise=recorded)
    one, other = (plain(SIGMAS, 2.0, solver)[4:5] for solver in (EulerAncestral(), SDEDPMSolverPP2M()))
    replayed = RecordedNoise(draws=recorded.draws)
    torch.testing.assert_close(
        integrate(pair, one, x, noise=replayed).x, integrate(pair, other, x, noise=replayed).x, rtol=0, atol=1e-13
    )


def test_legs_of_one_label_in_one_step_draw_different_noise(x):
    leg = Leg(None, "R up 1", 3.0, 3.0, 5.0, None, Euler(), 0)
    recorded = RecordedNoise(normal_noise([0, 1], x.shape[1:]))
    integrate({}, [leg, replace(leg, told=5.0, source=5.0, target=6.0)], x, noise=recorded)
    first, second = recorded.draws.values()
    assert list(recorded.draws) == [(0, "R up 1", 0), (0, "R up 1", 1)]
    assert not torch.equal(first, second)


def test_noise_that_was_not_recorded_is_refused_by_step_and_leg(pair, x):
    recorded = RecordedNoise(normal_noise([0, 1], x.shape[1:]))
    legs = plain(SIGMAS, 2.0, EulerAncestral())
    integrate(pair, legs[:3], x, noise=recorded)
    with pytest.raises(ValueError, match="noise: draw 0 of leg 'step' of step 3 was not recorded"):
        integrate(pair, legs, x, noise=RecordedNoise(draws=recorded.draws))
    with pytest.raises(ValueError, match="noise: got shape"):
        integrate(pair, legs[:3], x[:1], noise=RecordedNoise(draws=recorded.draws))


def test_returning_false_cancels(pair, x):
    run = integrate(pair, plain(SIGMAS, 2.0), x, callback=lambda step, total, run: step < 3)
    assert run.cancelled
    assert run.nfe == {"video": 3}
    assert torch.equal(run.x, integrate(pair, plain(SIGMAS, 2.0)[:3], x).x)
    last = len(SIGMAS) - 1
    whole = integrate(pair, plain(SIGMAS, 2.0), x, callback=lambda step, total, run: step < last)
    assert not whole.cancelled  # nothing was left to play


def test_noise_legs_add_the_variance_between_levels(x):
    legs = [Leg(None, "R up 1", 3.0, 3.0, 5.0, None, Euler(), 0)]
    run = integrate({}, legs, 0 * x, noise=lambda sigma, sigma_next: torch.ones_like(x))
    assert torch.equal(run.x, 4 * torch.ones_like(x))
    assert run.nfe == {}


def test_a_noise_leg_to_infinity_leaves_nothing_of_the_state(x):
    legs = [Leg(None, "again", 0.0, 0.0, math.inf, None, Euler(), 0)]
    eta = torch.ones_like(x)
    assert torch.equal(integrate({}, legs, x, noise=lambda sigma, sigma_next: eta).x, eta)
    with pytest.raises(ValueError, match="fresh noise goes up, got inf -> inf"):
        integrate({}, [replace(legs[0], source=math.inf, told=math.inf)], x, noise=lambda sigma, sigma_next: eta)


@pytest.mark.parametrize("solver", [Euler(), Heun(), RK4(), DPMSolverPP2M()], ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("flow", [False, True])
def test_a_run_begins_at_a_clean_clip(flow, solver, pair, x):
    """And ends at the first level of the plan that it is the inverse of; nothing is evaluated at 0."""
    sigmas = Schedule.rectified_flow().grid(8, "shifted-flow") if flow else SIGMAS
    legs = invert(plain(sigmas, 1.5, solver))
    run = integrate(pair, legs, x, trace=True)
    assert (legs[0].source, run.at) == (0.0, sigmas[0])
    assert 0 not in [level for record in run.trace for level in record.told]
    assert run.nfe == planned_nfe(legs)
    assert (run.trace[0].x0 is None) == (not run.trace[0].told)


def test_a_level_told_that_no_network_has_is_refused(pair, x):
    for told in (0.0, math.inf):
        legs = [replace(plain(SIGMAS, 2.0)[0], told=told)]
        with pytest.raises(ValueError, match="told"):
            integrate(pair, legs, x, schedule=SCHEDULE)


def test_a_view_holds_for_its_leg_alone(x):
    """A leg whose network sees frames in reverse."""
    flip = View("reverse", lambda x: x.flip(2), lambda y, x: y.flip(2))
    ramp = torch.arange(4.0).reshape(4, 1, 1)

    def denoise(y, sigma):
        return y + ramp

    one, two = plain(torch.tensor([2.0, 1.0, 0.5]))
    run = integrate(denoise, [replace(one, view=flip), two], 0 * x)
    torch.testing.assert_close(run.x[0, 0, :, 0, 0], (ramp.flip(0) + ramp).flatten().double() / 2)


def test_legs_on_z_read_the_state_at_their_own_level(pair, x):
    """A leg from another level, told a third one: DDIM's move from a to b of a state whose z is taken as it is."""
    a, b, told, at = (SCHEDULE.sigma(t) for t in (700.0, 600.0, 650.0, 720.0))
    field = pair["video"].at(2.0)
    alpha_a, alpha_b, alpha_told, alpha_at = (SCHEDULE.alpha_at(s) for s in (a, b, told, at))
    z = alpha_at * x
    eps = (z / alpha_told - field(z / alpha_told, told)) / told
    expected = alpha_b / alpha_a * z + (alpha_b * b - alpha_a * a * alpha_b / alpha_a) * eps
    start = Leg("video", "step", at.item(), at.item(), at.item(), 2.0, Euler(), 0)
    jump = Leg("video", "V down 1", told.item(), a.item(), b.item(), 2.0, Euler(), 1)
    run = integrate(pair, [start, jump], x, schedule=SCHEDULE)
    torch.testing.assert_close(alpha_b * run.x, expected, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="schedule="):
        integrate(pair, [start, jump], x)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (lambda pair: (pair, []), "legs: got none"),
        (lambda pair: ({"video": pair["video"]}, IVMixed().legs(SIGMAS)), "legs also need 'image'"),
        (lambda pair: (pair, plain(SIGMAS)), "guidance None for a Guided"),
        (lambda pair: (pair["video"].at(2.0), plain(SIGMAS, 7.5)), "guidance 7.5 for a denoiser"),
        (lambda pair: (pair, IVMixed("R-V").legs(SIGMAS)), "noise=normal_noise"),
        (lambda pair: (pair, plain(SIGMAS, 2.0)[::2]), "schedule="),
    ],
)
def test_impossible_runs_are_refused_before_the_first_evaluation(arguments, name, pair, x):
    with pytest.raises(ValueError, match=name):
        integrate(*arguments(pair), x)


def test_a_network_without_condition_is_refused(x):
    network = Network(lambda z, t, c: z, SCHEDULE, "epsilon", "video")
    with pytest.raises(TypeError, match=r"network\(condition\)"):
        integrate(network, plain(SIGMAS), x)


def test_a_denoiser_of_another_shape_is_refused(x):
    with pytest.raises(ValueError, match="returned shape"):
        integrate(lambda y, sigma: y.mean(), plain(SIGMAS), x)


def test_integers_and_misshapen_noise_are_refused(pair, x):
    with pytest.raises(ValueError, match="dtype"):
        integrate(pair, plain(SIGMAS, 2.0), x.long())
    with pytest.raises(ValueError, match="noise: got shape"):
        integrate(pair, IVMixed("R-V").legs(SIGMAS), x, noise=normal_noise([0], (1, 2)))


def test_importing_the_solvers_loads_torch_alone():
    """The guard of the room's one promise: no optional package, no other room."""
    code = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"  # torch itself imports tqdm where it is installed
        "import ivmix.solvers\n"
        "banned = 'einops safetensors PIL av tqdm tokenizers huggingface_hub matplotlib ivmix.models'.split()\n"
        "print([name for name in banned if name in sys.modules and name not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "solver",
    [Euler(), Heun(), DPMSolverPP2S(), DPMSolverPP2M(), DPMSolverPP3M(start=RK4()), AdamsBashforth4(), UniPC3()],
    ids=lambda solver: type(solver).__name__,
)
def test_nothing_is_read_from_the_device_before_the_end(solver):
    """On the meta device every read of a value raises: all 8 steps pass, only the last check of finiteness fails."""
    network = Network(lambda z, t, c: torch.tanh(z + c), SCHEDULE, "v", "video", dtype=torch.bfloat16)
    zeros = torch.zeros(1, 1, 1, 1, 1, device="meta")
    guided = Guided(network(zeros), network(zeros.clone()))
    fields, seen = {"image": guided, "video": guided}, []
    legs = IVMixed(solver=solver, step_solver=solver).legs(SIGMAS)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        integrate(fields, legs, torch.zeros(1, 4, 8, 2, 2, device="meta"), callback=lambda step, *_: seen.append(step))
    assert seen == list(range(1, 9))
