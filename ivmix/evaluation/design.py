"""Which clips are drawn: clip k of repeat r has the index i = r * clips + k, the noise of seed + i and prompt k."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Design:
    """`repeats` times `clips`, and how many at a time."""

    clips: int = 256
    repeats: int = 3
    seed: int = 1000
    batch_size: int = 8

    def __post_init__(self) -> None:
        least = {"clips": 2, "repeats (--seeds)": 1, "seed": 0, "batch_size": 1}
        for name, low in least.items():
            value = getattr(self, name.split()[0])
            if value < low:
                raise ValueError(f"{name}={value}: expected {low} or more")
        if self.seed + len(self) > 2**63:  # the last one's is torch's largest
            raise ValueError(f"seed={self.seed}: expected a number below 2**63 with every clip's own")
        if (self.clips - 1) * self.repeats < 2:  # a caption is left out at a time, and two clips have a covariance
            raise ValueError(f"clips={self.clips} in one repeat: expected 3 or more")

    def __len__(self) -> int:
        return self.clips * self.repeats

    def captions(self, rows: range, prompts: Sequence[str]) -> list[str]:
        """What clips show: the prompts in turn, from the first on in every repeat."""
        return [prompts[i % self.clips % len(prompts)] for i in rows]

    def seeds(self, rows: range) -> list[int]:
        return [self.seed + i for i in rows]

    def batches(self) -> list[range]:
        return [range(i, min(i + self.batch_size, len(self))) for i in range(0, len(self), self.batch_size)]
