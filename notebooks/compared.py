"""Writes compared.md and figures/compared.png: every sampler at equal cost, from data/catalogue.json.

    python notebooks/sweep.py catalogue     measures it, in hours
    python notebooks/compared.py
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from ivmix.evaluation.plots import FAMILIES
from ivmix.evaluation.report import Estimate, distance_text, evaluations, markdown_table, plus_minus
from ivmix.sprites.benchmark import COLUMNS

HERE = Path(__file__).parent
PAGE, PLOT = HERE / "compared.md", HERE / "figures" / "compared.png"
SHOWN = ("degradation", "sharpness", "motion", "flicker", "jitter")
FLOOR = "crisp clips, autoencoded"  # what no sampler can beat

Arm = Mapping[str, Any]

TEXT = """# Methods compared

Every sampler that mixes models, and those of the video model alone that they are held against, from the same captions
and noise on the [embedded pair](embedded_pair.md), each in the largest number of steps that a budget of evaluations
allows. What they are, with papers and limits: [methods](methods.md). What the scores measure: [what was
measured](results.md).

`python notebooks/sweep.py catalogue` draws and measures this (`ivmix evaluate --catalogue` does so for any budgets
and pairs that can be measured), `python notebooks/compared.py` writes this page. {clips} clips a row from seed
{seed}; mean and half the width of a 95 % bootstrap interval over captions, and for the Fréchet distance the
jackknife's error. Of so few clips the distance is mostly bias: crisp clips through the autoencoder, which no sampler
can be expected to beat, are {floor} from the reference themselves. Compare rows here, not values with those of other
pages.

![Fréchet distance and degradation of every sampler against evaluations: switch, mixture, composite and VideoElevator
lie at the floor from 20 or 50 evaluations on, zigzag and the authors' loop come down to it; of those that know the
video model alone, FDG comes down part of the way, and CFG++ on to degradation 0 at 100, its distance rising again at
250](figures/compared.png)

Options are the pair's defaults, chosen on other seeds than are here: those of `cfgpp`, `fdg` and `bivdiff` on 16
clips of seed 500, on 8 of which the others were looked over once more and left; iterations, low-passes, weights and
teachers are mostly their papers'. A solver of second order plays where the field is smooth (`composite`, `mixture`,
`switch`, `autoguidance`), Euler where a method is made of its steps. `lcm`, `blend` and `turns` are for models
without scores, and are not here.

## At 50 evaluations

{budget_50}

## At 20 evaluations

{budget_20}

## At 100 evaluations

{budget_100}

## At 250 evaluations

What evaluations may still change, what it is held against, and the authors' loop.

{budget_250}

## Over budgets

{budgets}

## As published

Scales of guidance are a model's. Rows "as published" have their papers' where ours were chosen anew: CFG++ at 0.6,
details at twice the guidance, a quarter of the image model's noise.

{published}

## In words

- **What wins.** With 20 evaluations `composite`, `mixture` and `switch` are where crisp clips through the autoencoder
  are: degradation 0.02–0.04 against 0.05, Fréchet 2.1–2.2 ± 1.0 against 1.6 ± 0.6, motion whole. More evaluations
  give them nothing: with 100 they are at 0.03–0.05 and 2.0–2.1, the composite with 250 at 0.05 and 2.0. They differ
  in what they cost the background: the composite flickers by 0.75 grey levels and is 0.91 px unsteady, `switch` 3.2
  and 0.71. A zigzag is at 0.09 with 47 evaluations and at 0.04 with 247, the authors' loop at 0.08 with 50, 0.05 with
  100 and 0.03 with 250. `videoelevator` comes close with 50 (degradation -0.03, Fréchet 2.9 ± 0.9, flicker 0.85,
  jitter 0.76) and is no nearer with 250 (-0.01, 2.9 ± 0.8; 0.92, 0.98), where clips that move as asked are 95 %
  rather than 98; it breaks with 15, whose three steps leave a residue that no other has (46 grey levels).
- **What is equal to what.** A zigzag's limit is the composite ([its
  tests](../tests/solvers/methods/test_composite.py)), and its scores go there as its steps get short. `official` is
  that zigzag with idle evaluations. `switch` is `mixture` with the whole share and an edge at a level rather than at
  a step. `w2sd`'s limit is `autoguidance` at contrast 2, and Z-Sampling's is guidance 4: at 20, 50, 100 and 250
  evaluations they are at 0.93, 0.90, 0.88, 0.86 and at 0.94, 0.92, 0.90, 0.89, on the way to 0.84 (`autoguidance`
  from 50 on) and 0.86 (guidance 4, 8 clips of seed 500). `freqprior` and `freeinit` are the plain sampler from other
  noise, of which nothing is left in these scores.
  The [catalogue](methods.md) has each limit, notebook [09](09_one_algebra.ipynb) draws them.
- **What has no limit shows it.** CFG++ at 0.9 is at 0.80 with 20 steps, 0.18 with 50, 0.00 with 100 and -0.07 with
  250: its scale of guidance is λ/(1 - σ'/σ), which grows with the number of steps. What looks like a cure at 100 is a
  crossing: the distance falls to 15.9 there and is 25.8 at 250, the residue rises from 18 to 34 grey levels, and 7 %
  of clips are no longer the shape and colour asked for. Whoever tunes it tunes the number of steps. Details guided at
  12 (`fdg`), a field of its own, are at 0.24, 0.28 and 0.28.
- **A distance alone would mislead.** Frames of the image model alone, which jump (motion 0.41, jitter 14 px), have
  less than a third of the distance of any sampler of the video model alone, and `bivdiff` as published, where 28 % of
  clips no longer move as asked, about half of what it has where they do.
- **What does less here than its paper says.** FreeInit, FreqPrior and VideoGuide change what a clip begins with, for
  motion and consistency that this video model has already; what it lacks is decided below sigma = 0.7, as `switch`
  shows. PAG and STG push away from a network without some layers, and hardly away from softness. `autoguidance` and
  `w2sd` push away from the image model without a prompt: 0.14 to 0.16 and 0.04 to 0.08 of the degradation go, and
  none of the watermark. BIVDiff's noise is inverted from frames that know no time: either it keeps their look and
  jumps, or keeps motion and loses the look. Strong guidance of the video model itself (`cfgpp`, `fdg`) does to
  softness a good part of what an image model does, and little to the watermark (0.82–0.98).
- **Why this does not settle what happens with public models**: the embedded pair shows the effect by construction
  ([the control](results.md#the-control)).
"""


def stored(name: str = "catalogue") -> dict[str, Arm]:
    """Its arms by label, as `ivmix evaluate` reported them."""
    return {arm["label"]: arm for arm in json.loads((HERE / "data" / f"{name}.json").read_text())["arms"]}


def budgets(arms: Mapping[str, Arm]) -> list[int]:
    return sorted({int(label.rpartition(", ")[2]) for label in arms if label.rpartition(", ")[2].isdigit()})


def samplers(arms: Mapping[str, Arm]) -> list[str]:
    """Names of samplers in the order of the arms."""
    return list(dict.fromkeys(name for arm in arms.values() if (name := family(arm))))


def family(arm: Arm) -> str | None:
    """Its sampler's name; None of truths."""
    return arm["settings"].get("sampling", {}).get("sampler")


def spent(arm: Arm) -> int:
    """Evaluations of all networks together."""
    return sum(arm["nfe"].values())


def row(arm: Arm) -> list[str]:
    """Cells of the table of scores."""
    estimates = [plus_minus(COLUMNS[name], Estimate(**arm["columns"][name])) for name in SHOWN]
    return [arm["label"], *estimates, against_baseline(arm), distance(arm), evaluations(arm["nfe"])]


def against_baseline(arm: Arm) -> str:
    """The mean of a clip's degradation minus the baseline's from the same noise, and half of its interval."""
    degraded = arm["columns"]["degradation"]
    if degraded.get("difference") is None:
        return ""
    low, high = degraded["difference_interval"]
    return f"{degraded['difference']:+.2f} ± {(high - low) / 2:.2f}"


def distance(arm: Arm) -> str:
    """Its Fréchet distance, with the jackknife's error."""
    return distance_text(arm["frechet"]["mean"], arm["frechet"]["error"])


def scores(arms: Mapping[str, Arm], labels: Sequence[str]) -> str:
    head = ["sampler", *SHOWN, "degradation, less `ddim, 20`", "Fréchet", "evaluations I+V"]
    return markdown_table(head, (row(arms[label]) for label in labels))


def by_budget(arms: Mapping[str, Arm], budget: int) -> str:
    """All samplers at one budget, the least distance first, between what bounds them."""
    there = [arm["label"] for name in samplers(arms) if (arm := arms.get(f"{name}, {budget}"))]
    return scores(arms, [FLOOR, *sorted(there, key=lambda label: arms[label]["frechet"]["mean"])])


def over_budgets(arms: Mapping[str, Arm]) -> str:
    """Degradation, and Fréchet distance, of every sampler at every budget."""
    def cell(name: str, budget: int) -> str:
        arm = arms.get(f"{name}, {budget}")
        return f"{arm['columns']['degradation']['mean']:.2f}, {arm['frechet']['mean']:.3g}" if arm else "–"

    head = ["degradation, Fréchet", *map(str, budgets(arms))]
    return markdown_table(head, ([name, *(cell(name, b) for b in budgets(arms))] for name in samplers(arms)))


def plot(arms: Mapping[str, Arm]) -> None:
    """Fréchet distance and degradation over evaluations, a line a sampler, named where it ends."""
    figure, axes = plt.subplots(1, 2, figsize=(13, 6.4), layout="constrained")
    floor = arms[FLOOR]
    panels = {"Fréchet distance to crisp clips": frechet, "degradation": degradation}
    for axis, (title, of) in zip(axes, panels.items(), strict=True):
        axis.axhline(of(floor), color="0.75", linewidth=0.9, zorder=0)
        ends = dict[str, tuple[float, float]]()
        for name in samplers(arms):
            line = [arm for b in budgets(arms) if (arm := arms.get(f"{name}, {b}"))]
            line.sort(key=spent)
            x, y = [spent(arm) for arm in line], [of(arm) for arm in line]
            axis.plot(x, y, "o-", color=FAMILIES[name], linewidth=1.4, markersize=4)
            ends[name] = x[-1], y[-1]
        axis.set(xscale="log", title=title, xlabel="evaluations a clip, of both models together")
        if of is frechet:
            axis.set_yscale("log")
            axis.set_yticks([2, 5, 10, 20, 40], ["2", "5", "10", "20", "40"])
            axis.set_yticks([], minor=True)
        axis.set_xticks(budgets(arms), map(str, budgets(arms)))
        axis.set_xticks([], minor=True)
        axis.spines[["top", "right"]].set_visible(False)
        named(axis, ends)
    figure.savefig(PLOT, dpi=110)


def frechet(arm: Arm) -> float:
    mean: float = arm["frechet"]["mean"]
    return mean


def degradation(arm: Arm) -> float:
    mean: float = arm["columns"]["degradation"]["mean"]
    return mean


def named(axis: Any, ends: Mapping[str, tuple[float, float]], gap: float = 0.034) -> None:
    """Names right of the axes in the order of the lines' ends, at least `gap` of the axis apart, a thin line to each"""
    to_axes = axis.transData + axis.transAxes.inverted()
    axis.figure.canvas.draw()
    places = {name: to_axes.transform(end)[1] for name, end in ends.items()}
    order = sorted(places, key=lambda name: places[name])
    heights = [places[name] for name in order]
    for _ in range(500):  # neighbours push each other apart, the axis' ends push back
        heights[0], heights[-1] = max(heights[0], 0), min(heights[-1], 1)
        for k in range(len(heights) - 1):
            if (missing := gap - (heights[k + 1] - heights[k])) > 0:
                heights[k], heights[k + 1] = heights[k] - missing / 2, heights[k + 1] + missing / 2
    for name, height in zip(order, heights, strict=True):
        axis.annotate(
            name, xy=ends[name], xycoords="data", xytext=(1.05, height), textcoords="axes fraction", fontsize=9,
            color=FAMILIES[name], va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": FAMILIES[name], "linewidth": 0.5, "alpha": 0.6, "shrinkB": 3},
        )  # fmt: skip


def page() -> str:
    """The whole page, in Markdown."""
    arms = stored()
    tables = {f"budget_{b}": by_budget(arms, b) for b in budgets(arms)} | {"budgets": over_budgets(arms)}
    published = [label for label in arms if label.endswith("as published")]
    tables["published"] = scores(arms, [label for p in published for label in (p, f"{p.split(',')[0]}, 50")])
    report = json.loads((HERE / "data" / "catalogue.json").read_text())
    return TEXT.format(**tables, clips=report["clips"], seed=report["seed"], floor=distance(arms[FLOOR]))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    plot(stored())
