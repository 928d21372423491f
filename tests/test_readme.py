"""The README's Python runs as printed, and its links lead somewhere."""

import json
import re
from pathlib import Path

import pytest

from ivmix import TextToVideo
from ivmix.evaluation.arms import ARMS, core_arms, full_arms
from ivmix.evaluation.report import Distance, Estimate, distance_text, evaluations, plus_minus
from ivmix.pairs.pair import fingerprint
from ivmix.samplers.solver_names import SOLVERS
from ivmix.sprites.benchmark import COLUMNS
from ivmix.sprites.measure import load_judge
from ivmix.sprites.truth import TRUTHS

ROOT = Path(__file__).parent.parent
DATA = ROOT / "notebooks" / "data"
MAIN = [name for name, column in COLUMNS.items() if column.main]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALLER = {  # clips of a sixteenth of the pixels, which say as much about the code
    'sampler="composite", steps=10)': 'sampler="composite", steps=10, frames=2, height=32, width=32)',
    "# (2, 8, 64, 64, 3) ": "# (2, 2, 32, 32, 3) ",
    "(4, 8, 16, 16)": "(4, 2, 8, 8)",
}


def test_the_python_blocks_run_in_order_and_print_what_they_say(capsys, tmp_path, monkeypatch):
    code = "\0".join(re.findall(r"^```python\n(.*?)^```", README, re.S | re.M))
    for large, small in SMALLER.items():
        assert code.count(large) == 1
        code = code.replace(large, small)
    blocks = code.split("\0")
    assert len(blocks) == 5
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [re.findall(r"print\(.*\)  # (.*)", block)[0] for block in blocks]


def test_links_lead_to_files_and_headings():
    headings = {re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
                for line in re.findall(r"^#+ (.*)$", README, re.M)}  # fmt: skip
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert target[1:] in headings if target.startswith("#") else (ROOT / target).exists(), target


def test_the_quick_start_holds_two_bash_blocks():
    section = README.split("## Quick start")[1].split("\n## ")[0]
    blocks = re.findall(r"^```bash\n(.*?)^```", section, re.S | re.M)
    assert len(blocks) == 2
    assert "ivmix sample" in blocks[0]
    assert "python -m pytest" in blocks[1]


@pytest.mark.parametrize(
    ("page", "data", "arms", "elsewhere"),
    [
        ("README.md", "core.json", core_arms, None),
        ("README.md", "full.json", full_arms, core_arms),  # whose rows are those of the table above
        ("ivmix/sprites/pair/README.md", "pair.json", lambda pair: ARMS, None),
    ],
)
def test_the_tables_are_the_stored_measurement(page, data, arms, elsewhere):
    report, lines = json.loads((DATA / data).read_text()), (ROOT / page).read_text().splitlines()
    model = TextToVideo.from_pair("sprites")
    assert report["weights"] == fingerprint(model.pair, judge=load_judge(model.pair))
    assert [arm["label"] for arm in report["arms"]] == [arm.label for arm in (*TRUTHS, *arms(model.pair))]
    left_out = [arm.label for arm in (*TRUTHS, *elsewhere(model.pair))] if elsewhere else []
    for arm in report["arms"]:
        if arm["label"] in left_out:
            continue
        estimates = {name: Estimate(**arm["columns"][name]) for name in MAIN if name in arm["columns"]}
        distance = Distance(**{"deviation": None, "p_value": None, **arm["frechet"]})
        cells = [arm["label"], *(plus_minus(COLUMNS[n], e) for n, e in estimates.items())]
        cells.append(distance_text(distance.mean, distance.deviation))
        whole = [line for line in lines if line.count("|") == len(cells) + 3]  # other tables have fewer columns
        (row,) = [line for line in whole if line.split("|")[1].strip() == arm["label"]]
        assert [cell.strip() for cell in row.split("|")][1 : len(cells) + 1] == cells
        assert row.endswith(f"| {evaluations(arm['nfe']):<15} |")


def arms(data: str) -> dict[str, dict]:
    return {arm["label"]: arm for arm in json.loads((DATA / data).read_text())["arms"]}


def table(head: str) -> tuple[list[str], list[list[str]]]:
    """The table of the README whose first cell is `head`: its head, and its rows."""
    lines = README[README.index(f"| {head} ") :].split("\n\n")[0].splitlines()
    names, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    assert len(rows) > 3
    return names, rows


def test_the_table_of_restored_clips_is_the_stored_measurement():
    report, (names, rows) = arms("07_edit.json"), table("64 clips")
    for label, *cells, nfe in rows:
        columns = report[label]["columns"]
        assert cells == [plus_minus(COLUMNS[name], Estimate(**columns[name])) for name in names[1:-1]]
        assert nfe == evaluations(report[label]["nfe"])


def test_the_table_of_the_control_is_the_stored_measurement_of_both_pairs():
    reports, (names, rows) = (arms("residue.json"), arms("crisp.json")), table("empty prompt:")
    columns = [name.removesuffix(", soft") for name in names[1:-1:2]]
    for label, *cells, nfe in rows:
        both = [report[label] for report in reports]
        assert cells == [plus_minus(COLUMNS[c], Estimate(**arm["columns"][c])) for c in columns for arm in both]
        assert {nfe} == {evaluations(arm["nfe"]) for arm in both}


@pytest.mark.parametrize(
    ("pair", "data"), [("sprites", "residue.json"), ("sprites", "07_edit.json"), ("sprites-crisp", "crisp.json")]
)
def test_stored_measurements_are_of_the_weights_that_ship(pair, data):
    model = TextToVideo.from_pair(pair)
    assert json.loads((DATA / data).read_text())["weights"] == fingerprint(model.pair, judge=load_judge(model.pair))


def test_the_table_of_solvers_is_what_their_classes_say():
    rows = re.findall(r"^\| (`[a-z0-9+`, -]+`) \| ([0-9, ]+) \| (\d) \|", README.split("| `--solver` |")[1], re.M)
    listed = {}
    for names, orders, stages in rows:
        solvers, each = re.findall(r"`(.+?)`", names), [int(order) for order in orders.split(", ")]
        listed |= {s: (n, int(stages)) for s, n in zip(solvers, each * (len(solvers) // len(each)), strict=True)}
    assert listed == {name: (solver.order, solver.stages) for name, solver in SOLVERS.items()}
