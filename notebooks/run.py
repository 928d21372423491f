"""Runs notebooks from scratch and stores them with what they show.

    python notebooks/run.py [NAME ...]        such as 05_scaling; default: all

Each runs in a folder of its own that holds copies of `data` and `plots.py`, so that nothing else is left behind.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def run(path: Path) -> float:
    """Executes the notebook at `path`, writes it back if no cell failed, and returns the seconds it took."""
    notebook, began = nbformat.read(path, as_version=4), time.perf_counter()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(HERE / "data", Path(folder) / "data")
        shutil.copy(HERE / "plots.py", folder)
        place = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=600, record_timing=False, resources=place).execute()
    notebook.metadata = METADATA
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        output.get("data", {}).pop("image/jpeg", None)  # a picture's second copy, beside the lossless one
    nbformat.write(notebook, path)
    return time.perf_counter() - began


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", metavar="NAME")
    for name in arguments.parse_args().names or sorted(path.stem for path in HERE.glob("*.ipynb")):
        print(f"{name}: {run(HERE / f'{name}.ipynb'):.0f} s", flush=True)


if __name__ == "__main__":
    main()
