"""Writes bridges.md: an image model of other latents, across pixels and across learned maps, from data/.

    python notebooks/sweep.py one_space bridged mapped --clips 32       the clips, in an hour or so
    python notebooks/bridges.py --measure        round trips and their cost, in minutes, as data/bridges.json
    python notebooks/bridges.py
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ivmix import TextToVideo
from ivmix.evaluation.report import Estimate, distance_text, evaluations, markdown_table, plus_minus
from ivmix.generation.memory import frames_at_once
from ivmix.models import VAE, VAEConfig
from ivmix.models.cost import Alive, Kernels
from ivmix.models.meta import build
from ivmix.pairs.bridge import through
from ivmix.pairs.crossing import round_trip
from ivmix.sprites.benchmark import COLUMNS
from ivmix.sprites.world import balanced_captions, some_clips

HERE = Path(__file__).parent
PAGE, DATA = HERE / "bridges.md", HERE / "data"
PAIRS = {"pixels": "sprites-bridged", "learned maps": "sprites-mapped"}
CLIPS, SEED, STEPS, ROUNDS = 8, 500, 20, 5  # of round trips: clips of captions in turn, and how often they are timed
MAIN = [name for name, column in COLUMNS.items() if column.main]
ROWS = {  # of the table, by the file they are stored in
    "one_space": (
        "crisp clips, autoencoded", "video model alone", "image model of one space, frame by frame",
        "composite in one space", "mixture in one space",
    ),
    "bridged": ("image model across, frame by frame", "composite through pixels", "mixture through pixels"),
    "mapped": ("composite through learned maps", "mixture through learned maps"),
}  # fmt: skip

PUBLIC_FRAMES, TILES = 16, {"whole frames": None, "`--vae-tile 64`": 64, "`--vae-tile 32`": 32}

Arm = Mapping[str, Any]


def stored(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return found


# --- measured here --------------------------------------------------------------------------------------------------


def soft_x0(model: TextToVideo) -> dict[str, Tensor]:
    """What the video model alone says of its clips at some levels of a run, clean latents (b c f h w) by level."""
    found, level = dict[str, Tensor](), float(model.pair.video.schedule.sigma_max)

    def look(step: int, total: int, run: Any) -> None:
        nonlocal level
        if step in (1, 2, 5, 10, 15, 20):
            found[f"{level:.2g}"] = run.x0
        level = run.at

    captions = balanced_captions()[:CLIPS]
    model(captions, sampler="ddim", steps=STEPS, seed=SEED, batch_size=CLIPS, callback=look)
    return found


def seconds(call: Callable[[], Any]) -> float:
    """Of a processor, the least of some rounds."""
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return min(times)


@torch.no_grad()
def measured() -> dict[str, Any]:
    """Errors of the round trip by bridge and by what crosses, and seconds of a clip there and back and of each model's
    guided evaluation, on one thread."""
    torch.set_num_threads(1)
    report: dict[str, Any] = {"clips": CLIPS, "seed": SEED, "steps": STEPS, "bridges": {}, "memory": memory()}
    for name, source in PAIRS.items():
        pair = (model := TextToVideo.from_pair(source, "cpu")).pair
        assert pair.bridge is not None
        bridge, crisp = pair.bridge.between(pair.vae), pair.vae.encode(some_clips(CLIPS, SEED))
        shown = {"crisp clips": crisp[:CLIPS], "degraded clips": crisp[CLIPS:], **soft_x0(model)}
        one = crisp[:1]
        across = bridge.there(one)
        report["bridges"][name] = {
            "errors": {label: round_trip(bridge, pair.vae, z) for label, z in shown.items()},
            "there": seconds(lambda bridge=bridge, one=one: bridge.there(one)),
            "back": seconds(lambda bridge=bridge, across=across: bridge.back(across)),
        }
        report["levels"] = [list(pair) for pair in pair.bridge.levels.pairs]
        report["evaluations"] = {
            side.name: seconds(lambda side=side, z=z: rows(side, z))
            for side, z in zip(pair.sides, (across, one), strict=True)
        }
        vae, both = pair.bridge.vae, some_clips(CLIPS, SEED).split(CLIPS)
        report["image vae"] = {
            label: float(127.5 * (vae.decode(vae.encode(clips)) - clips).square().mean().sqrt())
            for label, clips in zip(("crisp clips", "degraded clips"), both, strict=True)
        }
    return report


def memory() -> dict[str, dict[str, int]]:
    """The most bytes of tensors alive at a time in a crossing of public size, by direction: whole frames, and tiles."""
    small = build(VAE, VAEConfig()).half()  # on meta, where nothing is computed
    large = build(VAE, VAEConfig(scaling_factor=0.13025)).float()
    sides = {"to the image model": (small, large, Fraction(2), 64), "back": (large, small, Fraction(1, 2), 128)}

    def most(inner: VAE, outer: VAE, scale: Fraction, side: int, tile: int | None) -> int:
        z = torch.empty(1, 4, PUBLIC_FRAMES, side, side, device="meta")
        with torch.no_grad(), Kernels(), Alive() as alive:
            through(inner, outer, scale, frames_at_once(1024, 1024), tile, z)
        return alive.most

    return {name: {label: most(*way, tile) for label, tile in TILES.items()} for name, way in sides.items()}


def rows(side: Any, z: Tensor) -> Tensor:
    """A guided evaluation: two rows."""
    condition = side.condition(["", "a red circle moving left"])
    answer: Tensor = side.call(torch.cat([z, z]), torch.tensor(500.0), condition, temporal=side.name == "video")
    return answer


# --- the page -------------------------------------------------------------------------------------------------------


def row(label: str, arm: Arm) -> list[str]:
    """Cells of the table of scores."""
    estimates = [plus_minus(COLUMNS[name], Estimate(**arm["columns"][name])) for name in MAIN]
    return [label, *estimates, distance_text(arm["frechet"]["mean"], arm["frechet"]["error"]), evaluations(arm["nfe"])]


def scores() -> str:
    found = []
    for name, labels in ROWS.items():
        arms = {arm["label"]: arm for arm in stored(name)["arms"]}
        found += [row(label, arms[label]) for label in labels]
    return markdown_table(["", *MAIN, "Fréchet", "evaluations I+V"], found)


def round_trips(report: Mapping[str, Any]) -> str:
    """Grey levels, and share of the latents' deviation, by what crosses."""
    bridges = report["bridges"]
    labels, units = list(next(iter(bridges.values()))["errors"]), ("grey levels", "latents")
    head = ["what crosses and comes back", *(f"{name}, {unit}" for unit in units for name in bridges)]
    return markdown_table(head, (
        [label if label[0].isalpha() else f"the video model's x0 at sigma {label}",
         *(f"{bridge['errors'][label][0]:.1f}" for bridge in bridges.values()),
         *(f"{bridge['errors'][label][1]:.2f}" for bridge in bridges.values())]
        for label in labels
    ))  # fmt: skip


def costs(report: Mapping[str, Any]) -> str:
    """Milliseconds a clip."""
    own = report["evaluations"]
    table = [["the video model, guided", f"{1000 * own['video']:.0f}"],
             ["the image model across, guided", f"{1000 * own['image']:.0f}"]]  # fmt: skip
    table += [[f"{name}: there once, back twice", f"{1000 * (b['there'] + 2 * b['back']):.0f}"]
              for name, b in report["bridges"].items()]  # fmt: skip
    return markdown_table(["an evaluation", "ms a clip"], table)


def gigabytes(report: Mapping[str, Any]) -> str:
    """Of a crossing, by direction and tile."""
    found = report["memory"]
    return markdown_table(["a crossing, GB", *TILES], (
        [way, *(f"{bytes / 1e9:.1f}" for bytes in by_tile.values())] for way, by_tile in found.items()
    ))  # fmt: skip


def levels(report: Mapping[str, Any]) -> str:
    return markdown_table(["sigma of the video model", *(f"{a:g}" for a, _ in report["levels"])],
                          [["sigma across", *(f"{b:g}" for _, b in report["levels"])]])  # fmt: skip


TEXT = """# Models of different latents

IV-Mixed Sampler mixes two models that share latents. Where they do not, an image model can still take part by where it
would have x0 go: `--pair sprites-bridged` and `--pair sprites-mapped` are the video model of the [embedded
pair](embedded_pair.md), and an image model of another architecture (a transformer of 0.9 million weights) in latents of
another autoencoder: 3 channels of half the frame's side, where the pair has 4 of a quarter (the cards of
[the models](../ivmix/sprites/bridged/README.md) and of [the maps](../ivmix/sprites/mapped/README.md)).

```bash
ivmix sample 'a red circle moving left' --pair sprites-bridged -o out.mp4
ivmix sample 'a red circle moving left' --pair sprites-mapped -o out.mp4
```

## How

A noisy latent is never decoded. At the level sigma the video model's own part of the field gives x0, which is clean.
It crosses to the image model's latents, x0_I, and is made as noisy as the image model expects, x_I = x0_I +
sigma_I·xi, by one draw of xi for the whole run. What comes back is a difference:

    x0 = x0_V + back(x0_I + delta) - back(x0_I)

where delta is what the image model has in the field, at x_I, less its weights' sum of x0_I: in a composite its
direction from the empty prompt to the caption, in a mixture how far its prediction lies from what crossed. The round
trip's own error is in both terms; where delta is 0 it cancels to the bit. The maps are either pixels (decode, resize,
encode) or two small convolutional networks, trained on encodings of clean frames. In one latent space, with the state's
own noise for xi, this is the plain combination ([its tests](../tests/solvers/algebra/test_bridges.py)); in Python it is
`Bridge`, `Across` and `bridged` of `ivmix.solvers`, around any networks.

sigma_I hides as much in pixels: the correlation of decoded noisy latents with decoded clean ones is the same on either
side (`ivmix.pairs.crossing`), measured once and kept in `pair.json`.

{levels}

The image model has no part in steps from levels above its own, here the first of a composite: 9 evaluations of it,
where the video model has 10.

It takes samplers that ask both models at one state and level: `composite`, `mixture`, `blend`, `autoguidance`. A zigzag
has the image model step and invert the state itself, which is no latent of its: such samplers say so.

## What survives

`python notebooks/sweep.py one_space bridged mapped --clips {clips}` draws and measures this, {clips} clips a row from
seed {seed} on: mean and half the width of a 95 % bootstrap interval over captions, and for the Fréchet distance, which
is mostly bias for so few clips, the jackknife's error. "One space" is `sprites`, whose image model is a UNet in the
video model's latents. Guidance and steps are its defaults in all rows, chosen for that image model and on other seeds,
but for the mixtures' steps, 15 in place of 20. [Results](results.md#every-sampler) say what columns are; residue is
what is left in the watermark's place, in grey levels.

{scores}

- **Most of it survives.** The composite across pixels takes 0.80 of the degradation away (0.97 → 0.17) where the one in
  one space takes 0.93 (0.97 → 0.04), and the watermark with it (0.99 → 0.05); frames are sharp (0.14 → 0.87, one space
  1.00), and motion, colour and shape are kept. Fréchet is 7.2 ± 2.2 against 41.2 ± 3.7 of the video model alone, and
  4.1 ± 1.5 of crisp clips themselves. Background flicker, 0.54 grey levels, and unsteadiness, 0.74 px, are no more than
  in one space, 0.75 and 0.90.
- **It survives although this image model is poor.** It was trained for about twenty minutes of one core, and by itself
  draws colours and shapes no more often than by chance (0.22 and 0.25, Fréchet 332). What it has learnt is crisp frames
  from soft ones, which is what its direction from the empty prompt says, and that is all that a composite asks of it.
  So this shows that a direction crosses, and not what a better model across would give; nor that it would clean where
  an image model's empty prompt is crisp ([why](embedded_pair.md#why-mixing-cleans-here)).
- **A prediction crosses less well**: a mixture, which takes the image model's own x0 in part, is at 0.24 across pixels
  and loses a few shapes (0.96), where in one space it does as the composite does.
- **Learned maps are nearly as good at a twentieth of the cost.** The composite across them is at 0.21 ± 0.04, the
  mixture at 0.32 ± 0.04. Pixels cost three times the video model's evaluation here, where the networks are as small as
  the autoencoders.
- **The round trip's error does not gather.** It is a quarter of the latents' deviation, 4 to 7 grey levels, at every
  one of nine crossings; what is left in the watermark's place is 3.9 grey levels, less than in one space (5.9).
- Tried on 6 clips of seed 500, before its training was at its end: one xi for all frames instead of one a frame.
  Degradation was the same (0.19) and flicker 0.45 instead of 0.50; each frame has its own.
- Tried on 16 clips of seed 500, across learned maps: levels across twice and four times as high. The composite is at
  0.19, 0.17 and 0.17, its flicker at 0.60, 0.80 and 1.13; the mixture at 0.29, 0.26 and 0.33, where it draws 1.00, 0.97
  and 0.71 of the shapes. A factor of two does not decide, and the measured levels are the steadiest.

## What crosses, and what it costs

Root mean square of what a round trip changes, of {trips} clips of seed 500: in grey levels (0-255) of decoded frames,
and in units of the latents' deviation. The other autoencoder alone is {crisp_clips:.1f} grey levels from crisp clips
and {degraded_clips:.1f} from degraded ones.

{round_trips}

An evaluation of the field crosses once there and twice back, which is not counted as evaluations but said when a run
begins. On one thread of a CPU, least of {rounds} rounds:

{costs}

Memory does not grow with the clip: some frames cross from end to end before the next ones do. Counted as
[memory](memory.md) is, beside the networks at work, for {memory_frames} frames of 512x512 that are 1024x1024 across, by
Stable Diffusion's autoencoder in float16 and SDXL's in float32:

{memory}

## Two models of your own

`ivmix bridge` makes such a pair of the video model of one pair and the image model of another. It reads pictures, some
dozens like what will be drawn, and writes the levels at which both latents hide as much; it says what a round trip
changes. Of the models it loads the autoencoders alone:

```bash
ivmix bridge my-pictures/*.jpg --video animatediff --image animatediff-sdxl --scale 2 -o stills
ivmix sample 'a corgi runs through surf' --pair stills --offload --vae-tile 64 -o corgi.mp4
ivmix bridge my-pictures/*.jpg --video animatediff --image animatediff --image-model my-sdxl/ --scale 2 --maps -o mine
```

- This is AnimateDiff's motion at 512x512 and SDXL's stills at 1024x1024 (`--scale 2`). It was tried from end to end on
  small random networks in the layouts of these models ([tests](../tests/pairs/test_joining.py)), **never on trained
  weights**. No such pair has a name: its levels are facts of trained autoencoders, which could not be had here.
- `--maps` fits two small networks to the pictures, some hundreds of them, in place of pixels, and says how much of
  either latents they explain of frames that they do not know. In Python it is `ivmix.pairs.mapping.fit_maps`; levels
  and round trip are `ivmix.pairs.crossing`.
- Levels are those of equal signal to noise in single pixels of the video's size. Over coarser squares finer latents
  hide less: on the embedded pair the level across would be 1.1 times as high by squares of 4 pixels, 1.3 to 1.5 times
  by squares of 8. They stand in `pair.json`, for whoever prefers others.
- Sizes and guidance are the video pair's, so guidance was chosen for another image model; and here too the image
  model's *empty* prompt has to be worse than its caption: give it a bad `--image-negative-prompt`.
- An image model alone (`--sampler image`) draws at the clip's size, not at `--scale` times that.

`python notebooks/bridges.py --measure` measures all tables but that of scores, without it the script writes this page.
"""


def page() -> str:
    """The whole page, in Markdown."""
    report, clips = stored("bridges"), stored("bridged")
    return TEXT.format(
        scores=scores(), round_trips=round_trips(report), costs=costs(report), levels=levels(report),
        memory=gigabytes(report), memory_frames=PUBLIC_FRAMES, clips=clips["clips"], seed=clips["seed"], trips=CLIPS,
        rounds=ROUNDS, **{name.replace(" ", "_"): value for name, value in report["image vae"].items()},
    )  # fmt: skip


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--measure", action="store_true", help="round trips and their cost, rather than the page")
    if arguments.parse_args().measure:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (DATA / "bridges.json").write_text(json.dumps(measured(), indent=1) + "\n")
    else:
        PAGE.write_text(page(), encoding="utf-8")
