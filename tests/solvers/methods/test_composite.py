"""The claim the package rests on: zigzags converge to the composite ODE (or SDE) at first order."""

import math

import pytest
import torch

from ivmix.solvers import (
    DDIM,
    DPMSolverPP2M,
    Euler,
    GuidanceRamp,
    Guided,
    Heun,
    IVMixed,
    Midpoint,
    Progress,
    Schedule,
    SDEDPMSolverPP2M,
    composite,
    integrate,
    normal_noise,
    plain,
)
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork, exponential, reference

HIGH, LOW = 8.0, 0.2


def some_slow(*values, fast):
    """Values of a parameter, of which those not in `fast` run with the slow tests."""
    return [pytest.param(value, marks=() if value in fast else pytest.mark.slow) for value in values]


def grid(n):
    """n levels from HIGH to LOW, even in log sigma, then 0: progress is the same function of sigma for all n."""
    return Schedule.ve(LOW, HIGH).grid(n, "uniform-lam")


def at_low(limit, x, *jumps):
    """Where the composite, smooth but for `jumps` at nodes of grid(11), leads HIGH·x, to 1e-9 of its size."""
    return reference(limit.denoise, HIGH * x, grid(11)[[0, *jumps, 10]], tolerance=1e-9)


def to_low(legs):
    """All legs but the step to 0, which does not shrink with the grid."""
    return legs[:-1]


SCHEDULED = {
    "guidance": GuidanceRamp(2.0, 1.0, 2.0),
    "image_guidance": GuidanceRamp(0.6, 0.2),
    "video_guidance": lambda u: 0.3 + 0.4 * u * u,
}


@pytest.mark.parametrize("sequence", ["down-first", "up-first"])
@pytest.mark.parametrize(
    "pattern",
    some_slow("I-V", "V-I", "V-V", "IV-IV", "VI-IV", "II-VV", "IV-VI", "VIV-IVI", fast=("V-I", "IV-IV", "VI-IV")),
)
def test_zigzags_converge_to_the_composite_ode(pattern, sequence, pair, x, slopes):
    """Scheduled guidance, an interval inside the run, networks that do not commute."""
    options = {**SCHEDULED, "interval": (0.2, 0.8)}
    limit = composite(**pair, pattern=pattern, **options, reference=grid(11))
    truth = at_low(limit, x, 2, 8)  # where the field jumps

    def error(n):
        legs = to_low(IVMixed(pattern, sequence, **options).legs(grid(n)))
        return (integrate(pair, legs, HIGH * x).x - truth).norm()

    # The error is c/n + d/n²: its local slope is 1 + O(1/n), measured 0.97 to 1.055 here, nearer to 1 at larger n.
    assert limit.churn == 0
    assert slopes(error, [41, 81]) == pytest.approx([1.0], abs=0.08)


@pytest.mark.parametrize("sequence", ["down-first", "up-first"])
def test_a_period_converges_to_the_average(sequence, pair, x, slopes):
    options = {**SCHEDULED, "period": 3}
    limit = composite(**pair, **options, reference=grid(11))
    truth = at_low(limit, x)

    def error(n):
        return (integrate(pair, to_low(IVMixed(sequence=sequence, **options).legs(grid(n))), HIGH * x).x - truth).norm()

    assert slopes(error, [46, 91]) == pytest.approx([1.0], abs=0.05)


@pytest.mark.parametrize("solver", [Heun(), DPMSolverPP2M()], ids=lambda solver: type(solver).__name__)
def test_zigzags_with_higher_order_legs_still_split_at_first_order(solver, pair, x, slopes):
    limit = composite(**pair, **SCHEDULED, reference=grid(11))
    truth = at_low(limit, x)
    sampler = IVMixed(**SCHEDULED, solver=solver, step_solver=DPMSolverPP2M())

    def error(n):
        return (integrate(pair, to_low(sampler.legs(grid(n))), HIGH * x).x - truth).norm()

    # 1 + O(1/n): measured 1.17, 1.08, 1.04, 1.02 for 2M legs at n = 41, 81, 161, 321
    assert slopes(error, [81, 161]) == pytest.approx([1.0], abs=0.1)


@pytest.mark.parametrize("solver", [Euler(), Heun(), DPMSolverPP2M()], ids=lambda solver: type(solver).__name__)
def test_solvers_keep_their_order_on_the_composite(solver, pair, x, slopes):
    limit = composite(**pair, **SCHEDULED, reference=grid(11))
    truth = at_low(limit, x)

    def error(n):
        return (integrate(limit, to_low(plain(grid(n), solver=solver)), HIGH * x).x - truth).norm()

    assert slopes(error, [40, 80]) == pytest.approx([solver.order], abs=0.15)


def test_iv_iv_is_the_published_combination(pair, x):
    """eps_Vu + (w + 2·gamma_V)·d_V + 2·gamma_I·d_I: the image network's unconditional prediction cancels."""
    limit = composite(**pair, guidance=7.5, image_guidance=4.0, video_guidance=3.0, reference=grid(10))
    image, video = pair["image"], pair["video"]
    expected = video.uncond + (7.5 + 6.0) * video.direction + 8.0 * image.direction
    torch.testing.assert_close(limit.denoise(x, 1.0), expected(x, 1.0), rtol=0, atol=1e-12)
    assert limit.denoise.total(1.0) == pytest.approx(1.0, abs=1e-14)
    assert limit.denoise.cost(1.0) == {"video": 2, "image": 2}


@pytest.mark.parametrize("pattern", ["R-I", "RV-IV", "VR-IV", "RR-IV", "IV-IV", "VIV-IVI"])
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.2, 0.8)])
def test_weights_sum_to_one_and_churn_counts_noise_legs(pattern, interval, pair):
    limit = composite(**pair, pattern=pattern, **SCHEDULED, interval=interval, reference=grid(11))
    for sigma in (7.9, 5.0, 1.0, 0.25):
        mixed = interval == (0.0, 1.0) or 0.2 <= Progress.of(grid(11))(sigma) < 0.8
        churn = limit.churn(torch.tensor(sigma)) if callable(limit.churn) else limit.churn
        assert limit.denoise.total(sigma) == pytest.approx(1.0, abs=1e-13)
        assert churn == (pattern.count("R") if mixed else 0)


def test_outside_the_interval_the_image_network_costs_nothing(pair):
    limit = composite(**pair, interval=(0.2, 0.8), reference=grid(11)).denoise
    nodes = grid(11).tolist()
    image_at = [i for i, sigma in enumerate(nodes[:-1]) if "image" in limit.cost(sigma)]
    assert image_at == [i for i in range(11) if 0.2 <= i / 10 < 0.8] == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("interval", [(0.5, 1.0), (0.0, 0.5), (0.7, 1.0), (0.2, 0.7)])
@pytest.mark.parametrize("n", [1, 2])
def test_one_step_or_two_mix_where_a_zigzag_on_their_grid_would(n, interval, pair):
    """One step is at progress 0 alone, two are at 0 and 1: an interval that holds neither mixes nothing."""
    sigmas = grid(n)
    limit = composite(**pair, guidance=2.0, interval=interval, reference=sigmas).denoise
    inside = [interval[0] <= u < interval[1] or u == interval[1] == 1 for u in (0.0, 1.0)[:n]]
    assert ["image" in limit.cost(sigma) for sigma in sigmas[:-1]] == inside
    assert limit.total(sigmas[0]) == pytest.approx(1)
    assert composite(**pair, pattern="RV-IV", interval=(0.5, 1.0), reference=grid(1)).churn == 0


def test_gates_forgive_the_rounding_of_another_grid(pair):
    limit = composite(**pair, interval=(0.2, 0.8), reference=grid(11)).denoise
    for rounding in (1 - 1e-15, 1 + 1e-15):
        assert "image" in limit.cost(grid(11)[2].item() * rounding)
        assert "image" not in limit.cost(grid(11)[8].item() * rounding)


def test_out_of_reach_the_field_is_the_videos(pair):
    limit = composite(**pair, guidance=7.5, reference=grid(11), reach={"image": (1.0, 4.0)}).denoise
    assert limit.cost(5.0) == limit.cost(0.5) == {"video": 2}
    assert limit.cost(2.0) == {"video": 2, "image": 2}
    assert [w for w in limit.weights(5.0) if w] == [-6.5, 7.5]
    both = composite(**pair, reference=grid(11), reach={"image": (1.0, 4.0), "video": (2.0, 5.0)}).denoise
    assert ["image" in both.cost(sigma) for sigma in (4.5, 3.0, 1.5)] == [False, True, False]


def test_progress_is_linear_in_log_sigma_between_nodes():
    u = Progress.of(torch.tensor([8.0, 4.0, 1.0, 0.0]))
    assert [u(8.0), u(4.0), u(2.0), u(1.0), u(0.5)] == pytest.approx([0.0, 0.5, 0.75, 1.0, 1.0])
    assert Progress.of(torch.tensor([math.inf, 4.0, 1.0, 0.0]))(100.0) == 0.0
    assert Progress.of(torch.tensor([4.0, 0.0]))(4.0) == 0.0
    with pytest.raises(ValueError, match="reference grid begins"):
        u(9.0)


def test_unguided_fields_compose(x):
    image, video = (
        GaussianNetwork(name, {None: Gaussian(m, 1.0)})(None) for name, m in (("image", 1.0), ("video", 0.0))
    )
    limit = composite(image, video, "V-I", guidance=None, image_guidance=None, video_guidance=None, reference=grid(5))
    torch.testing.assert_close(limit.denoise(x, 1.0), image(x, 1.0))
    with pytest.raises(ValueError, match="guidance"):
        composite(image, video, reference=grid(5))


@pytest.mark.parametrize("pattern", ["IV-I", "I-R", "", "IV"])
def test_illegal_patterns_are_refused(pattern, pair):
    with pytest.raises(ValueError, match="pattern"):
        composite(**pair, pattern=pattern, reference=grid(5))


def test_a_deterministic_solver_on_churn_is_refused(pair, x):
    limit = composite(**pair, pattern="RV-IV", reference=grid(5))
    with pytest.raises(ValueError, match="churn"):
        integrate(limit, plain(grid(5)), x)


# R patterns: mean and covariance over three frames, of networks that do not commute.


def across(name, uncond, cond):
    network = GaussianNetwork(name, {"": Gaussian(*uncond), "cat": Gaussian(*cond)})
    return Guided(network(""), network("cat"))


NOISY = {
    "image": across("image", (0.2, 1.0), (torch.tensor([1.0, 0.2, -0.4]).reshape(1, 3, 1, 1), 0.5)),
    "video": across("video", (-0.3, exponential(3, 1.4, 3.0)), (0.6, exponential(3, 0.9, 1.0))),
}
GENTLE = {"guidance": 1.5, "image_guidance": GuidanceRamp(0.5, 0.2, 1.0), "video_guidance": 0.4}
EYE = torch.eye(3, dtype=torch.float64)


def frames(rows):
    """(n, 3) as a batch `b c f h w`."""
    return rows.reshape(-1, 1, 3, 1, 1)


def sde_moments(limit, mean, covariance):
    """Mean and covariance (3, 1 + 3) at LOW of dx = (1 + k)·eps·dsigma + sqrt(2·k·sigma·|dsigma|)·xi, eps affine."""

    def denoise(state, sigma):  # reference integrates (y - denoise(y)) / sigma = dy/dsigma
        k = limit.churn(sigma) if callable(limit.churn) else limit.churn
        at = frames(torch.cat([state[None, :, 0], 0 * EYE[:1], EYE]))
        at_mean, at_zero, *at_units = ((at - limit.denoise(at, sigma)) / sigma).reshape(5, 3)
        A, C = torch.stack(at_units, 1) - at_zero[:, None], state[:, 1:]
        slope = [(1 + k) * at_mean[:, None], (1 + k) * (A @ C + C @ A.mT) - 2 * k * sigma * EYE]
        return state - sigma * torch.cat(slope, 1)

    start = torch.cat([torch.full_like(EYE[:, :1], mean), covariance], 1)
    return reference(denoise, start, grid(11)[:-1], order=8, tolerance=1e-7)  # errors of 1e-2 are measured against it


SOLVED = {"composite, DDIM": 1.0, "composite, SDE-2M": 2.0}  # weak orders


@pytest.mark.slow
@pytest.mark.parametrize("sequence", ["down-first", "up-first", *SOLVED])
@pytest.mark.parametrize("pattern", some_slow("R-I", "R-V", "RV-IV", "IR-VI", "RR-IV", fast=("R-I", "RV-IV", "RR-IV")))
def test_noise_patterns_converge_to_the_sde(pattern, sequence, slopes):
    """Exact moments of the scheme: it is affine in its draws, so a batch with one unit draw each gives the rest."""
    # the edges of an interval, where the field jumps, would cost a solver of order 2 its order
    options = {**GENTLE, "interval": (0.0, 1.0) if SOLVED.get(sequence) == 2.0 else (0.2, 0.8)}
    limit = composite(**NOISY, pattern=pattern, **options, reference=grid(11))
    truth = sde_moments(limit, 0.5, HIGH**2 * EYE)

    def error(n):
        if sequence in SOLVED:
            solver = DDIM(limit.eta) if "DDIM" in sequence else SDEDPMSolverPP2M(limit.churn)
            fields, legs = limit, to_low(plain(grid(n), solver=solver))
        else:
            fields, legs = NOISY, to_low(IVMixed(pattern, sequence, **options).legs(grid(n)))
        draws = sum(leg.network is None or sequence in SOLVED for leg in legs)  # at most
        # the first row has no noise at all, the next three a start moved by one standard deviation in one frame
        state = frames(torch.full((1 + 3 * (1 + draws), 3), 0.5, dtype=torch.float64))
        state[1:4] += frames(HIGH * EYE)
        firsts = iter(range(4, len(state), 3))

        def noise(sigma, sigma_next):
            xi, first = torch.zeros_like(state), next(firsts)
            xi[first : first + 3] = frames(EYE)
            return xi

        end = integrate(fields, legs, state, noise=noise).x.reshape(-1, 3)
        spread = end[1:] - end[0]
        return (torch.cat([end[0, :, None], spread.mT @ spread], 1) - truth).norm()

    assert slopes(error, [41, 81]) == pytest.approx([SOLVED.get(sequence, 1.0)], abs=0.08)


def test_noise_patterns_have_the_moments_of_the_sde_when_sampled():
    n, samples = 121, 4096
    limit = composite(**NOISY, pattern="RV-IV", **GENTLE, reference=grid(n))
    truth = sde_moments(limit, 0.0, HIGH**2 * EYE)
    mean, covariance = truth[:, 0], truth[:, 1:]
    start = HIGH * torch.randn(1, samples, 3, 1, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    legs = to_low(IVMixed("RV-IV", **GENTLE).legs(grid(n)))
    end = integrate(NOISY, legs, start, noise=normal_noise([7], start.shape[1:])).x.reshape(samples, 3)
    # Four standard errors, sqrt(C_ii/N) and sqrt((C_ii·C_jj + C_ij²)/N), plus the bias of n steps (below 3 %).
    variance = covariance.diagonal()
    scale = (variance[:, None] * variance).sqrt()
    assert ((end.mean(0) - mean).abs() < (4 / math.sqrt(samples) + 0.03) * variance.sqrt()).all()
    bound = 4 * ((scale**2 + covariance**2) / samples).sqrt() + 0.03 * scale
    assert ((end.mT.cov() - covariance).abs() < bound).all()


@pytest.mark.parametrize("pattern", some_slow("I-V", "IV-IV", "VI-IV", "II-VV", fast=("IV-IV",)))
@pytest.mark.parametrize(
    ("solver", "order"), [(Heun(), 2), (Midpoint(), 2), (Euler(), 1)], ids=["Heun", "Mid", "Euler"]
)
def test_symmetrised_zigzags_meet_the_composite_at_second_order(pattern, solver, order, pair, x, slopes):
    """Strang's splitting, its levels within each step, with scheduled guidance; only first order if the inner solver
    is."""
    limit = composite(**pair, pattern=pattern, **SCHEDULED, reference=grid(11))
    truth = at_low(limit, x)

    def error(n):
        sampler = IVMixed(pattern, **SCHEDULED, solver=solver, step_solver=solver, symmetrised=True)
        return (integrate(pair, to_low(sampler.legs(grid(n))), HIGH * x).x - truth).norm()

    assert slopes(error, [41, 81]) == pytest.approx([order], abs=0.15)


@pytest.mark.parametrize("pattern", some_slow("V-V", "IVI-IVI", fast=("V-V",)))
def test_symmetrised_zigzags_that_leave_their_step_converge_up_to_the_last_level(pattern, pair, x, slopes):
    """At first order, by the plain steps at both ends. Half legs into the interval to 0, which stays as it is, do not
    get shorter: with them the error of either was the same at every n. Local slopes are 1 + O(1/n)."""
    limit = composite(**pair, pattern=pattern, **SCHEDULED, reference=grid(11))
    truth = at_low(limit, x)

    def error(n):
        sampler = IVMixed(pattern, "up-first", **SCHEDULED, solver=Heun(), step_solver=Heun(), symmetrised=True)
        legs = [leg for leg in sampler.legs(grid(n)) if leg.step < n - 1]
        return (integrate(pair, legs, HIGH * x).x - truth).norm()

    assert slopes(error, [81, 161]) == pytest.approx([1.0], abs=0.15)
