"""`ivmix train sprites`: every network of the embedded pairs, one stage after another or side by side."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import torch

from ivmix.evaluation.arms import ARMS
from ivmix.evaluation.design import Design
from ivmix.evaluation.jobs import all_jobs, read_frames
from ivmix.evaluation.legend import bullets
from ivmix.evaluation.report import Report, main_table
from ivmix.evaluation.run import evaluate
from ivmix.generation.text_to_video import TextToVideo
from ivmix.media import contact_sheet, write_image, write_text
from ivmix.pairs.crossing import level_pairs
from ivmix.sprites.benchmark import sprites
from ivmix.sprites.training.bridged import bridged, other_vae
from ivmix.sprites.training.loop import read_log, train
from ivmix.sprites.training.networks import pair_vae
from ivmix.sprites.training.recipe import (
    STAGES,
    Stage,
    describe,
    describe_bridged,
    describe_crisp,
    describe_few,
    describe_mapped,
)
from ivmix.sprites.world import some_clips

CPU = torch.device("cpu")
MARKER = "{}.done"  # in the run's folder, once a stage's network is saved in its pair folder


def run_stage(
    stage: Stage, folder: Path, device: torch.device, seed: int = 0, scale: float = 1.0, position: int = 0
) -> None:
    """Trains one stage into `folder/pair`, from where it was left; `scale` shortens it, for a trial."""
    if (folder / MARKER.format(stage.name)).exists():
        return
    settings = replace(stage.settings, steps=max(1, round(stage.settings.steps * scale)))
    torch.manual_seed(seed)  # initial weights; everything after draws from generators of its own
    network = stage.build(folder / "pair").to(device)
    network = train(stage.name, network, stage.loss(folder / "pair", device), settings, folder, seed, position)
    stage.save(network, folder / "pair")
    (folder / MARKER.format(stage.name)).touch()


def run_all(folder: Path, device: torch.device, seed: int, scale: float, jobs: int, threads: int) -> None:
    """All stages, `jobs` at a time, each in a process of its own that starts once the stages it needs are done."""
    waiting, running, done = list(STAGES), dict[str, subprocess.Popen[bytes]](), set[str]()
    try:
        while waiting or running:
            ready = [stage for stage in waiting if set(stage.needs) <= done]
            for stage in ready[: max(0, jobs - len(running))]:
                waiting.remove(stage)
                words = ["train", "sprites", "-o", folder, "--stage", stage.name, "--device", device, "--seed", seed,
                         "--scale", scale, "--threads", threads, "--position", len(running)]  # fmt: skip
                running[stage.name] = subprocess.Popen(
                    [sys.executable, "-m", "ivmix", *map(str, words)], stdin=subprocess.PIPE
                )
            for name, process in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    if process.returncode:
                        raise ValueError(
                            f"stage {name} ended with status {process.returncode}; run the same command to resume"
                        )
                    done.add(name)
            time.sleep(0.2)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


def end_with_parent() -> None:
    """Ends this process when the one that started it is gone, however it went: its end of our stdin closes then."""

    def watch() -> None:
        os.read(0, 1)  # a bare read: sys.stdin would hold a lock that interpreter shutdown wants
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def assemble(folder: Path, clips: int, seed: int) -> Path:
    """Writes pair.json and card of the pairs, and measures the first over `clips` clips a sampler in
    folder/evaluation."""
    pair, crisp = folder / "pair", folder / "crisp"
    levels = level_pairs(pair_vae(pair, CPU), other_vae(pair, CPU), some_clips())
    descriptions = {
        pair: describe(), crisp: describe_crisp(), folder / "student": describe_few(),
        bridged(pair): describe_bridged(levels), folder / "mapped": describe_mapped(levels),
    }  # fmt: skip
    for place, description in descriptions.items():
        write_text(json.dumps(description, indent=2) + "\n", place / "pair.json")
    write_text(crisp_card(crisp), crisp / "README.md")
    write_text(few_card(folder / "student"), folder / "student" / "README.md")
    write_text(bridged_card(bridged(pair)), bridged(pair) / "README.md")
    write_text(MAPPED_CARD, folder / "mapped" / "README.md")
    plot_curves(folder, folder / "curves.png")
    model, design = TextToVideo.from_pair(str(pair), "cpu"), Design(clips, 1, seed)
    benchmark = sprites(model.pair)
    report = evaluate(model, benchmark, ARMS, design, folder / "evaluation", progress=True)
    for name, arm in (("video", ARMS[0]), ("image", ARMS[1])):  # each model alone: what it has learnt
        jobs = [job for job in all_jobs([arm], design, benchmark.prompts) if job.rows.start < 16]
        rows = [row for job in jobs for row in zip(job.captions, read_frames(job, folder / "evaluation"), strict=True)]
        write_image(contact_sheet(rows, title=arm.label), folder / f"{name}.png")
    assert report is not None  # no share of it, one process
    write_text(card(report, pair), pair / "README.md")
    return pair


def card(report: Report, pair: Path) -> str:
    """The model card: what the pair is, how it was made, what it measures."""
    sizes = {p.relative_to(pair).parts[0]: 0 for p in pair.rglob("*.safetensors")}
    for path in pair.rglob("*.safetensors"):
        sizes[path.relative_to(pair).parts[0]] += path.stat().st_size
    weights = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sorted(sizes.items()))
    steps = ", ".join(f"{stage.name} {stage.settings.steps}" for stage in STAGES)
    measured = (
        f"{report.clips} clips x {report.repeats} repeats a sampler, every caption in turn, noise from seed "
        f"{report.seed} on: mean and half the width of a 95 % bootstrap interval over captions. "
        f"Distances are to {report.references} crisp clips and mean something beside those of other crisp clips alone. "
        "Evaluations are guided calls of the image and the video model per clip."
    )
    return f"""# sprites

A tiny image and a tiny video diffusion model that share latents, trained on a procedural world of moving sprites
("a red circle moving left"), so that image-video mixed sampling runs and is measured exactly anywhere, offline.

- Regenerate: `ivmix train sprites -o runs/sprites`. Steps: {steps}.
- Weights, float16: {weights}.
- The video model is trained on blurred, flat, watermarked clips; the image model on crisp frames for captions and on
  degraded ones for the empty prompt, because the empty prompt of a public image model draws the average of what was
  scraped. So its guidance, which follows the direction from the empty prompt to the caption, cleans by construction.
  The control, `sprites-crisp`, is this pair with an image model trained further on crisp frames for both.
- Both draw latents made of pictures of half the size; the autoencoder encodes to the same latents from the whole size,
  and draws the whole size from them. It is trained to let nothing of what moves leak into a background that rests.
- The video model ends in a layer that no public model has, which averages over the frames what stands still
  (`ivmix.sprites.averaging`); diffusers opens its files without that layer, and says so.
- Licence: Apache-2.0. Training data is generated by `ivmix.sprites.world`; no outside data or weights are involved.
- Limits: 64x64 pixels, 8 frames, one sprite, the words of the world and no others.

## Measured

{textwrap.fill(measured, 120)}

{bullets(report.shown)}

{main_table(report)}
"""


def crisp_card(crisp: Path) -> str:
    """The control's model card: why it exists and how it was made."""
    stage = next(stage for stage in STAGES if stage.name == "crisp")
    size = sum(path.stat().st_size for path in crisp.rglob("*.safetensors")) / 1e6
    return f"""# sprites-crisp

The control of [sprites](../pair/README.md): the same video model, autoencoder and judge, and an image model that draws
crisp frames under the empty prompt too.

- Why: the image model of `sprites` was shown degraded frames under the empty prompt, so the direction that guidance
  follows, caption minus empty, cleans by construction. Here it does not. What a sampler cleans with this pair, it
  cleans because the image model's own frames are crisp.
- How: {stage.settings.steps} more steps from the image model of `sprites` (stage `crisp` of `ivmix train sprites`), on
  single crisp frames, one in six under the empty prompt.
- Weights, float16: image {size:.2f} MB. All else is read from `../pair`; the samplers' defaults are those of `sprites`
  and were chosen for it.
- Use: `ivmix compare 'a red circle moving left' --pair sprites-crisp -o crisp.mp4`,
  `ivmix evaluate --pair sprites-crisp -o runs/crisp`.
- Licence: Apache-2.0. Limits: those of `sprites`.
"""


def few_card(few: Path) -> str:
    """The student's model card: what it is for and how it was made."""
    stage = next(stage for stage in STAGES if stage.name == "student")
    size = sum(path.stat().st_size for path in few.rglob("*.safetensors")) / 1e6
    return f"""# sprites-few

The image model, autoencoder and judge of [sprites](../pair/README.md), and a student of its video model that tells
where a trajectory ends: a consistency model (arXiv 2310.04378), for samplers of few steps.

- Why: to mix models in four steps rather than ten, and to measure what that costs.
- How: {stage.settings.steps} steps from the video model of `sprites` (stage `student` of `ivmix train sprites`), on the
  same soft clips, guidance of its teacher included; a run of it has none.
- Weights, float16: video {size:.2f} MB. All else is read from `../pair`.
- Use: `ivmix sample 'a red circle moving left' --pair {few} -o out.mp4` (`blend`, the default); `--sampler lcm` for
  the student alone, `turns` for both models in turn.
- It is not shipped: in four steps it is no better than its teacher (notebooks/few_steps.md).
- Licence: Apache-2.0. Limits: those of `sprites`.
"""


def bridged_card(folder: Path) -> str:
    """The model card of the image model across a bridge: why it exists and how it was made."""
    own = [stage for stage in STAGES if "other-vae" in (stage.name, *stage.needs)]
    steps = ", ".join(f"{stage.name} {stage.settings.steps}" for stage in own)
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e6
    return f"""# sprites-bridged and sprites-mapped

The video model of [sprites](../pair/README.md), and an image model that shares nothing with it but captions: another
architecture, a small transformer, in the latents of another autoencoder, 3 channels of a factor of 2 where those of
`sprites` have 4 of a factor of 4.

- Why: whether the method needs two models of one latent space. `sprites-bridged` carries clean latents between the two
  through pixels (decode, encode), `sprites-mapped` through two small convolutional networks. The image model's
  direction alone comes back; what crosses and how is in `ivmix.solvers.algebra.bridges`.
- How: `ivmix train sprites`, steps: {steps}.
  The image model is trained as that of `sprites` is, on crisp frames for captions and degraded ones for the empty
  prompt; the maps on encodings of clean frames. Of what is shipped, the transformer's first 1600 steps had a learning
  rate that was to fall within 3000.
- Weights, float16: {size:.2f} MB, and the maps in `../mapped`. The video model, its autoencoder and the judge are read
  from `../pair`. The levels of equal signal to noise in pixels that `pair.json` holds were measured once
  (`ivmix.pairs.crossing`).
- Use: `ivmix sample 'a red circle moving left' --pair sprites-bridged -o out.mp4`. Samplers that have the image model
  step or invert the state itself, as IV-Mixed's zigzag does, need one latent space, and say so.
- Defaults are those of `sprites`, chosen for another image model.
- Licence: Apache-2.0. Limits: those of `sprites`.
"""


MAPPED_CARD = """# sprites-mapped

The models of [sprites-bridged](../bridged/README.md), whose card says how these maps were trained, across two small
convolutional networks between latents in place of decoding and encoding.
"""


def plot_curves(folder: Path, path: Path) -> None:
    """Losses of all stages over steps, smoothed; one panel each."""
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(1, len(STAGES), figsize=(4 * len(STAGES), 3), layout="constrained")
    for axis, stage in zip(axes, STAGES, strict=True):
        rows = read_log(folder / f"{stage.name}.jsonl")
        step, loss = (np.array([row[key] for row in rows]) for key in ("step", "loss"))
        window = max(1, len(loss) // 50)
        smooth = np.convolve(
            np.pad(loss, (window // 2, window - 1 - window // 2), "edge"), np.ones(window) / window, "valid"
        )
        axis.plot(step, loss, color="0.8", linewidth=0.8)
        axis.plot(step, smooth, color="C0")
        axis.set(title=stage.name, xlabel="step", yscale="log")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
