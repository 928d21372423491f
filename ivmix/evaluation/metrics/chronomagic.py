"""ChronoMagic-Bench's CHScore and MTScore (arXiv 2406.18522) from what their networks give: the arithmetic after them.

Of the benchmark's repository at e6b75ff. The CHScore was another before 2024-09-30: older numbers are not comparable.
Both are means over clips, then over parts (`mean_of_parts`), and have traps, which stay visible here:

- a clip without any missing point has CHScore 0, the worst there is, and one with hardly any is in the hundreds, so
  that a mean over clips is made by a few still ones: `Coherence` has the median and the zeros beside it;
- two of CHScore's five terms are one count, over 20 and over 0.625 times the frames: of clips with cuts as frequent the
  longer scores worse;
- the MTScore counts a sentence among the five likeliest of ten alone, and what that leaves out is not shared out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

JUMP = 0.1  # share of points: a larger change from one frame to the next is a cut
TERMS = {  # weight, and what a term is divided by
    "missing": (0.35, 0.9368749856948853),
    "deviation": (0.25, 0.8997353911399841),
    "cut frames": (0.15, 0.625),
    "cuts": (0.15, 20),
    "largest change": (0.10, 1.0),
}
SENTENCES, LIKELIEST = 10, 5


@dataclass(frozen=True)
class Coherence:
    """CHScores of clips (n,), and the sums they are the reciprocals of, in which less is better."""

    scores: NDArray[np.float64]  # 0 where the sum is
    sums: NDArray[np.float64]

    @classmethod
    def of(cls, sums: Sequence[float]) -> "Coherence":
        """
        >>> found = Coherence.of([0.02, 0.04, 0.0])
        >>> found.mean, found.median, found.perfect
        (25.0, 25.0, 1)
        """
        values = np.asarray(sums, float)
        return cls(np.divide(1, values, out=np.zeros_like(values), where=values != 0), values)

    @property
    def mean(self) -> float:
        """What the benchmark reports."""
        return float(self.scores.mean())

    @property
    def median(self) -> float:
        return float(np.median(self.scores))

    @property
    def perfect(self) -> int:
        """Clips that lose no point, and score 0."""
        return int((self.sums == 0).sum())


def missing_points(tracks: Tensor, visible: Tensor) -> Tensor:
    """(t,) float32: the share of points that are lost in each frame.

    Of tracks (t p 2) and their visibility (t p), those are missing that are not seen, unless they have moved on the way
    that they went in the first half of the clip: those are taken to have left. ValueError for other shapes, NaN, or
    fewer than three frames, of whose changes there is no deviation.
    """
    if tracks.ndim != 3 or tracks.shape[2:] != (2,) or visible.shape != tracks.shape[:2] or 0 in tracks.shape:
        given = f"tracks {tuple(tracks.shape)}, visible {tuple(visible.shape)}"
        raise ValueError(f"{given}: expected (t p 2) and (t p), of one clip")
    if len(tracks) < 3:
        raise ValueError(f"tracks has {len(tracks)} frames: expected three or more")
    if not bool(tracks.isfinite().all()):
        raise ValueError("tracks holds NaN or infinite values")
    moved = tracks - tracks[0]
    left = (moved * moved[len(tracks) // 2]).sum(2) > 0
    return ((visible == 0) & ~left).sum(1).float() / tracks.shape[1]


def incoherence(tracks: Tensor, visible: Tensor) -> tuple[float, dict[str, float]]:
    """The sum that a clip's CHScore is the reciprocal of, and its terms, weighted, by the names of `TERMS`.

    CoTracker2 gives the points, 30 by 30 of the first frame. In float32, as a change of just `JUMP` is a cut by
    rounding. ValueError as for `missing_points`.
    """
    missing = missing_points(tracks, visible)
    change = missing.diff().abs()
    cuts = int((change > JUMP).sum())
    raw = {
        "missing": float(missing.mean()), "deviation": float(change.std()), "cut frames": cuts / len(missing),
        "cuts": cuts, "largest change": float(change.max()),
    }  # fmt: skip
    terms = {name: weight * raw[name] / largest for name, (weight, largest) in TERMS.items()}
    return sum(terms.values()), terms


@dataclass(frozen=True)
class Metamorphosis:
    """Of clips (n,): the probability that sentences of time-lapses have, and of ordinary clips, among the likeliest."""

    score: NDArray[np.float64]  # MTScore
    ordinary: NDArray[np.float64]

    @property
    def uncounted(self) -> NDArray[np.float64]:
        """What the five unlikeliest sentences have."""
        return 1 - self.score - self.ordinary


def metamorphosis(logits: Tensor) -> Metamorphosis:
    """MTScore of logits (n 10): 100 times the cosines of clips with the benchmark's sentences, in its order, five of
    ordinary clips and five of time-lapses. ValueError for other shapes, NaN or infinite ones."""
    if logits.ndim != 2 or logits.shape[1] != SENTENCES or not bool(logits.isfinite().all()):
        raise ValueError(f"logits has shape {tuple(logits.shape)}: expected (n, {SENTENCES}), all finite")
    likely = logits.double().softmax(1).topk(LIKELIEST)
    lapse = likely.indices >= SENTENCES // 2
    return Metamorphosis((likely.values * lapse).sum(1).numpy(), (likely.values * ~lapse).sum(1).numpy())


def mean_of_parts(parts: Sequence[Sequence[float] | NDArray[np.float64]]) -> float:
    """The mean of every part's clips, and then of parts. ValueError for a part without clips."""
    if not parts or any(len(part) == 0 for part in parts):
        raise ValueError(f"parts hold {[len(part) for part in parts]} clips: expected one or more in each")
    return float(np.mean([np.mean(part) for part in parts]))
