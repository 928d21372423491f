"""Closed forms: Gaussian data and mixtures of it, whose denoisers are known exactly, and many of whose mixed flows are.

A Gaussian video has a mean and a covariance over frames, the same for every channel and pixel: a video network that is
soft and coherent has a strongly correlated one, an image network, which knows no time, a plain variance. In a mixture
of Gaussians a video network finds one component for a video, an image network one for each frame by itself.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ivmix.solvers.algebra.affine import Affine, Atom
from ivmix.solvers.algebra.denoiser import Denoiser, level
from ivmix.solvers.algebra.guidance import Guided
from ivmix.solvers.algebra.network import Forward, Prediction
from ivmix.solvers.schedules.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Gaussian:
    """x0 ~ N(mean, covariance) over frames; as a denoiser, mean + K·(K + sigma²)^(-1)·(x - mean).

    `mean` broadcasts against `… f h w`; `covariance` is a variance > 0 (independent frames), or (f, f) positive
    definite.

    >>> Gaussian(0.0, 1.0)(torch.ones(1, 1, 2, 1, 1), 1.0).flatten()
    tensor([0.5000, 0.5000])
    """

    mean: Tensor | float
    covariance: Tensor | float

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", torch.as_tensor(self.mean, dtype=torch.float64))
        object.__setattr__(self, "covariance", torch.as_tensor(self.covariance, dtype=torch.float64))
        shape = self.K.shape
        if len(shape) not in (0, 2) or len(set(shape)) > 1:
            raise ValueError(f"covariance: got shape {tuple(shape)}, expected one variance, or (f, f)")
        if not bool((self.spectrum[0] > 0).all()):
            raise ValueError("covariance: expected a variance > 0, or a positive definite matrix")

    @property
    def K(self) -> Tensor:
        return torch.as_tensor(self.covariance)

    @property
    def mu(self) -> Tensor:
        return torch.as_tensor(self.mean)

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor | None]:
        """Eigenvalues (f,) and eigenvectors (f, f), or the variance and None."""
        if self.K.ndim == 0:
            return self.K, None
        values, vectors = torch.linalg.eigh((self.K + self.K.mT) / 2)
        return values, vectors

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """E[x0 | x] for x `… f h w` at the level `sigma`; the mean at inf."""
        values, vectors = self.spectrum
        mean, gain = self.mu.to(x), (values / (values + level(sigma).square())).to(x)
        if vectors is None:
            return mean + gain * (x - mean)
        Q = vectors.to(x)
        return mean + along_frames(Q * gain @ Q.mT, x - mean)


@dataclass(frozen=True, eq=False)
class Mixture:
    """x0 ~ sum of share·N(mean, covariance); as a denoiser, the components' means given x, weighted by likelihood.

    One component is drawn for a whole video, or with `framewise` one for each frame by itself, as a network sees it
    that knows no time; components then have plain variances. `shares` > 0 are scaled to sum to 1; None: equal ones. A
    component may be a mixture: the unconditional model is the mixture of the conditional ones.

    >>> either = Mixture([Gaussian(-1.0, 0.25), Gaussian(1.0, 0.25)])
    >>> either(torch.tensor([0.0, 5.0]).reshape(2, 1, 1, 1, 1), 0.5).flatten()
    tensor([0., 3.])
    """

    components: "Sequence[Gaussian | Mixture]"
    shares: Sequence[float] | None = None
    framewise: bool = False

    def __post_init__(self) -> None:
        n, shares = len(self.components), [1.0] if self.shares is None else list(self.shares)
        if n == 0 or (self.shares is not None and len(shares) != n):
            raise ValueError(f"shares: got {len(shares)} for {n} components, expected one for each of at least one")
        if not all(0 < share < math.inf for share in shares):
            raise ValueError(f"shares: got {shares}, expected finite numbers > 0")
        if any(isinstance(part, Mixture) and part.framewise != self.framewise for part in self.components):
            raise ValueError("framewise: got mixtures in a mixture that differ in it")
        if self.framewise and any(gaussian.K.ndim for gaussian, _ in self.parts):
            raise ValueError("framewise: got a covariance over frames, expected components with plain variances")

    @cached_property
    def parts(self) -> list[tuple[Gaussian, float]]:
        """All Gaussians, with the shares that they have of the whole."""
        shares = [1.0] * len(self.components) if self.shares is None else [float(share) for share in self.shares]
        parts: list[tuple[Gaussian, float]] = []
        for component, share in zip(self.components, shares, strict=True):
            inner = component.parts if isinstance(component, Mixture) else [(component, 1.0)]
            parts += [(gaussian, inner_share * share / sum(shares)) for gaussian, inner_share in inner]
        return parts

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """E[x0 | x] for x `… c f h w` at the level `sigma`; the mean at inf."""
        sigma = level(sigma)
        means, values, vectors, log_shares = self._stack(x)
        if sigma.isinf():
            return (log_shares.exp() * means).sum(0).expand_as(x).clone()
        y, variance, log_joint = self._joint(x, sigma)
        y = values / variance * y
        given = means + (y if vectors is None else along_frames(vectors, y))
        return (log_joint.softmax(-5) * given).sum(-5)

    def log_density(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """log p(x) of noisy videos `… c f h w` at a finite level, (…,); its gradient is (E[x0 | x] - x)/sigma²."""
        *_, log_joint = self._joint(x, level(sigma))
        units = log_joint.logsumexp(-5).sum((-4, -3, -2, -1))  # of videos, or summed over frames
        return units - math.prod(x.shape[-4:]) / 2 * math.log(2 * math.pi)

    def _joint(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x - mean in eigenvectors, (… k c f h w), its variance (k 1 f 1 1) at sigma, and log(share·density) up to a
        constant, (… k 1 f|1 1 1)."""
        means, values, vectors, log_shares = self._stack(x)
        y = x.unsqueeze(-5) - means
        y = y if vectors is None else along_frames(vectors.mT, y)
        variance = values + sigma.square().to(x)
        surprise = y.square() / variance + variance.log()
        units = (-4, -2, -1) if self.framewise else (-4, -3, -2, -1)
        return y, variance, log_shares - surprise.sum(units, keepdim=True) / 2

    def _stack(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Means (k c f h w), eigenvalues (k 1 f 1 1), eigenvectors (k 1 f f) or None, log shares (k 1 1 1 1)."""
        means, values, vectors, log_shares = self._stacked
        return means.to(x), values.to(x), None if vectors is None else vectors.to(x), log_shares.to(x)

    @cached_property
    def _stacked(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """What `_stack` gives, in float64; dimensions along which nothing changes have size 1."""
        gaussians = [gaussian for gaussian, _ in self.parts]
        means = torch.stack(torch.broadcast_tensors(*(gaussian.mu for gaussian in gaussians)))
        frames = max(len(gaussian.K) if gaussian.K.ndim else 1 for gaussian in gaussians)
        values = torch.stack([gaussian.spectrum[0].expand(frames) for gaussian in gaussians])
        known = [gaussian.spectrum[1] for gaussian in gaussians]
        eye = torch.eye(frames, dtype=torch.float64)
        vectors = None
        if any(Q is not None for Q in known):
            vectors = torch.stack([eye if Q is None else Q for Q in known])[:, None]
        log_shares = torch.tensor([share for _, share in self.parts], dtype=torch.float64).log()
        return (
            means.reshape(len(means), *[1] * (5 - means.ndim), *means.shape[1:]),
            values[:, None, :, None, None],
            vectors,
            log_shares[:, None, None, None, None],
        )


def along_frames(matrix: Tensor, x: Tensor) -> Tensor:
    """(… f, f) times x `… f h w`."""
    return (matrix @ x.flatten(-2)).unflatten(-1, x.shape[-2:])


def exponential(frames: int, variance: float = 1.0, length: float = 4.0) -> Tensor:
    """Covariance variance·exp(-|i - j| / length), (f, f): neighbours alike, as the frames of a video."""
    lag = torch.arange(frames, dtype=torch.float64)
    return variance * torch.exp(-(lag[:, None] - lag).abs() / length)


@dataclass(frozen=True, eq=False)
class GaussianNetwork:
    """A network in closed form: `network(condition)` is an atom, whose condition is a key of `given`.

    >>> network = GaussianNetwork("video", {None: Gaussian(0.0, 2.0), "cat": Gaussian(1.0, 1.0)})
    >>> network("cat")(torch.ones(1, 1, 2, 1, 1), 3.0).flatten()
    tensor([1., 1.])
    """

    name: str
    given: Mapping[Any, Gaussian | Mixture]
    reach: tuple[float, float] = (0.0, math.inf)

    def __call__(self, condition: Any = None) -> Affine:
        if condition not in self.given:
            raise ValueError(f"condition: got {condition!r}, expected one of {list(self.given)}")
        return Affine(((Atom(self, condition), 1.0),))

    def predict(self, x: Tensor, sigma: Tensor, conditions: Sequence[Any]) -> list[Tensor]:
        return [self.given[condition](x, sigma) for condition in conditions]

    def forward(self, schedule: Schedule, prediction: Prediction) -> Forward:
        """The same as a `forward(z, t, condition)` of any prediction, to be put behind a `Network`; not at alpha =
        0."""

        def forward(z: Tensor, t: Tensor, condition: Any) -> Tensor:
            sigma = schedule.sigma(t)
            alpha = schedule.alpha_at(sigma)
            x = z / alpha
            x0 = self.given[condition](x, sigma)
            eps = (x - x0) / sigma
            return {"epsilon": eps, "x0": x0, "v": alpha * eps - alpha * sigma * x0, "flow": eps - x0}[prediction]

        return forward


def closed_form_pair(frames: int = 2) -> dict[str, Guided]:
    """The premise of mixing in closed form: an image network that is sharp and knows no time, a coherent soft video
    network.

    Values of frames gather at -1 and 1. To the image network every frame does so by itself, with a standard deviation
    of 0.1; under their condition more often at 1. To the video network videos do, with one of 0.4 and neighbouring
    frames alike. Frames are one or more pixels of one or more channels; two frames of one pixel make a plane.

    >>> pair = closed_form_pair(frames=8)
    >>> pair["video"].at(7.5)(torch.ones(1, 4, 8, 2, 2), 3.0).shape
    torch.Size([1, 4, 8, 2, 2])
    """
    sharp, soft = 0.1**2, exponential(frames, 0.4**2)
    image, video = (
        GaussianNetwork(
            name,
            {
                "": Mixture([Gaussian(-1.0, K), Gaussian(1.0, K)], framewise=name == "image"),
                "cond": Mixture([Gaussian(-1.0, K), Gaussian(1.0, K)], [1.0, 3.0], framewise=name == "image"),
            },
        )
        for name, K in (("image", sharp), ("video", soft))
    )
    return {"image": Guided(image(""), image("cond")), "video": Guided(video(""), video("cond"))}


def flow(denoise: Affine, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """The exact state at `sigma_next` >= 0 of dx/dsigma = sum of w·eps, for constant weights and Gaussians that
    commute.

    Per common eigenvector, with eigenvalues k and means m, dx/dsigma = sum of w·sigma·(x - m)/(k + sigma²), hence

        x(sigma') = P(sigma')·(x(sigma)/P(sigma) + integral of sum w·s·m/(k + s²)/P(s) ds from sigma' to sigma),

    with P(s) = product (k + s²)^(w/2).

    The integral is a Gauss-Legendre sum in log(k_min + s²), exact to rounding. x is `… f h w`, any device and dtype;
    ValueError for other atoms, weights that depend on sigma, or covariances that do not commute.
    """
    if any(callable(weight) for _, weight in denoise.terms):
        raise ValueError("denoise: got weights that depend on sigma; use `reference`")
    gaussians = [_gaussian(atom) for atom, _ in denoise.terms]
    Q = _common_basis([gaussian.K for gaussian in gaussians], x.shape[-3])
    weights = torch.tensor(denoise.weights(sigma), dtype=torch.float64)  # (k,), k terms
    means = torch.stack([along_frames(Q.mT, g.mu.expand(x.shape[1:])) for g in gaussians])  # k c f h w
    spectra = torch.stack([(Q.mT @ g.K @ Q).diagonal() if g.K.ndim else g.K.expand(len(Q)) for g in gaussians])  # k f

    def log_p(s2: Tensor) -> Tensor:  # (…,) -> (…, f)
        return ((spectra + s2[..., None, None]).log() * weights[:, None] / 2).sum(-2)

    start, end = torch.tensor([sigma**2, sigma_next**2], dtype=torch.float64)
    floor = spectra.min()
    tau, d_tau = _gauss_legendre(float((floor + end).log()), float((floor + start).log()))  # tau = log(floor + s²)
    s2 = tau.exp() - floor
    growth = (log_p(end) - log_p(s2)).exp()  # (q, f)
    kernel = weights[:, None] / 2 / (spectra + s2[:, None, None]) * (d_tau * tau.exp())[:, None, None]  # (q, k, f)
    pull = torch.einsum("qf,qkf,kcfhw->cfhw", growth, kernel, means)
    y = along_frames(Q.mT, x.to("cpu", torch.float64))
    y = (log_p(end) - log_p(start)).exp()[:, None, None] * y + pull
    return along_frames(Q, y).to(x)


def reference(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, substeps: int = 1, order: int = 12, tolerance: float = 1e-12
) -> Tensor:
    """The state at the last of `sigmas` (decreasing or increasing, > 0), to about `tolerance` of its size, in float64.

    Explicit Runge-Kutta steps in log sigma: extrapolated midpoint rules (Gragg, Bulirsch and Stoer; Hairer, Nørsett and
    Wanner, II.9), `substeps` for each interval, each halved until its error estimate is below `tolerance`; math.inf
    takes them as they are. No evaluation is made at an interval's end, so a denoiser may jump at the nodes if it
    belongs to what follows; elsewhere it should be smooth (ValueError where halving does not help).
    """

    def slope(y: Tensor, s: float) -> Tensor:
        return y - denoise(y, level(math.exp(s)))

    tolerance = max(tolerance, 100 * torch.finfo(x.dtype).eps)
    for sigma, sigma_next in pairwise(torch.as_tensor(sigmas, dtype=torch.float64).tolist()):
        ends = torch.linspace(math.log(sigma), math.log(sigma_next), substeps + 1, dtype=torch.float64).tolist()
        todo = list(pairwise(ends))[::-1]
        while todo:
            a, b = todo.pop()
            y, error = _extrapolated(slope, x, a, b, order // 2)
            if error <= tolerance * max(1.0, float(y.detach().abs().max())):
                x = y
            elif abs(b - a) < 1e-9:
                raise ValueError(
                    f"denoise: not smooth at sigma {math.exp(a):.6g}; make that level one of sigmas, or raise tolerance"
                )
            else:
                todo += [((a + b) / 2, b), (a, (a + b) / 2)]
    return x


def _extrapolated(
    slope: Callable[[Tensor, float], Tensor], x: Tensor, a: float, b: float, rows: int
) -> tuple[Tensor, float]:
    """One step of length b - a: midpoint rules with 2, 4, 6, … parts, extrapolated in the square of their length; and
    the largest change that the last extrapolation made."""
    first = slope(x, a)
    table: list[Tensor] = []
    for j in range(1, rows + 1):
        n, h = 2 * j, (b - a) / (2 * j)
        last, now = x, x + h * first
        for i in range(1, n):
            last, now = now, last + 2 * h * slope(now, a + i * h)
        row = [now]
        for k, coarse in enumerate(table, 1):
            row.append(row[-1] + (row[-1] - coarse) / ((j / (j - k)) ** 2 - 1))
        table = row
    return table[-1], float((table[-1] - table[-2]).detach().abs().max()) if rows > 1 else math.inf


def _gaussian(atom: Atom) -> Gaussian:
    if not isinstance(atom.model, GaussianNetwork):
        raise ValueError(f"denoise: got an atom of {type(atom.model).__name__}, expected a GaussianNetwork's")
    given = atom.model.given[atom.condition]
    if not isinstance(given, Gaussian):
        raise ValueError("denoise: got a mixture of Gaussians, whose flow has no closed form; use `reference`")
    return given


def _common_basis(covariances: list[Tensor], frames: int) -> Tensor:
    """Orthonormal eigenvectors (f, f) that all covariances share."""
    matrices = [K for K in covariances if K.ndim]
    # A combination with incommensurable weights separates the eigenspaces of each of its commuting parts.
    parts = [math.sqrt(2 + i) * K / K.norm() for i, K in enumerate(matrices)]
    _, Q = torch.linalg.eigh(torch.stack([torch.eye(frames, dtype=torch.float64), *parts]).sum(0))
    for K in matrices:
        rotated = Q.mT @ K @ Q
        if (rotated - rotated.diagonal().diag()).norm() > 1e-10 * K.norm():
            raise ValueError("denoise: got covariances that do not commute: no closed form; use `reference`")
    return Q


def _gauss_legendre(a: float, b: float, panels: int = 24, points: int = 16) -> tuple[Tensor, Tensor]:
    """Nodes and weights (panels·points,) on [a, b] (Golub and Welsch: eigenvectors of the Jacobi matrix)."""
    k = torch.arange(1, points, dtype=torch.float64)
    off = (k / (4 * k**2 - 1).sqrt()).diag(1)
    nodes, vectors = torch.linalg.eigh(off + off.mT)
    edges = torch.linspace(a, b, panels + 1, dtype=torch.float64)
    half = (edges[1:] - edges[:-1])[:, None] / 2
    tau = (edges[:-1, None] + half * (1 + nodes)).flatten()
    return tau, (half * 2 * vectors[0] ** 2).flatten()
