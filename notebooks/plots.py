"""The pictures of the notebooks: one look, and the few kinds of figure that they share.

It lies beside the pages and is theirs alone. Importing it sets the look; what it draws is stored at twice the size it
shows at, so that it is sharp on modern screens. A sampler has the colour it has in the plots of `ivmix evaluate`, and a
marker of its own, so that it is told apart in grey as well.
"""

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

from ivmix.evaluation.plots import FAMILIES
from ivmix.media import Frames, animated_png, contact_sheet, side_by_side, upscale
from ivmix.solvers import Field, Leg, planned_nfe
from ivmix.sprites.benchmark import COLUMNS

Look = dict[str, Any]  # colour, marker and line, as matplotlib names them
Columns = Mapping[str, Any]  # a score by name: {"mean": …} and, where there is one, {"interval": [low, high]}

WIDTH = 11.0  # inches of a figure as wide as the page
CLIP = 384  # pixels of an animated clip's shorter side; shown at half of it
MARKERS = {"ddim": "s", "image": "v", "zigzag": "o", "composite": "D", "mixture": "^"}
LINES, FILLS = ("-", "--", ":"), ("full", "none", "left")
NETWORKS = {"video": "ddim", "strong": "ddim", "image": "image", "weak": "mixture", "perturbed": "mixture"}

set_matplotlib_formats("retina", pil_kwargs={"optimize": True})
plt.rcParams.update(
    {
        "figure.dpi": 80,
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "lines.linewidth": 1.4,
        "lines.markersize": 5,
    }
)


def look(family: str, variant: int = 0) -> Look:
    """Of a family of samplers, "ddim" (the video model), "image", "zigzag", "composite", "mixture"; three variants."""
    line, fill = LINES[variant], FILLS[variant]
    return {"color": FAMILIES[family], "marker": MARKERS[family], "linestyle": line, "fillstyle": fill}


def shades(n: int) -> list[Look]:
    """Of n things in an order, from dark to light."""
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.85, n))
    return [{"color": colour, "marker": "oD^sv*P"[i % 7], "linestyle": "-"} for i, colour in enumerate(colours)]


# Clips


def sheet(rows: Sequence[tuple[str, Frames]], title: str | None = None) -> Image:
    """A labelled row a clip, its frames from left to right."""
    buffer = io.BytesIO()
    page = contact_sheet([(label, upscale(frames)) for label, frames in rows], title)
    page.save(buffer, "png", optimize=True)
    return _half(buffer.getvalue(), page.width)


def animate(clips: Sequence[tuple[str, Frames]], columns: int | None = None, fps: float = 8) -> Image:
    """Labelled clips side by side, in motion."""
    grid = side_by_side([(label, upscale(frames, CLIP)) for label, frames in clips], columns)
    return _half(animated_png(grid, fps), grid.shape[2])


def film(draw: Callable[[int], Figure], frames: int, fps: float = 4, tones: int = 256) -> Image:
    """The figures draw(0) … draw(frames - 1), in motion; of lines and flat colours, 16 `tones` of red, green and blue
    are enough, and half the file."""
    shots = []
    for k in range(frames):
        figure = draw(k)
        figure.set_dpi(2 * figure.dpi)
        figure.canvas.draw()
        shot = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255
        shots.append((np.round(shot * (tones - 1)) / (tones - 1) * 255).round().astype(np.uint8))
        plt.close(figure)
    return _half(animated_png(np.stack(shots), fps), shots[0].shape[1])


def _half(png: bytes, width: int) -> Image:
    """Shown at half its width, or as wide as the page."""
    return Image(png, width=round(min(width / 2, WIDTH * 80)))


# Figures


def panels(
    titles: Sequence[str],
    columns: int | None = None,
    *,
    width: float = 4.5,
    height: float = 3.0,
    x: str = "",
    y: str = "",
    **share: bool,
) -> list[Axes]:
    """Small multiples, one a title, row by row, of `width` x `height` inches if the page is wide enough; `x` and `y`
    name the outer axes."""
    columns = columns or len(titles)
    rows = math.ceil(len(titles) / columns)
    size = (min(WIDTH, width * columns), height * rows)
    _, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, **share)
    axes = list(grid.flat)
    for axis, title in zip(axes, titles, strict=False):
        axis.set_title(title)
    for axis in axes[len(titles) :]:
        axis.remove()
    for axis in grid[-1]:
        axis.set_xlabel(x)
    for axis in grid[:, 0]:
        axis.set_ylabel(y)
    return axes[: len(titles)]


def curves(
    axis: Axes,
    lines: Mapping[str, Iterable[Sequence[float]]],
    looks: Sequence[Look],
    ticks: Sequence[float] = (),
    log: str = "",
    legend: str | None = None,
) -> None:
    """A line a label through its points (x, y) or, with an interval, (x, y, low, high).

    `ticks` are those of x, `log` the logarithmic axes ("x", "y" or "xy"), `legend` its place, if there is to be one.
    """
    for (label, points), line in zip(lines.items(), looks, strict=True):
        xs, ys, *intervals = zip(*points, strict=True)
        axis.plot(xs, ys, label=label, **line)
        if intervals:
            axis.vlines(xs, *intervals, color=line["color"], linewidth=0.8)
    for name in log:
        axis.set(**{f"{name}scale": "log"})
    if ticks:
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_xticks([], minor=True)
    if legend:
        axis.legend(loc=legend)


def legend_below(axis: Axes, columns: int) -> None:
    """One legend for all panels, under them."""
    handles = axis.get_legend_handles_labels()
    axis.get_figure().legend(*handles, loc="outside lower center", ncols=columns)


def marks(axis: Axes, *xs: float) -> None:
    """Places on the x axis to look at: pale upright bars."""
    for x in xs:
        axis.axvline(x, color="0.9", linewidth=5, zorder=-1)


def bounds(axis: Axes, crisp: Columns, soft: Columns, name: str, upright: bool = False) -> None:
    """What to read a score against: that of crisp clips, broad and grey, and of soft ones, dotted."""
    line = axis.axvline if upright else axis.axhline
    line(crisp[name]["mean"], color="0.85", linewidth=5, zorder=0)
    line(soft[name]["mean"], color="black", linewidth=0.9, linestyle=":", zorder=0)


def dots(rows: Mapping[str, tuple[Look, Columns]], names: Sequence[str], crisp: Columns, soft: Columns) -> None:
    """Scores with their intervals, a panel a score and an arm a line; `crisp` and `soft` as in `bounds`."""
    axes = panels(names, height=0.7 + 0.25 * len(rows), sharey=True)
    axes[0].set_yticks(range(len(rows)), list(rows))
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    for axis, name in zip(axes, names, strict=True):
        bounds(axis, crisp, soft, name, upright=True)
        for y, (line, columns) in enumerate(rows.values()):
            axis.plot(columns[name]["interval"], [y, y], color=line["color"], linewidth=2)
            axis.plot(columns[name]["mean"], y, **line)
        wide = COLUMNS[name].wide
        if wide:
            axis.set_xscale("symlog", linthresh=1)
        ticks, limits = ((0, 1, 10), (-0.15, 45)) if wide else ((0, 0.5, 1), (-0.25, 1.25))
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_xlim(limits)
        axis.tick_params(axis="y", length=0)


def shaded(
    axis: Axes,
    values: np.ndarray,
    good: np.ndarray,
    rows: Sequence[float],
    columns: Sequence[float],
    framed: tuple[int, int],
) -> None:
    """Numbers (rows, columns), the darker the higher `good`, of the same shape; the default is `framed`."""
    tint = (good - good.min()) / max(np.ptp(good), 1e-9)
    axis.imshow(tint, cmap="Greens", vmin=-0.1, vmax=1.6, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(values):
        axis.text(column, row, f"{value:.2f}", ha="center", va="center")
    row, column = framed
    axis.add_patch(plt.Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, fill=False, linewidth=2))
    axis.set_xticks(range(len(columns)), [f"{x:g}" for x in columns])
    axis.set_yticks(range(len(rows)), [f"{y:g}" for y in rows])
    axis.spines[:].set_visible(False)


def shares(axis: Axes, parts: Mapping[str, Sequence[float]], labels: Sequence[str]) -> None:
    """A bar a label, divided into its parts; in per cent where there is room."""
    left, colours = np.zeros(len(labels)), plt.get_cmap("PuBu")(np.linspace(0.25, 0.95, len(parts)))
    for (kind, widths), colour in zip(parts.items(), colours, strict=True):
        bars = axis.barh(range(len(labels)), widths, left=left, color=colour, edgecolor="white", height=0.7, label=kind)
        texts = [f"{100 * width:.0f}" if width > 0.04 else "" for width in widths]
        axis.bar_label(bars, texts, label_type="center", color="white" if sum(colour[:3]) < 1.5 else "black")
        left = left + widths
    axis.set(xticks=[], xlim=(0, 1))
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.spines[["left", "bottom"]].set_visible(False)


def paths(axis: Axes, points: np.ndarray, line: Look, limit: float) -> None:
    """Ways in the plane, points (2, steps, ways), in a square of -limit … limit."""
    axis.plot(*points, **{"linewidth": 0.7, "markersize": 2, **line})
    _square(axis, limit)


def density(axis: Axes, values: np.ndarray, limit: float, family: str) -> None:
    """A density (n, n) on a square of -limit … limit, by its levels at 5 and 40 % of its height."""
    places, colour = np.linspace(-limit, limit, len(values)), FAMILIES[family]
    low, middle, high = (share * values.max() for share in (0.05, 0.4, 1))
    axis.contourf(places, places, values, levels=[low, high], colors=colour, alpha=0.2)
    axis.contour(places, places, values, levels=[low, middle], colors=colour, linewidths=0.8)
    _square(axis, limit)


def clouds(axis: Axes, points: np.ndarray, line: Look, limit: float) -> None:
    """Points of the plane (2, n), many and small, in a square of -limit … limit."""
    axis.plot(*points, **{"linestyle": "", "markersize": 3, "markeredgewidth": 0.5, "alpha": 0.7, **line})
    _square(axis, limit)


# Plans


def strokes(axis: Axes, plan: Sequence[Leg], fields: Field | Mapping[str, Field] | None = None) -> None:
    """Legs from left to right, each from its level to the next, the grid's highest on top; levels stand evenly.

    A stroke has the colour of its network, or as many as there are networks that its field, of `fields`, asks; dotted
    is noise, thin with a dot what keeps a state or sums some.
    """
    levels = sorted({level for leg in plan for level in (leg.source, leg.target)})
    height = {level: place for place, level in enumerate(levels)}
    for k, leg in enumerate(plan):
        way = [height[leg.source], height[leg.target]]
        if leg.mix is not None:
            line = {"color": "black", "marker": ".", "markevery": [1], "linewidth": 0.6}
            axis.plot([k, k + 0.5, k + 1], [way[0], sum(way) / 2, way[1]], **line)
        elif leg.network is None:
            axis.plot([k, k + 1], way, color="black", linestyle=":")
        else:
            for j, name in enumerate(planned_nfe([leg], fields)):
                line = {"color": FAMILIES[NETWORKS[name]], "linewidth": 2, "solid_capstyle": "round"}
                axis.plot([k, k + 1], [y - 0.25 * j for y in way], **line)
    axis.set(xticks=[], xlim=(-0.5, len(plan) + 0.5), ylim=(-0.6, len(levels) - 0.4))
    axis.set_yticks(range(len(levels)), [{0: "0", math.inf: "∞"}.get(level, "") for level in levels])
    axis.spines["bottom"].set_visible(False)


def _square(axis: Axes, limit: float) -> None:
    axis.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit), xticks=(-1, 1), yticks=(-1, 1))
