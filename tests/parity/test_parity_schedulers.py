"""What diffusers writes of its schedulers is read as the same alphas and predictions."""

import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from ivmix.models import CLIPText, CLIPTextConfig, UNet, UNetConfig, save_folder
from ivmix.pairs.pair import load_pair
from ivmix.pairs.swaps import Swaps
from ivmix.pairs.trained_as import read_scheduler
from ivmix.solvers import Network, Schedule, integrate, plain
from ivmix.solvers.schedules.spacings import Spacing

LATENT: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNDMScheduler", LATENT),
        ("DDIMScheduler", LATENT | {"beta_schedule": "linear", "prediction_type": "v_prediction"}),
        ("DDIMScheduler", LATENT | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}),
        ("DPMSolverMultistepScheduler", {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"}),
        ("DDPMScheduler", {"trained_betas": [0.01, 0.02, 0.1, 0.3], "num_train_timesteps": 4}),
        ("EulerDiscreteScheduler", LATENT | {"num_train_timesteps": 100}),
    ],
)
def test_alphas_are_those_of_the_scheduler_that_wrote_the_file(
    kind: str, options: dict[str, Any], diffusers: ModuleType, tmp_path: Path
) -> None:
    theirs = getattr(diffusers, kind)(**options)
    theirs.save_pretrained(tmp_path)
    said = read_scheduler(tmp_path / "scheduler_config.json")
    assert said.schedule is not None
    ours = Schedule.from_config(said.schedule)
    assert torch.equal(Schedule.from_config(theirs.config).alpha, ours.alpha)  # without a file
    assert (ours.alpha**2 - theirs.alphas_cumprod.double()).abs().max() < 1e-6  # theirs are float32
    words = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}
    assert said.prediction == words[theirs.config.prediction_type]


def test_a_flow_is_told_the_times_that_the_scheduler_tells(diffusers: ModuleType, tmp_path: Path) -> None:
    theirs = diffusers.FlowMatchEulerDiscreteScheduler()
    theirs.save_pretrained(tmp_path)
    said = read_scheduler(tmp_path / "scheduler_config.json")
    assert said.schedule is not None
    ours = Schedule.from_config(said.schedule)
    assert said.prediction == "flow"
    assert torch.allclose(ours.timesteps.flip(0), theirs.timesteps.double())  # 1000 at pure noise
    assert torch.allclose(ours.sigma_vp.flip(0), theirs.sigmas[: len(theirs.timesteps)].double())


@pytest.mark.parametrize(
    ("kind", "theirs", "ours", "last"),
    [
        ("DDIMScheduler", "trailing", "trailing", 1000),
        ("DDIMScheduler", "leading", "leading", 999),
        ("DDIMScheduler", "linspace", "linspace", 1000),
        ("EulerDiscreteScheduler", "trailing", "trailing", 1000),
        ("DPMSolverMultistepScheduler", "leading", "dpm-leading", 998),
        ("DPMSolverMultistepScheduler", "linspace", "dpm-linspace", 999),
        ("UniPCMultistepScheduler", "linspace", "dpm-linspace", 999),
        ("DEISMultistepScheduler", "linspace", "dpm-linspace", 999),
    ],
)
def test_spacings_visit_their_timesteps_at_every_number_of_steps(
    kind: str, theirs: str, ours: Spacing, last: int, diffusers: ModuleType
) -> None:
    """Ties included. From `last` on theirs repeats times, or leaves the 1000 levels; where their "trailing" has a time
    too many, it is -1."""
    offset = {"steps_offset": 1} if theirs == "leading" else {}
    scheduler = getattr(diffusers, kind)(**LATENT, timestep_spacing=theirs, **offset)
    schedule = Schedule.scaled_linear()
    for n in range(2, last + 1):
        scheduler.set_timesteps(n)
        times = scheduler.timesteps.long()
        assert times[n:].tolist() in ([], [-1]), n
        assert torch.equal(schedule.grid(n, ours)[:-1], schedule.sigmas[times[:n]]), n


@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("kind", ["Euler", "Heun", "DPMSolverMultistep", "UniPCMultistep"])
@pytest.mark.parametrize("spacing", [("timestep_spacing", "linspace"), ("use_karras_sigmas", True)], ids=str)
def test_their_float32_levels_are_levels_here(betas: str, kind: str, spacing: tuple[str, Any], diffusers: Any) -> None:
    """Their ends are off ours by their rounding, up to 7e-6 of the last level of a cosine schedule."""
    kind = f"{kind}{'Discrete' if kind in ('Euler', 'Heun') else ''}Scheduler"
    theirs = getattr(diffusers, kind)(**LATENT | {"beta_schedule": betas} | dict([spacing]))
    theirs.set_timesteps(20)
    sigmas = torch.unique_consecutive(theirs.sigmas)  # Heun's has each twice
    schedule = {"linear": Schedule.linear(0.00085, 0.012), "scaled_linear": Schedule.scaled_linear()}.get(
        betas, Schedule.cosine()
    )
    network = Network(lambda z, t, condition: torch.tanh(z), schedule, "epsilon", "video")
    z = torch.ones(1, 4, 1, 2, 2)
    assert integrate(network(None), plain(sigmas), schedule.start(z, sigmas[0])).x.isfinite().all()


def test_a_pipeline_that_says_v_at_zero_terminal_snr_is_swapped_in_as_that(
    diffusers: ModuleType, tmp_path: Path
) -> None:
    theirs = diffusers.DDIMScheduler(**LATENT, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    theirs.save_pretrained(tmp_path / "scheduler")
    unet = UNetConfig(block_out_channels=(32, 32), attention_levels=(True, False), layers_per_block=1,
                      cross_attention_dim=32)  # fmt: skip
    save_folder(UNet(unet), tmp_path / "unet")
    save_folder(CLIPText(CLIPTextConfig(49, 32, 64, 1, 4, 8)), tmp_path / "text_encoder")
    side = load_pair("sprites", swaps=Swaps(image_model=str(tmp_path))).image
    assert side.prediction == "v"
    assert side.schedule.alpha[-1] == theirs.alphas_cumprod[-1] == 0
    assert (side.schedule.alpha**2 - theirs.alphas_cumprod.double()).abs().max() < 1e-6


def test_what_a_file_may_leave_out_is_one_thing_in_every_scheduler_with_betas(diffusers: ModuleType) -> None:
    """Epsilon, over 1000 levels: an old file that lacks these entries means them."""
    classes = [getattr(diffusers, name) for name in dir(diffusers) if name.endswith("Scheduler")]
    signatures = [inspect.signature(kind.__init__).parameters for kind in classes if isinstance(kind, type)]
    betas = [s for s in signatures if {"beta_schedule", "beta_start", "prediction_type"} <= s.keys()]
    assert len(betas) > 10
    assert {(s["prediction_type"].default, s["num_train_timesteps"].default) for s in betas} == {("epsilon", 1000)}
