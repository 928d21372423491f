import math

import pytest
import torch

from ivmix.solvers import (
    DPMSolverPP2M,
    Euler,
    IVMixed,
    Leg,
    LowPass,
    Schedule,
    freeinit,
    initial_noise,
    integrate,
    normal_noise,
    plain,
    planned_nfe,
)

SCHEDULE = Schedule.scaled_linear()
SIGMAS = SCHEDULE.grid(6)
SHAPE = (3, 8, 6, 4)  # c f h w
SEEDS = [3, 4]
SCHEDULES = {
    "vp": SCHEDULE,
    "fading": SCHEDULE.fading(),  # alpha² + sigma_vp² < 1
    "flow": Schedule.rectified_flow(),  # begins at inf
    "zero terminal snr": SCHEDULE.zero_terminal_snr(),
}
on_every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def denoise(x, sigma):
    """Any network that is no filter: its x0 has all frequencies."""
    return torch.tanh(x if sigma.isinf() else x / (1 + sigma)) * torch.linspace(-1, 1, x.shape[-2]).reshape(-1, 1)


def begun_again(schedule, keep):
    """x0 of one run, its first noise, the fresh noise, and z at the level where the second run begins."""
    legs = freeinit(plain(schedule.grid(4)), 2, keep)[:5]
    eps = initial_noise(SEEDS, SHAPE).double()
    eta = normal_noise(SEEDS, SHAPE)(None, None).double()
    x, noise = schedule.start(eps, legs[0].source), normal_noise(SEEDS, SHAPE)
    run = integrate(denoise, legs, x, noise=noise, schedule=schedule, trace=True)
    alpha = schedule.alpha_at(legs[0].source)
    return run.trace[-2].x, eps, eta, run.x if alpha == 0 else alpha * run.x


@on_every_schedule
def test_a_filter_that_passes_all_adds_the_first_noise_to_the_result(schedule):
    x0, eps, _, z = begun_again(schedule, lambda x: x)
    torch.testing.assert_close(z, schedule.alpha[-1] * x0 + schedule.sigma_vp[-1] * eps, rtol=0, atol=1e-13)


@on_every_schedule
def test_a_filter_that_stops_all_begins_from_fresh_noise_of_unit_variance(schedule):
    """z is mixed, not x: sigma·eta in place of eta / alpha would give z a variance of sigma_vp², too little."""
    _, _, eta, z = begun_again(schedule, torch.zeros_like)
    torch.testing.assert_close(z, eta, rtol=0, atol=1e-14)


@on_every_schedule
def test_the_papers_equation(schedule):
    """arXiv 2312.07537, DDPM forward and noise reinitialization, with whole complex spectra."""
    x0, eps, eta, z = begun_again(schedule, None)
    f, h, w = torch.meshgrid(*(torch.fft.fftfreq(n, dtype=torch.float64) * 2 for n in SHAPE[1:]), indexing="ij")
    H = 1 / (1 + ((f**2 + h**2 + w**2).sqrt() / 0.25) ** 8)
    z_T = schedule.alpha[-1] * x0 + schedule.sigma_vp[-1] * eps
    F_low, F_high = (torch.fft.fftn(y, dim=(-3, -2, -1)) for y in (z_T, eta))
    expected = torch.fft.ifftn(F_low * H + F_high * (1 - H), dim=(-3, -2, -1))
    assert expected.imag.abs().max() < 1e-14
    torch.testing.assert_close(z, expected.real, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("wave", "factor"),
    [
        ((0, 0, 0), 1.0),
        ((1, 0, 0), 1 / 2),  # one cycle in 8 frames: a quarter of Nyquist's frequency, the cut-off
        ((0, 2, 0), 1 / 2),
        ((0, 0, 2), 1 / 2),
        ((2, 0, 0), 1 / 257),  # an octave above: 1 / (1 + 2^8)
        ((0, 4, 0), 1 / 257),
        ((0, 1, 1), 16 / 17),  # d² = 1/2
        ((1, 2, 0), 1 / 17),  # d² = 2
        ((4, 8, 8), 1 / (1 + 48**4)),  # the farthest corner, d = 4·sqrt(3)
    ],
)
def test_a_wave_is_multiplied_by_the_filters_value_at_its_frequency(wave, factor):
    f, h, w = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) / n for n in (8, 16, 16)), indexing="ij")
    x = torch.cos(2 * math.pi * (wave[0] * f + wave[1] * h + wave[2] * w)).expand(2, 3, 8, 16, 16)
    torch.testing.assert_close(LowPass()(x), factor * x, rtol=0, atol=1e-14)


def test_cut_offs_and_order_are_those_given():
    response = LowPass(spatial=0.5, temporal=0.25, order=1).response(8, 8, 7)
    assert (response[1, 0, 0], response[0, 2, 0]) == (0.5, 0.5)
    assert response[2, 2, 0] == 1 / 6  # 1 + 2² + 1²
    u = torch.tensor([0, 2, 4, 6, 6, 4, 2], dtype=torch.float64) / 7  # odd sizes have no frequency of Nyquist's
    torch.testing.assert_close(response[0, 0], 1 / (1 + (u / 0.5) ** 2), rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(8, 4, 6), (5, 3, 7), (1, 1, 1)])
def test_the_filter_keeps_shape_dtype_and_rows_apart(size, dtype):
    x = torch.randn(2, 3, *size, dtype=dtype, generator=torch.Generator().manual_seed(0))
    y = LowPass()(x)
    assert (y.shape, y.dtype) == (x.shape, dtype)
    torch.testing.assert_close(y[1:, 2:], LowPass()(x[1:, 2:]))


def test_white_noises_mix_to_the_variance_the_equation_implies():
    """The mean of L² + (1 - L)², which is 1 only where L is 0 or 1: the equation loses 0.8 % here."""
    size = (8, 16, 16)
    L = LowPass().response(*size)
    expected = (L**2 + (1 - L) ** 2).mean()
    assert expected == pytest.approx(0.992, abs=5e-4)
    a, b = (torch.randn(500, 1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    mixed = b + LowPass()(a - b)
    # a million numbers: 4 standard deviations of their variance are 4·sqrt(2/n) = 0.0056
    assert abs(mixed.var() - expected) < 4 * (2 / mixed.numel()) ** 0.5


def test_one_iteration_is_the_plan_itself():
    assert freeinit(plain(SIGMAS, 2.0), 1) == plain(SIGMAS, 2.0)


@pytest.mark.parametrize("iterations", [1, 3])
def test_every_iteration_costs_the_plan_and_reports_its_steps(iterations):
    legs = freeinit(plain(SIGMAS), iterations)
    x, seen = SCHEDULE.start(initial_noise(SEEDS, SHAPE), SIGMAS[0]), []
    run = integrate(
        {"video": denoise}, legs, x, noise=normal_noise(SEEDS, SHAPE), schedule=SCHEDULE,
        callback=lambda step, total, run: seen.append((step, total)),
    )  # fmt: skip
    assert run.forwards == run.nfe == planned_nfe(legs) == {"video": iterations * 6}
    assert seen == [(k, iterations * 6) for k in range(1, iterations * 6 + 1)]
    assert sorted({leg.step for leg in legs}) == list(range(iterations * 6))


def test_runs_joined_by_hand_any_plan_and_no_memory_between_them(pair):
    """Three runs of a zigzag whose solvers remember: each forgets the last one's, all use the first noise."""
    sampler = IVMixed(
        guidance=2.0, image_guidance=0.3, video_guidance=0.3, interval=(0.0, 0.5), solver=DPMSolverPP2M(),
        step_solver=DPMSolverPP2M(),
    )  # fmt: skip
    legs, shape, seeds, low_pass = sampler.legs(SIGMAS), (3, 4, 2, 1), [5, 6], LowPass(0.5, 0.6)
    z, noise = initial_noise(seeds, shape).double(), normal_noise(seeds, shape)
    x = start = SCHEDULE.start(z, SIGMAS[0])
    for k in range(3):
        x0 = integrate(pair, legs, x).x
        if k < 2:
            z_T = SCHEDULE.alpha[-1] * x0 + SCHEDULE.sigma_vp[-1] * z
            eta = noise(None, None).double()
            x = SCHEDULE.start(low_pass(z_T) + eta - low_pass(eta), SIGMAS[0])
    run = integrate(pair, freeinit(legs, 3, low_pass), start, noise=normal_noise(seeds, shape), schedule=SCHEDULE)
    torch.testing.assert_close(run.x, x0, rtol=0, atol=1e-11)  # x is of order 15 at the top


def test_a_sample_is_the_same_alone_and_in_a_batch():
    def end(seeds):
        x = SCHEDULE.start(initial_noise(seeds, SHAPE).double(), SIGMAS[0])
        return integrate(denoise, freeinit(plain(SIGMAS), 3), x, noise=normal_noise(seeds, SHAPE), schedule=SCHEDULE).x

    torch.testing.assert_close(end([1, 2, 3])[1:2], end([2]), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: freeinit(plain(SIGMAS), 0), "iterations: got 0"),
        (lambda: freeinit(plain(SIGMAS), 2.0), "iterations: got 2.0"),
        (lambda: freeinit([]), "legs: got none"),
        (lambda: freeinit(plain(SIGMAS[:-1])), "legs: got .* expected a plan from a level above 0 to 0"),
        (lambda: LowPass(spatial=0.0), "spatial: got 0.0"),
        (lambda: LowPass(temporal=math.nan), "temporal: got nan"),
        (lambda: LowPass(order=0), "order: got 0"),
        (lambda: Leg(None, "again", 1.0, 1.0, 2.0, None, Euler(), 0, keep=LowPass()), "keep: .*from 0"),
        (lambda: Leg("video", "step", 0.0, 0.0, 2.0, None, Euler(), 0, keep=LowPass()), "keep: .*'video'"),
    ],
)
def test_plans_that_cannot_begin_again_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("cut", "given", "message"),
    [
        (slice(None), {"schedule": SCHEDULE}, "adds fresh noise: pass noise="),
        (slice(None), {"noise": normal_noise(SEEDS, SHAPE)}, "begins a run again: it needs schedule="),
        (slice(6, None), {"schedule": SCHEDULE, "noise": normal_noise(SEEDS, SHAPE)}, "got 0 -> 0"),
        (slice(0, 7, 3), {"schedule": SCHEDULE, "noise": normal_noise(SEEDS, SHAPE)}, "got 14.6146 -> 0.929214"),
    ],
)
def test_runs_that_cannot_begin_again_are_refused_before_the_first_evaluation(cut, given, message):
    legs = freeinit(plain(SIGMAS), 2)[cut]
    with pytest.raises(ValueError, match=message):
        integrate(lambda x, sigma: pytest.fail("evaluated"), legs, torch.zeros(2, *SHAPE), **given)
