"""Ground truth: clips of the sprite world itself, as they are or as the video model was shown them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ivmix.evaluation.arms import Drawn
from ivmix.generation.text_to_video import TextToVideo
from ivmix.media import to_frames
from ivmix.sprites.world import degrade, random_scenes, render


@dataclass(frozen=True)
class Truth:
    """Clips of the world itself: crisp, or degraded as the video model was shown them; both through its autoencoder."""

    label: str
    degraded: bool = False
    autoencoded: bool = False

    def settings(self, model: TextToVideo) -> dict[str, Any]:
        words = [name for name in ("degraded", "autoencoded") if getattr(self, name)]
        return {"truth": " ".join(words) or "crisp"}

    @torch.no_grad()
    def draw(self, model: TextToVideo, captions: Sequence[str], seeds: Sequence[int]) -> Drawn:
        """One clip a caption; what the caption leaves open is drawn from the clip's own seed."""
        began, vae = time.perf_counter(), model.pair.autoencoder()
        scenes = [random_scenes(1, torch.Generator().manual_seed(s), [c]) for c, s in zip(captions, seeds, strict=True)]
        clips = torch.cat([render(scene.to(model.pair.device)) for scene in scenes])
        if self.degraded:
            clips = degrade(clips)
        if self.autoencoded:
            clips = vae.decode(vae.encode(clips.to(model.pair.dtype))).float()
        return Drawn(to_frames(clips), {}, {}, time.perf_counter() - began)


TRUTHS = (
    Truth("crisp clips"),
    Truth("crisp clips, autoencoded", autoencoded=True),
    Truth("degraded clips", degraded=True),
    Truth("degraded clips, autoencoded", degraded=True, autoencoded=True),
)
