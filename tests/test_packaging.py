"""The wheel holds what git holds, under one name; the checkout is tidy."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from email.parser import Parser
from pathlib import Path

import pytest

import ivmix

ROOT = Path(__file__).parents[1]
ROOMS = ("ivmix", "models", "solvers")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout


def tracked(*under: str) -> list[str]:
    """Paths of the tracked files, without links."""
    entries = [entry.split("\t") for entry in git("ls-files", "-s", "-z", "--", *under).split("\0") if entry]
    return [path for facts, path in entries if not facts.startswith("120000")]


needs_git = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="compares with git: needs a clone"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from what git knows (the index), not from what lies about."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    git("checkout-index", "--all", f"--prefix={source}/")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(built), str(source)], check=True)
    (path,) = built.iterdir()
    return zipfile.ZipFile(path)


@needs_git
def test_the_wheel_holds_the_rooms_and_nothing_else(wheel):
    expected = [path if path.startswith("ivmix/") else f"ivmix/{path}" for path in tracked(*ROOMS)]
    assert {"ivmix/models/unet/unet.py", "ivmix/solvers/plans/integrate.py", "ivmix/py.typed"} <= set(expected)
    assert Counter(n for n in wheel.namelist() if ".dist-info/" not in n) == Counter(expected)


@needs_git
def test_the_wheel_says_what_it_is(wheel):
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert metadata["Version"] == ivmix.__version__
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert "ivmix = ivmix.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert f"version: {ivmix.__version__}" in (ROOT / "CITATION.cff").read_text()


@needs_git
def test_the_unpacked_wheel_imports_far_from_the_checkout(wheel, tmp_path):
    wheel.extractall(tmp_path / "site")
    script = (
        "import ivmix.models, ivmix.solvers as s; print(ivmix.__file__, ivmix.models.__file__, s.__file__, sep='\\n')"
    )
    run = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(tmp_path / "site")}, "text": True}
    found = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, **run).stdout.split()
    assert [Path(f).parent.relative_to(tmp_path / "site") for f in found] == [
        Path("ivmix"),
        Path("ivmix/models"),
        Path("ivmix/solvers"),
    ]


@pytest.mark.slow
def test_doctests_of_every_room_are_collected_exactly_once():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", "ivmix"]
    listing = subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout
    collected = [line.split("::") for line in listing.splitlines() if "::" in line]
    assert max(Counter(name for _, name in collected).values()) == 1
    rooms = [ROOT / "ivmix", ROOT / "ivmix" / "models", ROOT / "ivmix" / "solvers"]
    written = [p for room in rooms for p in room.rglob("*.py") if re.search(r"^ *>>> ", p.read_text(), re.M)]
    assert {path for path, _ in collected} == {str(p.relative_to(ROOT)) for p in written}
    assert all(
        name.startswith(path.removesuffix("/__init__.py").removesuffix(".py").replace("/", "."))
        for path, name in collected
    )


def test_importing_ivmix_loads_no_torch():
    script = "import sys, ivmix, ivmix.evaluation; ivmix.__version__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE)
    assert "ivmix" in loaded.stdout.split()
    assert not {"torch", "numpy", "av", "PIL"} & set(loaded.stdout.split())


@needs_git
def test_no_file_names_a_place_of_one_machine():
    place = re.compile(rb"(?<![\w.])/(?:work|root|home|Users)\b")
    hits = [path for path in tracked() if place.search((ROOT / path).read_bytes())]
    assert not hits
