"""What is measured of a batch of clips of the sprite world: a value a clip and column, and features for distances."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ivmix.evaluation.video import (
    dynamic_degree,
    flow_score,
    frame_consistency,
    temporal_flickering,
    warping_error,
)
from ivmix.sprites.judge import Judge
from ivmix.sprites.measure import NAMES, measure


def columns(frames: np.ndarray, captions: Sequence[str], judge: Judge, fps: float) -> dict[str, np.ndarray]:
    """Every per-clip metric by its name, float64 (b,), of clips (b f h w 3) uint8 and what they were to show.

    Exact semantics of the world first, then the literature's weight-free metrics; consistency is of the judge's
    features.
    """
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
