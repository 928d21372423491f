"""A distance with all that belongs beside it: the same of full sets, an unbiased one, its error, and its floor."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ivmix.evaluation.features import FeatureSet, check_same_features
from ivmix.evaluation.metrics.distances import frechet_of_features
from ivmix.evaluation.metrics.leave_out import Kept, frechet_of_kept, mmd_of_kept
from ivmix.evaluation.metrics.statistics import jackknife
from ivmix.evaluation.protocols import Protocol

DRAWS = 20  # of a floor
GROUPS = 150  # that a jackknife leaves out in turn, at most
SAME = 1e-3  # of a feature's length: nearer than that are two reads of one clip


@dataclass(frozen=True)
class Floor:
    """What real clips are from real ones, under the protocol: the mean of draws without replacement, the deviation
    between them, the least and the largest."""

    mean: float
    deviation: float
    low: float
    high: float
    clips: int  # drawn
    against: int  # others
    draws: int

    @classmethod
    def of(cls, values: Sequence[float], clips: int, against: int) -> "Floor":
        deviation = float(np.std(values, ddof=1))
        return cls(float(np.mean(values)), deviation, min(values), max(values), clips, against, len(values))


@dataclass(frozen=True)
class Distance:
    """What `measure_distance` finds: the value by a protocol, and what it is read beside."""

    protocol: Protocol
    value: float  # by the protocol, the mean of parts
    parts: tuple[float, ...]
    full: float  # Fréchet distance of full sets in double precision, the mean of parts
    full_error: float | None  # jackknife standard error over draws of the clips; of fewer than 4 there is none
    mmd: float  # unbiased, degree 3, full sets, the mean of parts
    mmd_error: float | None
    floor: Floor | None
    no_floor: str  # why there is none
    real: int  # clips
    fake: tuple[int, ...]  # clips of each part
    length: int  # of a feature
    extractor: str
    weights: str
    warnings: tuple[str, ...]


def measure_distance(
    protocol: Protocol,
    real: FeatureSet,
    fakes: Sequence[FeatureSet],
    pool: FeatureSet | None = None,
    names: Sequence[str] = (),
    draws: int = DRAWS,
    clusters: Sequence[str] = (),
    times: int = 1,
) -> Distance:
    """How far each of `fakes` is from `real` by `protocol`, and the mean.

    The floor is of as many clips as the first of `fakes` has: drawn of `pool`, other real clips, against `real`, or
    drawn of `real` against its rest where that is as large; there is none of 0 `draws`. Errors are of full sets, from
    leaving out a clip of every part at a time (or one of at most 150 groups), by their ids where all parts have them,
    or all of a name of `clusters`, one for each row of all parts. Of `real` every clip is taken `times` over, but by
    the MMD, which copies bias, and by the floor. ValueError for features that cannot be compared, naming them by
    `names` (of `real` and each fake).
    """
    names = names or ("real", *(f"part {k + 1}" for k in range(len(fakes))))
    for fake, name in zip(fakes, names[1:], strict=True):
        check_same_features(real, fake, names[0], name)
        check_same_features(fakes[0], fake, names[1], name)
        for side, of in ((real, names[0]), (fake, name)):
            if len(side) < 2:
                raise ValueError(f"{of} holds the features of one clip: expected two or more")
    if pool is not None:
        check_same_features(real, pool, names[0], "the pool")
    x, ys = real.features.double(), [fake.features.double() for fake in fakes]
    taken = x.repeat(times, 1)
    parts = tuple(protocol.distance(taken, y) for y in ys)
    fulls = parts if _is_full(protocol) else [frechet_of_features(taken, y, protocol.ddof) for y in ys]
    mmds = [mmd_of_kept(x, y) for y in ys]
    groups = _groups(clusters or _ids(fakes))
    return Distance(
        protocol, _mean(parts), parts,
        _mean(fulls), _error([frechet_of_kept(taken, y, protocol.ddof) for y in ys], ys, groups),
        _mean([mmd(np.arange(len(y))) for mmd, y in zip(mmds, ys, strict=True)]), _error(mmds, ys, groups),
        *floor(protocol, x, len(ys[0]), None if pool is None else pool.features.double(), draws),
        len(taken), tuple(map(len, ys)), x.shape[1], _known("extractor", real, *fakes), _known("weights", real, *fakes),
        tuple(caveats(protocol, len(taken), list(map(len, ys)), x.shape[1])),
    )  # fmt: skip


def floor(
    protocol: Protocol, real: Tensor, clips: int, pool: Tensor | None = None, draws: int = DRAWS
) -> tuple[Floor | None, str]:
    """Of `clips` real clips; or None and why there is none. Features are (m, d) and (n, d) float64."""
    if draws == 0:
        return None, "none was drawn"
    rng = np.random.default_rng(0)
    if pool is not None:
        others = without(pool, real)
        if len(others) < clips:
            return None, f"the pool holds {len(others)} clips that the reference does not, {clips} are needed"
        against = [real] * draws
        drawn = [others[rng.permutation(len(others))[:clips]] for _ in range(draws)]
    elif len(real) >= 2 * clips:
        orders = [rng.permutation(len(real)) for _ in range(draws)]
        drawn, against = [real[order[:clips]] for order in orders], [real[order[clips:]] for order in orders]
    else:
        return None, f"it takes twice {clips} real clips, or a pool of others; the reference has {len(real)}"
    values = [protocol.distance(a, b) for a, b in zip(against, drawn, strict=True)]
    return Floor.of(values, clips, len(against[0])), ""


def without(pool: Tensor, real: Tensor) -> Tensor:
    """Features (k, d) of `pool` (n, d) that are no clip of `real` (m, d)."""
    nearest = torch.cat([torch.cdist(part, real).min(1).values for part in pool.split(1024)])
    return pool[nearest > SAME * pool.norm(dim=1)]


def caveats(protocol: Protocol, real: int, fakes: Sequence[int], length: int) -> list[str]:
    """What a reader of the number has to know of these clips."""
    said, least = [], min(real, *fakes)
    if least < length:
        said.append(
            f"{least} clips for features of length {length}: with fewer clips than that a Fréchet distance is mostly "
            "bias by their number; compare at one number of clips alone, beside the floor"
        )
    if protocol.length not in (None, length):
        said.append(f"{protocol.name} is of {protocol.of}, {protocol.length} a clip: these have {length}")
    if any(n != real for n in fakes):
        counts = f"{real} real clips and {', '.join(map(str, fakes))} others"
        if protocol.sizes:
            said.append(f"{counts}: subsets are drawn from each side's own range, so their indices differ")
        if protocol.equal:
            said.append(f"{counts}: the original of {protocol.name} refuses sides of different size")
    if protocol.clips and {real, *fakes} != {protocol.clips}:
        said.append(f"{protocol.name} is meant for {protocol.clips:,} clips of either side; all were taken as they are")
    return said


def _is_full(protocol: Protocol) -> bool:
    return not protocol.sizes and not protocol.single


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _ids(fakes: Sequence[FeatureSet]) -> list[str]:
    """Of every row of all parts."""
    if all(fake.ids for fake in fakes):
        return [name for fake in fakes for name in fake.ids]
    return [f"{part} {row}" for part, fake in enumerate(fakes) for row in range(len(fake))]


def _groups(names: Sequence[str]) -> list[str]:
    """The group of every row: those of one name in one."""
    number = {name: str(k % GROUPS) for k, name in enumerate(dict.fromkeys(names))}
    return [number[name] for name in names]


def _error(kept: Sequence[Kept], ys: Sequence[Tensor], clusters: Sequence[str]) -> float | None:
    """Of the mean of parts; None where too few clips are left when one is left out."""
    if min(map(len, ys)) < 4:
        return None
    ends = np.cumsum([0, *map(len, ys)])

    def distance(rows: np.ndarray) -> float:
        """The rows are numbers over all parts."""
        split = [rows[(rows >= a) & (rows < b)] - a for a, b in pairwise(ends)]
        return _mean([of(index) for of, index in zip(kept, split, strict=True)])

    return jackknife(distance, np.arange(ends[-1]), clusters)


def _known(what: str, *sets: FeatureSet) -> str:
    return next((said for one in sets if (said := getattr(one, what))), "")
