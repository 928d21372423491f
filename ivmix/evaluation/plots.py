"""A report as pictures: scores with their intervals, quality against cost, distances with their floor."""

import json
import math
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from ivmix.evaluation.report import Report, Row, evaluations
from ivmix.media import replacing

FAMILIES = {"ddim": "C7", "image": "C4", "zigzag": "C3", "composite": "C0", "mixture": "C2", "official": "C5",
            "freeinit": "C1", "zsampling": "C8", "w2sd": "C6", "autoguidance": "indigo", "switch": "darkgreen",
            "cfgpp": "goldenrod", "fdg": "teal", "freqprior": "peru", "videoelevator": "navy",
            "videoguide": "limegreen", "bivdiff": "black", "lcm": "olivedrab",
            "blend": "tomato", "turns": "slategray", "pag": "deepskyblue", "stg": "mediumvioletred"}  # fmt: skip
TRUTH, OTHER = "0.6", "C9"
CROWD = 10  # lines of `plot_cost`, above which its panels are larger, in two rows


def colour(row: Row) -> str:
    """One colour a family of samplers."""
    return TRUTH if row.is_truth else FAMILIES.get(row.settings["sampling"]["sampler"], OTHER)


def plot_scores(report: Report, path: Path) -> None:
    """A panel a score, an arm a line: mean and interval; dotted is the baseline."""
    figure, axes = _lines(report, len(report.shown))
    for axis, (name, column) in zip(axes, report.shown.items(), strict=True):
        for y, row in enumerate(report.arms):
            estimate = row.columns[name]
            axis.plot(estimate.interval, [y, y], color=colour(row), linewidth=2, solid_capstyle="butt")
            axis.plot(estimate.mean, y, "o", color=colour(row), markersize=5)
            if row.label == report.baseline:
                axis.axvline(estimate.mean, color="0.4", linestyle=":", linewidth=0.8, zorder=0)
        if column.wide:
            axis.set_xscale("symlog", linthresh=1, linscale=0.5)
        axis.set_title(name, fontsize=10)
    _save(figure, path)


def plot_distances(report: Report, path: Path) -> None:
    """Fréchet distance and MMD of every repeat and their mean; the band is real from real, mean ± deviation."""
    figure, axes = _lines(report, 2, width=3.4)
    for axis, name, title in zip(axes, ("frechet", "mmd"), ("Fréchet distance", "polynomial MMD"), strict=True):
        for y, row in enumerate(report.arms):
            distance = getattr(row, name)
            axis.plot(distance.repeats, [y] * len(distance.repeats), "o", color=colour(row), markersize=3, alpha=0.6)
            axis.plot(distance.mean, y, "|", color=colour(row), markersize=14, markeredgewidth=2)
            if row is report.floor:
                spread = distance.deviation or 0.0
                axis.axvspan(distance.mean - spread, distance.mean + spread, color="0.85", zorder=0)
                axis.axvline(distance.mean, color="0.6", linewidth=0.8, zorder=0)
        axis.set_title(f"{title}, {report.clips} clips a repeat", fontsize=10)
    _save(figure, path)


def plot_cost(report: Report, path: Path) -> None:
    """Quality against evaluations of all networks; arms that differ in steps alone are a line and share a number, a
    family a colour."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    lines = in_lines([row for row in report.arms if not row.is_truth])
    rows = [row for line in lines for row in line]
    places = dict(zip((row.label for row in rows), _apart([cost(row) for row in rows]), strict=True))
    least, most = min(places.values()), max(places.values())
    ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if least / 2 <= n <= most * 2]
    panels = {"Fréchet distance": False} | {name: c.wide for name, c in report.shown.items() if c.cost}
    side, columns = max(3.2, 0.25 * len(lines)), len(panels) if len(lines) <= CROWD else math.ceil(len(panels) / 2)
    figure, axes = plt.subplots(
        math.ceil(len(panels) / columns), columns, layout="constrained", squeeze=False,
        figsize=(side * columns + 3.6, side * math.ceil(len(panels) / columns)),
    )  # fmt: skip
    for axis in axes.flat[len(panels):]:
        axis.set_axis_off()
    for axis, (name, wide) in zip(axes.flat[: len(panels)], panels.items(), strict=True):
        if report.floor:
            axis.axhline(_quality(report.floor, name)[0], color="0.7", linewidth=0.8, zorder=0)
        for number, line in enumerate(lines, 1):
            means = [_quality(row, name)[0] for row in line]
            axis.plot([places[row.label] for row in line], means, color=colour(line[0]), linewidth=1, alpha=0.5)
            for row in line:
                place, (mean, low, high) = places[row.label], _quality(row, name)
                axis.plot([place, place], [low, high], color=colour(row), linewidth=1)
                axis.plot(place, mean, "o", color=colour(row), markersize=9, alpha=0.85)
                axis.annotate(f"{number}", (place, mean), color="white", fontsize=6, ha="center", va="center_baseline")
        if wide:
            axis.set_yscale("symlog", linthresh=1, linscale=0.5)
        axis.set(xscale="log", xlabel="evaluations a clip, of all networks", title=name)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xticks(ticks, map(str, ticks))
        axis.set_xticks([], minor=True)
    handles = [
        Line2D([], [], color=colour(line[0]), marker="o", ls="-" if line[1:] else "", label=f"{k}  {named(line)}")
        for k, line in enumerate(lines, 1)
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
    _save(figure, path)


def in_lines(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows whose settings differ in steps alone, the cheapest first, in the order of the first of each."""
    lines = dict[str, list[Row]]()
    for row in rows:
        sampler = {name: value for name, value in row.settings["sampling"].items() if name != "steps"}
        lines.setdefault(json.dumps({**row.settings, "sampling": sampler}), []).append(row)
    return [sorted(line, key=cost) for line in lines.values()]


def named(line: Sequence[Row]) -> str:
    """The words with which all labels of a line begin, or its first label; and what each of its rows costs."""
    words = zip(*(row.label.replace(",", " ,").split() for row in line), strict=False)  # as far as the shortest goes
    common = " ".join(same[0] for same in takewhile(lambda same: len(set(same)) == 1, words))
    label = common.replace(" ,", ",").rstrip(",") or line[0].label
    spent = evaluations(line[0].nfe) if len(line) == 1 else ", ".join(str(cost(row)) for row in line)
    return f"{label} ({spent})"


def cost(row: Row) -> int:
    """Evaluations of all networks together."""
    return sum(row.nfe.values())


def _apart(costs: Sequence[int]) -> list[float]:
    """Equal costs side by side, so that no arm hides another: 5 % apart, or all of them within 30 %."""
    places = []
    for k, spent in enumerate(costs):
        count = costs.count(spent)
        gap = min(1.05, 1.3 ** (1 / max(count - 1, 1)))
        places.append(spent * gap ** (costs[:k].count(spent) - (count - 1) / 2))
    return places


def _quality(row: Row, name: str) -> tuple[float, float, float]:
    """Mean, low and high of a column, or of the Fréchet distance over repeats."""
    if name == "Fréchet distance":
        return row.frechet.mean, min(row.frechet.repeats), max(row.frechet.repeats)
    return row.columns[name].mean, *row.columns[name].interval


def _lines(report: Report, panels: int, width: float = 1.5) -> tuple[Any, Sequence[Any]]:
    """A figure of panels side by side with one line an arm."""
    import matplotlib.pyplot as plt

    arms = report.arms
    figure, axes = plt.subplots(
        1, panels, sharey=True, squeeze=False, figsize=(2.8 + width * panels, 0.9 + 0.26 * len(arms)),
        layout="constrained",
    )  # fmt: skip
    axes[0][0].set_yticks(range(len(arms)), [row.label for row in arms], fontsize=9)
    axes[0][0].set_ylim(len(arms) - 0.5, -0.5)
    for axis in axes[0]:
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.grid(axis="y", color="0.93")
        axis.tick_params(axis="y", length=0)
        axis.tick_params(axis="x", labelsize=8)
        axis.locator_params(axis="x", nbins=4)  # before any scale that places ticks of its own
        axis.set_axisbelow(True)
    return figure, axes[0]


def _save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
    plt.close(figure)
