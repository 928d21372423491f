"""Dense optical flow without weights, and what is done with a flow: warping, and finding what it cannot explain.

A flow (n 2 h w) holds, in pixels, x to the right and y down, where each pixel of the first image went:
first(p) ≈ second(p + flow(p)).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Flow = Callable[[Tensor, Tensor], Tensor]  # images (n c h w) in [0, 1], twice -> (n 2 h w)

COARSEST = 8  # pixels, the shorter side of the smallest level
WINDOW = 3.0  # pixels, deviation of the Gaussian window at every level
SMOOTHING = 0.7  # pixels, so that differences of neighbours are derivatives
ITERATIONS = 5  # a level
NOISE = 2.5e-5  # (1.3 grey levels of 255 a pixel)²: texture well below it says nothing about motion


def lucas_kanade(first: Tensor, second: Tensor) -> Tensor:
    """Flow from `first` to `second`, images (n c h w) in [0, 1], by Lucas and Kanade's least squares, coarse to fine.

    Around every pixel the motion u minimises Σ‖∇first·(u − u₀) − (first − second(p + u₀))‖² + NOISE·‖u‖² over a
    Gaussian window and all channels, u₀ being the last iterate (Bouguet 2000 is the sparse relative). The second
    term lets flat regions rest instead of following their neighbours, and shortens the rest by a few per cent. Pixels
    that u₀ takes out of the frame do not count. ValueError for images of different shape or sides below 8 pixels.
    """
    if first.ndim != 4 or first.shape != second.shape or min(first.shape[2:]) < COARSEST:
        given = f"first {tuple(first.shape)}, second {tuple(second.shape)}"
        raise ValueError(f"{given}: expected one shape (n c h w) with sides of {COARSEST} or more")
    flow = first.new_zeros(len(first), 2, *_sizes(first)[-1])
    for size in reversed(_sizes(first)):
        a, b = (_blur(F.interpolate(image, size, mode="area"), SMOOTHING) for image in (first, second))
        flow = _resized(flow, size)
        dx, dy = _gradient(a)
        products = torch.stack([(dx * dx).sum(1), (dx * dy).sum(1), (dy * dy).sum(1)], 1)
        for _ in range(ITERATIONS):
            seen, change = inside(flow), a - warp(b, flow)
            xx, xy, yy = _blur(products * seen, WINDOW).unbind(1)
            x, y = _blur(torch.stack([(dx * change).sum(1), (dy * change).sum(1)], 1) * seen, WINDOW).unbind(1)
            u, v = flow.unbind(1)
            x, y = x + xx * u + xy * v, y + xy * u + yy * v
            xx, yy = xx + NOISE, yy + NOISE
            flow = torch.stack([yy * x - xy * y, xx * y - xy * x], 1) / (xx * yy - xy * xy)[:, None]
    return flow


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """image(p + flow(p)), bilinear: (n c h w) and (n 2 h w) -> (n c h w). Beyond the frame its border goes on."""
    h, w = image.shape[2:]
    target = _targets(flow)
    grid = torch.stack([2 * target[:, 0] / (w - 1) - 1, 2 * target[:, 1] / (h - 1) - 1], -1)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=True)


def inside(flow: Tensor) -> Tensor:
    """(n 1 h w), whether the middle of a pixel stays in the frame."""
    x, y = _targets(flow).split(1, 1)
    return (x >= -0.5) & (x <= flow.shape[3] - 0.5) & (y >= -0.5) & (y <= flow.shape[2] - 0.5)


def traceable(forward: Tensor, backward: Tensor) -> Tensor:
    """(n 1 h w), pixels of the first image that can be compared with where `forward` takes them in the second.

    Dropped are pixels that leave the frame, those from which `backward` does not lead back (occluded), and motion
    boundaries, with the constants of Lai et al. (arXiv 1808.00449, after Ruder et al., arXiv 1604.08610).
    """
    back = warp(backward, forward)

    def square(field: Tensor) -> Tensor:
        return field.square().sum(1, keepdim=True)

    occluded = square(forward + back) > 0.01 * (square(forward) + square(back)) + 0.5
    slope = square(F.pad(forward.diff(dim=3), (0, 1))) + square(F.pad(forward.diff(dim=2), (0, 0, 0, 1)))
    return inside(forward) & ~occluded & (slope <= 0.01 * square(forward) + 0.002)


def _sizes(image: Tensor) -> list[tuple[int, int]]:
    """Of the pyramid's levels, finest first."""
    sizes = [(image.shape[2], image.shape[3])]
    while min(sizes[-1]) // 2 >= COARSEST:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


def _resized(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """At another resolution, in its pixels."""
    scale = flow.new_tensor([size[1] / flow.shape[3], size[0] / flow.shape[2]])
    return F.interpolate(flow, size, mode="bilinear") * scale[:, None, None]


def _targets(flow: Tensor) -> Tensor:
    """p + flow(p), in pixels: (n 2 h w)."""
    y, x = (torch.arange(n, dtype=flow.dtype, device=flow.device) for n in flow.shape[2:])
    return flow + torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))])


def _gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and y."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    across, down = padded[..., 1:-1, :], padded[..., :, 1:-1]
    return (across[..., 2:] - across[..., :-2]) / 2, (down[..., 2:, :] - down[..., :-2, :]) / 2


def _blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian of deviation `sigma` pixels, every channel on its own."""
    reach = round(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device) / sigma) ** 2)
    planes = F.pad(image, (reach,) * 4, mode="replicate").flatten(0, 1)[None]  # (1 nc h w): depthwise is fast on CPUs
    nc = planes.shape[1]
    rows = F.conv2d(planes, (taps / taps.sum()).expand(nc, 1, 1, -1), groups=nc)
    return F.conv2d(rows, (taps / taps.sum())[:, None].expand(nc, 1, -1, 1), groups=nc).view_as(image)
