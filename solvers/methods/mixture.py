"""Convex mixtures: the third family, in which the image network itself takes part, not only its direction."""

import math

from torch import Tensor

from ivmix.solvers.algebra.affine import Affine, Number, Weight, value_at
from ivmix.solvers.algebra.guidance import Guided
from ivmix.solvers.checks import check_number
from ivmix.solvers.methods.catalogue import Method

METHOD = Method(
    "mixture",
    papers=(),
    does="a convex combination of both networks' predictions, constant or late in the run",
    evaluations={"video": "n", "image": "n"},
    limit="(1 - m)·D_V(w) + m·D_I(w_I)",
    licence="this package's",
)


def mixture(image: Guided, video: Guided, guidance: Weight, image_scale: Weight, image_weight: Weight) -> Affine:
    """(1 - m)·video(guidance) + m·image(image_scale), m = `image_weight` in [0, 1]; a denoiser.

    All three are numbers or functions of sigma; m outside [0, 1] is a ValueError. Where m is 0 or 1, the other network
    costs nothing.
    """
    for name, field in (("image", image), ("video", video)):
        if not isinstance(field, Guided):
            raise TypeError(
                f"{name}: got a {type(field).__name__}, expected a Guided: a mixture is linear in its networks; "
                "combine as_affine(denoiser, name) instead"
            )
    m = _share(image_weight)
    rest: Weight = (lambda sigma: 1 - m(sigma)) if callable(m) else 1 - m
    return rest * video.at(guidance) + m * image.at(image_scale)


def late(weight: float, below: float, full: float | None = None) -> Weight:
    """An `image_weight` for the end of a run: 0 from the level `below` up, `weight` under it.

    With `full` < `below`, the weight rises linearly in log sigma from 0 at `below` to `weight` at `full`.

    >>> image_weight = late(0.7, below=2.0)
    >>> image_weight(2.0), image_weight(1.0)
    (0.0, 0.7)
    """
    _share(weight)
    check_number("below", below, "a level > 0", lambda below: below > 0)
    if full is None:
        return lambda sigma: weight if sigma < below else 0.0
    check_number("full", full, f"a level above 0 and below {below:g}", lambda full: 0 < full < below)
    span = math.log(below / full)
    return lambda sigma: weight * min(1.0, max(0.0, math.log(below / float(sigma)) / span)) if sigma > 0 else weight


def _share(weight: Weight) -> Weight:
    """`weight`, which must be in [0, 1]."""

    def check(value: Number) -> Number:
        check_number("image_weight", value, "a share in [0, 1]", lambda value: 0 <= value <= 1)
        return value

    def checked(sigma: Tensor) -> Number:
        return check(value_at(weight, sigma))

    return checked if callable(weight) else check(weight)
