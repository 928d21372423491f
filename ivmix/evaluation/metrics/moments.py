"""Count, mean and scatter of features, accumulated over batches, files and ranks without loss."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor


def as_features(features: Tensor | np.ndarray, name: str = "features") -> Tensor:
    """Features (n, d) of any device and precision as float64 on the CPU, whatever they were computed in.

    Raises ValueError, naming `name`, for another number of axes and for NaN or infinite entries.
    """
    rows = torch.from_numpy(features.copy()) if isinstance(features, np.ndarray) else features.detach()
    rows = rows.cpu().double()
    if rows.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(rows.shape)}: expected (n, d), one row a clip")
    _check_finite(name, rows)
    return rows


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of n features of d entries, float64.

    `scatter` is the sum of outer products of deviations from the mean, so that batches add up exactly, in any partition
    and order: `Moments.of(x) + Moments.of(y)` are the moments of both, to rounding. Sums of squares are never taken
    about the origin, where a large mean would swamp them.

    >>> import torch
    >>> x = torch.arange(12.0).reshape(6, 2)
    >>> (Moments.of(x[:4]) + Moments.of(x[4:])).covariance()
    tensor([[14., 14.],
            [14., 14.]], dtype=torch.float64)
    """

    count: int
    mean: Tensor  # (d,)
    scatter: Tensor  # (d, d)

    def __post_init__(self) -> None:
        mean, scatter = self.mean, self.scatter
        if mean.ndim != 1 or scatter.shape != (len(mean), len(mean)):
            raise ValueError(f"mean {tuple(mean.shape)} and scatter {tuple(scatter.shape)}: expected (d,) and (d, d)")
        if self.count < 0 or {mean.dtype, scatter.dtype} != {torch.float64}:
            raise ValueError(f"count {self.count}, {mean.dtype} and {scatter.dtype}: expected count >= 0 and float64")
        _check_finite("mean", mean)
        _check_finite("scatter", scatter)

    @classmethod
    def of(cls, features: Tensor | np.ndarray) -> Self:
        """Moments of features (n, d); n = 0 gives the neutral element of +. ValueError as for `as_features`."""
        rows = as_features(features)
        mean = rows.sum(0) / max(len(rows), 1)
        deviation = rows - mean
        return cls(len(rows), mean, deviation.T @ deviation)

    def __add__(self, other: "Moments") -> "Moments":
        """Moments of both sets together (Chan, Golub, LeVeque 1979). ValueError if they differ in d."""
        if len(self.mean) != len(other.mean):
            raise ValueError(f"moments of {len(self.mean)} and of {len(other.mean)} features: they cannot be merged")
        count = self.count + other.count
        share = other.count / max(count, 1)
        shift = other.mean - self.mean
        between = torch.outer(shift, shift) * (self.count * share)
        return Moments(count, self.mean + share * shift, self.scatter + other.scatter + between)

    def covariance(self, ddof: int = 1) -> Tensor:
        """(d, d): the scatter over count − ddof. ValueError if that leaves nothing to divide by."""
        if self.count <= ddof:
            raise ValueError(f"{self.count} features: expected more than ddof = {ddof}")
        return self.scatter / (self.count - ddof)

    def save(self, path: Path | str) -> None:
        """Writes a .safetensors file; it takes the place of an older one only when it is whole."""
        path = Path(path)
        part = path.with_name(f"{path.name}.part")
        try:
            save_file({"count": torch.tensor(self.count), "mean": self.mean, "scatter": self.scatter}, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """What `save` wrote, bit for bit. FileNotFoundError, or ValueError for any other file."""
        from ivmix.models.checkpoints.files import read_state

        state = read_state(path)
        if set(state) != {"count", "mean", "scatter"} or state["count"].shape != ():
            raise ValueError(f"{path} holds {', '.join(sorted(state)) or 'nothing'}: expected count, mean, scatter")
        try:
            return cls(int(state["count"]), state["mean"].clone(), state["scatter"].clone())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def gather(moments: Moments) -> Moments:
    """The moments of all ranks of the default process group, merged in rank order: the same bits on every rank.

    Without a process group, `moments` as they are. Collective: every rank calls it, one without features too, with
    `Moments.of(torch.zeros(0, d))`. ValueError on every rank if they differ in d.
    """
    if not dist.is_initialized():
        return moments
    parts: list[Moments] = [moments] * dist.get_world_size()
    dist.all_gather_object(parts, moments)
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def _check_finite(name: str, values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise ValueError(f"{name} holds NaN or infinite values: find the clips that gave them")
