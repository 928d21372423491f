"""Files from strangers: each is one clear error in bounded memory, nothing of theirs runs, nothing is half-loaded."""

import json
import pickle
import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from ivmix.models import VAE, VAEConfig, inspect, load_unet, load_vae, save_folder
from ivmix.models.checkpoints.files import read_state

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    save_folder(VAE(VAEConfig(block_out_channels=(4, 4), layers_per_block=1, norm_num_groups=2)), folder)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    for path in good.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def refused(path: Path, message: str, kind: type[Exception] = ValueError) -> None:
    """Every way in refuses `path`, in one line that names it."""
    for read in (read_state, load_vae, load_unet, inspect):
        with pytest.raises(kind) as caught:
            read(path)
        text = str(caught.value)
        assert path.name in text
        assert "\n" not in text
        assert len(text) < 1000
        assert re.search(message, text), text


# --- safetensors ----------------------------------------------------------------------------------------------------


def with_header(header: object, data: bytes = b"\0" * 8) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


SAFETENSORS = {
    "empty": (b"", "it is empty"),
    "seven bytes": (b"1234567", "its header should have"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "it is a web page, saved in place of the weights"),
    "git-LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "run `git lfs pull`"),
    "pickle": (pickle.dumps({"a": 1}, protocol=2), r"it is a pickle: if you trust where it came from, name it \.ckpt"),
    "header longer than the file": ((2**62).to_bytes(8, "little") + b"{}", "should have 4,611,686,018,427,387,904 b"),
    "no JSON": (with_header(b'{"a": '), "Expecting value"),
    "no UTF-8": (with_header(b'{"\xff": 1}'), "can't decode"),
    "a list": (with_header([1]), "its header is a JSON list"),
    "deep": (with_header(b"[" * 100_000), "recursion|nested|depth"),
    "a number of 5000 digits": (with_header(b'{"a": ' + b"9" * 5000 + b"}"), "digits"),
    "a name twice": (with_header(b'{"a": 1, "a": 2}'), "'a' occurs twice"),
    "dtype NaN": (with_header(b'{"a": {"dtype": NaN, "shape": [2], "data_offsets": [0, 8]}}'), "NaN is no JSON"),
    "dtype unknown": (with_header({"a": entry(dtype="F33")}), "a has dtype 'F33': expected one of F64"),
    "dtype a list": (with_header({"a": entry(dtype=[])}), r"a has dtype \[\]"),
    "no offsets": (with_header({"a": {"dtype": "F32", "shape": [2]}}), "a has no dtype, shape and data_offsets"),
    "an entry too much": (with_header({"a": entry() | {"x": 1}}), "a has no dtype, shape and data_offsets"),
    "entry a number": (with_header({"a": 1}), "a has no dtype, shape and data_offsets"),
    "a name of two lines": (with_header({"a\n\x1b": entry()}), r"a\\n\\x1b is no name of a tensor"),
    "a name of a megabyte": (with_header({"a" * 10**6: 1}), "aaa … is no name of a tensor: expected up to 400"),
    "shape negative": (with_header({"a": entry(shape=[-2])}), r"a has shape \[-2\]"),
    "shape of fractions": (with_header({"a": entry(shape=[2.0])}), r"a has shape \[2\.0\]"),
    "shape of truths": (with_header({"a": entry(shape=[True])}), r"a has shape \[True\]"),
    "shape astronomical": (with_header({"a": entry(shape=[10**18] * 8)}), "but data_offsets"),
    "shape of many": (with_header({"a": entry(shape=[1] * 9)}), "a has shape"),
    "offsets backwards": (with_header({"a": entry(offsets=[8, 0])}), "but data_offsets"),
    "offsets beyond the end": (with_header({"a": entry(offsets=[8, 16])}), "a begins at byte 8, where 0 is free"),
    "offsets overlap": (
        with_header({"a": entry(), "b": entry(offsets=[4, 12])}, b"\0" * 12), "b begins at byte 4, where 8 is free",
    ),
    "bytes left over": (with_header({"a": entry()}, b"\0" * 9), "should have 8 bytes, 9 are there"),
    "bytes missing": (with_header({"a": entry()}, b"\0" * 7), "should have 8 bytes, 7 are there"),
    "metadata of numbers": (with_header({"__metadata__": {"a": 1}, "a": entry()}), "more than strings"),
    "metadata a list": (with_header({"__metadata__": [], "a": entry()}), "__metadata__ holds more than strings"),
}  # fmt: skip


@pytest.mark.parametrize("how", SAFETENSORS)
def test_a_file_that_is_no_safetensors_is_one_clear_error(how: str, tmp_path: Path) -> None:
    raw, message = SAFETENSORS[how]
    (tmp_path / "a.safetensors").write_bytes(raw)
    refused(tmp_path / "a.safetensors", rf"a\.safetensors is not a readable safetensors file: .*({message})")


def test_a_header_of_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.safetensors").open("wb") as file:
        file.write((2**32).to_bytes(8, "little") + b"{")
        file.truncate(2**32 + 8)  # sparse: it takes no space on disk
    refused(tmp_path / "a.safetensors", "its header has 4,294,967,296 bytes, more than 16,777,216")


@pytest.mark.parametrize("kept", [1, 7, 8, 9, 100, -1])
def test_a_download_cut_short_is_one_clear_error(kept: int, folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:kept])
    with pytest.raises(ValueError, match=rf"{WEIGHTS} is not a readable safetensors file: its"):
        load_vae(folder)


# --- pickles --------------------------------------------------------------------------------------------------------


class Code:
    """Unpickling this runs a command that leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("suffix", [".ckpt", ".pth", ".pt", ".bin"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickle_with_code_in_it_is_refused_and_nothing_runs(suffix: str, wrapped: bool, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / f"a{suffix}"
    code: Any = Code(trace)
    torch.save({"state_dict": {"a": torch.ones(1)}, "hook": code} if wrapped else code, path)
    refused(path, r"is a pickle that wants (posix|nt)\.system, which could run any code or take any memory: not read\.")
    assert not trace.exists()
    torch.load(path, weights_only=False)  # what it would have done
    assert trace.exists()


def test_a_pickle_that_wants_a_class_names_it(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}, "callbacks": {random.Random: 1}}, tmp_path / "a.ckpt")
    refused(tmp_path / "a.ckpt", r"wants random\.Random, which could run any code")


def zipped(path: Path, how: int, **names: bytes) -> None:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, raw in names.items():
            archive.writestr(f"a/{name.replace('_', '.')}", raw)


def test_a_zip_bomb_is_refused_unopened(tmp_path: Path) -> None:
    zipped(tmp_path / "a.ckpt", zipfile.ZIP_DEFLATED, data_pkl=b"\0" * 10**7)
    assert (tmp_path / "a.ckpt").stat().st_size < 10**5
    refused(tmp_path / "a.ckpt", r"'a/data\.pkl' is compressed, which torch\.save never does")


def expanded(path: Path) -> None:
    torch.save({f"{i}": torch.zeros(1).expand(10**12) for i in range(3)}, path)


PICKLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "web page": (lambda path: path.write_text("  \n<html>404</html>"), "it is a web page"),
    "git-LFS pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
    "pickle without a zip": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "torch before 1.6 wrote another"),
    "zip of something else": (lambda path: zipped(path, zipfile.ZIP_STORED, x=b"1"), "not a readable torch file: "),
    "pickle cut": (lambda path: zipped(path, zipfile.ZIP_STORED, data_pkl=b"\x80\x02}", version=b"3"), "torch file: "),
    "tensors of terabytes": (expanded, "its tensors should have 12,000,000,000,000 bytes, the whole file has"),
    "on no device": (lambda path: torch.save({"a": torch.zeros(2, device="meta")}, path), "holds 'a', a .* on meta"),
    "sparse": (lambda path: torch.save({"a": torch.eye(2).to_sparse()}, path), "holds 'a', a torch.sparse_coo tensor"),
    "a list": (lambda path: torch.save([torch.ones(1)], path), "holds a list, expected a state dict"),
    "a tensor": (lambda path: torch.save(torch.ones(1), path), "holds a Tensor, expected a state dict"),
    "no tensors": (lambda path: torch.save({"epoch": 1}, path), r"holds no tensors, only \['epoch'\]"),
    "numbered": (lambda path: torch.save({1: torch.ones(1)}, path), "it names a tensor 1, expected text"),
}


@pytest.mark.parametrize("how", PICKLES)
def test_a_file_that_is_no_state_dict_is_one_clear_error(how: str, tmp_path: Path) -> None:
    write, message = PICKLES[how]
    write(tmp_path / "a.ckpt")
    refused(tmp_path / "a.ckpt", message)


# --- shards ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"a": "../secret.safetensors"}, r"points to '\.\./secret\.safetensors': expected the name of a weight file"),
        ({"a": "/etc/passwd"}, "points to '/etc/passwd'"),
        ({"a": "sub/one.safetensors"}, "points to 'sub/one.safetensors'"),
        ({"a": "m.safetensors.index.json"}, r"points to 'm\.safetensors\.index\.json'"),  # itself
        ({"a": ".."}, r"points to '\.\.'"),
        ({"a": ""}, "points to ''"),
        ({"a": "one.safetensors", "b": "one.safetensors"}, "one.safetensors disagree about 1 tensors, such as 'b'"),
        ({"z": "one.safetensors"}, "one.safetensors disagree about 2 tensors, such as 'a'"),
        ({"a": 1}, "has no weight_map of tensor names to file names"),
        ([], "has no weight_map"),
        ({}, "has no weight_map"),
        (None, "has no weight_map"),
    ],
)
def test_an_index_that_points_elsewhere_or_is_none_is_refused(where: Any, message: str, tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "secret.safetensors")
    (tmp_path / "in").mkdir()
    save_file({"a": torch.ones(1)}, tmp_path / "in" / "one.safetensors")
    index = tmp_path / "in" / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    refused(index, message)


def test_all_missing_shards_are_named_at_once(tmp_path: Path) -> None:
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {str(k): f"m-{k}.safetensors" for k in range(3)}}))
    save_file({"1": torch.zeros(1)}, tmp_path / "m-1.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no file m-0\.saf.*, m-2\.safetensors beside .*, which names 3"):
        read_state(index)
    index.write_text(json.dumps({"weight_map": {str(k): f"m-{k}.safetensors" for k in range(100)}}))
    with pytest.raises(FileNotFoundError, match=r"no file m-0\.safetensors, .* and 91 more beside"):
        read_state(index)


# --- places that are no files ---------------------------------------------------------------------------------------


def test_a_folder_a_missing_file_and_a_strange_name_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(ValueError, match=r"a\.safetensors is a folder, expected a file"):
        read_state(tmp_path / "a.safetensors")
    with pytest.raises(FileNotFoundError, match=r"holds no weight file for vae: expected"):
        load_vae(tmp_path / "a.safetensors")
    refused(tmp_path / "b.safetensors", r"no file (or folder )?.*b\.safetensors", FileNotFoundError)
    (tmp_path / "a.txt").write_text("weights")
    refused(tmp_path / "a.txt", r"a\.txt is no weight file: expected a name in \.safetensors, \.ckpt, \.pth")


def test_a_folder_whose_config_is_missing_or_a_folder_is_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*config\.json"):
        load_vae(folder)
    (folder / "config.json").mkdir()
    with pytest.raises(ValueError, match=r"config\.json is a folder, expected a file"):
        load_vae(folder)


# --- at random ------------------------------------------------------------------------------------------------------


def mutated(raw: bytes, draw: random.Random) -> bytes:
    """A few bytes changed, cut out, put in or copied elsewhere; most often near the front, where headers are."""
    data = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        at = int(len(data) * draw.random() ** draw.choice([1, 8])) if data else 0
        match draw.randrange(5):
            case 0:
                data[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del data[at : at + draw.randint(1, 64)]
            case 2:
                data[at:at] = draw.choice([b'"', b"{", b"[", b"9" * 30, b"-1", b"null", b"\0" * 8, b"NaN", b"1e999"])
            case 3:
                begin = draw.randrange(len(data) + 1)
                data[at:at] = data[begin : begin + draw.randint(1, 64)]
            case 4:
                del data[at:]
    return bytes(data)


def seeds(good: Path) -> dict[str, bytes]:
    """File name -> content of a small sound file of each kind that the loader reads."""
    state = {"decoder.conv_in.weight": torch.ones(2, 2), "b": torch.zeros(3, dtype=torch.float16)}
    torch.save(state, good / "seed.ckpt")
    index = {"metadata": {}, "weight_map": {"decoder.conv_in.weight": "a.safetensors", "b": "a.safetensors"}}
    return {
        "a.safetensors": save(state),
        "a.ckpt": (good / "seed.ckpt").read_bytes(),
        "config.json": (good / "config.json").read_bytes(),
        "a.safetensors.index.json": json.dumps(index).encode(),
    }


def survives(name: str, raw: bytes, folder: Path) -> str:
    """Loads a mutated file. Returns the error's text, "" for none; anything but the promised errors is a failure."""
    (folder / name).write_bytes(raw)
    try:
        if name == "config.json":
            load_vae(folder)
        else:
            read_state(folder / name)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["a.safetensors", "a.ckpt", "config.json", "a.safetensors.index.json"])
def test_a_mutated_file_loads_or_is_one_clear_error(name: str, folder: Path, good: Path) -> None:
    sound = seeds(good)
    (folder / "a.safetensors").write_bytes(sound["a.safetensors"])
    draw = random.Random(name)
    said = [survives(name, mutated(sound[name], draw), folder) for _ in range(100)]
    assert sum(map(bool, said)) > 30
    assert all("\n" not in text and len(text) < 2000 for text in said)


def test_what_hostile_files_claim_takes_no_memory(tmp_path: Path) -> None:
    """In a process of its own, whose peak is then theirs alone."""
    zipped(tmp_path / "bomb.ckpt", zipfile.ZIP_DEFLATED, data_pkl=b"\0" * 2 * 10**8)
    expanded(tmp_path / "expanded.ckpt")
    (tmp_path / "shape.safetensors").write_bytes(with_header({"a": entry(shape=[10**12], offsets=[0, 4 * 10**12])}))
    (tmp_path / "config.json").write_text(json.dumps(VAEConfig().to_dict() | {"layers_per_block": 10**6}))
    save_file({"decoder.mid_block.attentions.0.to_q.weight": torch.ones(1)}, tmp_path / WEIGHTS)
    script = (
        "import resource, sys; from pathlib import Path; from ivmix.models import load_vae\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "folder = Path(sys.argv[1]); before = peak()\n"
        "for path in (folder / 'bomb.ckpt', folder / 'expanded.ckpt', folder / 'shape.safetensors', folder):\n"
        "    try: load_vae(path)\n"
        "    except ValueError as error: assert path != folder or 'describes no VAE' in str(error), error\n"
        "    else: sys.exit('loaded')\n"
        "print((peak() - before) / 1024)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=root, check=True, capture_output=True, text=True
    )
    assert float(done.stdout) < 100, f"{done.stdout} MB more than before"
