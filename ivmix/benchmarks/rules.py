"""Which frames of a video file are its clip."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from ivmix.typed import check, whole


@dataclass(frozen=True)
class ClipRule:
    """`frames` of a file, every `stride`-th; None: all that there are, from the first.

    They begin with the "first" one, lie in the "middle", or are those of a "random" place that a key decides: the same
    whichever file comes before it, and whoever reads it.

    >>> ClipRule(16, start="middle").window(100, "v_Baking_g01_c01")
    range(42, 58)
    >>> ClipRule(16, stride=2, start="random").window(100, "v_Baking_g01_c01")
    range(3, 34, 2)

    ValueError for counts below 1, another start, and all frames from another one than the first.
    """

    frames: int | None = None
    stride: int = 1
    start: Literal["first", "middle", "random"] = "first"

    def __post_init__(self) -> None:
        whole("stride", self.stride, 1)
        check(self.start, Literal["first", "middle", "random"], "start")
        if self.frames is not None:
            whole("frames", self.frames, 1, otherwise=", or none for all")
        elif self.start != "first":
            raise ValueError(f"start is {self.start!r} of all frames: expected 'first', or how many frames are taken")

    @property
    def span(self) -> int:
        """How many frames a file has to have."""
        return 1 if self.frames is None else (self.frames - 1) * self.stride + 1

    def window(self, count: int, key: str) -> range:
        """The numbers of the frames that are taken of `count`. ValueError for too few."""
        places = count - self.span + 1
        if places < 1:
            raise ValueError(f"it has {count} frames, expected {self.span} or more")
        if self.frames is None:
            return range(0, count, self.stride)
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        start = {
            "first": 0,
            "middle": (places - 1) // 2,
            "random": int.from_bytes(digest[:8]) * places >> 64,
        }[self.start]
        return range(start, start + self.span, self.stride)
