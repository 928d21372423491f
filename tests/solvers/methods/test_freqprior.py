from dataclasses import replace

import pytest
import torch

from ivmix.solvers import (
    Euler,
    GaussianLowPass,
    Leg,
    LowPass,
    PowerComplement,
    Schedule,
    freeinit,
    freqprior,
    initial_noise,
    integrate,
    normal_noise,
    plain,
    planned_nfe,
)

SIZE = (8, 6, 4)  # f h w
SEEDS = [3, 4]
FLOW, VP = Schedule.rectified_flow(), Schedule.scaled_linear()
FILTERS = [LowPass(), LowPass(0.5, 0.6, order=2), GaussianLowPass(), GaussianLowPass(1.0, 0.5)]


def delta():
    """All frequencies, each of size 1."""
    x = torch.zeros(1, 1, *SIZE, dtype=torch.float64)
    x[..., 0, 0, 0] = 1
    return x


def begun_again(method, low, first, fresh):
    """z where the second run begins, of a flow, whose first level is pure noise: what it is of x0 = 0 is noise's."""
    legs = method(plain(FLOW.grid(2)), 2, low)[:3]
    return integrate(lambda x, sigma: 0 * x, legs, first, noise=lambda *_: fresh, schedule=FLOW).x


def power(method, low):
    """Of z at each frequency, both noises being white: the sum of what comes of each, squared."""
    nothing = torch.zeros_like(delta())
    shares = begun_again(method, low, delta(), nothing), begun_again(method, low, nothing, delta())
    return sum(torch.fft.fftn(share, dim=(-3, -2, -1)).abs() ** 2 for share in shares)[0, 0]


@pytest.mark.parametrize("low", FILTERS)
def test_the_mix_of_white_noises_is_white(low):
    torch.testing.assert_close(power(freqprior, low), torch.ones(SIZE, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("low", FILTERS)
def test_freeinits_mix_is_not(low):
    L = low.response(*SIZE)
    torch.testing.assert_close(power(freeinit, low), L**2 + (1 - L) ** 2, rtol=0, atol=1e-14)


@pytest.mark.parametrize("schedule", [VP, FLOW, VP.zero_terminal_snr()])
def test_the_papers_equation(schedule):
    """z_T = L(alpha·x0 + sigma_vp·eps) + sqrt(1 - L²)(eta), with whole complex spectra."""
    shape, low = (3, *SIZE), LowPass(0.5, 0.6)

    def denoise(x, sigma):
        return torch.tanh(x if sigma.isinf() else x / (1 + sigma)) * torch.linspace(-1, 1, SIZE[1]).reshape(-1, 1)

    eps = initial_noise(SEEDS, shape).double()
    legs = freqprior(plain(schedule.grid(4)), 2, low)[:5]
    noise = normal_noise(SEEDS, shape)
    run = integrate(denoise, legs, schedule.start(eps, legs[0].source), noise=noise, schedule=schedule, trace=True)
    alpha = schedule.alpha_at(legs[0].source)
    z, x0 = (run.x if alpha == 0 else alpha * run.x), run.trace[-2].x
    eta, L = normal_noise(SEEDS, shape)(None, None).double(), low.response(*SIZE)
    old, new = (torch.fft.fftn(y, dim=(-3, -2, -1)) for y in (alpha * x0 + schedule.sigma_vp[-1] * eps, eta))
    expected = torch.fft.ifftn(L * old + (1 - L**2).sqrt() * new, dim=(-3, -2, -1))
    torch.testing.assert_close(z, expected.real, rtol=0, atol=1e-13)


def test_it_is_freeinit_but_for_the_mix():
    legs = plain(VP.grid(4), 2.0)
    low = GaussianLowPass(0.5, 0.5)
    mixed = freqprior(legs, 3, low)
    assert [replace(leg, fill=None) for leg in mixed] == freeinit(legs, 3, low)
    assert {leg.fill for leg in mixed if leg.network is None} == {PowerComplement(low)}
    assert freqprior(legs, 1) == legs
    assert planned_nfe(freqprior(legs)) == {"video": 12}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: freqprior(plain(VP.grid(4)), 0), ValueError, "iterations: got 0"),
        (lambda: freqprior(plain(VP.grid(4)), 2, lambda x: x), TypeError, "low: got a function"),
        (lambda: Leg(None, "again", 0.0, 0.0, 2.0, None, Euler(), 0, fill=LowPass()), ValueError, "fill: .* without"),
    ],
)
def test_what_keeps_no_variance_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
