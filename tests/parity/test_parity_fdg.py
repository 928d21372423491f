"""Frequency-decoupled guidance against diffusers' guider: the same predictions in, the same out, to rounding.

Its pyramid is kornia's. Where neither side of a frame is a power of two, and where the levels do not fit, kornia
mirrors the frame up to the next powers of two and diffusers leaves the prediction at that size.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from ivmix.solvers import Coarse, Guided, Network, Schedule, fdg

pytestmark = pytest.mark.slow

SCHEDULES = {
    "epsilon": Schedule.scaled_linear(), "v": Schedule.scaled_linear(), "x0": Schedule.scaled_linear(),
    "flow": Schedule.rectified_flow(),
}  # fmt: skip
CONDITIONS = torch.tensor([0.0, 0.1], dtype=torch.float64), torch.tensor([0.9, -0.6], dtype=torch.float64)


@pytest.fixture(scope="module")
def kornia() -> Any:
    return pytest.importorskip("kornia.geometry.transform")


def network(z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    row = condition.reshape(-1, 1, 1, 1, 1)
    return (1 + row) * torch.tanh(0.7 * z + 0.3 * z.roll(1, -1) - 0.2 * z.roll(1, 1) + row)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def guide(diffusers: ModuleType, scales: Sequence[float], cond: Tensor, uncond: Tensor) -> Tensor:
    guider = diffusers.guiders.FrequencyDecoupledGuidance(guidance_scales=list(scales))
    guider.set_state(0, 10, torch.tensor(0))
    guider.prepare_inputs({"z": (cond, uncond)})
    guided: Tensor = guider.forward(cond.flatten(1, 2), uncond.flatten(1, 2)).pred  # images `b (c f) h w`
    return guided.unflatten(1, cond.shape[1:3])


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("size", [(16, 32), (40, 64), (8, 12)])
def test_the_pyramid(kornia: Any, level: int, size: tuple[int, int]) -> None:
    x = draw(2, 3, 2, *size)
    down = up = x.flatten(1, 2)
    for _ in range(level):
        down = up = kornia.pyrdown(down)
    for _ in range(level):
        up = kornia.pyrup(up)
    torch.testing.assert_close(Coarse(level)(x), up.reshape(x.shape), rtol=0, atol=1e-14)


@pytest.mark.parametrize("scales", [(10.0, 5.0), (4.0, 2.0, -1.0)], ids=str)
@pytest.mark.parametrize("size", [(16, 32), (24, 32)], ids=str)
@pytest.mark.parametrize("space", SCHEDULES)
def test_one_prediction(
    diffusers: ModuleType, kornia: Any, space: Any, size: tuple[int, int], scales: tuple[float, ...]
) -> None:
    schedule = SCHEDULES[space]
    sigma = schedule.grid(6)[2]
    alpha, x = schedule.alpha_at(sigma), sigma * draw(2, 4, 3, *size)
    model = Network(network, schedule, space, "video")
    x0 = fdg(Guided(*map(model, CONDITIONS)), scales)(x, sigma)
    eps = (x - x0) / sigma
    ours = {"epsilon": eps, "x0": x0, "v": alpha * (eps - sigma * x0), "flow": eps - x0}[space]
    uncond, cond = (network(alpha * x, sigma, condition) for condition in CONDITIONS)
    theirs = guide(diffusers, scales, cond, uncond)
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    print(f"max|ours - theirs| / max|theirs| = {difference:.1e}")
    assert difference <= 1e-12


def test_theirs_gives_other_sizes_back_enlarged(diffusers: ModuleType, kornia: Any) -> None:
    cond, uncond = draw(2, 1, 4, 3, 24, 40)
    assert guide(diffusers, (10.0, 5.0), cond, uncond).shape[-2:] == (32, 64)
    assert Coarse(1)(cond).shape == cond.shape
