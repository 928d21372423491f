"""Which clips a benchmark asks for: samples of every prompt, in an order whose beginnings are fair samples of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from ivmix.benchmarks.prompts import Prompt, clip_seed

MOST = 10_000  # samples of a prompt: a file is named for each before one is drawn


@dataclass(frozen=True)
class Batch:
    """Clips that are drawn or read together: one sample of some prompts."""

    sample: int  # from 1
    start: int  # place of its first prompt in the order
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]  # of the noise of each clip; none where clips are files
    turn: int  # decides who computes it

    @property
    def name(self) -> str:
        """As part of a file's name."""
        return f"{self.sample}-{self.start:06d}"

    @property
    def captions(self) -> list[str]:
        return [prompt.text(self.sample) for prompt in self.prompts]

    @property
    def ids(self) -> list[str]:
        return [prompt.id for prompt in self.prompts]


def check_numbers(prompts: int | None, clips: int | None, samples: int, seed: int, batch_size: int) -> None:
    """ValueError for numbers of which there is no plan; None where they are not known."""
    if prompts == 1:
        raise ValueError("there is one prompt: expected two or more")
    if clips is not None and not 2 <= clips <= (clips if prompts is None else prompts):
        expected = "2 or more" if prompts is None else f"2 to {prompts}, the prompts there are"
        raise ValueError(f"clips={clips}: expected {expected}")
    if samples > MOST:
        raise ValueError(f"samples (--seeds)={samples}: expected 1 to {MOST}")
    for name, value, least in (("samples (--seeds)", samples, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name}={value}: expected {least} or more")


@dataclass(frozen=True)
class Plan:
    """The first `clips` of `prompts`, as `prompts.nested` orders them, `samples` times each.

    A clip's noise is a hash of seed, prompt and sample: the same in any order, number and batch. Batches are cut of all
    prompts, so that a run of the first few is a part of a run of all; one that is counted in part is drawn whole.
    """

    prompts: tuple[Prompt, ...]
    clips: int
    samples: int
    seed: int = 0
    batch_size: int = 8

    def __post_init__(self) -> None:
        check_numbers(len(self.prompts), self.clips, self.samples, self.seed, self.batch_size)

    def __len__(self) -> int:
        return self.clips * self.samples

    @property
    def batches(self) -> list[Batch]:
        """The first sample of all prompts, then the next."""
        places = [(sample, start) for sample in range(1, self.samples + 1)
                  for start in range(0, self.clips, self.batch_size)]  # fmt: skip
        return [self._batch(sample, start, turn) for turn, (sample, start) in enumerate(places)]

    def _batch(self, sample: int, start: int, turn: int) -> Batch:
        prompts = self.prompts[start : start + self.batch_size]
        return Batch(sample, start, prompts, tuple(clip_seed(self.seed, p.id, sample) for p in prompts), turn)

    def counted(self, batch: Batch) -> int:
        """How many of its clips are among the first."""
        return min(len(batch.prompts), self.clips - batch.start)


def files_plan(ids: Sequence[str], batch_size: int = 16) -> list[Batch]:
    """Batches of files that are clips of no prompt."""
    prompts = tuple(Prompt(one, ("",)) for one in ids)
    starts = range(0, len(ids), batch_size)
    return [Batch(1, start, prompts[start : start + batch_size], (), turn) for turn, start in enumerate(starts)]
