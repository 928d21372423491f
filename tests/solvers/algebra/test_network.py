import math
from dataclasses import dataclass, replace

import pytest
import torch

from ivmix.solvers import (
    Boundary,
    DPMSolverPP2M,
    Euler,
    Guided,
    Heun,
    Network,
    Schedule,
    View,
    composite,
    enlarged,
    framewise,
    integrate,
    join_conditions,
    plain,
    repeat_rows,
    seen,
)
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, exponential

MODEL = GaussianNetwork("video", {None: Gaussian(0.3, exponential(4, 1.2))})
VP, FLOW = Schedule.scaled_linear(), Schedule.rectified_flow()


def adapted(schedule, prediction, **options):
    return Network(MODEL.forward(schedule, prediction), schedule, prediction, "video", **options)


@pytest.mark.parametrize("schedule", [VP, FLOW, Schedule.ve(0.02, 20.0)], ids=["vp", "flow", "ve"])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v", "flow"])
@pytest.mark.parametrize("sigma", [0.05, 1.0, 14.0])
def test_every_prediction_on_every_schedule_is_the_same_denoiser(schedule, prediction, sigma, x):
    x = sigma * x + 0.3
    # z / alpha and t(sigma) lose a few units in the last place of x, which is sigma in size
    torch.testing.assert_close(
        adapted(schedule, prediction)(None)(x, sigma), MODEL(None)(x, sigma), rtol=0, atol=1e-12 * (1 + sigma)
    )


@pytest.mark.parametrize("solver", [Euler(), DPMSolverPP2M()])
def test_vp_and_flow_runs_agree(solver, x):
    sigmas = VP.grid(12)
    runs = [
        integrate(adapted(schedule, prediction)(None), plain(sigmas, solver=solver), sigmas[0] * x).x
        for schedule, prediction in ((VP, "epsilon"), (VP, "v"), (FLOW, "flow"))
    ]
    torch.testing.assert_close(runs[1], runs[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(runs[2], runs[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("solver", [Euler(), DPMSolverPP2M()])
def test_networks_on_different_schedules_meet_at_sigma(pair, solver, x):
    """Image on linear betas and epsilon, video on a rectified flow: the composite is that of the closed forms, and
    each network hears its own time for every level."""
    times = {"image": [], "video": []}

    def adapt(name, schedule, prediction):
        model = pair[name].cond.terms[0][0].model

        def forward(z, t, condition):
            times[name].append(t.item())
            rows = zip(z.chunk(len(condition)), condition, strict=True)
            return torch.cat([model.forward(schedule, prediction)(row, t, key) for row, key in rows])

        network = Network(forward, schedule, prediction, name, join=lambda keys: sum(keys, ()))
        return Guided(network(("",)), network(("cat",)))

    linear = Schedule.linear()
    image, video = adapt("image", linear, "epsilon"), adapt("video", FLOW, "flow")
    sigmas = Schedule.ve(0.1, 10.0).grid(12, "uniform-lam")[:-1]
    options = {"guidance": 2.0, "image_guidance": 0.5, "video_guidance": 0.5, "reference": sigmas}
    runs = [
        integrate(composite(*networks, **options), plain(sigmas, solver=solver), 10 * x).x
        for networks in ((image, video), (pair["image"], pair["video"]))
    ]
    torch.testing.assert_close(runs[0], runs[1], rtol=0, atol=1e-10)
    assert times["image"] == linear.t(sigmas[:-1]).tolist()
    assert times["video"] == FLOW.t(sigmas[:-1]).tolist()


def test_a_rectified_flow_is_eulers_method_in_t_from_pure_noise(x):
    """x does not exist at t = 1; the run still is z' = z + (t' - t)·v there and below."""

    def velocity(z, t, condition):
        return 0.3 * z.roll(1, 2) + t * z

    network = Network(velocity, FLOW, "flow", "video")
    sigmas = FLOW.grid(5)
    z = x
    for k in range(5, 0, -1):
        z = z - velocity(z, torch.tensor(k / 5, dtype=torch.float64), None) / 5
    torch.testing.assert_close(integrate(network(None), plain(sigmas), x).x, z, rtol=0, atol=1e-12)


@pytest.mark.parametrize("timesteps", ["fractional", "nearest"])
def test_a_network_may_write_on_its_time(timesteps, x):
    """Heun's method asks for most levels twice, and a schedule remembers the times of levels."""

    def network(schedule, forward):
        return Network(forward, schedule, "epsilon", "video", timesteps=timesteps)(None)

    def writing(z, t, condition):
        return z * t.div_(1000)

    ends = []
    for forward in (lambda z, t, condition: z * (t / 1000), writing):
        schedule = Schedule.scaled_linear()
        ends.append(integrate(network(schedule, forward), plain(schedule.grid(4), solver=Heun()), 14 * x).x)
        assert torch.equal(schedule.timesteps, VP.timesteps)
    assert torch.equal(*ends)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("dtype", [None, torch.float32])
@pytest.mark.parametrize(
    ("schedule", "prediction", "sigma"),
    [
        (VP, "epsilon", 2.0),
        (VP, "x0", 2.0),
        (VP, "v", 2.0),
        (VP.zero_terminal_snr(), "v", math.inf),
        (FLOW, "flow", 2.0),
        (FLOW, "flow", math.inf),
        (Schedule.ve(0.02, 20.0), "epsilon", 2.0),
    ],
)
def test_a_network_may_write_on_its_input(schedule, prediction, sigma, dtype, rows, x):
    """Neither its own prediction nor the caller's state is touched by it."""

    def clean(z, t, condition):
        return torch.tanh(z)

    def writing(z, t, condition):
        y = torch.tanh(z)
        z.fill_(math.nan)
        return y

    def x0(forward, x):
        network = Network(forward, schedule, prediction, "video", dtype=dtype, join=lambda conditions: None)
        return (network("a") if rows == 1 else network("a") + 2.0 * network("b"))(x, sigma)

    given = x.clone()
    assert torch.equal(x0(writing, given), x0(clean, x))
    assert torch.equal(given, x)


def test_epsilon_is_refused_where_alpha_is_zero(x):
    network = Network(lambda z, t, condition: z, FLOW, "epsilon", "video")
    with pytest.raises(ValueError, match="alpha = 0"):
        network(None)(x, math.inf)


def test_conditions_of_one_network_share_one_call_and_are_joined_once(x):
    calls, joins = [], []

    def forward(z, t, condition):
        calls.append((z.shape[0], condition.shape[0]))
        return z * condition[:, :, None, None, None]

    def join(conditions):
        joins.append(len(conditions))
        return join_conditions(conditions)

    network = Network(forward, VP, "epsilon", "video", join=join)
    u, c = network(torch.zeros(2, 3)), network(torch.ones(2, 3))
    guided = u + 7.5 * (c - u)
    for sigma in (9.0, 5.0, 2.0):
        guided(x, sigma)
    assert calls == [(4, 4)] * 3
    assert joins == [2]


def test_batch_equals_one_by_one(x):
    network = Network(lambda z, t, c: torch.tanh(z + c[:, :, None, None, None]), VP, "epsilon", "video")
    u, c = torch.zeros(2, 3, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64)

    def run(x, u, c):
        denoise = network(u) + 3.0 * (network(c) - network(u))
        return integrate(denoise, plain(VP.grid(6)), 14.0 * x).x

    together = run(x, u, c)
    apart = torch.cat([run(x[k : k + 1], u[k : k + 1], c[k : k + 1]) for k in range(2)])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-12)


def test_network_runs_in_its_dtype_and_the_sum_in_the_states(x):
    seen = []

    def forward(z, t, condition):
        seen.append((z.dtype, t.dtype, t.device.type))
        return z

    network = Network(forward, VP, "x0", "video", dtype=torch.bfloat16)
    x0 = (15.0 * network(None))(x, VP.sigmas[500])
    # weighted in the state's precision: 15 times a bfloat16 value is none
    assert torch.equal(x0, 15.0 * (VP.alpha[500] * x).bfloat16().double())
    assert seen == [(torch.bfloat16, torch.float64, "cpu")]


def test_timesteps_fractional_or_nearest(x):
    told = []
    sigma = VP.sigma(500.3)
    for timesteps in ("fractional", "nearest"):
        network = Network(lambda z, t, c: told.append(t.item()) or z, VP, "epsilon", "video", timesteps=timesteps)
        network(None)(x, sigma)
    assert told == [pytest.approx(500.3, abs=1e-9), 500.0]


def test_levels_out_of_range_name_the_network(x):
    network = Network(lambda z, t, c: z, VP, "epsilon", "video")
    with pytest.raises(ValueError, match=r"'video' cannot be evaluated at this level: sigma: got 20"):
        network(None)(x, 20.0)


def test_a_wrong_shape_names_the_network(x):
    network = Network(lambda z, t, c: z[:, :1], VP, "epsilon", "video")
    with pytest.raises(ValueError, match="'video' returned shape"):
        network(None)(x, 1.0)


@dataclass
class Output:
    sample: torch.Tensor


def test_an_output_object_is_refused_by_name(x):
    """As diffusers' modules return it."""
    network = Network(lambda z, t, c: Output(z), VP, "epsilon", "video")
    with pytest.raises(TypeError, match=r"network 'video' returned a Output, expected a tensor; .* its \.sample"):
        network(None)(x, 1.0)
    network = Network(framewise(lambda z, t, c: Output(z)), VP, "epsilon", "image")
    with pytest.raises(TypeError, match=r"the framewise network returned a Output, expected a tensor"):
        network(None)(x, 1.0)


def test_framewise_networks_want_videos_and_return_images(x):
    network = Network(framewise(lambda z, t, c: z), VP, "epsilon", "image")
    with pytest.raises(ValueError, match=r"x: got shape \(2, 3, 2, 1\), expected b c f h w"):
        network(None)(x[:, :, 0], 1.0)
    network = Network(framewise(lambda z, t, c: z[:2]), VP, "epsilon", "image")
    with pytest.raises(ValueError, match=r"framewise network returned shape \(2, 3, 2, 1\) for input \(8, 3, 2, 1\)"):
        network(None)(x, 1.0)


def test_unknown_prediction_and_timesteps_are_refused():
    for options in ({"prediction": "eps"}, {"prediction": "v", "timesteps": "rounded"}):
        with pytest.raises(ValueError, match="expected"):
            Network(lambda z, t, c: z, VP, name="video", **options)
    with pytest.raises(TypeError, match="schedule: got a str, expected a Schedule"):
        Network(lambda z, t, c: z, "epsilon", VP, "video")


@dataclass(frozen=True)
class Words:
    text: str

    @staticmethod
    def cat(conditions):
        return Words("|".join(condition.text for condition in conditions))


def test_join_conditions():
    assert join_conditions([None, None]) is None
    assert join_conditions([Words("a"), Words("b")]) == Words("a|b")
    assert join_conditions([torch.zeros(1, 2), torch.zeros(3, 2)]).shape == (4, 2)
    for mixed in ([None, Words("a")], ["a", "b"], [torch.zeros(1), None]):
        with pytest.raises(TypeError, match="join"):
            join_conditions(mixed)


def test_framewise_is_frame_by_frame(x):
    frames_seen = []

    def image(z, t, condition):  # (b f) c h w
        frames_seen.append((z.shape, condition.shape))
        return z * condition[:, :, None, None] + t

    condition = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
    forward = framewise(image, repeat_rows)
    t = torch.tensor(0.5, dtype=torch.float64)
    y = forward(x, t, condition)
    for b in range(x.shape[0]):
        for f in range(x.shape[2]):
            torch.testing.assert_close(y[b, :, f], x[b, :, f] * condition[b, :, None, None] + 0.5, rtol=0, atol=0)
    assert frames_seen == [((8, 3, 2, 1), (8, 3))]


def test_framewise_repeats_a_condition_once():
    repeats = []

    def repeat(condition, frames):
        repeats.append(frames)
        return condition.repeat_interleave(frames, 0)

    forward, condition = framewise(lambda z, t, c: z, repeat), torch.zeros(1, 3)
    for _ in range(4):
        forward(torch.zeros(1, 3, 5, 2, 2), torch.tensor(0.0), condition)
    assert repeats == [5]


SQUARES = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def of_neighbours(z, t, condition):
    """A network that sees as far as the next latent, and its own size."""
    return torch.tanh(z + 0.5 * z.roll(1, -1) - 0.3 * z.roll(1, -2)) + 0.01 * z.shape[-1]


@pytest.mark.parametrize(("size", "k"), [(8, 2), (12, 3), (5, 1), (2, 1)])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v", "flow"])
def test_an_enlarged_network_predicts_blocks_means_of_repeated_latents(size, k, prediction):
    """For every prediction x0 = M·x0(U·x): only the prediction is resampled. Latents here are 4 x 4."""
    x = SQUARES
    own = Network(of_neighbours, VP, prediction, "image")(None)
    seen = Network(enlarged(of_neighbours, size), VP, prediction, "image")(None)
    large = torch.kron(x, torch.ones(k, k, dtype=x.dtype))
    expected = own(large, 2.0)[..., : 4 * k, : 4 * k].unflatten(-1, (4, k)).unflatten(-3, (4, k)).mean((-3, -1))
    torch.testing.assert_close(seen(x, 2.0), expected, rtol=0, atol=1e-13)
    assert k > 1 or torch.equal(seen(x, 2.0), own(x, 2.0))


def test_a_leg_of_an_enlarged_network_is_a_leg_seen_through_the_same_view():
    """Around Euler's leg or inside the network, where all samplers have it: one thing."""
    x, sigmas = VP.sigma_max * SQUARES, VP.grid(3)
    view = View("twice", lambda x: torch.kron(x, torch.ones(2, 2, dtype=x.dtype)),
                lambda y, x: y.unflatten(-1, (4, 2)).unflatten(-3, (4, 2)).mean((-3, -1)))  # fmt: skip
    legs = plain(sigmas)
    around = integrate(Network(of_neighbours, VP, "epsilon", "video")(None),
                       [replace(leg, view=view) for leg in legs], x)  # fmt: skip
    inside = integrate(Network(enlarged(of_neighbours, 8), VP, "epsilon", "video")(None), legs, x)
    torch.testing.assert_close(inside.x, around.x, rtol=0, atol=1e-12)


def test_a_size_that_is_none_is_refused():
    with pytest.raises(ValueError, match="size: got 0"):
        enlarged(of_neighbours, 0)


def views_of(asked):
    """A network's views: it times `share`, or with `flip` times -1; `asked` keeps what was asked for."""

    def views(share=1.0, flip=False):
        asked.append((share, flip))
        return lambda z, t, condition: (-share if flip else share) * z + condition

    return views


def test_a_network_seen_differently_is_another_source_of_atoms(x):
    asked, condition = [], torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    network = Network(
        lambda z, t, c: z + c, Schedule.ve(0.1, 10.0), "x0", "video", dtype=torch.float32, views=views_of(asked)
    )
    half, flipped = network.seen(share=0.5), network.seen(flip=True, share=2.0)
    assert (half.name, half.dtype, half.schedule) == ("video perturbed", torch.float32, network.schedule)
    torch.testing.assert_close(half(condition)(x, 1.0), x / 2 + 1, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(flipped(condition)(x, 1.0), 1 - 2 * x, rtol=1e-6, atol=1e-6)
    assert network.seen(share=2.0, flip=True) is flipped  # whatever the order: found again, not made again
    assert asked == [(0.5, False), (2.0, True)]
    total = network(condition) - seen(network(condition), share=0.5) + seen(network(condition), share=0.5)
    assert total.weights(1.0) == [1.0, 0.0]


def test_a_field_seen_differently_keeps_its_weights_and_conditions(x):
    one, two = (torch.full((len(x), 1, 1, 1, 1), value, dtype=torch.float64) for value in (1.0, 2.0))
    network = Network(lambda z, t, c: z + c, Schedule.ve(0.1, 10.0), "x0", "video", views=views_of([]))
    field = Guided(network(one), network(two)).at(3.0)
    view = seen(field, share=0.5)
    assert view.weights(1.0) == field.weights(1.0)
    assert [atom.condition for atom, _ in view.terms] == [one, two]
    assert view.cost(1.0) == {"video perturbed": 2}
    torch.testing.assert_close(view(x, 1.0), x / 2 - 2 * one + 3 * two)


def test_a_network_without_views_is_seen_in_one_way_alone(x, pair):
    network = Network(lambda z, t, c: z, Schedule.ve(0.1, 10.0), "x0", "video")
    with pytest.raises(TypeError, match="network 'video' can be seen in one way alone"):
        seen(network(None), skip=("mid_block",))
    with pytest.raises(TypeError, match="field: got a GaussianNetwork in it, expected a Network with views"):
        seen(pair["video"].cond, skip=("mid_block",))


def test_a_boundary_is_a_share_of_what_is_shown_by_the_networks_time(x):
    """c_skip·z + c_out·x0 under every condition, z itself at t = 0, and nothing of it is left where noise is high."""
    schedule = Schedule.linear(0.00085, 0.012)
    plain, bounded = (Network(lambda z, t, c: z + c, schedule, "v", "video", boundary=b) for b in (None, Boundary()))
    for t in (0.0, 0.05, 3.0, 999.0):
        sigma = schedule.sigma(t)
        z = float(schedule.alpha_at(sigma)) * x
        c_skip, c_out = 0.25 / ((10 * t) ** 2 + 0.25), 10 * t / ((10 * t) ** 2 + 0.25) ** 0.5
        for c in (0.0, 1.0):
            expected = c_skip * z + c_out * plain(c)(x, sigma)
            torch.testing.assert_close(bounded(c)(x, sigma), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(bounded(1.0)(x, schedule.sigma(0.0)), float(schedule.alpha[0]) * x)
    torch.testing.assert_close(plain(1.0)(x, sigma), bounded(1.0)(x, sigma), rtol=1e-7, atol=1e-7)
    assert replace(bounded, views=lambda: plain.forward).seen().boundary == Boundary()
    for name in ("scaling", "spread"):
        with pytest.raises(ValueError, match=f"{name}: got 0, expected a finite number > 0"):
            Boundary(**{name: 0})
