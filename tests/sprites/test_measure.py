"""The measurement reads ground truth off real clips, and every score falls when the thing it names is broken."""

import json

import numpy as np
import pytest
import torch

from ivmix.media import to_frames
from ivmix.pairs.description import describe
from ivmix.pairs.pair import load_pair
from ivmix.sprites.measure import (
    CLEAR,
    NAMES,
    Scores,
    distance_to_sprite,
    load_judge,
    measure,
    real_clips,
    watermark_residue,
)
from ivmix.sprites.world import WATERMARK_ALPHA, degrade, parse, random_scenes, render, watermark_mask

N = 32


@pytest.fixture(scope="module")
def judge():
    return load_judge(load_pair("sprites"))


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
    assert (scores.residue < 0.5).all()  # grey levels: no more than rounding can be off


def test_degraded_clips_score_as_degraded_and_keep_their_meaning(judge):
    clips, captions = real_clips(N, seed=8, degraded=True)
    scores = measure(to_frames(clips), captions, judge)
    assert mean(scores, "degradation") > 0.9
    assert mean(scores, "watermark") > 0.9
    assert mean(scores, "sharpness") < 0.4
    assert mean(scores, "colour") > 0.99
    assert mean(scores, "motion") > 0.99


def test_the_residue_of_a_whole_watermark_is_its_deviation_in_grey_levels():
    """WATERMARK_ALPHA (1 - v) of every pixel v of the letters, over those of the box that are clear of the sprite."""
    scenes = random_scenes(N, torch.Generator().manual_seed(8))
    soft, marked = (degrade(render(scenes), watermark=amount) for amount in (0.0, 1.0))
    box = torch.zeros(64, 64)
    box[34:48, 11:53] = 1  # the letters and two pixels round them
    assert (box * watermark_mask()).sum() == watermark_mask().sum()
    clear = (box * (distance_to_sprite(scenes.position) > CLEAR))[:, None]
    levels = 127.5 * WATERMARK_ALPHA * (1 - soft) * watermark_mask()
    expected = ((levels.square() * clear).sum((1, 2, 3, 4)) / (3 * clear.sum((1, 2, 3, 4)))).sqrt()
    residue = watermark_residue(marked, scenes.position).float()
    torch.testing.assert_close(residue, expected, atol=0.05, rtol=0)  # that blur bends the gradient at the frame's edge
    assert residue.mean() > 15


def test_an_inverted_watermark_leaves_as_much_residue_as_an_upright_one_and_scores_below_none(judge):
    clips, captions = real_clips(N, seed=8, degraded=False)
    light = degrade(clips, softness=0.0, watermark=0.5)
    upright, inverted = (measure(to_frames(c), captions, judge) for c in (light, 2 * clips - light))
    assert mean(upright, "watermark") > 0.4
    assert mean(inverted, "watermark") < -0.1
    assert mean(upright, "residue") > 7
    assert mean(inverted, "residue") == pytest.approx(mean(upright, "residue"), rel=0.01)


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


def test_a_pair_brings_the_judge_that_it_names_or_none(tmp_path, judge):
    raw, _, _ = describe("sprites")
    folder = raw.pop("judge")

    def judge_of(**entry: str):
        (tmp_path / "pair.json").write_text(json.dumps(raw | entry))
        return load_judge(load_pair(tmp_path))

    assert judge_of() is None
    named = judge_of(judge=folder)
    assert named is not None
    assert all(torch.equal(value, judge.state_dict()[name]) for name, value in named.state_dict().items())
    with pytest.raises(FileNotFoundError, match="nowhere"):
        judge_of(judge="nowhere")


def test_the_judge_positions_are_pixels(crisp, judge):
    clips, _ = real_clips(8, seed=9, degraded=False)
    truth = random_scenes(8, torch.Generator().manual_seed(9)).position
    read = judge(clips.transpose(1, 2).flatten(0, 1)).position.unflatten(0, (8, -1))
    assert (read - truth).norm(dim=-1).mean() < 1
