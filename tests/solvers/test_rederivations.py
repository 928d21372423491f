"""Solvers against their papers' algorithms, written here in the papers' own symbols and VP coordinates."""

import math
from itertools import pairwise

import pytest
import torch

from ivmix.solvers import (
    DDIM,
    DPM2,
    ERSDE1,
    ERSDE2,
    ERSDE3,
    AdamsBashforth2,
    AdamsBashforth3,
    AdamsBashforth4,
    DPMSolverPP2M,
    DPMSolverPP2S,
    DPMSolverPP3M,
    ExponentialAB2,
    Schedule,
    SDEDPMSolverPP2M,
    SDEDPMSolverPP2S,
    SDEDPMSolverPP3M,
    SDEExponentialAB2,
    UniPC2,
    UniPC3,
    integrate,
    plain,
)
from ivmix.solvers.steps.quadrature import adams, exponential_adams, phi

SCHEDULE = Schedule.scaled_linear()
SIGMAS = SCHEDULE.grid(9)[:-1]
ALPHA = SCHEDULE.alpha_at(SIGMAS)
SIGMA = ALPHA * SIGMAS  # the papers' sigma
LAM = (ALPHA / SIGMA).log()
both_ways = pytest.mark.parametrize("way", [1, -1], ids=["sampling", "inversion"])


def tables(way):
    return (SIGMAS, ALPHA, SIGMA, LAM) if way == 1 else tuple(t.flip(0) for t in (SIGMAS, ALPHA, SIGMA, LAM))


def agree(denoise, solver, x, way, z, **options):
    sigmas, alpha, *_ = tables(way)
    run = integrate(denoise, plain(sigmas, solver=solver), x / alpha[0], **options)
    torch.testing.assert_close(run.x * alpha[-1], z, rtol=0, atol=1e-12)


@both_ways
def test_2m(commuting, x, way):
    """arXiv 2211.01095, Algorithm 2."""
    sigmas, alpha, sigma, lam = tables(way)
    z, outputs = x, []
    for i in range(1, len(sigmas)):
        outputs.append(commuting(z / alpha[i - 1], sigmas[i - 1]))
        D, h = outputs[-1], lam[i] - lam[i - 1]
        if i > 1:
            r = (lam[i - 1] - lam[i - 2]) / h
            D = (1 + 1 / (2 * r)) * outputs[-1] - 1 / (2 * r) * outputs[-2]
        z = sigma[i] / sigma[i - 1] * z - alpha[i] * torch.expm1(-h) * D
    agree(commuting, DPMSolverPP2M(), x, way, z)


@both_ways
@pytest.mark.parametrize("r", [0.5, 0.3, 1.0])
def test_2s(commuting, x, way, r):
    """arXiv 2211.01095, Algorithm 1: s_i has lam(s_i) = lam(t_{i-1}) + r·h_i."""
    sigmas, alpha, sigma, lam = tables(way)
    z = x
    for i in range(1, len(sigmas)):
        h = lam[i] - lam[i - 1]
        lam_s = lam[i - 1] + r * h
        alpha_s, sigma_s = torch.sigmoid(2 * lam_s).sqrt(), torch.sigmoid(-2 * lam_s).sqrt()
        x0 = commuting(z / alpha[i - 1], sigmas[i - 1])
        u = sigma_s / sigma[i - 1] * z - alpha_s * torch.expm1(-r * h) * x0
        D = (1 - 1 / (2 * r)) * x0 + 1 / (2 * r) * commuting(u / alpha_s, sigma_s / alpha_s)
        z = sigma[i] / sigma[i - 1] * z - alpha[i] * torch.expm1(-h) * D
    agree(commuting, DPMSolverPP2S(r), x, way, z)


@both_ways
def test_dpm_2(commuting, x, way):
    """arXiv 2206.00927, Algorithm 1 with r_1 = 1/2, in eps."""
    sigmas, alpha, sigma, lam = tables(way)
    z = x

    def eps(z, alpha, sigma):
        return (z - alpha * commuting(z / alpha, sigma / alpha)) / sigma

    for i in range(1, len(sigmas)):
        h = lam[i] - lam[i - 1]
        lam_s = lam[i - 1] + h / 2
        alpha_s, sigma_s = torch.sigmoid(2 * lam_s).sqrt(), torch.sigmoid(-2 * lam_s).sqrt()
        u = alpha_s / alpha[i - 1] * z - sigma_s * torch.expm1(h / 2) * eps(z, alpha[i - 1], sigma[i - 1])
        z = alpha[i] / alpha[i - 1] * z - sigma[i] * torch.expm1(h) * eps(u, alpha_s, sigma_s)
    agree(commuting, DPM2(), x, way, z)


@both_ways
def test_exponential_adams_bashforth_2(commuting, x, way):
    """Hochbruck and Ostermann, Exponential integrators, 2.5: (phi_1 - c·phi_2)·g_n + c·phi_2·g_(n-1), c = -1/r."""
    sigmas, alpha, sigma, lam = tables(way)
    z, m = x, []
    for i in range(1, len(sigmas)):
        m.append(commuting(z / alpha[i - 1], sigmas[i - 1]))
        h = lam[i] - lam[i - 1]
        phi_1 = -torch.expm1(-h) / h
        phi_2 = (1 - phi_1) / h
        c = -h / (lam[i - 1] - lam[i - 2]) if i > 1 else 0.0
        D = (phi_1 - c * phi_2) * m[-1] + c * phi_2 * m[max(i - 2, 0)]
        z = sigma[i] / sigma[i - 1] * z + alpha[i] * h * D
    agree(commuting, ExponentialAB2(), x, way, z)


def third_order(denoise, x, way, second_derivative):
    """The multistep third order of the public code, its second difference times `second_derivative`."""
    sigmas, alpha, sigma, lam = tables(way)
    z, m = x, []
    for i in range(1, len(sigmas)):
        m.append(denoise(z / alpha[i - 1], sigmas[i - 1]))
        h = lam[i] - lam[i - 1]
        phi_1 = torch.expm1(-h)
        phi_2 = phi_1 / h + 1
        phi_3 = phi_2 / h - 0.5
        step = -phi_1 * m[-1]
        if i == 2:
            r0 = (lam[i - 1] - lam[i - 2]) / h
            step = step - 0.5 * phi_1 * (m[-1] - m[-2]) / r0
        elif i > 2:
            r0, r1 = (lam[i - 1] - lam[i - 2]) / h, (lam[i - 2] - lam[i - 3]) / h
            D1_0, D1_1 = (m[-1] - m[-2]) / r0, (m[-2] - m[-3]) / r1
            D1 = D1_0 + r0 / (r0 + r1) * (D1_0 - D1_1)
            D2 = second_derivative * (D1_0 - D1_1) / (r0 + r1)
            step = step + phi_2 * D1 - phi_3 * D2
        z = sigma[i] / sigma[i - 1] * z + alpha[i] * step
    return z


@both_ways
@pytest.mark.parametrize(("weight", "second_derivative"), [("exact", 2.0), ("public", 1.0)])
def test_3m(commuting, x, way, weight, second_derivative):
    """x0(lam) = m + D1·s + D2·s²/2, s = (lam - lam_i)/h, integrated exactly: D2 is twice the second difference, or in
    public codes once."""
    agree(commuting, DPMSolverPP3M(weight=weight), x, way, third_order(commuting, x, way, second_derivative))


def test_3m_of_public_codes_is_second_order():
    """They take D2 as the second difference itself, half of the second derivative: measured on x0 = lam², whose
    integral is known and which our rule integrates exactly.

    One step of h from lam = 0 with two past values h apart: exact sum of weight·lam² is h² - 2·(h - 1 + exp(-h)).
    """
    errors = []
    for h in (0.1, 0.05):
        phi_3 = (math.expm1(-h) / h + 1) / h - 0.5
        exact = h**2 - 2 * (h - 1 + math.exp(-h))
        ours = sum(w * s**2 for w, s in zip(exponential_adams([0.0, -h, -2 * h], h), (0.0, -h, -2 * h), strict=True))
        assert ours == pytest.approx(exact, rel=1e-10)
        # D1 = 0, second difference (D1_0 - D1_1)/(r0 + r1) = h²
        errors.append(abs(-phi_3 * h**2 - exact))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(3, abs=0.1)  # local order 3: global order 2


def unipc(denoise, x, way, p):
    """arXiv 2302.04867, Algorithms 1 and 2 (multistep, data prediction, B(h) = exp(h) - 1)."""
    sigmas, alpha, sigma, lam = tables(way)
    m = [denoise(x / alpha[0], sigmas[0])]
    corrected, predicted = x, x
    for i in range(1, len(sigmas)):
        q = min(p, i)
        h = lam[i] - lam[i - 1]
        hh = -h
        B = torch.expm1(hh)

        def rhs(count, hh=hh, B=B):
            """b_k = k!·h·phi_(k+1)(h) / B(h), by the recursion phi_(k+1) = (phi_k - 1/k!)/h."""
            value, factorial, b = torch.expm1(hh) / hh - 1, 1, []
            for k in range(1, count + 1):
                b.append(value * factorial / B)
                factorial *= k + 1
                value = value / hh - 1 / factorial
            return torch.stack(b)

        r = [(lam[i - 1 - k] - lam[i - 1]) / h for k in range(1, q)]
        D = [(m[i - 1 - k] - m[i - 1]) / r[k - 1] for k in range(1, q)]
        base = sigma[i] / sigma[i - 1] * corrected - alpha[i] * torch.expm1(hh) * m[i - 1]
        predicted = base
        if q > 1:
            R = torch.stack([torch.stack(r) ** k for k in range(q - 1)])
            a = torch.tensor([0.5], dtype=torch.float64) if q == 2 else torch.linalg.solve(R, rhs(q - 1))
            predicted = base - alpha[i] * B * sum(c * d for c, d in zip(a, D, strict=True))
        if i == len(sigmas) - 1:
            return predicted
        m.append(denoise(predicted / alpha[i], sigmas[i]))
        D = [*D, m[i] - m[i - 1]]
        R = torch.stack([torch.stack([*r, torch.ones_like(h)]) ** k for k in range(q)])
        a = torch.tensor([0.5], dtype=torch.float64) if q == 1 else torch.linalg.solve(R, rhs(q))
        corrected = base - alpha[i] * B * sum(c * d for c, d in zip(a, D, strict=True))
    return predicted


@both_ways
@pytest.mark.parametrize("solver", [UniPC2(), UniPC3()])
def test_unipc(commuting, x, way, solver):
    agree(commuting, solver, x, way, unipc(commuting, x, way, solver.window))


def test_the_predictors_of_unipc_are_dpm_solvers(commuting, x):
    for unified, plain_solver, count in ((UniPC2(), DPMSolverPP2M(), 2), (UniPC3(), DPMSolverPP3M(), 3)):
        levels = [3.0, 4.0, 5.5][:count]
        values = tuple((commuting(level * x, level), level) for level in levels[1:])
        x0 = commuting(3.0 * x, 3.0)
        ours, _ = unified.advance(commuting, 3.0 * x, x0, 3.0, 2.0, (values, None), None)
        theirs, _ = plain_solver.advance(commuting, 3.0 * x, x0, 3.0, 2.0, values, None)
        torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-14)


def test_sde_2m(commuting, x):
    """arXiv 2211.01095, SDE-DPM-Solver++(2M) in its own alpha, sigma, h; the noise drawn step by step."""
    z, m = x, []
    for i in range(1, len(SIGMAS)):
        m.append(commuting(z / ALPHA[i - 1], SIGMAS[i - 1]))
        h = LAM[i] - LAM[i - 1]
        k = -torch.expm1(-2 * h)
        D = m[-1] if i == 1 else m[-1] + 0.5 * h / (LAM[i - 1] - LAM[i - 2]) * (m[-1] - m[-2])
        z = SIGMA[i] / SIGMA[i - 1] * torch.exp(-h) * z + ALPHA[i] * k * D + SIGMA[i] * k.sqrt() * x.roll(i, 1)
    rolls = iter(range(1, len(SIGMAS)))
    agree(commuting, SDEDPMSolverPP2M(), x, 1, z, noise=lambda *_: x.roll(next(rolls), 1))


def sde(x, step):
    """A run whose i-th step is `step(i, z, h, draw)`, each draw a roll of x, and the same draws for a solver."""
    rolls, again = iter(range(1, 99)), iter(range(1, 99))
    z = x
    for i in range(1, len(SIGMAS)):
        z = step(i, z, LAM[i] - LAM[i - 1], lambda: x.roll(next(rolls), 1))
    return z, lambda *_: x.roll(next(again), 1)


@pytest.mark.parametrize("eta", [1.0, 0.4])
@pytest.mark.parametrize(
    ("solver", "second_derivative"),
    [(SDEExponentialAB2, None), (SDEDPMSolverPP3M, 2.0), (lambda eta: SDEDPMSolverPP3M(eta, weight="public"), 1.0)],
    ids=["AB2", "3M", "3M public"],
)
def test_sde_multistep(commuting, x, eta, solver, second_derivative):
    """k-diffusion's dpmpp_2m_sde "heun" and dpmpp_3m_sde, with phi_k of h·(1 + eta)."""
    m = []

    def step(i, z, h, draw):
        m.append(commuting(z / ALPHA[i - 1], SIGMAS[i - 1]))
        H = h * (1 + eta)
        phi_1 = -torch.expm1(-H)
        phi_2 = 1 - phi_1 / H
        phi_3 = phi_2 / H - 0.5
        z = SIGMA[i] / SIGMA[i - 1] * torch.exp(-eta * h) * z + ALPHA[i] * phi_1 * m[-1]
        if i > 1:
            r0 = (LAM[i - 1] - LAM[i - 2]) / h
            D1 = D1_0 = (m[-1] - m[-2]) / r0
            if i > 2 and second_derivative is not None:
                r1 = (LAM[i - 2] - LAM[i - 3]) / h
                D2 = (D1_0 - (m[-2] - m[-3]) / r1) / (r0 + r1)
                D1 = D1_0 + r0 * D2
                z = z - ALPHA[i] * phi_3 * second_derivative * D2
            z = z + ALPHA[i] * phi_2 * D1
        return z + SIGMA[i] * (-torch.expm1(-2 * eta * h)).sqrt() * draw()

    z, noise = sde(x, step)
    agree(commuting, solver(eta), x, 1, z, noise=noise)


@pytest.mark.parametrize("r", [0.5, 0.3])
def test_sde_2s(commuting, x, r):
    """k-diffusion's dpmpp_sde at eta 1, sigma_down and sigma_up and all, given the noise of a step as that of its
    parts; in VE coordinates."""

    def ancestral(a, b):
        up = b * (1 - b**2 / a**2).sqrt()
        return (b**2 - up**2).sqrt(), up

    def step(i, z, h, draw):
        y, a, b = z / ALPHA[i - 1], SIGMAS[i - 1], SIGMAS[i]
        s = a * (b / a) ** r
        D, (down, up), first = commuting(y, a), ancestral(a, s), draw()
        u = down / a * y - torch.expm1((down / a).log()) * D + up * first
        D = (1 - 1 / (2 * r)) * D + 1 / (2 * r) * commuting(u, s)
        (down, total), (kept, rest) = ancestral(a, b), ancestral(s, b)
        xi = (kept / s * up * first + rest * draw()) / total  # unit normal, as k-diffusion's second draw
        return ALPHA[i] * (down / a * y - torch.expm1((down / a).log()) * D + total * xi)

    z, noise = sde(x, step)
    agree(commuting, SDEDPMSolverPP2S(r=r), x, 1, z, noise=noise)


@pytest.mark.parametrize(
    ("solver", "stage"), [(ERSDE1(), 1), (ERSDE2(), 2), (ERSDE3(weight="public"), 3), (ERSDE3(), "exact")]
)
def test_er_sde(commuting, x, solver, stage):
    """arXiv 2309.06169, ER-SDE-Solver-1 to 3, VP, lambda = sigma/alpha, with their integrals by a fine Simpson rule;
    and the third with the slope of the parabola at lambda_s in place of the last chord's."""
    simpson = torch.tensor([1.0] + [4.0, 2.0] * 999 + [4.0, 1.0], dtype=torch.float64) / 6000
    m, slopes = [], []

    def phi(s):
        return s * ((s**0.3).exp() + 10)

    def step(i, z, h, draw):
        s, t = SIGMAS[i - 1], SIGMAS[i]
        r = phi(t) / phi(s)
        m.append(commuting(z / ALPHA[i - 1], s))
        y = r * z / ALPHA[i - 1] + (1 - r) * m[-1]
        tau = t * (s / t) ** torch.linspace(0, 1, 2001, dtype=torch.float64)
        weight = simpson * tau * (s / t).log() / phi(tau)  # d(tau)/phi
        if i > 1 and stage != 1:
            slope = (m[-1] - m[-2]) / (s - SIGMAS[i - 2])
            slopes.append(slope)
            if i > 2 and stage in (3, "exact"):
                U = (slope - slopes[-2]) / ((s - SIGMAS[i - 3]) / 2)
                y = y + ((t - s) ** 2 / 2 + phi(t) * (weight * (tau - s)).sum()) * U
                slope = slope + (U / 2 * (s - SIGMAS[i - 2]) if stage == "exact" else 0)
            y = y + (t - s + phi(t) * weight.sum()) * slope
        return ALPHA[i] * (y + (t**2 - r**2 * s**2).sqrt() * draw())

    z, noise = sde(x, step)
    agree(commuting, solver, x, 1, z, noise=noise)


def test_the_first_sde_step_is_ancestral(commuting, x):
    one, _ = SDEDPMSolverPP2M().step(commuting, 4 * x, 4.0, 2.5, noise=lambda *_: x)
    other, _ = DDIM(1.0).step(commuting, 4 * x, 4.0, 2.5, noise=lambda *_: x)
    torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)


@both_ways
@pytest.mark.parametrize("solver", [AdamsBashforth2(), AdamsBashforth3(), AdamsBashforth4()])
def test_adams_bashforth_is_lms(commuting, x, way, solver):
    """k-diffusion's LMS: Lagrange polynomials in sigma, integrated numerically, here by Gauss and Legendre's rule."""
    sigmas, alpha, *_ = tables(way)
    nodes = torch.tensor([-math.sqrt(0.6), 0.0, math.sqrt(0.6)], dtype=torch.float64)  # exact to degree 5
    y, slopes = x / alpha[0], []
    for i, (a, b) in enumerate(pairwise(sigmas)):
        slopes.append((y - commuting(y, a)) / a)
        known = list(range(max(0, i - solver.window + 1), i + 1))
        s = (a + b) / 2 + (b - a) / 2 * nodes
        for j in known:
            basis = torch.stack([(s - sigmas[k]) / (sigmas[j] - sigmas[k]) for k in known if k != j] or [s / s]).prod(0)
            weight = (b - a) / 2 * (basis * torch.tensor([5, 8, 5], dtype=torch.float64) / 9).sum()
            y = y + weight * slopes[j]
    agree(commuting, solver, x, way, y * alpha[-1])


@pytest.mark.parametrize("z", [-30.0, -3.0, -1.0, -1e-3, 0.0, 1e-9, 0.5, 2.0])
def test_phi_functions(z):
    """phi_k(z) = integral over [0, 1] of exp((1 - s)·z)·s^(k-1)/(k-1)!, by a fine Simpson rule."""
    s = torch.linspace(0, 1, 4001, dtype=torch.float64)
    simpson = torch.tensor([1.0] + [4.0, 2.0] * 1999 + [4.0, 1.0], dtype=torch.float64) / 12000
    for k, value in enumerate(phi(z, 4), 1):
        expected = (simpson * ((1 - s) * z).exp() * s ** (k - 1)).sum().item() / math.factorial(k - 1)
        assert value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("h", [1.7, 0.01, 1e-7, -0.4])
def test_rules_are_exact_for_polynomials_and_vanish_with_the_step(h):
    nodes = [0.0, -0.3, -0.8]
    assert sum(w * (3 * s * s - 2 * s + 1) for w, s in zip(adams(nodes, h), nodes, strict=True)) == pytest.approx(
        h**3 - h**2 + h, rel=1e-12, abs=1e-18
    )
    # the integral of exp(s - h)·(s + 1) is h
    assert sum(w * (s + 1) for w, s in zip(exponential_adams(nodes, h), nodes, strict=True)) == pytest.approx(
        h, rel=1e-12
    )
    assert exponential_adams(nodes, 0.0) == adams(nodes, 0.0) == [0.0, 0.0, 0.0]
