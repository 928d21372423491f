"""STG, spatiotemporal skip guidance (arXiv 2411.18664): a video network is guided by itself with less depth.

    D = D_u + w·(D_c - D_u) + scale·(D_c - D_s)

D_s is the conditional prediction with some layers of space and time skipped: residual ones, x + f(x) -> x (STG-R), or
attention, softmax(q·k' / sqrt(d))·v -> v (STG-A). It is `pag` of another perturbation.
"""

from ivmix.solvers.algebra.affine import Affine, Weight
from ivmix.solvers.algebra.guidance import Guided
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.methods.pag import pag

METHOD = Method(
    "STG",
    papers=("2411.18664",),
    does="guidance from the same network without some layers of space and time: PAG of another perturbation, D_s",
    evaluations={"video": "n", "perturbed": "n"},
    limit="D(w) + scale·(D_c - D_s)",
    licence="none; Apache-2.0 (diffusers)",
)


def stg(guided: Guided, skipped: Affine, scale: Weight = 1.0) -> Guided:
    """`guided` with `scale`·(cond - skipped) added: all as of `pag`.

    `skipped` is `seen(guided.cond, skip=...)` (STG-R) or `seen(guided.cond, identity=...)` (STG-A); 1 is the scale
    of the authors' example, of Mochi. Their rescaling of the result, which is not linear, is left out.

    >>> import torch
    >>> from ivmix.solvers import Network, Schedule, integrate, plain, seen
    >>> def forward(z, t, condition): return condition * z / 2
    >>> def views(skip): return lambda z, t, condition: condition * z / 4
    >>> sigmas = Schedule.ve(0.1, 10.0).grid(5)
    >>> video = Network(forward, Schedule.ve(0.1, 10.0), "x0", "video", views=views)
    >>> u, c = video(torch.zeros(1, 1, 1, 1, 1)), video(torch.ones(1, 1, 1, 1, 1))
    >>> field = stg(Guided(u, c), seen(c, skip=("up_blocks.1",)))
    >>> integrate(field, plain(sigmas, 2.0), torch.ones(1, 1, 2, 1, 1)).nfe
    {'video': 5, 'video perturbed': 5}
    """
    return pag(guided, skipped, scale)
