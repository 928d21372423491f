"""What is said of a run before it begins, where it is not what a reader of the call would expect."""

from collections.abc import Iterator

from ivmix.generation.job import Job
from ivmix.generation.traffic import LINK, moved, turns
from ivmix.models.quoting import printable
from ivmix.pairs.bridge import COMBINING, source_of_atoms
from ivmix.samplers.few_steps import LCM
from ivmix.solvers.checks import within
from ivmix.solvers.methods.ivmixed import inside
from ivmix.solvers.plans.legs import progress


def announcements(job: Job) -> Iterator[str]:
    """Where a run that is to mix does not, or a model has no part in it, or is not what it is taken for."""
    yield from of_offload(job)
    yield from cut_into_windows(job)
    if "video" in job.sampling.models and job.pair.video.unet.config.temporal is None:
        yield "the video model has no temporal layers: its frames know nothing of each other"
    yield from of_distillation(job)
    yield from of_steps(job)
    yield from of_crossing(job)
    name, n = job.sampling.name, job.sampling.steps
    levels = {leg.step: leg.source for leg in job.legs if leg.label == "step"}
    if name == "zigzag" and all(leg.label == "step" for leg in job.legs):
        yield f"none of {len(levels)} steps mixes, as the first or last ones of a zigzag never do: take more"
        return
    if name == "videoelevator" and all(leg.label == "step" for leg in job.legs):
        yield f"none of {len(levels)} steps is refined: the video model has no part in the run"
    begin, end = getattr(job.sampling, "interval", (0.0, 1.0))
    if (begin, end) != (0.0, 1.0) and not any(inside(progress(i, n), (begin, end)) for i in levels):
        yield f"none of {len(levels)} steps begins in the interval {begin:g}:{end:g}: none mixes"
    if name in ("switch", "turns"):
        for idle in {"video", "image"} - {leg.network for leg in job.legs}:
            yield f"no step begins where the {idle} model has its turn: it has no part in the run"
        return
    if name == "w2sd":  # whose image model is asked where a step ends
        levels = {leg.step: leg.target for leg in job.legs if leg.label == "step" and leg.target > 0}
    low, high = source_of_atoms(job.pair, job.sampling, job.pair.image.network()).reach
    outside = sum(not within(level, low, high) for level in levels.values())
    if outside and name in ("zigzag", "composite", "mixture", "w2sd", "autoguidance", "blend"):
        yield (
            f"the video model takes {outside} of {len(levels)} steps alone: the image model knows levels from {low:g} "
            f"to {high:g}"
        )


def cut_into_windows(job: Job) -> Iterator[str]:
    """What an evaluation of a clip is where it is not one of the network's."""
    _, frames, h, w = job.pair.latent_shape(job.record.frames, job.record.height, job.record.width)
    for model in job.sampling.models:
        windows = job.windows.count(model, frames, h, w)
        if windows > 1:
            f, height, width = job.windows.largest(model, frames, h, w)
            factor, times = job.pair.vae.config.factor, windows * f * height * width / (frames * h * w)
            yield (
                f"the {model} model has the clip in windows of {f} frame{'s' * (f > 1)} of {factor * height}x"
                f"{factor * width}: each "
                f"evaluation calls it {windows} times, for {times:.3g} times the latents that there are"
            )


def of_offload(job: Job) -> Iterator[str]:
    """What a run pays for weights that come and go."""
    if job.pair.offload is not None:
        bytes = moved(turns(job))
        yield (
            f"offload: {two_digits(bytes / 1e9)} GB of weights go to {job.pair.device} for every batch, at PCIe 3.0's "
            f"{LINK / 1e9:g} GB/s in {two_digits(bytes / LINK)} s"
        )


def two_digits(value: float) -> str:
    """Rounded, and written out.

    >>> two_digits(414.6), two_digits(0.0123), two_digits(1250)
    ('410', '0.012', '1,200')
    """
    return f"{float(f'{value:.1e}'):,g}"


def of_crossing(job: Job) -> Iterator[str]:
    """What a bridge costs, which no evaluation counts."""
    bridge = job.pair.bridge
    if bridge is not None and job.sampling.name in COMBINING:
        yield f"the image model has latents of its own: each evaluation with it also takes {bridge.crossing}"


def of_distillation(job: Job) -> Iterator[str]:
    """Where a sampler takes ends of trajectories for means, or means for ends."""
    name, few = job.sampling.name, isinstance(job.sampling, LCM)
    consistency = {side.name for side in job.pair.sides if side.consistency} & {*job.sampling.models}
    for model in () if few else sorted(consistency):
        yield (
            f"the {model} model is a consistency model, which has no scores: what sampler {name!r} does with them is "
            "meaningless; expected lcm, blend or turns"
        )
    if few and "video" not in consistency:
        yield f"the video model is not said to be a consistency model: {name!r} takes its x0, a mean, for a clip"


def of_steps(job: Job) -> Iterator[str]:
    """Where motion modules that were distilled for one number of steps are to take another."""
    side, n = job.pair.video, job.sampling.steps
    if job.sampling.lead == "video" and side.for_steps not in (None, n):
        own, others = side.motion_for_steps.get(str(n)), ", ".join(side.motion_for_steps)
        hint = f"those for {n} are --motion {printable(own)}" if own else f"there are some for {others} steps"
        yield f"the video model's motion modules were distilled for {side.for_steps} steps, not {n}: {hint}"
