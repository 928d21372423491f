"""Files of features come back as they were written, merge, and are refused in one line where they are anything else."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ivmix.evaluation.features import FeatureSet

ROWS = torch.arange(12.0).reshape(4, 3)


def test_what_is_written_is_read_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    FeatureSet(ROWS.double(), ("a", "b/ü\n", "c", "d"), "i3d", "5f3a").save(tmp_path / "x.safetensors")
    found = FeatureSet.load(tmp_path / "x.safetensors")
    assert torch.equal(found.features, ROWS)
    assert found.features.dtype == torch.float32
    assert (found.ids, found.extractor, found.weights) == (("a", "b/ü\n", "c", "d"), "i3d", "5f3a")
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def to_npy(dtype: str, order: str = "C") -> Callable[[Path], None]:
    return lambda path: np.save(path.with_suffix(".npy"), np.asarray(ROWS.numpy(), dtype, order=order))


STRANGERS: dict[str, Callable[[Path], object]] = {
    "float16 of NumPy": to_npy("<f2"),
    "big endian": to_npy(">f4"),
    "by columns": to_npy("<f8", "F"),
    "a bare tensor": lambda path: torch.save(ROWS, path.with_suffix(".pt")),
    "a bare half tensor": lambda path: torch.save(ROWS.half(), path.with_suffix(".pth")),
    "one of a name": lambda path: torch.save({"feats": ROWS, "epoch": 3}, path.with_suffix(".pt")),
    "one of many": lambda path: save_file({"features": ROWS, "x": torch.ones(1)}, path.with_suffix(".safetensors")),
}


@pytest.mark.parametrize("how", STRANGERS)
def test_files_of_strangers_are_read(how: str, tmp_path: Path) -> None:
    STRANGERS[how](tmp_path / "x")
    (path,) = tmp_path.iterdir()
    found = FeatureSet.load(path)
    assert torch.equal(found.features.double(), ROWS.double())
    assert (found.ids, found.extractor) == ((), "")


def test_a_folder_is_its_files_by_name(tmp_path: Path) -> None:
    FeatureSet(ROWS[2:], ("c", "d"), "i3d").save(tmp_path / "rank-1.safetensors")
    FeatureSet(ROWS[:2], ("a", "b")).save(tmp_path / "rank-0.safetensors")
    (tmp_path / "notes.txt").write_text("not features")
    found = FeatureSet.load(tmp_path)
    assert torch.equal(found.features, ROWS)
    assert (found.ids, found.extractor) == (("a", "b", "c", "d"), "i3d")
    np.save(tmp_path / "rank-2.npy", ROWS.numpy())
    assert FeatureSet.load(tmp_path).ids == ()


def wrong_folder(path: Path, *sets: FeatureSet) -> None:
    path.mkdir()
    for k, one in enumerate(sets):
        one.save(path / f"{k}.safetensors")


def claims(path: Path) -> None:
    """A header of a terabyte, without the terabyte."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (500000, 500000), }"
    header += b" " * (64 - (10 + len(header) + 1) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def cut(path: Path) -> None:
    np.save(path, ROWS.numpy())
    path.write_bytes(path.read_bytes()[:-4])


def with_ids(ids: str) -> Callable[[Path], None]:
    return lambda path: save_file({"a": ROWS}, path, {"ids": ids})


class Code:
    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("raise SystemExit('run')",)


DAMAGED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("x.npy", lambda path: None, "no file"),
    "no such kind": ("x.csv", lambda path: path.write_text("1,2"), "no file of features: expected a name in"),
    "empty": ("x.npy", lambda path: path.write_bytes(b""), "not a readable .npy file"),
    "cut": ("x.npy", cut, "not a readable .npy file"),
    "claims": ("x.npy", claims, "not a readable .npy file"),
    "objects": ("x.npy", lambda path: np.save(path, np.array([[{}]]), allow_pickle=True), "Python objects in dtype"),
    "a pickle by another name": ("x.npy", lambda path: path.write_bytes(pickle.dumps(Code())), "pickle"),
    "code": ("x.pt", lambda path: torch.save(Code(), path), "wants builtins.exec"),
    "whole numbers": ("x.npy", lambda path: np.save(path, np.ones((2, 2), int)), "holds int64, expected floating"),
    "an archive": ("x.npy", lambda path: np.savez(path.open("wb"), a=ROWS.numpy()), "holds NpzFile, expected floating"),
    "not a table": ("x.npy", lambda path: np.save(path, np.ones(3)), r"float64 \(3,\): expected floating \(n, d\)"),
    "no rows": ("x.pt", lambda path: torch.save(torch.zeros(0, 3), path), r"\(0, 3\): expected floating"),
    "NaN": ("x.pt", lambda path: torch.save(torch.full((2, 3), float("nan")), path), "2 of 2 features hold NaN"),
    "noise": ("x.pt", lambda path: torch.save(1e30 * ROWS, path), r"features reach 1.1e\+31: expected 1e\+08 at most"),
    "several": ("x.pt", lambda path: torch.save({"a": ROWS, "b": ROWS}, path), "holds a, b: expected one tensor"),
    "zip": ("x.pt", lambda path: zipfile.ZipFile(path, "w").writestr("a", "b"), "not a readable torch file"),
    "ids": ("x.safetensors", with_ids('["a"]'), "1 ids for 4 features"),
    "ids twice": ("x.safetensors", with_ids('["a","b","c","a"]'), "'a' occurs twice"),
    "ids of numbers": ("x.safetensors", with_ids("[1]"), "no list of text"),
    "ids no JSON": ("x.safetensors", with_ids("["), "ids of its .* not JSON"),
    "an empty folder": ("x", lambda path: path.mkdir(), "folder without files of features"),
    "a folder with one clip twice": (
        "x", lambda path: wrong_folder(path, FeatureSet(ROWS[:1], ("a",)), FeatureSet(ROWS[:1], ("a",))),
        "'a' occurs twice"),
    "a folder of two extractors": (
        "x", lambda path: wrong_folder(path, FeatureSet(ROWS, extractor="a"), FeatureSet(ROWS, extractor="b")),
        "names extractor a, .* b: expected one"),
    "a folder of two lengths": (
        "x", lambda path: wrong_folder(path, FeatureSet(ROWS), FeatureSet(ROWS[:, :2])), "length 3, .* of 2: expected"),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGED)
def test_anything_else_is_one_clear_line_with_its_path(how: str, tmp_path: Path) -> None:
    name, write, message = DAMAGED[how]
    write(tmp_path / name)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        FeatureSet.load(tmp_path / name)
    assert "\n" not in str(error.value)
    assert str(tmp_path / name) in str(error.value)
