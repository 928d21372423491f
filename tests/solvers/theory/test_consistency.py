"""What samplers make of a model that tells where trajectories end, in closed form."""

import math

import pytest
import torch
from torch import Tensor

from ivmix.solvers import Euler, IVMixed, Leg, Schedule, few_step, integrate, plain
from ivmix.solvers.algebra.affine import as_affine
from ivmix.solvers.algebra.denoiser import Noise
from ivmix.solvers.algebra.guidance import Guided
from ivmix.solvers.theory.analytic import Gaussian, Mixture, exponential, reference
from ivmix.solvers.theory.consistency import Consistency

SCHEDULE = Schedule.linear(0.00085, 0.012)
DATA = Gaussian(0.3, exponential(3, 0.5))
F = Consistency(DATA)
X = torch.randn(2, 1, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def rising(n: int, top: float) -> Tensor:
    return torch.linspace(0.01, top, n + 1, dtype=torch.float64)


def test_it_tells_where_the_scores_trajectory_ends():
    low = 1e-2
    end = reference(DATA, 5 * X, torch.tensor([6.0, low]))
    torch.testing.assert_close(F(5 * X, 6.0), F(end, low), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(F(end, low), end, rtol=0, atol=1e-3)
    torch.testing.assert_close(F(X, math.inf), F(1e9 * X, 1e9), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("here", "there"), [(9.0, 0.1), (0.1, 9.0), (2.0, 1.0)])
def test_what_follows_it_as_an_ode_is_known(here, there):
    levels = torch.tensor([here, there], dtype=torch.float64)
    torch.testing.assert_close(F.followed(X, here, there), reference(F, X, levels), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 4, 8, 512])
def test_more_steps_of_its_ode_are_worse_and_end_twice_as_wide(n):
    """Of unit data: Euler's step to 0 is exact, two are less so, and the limit is 2·r/(1 + r) times too wide."""
    unit, r = Consistency(Gaussian(0.0, 1.0)), math.hypot(1, 20)
    x = torch.full((1, 1, 1, 1, 1), r, dtype=torch.float64)
    grids = {m: torch.linspace(20, 0, m + 1, dtype=torch.float64) for m in (n, 2 * n)}
    width, finer = (integrate(unit, plain(grid), x).x.item() for grid in grids.values())
    most = unit.followed(x, 20.0, 0.0).item()
    assert most == pytest.approx(2 * r / (1 + r))
    assert 1 <= width < finer < most
    assert (width == 1) == (n == 1)
    if n == 512:
        assert width == pytest.approx(most, rel=1e-2)


def test_inverted_by_it_a_clip_is_half_way_to_noise_and_comes_back_as_another():
    """A leg up from a clip: of the score's field to a state of the level's variance, of this one to half of it."""
    unit = Gaussian(0.0, 1.0)
    f, clip, top = Consistency(unit), torch.ones(1, 1, 1, 1, 1, dtype=torch.float64), 20.0
    legs = plain(rising(1000, top))
    by_score, by_f = (integrate(field, legs, clip).x.item() for field in (unit, f))
    r = math.hypot(1, top)
    assert by_score == pytest.approx(r, rel=1e-2)
    assert by_f == pytest.approx((1 + r) / 2, rel=1e-2)
    up = torch.tensor([[[[[by_f]]]]], dtype=torch.float64)
    assert f(up, top).item() == pytest.approx((1 + r) / 2 / r, rel=1e-2)  # not 1: by its own word, another clip
    assert integrate(f, [Leg("video", "up", 0.0, 0.0, top, None, Euler(), 0)], clip).x.item() == 1.0  # never leaves


def test_a_zigzag_of_it_converges_to_its_ode_and_to_no_data():
    """Legs that cancel leave the ordinary step, which follows f."""
    unit = Consistency(Gaussian(0.0, 1.0))
    video = as_affine(unit, "video")
    pair = {"image": Guided(video, video), "video": Guided(video, video)}
    grid = Schedule.ve(0.01, 20.0).grid(500, "uniform-lam")
    r = math.hypot(1, 20)
    x = torch.full((1, 1, 1, 1, 1), r, dtype=torch.float64)
    legs = IVMixed(guidance=1.0, image_guidance=1.0, video_guidance=1.0).legs(grid)
    assert integrate(pair, legs, x).x.item() == pytest.approx(2 * r / (1 + r), rel=3e-2)


# --- a mixture on a line, where the trajectory's end is the same quantile of the data ------------------------------

MODES = Mixture([Gaussian(-1.0, 0.1**2), Gaussian(1.0, 0.1**2)], [1.0, 2.0])
N = 20_000


def cdf(x: Tensor, sigma: float) -> Tensor:
    spread = math.hypot(0.1, sigma)
    return torch.special.ndtr((x + 1) / spread) / 3 + torch.special.ndtr((x - 1) / spread) * 2 / 3


def quantiles(p: Tensor, sigma: float) -> Tensor:
    low, high = torch.full_like(p, -5 - 8 * sigma), torch.full_like(p, 5 + 8 * sigma)
    for _ in range(45):
        middle = (low + high) / 2
        below = cdf(middle, sigma) < p
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def modes_end(x: Tensor, sigma: Tensor) -> Tensor:
    return quantiles(cdf(x, sigma.item()), 0.0)


def fresh(seed: int) -> Noise:
    generator = torch.Generator().manual_seed(seed)
    return lambda *_: torch.randn((N, 1, 1, 1, 1), generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def errors() -> dict[str, dict[int, float]]:
    """Wasserstein's distance of 20 000 samples to the data, by field and plan, in 1, 2, 4 and 8 steps."""
    p = (torch.arange(N, dtype=torch.float64) + 0.5) / N
    found: dict[str, dict[int, float]] = {}
    for name, field, plan in (
        ("euler, D", MODES, plain),
        ("few_step, D", MODES, few_step),
        ("euler, f", modes_end, plain),
        ("few_step, f", modes_end, few_step),
    ):
        found[name] = {}
        for n in (1, 2, 4, 8):
            sigmas = SCHEDULE.grid(n, "lcm")
            x = quantiles(p, sigmas[0].item()).reshape(N, 1, 1, 1, 1)
            ends = integrate(field, plan(sigmas), x, noise=fresh(n)).x.flatten().sort().values
            found[name][n] = (ends - quantiles(p, 0.0)).abs().mean().item()
    return found


@pytest.mark.slow
def test_few_steps_of_a_consistency_function_are_exact_and_those_of_a_denoiser_are_not(errors):
    """Wasserstein's distances at 4 steps: 0.30 and 0.36 of D, 0.003 of f, which is the sample's own, and 0.07 of f's
    ODE. Means of what may have been at one step, whose distance falls with more; f is right at once, up to the sample's
    own error of about 1/sqrt(N), and as a field of an ODE worse with every step."""
    assert all(error < 0.02 for error in errors["few_step, f"].values())
    assert errors["euler, f"][1] < 1e-6  # of bisection
    for many, few in ((8, 4), (4, 2), (2, 1)):
        assert errors["euler, D"][many] < errors["euler, D"][few]
        assert errors["few_step, D"][many] < errors["few_step, D"][few]
        assert errors["euler, f"][many] > errors["euler, f"][few]
    assert errors["few_step, D"][1] == pytest.approx(errors["euler, D"][1])
    assert errors["euler, D"][4] > 10 * errors["few_step, f"][4]
