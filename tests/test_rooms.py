"""The rooms of the house and the arrows between them, read from the imports as they are written."""

import ast
import importlib
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = {"solvers": "ivmix.solvers", "models": "ivmix.models", "ivmix": "ivmix"}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module by its name; the links ivmix/models and ivmix/solvers are not followed."""
    for top, package in TOPS.items():
        for path in sorted((ROOT / top).rglob("*.py")):
            inside = path.relative_to(ROOT / top)
            if top == "ivmix" and inside.parts[0] in TOPS:
                continue
            yield ".".join((package, *inside.with_suffix("").parts)).removesuffix(".__init__"), path


NAMES = {name for name, _ in modules()}
PACKAGES = {name for name, path in modules() if path.name == "__init__.py"}


def imported(path: Path) -> Iterator[str]:
    """The full names that a file imports, in functions and for type checkers too; modules where a name is one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports here are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in NAMES else str(node.module)


def room(module: str) -> str:
    """The package that a module lies in; a package itself is its front door, a room of its own."""
    return module if module in PACKAGES else module.rpartition(".")[0]


def arrows() -> dict[str, dict[str, str]]:
    """From room to room, with one import that draws the arrow. Modules that lie in no room but at a top are rooms."""
    found = defaultdict[str, dict[str, str]](dict)
    for name, path in modules():
        for other in imported(path):
            if other in NAMES:
                a, b = (x if room(x) in TOPS.values() else room(x) for x in (name, other))
                if a != b:
                    found[a].setdefault(b, f"{name} imports {other}")
    return found


def test_no_two_rooms_import_each_other_by_any_way_round() -> None:
    drawn = arrows()
    try:
        TopologicalSorter(drawn).prepare()
    except CycleError as error:
        circle = error.args[1]
        pytest.fail("; ".join(drawn[b][a] for a, b in pairwise(circle)))


def test_the_solvers_need_torch_alone_and_the_networks_no_solver() -> None:
    for name, path in modules():
        roots = {other.partition(".")[0] for other in imported(path)} - sys.stdlib_module_names
        if name.startswith("ivmix.solvers"):
            assert roots <= {"torch", "ivmix"}, path
            assert all(o.startswith("ivmix.solvers") for o in imported(path) if o.startswith("ivmix")), path
        if name.startswith("ivmix.models"):
            assert all(o.startswith("ivmix.models") for o in imported(path) if o.startswith("ivmix")), path


def test_every_room_says_in_its_first_line_what_it_holds() -> None:
    silent = [name for name, path in modules() if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert not silent


def test_no_file_of_code_is_longer_than_400_lines() -> None:
    long = {name: lines for name, path in modules() if (lines := len(path.read_text().splitlines())) > 400}
    assert not long


def test_the_page_of_names_shows_every_room() -> None:
    page = (ROOT / "notebooks" / "api.md").read_text(encoding="utf-8")
    assert not {name for name in PACKAGES if f" [`{name}`](" not in page}


def test_tests_stand_in_the_room_of_what_they_test() -> None:
    rooms = {name.removeprefix("ivmix.").replace(".", "/") for name in PACKAGES}
    folders = {path.parent.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert folders - {".", "parity"} <= rooms


needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="reads what git tracks: needs a clone")


def tracked_texts() -> Iterator[tuple[str, str]]:
    """Path and text of every tracked file that people write, but for what tells of the past or of things to come."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout
    for name in listed.rstrip("\0").split("\0"):
        written = Path(name).suffix in (".md", ".py", ".ipynb", ".toml", ".yml") or name == ".ci/run"
        if written and name not in ("CHANGELOG.md", "tests/adding.py") and (ROOT / name).is_file():
            yield name, (ROOT / name).read_text(encoding="utf-8")


FILE = re.compile(r"(?<![\w./-])(?:solvers|models|ivmix|tests|notebooks)(?:/[\w.-]+)+\.(?:py|md|json|ipynb|txt|png)\b")
DOTTED = re.compile(r"(?<![\w./-])ivmix(?:\.[a-z]\w*)+")


@needs_git
def test_every_file_that_a_text_names_exists() -> None:
    assert not {(text, path) for text, written in tracked_texts() for path in FILE.findall(written)
                if not re.search("NAME|ROOM", path) and not (ROOT / path).exists()}  # fmt: skip


@needs_git
def test_every_module_that_a_text_names_exists() -> None:
    def lost(name: str) -> bool:
        """Whether the longest prefix of a dotted name that is a module does not have the next word of it."""
        module = max((n for n in NAMES if f"{name}.".startswith(f"{n}.")), key=len)
        rest = name.removeprefix(module).split(".")[1:]
        return bool(rest) and (module == "ivmix" or not hasattr(importlib.import_module(module), rest[0]))

    named = {(text, name) for text, written in tracked_texts() for name in DOTTED.findall(written)}
    assert not {(text, name) for text, name in named if lost(name)}
