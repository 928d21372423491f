"""Randomness: one generator per sample, on the CPU, so that a sample is the same whatever the batch, device or
dtype."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Generator, Tensor

from ivmix.solvers.algebra.denoiser import Noise
from ivmix.solvers.checks import whole

_STEPS = 0x9E3779B97F4A7C15  # separates the noise of the steps from the initial noise of the same seed
_SHUFFLES = 0xD1B54A32D192ED03  # likewise the order of rescheduled frames
_BRIDGES = 0x8CB92BA72F3D8DD7  # and what hides the clean latents of another network


def initial_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Unit normals (b, *shape), b = len(seeds), float32 on the CPU; row k depends on seeds[k] alone.

    >>> bool((initial_noise([3, 5], (4, 8, 2, 2))[1] == initial_noise([5], (4, 8, 2, 2))[0]).all())
    True
    """
    return _draw([Generator().manual_seed(_seed(seed)) for seed in seeds], shape)


def normal_noise(seeds: Sequence[int], shape: Sequence[int]) -> Noise:
    """A source of fresh unit normals (b, *shape) for stochastic legs and solvers, one stream per seed.

    Independent of `initial_noise` of the same seeds. The returned callable draws on: use one per run.
    """
    generators = [Generator().manual_seed(_seed(seed) ^ _STEPS) for seed in seeds]
    return lambda sigma, sigma_next: _draw(generators, shape)


def bridge_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Unit normals (b, *shape) as `initial_noise` draws them and independent of it: one draw a run, for `bridged`."""
    return _draw([Generator().manual_seed(_seed(seed) ^ _BRIDGES) for seed in seeds], shape)


def rescheduled_noise(seeds: Sequence[int], shape: Sequence[int], length: int, stride: int) -> Tensor:
    """`initial_noise` of clips (c, f, h, w) that have `length` frames of noise in all, rescheduled (FreeNoise, arXiv
    2310.15169, section 3.2): from there on, every `stride` frames are those `length` before, shuffled among themselves.

    So windows of that length and stride all begin from the same noise in another order, and each from white noise,
    wherever they begin at a multiple of a stride that divides the length. Row k depends on seeds[k] alone, and its
    first `length` frames are `initial_noise` of as many.

    >>> noise = rescheduled_noise([0], (4, 64, 2, 2), 8, 4)
    >>> noise.shape, bool((noise[:, :, 8:12].sort(2).values == noise[:, :, :4].sort(2).values).all())
    (torch.Size([1, 4, 64, 2, 2]), True)
    """
    whole("length", length, 1)
    whole("stride", stride, 1, length, ", the length")
    channels, frames, *size = shape
    first = initial_noise(seeds, (channels, min(length, frames), *size))
    rows = []
    for row, seed in zip(first, seeds, strict=True):
        generator, order = Generator().manual_seed(_seed(seed) ^ _SHUFFLES), list(range(length))
        while len(order) < frames:
            block = order[len(order) - length :][:stride]
            order += [block[k] for k in torch.randperm(stride, generator=generator).tolist()]
        rows.append(row[:, order[:frames]])
    return torch.stack(rows)


@dataclass(frozen=True, eq=False)
class RecordedNoise:
    """Noise by step and leg: drawn from `source` the first time that a leg asks, the very same whenever it asks again.

    `draws` holds every draw under (step, label, number): the leg's outer step and label and the draws it had made
    before; it is data, to be kept, saved or cut. A changed plan (another solver, other guidance, `tail`) played with
    `RecordedNoise(draws=recorded.draws)` gets the same noise at the same step and leg; what was not recorded is then,
    without a source, a ValueError. Steps are counted, not levels: this is no Brownian path, and with another number of
    steps the same draw serves another level. A plan whose legs have other labels gets it by renaming keys.

    >>> recorded = RecordedNoise(normal_noise([0], (4, 8, 2, 2)))
    >>> first = recorded.of(7, "step")(torch.tensor(2.0), torch.tensor(1.0))
    >>> again = RecordedNoise(draws=recorded.draws).of(7, "step")(torch.tensor(2.0), torch.tensor(1.5))
    >>> again is first, list(recorded.draws)
    (True, [(7, 'step', 0)])
    """

    source: Noise | None = None
    draws: dict[tuple[int, str, int], Tensor] = field(default_factory=dict, repr=False)

    def of(self, step: int, label: str) -> Noise:
        """The noise of one leg in one run: each call gives its next draw."""
        numbers = count()

        def noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
            key = step, label, next(numbers)
            if key not in self.draws:
                if self.source is None:
                    raise ValueError(
                        f"noise: draw {key[2]} of leg {label!r} of step {step} was not recorded; give "
                        "RecordedNoise a source to draw it from"
                    )
                self.draws[key] = self.source(sigma, sigma_next)
            return self.draws[key]

        return noise


def draw(noise: Noise | None, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """Unit normals of x's shape, dtype and device from `noise`; another shape is a ValueError rather than broadcast."""
    if noise is None:
        raise ValueError("noise: got None, expected a source of unit normals, such as normal_noise(seeds, shape)")
    xi = noise(sigma, sigma_next).to(x)
    if xi.shape != x.shape:
        raise ValueError(f"noise: got shape {tuple(xi.shape)}, expected the state's, {tuple(x.shape)}")
    return xi


def _draw(generators: Sequence[Generator], shape: Sequence[int]) -> Tensor:
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])


def _seed(seed: int) -> int:
    return whole("seeds", seed, 0, 2**63 - 1)
