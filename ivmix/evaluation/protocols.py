"""Fréchet distances of clips as published protocols compute them: all that differs between them is data.

Five numbers by the name of FVD differ by what sees the clips and how they are brought to its size, by what covariances
are divided by, by the numerics of a matrix root and by which clips are taken; nothing of this can be read off a number.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ivmix.evaluation.metrics.distances import frechet_of_features
from ivmix.evaluation.preprocessing import Preprocessing, Resize


@dataclass(frozen=True)
class Extraction:
    """How clips become features: a network and what it is shown.

    `bn_eps` is I3D's in that code, `inside` says whether the TorchScript file resizes and rescales by itself.
    """

    network: Literal["i3d", "torchscript", "videomae", "umt"]
    preprocessing: Preprocessing
    bn_eps: float | None = None
    inside: bool = False


@dataclass(frozen=True)
class Protocol:
    """How clips become features, and a distance is made of features (n, d) of real clips and (m, d) of others."""

    name: str
    of: str  # features, in words
    length: int | None  # of such a feature
    extraction: Extraction | None  # None: features are whatever they are
    ddof: int  # covariances divide by n − ddof
    single: bool = False  # in single precision, roots by singular values; otherwise to rounding of double precision
    clips: int | None = None  # what the original takes of either side
    equal: bool = False  # the original refuses sides of different size
    sizes: tuple[int, ...] = ()  # of subsets that are drawn of either side; none: all clips, once
    seeds: tuple[int, ...] = ()  # with each of which every subset is drawn

    def distance(self, real: Tensor, fake: Tensor) -> float:
        """Of features float64 (n, d) and (m, d): the mean over subsets, or of all. ValueError as
        `frechet_of_features`."""
        known: dict[tuple[int | None, ...], float] = {}  # what takes all of both sides is one number at any seed
        values = []
        for size, seed in self.subsets():
            whole = size is None or size >= max(len(real), len(fake))
            key = (None, None) if whole else (size, seed)
            if key not in known:
                known[key] = self.once(_drawn(real, size, seed), _drawn(fake, size, seed))
            values.append(known[key])
        return sum(values) / len(values)

    def subsets(self) -> Iterator[tuple[int | None, int | None]]:
        """Size and seed of each; None is all clips."""
        if not self.sizes:
            yield None, None
        for size in self.sizes:
            for seed in self.seeds:
                yield size, seed

    def once(self, real: Tensor, fake: Tensor) -> float:
        """The distance of just these features."""
        if self.single:
            return _single_precision(real, fake, self.ddof)
        return frechet_of_features(real, fake, self.ddof)


_SQUARE, _CROP = Resize("square"), Resize("crop")
_I3D_SCRIPT = "400 logits of the TorchScript I3D"
_I3D = "400 logits of I3D, i3d_pretrained_400.pt"

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # universome/stylegan-v, fvd2048_16f: bytes go in, the file does the rest. scipy's sqrtm of the product, its
        # real part, is the same root.
        Protocol(
            "stylegan-v", f"{_I3D_SCRIPT}, which resizes by itself", 400,
            Extraction("torchscript", Preprocessing(16, range=None), inside=True), ddof=0, clips=2048,
        ),
        # JunyaoHu/common_metrics_on_video_quality, by its two methods: 10 frames or more
        Protocol(
            "cmvq-styleganv", f"{_I3D_SCRIPT}, clips cropped before", 400,
            Extraction("torchscript", Preprocessing(None, least=10, resize=_CROP)), ddof=1, equal=True,
        ),
        Protocol(
            "cmvq-videogpt", f"{_I3D}, clips cropped before", 400,
            Extraction("i3d", Preprocessing(None, least=10, resize=_CROP), bn_eps=1e-5), ddof=1, single=True,
            equal=True,
        ),
        # songweige/content-debiased-fvd, whose I3D is that of TATS: the picture squeezed
        Protocol(
            "cd-fvd-i3d", f"{_I3D}, clips squeezed to a square", 400,
            Extraction("i3d", Preprocessing(None, least=9, resize=_SQUARE), bn_eps=1e-5), ddof=0,
        ),
        Protocol(
            "cd-fvd-videomae", "VideoMAE-v2 ViT-g of SSv2, pooled", 1408,
            Extraction("videomae", Preprocessing(16, resize=_SQUARE, range=(0, 1))), ddof=0,
        ),
        # PKU-YuanGroup/ChronoMagic-Bench, UMT-FVD and UMTScore, by torchvision 0.18, whose resize has antialias; merged
        # over metrics and seeds
        Protocol(
            "chronomagic-umt", "UMT-L/16 of MSR-VTT, projected, mean of 12 frames", 768,
            Extraction("umt", Preprocessing(
                12, "middle", resize=Resize("square", "bicubic", antialias=True, rounded=True), range=(0, 1),
                mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
            )),
            ddof=0, sizes=(32, 64, 128, 256, 300, 512, 1024), seeds=(12, 22, 32, 42),
        ),
        Protocol("plain", "any features", None, None, ddof=0),
    )
}  # fmt: skip


def _drawn(rows: Tensor, size: int | None, seed: int | None) -> Tensor:
    """`size` of the rows without replacement, by a generator of their own: sides of one length give the same indices.
    All of them where there are no more."""
    if size is None or size >= len(rows):
        return rows
    return rows[random.Random(seed).sample(range(len(rows)), size)]


def _single_precision(real: Tensor, fake: Tensor, ddof: int) -> float:
    """As VideoGPT's code has it: float32 throughout, tr √(√A B √A) by two roots.

    Of n clips a covariance has rank n − 1; with more features than that, what rounding leaves in place of its zeros is
    rooted too, and the last digits are a machine's own.
    """
    a, b = (rows.float() for rows in (real, fake))
    means = a.mean(0), b.mean(0)
    cov_a, cov_b = ((rows - m).T @ (rows - m) / (len(rows) - ddof) for rows, m in zip((a, b), means, strict=True))
    root = _root(cov_a)
    trace = cov_a.trace() + cov_b.trace() - 2 * _root(root @ cov_b @ root).trace()
    return float(trace + (means[0] - means[1]).square().sum())


def _root(matrix: Tensor) -> Tensor:
    """Of a symmetric (d, d), from its singular values; those below 1e-10 stay as they are."""
    u, s, vh = torch.linalg.svd(matrix)
    return u * torch.where(s < 1e-10, s, s.sqrt()) @ vh
