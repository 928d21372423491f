import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ivmix.solvers import Euler, Network, Schedule

SCHEDULES = {
    "scaled_linear": Schedule.scaled_linear(),
    "linear": Schedule.linear(),
    "cosine": Schedule.cosine(),
    "rectified_flow": Schedule.rectified_flow(),
    "rectified_flow_1000": Schedule.rectified_flow(n=50, t_max=1000.0),
    "ve": Schedule.ve(0.01, 80.0, n=200),
    "alpha_bar": Schedule.from_alpha_bar(torch.linspace(0.99, 0.01, 100).float()),
    "zero_terminal": Schedule.scaled_linear().zero_terminal_snr(),
    "fading": Schedule.scaled_linear().fading(),
    # alpha² + sigma_vp² is not 1, as under a dynamic rescale of x0
    "table": Schedule(
        torch.arange(5.0), torch.tensor([1.0, 0.8, 0.6, 0.3, 0.1]), torch.tensor([0.1, 0.6, 0.8, 0.9, 1.0])
    ),
}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def between(schedule, count=200):
    """Times strictly inside the finite part of the schedule."""
    last = schedule.timesteps[-2] if math.isinf(schedule.sigma_max) else schedule.timesteps[-1]
    return torch.linspace(float(schedule.timesteps[0]), float(last), count, dtype=torch.float64)


@schedules
def test_training_levels_are_exact(schedule):
    assert torch.equal(schedule.sigma(schedule.timesteps), schedule.sigmas)
    assert torch.equal(schedule.t(schedule.sigmas), schedule.timesteps)
    assert torch.equal(schedule.alpha_at(schedule.sigmas), schedule.alpha)


@schedules
def test_round_trips_between_levels(schedule):
    t = between(schedule)
    # log sigma is known to 2e-16·|log sigma| and neighbouring levels differ by >= 3e-3 in it: t to 1e-12 of its range
    torch.testing.assert_close(schedule.t(schedule.sigma(t)), t, rtol=1e-12, atol=1e-12 * float(schedule.timesteps[-1]))
    sigma = schedule.sigma(t)
    torch.testing.assert_close(schedule.sigma(schedule.t(sigma)), sigma, rtol=1e-12, atol=0)


@schedules
def test_sigma_rises_with_t(schedule):
    assert (schedule.sigma(between(schedule)).diff() > 0).all()


@schedules
def test_config_survives_json_bit_for_bit(schedule):
    again = Schedule.from_config(json.loads(json.dumps(schedule.to_config())))
    assert again.path == schedule.path
    for name in ("timesteps", "alpha", "sigma_vp"):
        assert torch.equal(getattr(again, name), getattr(schedule, name))


LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (LATENT | {"steps_offset": 1, "_class_name": "DDIMScheduler"}, SCHEDULES["scaled_linear"]),
        (LATENT | {"beta_schedule": "linear", "num_train_timesteps": 500}, Schedule.linear(0.00085, 0.012, 500)),
        ({"beta_schedule": "squaredcos_cap_v2"}, SCHEDULES["cosine"]),
        (LATENT | {"rescale_betas_zero_snr": True}, SCHEDULES["zero_terminal"]),
        ({"trained_betas": np.array([0.5, 0.75])}, Schedule.from_alpha_bar(torch.tensor([0.5, 0.125]))),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, Schedule.rectified_flow(t_max=1000.0)),
        ({"num_train_timesteps": 1000, "shift": 3.0}, Schedule.rectified_flow(t_max=1000.0)),  # a live `config`
        (LATENT | {"use_flow_sigmas": True}, Schedule.rectified_flow(t_max=1000.0)),
        ({"kind": "fading", "of": LATENT}, SCHEDULES["fading"]),
    ],
)
def test_a_diffusers_config_is_read_and_written_in_our_words(theirs, ours):
    schedule = Schedule.from_config(theirs)
    assert schedule.to_config() == Schedule.from_config(schedule.to_config()).to_config()
    assert "kind" in schedule.to_config()
    assert schedule.path == ours.path
    for name in ("timesteps", "alpha", "sigma_vp"):
        assert torch.equal(getattr(schedule, name), getattr(ours, name))


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({}, "kind: got None, expected one of .*, or the entries of diffusers' scheduler_config.json"),
        (LATENT | {"beta_schedule": "sigmoid"}, "beta_schedule: got 'sigmoid', expected one of linear, scaled_linear"),
        ({"beta_start": 0.1, "beta_schedule": "linear"}, "beta_end: got none, expected a number"),
        (LATENT | {"beta_end": "0.012"}, "beta_end: got '0.012', expected a finite number"),
        (LATENT | {"num_train_timesteps": 1}, "num_train_timesteps: got 1, expected a whole number from 2"),
        (LATENT | {"timestep_type": "continuous"}, "timestep_type: got 'continuous', expected 'discrete'"),
        (LATENT | {"snr_shift_scale": 3.0}, "snr_shift_scale: got 3.0, expected 1.0"),
        (LATENT | {"rescale_betas_zero_snr": 1}, "rescale_betas_zero_snr: got 1, expected true or false"),
        ({"trained_betas": [0.5, True]}, r"trained_betas: got \[0.5, True\], expected a list of numbers"),
        ({"kind": "zero_terminal_snr", "of": LATENT | {"snr_shift_scale": 2.0}}, "snr_shift_scale: got 2.0"),
    ],
)
def test_a_diffusers_config_that_no_schedule_here_is_names_its_entry(theirs, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Schedule.from_config(theirs)


@pytest.mark.parametrize(
    ("given", "shown"), [("scheduler_config.json", "'scheduler_config.json'"), (Schedule.linear(), "a Schedule")]
)
def test_what_is_no_mapping_is_shown_in_one_line(given, shown):
    with pytest.raises(ValueError, match=f"^schedule: got {shown}, expected a mapping .* or a scheduler's config$"):
        Schedule.from_config(given)


def test_a_schedule_is_printed_in_one_line():
    assert repr(SCHEDULES["scaled_linear"]) == "Schedule(vp, 1000 levels, sigma 0.0291672 to 14.6146)"


def test_stable_diffusion_levels():
    # the float32 table of the released code begins 0.99915 and ends 0.00466009 (cumulative alphas)
    schedule = SCHEDULES["scaled_linear"]
    assert schedule.alpha[0] ** 2 == pytest.approx(0.9991499782, rel=1e-6)
    assert schedule.alpha[-1] ** 2 == pytest.approx(0.0046600951, rel=1e-6)


def test_ddpms_betas_are_linear():
    """arXiv 2006.11239: from 1e-4 to 0.02; the cumulative product ends at the well-known 4.04e-5."""
    alpha_bar = SCHEDULES["linear"].alpha ** 2
    betas = 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    torch.testing.assert_close(betas, torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), rtol=0, atol=1e-14)
    assert alpha_bar[-1].item() == pytest.approx(4.036e-5, rel=1e-3)


def test_cosine_is_its_papers_formula_with_its_last_betas_capped():
    """arXiv 2102.09672, eq. 17: alpha_bar = f(t)/f(0), f = cos²; its beta exceeds 0.999 at the very last step only."""
    t = torch.arange(1001, dtype=torch.float64) / 1000
    f = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
    alpha_bar = SCHEDULES["cosine"].alpha ** 2
    torch.testing.assert_close(alpha_bar[:-1], f[1:-1] / f[0], rtol=1e-10, atol=0)
    assert 1 - (alpha_bar[-1] / alpha_bar[-2]).item() == pytest.approx(0.999, abs=1e-12)


def test_t_is_linear_in_log_sigma_between_levels():
    schedule = SCHEDULES["scaled_linear"]
    low, high = schedule.sigma(torch.tensor([500.0, 501.0])).log()
    assert schedule.t((low + (high - low) / 4).exp()).item() == pytest.approx(500.25, abs=1e-10)


def test_variance_preserving_between_levels():
    sigma = SCHEDULES["scaled_linear"].sigma(between(SCHEDULES["scaled_linear"]))
    alpha = SCHEDULES["scaled_linear"].alpha_at(sigma)
    torch.testing.assert_close(alpha**2 * (1 + sigma**2), torch.ones_like(alpha), rtol=1e-14, atol=0)


def test_rectified_flow_is_exact_for_every_t():
    t = torch.tensor([0.0123, 0.5, 0.98765], dtype=torch.float64)
    schedule = SCHEDULES["rectified_flow"]
    torch.testing.assert_close(schedule.sigma(t), t / (1 - t), rtol=1e-12, atol=0)
    torch.testing.assert_close(schedule.alpha_at(t / (1 - t)), 1 - t, rtol=1e-12, atol=0)


def test_ve_is_geometric():
    schedule = SCHEDULES["ve"]
    assert schedule.sigma(0.3).item() == pytest.approx(0.01 * 8000**0.3, rel=1e-12)
    assert (schedule.alpha_at(schedule.sigma(between(schedule))) == 1).all()


def test_start_divides_by_alpha_and_keeps_z_at_infinity(x):
    schedule = SCHEDULES["scaled_linear"]
    torch.testing.assert_close(schedule.start(x, schedule.sigma_max) * schedule.alpha[-1], x, rtol=1e-15, atol=0)
    assert torch.equal(SCHEDULES["rectified_flow"].start(x, math.inf), x)


@schedules
@pytest.mark.parametrize("step", [-1, 1], ids=["below", "above"])
def test_a_level_that_float32_moved_out_of_the_schedule_is_its_end(schedule, step):
    """Exactly, in t and alpha; so is a time. Above a last level that is finite, below one that is not there is none."""
    end = 0 if step < 0 else -2 if math.isinf(schedule.sigma_max) and schedule.path != "flow" else -1
    if math.isinf(schedule.sigmas[end]):
        return
    moved = schedule.sigmas[end] * (1 + step * 2.0**-23)
    assert (moved - schedule.sigmas[end]) * step > 0
    assert schedule.t(moved) == schedule.timesteps[end]
    assert schedule.alpha_at(moved) == schedule.alpha[end]
    assert schedule.sigma(schedule.timesteps[end] * (1 + step * 2.0**-23)) == schedule.sigmas[end]
    for reading in (schedule.t, schedule.alpha_at):
        with pytest.raises(ValueError, match="sigma: got"):
            reading(schedule.sigmas[end] * (1 + step * 1e-4))


def test_nothing_snaps_inside_the_schedule():
    """Differences of sigma 1e-9 apart, as derivatives need them, are seen next to a level as anywhere else."""
    schedule = SCHEDULES["scaled_linear"]
    near = torch.tensor([1 - 1e-9, 1, 1 + 1e-9], dtype=torch.float64)
    sigma = schedule.sigma(torch.tensor([500.0, 500.5, 501.0]))[:, None] * near
    # t moves by 1e-9 / 3e-3 of a level, and is known to 1e-13 of the 1000 levels
    assert (schedule.t(sigma).diff() > 1e-7).all()


@schedules
def test_a_clean_clip_is_at_level_0(schedule, x):
    """z = alpha·x has no special case there: alpha is 1, or what the first training level has instead."""
    size = {"vp": torch.hypot(schedule.alpha, schedule.sigma_vp), "ve": schedule.alpha,
            "flow": schedule.alpha + schedule.sigma_vp}[schedule.path][0]  # fmt: skip
    torch.testing.assert_close(schedule.alpha_at(0), size, rtol=1e-15, atol=0)
    torch.testing.assert_close(schedule.start(size * x, 0.0), x, rtol=1e-15, atol=0)
    with pytest.raises(ValueError, match=r"sigma: got 0, a clean clip, which no network was trained on, expected"):
        schedule.t(0.0)
    with pytest.raises(ValueError, match="sigma: got"):
        schedule.alpha_at(schedule.sigma_min / 2)


@pytest.mark.parametrize("sigma", [14.7, 0.029, math.inf, math.nan, -1.0])
def test_levels_out_of_range_are_refused(sigma):
    with pytest.raises(ValueError, match=r"sigma: got .* expected a value in \[0.029"):
        SCHEDULES["scaled_linear"].t(sigma)


def test_the_gap_below_an_infinite_level_is_refused():
    schedule = Schedule.from_alpha_bar(torch.tensor([0.9, 0.5, 0.1, 0.0]))
    assert schedule.t(math.inf) == 3
    with pytest.raises(ValueError, match="infinite"):
        schedule.t(100.0)
    with pytest.raises(ValueError, match="infinite"):
        schedule.sigma(2.5)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: Schedule.scaled_linear(0.02, 0.01), "beta_start"),
        (lambda: Schedule.from_alpha_bar(torch.tensor([0.5, 0.9])), "sigma_vp / alpha"),
        (lambda: Schedule.from_alpha_bar(torch.tensor([1.0, 0.9])), "alpha_bar"),
        (lambda: Schedule.ve(2.0, 1.0), "sigma_min"),
        (lambda: Schedule.cosine(-1.0), "s: got"),
        (lambda: Schedule(torch.arange(2.0), torch.ones(3), torch.ones(2)), "lengths"),
        (lambda: Schedule(torch.arange(2.0), torch.ones(2), torch.tensor([1.0, math.nan])), "sigma_vp"),
        (lambda: Schedule(torch.zeros(2), torch.ones(2), torch.tensor([1.0, 2.0])), "timesteps"),
        (lambda: Schedule.from_config({"kind": "squared"}), "kind"),
        (lambda: Schedule.from_config({"kind": "linear", "n": 3}), "unknown keys"),
        (lambda: Schedule.from_config({"kind": "linear", "beta_end": 10**400}), "beta_end: got 1000"),
        (lambda: Schedule.from_config({"kind": "alpha_bar", "alpha_bar": [0.9, 10**20]}), "alpha"),
        (lambda: Schedule(torch.arange(2), torch.tensor([1, 0.5]), torch.tensor([0.1, 0.5]), []), r"path: got \[\]"),
    ],
)
def test_bad_schedules_are_refused(build, name):
    with pytest.raises(ValueError, match=name):
        build()


@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("vp", lambda alpha, sigma: alpha * (1 + sigma**2).sqrt()),
        ("ve", lambda alpha, sigma: alpha),
        ("flow", lambda alpha, sigma: alpha * (1 + sigma)),
    ],
)
def test_a_broken_identity_is_interpolated_between_levels(path, size):
    """What is 1 for standard schedules (for "vp" the root of alpha² + sigma_vp²) moves linearly in t; it does not fall
    back to 1."""
    schedule = replace(SCHEDULES["table"], path=path)
    t = torch.tensor([0.5, 2.25], dtype=torch.float64)
    at = size(schedule.alpha, schedule.sigmas)
    sigma = schedule.sigma(t)
    expected = torch.stack([(at[0] + at[1]) / 2, 0.75 * at[2] + 0.25 * at[3]])
    torch.testing.assert_close(size(schedule.alpha_at(sigma), sigma), expected, rtol=1e-12, atol=0)


def test_zero_terminal_snr_is_its_papers_algorithm():
    """arXiv 2305.08891, Algorithm 1: shift the root of the cumulative alphas to end in 0, scale it to begin as it
    was."""
    before = SCHEDULES["scaled_linear"]
    root = before.alpha.clone()
    first, last = root[0].clone(), root[-1].clone()
    root = (root - last) * first / (first - last)
    after = before.zero_terminal_snr()
    torch.testing.assert_close(after.alpha, root, rtol=1e-14, atol=0)
    torch.testing.assert_close(after.alpha**2 + after.sigma_vp**2, torch.ones(1000).double(), rtol=1e-14, atol=0)
    assert (after.sigmas[0], after.sigma_max) == (before.sigmas[0], math.inf)
    assert math.isinf(after.grid(4)[0])
    again = after.zero_terminal_snr()
    torch.testing.assert_close(again.alpha, after.alpha, rtol=0, atol=0)
    for other in ("ve", "rectified_flow", "table"):
        with pytest.raises(ValueError, match="variance-preserving"):
            SCHEDULES[other].zero_terminal_snr()


def test_fading_makes_eulers_step_videocrafters_rescaled_ddim():
    """lvdm's DDIM with `use_scale`: x0 / scale_t from the noise estimate, and times scale_s at the level it goes to."""
    plain = Schedule.scaled_linear()
    schedule = plain.fading(0.7, 400)
    scale = torch.cat([torch.linspace(1, 0.7, 400, dtype=torch.float64), torch.full((600,), 0.7, dtype=torch.float64)])
    z, eps = torch.randn(2, 1, 4, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network = Network(lambda z, t, condition: eps, schedule, "epsilon", "video")
    for t, s in ((999, 799), (450, 350), (300, 100)):
        x0 = (z - plain.sigma_vp[t] * eps) / (scale[t] * plain.alpha[t])
        theirs = scale[s] * plain.alpha[s] * x0 + plain.sigma_vp[s] * eps
        x, _ = Euler().step(network(None), z / schedule.alpha[t], schedule.sigmas[t], schedule.sigmas[s])
        # both are a handful of float64 operations on numbers up to 1 / alpha(999) = 21
        torch.testing.assert_close(schedule.alpha[s] * x, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("end", "levels"), [(0.0, 400), (1.5, 400), (0.7, 1), (0.7, 1001)])
def test_fading_refuses_factors_and_levels_that_cannot_be(end, levels):
    with pytest.raises(ValueError, match="expected"):
        Schedule.scaled_linear().fading(end, levels)
