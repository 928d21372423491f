"""What writing clips to video files changes: the first of a row are read again from theirs, and measured."""

from collections.abc import Sequence
from itertools import accumulate, takewhile
from pathlib import Path

from torch import Tensor

from ivmix.benchmarks.clips import Clips, Sampled
from ivmix.benchmarks.description import Description
from ivmix.benchmarks.measuring import Meter, collect, measure
from ivmix.benchmarks.plan import Batch
from ivmix.benchmarks.report import Written
from ivmix.benchmarks.results import References, Row
from ivmix.benchmarks.rules import ClipRule
from ivmix.benchmarks.videos import Files
from ivmix.evaluation.metrics.distances import frechet_of_features
from ivmix.evaluation.parts import differing, read_metadata
from ivmix.evaluation.protocols import PROTOCOLS

CLIPS = 32  # that are read again, or as many more as fill a batch


def label(clips: Clips) -> str:
    return f"{clips.label}, files"


def is_read(meter: Meter, files: Files, batch: Batch, folder: Path) -> bool:
    """Of these very files: written again, they are read again."""
    found = read_metadata(meter.path(files, batch, folder))
    return found is not None and not differing(found["settings"], meter.part_settings(files, batch, False))


def read_again(
    clips: Clips, row: Row, batches: Sequence[tuple[Batch, int]], meters: Sequence[Meter], benchmark: Description,
    references: References, folder: Path,
) -> Written | None:  # fmt: skip
    """Of the first clips of a row; None where they are files anyway, nothing measures them, or files are gone."""
    if not isinstance(clips, Sampled) or not meters:
        return None
    before = [0, *accumulate(counted for _, counted in batches[:-1])]
    some = [batch for batch, _ in takewhile(lambda one: one[1] < CLIPS, zip(batches, before, strict=True))]
    count = sum(counted for _, counted in some)
    prompts, samples = zip(*((prompt, batch.sample) for batch, _ in some for prompt in batch.prompts), strict=True)
    paths = tuple(map(clips.video, prompts, samples))
    if not all(path.exists() for path in paths):
        return None
    files = Files(label(clips), tuple(prompt.id for prompt in prompts), samples, paths, ClipRule())
    for batch, _ in some:
        if missing := [meter for meter in meters if not is_read(meter, files, batch, folder)]:
            measure(missing, files, batch, False, folder)
    moved, after = dict[str, float](), dict[str, Tensor]()
    for meter in meters:
        after[meter.name] = collect(meter, files, some, folder).pooled.features
        lossless = row.measured[meter.name].pooled.features[:count]
        moved[meter.name] = float((after[meter.name] - lossless).norm(dim=1).mean() / lossless.norm(dim=1).mean())
    distances = {
        metric: tuple(
            frechet_of_features(references.features[protocol].features.double(), x.double(), PROTOCOLS[protocol].ddof)
            for x in (row.measured[protocol].pooled.features[:count], after[protocol])
        )
        for metric, protocol in benchmark.distances.items()
        if protocol in references.features and protocol in after and count > 1
    }
    return Written(count, clips.label, moved, {name: (a, b) for name, (a, b) in distances.items()})
