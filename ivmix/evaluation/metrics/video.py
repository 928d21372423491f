"""Metrics of clips that need no weights, under their names in the literature: one score a clip (b f h w c) uint8.

They see no meaning, and each has a blind side: a still clip never flickers, is consistent and warps perfectly, so they
belong beside one that sees motion (`dynamic_degree`, `flow_score`), and beside what real clips score.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ivmix.evaluation.metrics.flow import Flow, lucas_kanade, traceable, warp

Frames = NDArray[np.uint8]  # b f h w c
Scores = NDArray[np.float64]  # b
Device = torch.device | str  # where it is computed

PIXELS = 2**18  # at a time: flows need many times the memory of their images


def temporal_flickering(frames: Frames) -> Scores:
    """VBench's (arXiv 2311.17982): 1 − mean |frame − next frame|/255, in [0, 1], 1 for a still clip.

    VBench keeps to prompts without motion; on moving clips it falls with speed and contrast too.
    """
    _check(frames)
    return np.array([1 - np.abs(np.diff(clip.astype(np.int16), axis=0)).mean() / 255 for clip in frames])


def frame_consistency(frames: Frames, embed: Callable[[Tensor], Tensor], device: Device = "cpu") -> Scores:
    """VBench's subject and background consistency under any features: `embed` maps images (n c h w) in [0, 1] to (n d).

    Mean over frames after the first of ½(max(0, cos(previous, frame)) + max(0, cos(first, frame))), in [0, 1].
    VBench's features are DINO's and CLIP's.
    """

    def score(clips: Tensor) -> Tensor:
        features = embed(clips.flatten(0, 1)).cpu().double().unflatten(0, clips.shape[:2])
        unit = F.normalize(features, dim=2)  # (b f d)
        previous, first = ((unit[:, 1:] * other).sum(2).clamp(min=0) for other in (unit[:, :-1], unit[:, :1]))
        return (previous + first).mean(1) / 2

    return _scores(frames, score, device)


def warping_error(frames: Frames, flow: Flow = lucas_kanade, device: Device = "cpu") -> Scores:
    """Mean squared difference (pixels in [0, 1]) of a frame and the next one warped back onto it (arXiv 1808.00449).

    Over the pixels that `flow` can trace there and back (`flow.traceable`), then over frames; Lai et al. take the flow
    of an unprocessed video, which a generated clip does not have. Where no pixel of a frame can be traced, all of them
    count: the authors' code scores such a frame 0, the best there is.
    """

    def score(clips: Tensor) -> Tensor:
        here, there = clips[:, :-1].flatten(0, 1), clips[:, 1:].flatten(0, 1)
        forward = flow(here, there)
        kept = traceable(forward, flow(there, here))
        kept = (kept | ~kept.any(3, keepdim=True).any(2, keepdim=True)).cpu()
        error = (here - warp(there, forward)).cpu().double().square().mean(1, keepdim=True)
        means = (error * kept).sum((1, 2, 3)) / kept.sum((1, 2, 3))
        return means.unflatten(0, (len(clips), -1)).mean(1)

    return _scores(frames, score, device)


def flow_score(frames: Frames, flow: Flow = lucas_kanade, device: Device = "cpu") -> Scores:
    """Mean length of the flow from each frame to the next, pixels a frame (EvalCrafter, arXiv 2310.11440)."""
    return _scores(frames, lambda clips: _speed(clips, flow).mean((1, 2)), device)


def dynamic_degree(
    frames: Frames, fps: float = 8.0, flow: Flow = lucas_kanade, device: Device = "cpu"
) -> Scores:
    """VBench's: 1 for a clip that moves, 0 for one that does not; the mean over clips is the score.

    At about 8 of the clip's `fps`, the fastest 5 % of pixels must average more than 6·min(h, w)/256 pixels (more where
    there are fewer than 8) in round(n/4) or more of the steps between the n frames. VBench's flow is RAFT's.
    ValueError where round(n/4) is 0, for then every clip would move.
    """
    if not 0 < fps < float("inf"):
        raise ValueError(f"fps is {fps}: expected frames a second, above 0")
    _check(frames)
    sampled = frames[:, :: max(1, round(fps / 8))]
    n, h, w = sampled.shape[1:4]
    needed, threshold = round(n / 4), 6 * min(h, w) / 256 * max(1, 8 / fps)
    if needed == 0:
        raise ValueError(f"{frames.shape[1]} frames at {fps} fps are {n} at 8 fps: expected 3 or more there")

    def score(clips: Tensor) -> Tensor:
        fastest = _speed(clips, flow).topk(max(1, int(0.05 * h * w))).values.mean(2)  # (b f-1)
        return (fastest > threshold).sum(1) >= needed

    return _scores(sampled, score, device)


def _speed(clips: Tensor, flow: Flow) -> Tensor:
    """Length of the flow from each frame to the next: (b f c h w) -> (b f-1 hw)."""
    length = flow(clips[:, :-1].flatten(0, 1), clips[:, 1:].flatten(0, 1)).cpu().double().norm(dim=1)
    return length.flatten(1).unflatten(0, (len(clips), -1))


def _scores(frames: Frames, score: Callable[[Tensor], Tensor], device: Device) -> Scores:
    """`score` maps clips (b f c h w) in [0, 1], on `device`, to (b,) on the CPU, as MPS has no float64; it is given a
    few at a time."""
    with torch.no_grad():
        return np.concatenate([score(clips).double().numpy() for clips in _batches(frames, device)])


def _batches(frames: Frames, device: Device) -> Iterator[Tensor]:
    _check(frames)
    size = max(1, PIXELS // int(np.prod(frames.shape[1:4])))
    for start in range(0, len(frames), size):
        batch = torch.from_numpy(frames[start : start + size].copy()).to(device)
        yield batch.permute(0, 1, 4, 2, 3).float() / 255


def _check(frames: Frames) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[1] < 2 or 0 in frames.shape:
        raise ValueError(f"frames is {frames.dtype} {frames.shape}: expected uint8 (b f h w c), f >= 2, nothing empty")
