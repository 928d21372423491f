"""FreeInit against diffusers': the filter, the mix of two noises, and a whole new beginning."""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from ivmix.solvers import GaussianLowPass, LowPass, Schedule, freeinit, integrate, plain

pytestmark = pytest.mark.slow

Make = Callable[..., Tensor]
Agree = Callable[[Tensor, Tensor], None]


@pytest.fixture
def peer(diffusers: ModuleType) -> Any:
    """diffusers' mixin on the scheduler of Stable Diffusion, as `enable_free_init` leaves it."""
    mixin = import_module("diffusers.pipelines.free_init_utils").FreeInitMixin()
    mixin.scheduler = diffusers.DDIMScheduler(
        1000, 0.00085, 0.012, "scaled_linear", clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    mixin.enable_free_init(num_iters=2)
    return mixin


def peer_filter(peer: Any, size: tuple[int, int, int], low_pass: LowPass) -> Tensor:
    """Their filter (1, f, h, w), frequency 0 in the middle."""
    cut_offs = low_pass.spatial, low_pass.temporal
    return peer._get_free_init_freq_filter((1, *size), "cpu", "butterworth", low_pass.order, *cut_offs)


@pytest.mark.parametrize("low_pass", [LowPass(), LowPass(0.4, 0.7, order=2)], ids=["default", "other cut-offs"])
@pytest.mark.parametrize("size", [(8, 16, 16), (16, 6, 10)])
def test_the_filter_and_the_mix(
    peer: Any, low_pass: LowPass, size: tuple[int, int, int], dtype: torch.dtype, normal: Make, agree: Agree
) -> None:
    theirs = peer_filter(peer, size, low_pass)  # float32, whatever the latents are
    agree(torch.fft.fftshift(low_pass.response(*size)).float(), theirs[0])
    old, new = normal(2, 4, *size), normal(2, 4, *size, seed=1)
    mixed = peer._apply_freq_filter(old, new, theirs.to(dtype))
    exact = peer._apply_freq_filter(old, new, torch.fft.fftshift(low_pass.response(*size)).to(dtype))
    agree(new + low_pass(old - new), exact)
    assert (mixed - exact).abs().max() < 1e-5  # what the float32 filter costs


@pytest.mark.parametrize("cut_offs", [(0.25, 0.25), (1.0, 0.5)], ids=["default", "VideoElevator's"])
def test_the_gaussian_filter(peer: Any, cut_offs: tuple[float, float], agree: Agree) -> None:
    theirs = peer._get_free_init_freq_filter((1, 8, 16, 16), "cpu", "gaussian", 4, *cut_offs)
    agree(torch.fft.fftshift(GaussianLowPass(*cut_offs).response(8, 16, 16)).float(), theirs[0])


def test_for_odd_sizes_their_filter_is_not_centred_on_rest(peer: Any) -> None:
    """Their axis is 2·k/n - 1 for k = 0, ..., n - 1, where the spectrum's own is 1/n to the right for odd n: what does
    not move at all counts as moving at 1/n, and the mix of real noises is complex. Ours is symmetric."""
    theirs = torch.fft.ifftshift(peer_filter(peer, (5, 16, 16), LowPass())[0])
    assert theirs[0, 0, 0] == pytest.approx(1 / (1 + (0.2 / 0.25) ** 8), abs=1e-6)
    assert LowPass().response(5, 16, 16)[0, 0, 0] == 1
    assert not torch.allclose(theirs[1], theirs[-1])


def test_a_new_beginning(peer: Any, normal: Make, agree: Agree, dtype: torch.dtype) -> None:
    """On a trailing grid, whose first level is theirs, always the last training level. They compute in float32."""
    shape = (2, 4, 8, 16, 16)
    schedule, eps = Schedule.scaled_linear(), normal(*shape)
    legs = freeinit(plain(schedule.grid(4)), 2)[:5]
    result = normal(*shape, seed=2)
    generator = torch.Generator().manual_seed(7)
    eta = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    run = integrate(
        lambda x, sigma: result, legs, schedule.start(eps, legs[0].source), noise=lambda *_: eta, schedule=schedule
    )
    begin: dict[str, Any] = {"num_inference_steps": 4, "device": "cpu", "dtype": torch.float32, "generator": generator}
    peer._apply_free_init(eps.float(), 0, **begin)
    z, timesteps = peer._apply_free_init(result.float(), 1, **begin)
    assert timesteps[0] == 999
    agree((schedule.alpha[-1] * run.x).float(), z)
