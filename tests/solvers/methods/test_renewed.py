import pytest
import torch

from ivmix.solvers import (
    DPMSolverPP2M,
    GaussianLowPass,
    LowPass,
    Schedule,
    initial_noise,
    integrate,
    normal_noise,
    plain,
    planned_nfe,
    renewed,
)

SIZE = (8, 6, 4)  # f h w
SEEDS = [3, 4]
VP = Schedule.scaled_linear()
LOW = LowPass(0.5, 0.6, order=2)


def spectrum(x):
    return torch.fft.fftn(x, dim=(-3, -2, -1))


def denoise(x, sigma):
    """Any network that is no filter: its x0 has all frequencies."""
    return torch.tanh(x if sigma.isinf() else x / (1 + sigma)) * torch.linspace(-1, 1, SIZE[1]).reshape(-1, 1)


@pytest.mark.parametrize("schedule", [VP, VP.fading(), Schedule.rectified_flow(), VP.zero_terminal_snr()])
def test_the_papers_equation(schedule):
    """z = L(z) + (1 - L)(eta), after the first step alone, with whole complex spectra."""
    shape = (3, *SIZE)
    sigmas = schedule.grid(4)
    z = initial_noise(SEEDS, shape).double()
    start, noise = schedule.start(z, sigmas[0]), normal_noise(SEEDS, shape)
    legs = renewed(plain(sigmas), (0.0, 0.1), LOW)[:2]
    run = integrate(denoise, legs, start, noise=noise, schedule=schedule, trace=True)
    alpha, L = schedule.alpha_at(sigmas[1]), LOW.response(*SIZE)
    eta = normal_noise(SEEDS, shape)(None, None).double()
    expected = torch.fft.ifftn(L * spectrum(alpha * run.trace[0].x) + (1 - L) * spectrum(eta), dim=(-3, -2, -1)).real
    torch.testing.assert_close(alpha * run.x, expected, rtol=0, atol=1e-13)
    assert run.at == sigmas[1]


@pytest.mark.parametrize("steps", [1, 3, 8])
@pytest.mark.parametrize("low", [LOW, GaussianLowPass(1.0, 0.5)])
def test_what_is_left_after_many_steps(steps, low):
    """Of a state that no network changes (x0 = x), by the closed form; alpha = 1."""
    schedule = Schedule.ve(0.1, 10.0)
    delta = torch.zeros(1, 1, *SIZE, dtype=torch.float64)
    delta[..., 0, 0, 0] = 1

    def left(first, number):
        """With white noise of a single draw, or the state's own."""
        draws = iter([delta if k == number else 0 * delta for k in range(steps)])
        legs = renewed(plain(schedule.grid(10, "uniform-lam")), (0.0, (steps - 0.5) / 9), low)[: 2 * steps]
        run = integrate(lambda x, sigma: x, legs, first, noise=lambda *_: next(draws), schedule=schedule)
        return spectrum(run.x)[0, 0].abs() ** 2

    L = low.response(*SIZE)
    torch.testing.assert_close(left(delta, None), L ** (2 * steps), rtol=0, atol=1e-13)
    noise = sum(left(0 * delta, number) for number in range(steps))
    torch.testing.assert_close(noise, (1 - L) / (1 + L) * (1 - L ** (2 * steps)), rtol=0, atol=1e-13)


def test_the_steps_are_those_of_the_plan_and_remember_nothing_of_before():
    """A multistep solver begins anew behind every mix: with nothing of fresh noise, that is all there is to see."""
    sigmas = VP.grid(6)
    legs = renewed(plain(sigmas, solver=DPMSolverPP2M()), (0.0, 1.0), lambda x: x)
    x = VP.start(initial_noise(SEEDS, (3, *SIZE)).double(), sigmas[0])
    run = integrate(denoise, legs, x, noise=normal_noise(SEEDS, (3, *SIZE)), schedule=VP)
    torch.testing.assert_close(run.x, integrate(denoise, plain(sigmas), x).x, rtol=0, atol=1e-12)  # all Euler's
    assert run.nfe == planned_nfe(legs) == {"video": 6}
    assert [leg for leg in legs if leg.network] == plain(sigmas, solver=DPMSolverPP2M())


@pytest.mark.parametrize(
    ("interval", "behind"),
    [((0.0, 0.1), [0, 1, 2, 3, 4]), ((0.5, 0.56), [25, 26, 27]), ((0.9, 1.0), [45, 46, 47, 48])],
)
def test_the_steps_behind_which_noise_is_renewed(interval, behind):
    """u = i/49; the authors' 5 of 50 by itself, and never at 0, where there is no noise to renew."""
    sigmas = VP.grid(50)
    legs = renewed(plain(sigmas), interval)
    assert [legs[i - 1].step for i, leg in enumerate(legs) if leg.label == "renew"] == behind
    assert {leg.keep for leg in legs if leg.label == "renew"} == {LowPass(0.125, 0.125)}
    assert [leg for leg in legs if leg.label != "renew"] == plain(sigmas)
    if interval == (0.0, 0.1):
        assert legs == renewed(plain(sigmas))


def test_a_part_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"interval: got \(0.5, 0.2\), expected \(a, b\) with 0 <= a < b <= 1"):
        renewed(plain(VP.grid(4)), (0.5, 0.2))


def test_it_needs_noise_and_a_schedule():
    legs, x = renewed(plain(VP.grid(4))), torch.zeros(2, 3, *SIZE)
    with pytest.raises(ValueError, match="adds fresh noise: pass noise="):
        integrate(denoise, legs, x, schedule=VP)
    with pytest.raises(ValueError, match="mixes z with fresh noise: it needs schedule="):
        integrate(denoise, legs, x, noise=normal_noise(SEEDS, (3, *SIZE)))
