"""The two types everything else is written in: levels and denoisers.

A *level* is a value of sigma, the standard deviation of the noise in VE coordinates x = x0 + sigma·eps, in units of
the data. A *denoiser* is any callable `denoise(x, sigma) -> x0` with x0 of x's shape and sigma a 0-d float64 CPU
tensor; the probability-flow ODE it stands for is dx/dsigma = (x - denoise(x, sigma)) / sigma (arXiv 2206.00364, eq. 1
with s = 1).

Where alpha = 0 (a rectified flow's or a zero-terminal schedule's first level) sigma is infinite and x does not exist:
at `sigma = inf` the state is z itself, pure noise of unit variance, everywhere in this package.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ivmix.solvers.checks import check_plain, real_numbers

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""`denoise(x, sigma) -> x0`, x0 of x's shape, sigma a 0-d float64 CPU tensor."""

Noise = Callable[[Tensor, Tensor], Tensor]
"""`noise(sigma, sigma_next)`: unit normals of the state's shape for the step between two levels."""


class Recalling(ABC):
    """What becomes a denoiser with a memory: the field of legs whose memory `integrate` keeps.

    A memory belongs to one run and one lane, the legs of one label and network: what a leg's first evaluation leaves is
    what the next leg of the lane is given, for all of its evaluations.
    """

    @abstractmethod
    def recall(self, x: Tensor, sigma: float | Tensor, memory: Any) -> tuple[Tensor, Any]:
        """x0 given the `memory` that the last step left, None at the first, and the memory that this one leaves."""

    @abstractmethod
    def cost(self, sigma: float | Tensor) -> dict[str, int]:
        """Rows that a call at `sigma` sends to each network, by name."""


def level(sigma: float | Tensor) -> Tensor:
    """`sigma` as a 0-d float64 CPU tensor, the form in which denoisers expect it; one that requires grad keeps it, as
    closed forms are differentiable in sigma.

    >>> level(2)
    tensor(2., dtype=torch.float64)
    """
    if isinstance(sigma, float) and sigma >= 0:
        return torch.full((), sigma, dtype=torch.float64, device="cpu")  # a third of the other way's time
    value = real_numbers("sigma", sigma)
    if value.ndim:
        raise ValueError(f"sigma: got shape {tuple(value.shape)}, expected one number")
    if not value.item() >= 0:
        raise ValueError(f"sigma: got {value.item():g}, expected a number >= 0")
    return value


def number(name: str, sigma: float | Tensor) -> float:
    """`sigma` as a plain number, of what `level` accepts; one that requires grad, which would lose it, is refused."""
    if isinstance(sigma, float) and sigma >= 0:
        return sigma
    check_plain(name, sigma)
    return float(level(sigma).item())


def cast(y: Tensor, dtype: torch.dtype) -> Tensor:
    """`y.to(dtype)`, whose time is an operator's even where it has nothing to do."""
    return y if y.dtype == dtype else y.to(dtype)


def like(x: Tensor, y: Any, name: str) -> Tensor:
    """`y`, which `name` returned for `x`: a tensor of x's shape, or an error that says what it is."""
    if not isinstance(y, Tensor):
        raise TypeError(
            f"{name} returned a {type(y).__name__}, expected a tensor; of a module's output object, its .sample"
        )
    if y.shape != x.shape:
        raise ValueError(f"{name} returned shape {tuple(y.shape)} for input {tuple(x.shape)}")
    return y
