"""PAG, perturbed-attention guidance (arXiv 2403.17377): a network is guided by itself with less attention.

    D = D_u + w·(D_c - D_u) + scale·(D_c - D_p)

D_p is the conditional prediction with the identity in the place of some self-attention maps, so that each token sees
itself alone; in the authors' examples those of the UNet's middle. With w = 1 this is the paper's D_c + scale·(D_c -
D_p).
"""

from ivmix.solvers.algebra.affine import Affine, Weight
from ivmix.solvers.algebra.guidance import Guided, check_scale
from ivmix.solvers.methods.catalogue import Method

METHOD = Method(
    "PAG",
    papers=("2403.17377",),
    does="guidance from the same network with less attention: a combination with one network seen differently, D_p",
    evaluations={"video": "n", "perturbed": "n"},
    limit="D(w) + scale·(D_c - D_p)",
    licence="Apache-2.0 (diffusers)",
)


def pag(guided: Guided, perturbed: Affine, scale: Weight = 3.0) -> Guided:
    """`guided` with `scale`·(cond - perturbed) added, under whatever scale of its own: a field of legs as it was.

    `perturbed` is `seen(guided.cond, identity=...)`, or any other weaker prediction; `scale` a number or a function of
    sigma. One pass of `perturbed` more an evaluation, none where `scale` is 0. As it is linear, a composite or a
    mixture takes it: what is added is part of both predictions, so their direction is as before. Pushes from several
    predictions are one, from their mean: (a·p + b·q) / (a + b) at scale a + b.

    >>> from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork
    >>> network = GaussianNetwork("video", {"": Gaussian(0.0, 1.0), "cat": Gaussian(1.0, 1.0)})
    >>> weak = GaussianNetwork("video perturbed", {"cat": Gaussian(1.0, 2.0)})
    >>> field = pag(Guided(network(""), network("cat")), weak("cat"), 3.0).at(7.5)
    >>> field.weights(1.0), field.cost(1.0)  # without and with the condition, and perturbed
    ([-6.5, 10.5, -3.0], {'video': 2, 'video perturbed': 1})
    """
    if not isinstance(guided, Guided):
        raise TypeError(f"guided: got a {type(guided).__name__}, expected a Guided")
    if not isinstance(perturbed, Affine):
        raise TypeError(f"perturbed: got a {type(perturbed).__name__}, expected an Affine, as network(condition) is")
    check_scale(scale)
    push = scale * (guided.cond - perturbed)
    return Guided(guided.uncond + push, guided.cond + push)
