"""The sprite world as a benchmark: what its features are, and what distances are measured to."""

from collections import Counter

import numpy as np
import torch

from ivmix import TextToVideo
from ivmix.evaluation.design import Design
from ivmix.evaluation.jobs import reference_jobs
from ivmix.sprites.benchmark import clip_features, sprites
from ivmix.sprites.judge import Reading


class Pixels(torch.nn.Module):
    """Stands in for the judge: its two features are a frame's first pixel, red and green."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, frames):
        return Reading(*[frames] * 5, self.gain * frames[:, :2, 0, 0])


def test_features_are_mean_and_deviation_over_the_frames_of_each_clip():
    frames = np.zeros((2, 4, 3, 3, 3), np.uint8)
    frames[0, :, 0, 0, 0] = [0, 255, 0, 255]
    frames[1, :, 0, 0, 1] = 255
    expected = [[0.0, -1.0, 1.0, 0.0], [-1.0, 1.0, 0.0, 0.0]]
    torch.testing.assert_close(clip_features(frames, Pixels()), torch.tensor(expected))


def test_references_share_no_scene_with_the_clips_they_are_compared_with():
    benchmark = sprites(TextToVideo.from_pair("sprites").pair)
    seeds = {seed for job in reference_jobs(benchmark) for seed in job.seeds}
    assert len(seeds) == 2048
    assert not seeds & set(Design(clips=10_000, repeats=10).seeds(range(100_000)))
    counts = Counter(caption for job in reference_jobs(benchmark) for caption in job.captions)
    assert set(counts.values()) == {32}
    assert len(counts) == 64
