"""What the page's buttons do: a clip drawn, or the same noise through several samplers, told step by step."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivmix.demo.form import Form
from ivmix.demo.line import Tell
from ivmix.evaluation.arms import Arm
from ivmix.evaluation.comparison import Outcome, Scorer, columns, summary, table
from ivmix.evaluation.legend import bullets
from ivmix.generation.result import Result, record_path
from ivmix.generation.text_to_video import TextToVideo
from ivmix.models import parse_weights
from ivmix.samplers.samplers import SAMPLERS
from ivmix.solvers import Run
from ivmix.sprites.benchmark import scorer

BESIDE = ("ddim", "image", "zigzag", "composite")  # what is compared with the sampler chosen


@dataclass(frozen=True)
class Step:
    """A sampler's step of so many, 0 before the first; which of how many samplers it is."""

    sampler: str
    step: int
    total: int
    number: int = 1
    of: int = 1


@dataclass(frozen=True)
class Clip:
    """One clip as it was written, its record beside it."""

    sampler: str
    video: Path
    record: Path
    evaluations: Mapping[str, int]
    seconds: float


@dataclass(frozen=True)
class Table:
    """What was measured of the clips, and what its columns are, in Markdown."""

    text: str
    legend: str


@dataclass(frozen=True)
class Note:
    """A line that the person should know of."""

    text: str


def sample(model: TextToVideo, form: Form, folder: Path, tell: Tell) -> None:
    """Draws the form's clip, and writes it and its record to `folder`."""
    call, sampling = form.call(), form.sampling()
    with noting(tell):
        result = draw(model, form.prompt, call, sampling, tell)
        tell(save(result, folder))


def compare(model: TextToVideo, form: Form, folder: Path, tell: Tell) -> None:
    """Draws the form's prompt from one noise by each of `arms`, and measures the clips if the pair has a judge."""
    call, chosen = form.call(), arms(form)
    for arm in chosen:  # what cannot be is found before the first is drawn
        model.record(form.prompt, **plain(call, arm), **arm.options)
    results = []
    with noting(tell):
        for number, arm in enumerate(chosen, 1):
            place = number, len(chosen)
            results.append(draw(model, form.prompt, plain(call, arm), arm.options, tell, place))
            tell(save(results[-1], folder))
        if (judge := scorer(model.pair)) is not None:
            try:
                tell(measured(judge, form.prompt, chosen, results))
            except ValueError as error:
                tell(Note(f"not measured: {error}"))


def arms(form: Form) -> list[Arm]:
    """The video model alone, the image model alone, IV-Mixed and the composite at the pair's defaults, and the sampler
    chosen as the form has it."""
    options = {name: {"sampler": name} for name in BESIDE} | {form.sampler: form.sampling()}
    return [Arm(name, own) for name, own in options.items()]


def plain(call: Mapping[str, Any], arm: Arm) -> dict[str, Any]:
    """A call without what has no effect on a sampler that runs one of the models alone."""
    models = SAMPLERS[arm.options["sampler"]].models
    own = {"image": ["image_negative_prompt"], "video": ["window", "overlap", "noise"]}
    idle = {name for model, names in own.items() if model not in models for name in names}
    return {name: value for name, value in call.items() if name not in idle}


def draw(
    model: TextToVideo, prompt: str, call: Mapping[str, Any], sampling: Mapping[str, Any], tell: Tell,
    place: tuple[int, int] = (1, 1),
) -> Result:  # fmt: skip
    """One clip, each of its steps told."""
    name = str(sampling["sampler"])

    def on_step(step: int, total: int, _: Run) -> None:
        tell(Step(name, step, total, *place))

    return model(prompt, **call, **sampling, callback=on_step)


def save(result: Result, folder: Path) -> Clip:
    """Writes a clip and its record, named after its sampler."""
    made = result.record
    [path] = result.save(folder / f"{made.sampling['sampler']}.mp4")
    return Clip(made.sampling["sampler"], path, record_path(path), made.nfe, made.seconds)


def measured(scorer: Scorer, prompt: str, chosen: Sequence[Arm], results: Sequence[Result]) -> Table:
    """The table of `ivmix compare`. ValueError for clips that cannot be measured."""
    caption = "".join(text for text, _ in parse_weights(prompt))
    scorer.check(caption)
    report = summary([
        Outcome(arm, result.frames, result.record, scorer.measure(result.frames, [caption]))
        for arm, result in zip(chosen, results, strict=True)
    ])  # fmt: skip
    return Table(table(report, scorer.columns), bullets(columns(report, scorer.columns)))


@contextmanager
def noting(tell: Tell) -> Iterator[None]:
    """Tells what was warned of inside, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, UserWarning)):
        tell(Note(text))
