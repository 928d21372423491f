"""Samplers side by side: the same prompts and noise through each, and what can be measured of the clips."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ivmix.evaluation.arms import ARMS, Arm
from ivmix.evaluation.legend import ONE_PATH
from ivmix.evaluation.report import LEVEL, Estimate, evaluations, markdown_table, show
from ivmix.generation.record import Record
from ivmix.generation.text_to_video import TextToVideo
from ivmix.models import parse_weights
from ivmix.sprites.judge import Judge
from ivmix.sprites.measure import Scores, measure
from ivmix.sprites.world import parse

# What is reported, in order; the table leaves `strict` out.
COLUMNS = (
    "degradation", "watermark", "residue", "sharpness", "colour", "shape", "identity", "jitter", "motion", "strict",
    "flicker",
)  # fmt: skip


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
    raw = call.get("raw_prompts", False)
    captions = [p if raw else "".join(text for text, _ in parse_weights(p)) for p in prompts]
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
        arms.append(entry)
        scores, first = outcome.scores, outcomes[0].scores
        if scores is None or first is None:
            continue
        for name in COLUMNS:
            estimate = Estimate.of(scores[name], outcome.record.prompts, None if scores is first else first[name])
            entry[name] = {key: value for key, value in asdict(estimate).items() if value is not None}
    return {"clips": len(outcomes[0].frames), "level": LEVEL, "arms": arms}


def columns(report: Mapping[str, Any]) -> list[str]:
    """The head of the table, whose `legend` says what each is."""
    measured = [name for name in COLUMNS if name in report["arms"][0] and name != "strict"]
    return ["sampler", *measured, "evaluations I+V", "s/clip"]


def table(report: Mapping[str, Any]) -> str:
    """`summary` as a Markdown table, one arm a row.

    Of clips whose frames follow no path no motion is shown: the net displacement of frames that jump may point
    anywhere, the right way too.
    """
    rows, measured = [], columns(report)[1:-2]
    for arm in report["arms"]:
        means = {name: show(name, arm[name]["mean"]) for name in measured}
        if measured and arm["jitter"]["mean"] >= ONE_PATH:
            means["motion"] = "-"
        rows.append([arm["label"], *means.values(), evaluations(arm["nfe"]), f"{arm['seconds_per_clip']:.2f}"])
    return markdown_table(columns(report), rows)
