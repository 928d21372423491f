"""A benchmark's report as a picture: our distances and those in print, on the scale of what real clips give."""

from pathlib import Path

from ivmix.benchmarks.report import Report, published
from ivmix.evaluation.paper import metrics
from ivmix.media import replacing

OURS, PRINTED = "C3", "0.45"


def legend(report: Report, printed: bool) -> str:
    """What is shown, and of how many clips."""
    there, wanted = report.complete
    said = ["filled: measured" + (f", of {there:,} of {wanted:,} clips" if there < wanted else "")]
    said += ["hollow: in print" + (", of all" if there < wanted else "")] if printed else []
    if any(report.results[0].main(name).floor for name in report.results[0].distances):
        said.append("band: real clips from real ones" + (", of as many as measured" if there < wanted else ""))
    return "; ".join(said)


def plot_distances(report: Report, path: Path) -> None:
    """A panel a metric: ours with a jackknife's error, what is in print; the band is real from real, ± deviation."""
    import matplotlib.pyplot as plt

    names = list(report.results[0].distances)
    printed = [
        (f"{row.model} {row.method}".strip(), row) for table in published(report) for row in table.rows
        if any(name in row.numbers for name in names)
    ]  # fmt: skip
    labels = [result.label for result in report.results] + [label for label, _ in printed]
    figure, axes = plt.subplots(
        1, len(names), sharey=True, squeeze=False, layout="constrained",
        figsize=(3 + 3.4 * len(names), 1.1 + 0.24 * len(labels)),
    )  # fmt: skip
    for axis, name in zip(axes[0], names, strict=True):
        for y, result in enumerate(report.results):
            found = result.main(name)
            axis.errorbar(found.value, y, xerr=found.full_error, fmt="o", color=OURS, markersize=6, capsize=2)
        for y, (_, row) in enumerate(printed, len(report.results)):
            if name in row.numbers:
                axis.plot(row.numbers[name].value, y, "o", markerfacecolor="none", color=PRINTED, markersize=6)
        if floor := report.results[0].main(name).floor:
            axis.axvspan(floor.mean - floor.deviation, floor.mean + floor.deviation, color="0.85", zorder=0)
            axis.axvline(floor.mean, color="0.6", linewidth=0.8, zorder=0)
        if printed:
            axis.axhline(len(report.results) - 0.5, color="0.8", linewidth=0.8)
        axis.set_title(metrics()[name].label, fontsize=10)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.grid(axis="y", color="0.93")
        axis.tick_params(axis="y", length=0)
        axis.set_axisbelow(True)
    axes[0][0].set_yticks(range(len(labels)), labels, fontsize=9)
    axes[0][0].set_ylim(len(labels) - 0.5, -0.5)
    figure.supxlabel(legend(report, bool(printed)), fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
    plt.close(figure)
