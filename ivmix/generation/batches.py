"""Which clips run together: that decides their last bits."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Batch:
    """Clips that run together."""

    clips: Sequence[int]  # which clip of the call each place holds
    kept: slice  # the places whose clips are wanted

    @property
    def places(self) -> range:
        """The places that are kept."""
        return range(len(self.clips))[self.kept]


def in_order(count: int, size: int) -> list[Batch]:
    """`count` clips, `size` at a time; the last batch holds what is left.

    >>> [list(batch.clips) for batch in in_order(5, 2)]
    [[0, 1], [2, 3], [4]]
    """
    starts = range(0, count, size)
    return [Batch(range(start, min(start + size, count)), slice(None)) for start in starts]


def among_copies(size: int, place: int) -> list[Batch]:
    """One clip at a place in a batch of copies of it: to the bit what it was there among others.

    >>> among_copies(3, 1)
    [Batch(clips=(0, 0, 0), kept=slice(1, 2, None))]
    """
    return [Batch((0,) * size, slice(place, place + 1))]
