"""Autoguidance (arXiv 2406.02507): a network is guided by a weaker one of its kind.

    D = D_w + scale·(D_s - D_w)

Classifier-free guidance is the case of one network without its condition as the weak one. Scale 2 is the limit of
`w2sd`.
"""

from ivmix.solvers.algebra.affine import Affine, Weight
from ivmix.solvers.checks import check_number, in_range
from ivmix.solvers.methods.catalogue import Method

METHOD = Method(
    "autoguidance",
    papers=("2406.02507",),
    does="a combination of two networks: what the strong one has over the weak one, enlarged",
    evaluations={"strong": "n", "weak": "n"},
    limit="D_w + scale·(D_s - D_w)",
    licence="CC BY-NC-SA",
    training_free="given a weaker network",
)


def autoguidance(strong: Affine, weak: Affine, scale: Weight = 2.0) -> Affine:
    """weak + scale·(strong - weak), a denoiser; `scale`, 1 for `strong` alone, is a number or a function of sigma.

    Both have their own guidance inside, as `guided.at(7.5)`. One evaluation of each a call, of `strong` alone where
    `scale` is 1. TypeError for a field that is not linear in its networks.

    >>> from ivmix.solvers.theory.analytic import closed_form_pair
    >>> pair = closed_form_pair()
    >>> strong, weak = pair["video"].at(2.0), pair["image"].cond
    >>> autoguidance(strong, weak).weights(1.0)  # of weak, then of strong without and with its condition
    [-1.0, -2.0, 4.0]
    >>> autoguidance(strong, weak, lambda sigma: 2.0 if sigma < 5 else 1.0).cost(8.0)
    {'video': 2}
    """
    for name, field in (("strong", strong), ("weak", weak)):
        if not isinstance(field, Affine):
            kind = type(field).__name__
            raise TypeError(f"{name}: got a {kind}, expected an Affine, as network(condition) or guided.at(7.5) is")
    if not callable(scale):
        check_number("scale", scale, "a number that float32 holds, or a function of sigma", in_range)
    return weak + scale * (strong - weak)
