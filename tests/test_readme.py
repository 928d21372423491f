"""The README's Python runs as printed, and its links lead somewhere."""

import json
import re
from pathlib import Path

import pytest

from ivmix import TextToVideo
from ivmix.evaluation.arms import ARMS, TRUTHS, core_arms, full_arms
from ivmix.evaluation.jobs import fingerprint
from ivmix.evaluation.report import MAIN, Distance, Estimate, distance_text, evaluations, plus_minus
from ivmix.sampling import SOLVERS
from ivmix.sprites.measure import load_judge

ROOT = Path(__file__).parent.parent
DATA = ROOT / "notebooks" / "data"
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALLER = {  # clips of a sixteenth of the pixels, which say as much about the code
    'sampler="composite", steps=10)': 'sampler="composite", steps=10, frames=2, height=32, width=32)',
    "# (2, 8, 64, 64, 3) ": "# (2, 2, 32, 32, 3) ",
    "(4, 8, 16, 16)": "(4, 2, 8, 8)",
}


def test_the_python_blocks_run_in_order_and_print_what_they_say(capsys):
    code = "\0".join(re.findall(r"^```python\n(.*?)^```", README, re.S | re.M))
    for large, small in SMALLER.items():
        assert code.count(large) == 1
        code = code.replace(large, small)
    blocks = code.split("\0")
    assert len(blocks) == 3
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out.splitlines()
    for line, block in ((0, blocks[0]), (2, blocks[2])):
        assert printed[line] == re.findall(r"print\(.*\)  # (.*)", block)[0]
    assert printed[1] == "{'image': 16, 'video': 26} {'video': 10, 'image': 10}"


def test_links_lead_to_files():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


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
    assert report["weights"] == fingerprint(model, load_judge(model.pair.folder))
    assert [arm["label"] for arm in report["arms"]] == [arm.label for arm in (*TRUTHS, *arms(model.pair))]
    left_out = [arm.label for arm in (*TRUTHS, *elsewhere(model.pair))] if elsewhere else []
    for arm in report["arms"]:
        if arm["label"] in left_out:
            continue
        estimates = {name: Estimate(**arm["columns"][name]) for name in MAIN}
        distance = Distance(**{"deviation": None, "p_value": None, **arm["frechet"]})
        cells = [arm["label"], *(plus_minus(n, e) for n, e in estimates.items())]
        cells.append(distance_text(distance.mean, distance.deviation))
        (row,) = [line for line in lines if line.split("|")[1:2] and line.split("|")[1].strip() == arm["label"]]
        assert [cell.strip() for cell in row.split("|")][1 : len(cells) + 1] == cells
        assert row.endswith(f"| {evaluations(arm['nfe']):<15} |")


def test_the_table_of_solvers_is_what_their_classes_say():
    rows = re.findall(r"^\| (`[a-z0-9+`, -]+`) \| ([0-9, ]+) \| (\d) \|", README.split("| `--solver` |")[1], re.M)
    listed = {}
    for names, orders, stages in rows:
        solvers, each = re.findall(r"`(.+?)`", names), [int(order) for order in orders.split(", ")]
        listed |= {s: (n, int(stages)) for s, n in zip(solvers, each * (len(solvers) // len(each)), strict=True)}
    assert listed == {name: (solver.order, solver.stages) for name, solver in SOLVERS.items()}
