"""What samplers cost on this machine, paired: every round runs each once, in turn, so that a slow minute hits all."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ivmix.evaluation.arms import Arm
from ivmix.evaluation.report import evaluations, markdown_table
from ivmix.generation.text_to_video import TextToVideo
from ivmix.progress import progress_bar
from ivmix.typed import whole

# The first is what the others are divided by: what the paper compares with.
ARMS = (
    Arm("video model alone, 50 steps", {"sampler": "ddim", "steps": 50}),
    Arm("composite ODE", {"sampler": "composite"}),
    Arm("composite ODE, 20 steps", {"sampler": "composite", "steps": 20}),
    Arm("late mixture", {"sampler": "mixture"}),
    Arm("IV-Mixed", {"sampler": "zigzag"}),
    Arm("IV-Mixed, 50 steps", {"sampler": "zigzag", "steps": 50}),
)


@dataclass(frozen=True)
class Timing:
    """One arm: evaluations a clip, and one entry a round of the seconds that its `clips` took, prompts to frames."""

    arm: Arm
    nfe: Mapping[str, int]
    seconds: tuple[float, ...]
    clips: int = 1

    def ratios(self, baseline: "Timing") -> list[float]:
        """Its time over the baseline's in the same round."""
        return [a / b for a, b in zip(self.seconds, baseline.seconds, strict=True)]


def bench(
    model: TextToVideo, prompt: str, arms: Sequence[Arm] = ARMS, rounds: int = 5, progress: bool = False,
    batch_size: int = 1, **call: Any,
) -> list[Timing]:  # fmt: skip
    """Times one batch of clips of `prompt` by every arm, `rounds` times; `call` goes to the model (frames, height,
    width, …).

    A first round of three steps an arm, in which kernels are chosen and memory is allocated, is not counted. ValueError
    for fewer than one round, or clip, or no arm.
    """
    prompts = [prompt] * whole("batch_size", batch_size, 1)
    call["batch_size"] = batch_size
    whole("rounds", rounds, 1)
    if not arms:
        raise ValueError("arms: expected at least one sampler, the baseline")
    for arm in arms:  # what cannot be is found before the first is timed
        model.record(prompts, **call, **arm.options)
    nfe, seconds = dict[str, Mapping[str, int]](), {arm.label: list[float]() for arm in arms}
    with progress_bar((1 + rounds) * len(arms), progress, unit="clip") as bar:
        for number in range(1 + rounds):
            for arm in arms:
                bar.set_description(arm.label)
                options = dict(arm.options) | ({"steps": 3} if number == 0 else {})
                began = time.perf_counter()
                nfe[arm.label] = model(prompts, **call, **options).record.nfe  # frames on the CPU: nothing is pending
                if number:
                    seconds[arm.label].append(time.perf_counter() - began)
                bar.update()
    return [Timing(arm, nfe[arm.label], tuple(seconds[arm.label]), batch_size) for arm in arms]


def table(timings: Sequence[Timing]) -> str:
    """Markdown: medians over rounds, and the range of the ratios to the first arm."""
    rows = []
    for timing in timings:
        ratios = timing.ratios(timings[0])
        spread = "" if timing is timings[0] else f"{min(ratios):.2f} - {max(ratios):.2f}"
        each = statistics.median(timing.seconds) / timing.clips
        rows.append([timing.arm.label, evaluations(timing.nfe), f"{each:.2f}", f"{3600 / each:.0f}",
                     f"{statistics.median(ratios):.2f}", spread])  # fmt: skip
    return markdown_table(["sampler", "evaluations I+V", "s/clip", "clips/hour", "ratio", "range"], rows)
