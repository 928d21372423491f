"""A run seen while it is drawn: x0 of every step in colours, in a file that is always whole."""

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ivmix.generation.latent_rgb import LatentRGB, map_path, preview, read_map
from ivmix.media import Frames, check_writable, contact_sheet, side_by_side, write_image, write_video
from ivmix.media.files import StrPath, target_of
from ivmix.models import VAE
from ivmix.pairs.pair import Pair
from ivmix.solvers import Run

SUFFIXES = (".png", ".gif", ".webp", ".mp4")
PIECE = 32  # latents a side that are decoded where no map is known


def stored_map(pair: Pair) -> LatentRGB | None:
    """The map beside a pair's autoencoder, if there is one. ValueError for a file that is no map of it."""
    path = map_path(pair.vae_file)
    return read_map(path, pair.vae.config.latent_channels) if path.is_file() else None


def painter(pair: Pair, home: str = "video") -> Callable[[Tensor], Frames]:
    """What shows latents (b c f h w) of a pair's `home` model as uint8 frames (b f h w c) of the latents' size.

    By the map beside its autoencoder, without a decode. Where there is none, every clip by one that is fitted each time
    to a decoded piece of it, at most 32x32 latents of its middle frame: two hundredths of the arithmetic of a guided
    evaluation of AnimateDiff's 16 frames of 512x512. ValueError for a file that is no map of this autoencoder.

    Of 16 clips drawn by the embedded pair, pieces explain 0.89 of the variance of the decode's colours (`composite`),
    0.82 (`ddim`) and 0.69 (`image`, whose frames have little in common); a map of 192 others 0.78, 0.58 and 0.75: it
    shows red as brown.
    """
    vae = pair.vae_of(home)
    if vae is pair.vae and (stored := stored_map(pair)) is not None:
        return partial(preview, colours=stored)
    return lambda latents: np.concatenate(
        [preview(z, fitted_to_piece(pair.autoencoder(home), z)) for z in latents.split(1)]
    )


@torch.no_grad()
def fitted_to_piece(vae: VAE, latents: Tensor) -> LatentRGB:
    """The map that is nearest to the autoencoder on a piece of a clip's latents (1 c f h w)."""
    f, h, w = latents.shape[2:]
    top, left = (max(size - PIECE, 0) // 2 for size in (h, w))
    piece = latents[:, :, f // 2, None, top : top + PIECE, left : left + PIECE]
    return LatentRGB.fitted(piece, vae.decode(piece.to(vae.post_quant_conv.weight.dtype)))


class Preview:
    """A callback of `TextToVideo` that writes what every step shows of the clips being drawn, their x0, to one file.

    .png is a sheet, a row of frames a clip; .gif, .webp and .mp4 play, several clips side by side. The file is replaced
    whole, so that a viewer which reads it again never sees half of one. `clips`: the first so many of a batch
    (default: all). `home`: whose latents the run is in (`Sampling.home`), where a pair's models have their own. A file
    that can no longer be written ends the previews with a warning, not the run.

    Raises ValueError or OSError for a path that will not do, and ValueError for a broken map: see `painter`.

    >>> from ivmix import TextToVideo
    >>> model = TextToVideo.from_pair("sprites")                                                # doctest: +SKIP
    >>> model("a red circle moving left", callback=Preview(model.pair, "preview.png"))          # doctest: +SKIP
    """

    def __init__(self, pair: Pair, path: StrPath, clips: int | None = None, home: str = "video") -> None:
        check_writable(path, SUFFIXES)
        self.paint, self.path, self.fps, self.clips = painter(pair, home), path, pair.fps, clips
        self.failed = False

    def __call__(self, step: int, total: int, run: Run) -> None:
        shown = None if run.x0 is None else run.x0[: self.clips]
        if self.failed or shown is None or not shown.isfinite().all():  # the run itself says what is not finite
            return
        try:
            self.write(self.paint(shown), f"step {step} of {total}")
        except OSError as error:
            self.failed = True
            warnings.warn(f"no more previews: {error}", stacklevel=2)

    def write(self, clips: Frames, title: str) -> None:
        """Replaces the file by clips (b f h w c)."""
        rows = [(f"clip {k}" if len(clips) > 1 else "", clip) for k, clip in enumerate(clips, 1)]
        if target_of(self.path)[1] == ".png":
            write_image(contact_sheet(rows, title), self.path)
        else:
            write_video(side_by_side(rows) if len(rows) > 1 else clips[0], self.path, self.fps)
