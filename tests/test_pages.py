"""What the pages say: Python runs as printed, commands parse, links lead somewhere, tables are stored measurements."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ivmix import TextToVideo
from ivmix.cli import parse
from ivmix.evaluation.arms import ARMS, core_arms, full_arms
from ivmix.evaluation.catalogue import catalogue_arms
from ivmix.evaluation.report import Estimate, distance_text, evaluations, plus_minus
from ivmix.pairs.description import EMBEDDED, PUBLIC
from ivmix.pairs.pair import fingerprint
from ivmix.samplers.samplers import SAMPLERS
from ivmix.samplers.solver_names import SOLVERS
from ivmix.sprites.benchmark import COLUMNS
from ivmix.sprites.measure import load_judge
from ivmix.sprites.truth import TRUTHS

ROOT = Path(__file__).parents[1]
DATA = ROOT / "notebooks" / "data"
RUN_ELSEWHERE = "notebooks/coming_from_diffusers.md"  # beside diffusers, by tests/parity/test_coming_from_diffusers.py
SMALLER = {  # clips of a sixteenth of the pixels, which say as much about the code
    "README.md": {
        'sampler="composite", steps=10)': 'sampler="composite", steps=10, frames=2, height=32, width=32)',
        "# (2, 8, 64, 64, 3) ": "# (2, 2, 32, 32, 3) ",
        "(4, 8, 16, 16)": "(4, 2, 8, 8)",
    }
}


def text(page: Path) -> str:
    """A page as Markdown; of a notebook, the cells that are."""
    if page.suffix == ".md":
        return page.read_text(encoding="utf-8")
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


PAGES = {
    str(path.relative_to(ROOT)): text(path)
    for pattern in ("*.md", "notebooks/*.md", "notebooks/*.ipynb", "ivmix/sprites/*/*.md")
    for path in sorted(ROOT.glob(pattern))
}
every_page = pytest.mark.parametrize("page", PAGES)


def fenced(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.S | re.M)


@pytest.mark.parametrize("page", [page for page in PAGES if page != RUN_ELSEWHERE and fenced(page, "python")])
def test_the_python_blocks_run_in_order_and_print_what_they_say(page, capsys, tmp_path, monkeypatch):
    code = "\0".join(fenced(page, "python"))
    for large, small in SMALLER.get(page, {}).items():
        assert code.count(large) == 1
        code = code.replace(large, small)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in code.split("\0"):
        exec(compile(block, page, "exec"), namespace)
        assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)", block)


def test_most_pages_have_python_that_is_run():
    run = [page for page in PAGES if page != RUN_ELSEWHERE and fenced(page, "python")]
    assert {"README.md", "notebooks/which_solver.md", "notebooks/video_to_video.md"} <= set(run)


def commands(page: str) -> list[str]:
    """Lines of shell blocks that call the command."""
    lines = (line for block in (*fenced(page, ""), *fenced(page, "bash")) for line in block.splitlines())
    return [line for line in lines if line.startswith("ivmix ")]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_commands_have_the_options_they_are_shown_with(page):
    for line in commands(page):
        parse(shlex.split(line, comments=True)[1:])


def anchors(markdown: str) -> set[str]:
    """What GitHub makes of a page's headings."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", markdown, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@every_page
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", PAGES[page]):
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in anchors(text(path)), target


def test_every_page_is_linked_from_the_readme_or_from_one_that_is():
    seen, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix not in (".md", ".ipynb"):
            continue
        seen.add(page)
        targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text(page))
        waiting += [(page.parent / target).resolve() for target in targets]
    assert {str(page.relative_to(ROOT)) for page in seen} >= PAGES.keys() - {"CHANGELOG.md"}


def script(name: str) -> ModuleType:
    """A file of notebooks that writes a page."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "notebooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for the names of its types
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def api() -> ModuleType:
    """notebooks/api.py, which writes the page of names."""
    return script("api")


def test_the_page_of_names_is_what_its_script_writes(api):
    assert PAGES["notebooks/api.md"] == api.page(), "run python notebooks/api.py"


def test_the_page_of_methods_is_what_its_script_writes():
    assert PAGES["notebooks/methods.md"] == script("methods").page(), "run python notebooks/methods.py"


def test_the_page_of_methods_compared_is_what_its_script_writes():
    assert PAGES["notebooks/compared.md"] == script("compared").page(), "run python notebooks/compared.py"


def test_the_page_of_bridges_is_what_its_script_writes():
    assert PAGES["notebooks/bridges.md"] == script("bridges").page(), "run python notebooks/bridges.py"


@pytest.mark.slow
def test_methods_were_compared_in_the_most_steps_that_their_budgets_allow():
    """What `ivmix evaluate --catalogue` would draw today, so that a change of defaults asks for new measurements."""
    arms = {arm["label"]: arm["options"] for arm in json.loads((DATA / "catalogue.arms.json").read_text())}
    budgets = script("compared").budgets(arms)
    today = {a.label: a.options for a in catalogue_arms(TextToVideo.from_pair("sprites").pair, budgets).arms}
    compared = {label: options for label, options in arms.items() if label.partition(", ")[2].isdigit()}
    assert {label: today[label] for label in compared} == compared
    assert stored("catalogue.json").keys() == arms.keys() | {truth.label for truth in TRUTHS}


def test_every_public_name_says_what_it_is_and_comes_from_where_the_page_says(api):
    for name in api.names():
        assert 10 < len(name.line) < 250, name
        assert hasattr(importlib.import_module(name.door), name.name), name


def test_the_quick_start_holds_two_bash_blocks():
    section = PAGES["README.md"].split("## Quick start")[1].split("\n## ")[0]
    blocks = re.findall(r"^```bash\n(.*?)^```", section, re.S | re.M)
    assert len(blocks) == 2
    assert "ivmix sample" in blocks[0]
    assert "python -m pytest" in blocks[1]


def table(page: str, head: str, section: str = "") -> tuple[list[str], list[list[str]]]:
    """The first table of a section whose first cell is `head`: its head, and its rows."""
    markdown = PAGES[page][PAGES[page].index(section and f"\n## {section}\n") :]
    lines = markdown[markdown.index(f"| {head} ") :].split("\n\n")[0].splitlines()
    names, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    assert len(rows) > 2
    return names, rows


def stored(data: str) -> dict[str, dict[str, Any]]:
    return {arm["label"]: arm for arm in json.loads((DATA / data).read_text())["arms"]}


def cell(arm: Mapping[str, Any], column: str) -> str:
    """What a table shows of a stored arm, under the name of a column."""
    if column == "evaluations I+V":
        return evaluations(arm["nfe"])
    if distance := {"Fréchet": "frechet", "MMD": "mmd"}.get(column):
        return distance_text(arm[distance]["mean"], arm[distance].get("deviation"))
    return plus_minus(COLUMNS[column], Estimate(**arm["columns"][column]))


@pytest.mark.parametrize(
    ("page", "head", "section", "data"),
    [
        ("README.md", "sampler", "What was measured", "core.json"),
        ("notebooks/results.md", "sampler", "Every sampler", "core.json"),
        ("notebooks/results.md", "sampler", "Every pattern", "full.json"),
        ("notebooks/video_to_video.md", "64 clips", "What was measured", "07_edit.json"),
        ("ivmix/sprites/pair/README.md", "sampler", "Measured", "pair.json"),
        ("notebooks/few_steps.md", "sampler", "The student", "few.json"),
        ("notebooks/few_steps.md", "sampler", "Beside its teacher", "few_teacher.json"),
    ],
)
def test_tables_are_the_stored_measurements(page, head, section, data):
    report, (names, rows) = stored(data), table(page, head, section)
    for label, *cells in rows:
        assert cells == [cell(report[label], column) for column in names[1:]], label


@pytest.mark.parametrize(
    ("page", "section", "arms", "left_out"),
    [
        ("notebooks/results.md", "Every sampler", core_arms, None),
        ("notebooks/results.md", "Every pattern", full_arms, core_arms),  # whose rows are those of the table above
        ("ivmix/sprites/pair/README.md", "Measured", lambda pair: ARMS, None),
    ],
)
def test_tables_of_samplers_leave_none_out(page, section, arms: Callable[..., Any], left_out):
    pair = TextToVideo.from_pair("sprites").pair
    above = [arm.label for arm in (*TRUTHS, *left_out(pair))] if left_out else []
    every = [arm.label for arm in (*TRUTHS, *arms(pair)) if arm.label not in above]
    assert [label for label, *_ in table(page, "sampler", section)[1]] == every


def test_the_table_of_the_control_is_the_stored_measurement_of_both_pairs():
    both = stored("residue.json"), stored("crisp.json")
    names, rows = table("notebooks/results.md", "empty prompt:", "The control")
    columns = [name.removesuffix(", soft") for name in names[1:-1:2]]
    for label, *cells, nfe in rows:
        assert cells == [cell(arms[label], column) for column in columns for arms in both]
        assert {nfe} == {evaluations(arms[label]["nfe"]) for arms in both}


def test_the_tables_of_windows_are_the_stored_measurements():
    page, report = "notebooks/video_length.md", json.loads((DATA / "windows.json").read_text())
    names, rows = table(page, "64 frames", "What is lost, in closed form")
    for label, *cells in rows:
        assert cells == [f"{report['closed_form'][label][name]:.2f}" for name in names[1:]], label
    columns = ("longest", "jump", "step", "onward", "change_at_joints", "change", "drift")
    for label, *cells in table(page, "clip", "What was measured")[1]:
        arm = report["arms"][label]
        assert cells == [f"{arm[name]['mean']:.2f} ± {arm[name]['error']:.2f}" for name in columns], label


@pytest.mark.parametrize(
    ("pair", "data"),
    [
        *(("sprites", f"{data}.json") for data in ("core", "full", "pair", "residue", "07_edit")),
        ("sprites", "windows.json"),
        ("sprites", "catalogue.json"),
        ("sprites", "few_teacher.json"),
        ("sprites", "one_space.json"),
        ("sprites-crisp", "crisp.json"),
        ("sprites-bridged", "bridged.json"),
        ("sprites-mapped", "mapped.json"),
    ],
)
def test_stored_measurements_are_of_the_weights_that_ship(pair, data):
    model = TextToVideo.from_pair(pair)
    assert json.loads((DATA / data).read_text())["weights"] == fingerprint(model.pair, judge=load_judge(model.pair))


def test_the_table_of_solvers_is_what_their_classes_say():
    listed = {}
    for names, orders, stages, _ in table("notebooks/which_solver.md", "`--solver`")[1]:
        solvers, each = re.findall(r"`(.+?)`", names), [int(order) for order in orders.split(", ")]
        listed |= {s: (n, int(stages)) for s, n in zip(solvers, each * (len(solvers) // len(each)), strict=True)}
    assert listed == {name: (solver.order, solver.stages) for name, solver in SOLVERS.items()}


def named(page: str, head: str) -> list[str]:
    """What the first column of a table puts in code."""
    return [name for row in table(page, head)[1] for name in re.findall("`(.+?)`", row[0])]


def test_the_table_of_pairs_has_every_pair():
    assert sorted(named("notebooks/public_checkpoints.md", "pair")) == sorted([*EMBEDDED, *PUBLIC])


def test_the_readme_s_tables_are_of_pairs_and_samplers_there_are():
    assert set(named("README.md", "`--pair`")) <= {*EMBEDDED, *PUBLIC}
    assert set(named("README.md", "`--sampler`")) <= set(SAMPLERS)


@pytest.mark.slow
def test_what_public_pairs_need_is_what_is_counted_from_their_key_lists():
    command = [sys.executable, str(ROOT / "tests" / "figures" / "pair_costs.py")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    public = {name: row for row in table("README.md", "`--pair`")[1] if (name := row[0].strip("`")) in PUBLIC}
    assert len(public) > 2
    for name, row in public.items():
        assert f"| `{name}` | {row[3]} | {row[4]} |" in printed.splitlines()


@pytest.mark.slow
def test_the_page_of_memory_is_what_is_counted():
    """Of two pairs, one whose models share their weights and one whose do not; the script writes all.

    In a process of its own: where a compilation has failed, torch (2.13) stays between Python's calls, which then keep
    what they were given a little longer, so that a few percent more are alive, and counted.
    """
    script = ROOT / "tests" / "figures" / "memory_table.py"
    command = [sys.executable, str(script), "--only", "animatediff-lightning", "modelscope"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(printed) > 3
    assert not set(printed) - set(PAGES["notebooks/memory.md"].splitlines())
