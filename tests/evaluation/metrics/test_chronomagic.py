"""CHScore and MTScore from tracks and logits whose outcome is known, their traps included."""

import numpy as np
import pytest
import torch

from ivmix.evaluation.metrics.chronomagic import (
    TERMS,
    Coherence,
    incoherence,
    mean_of_parts,
    metamorphosis,
    missing_points,
)


def clip(t: int = 8, p: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Points that move to the right by a pixel a frame, all seen."""
    tracks = torch.zeros(t, p, 2)
    tracks[..., 0] = torch.arange(t)[:, None]
    return tracks, torch.ones(t, p, dtype=torch.bool)


def test_a_point_is_missing_unless_it_went_on_as_in_the_first_half():
    tracks, visible = clip()
    visible[6:] = False
    assert missing_points(tracks, visible).tolist() == [0] * 8  # all went on
    tracks[6:, :4, 0] = -1  # behind where they began
    tracks[6:, 4, 0] = 0  # there
    tracks[6:, 5] = torch.tensor([0.0, 3.0])  # across
    assert missing_points(tracks, visible).tolist() == pytest.approx([0] * 6 + [0.6] * 2)
    turning = torch.tensor([0.0, 1, 1, -1, 4, -1, -2, -3])[:, None, None] * torch.ones(10, 2)
    assert missing_points(turning, visible)[7] == 1  # in the middle, frame 4, it was on the other side
    still, unseen = torch.zeros(8, 10, 2), torch.zeros(8, 10, dtype=torch.bool)
    assert missing_points(still, unseen).tolist() == [1] * 8  # no way to go on


def test_the_sum_is_its_five_terms():
    still, visible = torch.zeros(5, 10, 2), torch.ones(5, 10)
    visible[2, :3] = 0
    visible[3, :4] = 0
    total, terms = incoherence(still, visible)
    changes = [0, 0.3, 0.1, 0.4]  # the last of points that are seen again
    expected = {
        "missing": 0.35 * np.mean([0, 0, 0.3, 0.4, 0]) / 0.9368749856948853,
        "deviation": 0.25 * np.std(changes, ddof=1) / 0.8997353911399841,
        "cut frames": 0.15 * (2 / 5) / 0.625, "cuts": 0.15 * 2 / 20, "largest change": 0.10 * 0.4,
    }  # fmt: skip
    assert terms == pytest.approx(expected, rel=1e-6)
    assert total == pytest.approx(sum(expected.values()))
    assert list(terms) == list(TERMS)


def test_a_perfect_clip_scores_nothing_and_a_nearly_perfect_one_most():
    tracks, visible = clip(p=900)
    perfect, _ = incoherence(tracks, visible)
    still = torch.zeros_like(tracks)
    nearly = visible.clone()
    nearly[-1, 0] = False
    bad = visible.clone()
    bad[3:, :600] = False
    found = Coherence.of([perfect, incoherence(still, nearly)[0], incoherence(still, bad)[0]])
    assert found.scores[0] == found.sums[0] == 0
    assert found.scores[1] > 1000 > 10 > found.scores[2] > 0
    assert found.mean == pytest.approx(found.scores.sum() / 3)
    assert found.median == found.scores[2]
    assert found.perfect == 1


def test_the_mtscore_counts_the_five_likeliest_of_ten():
    probabilities = torch.tensor([
        [0.3, 0.2, 0.01, 0.01, 0.01, 0.2, 0.1, 0.09, 0.04, 0.04],
        [0.11, 0.11, 0.11, 0.11, 0.11, 0.09, 0.09, 0.09, 0.09, 0.09],
        [0.04, 0.04, 0.04, 0.04, 0.04, 0.16, 0.16, 0.16, 0.16, 0.16],
    ], dtype=torch.float64)  # fmt: skip
    found = metamorphosis(probabilities.log() + 7)
    assert found.score == pytest.approx([0.39, 0, 0.8])
    assert found.ordinary == pytest.approx([0.5, 0.55, 0])
    assert found.uncounted == pytest.approx([0.11, 0.45, 0.2])


def test_parts_count_alike_whatever_their_clips():
    assert mean_of_parts([[1.0, 2.0, 3.0], np.array([6.0])]) == 4
    with pytest.raises(ValueError, match=r"\[1, 0\] clips"):
        mean_of_parts([[1.0], []])


def test_what_is_no_clip_is_refused():
    tracks, visible = clip()
    none = tracks[:, :0], visible[:, :0]
    for a, b in ((tracks[..., :1], visible), (tracks, visible[:, 1:]), none, (tracks[0], visible)):
        with pytest.raises(ValueError, match=r"expected \(t p 2\) and \(t p\)"):
            incoherence(a, b)
    with pytest.raises(ValueError, match="2 frames: expected three"):
        incoherence(tracks[:2], visible[:2])
    with pytest.raises(ValueError, match="NaN"):
        incoherence(tracks * float("nan"), visible)
    for logits in (torch.zeros(3, 9), torch.zeros(10), torch.full((1, 10), float("inf"))):
        with pytest.raises(ValueError, match=r"expected \(n, 10\)"):
            metamorphosis(logits)
