"""CONTRIBUTING.md: what it names exists, and each thing that its table says how to add was added as it says."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from adding import THINGS, environment
from test_rooms import PACKAGES, TOPS, arrows

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TABLE = TEXT[TEXT.index("| to add |") :].split("\n\n")[0].splitlines()[2:]
ROWS = {what.strip(): f"{write} {test}" for _, what, write, test, _ in (line.split("|") for line in TABLE)}
MADE = ("notebooks/api.md", "notebooks/methods.md", "notebooks/samplers.md")  # from the code
ALWAYS = (
    "tests/test_rooms.py::test_no_two_rooms_import_each_other_by_any_way_round",
    "tests/test_rooms.py::test_every_room_says_in_its_first_line_what_it_holds",
    "tests/test_rooms.py::test_the_page_of_names_shows_every_room",
    "tests/test_rooms.py::test_tests_stand_in_the_room_of_what_they_test",
    "tests/test_pages.py::test_the_page_of_names_is_what_its_script_writes",
    "tests/test_pages.py::test_every_public_name_says_what_it_is_and_comes_from_where_the_page_says",
)


def paths(text: str) -> list[str]:
    """The files and folders that a text names; NAME and ROOM stand for those to come."""
    return [word for word in re.findall(r"`([\w./-]+)`", text) if re.match(r"[\w.]+/|[A-Z]+\.md$", word)]


def test_every_path_exists() -> None:
    assert len(paths(TEXT)) > 40
    given = [path for path in paths(TEXT) if not re.search("NAME|ROOM", path)]
    assert not [path for path in given if not (ROOT / path).exists()]


def test_the_picture_has_every_room_and_no_arrow_goes_up_in_it() -> None:
    lines = TEXT[TEXT.index("```text") :].split("```")[1].splitlines()

    def line(room: str) -> int | None:
        """On which line a room stands; None of what lies at a top or inside a room, which is not in the picture."""
        found = [k for k, text in enumerate(lines) if re.search(rf" {room.rpartition('.')[2]}  ", text)]
        return found[0] if found else None

    halves = ("ivmix.solvers.", "ivmix.models.")  # whose inner rooms are in the picture; a product's room is whole
    drawn = {room for room in PACKAGES - {*TOPS.values()} if room.count(".") == 1 or room.startswith(halves)}
    assert not [room for room in drawn if line(room) is None]
    for a, others in arrows().items():
        assert not [b for b in others if {a, b} <= drawn and (line(a) or 0) > (line(b) or 0)], a


def test_each_thing_of_the_table_was_tried() -> None:
    assert list(ROWS) == list(THINGS)


def copy_to(folder: Path) -> None:
    """The checkout as git has it, with what is not committed yet."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout
    for path in filter(None, listed.split("\0")):
        if (ROOT / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, folder / path, follow_symlinks=False)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *arguments]
    return subprocess.run(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(folder)
    )


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="copies what git knows: needs a clone")
@pytest.mark.parametrize("what", THINGS)
def test_a_thing_added_as_the_table_says_is_tested_by_the_tests_it_names(what: str, tmp_path: Path) -> None:
    thing = THINGS[what]
    copy_to(tmp_path)
    there = [path for path in thing.tests if (tmp_path / path).exists()]
    if there:
        assert pytest_in(tmp_path, "--collect-only", "-k", thing.named, *there).returncode == 5  # none is its own yet
    before = contents(tmp_path)
    thing.add(tmp_path)
    added = contents(tmp_path)
    touched = {path for path in added if added[path] != before.get(path)}
    said = [re.sub("NAME|ROOM", "[^/]+", path) for path in (*paths(ROWS[what]), *MADE)]
    assert not [path for path in touched if not any(re.match(f"{place}($|(?<=/))", path) for place in said)]
    ran = pytest_in(tmp_path, "-k", thing.named, *thing.tests)
    assert ran.returncode == 0, ran.stdout
    assert all(thing.named in name for name in re.findall(r"^PASSED (.*)$", ran.stdout, re.M))
    ran = pytest_in(tmp_path, *ALWAYS, *thing.also)
    assert ran.returncode == 0, ran.stdout
