"""Notebooks: what is stored was run from top to bottom, and runs again."""

import base64
import re
import shutil
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

ABSOLUTE_PATH = re.compile(r"(?<![\w.:/\\~])/[\w.-]+/[\w.-]+|\b[A-Z]:\\\w")


def read(path):
    notebook = nbformat.read(path, as_version=4)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@every_notebook
def test_stored_notebooks_were_executed_in_order(path):
    notebook, code = read(path)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(cell.outputs for cell in code)
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@every_notebook
def test_notebooks_end_in_an_assertion(path):
    _, code = read(path)
    assert re.search(r"^\s*assert ", code[-1].source, re.MULTILINE)


@every_notebook
def test_stored_notebooks_are_small_and_name_no_absolute_path(path):
    notebook, code = read(path)
    texts = [str(notebook.metadata), *(cell.source for cell in code)]
    for output in (output for cell in code for output in cell.outputs):
        texts += [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
    assert path.stat().st_size < 2_000_000
    assert [match.group() for text in texts for match in ABSOLUTE_PATH.finditer(text)] == []


@every_notebook
def test_notebooks_leave_drawing_to_their_plots(path):
    _, code = read(path)
    assert [cell.source for cell in code if "matplotlib" in cell.source or "plt." in cell.source] == []
    assert "import plots" in code[0].source


@every_notebook
def test_stored_pictures_are_twice_as_sharp_as_they_show(path):
    _, code = read(path)
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    for picture in pictures:
        width = int.from_bytes(base64.b64decode(picture.data["image/png"])[16:20], "big")  # of the file's header
        assert width >= 1.9 * picture.metadata["image/png"]["width"]


@pytest.mark.parametrize("text", ["saved /srv/me/x.png", 'open("/tmp/run/x")', r"C:\Users\me", "File '/a/b.py'"])
def test_absolute_paths_are_recognised(text):
    assert ABSOLUTE_PATH.search(text)


@pytest.mark.parametrize("text", ["https://arxiv.org/abs/2410.04171", "dx/dsigma/2", "runs/a/b.png", "1 / 2 / 3"])
def test_other_slashes_are_not(text):
    assert not ABSOLUTE_PATH.search(text)


@pytest.mark.notebook
@every_notebook
def test_notebooks_run_from_scratch(path, tmp_path, monkeypatch):
    client = pytest.importorskip("nbclient", reason="pip install 'ivmix[notebook]'")
    monkeypatch.setenv("PYTHONPATH", str(path.parent.parent))  # a checkout need not be installed
    notebook, code = read(path)
    for cell in code:
        cell.outputs, cell.execution_count = [], None
    shutil.copytree(path.parent / "data", tmp_path / "data")
    shutil.copy(path.parent / "plots.py", tmp_path)
    client.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
