"""Windows over frames and rescheduled noise beside diffusers' FreeNoise, whose own are inside its motion modules."""

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from ivmix.solvers import Windows, initial_noise, rescheduled_noise, windowed
from ivmix.solvers.algebra.noise import _SHUFFLES

pytestmark = pytest.mark.slow

CHANNELS, SIDE = 8, 2


@pytest.mark.parametrize(("frames", "length", "stride"), [(20, 8, 4), (33, 16, 4), (21, 8, 3), (30, 8, 8), (6, 8, 4)])
def test_rescheduled_noise_is_its_shuffled_context(
    frames: int, length: int, stride: int, diffusers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the same first frames and the same draws of the order, the same noise, to the bit: its shuffling goes on
    from what it has shuffled, and the last frames take the beginning of an order, as here."""
    from diffusers.pipelines.free_noise_utils import AnimateDiffFreeNoiseMixin

    seed, shape = 5, (4, frames, SIDE, SIDE)
    white = torch.randn((1, *shape), generator=Generator().manual_seed(0))
    kept = min(length, frames)
    white[:, :, :kept] = initial_noise([seed], (4, kept, SIDE, SIDE))
    monkeypatch.setattr("diffusers.pipelines.free_noise_utils.randn_tensor", lambda *_, **__: white)
    pipeline = SimpleNamespace(
        _free_noise_context_length=length, _free_noise_context_stride=stride, vae_scale_factor=8,
        _free_noise_noise_type="shuffle_context",
    )  # fmt: skip
    theirs = AnimateDiffFreeNoiseMixin._prepare_latents_free_noise(
        pipeline, 1, 4, frames, 8 * SIDE, 8 * SIDE, torch.float32, torch.device("cpu"),
        Generator().manual_seed(seed ^ _SHUFFLES),
    )  # fmt: skip
    assert torch.equal(rescheduled_noise([seed], shape, length, stride), theirs)


@pytest.mark.parametrize(("length", "overlap"), [(8, 0), (8, 2), (8, 4), (8, 7), (7, 4), (16, 12)])
def test_windows_are_averaged_by_its_pyramids(
    length: int, overlap: int, diffusers: ModuleType, agree: Any
) -> None:
    """Its block of attention by windows is ours of the block that has one window, with its feed-forward silenced: that
    comes after the average. Lengths that strides fill: of others its last window counts for its new frames alone."""
    from diffusers.models.attention import BasicTransformerBlock, FreeNoiseTransformerBlock

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "dim": CHANNELS, "num_attention_heads": 2, "attention_head_dim": 4, "double_self_attention": True,
        "positional_embeddings": "sinusoidal", "num_positional_embeddings": 64,
    }  # fmt: skip
    theirs = FreeNoiseTransformerBlock(**sizes, context_length=length, context_stride=length - overlap).double()
    for last in theirs.ff.net[-1].parameters():
        torch.nn.init.zeros_(last)
    ours = BasicTransformerBlock(**sizes).double()
    ours.load_state_dict(theirs.state_dict())

    def by_pixel(block: Any, x: Tensor) -> Tensor:  # b c f h w, as sequences of frames
        rows = x.permute(0, 3, 4, 2, 1).flatten(0, 2)
        y: Tensor = block(rows)
        return y.unflatten(0, (len(x), *x.shape[3:])).permute(0, 4, 3, 1, 2)

    frames = length + 5 * (length - overlap)
    x = torch.randn(2, CHANNELS, frames, SIDE, SIDE, dtype=torch.float64)
    with torch.no_grad():
        found = windowed(lambda z, t: by_pixel(ours, z), Windows(length, overlap))(x, 0.0)
        agree(found, by_pixel(theirs, x))
        assert float((found - by_pixel(ours, x)).abs().max()) > 0.1  # and no attention of all frames at once
