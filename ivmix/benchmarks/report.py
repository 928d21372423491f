"""A benchmark's report: our rows, what real clips give at the same number, and what is in print beside them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ivmix.benchmarks.description import Description
from ivmix.benchmarks.results import Result
from ivmix.evaluation.distance import Distance
from ivmix.evaluation.legend import Column
from ivmix.evaluation.metrics.reference import RESAMPLES
from ivmix.evaluation.paper import Published, Row, Table, metrics, models_of, row_of, tables
from ivmix.evaluation.report import LEVEL, compact, distance_text, evaluations, markdown_table, plus_minus

SCHEMA = 1
SCORE = Column("", "{:.3f}")
COMPARISONS = {
    "parts": "each sample of all prompts with the whole reference, and their mean",
    "tiled": "all clips with the reference repeated as often as there are samples; the MMD with it once",
    "pooled": "all clips with the reference",
}


@dataclass(frozen=True)
class Written:
    """What writing clips to video files changes: of as many clips of the first row, drawn and read again."""

    clips: int
    row: str
    features: Mapping[str, float]  # by protocol: mean distance of a clip's two features, over their mean length
    distances: Mapping[str, tuple[float, float]]  # by metric, in double precision: of lossless clips, of files


@dataclass(frozen=True)
class Report:
    benchmark: Description
    made: Mapping[str, Any]  # pair, weights, versions, device: what drew the clips, or nothing
    prompts: Mapping[str, Any]  # "sha256", how many, of which seed, how many captions are cut
    extractors: Mapping[str, Mapping[str, Any]]  # settings by protocol
    complete: tuple[int, int]  # clips of a row that are measured, and that the benchmark has
    results: tuple[Result, ...]
    written: Written | None
    warnings: tuple[str, ...]

    @property
    def baseline(self) -> str:
        return self.results[0].label

    def to_json(self) -> str:
        head = {
            "schema": SCHEMA, "benchmark": self.benchmark.name, **self.made, "prompts": dict(self.prompts),
            "complete": self.complete, "extractors": dict(self.extractors), "warnings": self.warnings,
            "unknown": self.benchmark.unknown, "written": None if self.written is None else asdict(self.written),
            "published": [asdict(table) for table in published(self)],
        }  # fmt: skip
        rows = [{
            **{name: getattr(result, name) for name in ("label", "settings", "nfe", "seconds", "p_values")},
            "distances": {metric: {how: brief(one) for how, one in found.items()}
                          for metric, found in result.distances.items()},
            "scores": {name: asdict(score) for name, score in result.scores.items()},
        } for result in self.results]  # fmt: skip
        text = json.dumps(compact(head), indent=2, ensure_ascii=False)
        lines = ",\n".join("    " + json.dumps(compact(row), ensure_ascii=False) for row in rows)
        return f'{text[:-2]},\n  "rows": [\n{lines}\n  ]\n}}\n'


def brief(found: Distance) -> dict[str, Any]:
    """A distance by its protocol's name."""
    raw = asdict(found)
    return {"protocol": found.protocol.name, **{name: raw[name] for name in raw if name != "protocol"}}


def published(report: Report) -> tuple[Table, ...]:
    """What is in print of this benchmark; of a pair that the paper has, its model's rows alone."""
    if not report.benchmark.published:
        return ()
    found, models = tables(report.benchmark.published), models_of(report.made.get("pair", ""))
    if not models:
        return found
    return tuple(
        Table(table.name, table.source, table.benchmark, rows) for table in found
        if (rows := tuple(row for row in table.rows if row.model in models))
    )  # fmt: skip


def in_print(report: Report, result: Result) -> Row | None:
    """The paper's row of the same pair and sampler, if it has one."""
    sampler = result.settings.get("sampling", {}).get("sampler", "")
    pair = report.made.get("pair", "")
    return row_of(report.benchmark.published, pair, sampler) if report.benchmark.published and sampler else None


def main_table(report: Report) -> str:
    """A row each: distances by their main comparison, scores, the paper's beside them, and what they cost."""
    first, papers = report.results[0], [in_print(report, result) for result in report.results]
    names, costs = [*first.distances, *first.scores], any(result.nfe for result in report.results)
    compared = [name for name in names if any(paper and name in paper.numbers for paper in papers)]
    head = [""]
    for name in names:
        head += [metrics()[name].label, *(["paper"] if name in compared else [])]
    head += ["evaluations I+V", "s/clip"] if costs else []
    rows = []
    for result, paper in zip(report.results, papers, strict=True):
        cells = [result.label]
        for name in names:
            if name in result.distances:
                cells.append(distance_text(result.main(name).value, result.main(name).full_error))
            else:
                cells.append(plus_minus(SCORE, result.scores[name]))
            if name in compared:
                cells.append(number(None if paper is None else paper.numbers.get(name)))
        if costs:
            cells += [evaluations(result.nfe), "" if result.seconds is None else f"{result.seconds:.2f}"]
        rows.append(cells)
    return markdown_table(head, rows)


def number(printed: Published | None) -> str:
    """As it is in print."""
    if printed is None:
        return ""
    return f"{printed.value:g}" + ("" if printed.printed is None else f" ± {printed.printed:g}")


def distance_table(report: Report, metric: str) -> str:
    """All that is known of one metric, a row for each of ours and comparison."""
    rows = []
    for result in report.results:
        for how, found in result.distances[metric].items():
            p = result.p_values[metric] if found is result.main(metric) else None
            rows.append([
                result.label, how, distance_text(found.value, None), distance_text(found.full, found.full_error),
                f"{found.mmd:.4g}" + ("" if found.mmd_error is None else f" ± {found.mmd_error:.2g}"),
                "" if p is None else f"{p:.3f}", f"{', '.join(map(str, found.fake))} to {found.real}",
            ])  # fmt: skip
    return markdown_table(["", "comparison", "by protocol", "full sets", "MMD", "p", "clips"], rows)


def floor_line(report: Report, metric: str) -> str:
    found = report.results[0].main(metric)
    floor, label = found.floor, metrics()[metric].label
    if floor is None:
        return f"{label} of real clips from real ones is not known: {found.no_floor}."
    return (
        f"{label} of real clips from real ones: {floor.mean:.2f} ± {floor.deviation:.2f} ({floor.low:.2f} to "
        f"{floor.high:.2f} over {floor.draws} draws of {floor.clips} against {floor.against})."
    )


def published_table(tables: Sequence[Table], names: Sequence[str]) -> str:
    rows = [
        [f"{row.model} {row.method}".strip(), f"{table.source}, {table.name}",
         *(number(row.numbers.get(name)) for name in names)]
        for table in tables for row in table.rows if any(name in row.numbers for name in names)
    ]  # fmt: skip
    return markdown_table(["", "from", *(metrics()[name].label for name in names)], rows)


def doubts(tables: Sequence[Table], names: Sequence[str]) -> list[str]:
    """What is doubtful of the numbers shown, each once; with the rows it is of, or the table of which it is of all,
    where it is not of all that is shown."""
    shown = [
        (table.name, [row for row in table.rows if any(name in row.numbers for name in names)]) for table in tables
    ]  # fmt: skip
    of: dict[str, list[list[Row]]] = {}
    for place, (_, rows) in enumerate(shown):
        for row in rows:
            said = (doubt for name in names if name in row.numbers for doubt in row.numbers[name].doubts)
            for doubt in dict.fromkeys(said):
                of.setdefault(doubt, [[] for _ in shown])[place].append(row)

    def whose(found: list[list[Row]]) -> str:
        if found == [rows for _, rows in shown]:
            return ""
        said = list[str]()
        for (table, rows), some in zip(shown, found, strict=True):
            said += [table] if some == rows else [f"{row.model} {row.method}" if row.method else table for row in some]
        return f"{', '.join(dict.fromkeys(said))}: "

    return [whose(found) + doubt for doubt, found in of.items()]


def markdown(report: Report) -> str:
    """The whole of it, to read."""
    benchmark, (there, wanted) = report.benchmark, report.complete
    of = f": {report.made['pair']}" if "pair" in report.made else ""
    part = "" if there >= wanted else f" A part: {there:,} of its {wanted:,} clips a row, the first of a fair order."
    lines = [f"# {benchmark.name}{of}", "", benchmark.about + part, "", main_table(report), ""]
    lines += [line for warning in report.warnings for line in (f"**Warning**: {warning}.", "")]
    names = [*report.results[0].distances, *report.results[0].scores]
    if report.results[0].distances:
        lines += ["Distances: by their protocol, ± a jackknife's standard error of full sets over prompts, which is no "
                  "deviation between runs.", ""]  # fmt: skip
        lines += [line for metric in report.results[0].distances for line in (floor_line(report, metric), "")]
    if report.results[0].scores:
        lines += [f"Scores: mean ± half the width of a {100 * LEVEL:g} % interval, a bootstrap over prompts.", ""]
    if found := [table for table in published(report) if names]:
        lines += ["## In print", "", published_table(found, names), ""]
        if there < wanted and report.results[0].distances:
            lines += ["These are of all clips, ours of fewer, whose distances are larger: do not compare them.", ""]
        lines += ["Doubts:", "", *(f"- {doubt}" for doubt in doubts(found, names)), ""]
    if benchmark.unknown:
        lines += ["## What is not said of the paper's runs, and what is done here", ""]
        lines += [*(f"- {text}" for text in benchmark.unknown), ""]
    for metric in report.results[0].distances:
        lines += [f"## {metrics()[metric].label}", "", distance_table(report, metric), ""]
        known = report.results[0].distances[metric]
        lines += [*(f"- {how}: {COMPARISONS[how]}" for how in known)]
        lines += [f"- MMD: unbiased, polynomial of degree 3; p: paired permutation against {report.baseline!r}, a "
                  f"prompt's clips swapped, {RESAMPLES} times, of all clips"]  # fmt: skip
        said = dict.fromkeys(text for result in report.results for text in result.main(metric).warnings)
        lines += [*(f"- {text}" for text in said), ""]
    if report.written is not None:
        lines += ["## What writing video files changes", "", *written_lines(report.written), ""]
    lines += ["## How", "", *how_lines(report), ""]
    return "\n".join(lines)


def written_lines(written: Written) -> Iterator[str]:
    yield (f"Rows are measured from lossless clips. Of the first {written.clips} of {written.row!r}, read again from "
           "the video files beside them:")  # fmt: skip
    yield ""
    for protocol, change in written.features.items():
        yield f"- {protocol}: a clip's features move by {100 * change:.2g} % of their length"
    for metric, (before, after) in written.distances.items():
        label = metrics()[metric].label
        yield f"- {label} of full sets, these clips alone: {before:.2f} lossless, {after:.2f} from files"


def how_lines(report: Report) -> Iterator[str]:
    for name, value in {**report.prompts, **report.made}.items():
        yield f"- {name}: {json.dumps(value) if value == '' else value}"
    for result in report.results:
        if result.settings:
            yield f"- {result.label}: {json.dumps(compact(result.settings), ensure_ascii=False)}"
    for protocol, settings in report.extractors.items():
        yield f"- {protocol}: {json.dumps(settings, ensure_ascii=False)}"
