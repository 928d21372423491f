"""What a plan of legs converges to as its grid is refined: one statement for every pattern of legs.

In one period of a plan, the outer steps after which it repeats itself, let leg i be a step of any consistent solver, of
the field E_i, over the share c_i of the period's way: 1 for a step down of its whole length, negative for one up; the
shares sum to 1. To first order in the steps, legs add up whatever their order, and neither where in the period a leg
begins nor which of its levels its network is told plays a part:

    dx/dsigma = sum of c_i·E_i                                                    no noise
    dx = (1 + k)·eps·dsigma + sqrt(2·k·sigma·|dsigma|)·xi,   (1 + k)·eps = sum of c_i·E_i over the networks' legs

where legs of fresh noise go up, over shares that sum to -k. A sum of states adds up what led to each: of two steps from
one state, by E_1 and by E_2, w·x_1 + (1 - w)·x_2 is a step of w·E_1 + (1 - w)·E_2. So a plan converges at first order,
and with other told levels, orders of legs or solvers only its error's constant is another
(`ivmix.solvers.theory.analysis` has that of Euler's). Lie and Trotter's splitting, with steps back (Hairer, Lubich and
Wanner, Geometric Numerical Integration, II.5).
Its cases:

    "I-I", "V-V", "IV-IV" of IV-Mixed           E_V(w) + sum over letters of 2·gamma·d            `composite`
    Z-Sampling                                  E(gamma_1 + (gamma_1 - gamma_2))                  `zsampling`
    W2SD                                        E_strong + (E_strong - E_weak)                    `w2sd`, `autoguidance`
"""

from collections.abc import Mapping, Sequence
from numbers import Real

from ivmix.solvers.algebra.affine import Affine
from ivmix.solvers.algebra.field import Composite, Field
from ivmix.solvers.algebra.guidance import Guided, guide
from ivmix.solvers.algebra.mixing import HERE, Mix
from ivmix.solvers.checks import check_legs
from ivmix.solvers.plans.legs import Leg


def limit(fields: Mapping[str, Field], legs: Sequence[Leg]) -> Composite:
    """The mean denoiser and the churn of the limit of a plan whose period is `legs`, at the guidance that they have.

    `legs` are the outer steps of one period, mostly one, on a grid of even steps in sigma, as `plan(torch.arange(9, 0,
    -1))` has them: lengths are then the shares that they are in the limit, on every grid. `fields` are `integrate`'s, a
    `Guided` or an `Affine` for each network. ValueError for legs that do not lead down as a whole, or whose shares do
    not sum to 1; for legs to or from 0, which do not shrink with the grid, or through a view; and for states mixed by
    other weights than numbers, or beside fresh noise.

    >>> import torch
    >>> from ivmix.solvers.methods.zsampling import zsampling
    >>> from ivmix.solvers.theory.analytic import closed_form_pair
    >>> legs = zsampling(torch.arange(9, 0, -1), guidance=5.5, inversion_guidance=1.0)
    >>> limit(closed_form_pair(), [leg for leg in legs if leg.step == 0]).denoise.weights(1.0)  # of 10.0
    [-9.0, 10.0]
    """
    check_legs(legs)
    way = legs[-1].target - legs[0].source if legs else 0.0
    if not -float("inf") < way < 0:
        raise ValueError(f"legs: got a period that moves sigma by {way:g}, expected one that leads down")
    shares = [(leg.target - leg.source) / way for leg in legs]
    if abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"legs: got lengths that sum to {sum(shares):g} of their period's way, expected 1")
    drift, churn = Affine(()), 0.0
    ways, levels = dict[str, Affine](), dict[str, float]()  # of states that the period keeps
    for leg, share in zip(legs, shares, strict=True):
        if 0 in (leg.source, leg.target):
            raise ValueError(f"legs: got {leg.label!r} to or from 0, which no grid makes short")
        if leg.mix is not None:
            leg.mix.check({HERE: leg.source, **levels}, leg.target)
            drift = _mixed(leg.mix, {HERE: drift, **ways})
            if leg.mix.name is not None:
                ways[leg.mix.name], levels[leg.mix.name] = drift, leg.target
        elif leg.network is None:
            churn -= share
        else:
            drift += share * _linear(fields, leg)
    if churn and any(leg.mix for leg in legs):
        raise ValueError("legs: got states mixed beside fresh noise, whose variance no share of a way tells")
    return Composite(drift / (1 + churn) if churn else drift, churn)


def _mixed(mix: Mix, ways: Mapping[str, Affine]) -> Affine:
    """What leads to a sum of states, of what led to each."""
    total = Affine(())
    for name, weight in mix.weights.items():
        if not isinstance(weight, Real):
            raise ValueError(f"legs: got {mix}, whose weight of {name!r} is no number")
        total += float(weight) * ways[name]
    return total


def _linear(fields: Mapping[str, Field], leg: Leg) -> Affine:
    """The leg's field under its guidance."""
    if leg.view is not None:
        raise ValueError(f"legs: got the view {leg.view.name!r} of {leg.label!r}, which is no part of a field")
    field = fields.get(str(leg.network))
    if not isinstance(field, Guided | Affine):
        kind = type(field).__name__
        raise TypeError(f"fields[{leg.network!r}]: got a {kind}, expected a Guided or an Affine: a limit is linear")
    found: Affine = guide(field, leg.guidance, f"leg {leg.label!r} of {leg.network!r}")
    return found
