"""The colours of latents without a decode: one linear map of their channels, fitted to an autoencoder.

    RGB = W·z + b        z: the c channels at one place of the latents, RGB in [-1, 1]: the mean of the pixels there

Neither detail nor anything else that a decoder makes of the neighbours is in it, but what is where, and roughly in
which colour: the embedded autoencoder's four channels are no linear code of its world's, and `preview.py` beside this
has pieces of the clip itself decoded where no map lies.
Latents are as the pair's models draw them (`VAE.encode` returns them, `Run.x0` holds them): scaled.

A map lies beside its autoencoder's weights: `latent_rgb.json` in its folder, or `NAME.latent_rgb.json` beside a single
file NAME.safetensors. Version 1: {"format": 1, "weight": [[c numbers] of red, of green, of blue], "bias": [3 numbers],
"about": what it was fitted to, "r2": …, "psnr": …}; the last three, for people, may be missing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ivmix.media import Frames, to_frames, write_text
from ivmix.media.files import StrPath
from ivmix.models.checkpoints.folders import Local
from ivmix.models.json_files import read_json
from ivmix.typed import check, short

FORMAT = 1
NAME = "latent_rgb.json"


class MapEntry(TypedDict):
    """What the file may hold and has to, in the words of the module."""

    format: int
    weight: list[list[float]]
    bias: list[float]
    about: NotRequired[str]
    r2: NotRequired[float]
    psnr: NotRequired[float]


@dataclass(frozen=True, eq=False)
class LatentRGB:
    """A map of c channels: `weight` (3 c), `bias` (3)."""

    weight: Tensor
    bias: Tensor

    @property
    def channels(self) -> int:
        return self.weight.shape[1]

    def __call__(self, latents: Tensor) -> Tensor:
        """Latents (b c f h w) -> pixels (b 3 f h w), nominally in [-1, 1]. ValueError for other channels."""
        if latents.ndim != 5 or latents.shape[1] != self.channels:
            raise ValueError(f"latents is {tuple(latents.shape)}: expected (b, {self.channels}, f, h, w) by the map")
        weight, bias = (x.to(latents.dtype).to(latents.device) for x in (self.weight, self.bias))
        return torch.einsum("rc,bcfhw->brfhw", weight, latents) + bias[:, None, None, None]

    @classmethod
    def fitted(cls, latents: Tensor, video: Tensor) -> "LatentRGB":
        """The least squares of latents (b c f h w) against the video (b 3 f H W) that they are decoded to, in [-1, 1],
        H and W the same multiple of h and w; of the smallest norm where the latents leave it open."""
        seen = block_means(video, latents.shape[-1])
        rows, colours = (rearrange(x.detach().cpu().double(), "b c f h w -> (b f h w) c") for x in (latents, seen))
        rows = F.pad(rows, (0, 1), value=1.0)
        solution = torch.linalg.lstsq(rows, colours, driver="gelsd").solution
        return cls(solution[:-1].T, solution[-1])


def preview(latents: Tensor, colours: LatentRGB) -> Frames:
    """Latents (b c f h w), such as a callback's `run.x0`, as uint8 frames (b f h w c) of the latents' size.

    `ivmix.media` writes and shows such frames enlarged. ValueError for another number of channels, and for NaN.
    """
    return to_frames(colours(latents))


def block_means(video: Tensor, width: int) -> Tensor:
    """The mean colours that squares of a video (b c f H W) have on a screen, `width` of them in a row; on the CPU."""
    side = video.shape[-1] // width
    return F.avg_pool3d(video.detach().cpu().float().clamp(-1, 1), (1, side, side))


def agreement(shown: Tensor, true: Tensor) -> tuple[float, float]:
    """How well pixels (b c f h w) agree with the true ones, as a screen shows both: the share of the variance that is
    explained, R², and the ratio of peak to error in dB, PSNR. ValueError if the true ones are all alike."""
    shown, true = (rearrange(x.double().clamp(-1, 1), "b c f h w -> (b f h w) c") for x in (shown, true))
    variance = (true - true.mean(0)).square().mean()
    if variance == 0:
        raise ValueError("the clips are of one colour: there is nothing to fit colours to")
    error = (shown - true).square().mean()
    return float(1 - error / variance), float(10 * torch.log10(4 / error))


def held_out(latents: Sequence[Tensor], video: Sequence[Tensor]) -> tuple[float, float]:
    """`agreement` on clips that a map does not know: each half of them, every other one, by the map of the other half.

    The clips (1 c f h w) may have different lengths; of one alone, by its own map.
    """
    if len(latents) == 1:
        return agreement(LatentRGB.fitted(latents[0], video[0])(latents[0]), video[0])
    halves = [tuple(torch.cat(list(clips[k::2]), dim=2) for clips in (latents, video)) for k in (0, 1)]
    shown = [LatentRGB.fitted(*other)(z) for (z, _), other in zip(halves, halves[::-1], strict=True)]
    return agreement(torch.cat(shown, dim=2), torch.cat([true for _, true in halves], dim=2))


# --- files ----------------------------------------------------------------------------------------------------------


def map_path(vae: Local) -> Path:
    """Where the map of an autoencoder lies: see the module."""
    return vae.weights.with_name(NAME) if vae.config else vae.weights.with_suffix(f".{NAME}")


def write_map(colours: LatentRGB, path: StrPath, about: str, r2: float, psnr: float) -> None:
    """Writes the map and what is known of it, atomically. OSError naming path and remedy."""
    rounded = [[float(f"{x:.6g}") for x in row] for row in (*colours.weight.tolist(), colours.bias.tolist())]
    raw: MapEntry = {"format": FORMAT, "weight": rounded[:3], "bias": rounded[3], "about": about,
                     "r2": round(r2, 3), "psnr": round(psnr, 2)}  # fmt: skip
    write_text(json.dumps(raw, indent=2) + "\n", path)


def read_map(path: StrPath, channels: int | None = None) -> LatentRGB:
    """The map in a file. FileNotFoundError if there is none, ValueError, which names it, for anything but a map, of
    `channels` channels if they are given."""
    raw = read_json(Path(path))
    if raw.get("format") != FORMAT:
        raise ValueError(f"{path} has format {short(raw.get('format'))}: this version reads format {FORMAT}")
    check(raw, MapEntry, str(path))
    weight, widths = raw["weight"], {len(row) for row in raw["weight"]}
    if len(weight) != 3 or len(raw["bias"]) != 3 or len(widths) != 1 or 0 in widths:
        raise ValueError(f"{path}: expected a weight of three rows of the same length and three numbers of bias")
    colours = LatentRGB(torch.tensor(weight, dtype=torch.float64), torch.tensor(raw["bias"], dtype=torch.float64))
    if not all(x.float().isfinite().all() for x in (colours.weight, colours.bias)):
        raise ValueError(f"{path}: its weight and bias hold numbers that are no colours")
    if channels not in (None, colours.channels):
        raise ValueError(f"{path} is a map of {colours.channels} channels, the autoencoder has {channels}: fit its own")
    return colours
