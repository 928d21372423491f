"""VBench's totals (arXiv 2311.17982, its repository at 45e79ec) from scores of its sixteen dimensions."""

from collections.abc import Mapping
from dataclasses import dataclass

from ivmix.typed import check_keys

# What is 0 and what is 1 of each, and its weight.
QUALITY = {
    "subject_consistency": (0.1462, 1.0, 1.0), "background_consistency": (0.2615, 1.0, 1.0),
    "temporal_flickering": (0.6293, 1.0, 1.0), "motion_smoothness": (0.706, 0.9975, 1.0),
    "dynamic_degree": (0.0, 1.0, 0.5), "aesthetic_quality": (0.0, 1.0, 1.0), "imaging_quality": (0.0, 1.0, 1.0),
}  # fmt: skip
SEMANTIC = {
    "object_class": (0.0, 1.0, 1.0), "multiple_objects": (0.0, 1.0, 1.0), "human_action": (0.0, 1.0, 1.0),
    "color": (0.0, 1.0, 1.0), "spatial_relationship": (0.0, 1.0, 1.0), "scene": (0.0, 0.8222, 1.0),
    "appearance_style": (0.0009, 0.2855, 1.0), "temporal_style": (0.0, 0.364, 1.0),
    "overall_consistency": (0.0, 0.364, 1.0),
}  # fmt: skip


@dataclass(frozen=True)
class Totals:
    quality: float
    semantic: float
    missing: tuple[str, ...]  # dimensions that were not given and count as 0

    @property
    def total(self) -> float:
        return (4 * self.quality + self.semantic) / 5


def totals(scores: Mapping[str, float]) -> Totals:
    """VBench's totals of scores by dimension. A missing one counts as 0, as in its code, so that totals of a few say
    little (`Totals.missing`). ValueError for a dimension that is none."""
    known = QUALITY | SEMANTIC
    check_keys(scores, known, (), "scores")
    return Totals(_mean(scores, QUALITY), _mean(scores, SEMANTIC), tuple(name for name in known if name not in scores))


def _mean(scores: Mapping[str, float], scales: Mapping[str, tuple[float, float, float]]) -> float:
    """Weighted, of what is there, scaled."""
    given = {name: scale for name, scale in scales.items() if name in scores}
    summed = sum(weight * (scores[name] - low) / (high - low) for name, (low, high, weight) in given.items())
    return summed / sum(weight for _, _, weight in scales.values())
