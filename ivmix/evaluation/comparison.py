"""Samplers side by side: the same prompts and noise through each, and what can be measured of the clips."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ivmix.evaluation.arms import ARMS, Arm
from ivmix.evaluation.legend import COSTS, Column
from ivmix.evaluation.report import LEVEL, Estimate, evaluations, markdown_table
from ivmix.generation.record import Record
from ivmix.generation.text_to_video import TextToVideo
from ivmix.models import parse_weights

Scores = Mapping[str, np.ndarray]  # a value a clip, (b,), by the column's name


@dataclass(frozen=True)
class Scorer:
    """What can be said of a few clips beside what they were to show."""

    check: Callable[[str], object]  # ValueError for a prompt whose clips cannot be measured
    measure: Callable[[np.ndarray, Sequence[str]], Scores]  # of clips (b f h w c) uint8 and their prompts
    columns: Mapping[str, Column]  # of them; the table shows the main ones


@dataclass(frozen=True, eq=False)
class Outcome:
    """One arm's clips (b f h w c) uint8, the record of the run, and scores where there is a scorer."""

    arm: Arm
    frames: np.ndarray
    record: Record
    scores: Scores | None


def compare(
    model: TextToVideo, prompts: Sequence[str], arms: Sequence[Arm] = ARMS, scorer: Scorer | None = None, **call: Any
) -> list[Outcome]:
    """Runs every arm on the same prompts and seeds; `call` goes to the model (seed, negative_prompt, progress, …).

    With a `scorer`, clips are measured against the prompts without their weights: ValueError, before anything is
    sampled, for one that it cannot measure.
    """
    outcomes = []
    raw = call.get("raw_prompts", False)
    captions = [p if raw else "".join(text for text, _ in parse_weights(p)) for p in prompts]
    if scorer is not None:
        for caption in captions:
            scorer.check(caption)
    for arm in arms:
        result = model(list(prompts), **call, **arm.options)
        scores = scorer.measure(result.frames, captions) if scorer is not None else None
        outcomes.append(Outcome(arm, result.frames, result.record, scores))
    return outcomes


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Means with intervals, and paired differences to the first arm, ready for JSON."""
    arms = []
    for outcome in outcomes:
        entry: dict[str, Any] = {
            "label": outcome.arm.label,
            "sampling": outcome.record.sampling,
            "nfe": outcome.record.nfe,
            "forwards": outcome.record.forwards,
            "seconds_per_clip": round(outcome.record.seconds / len(outcome.frames), 3),
        }
        arms.append(entry)
        scores, first = outcome.scores, outcomes[0].scores
        if scores is None or first is None:
            continue
        for name in scores:
            estimate = Estimate.of(scores[name], outcome.record.prompts, None if scores is first else first[name])
            entry[name] = {key: value for key, value in asdict(estimate).items() if value is not None}
    return {"clips": len(outcomes[0].frames), "level": LEVEL, "arms": arms}


def columns(report: Mapping[str, Any], known: Mapping[str, Column]) -> dict[str, Column]:
    """What the table of `summary` shows beside the samplers: the main ones of the `known` columns, and costs."""
    return {name: c for name, c in known.items() if c.main and name in report["arms"][0]} | COSTS


def table(report: Mapping[str, Any], known: Mapping[str, Column]) -> str:
    """`summary` as a Markdown table, one arm a row; what says nothing beside the other means is not shown."""

    def cell(arm: Mapping[str, Any], name: str, column: Column) -> str:
        other, limit = column.void or (name, float("inf"))
        return "-" if arm[other]["mean"] >= limit else column.show(arm[name]["mean"])

    measured, rows = [item for item in columns(report, known).items() if item[0] not in COSTS], []
    for arm in report["arms"]:
        cells = (cell(arm, name, column) for name, column in measured)
        rows.append([arm["label"], *cells, evaluations(arm["nfe"]), COSTS["s/clip"].show(arm["seconds_per_clip"])])
    return markdown_table(["sampler", *columns(report, known)], rows)
