"""Frequency-decoupled guidance (FDG, arXiv 2506.19713): a scale of guidance for each level of a Laplacian pyramid.

    D = D_u + sum over k of w_k·B_k·(D_c - D_u),   B_k = P_k - P_(k+1),   P_0 = 1,   P_K = 0

P_k is the part of a frame that is left after k halvings and as many doublings, so B_0 is the finest detail, B_(K-1) the
coarsest shape, and the B_k sum to 1: equal scales are plain guidance. The pyramid is linear, so D is an `Affine` under
filters, the same in x0, eps, v and a flow's velocity, and composites and mixtures take it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from ivmix.solvers.algebra.affine import Affine, Factor, Weight
from ivmix.solvers.algebra.filters import Filter
from ivmix.solvers.algebra.guidance import Guided
from ivmix.solvers.checks import check_number, in_range, whole
from ivmix.solvers.methods.catalogue import Method

METHOD = Method(
    "FDG",
    papers=("2506.19713",),
    does="guidance with a scale for each level of a Laplacian pyramid: weights that are linear filters",
    evaluations={"video": "n"},
    limit="its own field, linear in its network",
    licence="Apache-2.0 (diffusers)",
)


@dataclass(frozen=True)
class Coarse:
    """P_level of a Laplacian pyramid over rows and columns, called on `b c f h w`, frame by frame.

    Down: blurred with (1, 4, 6, 4, 1)/16 along rows and columns, mirrored at the edges, then the mean of each 2 x 2
    block. Up: bilinear, then blurred. Constants stay what they are; means do not quite, as the mirror counts some
    values twice. ValueError for sizes that cannot be halved so often, down to no less than 2.

    >>> x = torch.zeros(1, 1, 1, 8, 8)
    >>> x[..., 4, 4] = 1
    >>> Coarse(1)(x)[0, 0, 0, 4, :5]
    tensor([0.0077, 0.0132, 0.0270, 0.0425, 0.0509])
    """

    level: int

    def __post_init__(self) -> None:
        whole("level", self.level, 1)

    def __call__(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        times = 2**self.level
        if height % times or width % times or min(height, width) < 2 * times:
            raise ValueError(
                f"x: got frames of {height} x {width}, expected multiples of {times}, at least {2 * times}, to halve "
                f"{self.level} times"
            )
        y = x.flatten(0, -3)[:, None]  # (b c f) 1 h w
        for _ in range(self.level):
            y = F.avg_pool2d(_blur(y), 2)
        for _ in range(self.level):
            y = _blur(F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False))
        return y.reshape(x.shape)


def _blur(y: Tensor) -> Tensor:
    """n 1 h w, with h and w at least 4."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=y.dtype, device=y.device) / 16
    return F.conv2d(F.conv2d(F.pad(y, (2, 2, 2, 2), mode="reflect"), kernel.view(1, 1, 5, 1)), kernel.view(1, 1, 1, 5))


def fdg(guided: Guided, scales: Sequence[Weight]) -> Affine:
    """`guided` under `scales`, numbers or functions of sigma, from the finest level to the coarsest; a denoiser.

    One scale is plain guidance. The paper has two, the finer one larger (10 and 5 for SDXL), and images;
    here every frame is one. Other bands, over frames too, need no method of their own: `guided.uncond + (5 * W + 10 *
    (1 - W)) * guided.direction` with any `Filter` W.

    >>> from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork
    >>> image = GaussianNetwork("image", {"": Gaussian(0.0, 1.0), "cat": Gaussian(1.0, 1.0)})
    >>> guided = Guided(image(""), image("cat"))
    >>> fdg(guided, (10.0, 5.0)).weights(1.0)
    [Filter(5·Coarse(level=1) - 9), Filter(-5·Coarse(level=1) + 10)]
    >>> fdg(guided, (5.0, 5.0)).weights(1.0)
    [-4.0, 5.0]
    """
    if not isinstance(guided, Guided):
        raise TypeError(f"guided: got a {type(guided).__name__}, expected a Guided")
    if not isinstance(scales, Sequence) or isinstance(scales, str) or not scales:
        raise ValueError(f"scales: got {scales!r}, expected one or more, from the finest level to the coarsest")
    parts: list[Factor] = [1.0, *(Filter.of(Coarse(k)) for k in range(1, len(scales))), 0.0]  # P_0 to P_K
    field = guided.uncond
    for scale, (part, coarser) in zip(scales, pairwise(parts), strict=True):
        if not callable(scale):
            check_number("scales", scale, "numbers that float32 holds, or functions of sigma", in_range)
        field += scale * ((part - coarser) * guided.direction)
    return field
