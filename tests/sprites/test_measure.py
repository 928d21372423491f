"""The measurement reads ground truth off real clips, and every score falls when the thing it names is broken."""

import numpy as np
import pytest
import torch

from ivmix.description import EMBEDDED
from ivmix.media import to_frames
from ivmix.sprites.measure import NAMES, Scores, load_judge, measure, real_clips
from ivmix.sprites.world import parse

N = 32


@pytest.fixture(scope="module")
def judge():
    return load_judge(EMBEDDED["sprites"])


@pytest.fixture(scope="module")
def crisp(judge):
    clips, captions = real_clips(N, seed=7, degraded=False)
    return to_frames(clips), captions, measure(to_frames(clips), captions, judge)


def mean(scores: Scores, name: str) -> float:
    return float(scores[name].mean())


def test_ground_truth_is_read_as_it_was_drawn(crisp):
    """Bounds: the judge's own error on real clips, which is the resolution of every measurement made with it."""
    scores = crisp[2]
    assert all(mean(scores, name) > 0.99 for name in ("colour", "shape", "motion", "strict", "identity"))
    assert mean(scores, "jitter") < 0.6
    assert mean(scores, "flicker") == 0.0
    assert abs(mean(scores, "sharpness") - 1) < 0.1
    assert mean(scores, "degradation") < 0.1
    assert mean(scores, "watermark") < 0.1


def test_degraded_clips_score_as_degraded_and_keep_their_meaning(judge):
    clips, captions = real_clips(N, seed=8, degraded=True)
    scores = measure(to_frames(clips), captions, judge)
    assert mean(scores, "degradation") > 0.9
    assert mean(scores, "watermark") > 0.9
    assert mean(scores, "sharpness") < 0.4
    assert mean(scores, "colour") > 0.99
    assert mean(scores, "motion") > 0.99


def test_frames_in_reverse_fail_motion_alone(crisp, judge):
    frames, captions, _ = crisp
    scores = measure(np.ascontiguousarray(frames[:, ::-1]), captions, judge)
    assert mean(scores, "motion") == 0
    assert mean(scores, "colour") > 0.99
    assert mean(scores, "jitter") < 0.6


def test_shuffled_frames_fail_strict_motion_and_jitter(crisp, judge):
    frames, captions, _ = crisp
    scores = measure(frames[:, [3, 0, 6, 1, 7, 2, 5, 4]], captions, judge)
    assert mean(scores, "strict") < 0.05
    assert mean(scores, "jitter") > 4


def test_frames_of_different_clips_fail_identity_and_flicker(crisp, judge):
    frames, captions, _ = crisp
    mixed = np.stack([np.roll(frames[:, f], f, axis=0) for f in range(frames.shape[1])], axis=1)
    scores = measure(mixed, captions, judge)
    assert mean(scores, "identity") < 0.5
    assert mean(scores, "flicker") > 5


def test_captions_of_other_clips_fail_colour_and_shape(crisp, judge):
    frames, captions, _ = crisp
    other = [captions[(k + 1) % N] for k in range(N)]
    scores = measure(frames, other, judge)
    for place, name in enumerate(("colour", "shape")):
        agree = np.mean([parse(a)[place] == parse(b)[place] for a, b in zip(captions, other, strict=True)])
        assert abs(mean(scores, name) - agree) < 0.02


def test_a_clip_scores_the_same_alone_and_among_others(crisp, judge):
    frames, captions, together = crisp
    alone = measure(frames[5:6], captions[5:6], judge)
    for name in NAMES:  # float32 convolutions of another batch size may round differently
        np.testing.assert_allclose(alone[name][0], together[name][5], atol=1e-3)


def test_frames_of_another_size_are_refused(judge):
    with pytest.raises(ValueError, match=r"expected \(b, f, 64, 64, 3\)"):
        measure(np.zeros((1, 8, 16, 16, 3), np.uint8), ["a red circle moving left"], judge)


def test_a_pair_without_a_judge_has_none(tmp_path):
    assert load_judge(tmp_path) is None


def test_the_judge_positions_are_pixels(crisp, judge):
    clips, _ = real_clips(8, seed=9, degraded=False)
    from ivmix.sprites.world import random_scenes

    truth = random_scenes(8, torch.Generator().manual_seed(9)).position
    read = judge(clips.transpose(1, 2).flatten(0, 1)).position.unflatten(0, (8, -1))
    assert (read - truth).norm(dim=-1).mean() < 1
