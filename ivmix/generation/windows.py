"""Windows of a run: over frames where a clip is longer than its video model knows, over space where asked for."""

import math
from dataclasses import dataclass

from ivmix.pairs.pair import Pair
from ivmix.solvers import Windows
from ivmix.typed import whole


@dataclass(frozen=True)
class RunWindows:
    """Windows over `frames` of the video model, and over `space`, height and width in latents, of both models."""

    frames: Windows | None = None
    space: tuple[Windows, ...] = ()

    def of(self, model: str) -> tuple[Windows, ...]:
        """Those of the image or the video model: the image model knows each frame alone."""
        return self.space if self.frames is None or model == "image" else (self.frames, *self.space)

    def largest(self, model: str, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Frames, height and width of what the model has at a time."""
        sizes = {"frames": frames, "height": height, "width": width}
        for one in self.of(model):
            sizes[one.axis] = min(sizes[one.axis], one.length)
        return sizes["frames"], sizes["height"], sizes["width"]

    def count(self, model: str, frames: int, height: int, width: int) -> int:
        """How many of them the model has in an evaluation."""
        sizes = {"frames": frames, "height": height, "width": width}
        return math.prod(len(one.starts(sizes[one.axis])) for one in self.of(model))


def read_windows(
    pair: Pair, frames: int, window: int | None, overlap: int | None, space_window: int | None
) -> RunWindows:
    """The windows of clips of so many frames. Where the video model knows no positions of so many, and nobody says
    which, they are of the pair's own length and share half of it. ValueError for what it cannot take."""
    longest = pair.video.unet.config.max_frames
    if window is not None:
        window = whole("window", window, 1, longest)
    elif overlap is not None or (longest is not None and frames > longest):
        window = pair.frames if longest is None else min(pair.frames, longest)
    over_frames = None
    if window is not None:
        over_frames = Windows(window, window // 2 if overlap is None else whole("overlap", overlap, 0, window - 1))
    if space_window is None:
        return RunWindows(over_frames)
    if pair.bridge is not None:
        raise ValueError(f"space_window={space_window}: pair {pair.name!r} has two kinds of latents, expected none; "
                         "windows over frames it takes")  # fmt: skip
    pair.check_size("space_window", whole("space_window", space_window, 1))
    side = space_window // pair.vae.config.factor
    return RunWindows(over_frames, (Windows(side, side // 2, "height"), Windows(side, side // 2, "width")))
