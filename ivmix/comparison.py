"""Samplers side by side: the same prompts and noise through each, and what can be measured of the clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ivmix.evaluation.statistics import interval
from ivmix.models import parse_weights
from ivmix.sprites.judge import Judge
from ivmix.sprites.measure import Scores, measure
from ivmix.sprites.world import parse
from ivmix.text_to_video import Record, TextToVideo


@dataclass(frozen=True)
class Arm:
    """One sampler of a comparison: its label and the options that differ from the pair's defaults."""

    label: str
    options: Mapping[str, Any]


ARMS = (
    Arm("video model alone", {"sampler": "ddim"}),
    Arm("image model, frame by frame", {"sampler": "image"}),
    Arm("IV-Mixed, down-first", {"sampler": "zigzag", "sequence": "down-first"}),
    Arm("IV-Mixed, up-first", {"sampler": "zigzag", "sequence": "up-first"}),
    Arm("composite ODE", {"sampler": "composite"}),
    Arm("late mixture", {"sampler": "mixture"}),
)

# What the table shows, in order, with its format.
COLUMNS = {
    "degradation": "{:.2f}", "watermark": "{:.2f}", "sharpness": "{:.2f}", "colour": "{:.3f}", "shape": "{:.3f}",
    "motion": "{:.3f}", "strict": "{:.3f}", "identity": "{:.3f}", "jitter": "{:.2f}", "flicker": "{:.2f}",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Outcome:
    """One arm's clips (b f h w c) uint8, the record of the run, and scores where the pair brings a judge."""

    arm: Arm
    frames: np.ndarray
    record: Record
    scores: Scores | None


def compare(
    model: TextToVideo, prompts: Sequence[str], arms: Sequence[Arm] = ARMS, judge: Judge | None = None, **call: Any
) -> list[Outcome]:
    """Runs every arm on the same prompts and seeds; `call` goes to the model (seed, negative_prompt, progress, …).

    With a `judge`, clips are measured against the prompts without their weights: ValueError, before anything is
    sampled, for one that is no caption of the sprite world.
    """
    outcomes = []
    captions = ["".join(text for text, _ in parse_weights(prompt)) for prompt in prompts]
    if judge is not None:
        for caption in captions:
            parse(caption)
    for arm in arms:
        result = model(list(prompts), **call, **arm.options)
        scores = measure(result.frames, captions, judge) if judge is not None else None
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
        for name in COLUMNS if outcome.scores is not None else ():
            values, base = outcome.scores[name], outcomes[0].scores[name]  # type: ignore[index]
            low, high = interval(values, outcome.record.prompts)
            entry[name] = {"mean": float(values.mean()), "interval": [low, high]}
            if outcome is not outcomes[0]:
                difference = values - base
                entry[name]["difference"] = float(difference.mean())
                entry[name]["difference_interval"] = list(interval(difference, outcome.record.prompts))
        arms.append(entry)
    return {"clips": len(outcomes[0].frames), "level": 0.95, "arms": arms}


def table(report: Mapping[str, Any], intervals: bool = False) -> str:
    """`summary` as a Markdown table, one arm a row.

    `intervals` adds ± half the interval's width and leaves out the seconds, which say little beside other work.
    """
    measured = [name for name in COLUMNS if name in report["arms"][0]]
    head = ["sampler", *measured, "evaluations I+V", *([] if intervals else ["s/clip"])]
    rows = []
    for arm in report["arms"]:
        cells = [arm["label"]]
        for name in measured:
            low, high = arm[name]["interval"]
            text = COLUMNS[name].format(arm[name]["mean"])
            cells.append(f"{text} ± {COLUMNS[name].format((high - low) / 2)}" if intervals else text)
        cells.append(f"{arm['nfe'].get('image', 0)}+{arm['nfe'].get('video', 0)}")
        if not intervals:
            cells.append(f"{arm['seconds_per_clip']:.2f}")
        rows.append(cells)
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [head, *rows]]
    rule = ["-" * width for width in widths]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])
