"""Exact measurement of clips of the sprite world: what was asked for, how it moves, how degraded it looks.

Semantics are read by the pair's own `Judge`; sharpness, flicker and residue are computed from pixels. Everything is per
clip, so that intervals and paired comparisons are the caller's to make.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ivmix.models import load_folder
from ivmix.pairs.pair import Pair
from ivmix.sprites.judge import Judge, JudgeConfig, Reading
from ivmix.sprites.world import MOTIONS, SIZE, degrade, parse, random_scenes, render, watermark_mask

SPRITE = 16.0  # pixels round the sprite's centre that hold it
CLEAR = 22.0  # pixels round the sprite's centre that do not count as background
MARGIN = 2  # pixels round the watermark that belong to its box


@dataclass(frozen=True)
class Scores:
    """One entry a clip, float64 (b,). Shares are of frames (colour, shape, identity) or 0/1 a clip (motion, strict)."""

    colour: np.ndarray  # frames whose sprite has the caption's colour
    shape: np.ndarray  # … and shape
    motion: np.ndarray  # 1 if the net displacement points where the caption says
    strict: np.ndarray  # … at more than 2.3 px a frame, drifting less than 1 across, jitter below 2 px
    identity: np.ndarray  # frames that agree with the clip's most frequent (colour, shape)
    jitter: np.ndarray  # px, deviation of the centre from uniform motion (root mean square)
    flicker: np.ndarray  # grey levels (0-255), mean absolute change of the background from frame to frame
    sharpness: np.ndarray  # mean |Laplacian| on the sprite, in units of the crisp world's
    degradation: np.ndarray  # 0 crisp, 1 as soft and flat as the video model's training clips
    watermark: np.ndarray  # 0 none, 1 as strong as in the video model's training clips; below 0 where it is inverted
    residue: np.ndarray  # grey levels (0-255), what is left in a watermark's place, light or dark: `watermark_residue`

    def __getitem__(self, name: str) -> np.ndarray:
        return getattr(self, name)


NAMES = tuple(f.name for f in fields(Scores))


@torch.no_grad()
def measure(frames: np.ndarray, captions: Sequence[str], judge: Judge) -> Scores:
    """Clips (b f 64 64 3) uint8 and their captions -> `Scores`. Raises ValueError for other sizes or captions."""
    if frames.ndim != 5 or frames.shape[2:] != (SIZE, SIZE, 3) or len(frames) != len(captions):
        raise ValueError(
            f"frames has shape {frames.shape} for {len(captions)} captions: expected (b, f, {SIZE}, {SIZE}, 3)"
        )
    b, f = frames.shape[:2]
    device = next(judge.parameters()).device
    video = torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1  # (b c f h w)
    reading = Reading(*(part.cpu() for part in judge(video.transpose(1, 2).flatten(0, 1).to(device))))
    colour, shape, motion = torch.tensor([parse(c) for c in captions]).unbind(1)  # in float64, which MPS has not
    colours, shapes = (logits.argmax(1).unflatten(0, (b, f)) for logits in (reading.colour, reading.shape))
    kinds = 4 * colours + shapes
    identity = (kinds == kinds.mode(dim=1).values[:, None]).double().mean(1)

    position = reading.position.double().unflatten(0, (b, f))  # (b f 2)
    time = torch.arange(f, dtype=torch.float64) - (f - 1) / 2
    spread = time.square().sum().clamp(min=1e-12)
    velocity = (position * time[:, None]).sum(1) / spread  # (b 2), px a frame
    line = position.mean(1, keepdim=True) + velocity[:, None] * time[:, None]
    jitter = (position - line).square().sum(-1).mean(1).sqrt()
    directions = torch.tensor(list(MOTIONS.values()), dtype=torch.float64)  # (4 2)
    along = velocity @ directions.T  # (b 4)
    right_way = along.argmax(1) == motion
    speed = along.gather(1, motion[:, None])[:, 0]
    across = (velocity * directions[motion].flip(1).abs()).sum(1).abs()
    strict = right_way & (speed > 2.3) & (across < 1.0) & (jitter < 2.0)

    scores = {
        "colour": (colours == colour[:, None]).double().mean(1),
        "shape": (shapes == shape[:, None]).double().mean(1),
        "motion": right_way.double(),
        "strict": strict.double(),
        "identity": identity,
        "jitter": jitter,
        "flicker": background_flicker(video, position),
        "sharpness": edge_energy(video, position) / crisp_edge_energy(),
        "degradation": reading.softness.double().unflatten(0, (b, f)).mean(1),
        "watermark": reading.watermark.double().unflatten(0, (b, f)).mean(1),
        "residue": watermark_residue(video, position),
    }
    return Scores(**{name: value.numpy() for name, value in scores.items()})


def distance_to_sprite(position: Tensor) -> Tensor:
    """Pixels between every pixel's centre and the sprite's: position (b f 2) -> (b f h w)."""
    grid = torch.arange(SIZE, device=position.device) + 0.5
    return torch.hypot(grid - position[..., :1, None], grid[:, None] - position[..., 1:, None])


def background_flicker(video: Tensor, position: Tensor) -> Tensor:
    """Mean absolute change between neighbouring frames, 0-255, where neither frame has its sprite: (b,)."""
    clear = distance_to_sprite(position) > CLEAR
    both = (clear[:, 1:] & clear[:, :-1])[:, None].double()
    change = video.diff(dim=2).abs().double() * 127.5
    return (change * both).sum((1, 2, 3, 4)) / (3 * both.sum((1, 2, 3, 4))).clamp(min=1)


def watermark_residue(video: Tensor, position: Tensor) -> Tensor:
    """How far the background is from a smooth one where a watermark would be, 0-255 (root mean square): (b,).

    A crisp background is affine in x and y, in every frame and channel. That is fitted by least squares where neither
    the sprite nor the watermark's box is; what the box differs from it, away from the sprite, is pooled over the clip.
    There is no sign to it, so dark letters do not make up for light ones as in the judge's `watermark`.
    """
    place = torch.linspace(-1, 1, SIZE, dtype=torch.float64, device=video.device)
    plane = torch.stack([place.new_ones(SIZE, SIZE), place.expand(SIZE, SIZE), place[:, None].expand(SIZE, SIZE)], -1)
    clear, box = distance_to_sprite(position) > CLEAR, watermark_box(video.device)
    around, inside = (clear & ~box).double(), (clear & box).double()  # (b f h w)
    levels = video.double() * 127.5
    gram = torch.einsum("bfhw,hwi,hwj->bfij", around, plane, plane)
    seen = torch.einsum("bfhw,hwi,bcfhw->bfic", around, plane, levels)
    smooth = torch.einsum("hwi,bfic->bcfhw", plane, torch.linalg.solve(gram, seen))
    error = ((levels - smooth).square() * inside[:, None]).sum((1, 2, 3, 4))
    return (error / (video.shape[1] * inside.sum((1, 2, 3))).clamp(min=1)).sqrt()


def watermark_box(device: torch.device) -> Tensor:
    """(h w) bool: the rectangle that holds the watermark and `MARGIN` pixels round it."""
    (top, left), (bottom, right) = (edge.tolist() for edge in watermark_mask(device).nonzero().aminmax(dim=0))
    box = torch.zeros(SIZE, SIZE, dtype=torch.bool, device=device)
    box[top - MARGIN : bottom + 1 + MARGIN, left - MARGIN : right + 1 + MARGIN] = True
    return box


def edge_energy(video: Tensor, position: Tensor) -> Tensor:
    """Mean |Laplacian| over the sprite's pixels, away from where a watermark would be: (b c f h w) -> (b,)."""
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).to(video)
    rows = F.pad(video.flatten(0, 2)[:, None], (1, 1, 1, 1), mode="replicate")
    edges = F.conv2d(rows, kernel[None, None])[:, 0].unflatten(0, video.shape[:3]).abs().double()
    marked = F.max_pool2d(watermark_mask(video.device)[None], 3, stride=1, padding=1)[0] > 0
    sprite = ((distance_to_sprite(position) < SPRITE) & ~marked)[:, None].double()
    return (edges * sprite).sum((1, 2, 3, 4)) / (video.shape[1] * sprite.sum((1, 2, 3, 4))).clamp(min=1)


@lru_cache(maxsize=1)
def crisp_edge_energy() -> float:
    """What `edge_energy` is on crisp clips of the world, averaged over 256 of them."""
    scenes = random_scenes(256, torch.Generator().manual_seed(1))
    return float(edge_energy(render(scenes), scenes.position).mean())


def load_judge(pair: Pair) -> Judge | None:
    """The measuring network a pair brings, on its device, or None if it brings none."""
    return load_folder(Judge, JudgeConfig, pair.judge, pair.device, torch.float32) if pair.judge else None


def real_clips(n: int, seed: int, degraded: bool) -> tuple[Tensor, list[str]]:
    """Ground truth to compare with: n clips (n 3 f h w) of the world and their captions."""
    scenes = random_scenes(n, torch.Generator().manual_seed(seed))
    clips = render(scenes)
    return degrade(clips) if degraded else clips, scenes.captions
