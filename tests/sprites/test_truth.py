"""Ground truth: a clip is what its caption and seed say, whatever is done to it and whatever it is drawn beside."""

import numpy as np
import pytest
import torch

from ivmix import TextToVideo
from ivmix.sprites.truth import Truth
from ivmix.sprites.world import degrade

CAPTIONS, SEEDS = ["a red circle moving left", "a blue cross moving up", "a green square moving down"], [7, 8, 9]


@pytest.fixture(scope="module")
def model() -> TextToVideo:
    return TextToVideo.from_pair("sprites")


def frames(model, **kind):
    return Truth("clips", **kind).draw(model, CAPTIONS, SEEDS).frames


def test_truths_of_one_seed_are_one_scene(model):
    """Degraded clips are the crisp ones degraded; autoencoded ones differ by what the latents cannot express."""
    crisp, autoencoded = frames(model), frames(model, autoencoded=True)
    degraded, both = frames(model, degraded=True), frames(model, degraded=True, autoencoded=True)
    pixels = torch.from_numpy(crisp).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    again = (degrade(pixels) + 1) * 127.5
    # both were rounded to levels once: half a level each, the first through a contrast and an opacity below 1
    assert np.abs(again.permute(0, 2, 3, 4, 1).numpy() - degraded).max() <= 1.0
    error = np.abs(crisp.astype(float) - autoencoded).mean()
    assert 0 < error < 0.2 * np.abs(crisp.astype(float) - degraded).mean()
    error = np.abs(degraded.astype(float) - both).mean()
    assert 0 < error < 0.2 * np.abs(crisp.astype(float) - degraded).mean()


def test_a_truth_is_the_same_clip_whatever_it_is_drawn_with(model):
    alone = Truth("crisp").draw(model, CAPTIONS[2:], SEEDS[2:]).frames
    assert np.array_equal(alone[0], frames(model)[2])
