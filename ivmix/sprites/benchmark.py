"""The sprite world as a benchmark: what its columns are, what is measured of its clips, and to what.

Exact semantics first, then the literature's weight-free metrics; features are those of the pair's judge.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ivmix.evaluation.benchmark import Benchmark, DrawnReference
from ivmix.evaluation.comparison import Scorer
from ivmix.evaluation.design import Design
from ivmix.evaluation.legend import Column
from ivmix.evaluation.metrics.video import (
    dynamic_degree,
    flow_score,
    frame_consistency,
    temporal_flickering,
    warping_error,
)
from ivmix.pairs.pair import Pair
from ivmix.sprites.judge import Judge
from ivmix.sprites.measure import NAMES, load_judge, measure
from ivmix.sprites.truth import TRUTHS, Truth
from ivmix.sprites.world import balanced_captions, parse

ONE_PATH = 2.0  # px of jitter from which on frames follow no path, and their net displacement is nobody's motion
REFERENCES, REFERENCE_SEED = 2048, 1_000_000  # crisp clips, far from any clip's own seed

COLUMNS = {
    "degradation": Column(
        "0 crisp, 1 as soft and flat as the video model's training clips; nearer 0 is better",
        "{:.2f}", main=True, cost=True,
    ),
    "watermark": Column(
        "0 none, 1 as strong as in the video model's training clips; nearer 0 is better", "{:.2f}", main=True
    ),
    "residue": Column(
        "grey levels (0-255) that are left of it in its place, whichever their sign; lower is better",
        "{:.2f}", main=True, wide=True,  # as jitter and flicker: the image model alone is far from all others
    ),
    "sharpness": Column("edges on the sprite, 1 those of the crisp world; nearer 1 is better", "{:.2f}", main=True),
    "colour": Column("share of frames whose sprite has the colour asked for; higher is better", main=True),
    "shape": Column("share of frames whose sprite has the shape asked for; higher is better", main=True),
    "motion": Column(
        "share of clips whose net displacement points the way asked for; higher is better; no motion to speak of "
        f"where jitter is {ONE_PATH:g} pixels or more, as frames follow no path (`compare` shows -)",
        main=True, cost=True, void=("jitter", ONE_PATH),
    ),
    "identity": Column(
        "share of frames that agree with the clip's most frequent colour and shape; higher is better", main=True
    ),
    "jitter": Column(
        "pixels that the sprite strays from uniform motion; lower is better", "{:.2f}", main=True, wide=True
    ),
    "flicker": Column(
        "grey levels (0-255) that the background changes by from frame to frame; lower is better",
        "{:.2f}", main=True, cost=True, wide=True,
    ),
    "strict": Column("share of clips that move the way asked for, straight and at the world's speed; higher is better"),
    "temporal_flickering": Column("1 for a still clip, 0 for one that jumps from black to white", "{:.4f}"),
    "frame_consistency": Column("1 where all frames have the same features; higher is better", "{:.4f}"),
    "warping_error": Column("squared difference of frames warped onto each other; lower is better", "{:.5f}"),
    "dynamic_degree": Column("share of clips that move"),
    "flow_score": Column("pixels a frame", "{:.2f}"),
}  # fmt: skip
# What `compare` measures, in its own order.
COMPARED = (
    "degradation", "watermark", "residue", "sharpness", "colour", "shape", "identity", "jitter", "motion", "strict",
    "flicker",
)  # fmt: skip


def sprites(pair: Pair, references: int = REFERENCES) -> Benchmark:
    """The benchmark of a loaded pair of this world; distances are to `references` crisp clips, captions in turn.

    ValueError for a pair that brings no judge, or fewer than two references.
    """
    judge = load_judge(pair)
    if judge is None:
        raise unmeasurable(pair.name)
    if references < 2:
        raise ValueError(f"references={references}: expected 2 or more")
    return Benchmark(
        "sprites",
        balanced_captions(),
        features=partial(clip_features, judge=judge),
        features_of="the pair's judge",
        reference=DrawnReference(Truth("reference"), Design(references, 1, REFERENCE_SEED, batch_size=64)),
        reference_of="crisp clips",
        measure=partial(columns, judge=judge),
        columns=COLUMNS,
        truths=TRUTHS,
        floor="crisp clips",
        source=Truth("", degraded=True),
        networks={"judge": judge},
    )


def unmeasurable(pair: str) -> ValueError:
    """What is wrong with a pair of that name, whose description names no judge."""
    return ValueError(f"pair {pair!r} brings no judge: only pairs of the sprite world can be measured exactly")


def scorer(pair: Pair) -> Scorer | None:
    """What `compare` says of clips of any of the world's captions; None for a pair that brings no judge."""
    judge = load_judge(pair)
    if judge is None:
        return None

    def scores(frames: np.ndarray, captions: Sequence[str]) -> dict[str, np.ndarray]:
        found = measure(frames, captions, judge)
        return {name: found[name] for name in COMPARED}

    return Scorer(parse, scores, {name: COLUMNS[name] for name in COMPARED})


def columns(frames: np.ndarray, captions: Sequence[str], fps: float, judge: Judge) -> dict[str, np.ndarray]:
    """Every one of `COLUMNS`, float64 (b,), of clips (b f h w 3) uint8 and what they were to show."""
    scores, device = measure(frames, captions, judge), next(judge.parameters()).device
    return {
        **{name: scores[name] for name in NAMES},
        "temporal_flickering": temporal_flickering(frames),
        "frame_consistency": frame_consistency(frames, lambda images: judge(2 * images - 1).features, device),
        "warping_error": warping_error(frames, device=device),
        "dynamic_degree": dynamic_degree(frames, fps, device=device),
        "flow_score": flow_score(frames, device=device),
    }


@torch.no_grad()
def clip_features(frames: np.ndarray, judge: Judge) -> Tensor:
    """The judge's features of clips (b f h w 3) uint8: their mean over frames, then their deviation, float32 (b, 2d).

    The first half tells what frames look like, the second how they change, which a frozen clip gives away.
    """
    device = next(judge.parameters()).device
    video = torch.from_numpy(frames).to(device).permute(0, 1, 4, 2, 3).float() / 127.5 - 1  # (b f c h w)
    features = judge(video.flatten(0, 1)).features.unflatten(0, frames.shape[:2])  # (b f d)
    return torch.cat([features.mean(1), features.std(1, correction=0)], dim=1).cpu()
