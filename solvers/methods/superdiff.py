"""SuperDiff (arXiv 2412.17762): several models at once, weighed by the densities that they give the state.

    D = sum of kappa_i·D_i,    q_i the density of the noisy state in model i

    OR    kappa_i ~ share_i·q_i^T                                                                     `SuperDiffOr`
    AND   kappa such that log q_1 - log q_2 stays what it is along the ODE                            `SuperDiffAnd`

          D = (D_1 + D_2)/2 + c·(D_1 - D_2)
          c = (<D_1 - D_2, (D_1 + D_2)/2 - x> + sigma²·div(D_1 - D_2)) / |D_1 - D_2|²

The density comes from the Itô density estimator. Along the reverse SDE, with whatever drift and the noise of churn 1,
and of no other churn, all second derivatives cancel in

    d log q_i = -<eps_i, dx>/sigma - |eps_i|²·|dsigma|/sigma,    eps_i = (x - D_i)/sigma      `ito_log_density`

With exact densities and T = 1, OR is the model of the mixture: the kappa_i are what its parts are responsible for.

The authors' AND with noise is not here. Its kappa is made from the very noise of the step, which no field sees; it
comes to the mean of both predictions, and noise without its part along eps_1 - eps_2. Noise that lacks a direction
leaves the second derivatives along it, so that the estimates move together and the densities do not, unless the models
are Gaussians of one covariance. Their AND without noise, which asks for divergences, has no such defect.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ivmix.solvers.algebra.adaptive_guidance import dot, quotient
from ivmix.solvers.algebra.affine import Affine, count_rows, evaluate, union
from ivmix.solvers.algebra.denoiser import Denoiser, Recalling, level
from ivmix.solvers.checks import check_number
from ivmix.solvers.methods.catalogue import Method
from ivmix.solvers.schedules.grids import check_grid

METHOD = Method(
    "SuperDiff",
    papers=("2412.17762",),
    does="models weighed by the densities that they give the state. OR: by a softmax of them, estimated along the "
    "reverse SDE, weights with a memory; AND, along the ODE: so that they rise by the same, weights made of the "
    "predictions and their divergences",
    evaluations={"video": "n", "image": "n"},
    limit="its own field; of OR at temperature 1 the reverse SDE of the models' mixture",
    licence="MIT",
)


class Walked(NamedTuple):
    """Where the last step began, (b c f h w) and its level; each model's eps there, (k b c f h w); and the log-ratios
    of each model's density to the first's, (k b 1 1 1 1)."""

    x: Tensor
    sigma: float
    eps: Tensor
    ratios: Tensor


@dataclass(frozen=True, eq=False)
class SuperDiffOr(Recalling):
    """The mean of `fields` by softmax(temperature·log q + log shares); the field of a plan of the reverse SDE.

    For `plain(sigmas, solver=EulerAncestral())` or `ancestral(sigmas)`, which are one, or other plans of churn 1,
    without which the estimates mean nothing. Densities begin equal, as at the highest level they nearly are; `shares` >
    0, None for equal ones, are what is known of the models beforehand. Temperature 1 draws from the mixture, large ones
    from the likeliest model, 0 from a plain mean of predictions. One evaluation of each network.

    >>> from ivmix.solvers import EulerAncestral, integrate, normal_noise, plain
    >>> from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork
    >>> left, right = (GaussianNetwork(name, {None: Gaussian(m, 0.01)})() for name, m in [("left", -1.), ("right", 1.)])
    >>> legs = plain(torch.logspace(1, -2, 100), solver=EulerAncestral())
    >>> x = torch.linspace(-10, 10, 4).reshape(4, 1, 1, 1, 1)
    >>> run = integrate(SuperDiffOr([left, right]), legs, x, noise=normal_noise(range(4), (1, 1, 1, 1)))
    >>> [round(value) for value in run.x.flatten().tolist()], run.nfe  # the noise decides, as for a mixture
    ([-1, 1, -1, 1], {'left': 99, 'right': 99})
    """

    fields: Sequence[Affine]
    temperature: float = 1.0
    shares: Sequence[float] | None = None

    def __post_init__(self) -> None:
        _check_fields(self.fields)
        check_number("temperature", self.temperature, "a finite number >= 0", lambda value: value >= 0)
        if self.shares is not None:
            if len(self.shares) != len(self.fields):
                raise ValueError(f"shares: got {len(self.shares)} for {len(self.fields)} fields, expected one for each")
            for share in self.shares:
                check_number("shares", share, "finite numbers > 0", lambda share: share > 0)

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        raise ValueError(
            "SuperDiffOr has estimates of densities, which need a memory: make it the field of legs that integrate "
            "plays, or call recall(x, sigma, memory)"
        )

    def recall(self, x: Tensor, sigma: float | Tensor, memory: Walked | None) -> tuple[Tensor, Walked]:
        """x0 of x's shape and dtype, given where the last step began, None at the first, and what the next is given."""
        sigma = level(sigma)
        x0s = torch.stack(evaluate(self.fields, x, sigma))
        ratios = x.new_zeros(len(x0s), len(x), 1, 1, 1, 1) if memory is None else self._walk(memory, x, sigma.item())
        logits = self.temperature * ratios
        if self.shares is not None:
            logits = logits + x.new_tensor(self.shares).log().reshape(-1, 1, 1, 1, 1, 1)
        return (logits.softmax(0) * x0s).sum(0), Walked(x, sigma.item(), (x - x0s) / sigma.item(), ratios)

    def cost(self, sigma: float | Tensor) -> dict[str, int]:
        """Rows that a call at `sigma` sends to each network, by name."""
        return count_rows(union(self.fields, level(sigma)))

    @property
    def reach(self) -> tuple[float, float]:
        """The levels that every network accepts."""
        return _common_reach(self.fields)

    def _walk(self, begun: Walked, x: Tensor, sigma: float) -> Tensor:
        """The log-ratios after a step. Sums are of differences: a clip's log-densities are as large as it has
        values."""
        if math.isinf(begun.sigma):  # where models are one
            return begun.ratios
        first = begun.eps[:1]
        moved = x - begun.x + (begun.sigma - sigma) * (begun.eps + first)
        return begun.ratios - _over_clips((begun.eps - first) * moved) / begun.sigma


@dataclass(frozen=True, eq=False)
class SuperDiffAnd:
    """`first` and `second`, weighed so that their log-densities rise by the same along the ODE; a denoiser.

    A field like any other, for every solver. Models nearly agree on a state of the highest level, and so they do on
    what it leads to; the weights need not be in [0, 1], and are equal where both predict the same.

    `probes`, (p c f h w), estimate the divergence: the mean of <v, J·v> over probes v, J the Jacobian of D_1 - D_2. One
    probe of random signs, kept for the run, is Hutchinson's estimator; orthogonal ones of squared length c·f·h·w, as
    many as that, are exact. One evaluation of each network, and a backward pass a probe, which is not counted.

    >>> from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork
    >>> network = GaussianNetwork("video", {m: Gaussian(m, 1.0) for m in (-1.0, 3.0)})
    >>> field = SuperDiffAnd(network(-1.0), network(3.0), probes=torch.ones(1, 1, 1, 1, 1))
    >>> round(field(torch.ones(1, 1, 1, 1, 1), 2.0).item(), 5), field.cost(2.0)  # at 1 both are as likely
    (1.0, {'video': 2})
    """

    first: Affine
    second: Affine
    probes: Tensor

    def __post_init__(self) -> None:
        _check_fields((self.first, self.second))
        if self.probes.ndim != 5 or len(self.probes) == 0:
            raise ValueError(f"probes: got shape {tuple(self.probes.shape)}, expected (p, c, f, h, w)")

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0 of x's shape and dtype; x is `b c f h w`. ValueError at inf, where densities do not differ."""
        sigma = level(sigma)
        if sigma.isinf():
            raise ValueError("sigma: got inf, where all densities are one; expected a finite level")

        def models(y: Tensor) -> tuple[Tensor, Tensor]:
            one, other = evaluate((self.first, self.second), y, sigma)
            return one - other, (one + other) / 2

        pulled: Any = torch.func.vjp(models, x, has_aux=True)  # its types know of two results alone
        apart, pull, mean = pulled
        probes = [probe.expand_as(x) for probe in self.probes.to(x)]
        divergence = torch.stack([dot(probe, pull(probe)[0]) for probe in probes]).mean(0)
        share = quotient(dot(apart, mean - x) + sigma.item() ** 2 * divergence, dot(apart, apart))
        return mean + share * apart

    def cost(self, sigma: float | Tensor) -> dict[str, int]:
        """Rows that a call at `sigma` sends to each network, by name."""
        return count_rows(union((self.first, self.second), level(sigma)))

    @property
    def reach(self) -> tuple[float, float]:
        """The levels that both accept."""
        return _common_reach((self.first, self.second))


def ito_log_density(denoise: Denoiser, path: Sequence[Tensor], sigmas: Tensor) -> Tensor:
    """log q of the states `path`, each `b c f h w`, less log q of the first one, (n + 1, b).

    `sigmas` (n + 1,) are the decreasing levels of the states; q is the density of which `denoise` is the denoiser, and
    the path any reverse SDE's of churn 1 and any drift, such as of `plain(sigmas, solver=EulerAncestral())`. One
    evaluation a step. The error is of first order in the steps in the mean, and of order 1/2 a path.
    """
    levels: list[float] = check_grid(sigmas).tolist()
    if len(path) != len(levels):
        raise ValueError(f"path: got {len(path)} states for {len(levels)} levels, expected one for each")
    total = [path[0].new_zeros(len(path[0]))]
    for (x, y), (sigma, sigma_next) in zip(pairwise(path), pairwise(levels), strict=True):
        eps = (x - denoise(x, level(sigma))) / sigma
        gain = -dot(eps, y - x + (sigma - sigma_next) * eps) / sigma
        total.append(total[-1] + gain.flatten())
    return torch.stack(total)


def _over_clips(values: Tensor) -> Tensor:
    """Sums over c f h w of `k b c f h w`."""
    return values.sum((2, 3, 4, 5), keepdim=True)


def _common_reach(fields: Sequence[Affine]) -> tuple[float, float]:
    lows, highs = zip(*(field.reach for field in fields), strict=True)
    return max(lows), min(highs)


def _check_fields(fields: Sequence[Affine]) -> None:
    if len(fields) < 2:
        raise ValueError(f"fields: got {len(fields)}, expected two or more")
    for field in fields:
        if not isinstance(field, Affine):
            raise TypeError(f"fields: got a {type(field).__name__}, expected an Affine, as network(condition) is")
