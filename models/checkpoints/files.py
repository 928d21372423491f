"""Tensors of any weight file, memory-mapped: safetensors, torch's zip files, and either of them in shards.

Files come from strangers. Everything that a file claims about itself is checked before memory is set aside for it, and
pickles are read by torch's restricted unpickler alone: no code of theirs runs, and no class is built.
"""

import math
import pickletools
import re
import zipfile
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ivmix.models.checkpoints.folders import PICKLES, SAFETENSORS, shards
from ivmix.models.json_files import check_is_file, parse_json, read_json
from ivmix.models.quoting import printable, short

LARGEST_HEADER = 2**24  # bytes; the largest public file here needs a quarter of a million, LoRAs add tags in millions
LARGEST_PICKLE = 2**21  # bytes without the tensors': 147 a tensor, so seven times Stable Diffusion's with its averages
MOST_TENSORS = 20_000  # of a file; the largest public one here has 1,831
LONGEST_NAME = 400  # characters of a tensor's name; the longest public one here has a third of them
LARGEST_TUPLE = 1_000  # of all inside: as a key it is hashed whole, and sixty tuples of twice the last take for ever
WRAPPERS = ("state_dict", "module", "model")  # what trainers put a state dict into
PREFIXES = ("_forward_module.", "module.")  # what DeepSpeed and DistributedDataParallel put before every key
# What a state dict is pickled from, whether by torch or by a trainer that puts sizes, dtypes and devices beside it.
# torch would take more: `bytearray` and the classes of tensors and raw storages, which set any memory aside.
PARTS = re.compile(
    r"collections (OrderedDict|Counter)|builtins (set|complex)|_codecs encode|torch\.serialization _get_layout"
    r"|torch (Size|device|bool|(b?float|complex|u?int)\w+)|torch(\.cuda)? \w+Storage|torch\.nn\.parameter Parameter"
    r"|torch\._utils _rebuild_(tensor(_v2)?|parameter|sparse_tensor|meta_tensor_no_storage)"
)
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip


def read_state(path: Path | str, bare: str | None = None) -> dict[str, Tensor]:
    """The tensors of one file by name, memory-mapped and as stored; `path` may be an index of shards (`*.index.json`).

    What trainers wrap around a state dict is taken off, and what is no tensor left out. A tensor without a name, as
    torch.save(tensor) writes it, gets the name `bare`, or is no state dict. Raises FileNotFoundError, or ValueError for
    anything that is no readable weight file, a pickle that wants classes included.
    """
    path = Path(path)
    if path.suffix == ".json":
        return _read_shards(path)
    check_is_file(path)
    if path.suffix == SAFETENSORS:
        return _stripped(_read_safetensors(path))
    if path.suffix in PICKLES:
        return _stripped(_read_pickle(path, bare))
    raise ValueError(f"{path} is no weight file: expected a name in {SAFETENSORS}, {', '.join(PICKLES)} or .index.json")


def read_metadata(path: Path | str) -> dict[str, str]:
    """What a safetensors file says about itself beside its tensors; nothing for other files."""
    path = Path(path)
    return _safetensors_header(path)[1] if path.suffix == SAFETENSORS else {}


# --- safetensors ----------------------------------------------------------------------------------------------------


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    names, _ = _safetensors_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}
    except Exception as error:  # a library's own errors, and torch's, on a file whose header was sound
        raise ValueError(_unreadable(path, error)) from None


def _safetensors_header(path: Path) -> tuple[list[str], dict[str, str]]:
    """Names of the tensors and the metadata; every byte of the data belongs to exactly one tensor, or ValueError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if hint := _not_weights(path):
            raise ValueError(_unreadable(path, hint))
        if size < 8 or length > size - 8:
            raise ValueError(_unreadable(path, f"its header should have {length:,} bytes, the whole file has {size:,}"))
        if length > LARGEST_HEADER:
            raise ValueError(_unreadable(path, f"its header has {length:,} bytes, more than {LARGEST_HEADER:,}"))
        raw = file.read(length)
    try:
        header = parse_json(raw)
        if not isinstance(header, dict):
            raise ValueError(f"its header is a JSON {type(header).__name__}, expected an object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its __metadata__ holds more than strings")
        _check_names(header)
        end = 0
        for name, begin, stop in sorted((_place(n, e) for n, e in header.items()), key=lambda place: place[1:]):
            if begin != end:
                raise ValueError(f"{name} begins at byte {begin:,}, where {end:,} is free")
            end = stop
        if end != size - 8 - length:
            raise ValueError(f"its tensors should have {end:,} bytes, {size - 8 - length:,} are there")
    except ValueError as error:
        raise ValueError(_unreadable(path, error)) from None
    return list(header), metadata


def _check_names(names: Iterable[Any]) -> None:
    """Raises ValueError unless all of them are tensors' names, fit for one line of an error."""
    names = list(names)
    if len(names) > MOST_TENSORS:
        raise ValueError(f"it holds {len(names):,} tensors, more than {MOST_TENSORS:,}")
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"it names a tensor {short(name)}, expected text")
        if not name.isprintable() or len(name) > LONGEST_NAME:
            raise ValueError(f"{printable(name, 60)} is no name of a tensor: expected up to {LONGEST_NAME} characters")


def _place(name: str, entry: Any) -> tuple[str, int, int]:
    """(name, begin, end) of one header entry, whose shape and dtype fill just that many bytes."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} has no dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{name} has dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    for numbers, most in ((shape, 8), (offsets, 2)):
        if not isinstance(numbers, list) or len(numbers) > most or any(type(n) is not int or n < 0 for n in numbers):
            raise ValueError(f"{name} has shape {str(shape)[:60]} and data_offsets {str(offsets)[:60]}")
    if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * DTYPES[dtype].itemsize:
        raise ValueError(f"{name} has shape {shape} in {dtype}, but data_offsets {offsets}")
    return name, offsets[0], offsets[1]


def _unreadable(path: Path, reason: object) -> str:
    kind = "safetensors" if path.suffix == SAFETENSORS else "torch"
    return f"{path} is not a readable {kind} file: {printable(reason)}"


def _not_weights(path: Path) -> str | None:
    """What a file that is no weight file at all turns out to be, with the remedy."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if not start:
        return "it is empty: download it again"
    if start.startswith(b"version https://git-lfs"):
        return "it is a git-LFS pointer, not the weights: run `git lfs pull` where it came from"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, saved in place of the weights: download it again"
    if path.suffix == SAFETENSORS and start.startswith((b"pk\x03\x04", b"\x80\x02")):
        return "it is a pickle: if you trust where it came from, name it .ckpt"
    return None


# --- torch.save -----------------------------------------------------------------------------------------------------


def _read_pickle(path: Path, bare: str | None) -> dict[str, Tensor]:
    if hint := _not_weights(path):
        raise ValueError(_unreadable(path, hint))
    _check_zip(path)
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # pickle's, zip's and torch's errors: no list of them is complete
        said = str(error).partition("WeightsUnpickler error: ")[2] or str(error)  # after what torch says of itself
        raise ValueError(_unreadable(path, said.split("\n")[0] or type(error).__name__)) from None
    state = _unwrap(path, {bare: raw} if bare is not None and isinstance(raw, Tensor) else raw)
    claimed, size = sum(tensor.nbytes for tensor in state.values()), path.stat().st_size
    if claimed > 2 * size:  # tensors may share storage, but not without limit
        raise ValueError(_unreadable(path, f"its tensors should have {claimed:,} bytes, the whole file has {size:,}"))
    return state


def _check_zip(path: Path) -> None:
    """torch.save stores without compression: what is compressed may be a zip bomb, and cannot be mapped."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
            start = [archive.open(entry).read(LARGEST_PICKLE + 1) for entry in pickles[:1] if not entry.compress_type]
    except Exception as error:
        raise ValueError(
            _unreadable(path, f"{error} (torch before 1.6 wrote another format: load and save it there once)")
        ) from None
    size = path.stat().st_size
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or not entry.file_size == entry.compress_size <= size:
            raise ValueError(_unreadable(path, f"{entry.filename!r} is compressed, which torch.save never does"))
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError(_unreadable(path, "its entries overlap"))
    if len(pickles) != 1:
        raise ValueError(_unreadable(path, f"it holds {len(pickles)} pickles (data.pkl), expected one"))
    if pickles[0].file_size > LARGEST_PICKLE:
        raise ValueError(_unreadable(path, f"its pickle has {pickles[0].file_size:,} bytes, over {LARGEST_PICKLE:,}"))
    if start[0][:1] == b"\x80" and start[0][1:2] not in (b"\2", b"\3"):
        raise ValueError(_unreadable(path, f"its pickle is of protocol {start[0][1:2].hex()}, torch.save's is 2"))
    wanted, largest = _survey(start[0])
    if wanted:
        names = ", ".join(wanted[:3]) + (f" and {len(wanted) - 3} more" if len(wanted) > 3 else "")
        raise ValueError(
            f"{path} is a pickle that wants {printable(names)}, which could run any code or take any memory: not read. "
            "Use the same weights in safetensors, or convert the file where you trust it"
        )
    if largest > LARGEST_TUPLE:
        raise ValueError(_unreadable(path, f"its pickle holds a tuple of {largest:.2g} values, over {LARGEST_TUPLE:,}"))


def _survey(pickle: bytes) -> tuple[list[str], int]:
    """The names a pickle asks for that are none of `PARTS`, and how many values its largest tuple holds, those of the
    tuples in it included; nothing is built.

    Up to where it can be read: what comes after, no unpickler reads either.
    """
    wanted, largest = set[str](), 0
    stack = list[int | None]()  # what a value counts for in a tuple, None for a mark
    memo = dict[Any, int | None]()
    try:
        for code, value, _ in pickletools.genops(pickle):
            if code.name in ("GLOBAL", "INST"):
                name = str(value).replace("__builtin__ ", "builtins ")
                if not PARTS.fullmatch(name):
                    wanted.add(name.replace(" ", "."))
            if code.name == "MARK":
                stack.append(None)
            elif code.name.endswith("PUT"):
                memo[value] = stack[-1]
            elif code.name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif code.name.endswith("GET"):
                stack.append(memo[value])
            else:
                taken = list[int | None]()
                for kind in reversed(code.stack_before):
                    if kind is pickletools.stackslice:
                        while stack[-1] is not None:
                            taken.append(stack.pop())
                    else:
                        taken.append(stack.pop())
                count = 1 + sum(one or 0 for one in taken) if "TUPLE" in code.name else 1
                largest = max(largest, count)
                stack += [count] * len(code.stack_after)
    except (ValueError, KeyError, IndexError, AttributeError, UnicodeError):
        pass
    return sorted(wanted), largest


def _unwrap(path: Path, raw: Any) -> dict[str, Tensor]:
    for _ in WRAPPERS:  # no deeper: a pickle may hold itself
        if isinstance(raw, Mapping):
            raw = next((raw[name] for name in WRAPPERS if isinstance(raw.get(name), Mapping)), raw)
    if not isinstance(raw, Mapping):
        raise ValueError(f"{path} holds a {type(raw).__name__}, expected a state dict: tensors by name")
    state = {name: value.detach() for name, value in raw.items() if isinstance(value, Tensor)}
    try:
        _check_names(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise ValueError(f"{path} holds {name!r}, a {tensor.layout} tensor on {tensor.device}: not read")
    if not state:
        raise ValueError(f"{path} holds no tensors, only {[str(name)[:60] for name in islice(raw, 5)]}")
    return state


def _stripped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


# --- shards ---------------------------------------------------------------------------------------------------------


def _read_shards(index: Path) -> dict[str, Tensor]:
    """`weight_map` names each tensor's file, which lies beside the index and holds just the tensors named for it."""
    files, where = shards(index), read_json(index)["weight_map"]
    if lacking := [file.name for file in files if not file.is_file()]:
        few = ", ".join(lacking[:8]) + (f" and {len(lacking) - 8} more" if len(lacking) > 8 else "")
        raise FileNotFoundError(f"no file {few} beside {index}, which names {len(files)} in all")
    state: dict[str, Tensor] = {}
    for file in files:
        shard = read_state(file)
        named = {name for name, place in where.items() if place == file.name}
        if wrong := sorted(shard.keys() ^ named):
            raise ValueError(f"{index} and {file.name} disagree about {len(wrong)} tensors, such as {wrong[0][:200]!r}")
        state |= shard
    return state
