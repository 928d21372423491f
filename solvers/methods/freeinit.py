"""FreeInit (arXiv 2312.07537): a plan played K times, each time from the low frequencies of the last result.

Between two runs the result x0 is diffused to the first level with the very noise that the first run began with, and
the high frequencies of that state are replaced by those of fresh noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ivmix.solvers.checks import check_number, whole
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.plans.legs import Leg
from ivmix.solvers.steps.onestep import Euler

METHOD = Method(
    "FreeInit",
    papers=("2312.07537",),
    does="a plan played five times, each time from the low frequencies of the last result and the high ones of fresh "
    "noise: legs of noise with a linear filter",
    evaluations={"video": "5n"},
    limit="none, because noise is fresh between runs; each run has its plan's",
    licence="MIT",
)


@dataclass(frozen=True)
class LowPass:
    """Butterworth's filter over frames, rows and columns, called as `low_pass(x)` on x `b c f h w`.

    The Fourier coefficient at frequencies (u_f, u_h, u_w) is multiplied by 1 / (1 + d^(2·order)), d² = (u_f/temporal)²
    + (u_h/spatial)² + (u_w/spatial)²: 1 at rest, one half at the cut-offs. Frequencies and cut-offs are in units of
    Nyquist's, half a cycle a sample. Defaults are the authors'.

    >>> LowPass().response(8, 16, 16)[0, [0, 2, 4], 0]  # at 0, 1/4 and 1/2
    tensor([1.0000, 0.5000, 0.0039], dtype=torch.float64)
    """

    spatial: float = 0.25
    temporal: float = 0.25
    order: int = 4

    def __post_init__(self) -> None:
        for name in ("spatial", "temporal"):
            check_number(name, getattr(self, name), "a cut-off above 0, such as 0.25", lambda value: value > 0)
        whole("order", self.order, 1)

    def __call__(self, x: Tensor) -> Tensor:
        size = x.shape[-3:]
        spectrum = torch.fft.rfftn(x, dim=(-3, -2, -1))
        return torch.fft.irfftn(self.response(*size).to(x)[..., : spectrum.shape[-1]] * spectrum, size, (-3, -2, -1))

    def response(self, frames: int, height: int, width: int) -> Tensor:
        """The factors (f, h, w), float64 on the CPU, in the order of `torch.fft.fftn`."""
        u_f, u_h, u_w = (2 * torch.fft.fftfreq(n, dtype=torch.float64) for n in (frames, height, width))
        f, h, w = torch.meshgrid(u_f / self.temporal, u_h / self.spatial, u_w / self.spatial, indexing="ij")
        return 1 / (1 + (f**2 + h**2 + w**2) ** self.order)


def freeinit(legs: Sequence[Leg], iterations: int = 5, keep: Callable[[Tensor], Tensor] | None = None) -> list[Leg]:
    """The plan that plays `legs` `iterations` times; 1 is `legs` themselves.

    Before every run but the first, z_T = L(alpha·x0 + sigma_vp·eps) + (1 - L)(eta) at the first level, with x0 the last
    result, eps the z that `integrate` began with, eta fresh unit normals from its `noise`, and L the linear filter
    `keep`, `LowPass()` by default (arXiv 2312.07537, section 4, noise reinitialization). Unit variance is kept where L
    is 0 or 1 alone: independent noises of variance 1 mix to L² + (1 - L)². At a first level of inf nothing of x0 is
    left. The authors' code takes the last training level, which is the first of a "trailing" grid, not of a "leading".

    `legs` go from above 0 to 0, as `plain` and `IVMixed` plan them. Pass `noise` and `schedule` to `integrate`.

    >>> from ivmix.solvers.plans.legs import plain
    >>> for leg in freeinit(plain(torch.tensor([10.0, 1.0, 0.0]), guidance=7.5), iterations=2):
    ...     print(leg)
      0 step      video  10 -> 1 +7.5
      1 step      video  1 -> 0 +7.5
      2 again     noise  0 -> 10
      2 step      video  10 -> 1 +7.5
      3 step      video  1 -> 0 +7.5
    """
    whole("iterations", iterations, 1)
    if not legs or not legs[0].source > 0 or legs[-1].target != 0:
        ends = f"{legs[0].source:g} -> {legs[-1].target:g}" if legs else "none"
        raise ValueError(f"legs: got {ends}, expected a plan from a level above 0 to 0")
    steps = legs[-1].step - legs[0].step + 1
    begin = Leg(None, "again", 0.0, 0.0, legs[0].source, None, Euler(), legs[0].step, keep=keep or LowPass())
    runs = [[replace(leg, step=leg.step + k * steps) for leg in (begin, *legs)] for k in range(iterations)]
    return [leg for run in runs for leg in run][1:]
