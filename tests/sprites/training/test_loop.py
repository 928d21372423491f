"""A training run is a function of its seed: killed and resumed, it ends with the same bits."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from ivmix.sprites.training.loop import Settings, parameter_groups, rate_at, read_log, step_generator, train


def regression(network: nn.Module, generator: torch.Generator, progress: float):
    x = torch.randn(16, 3, generator=generator)
    return (network(x) - x.sum(1, keepdim=True)).square().mean(), {"progress": torch.tensor(progress)}


def fresh() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1))


SETTINGS = Settings(steps=40, warmup=5, save_every=10, log_every=5)


def parameters(network: nn.Module) -> torch.Tensor:
    return torch.cat([p.flatten() for p in network.parameters()])


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path):
    whole = train("toy", fresh(), regression, SETTINGS, tmp_path / "whole")

    class Killed(Exception):
        pass

    def dies_at_27(network, generator, progress):
        if progress >= 27 / 40:
            raise Killed
        return regression(network, generator, progress)

    with pytest.raises(Killed):
        train("toy", fresh(), dies_at_27, SETTINGS, tmp_path / "cut")
    resumed = train("toy", fresh(), regression, SETTINGS, tmp_path / "cut")
    assert torch.equal(parameters(whole), parameters(resumed))
    assert read_log(tmp_path / "whole" / "toy.jsonl") == read_log(tmp_path / "cut" / "toy.jsonl")


def test_a_finished_run_is_read_back_without_training(tmp_path: Path):
    first = train("toy", fresh(), regression, SETTINGS, tmp_path)
    again = train("toy", fresh(), lambda *_: pytest.fail("trained again"), SETTINGS, tmp_path)
    assert torch.equal(parameters(first), parameters(again))


def test_training_lowers_the_loss_and_logs_it(tmp_path: Path):
    train("toy", fresh(), regression, Settings(steps=300, learning_rate=1e-2, warmup=5), tmp_path)
    rows = read_log(tmp_path / "toy.jsonl")
    assert rows[-1]["loss"] < 0.2 * rows[0]["loss"]
    assert [row["step"] for row in rows] == [*range(0, 300, 20), 299]


def test_a_loss_that_is_not_finite_stops_the_run_by_name(tmp_path: Path):
    def diverges(network, generator, progress):
        return parameters(network).sum() * float("nan"), {}

    with pytest.raises(FloatingPointError, match="stage toy: loss nan at step 0"):
        train("toy", fresh(), diverges, SETTINGS, tmp_path)


def test_each_step_and_stage_draws_its_own_data():
    draws = {
        (stage, step): torch.randn(4, generator=step_generator(0, stage, step)).tolist()
        for stage in ("a", "b")
        for step in (0, 1)
    }
    assert len({tuple(d) for d in draws.values()}) == 4
    assert torch.randn(4, generator=step_generator(0, "a", 1)).tolist() == draws["a", 1]


def test_the_rate_warms_up_peaks_and_decays():
    settings = Settings(steps=100, warmup=10)
    rates = [rate_at(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.02, abs=2e-3)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_named_parameters_get_their_own_rate_and_none_is_lost():
    network = nn.ModuleDict({"slow": nn.Linear(2, 2), "motion_modules": nn.Linear(3, 3)})
    groups = {group["rate"]: group["params"] for group in parameter_groups(network, {"motion_modules": 3.0})}
    assert {rate: sum(p.numel() for p in ps) for rate, ps in groups.items()} == {1.0: 6, 3.0: 12}


def test_a_log_line_cut_short_by_a_kill_is_left_out(tmp_path: Path):
    (tmp_path / "x.jsonl").write_text('{"step": 0, "loss": 1.0}\n{"step": 20, "lo')
    assert read_log(tmp_path / "x.jsonl") == [{"step": 0, "loss": 1.0}]
