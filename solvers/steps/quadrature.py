"""Weights of quadrature rules through given nodes: what multistep solvers are made of.

Everything here is plain floats; nodes are few and no level is ever read from a device.
"""

import math
from collections.abc import Sequence


def interpolatory(nodes: Sequence[float], moments: Sequence[float]) -> list[float]:
    """The weights w with sum of w_j·f(node_j) = L(f) for all polynomials f of degree below k = len(nodes).

    `moments` are L(1), L(t), ..., L(t^(k-1)); the nodes differ pairwise. Simpson's rule on [0, 2]:

    >>> [round(w, 12) for w in interpolatory([0.0, 1.0, 2.0], [2.0, 2.0, 8 / 3])]
    [0.333333333333, 1.333333333333, 0.333333333333]
    """
    weights = []
    for j, node in enumerate(nodes):
        basis = [1.0]  # coefficients of the Lagrange polynomial of node j, lowest degree first
        for i, other in enumerate(nodes):
            if i != j:
                basis = [(a - other * b) / (node - other) for a, b in zip([0.0, *basis], [*basis, 0.0], strict=True)]
        weights.append(sum(coefficient * moment for coefficient, moment in zip(basis, moments, strict=True)))
    return weights


def adams(nodes: Sequence[float], h: float) -> list[float]:
    """Weights of the integral of f from 0 to h, given f at `nodes`: Adams-Bashforth, or -Moulton with h as a node."""
    return _scaled(nodes, h, [1 / (m + 1) for m in range(len(nodes))])


def exponential_adams(nodes: Sequence[float], h: float) -> list[float]:
    """Weights of the integral of exp(t - h)·f(t) from 0 to h, given f at `nodes`; either sign of h.

    The moments are m!·h^(m+1)·phi_(m+1)(-h).
    """
    phis = phi(-h, len(nodes))
    return _scaled(nodes, h, [math.factorial(m) * phis[m] for m in range(len(nodes))])


def curvature(nodes: Sequence[float], h: float) -> list[float]:
    """The part of `exponential_adams` with three nodes, of which the first is 0, that is due to the second difference:
    the integral of exp(t - h)·c·t², c being the parabola's leading coefficient."""
    moment = 2 * h**3 * phi(-h, 3)[2]
    return [moment / math.prod(a - b for j, b in enumerate(nodes) if j != i) for i, a in enumerate(nodes)]


def phi(z: float, count: int) -> list[float]:
    """phi_1(z), ..., phi_count(z): phi_0 = exp, phi_(k+1)(z) = (phi_k(z) - 1/k!) / z, and 1/k! at z = 0.

    To rounding for every z: upwards where |z| > 1, downwards from a Taylor series elsewhere (Hochbruck and Ostermann,
    Exponential integrators, 2010, eqs. 2.9 to 2.11).

    >>> phi(0.0, 3)
    [1.0, 0.5, 0.16666666666666666]
    """
    if abs(z) > 1:
        values = [math.expm1(z) / z]
        for k in range(1, count):
            values.append((values[-1] - 1 / math.factorial(k)) / z)
        return values
    values = [sum(z**j / math.factorial(j + count) for j in range(18))]
    for k in reversed(range(1, count)):
        values.append(1 / math.factorial(k) + z * values[-1])
    return values[::-1]


def _scaled(nodes: Sequence[float], h: float, moments: Sequence[float]) -> list[float]:
    """`interpolatory` with moments h^(m+1)·moments[m], computed in units of the nodes' span: safe for small h."""
    span = max(map(abs, nodes)) or 1.0
    return interpolatory([node / span for node in nodes], [h * (h / span) ** m * c for m, c in enumerate(moments)])
