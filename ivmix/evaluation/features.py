"""Features of clips on disk: (n, d), a row a clip, with what the clips are called and which network saw them.

Files of strangers are read too (a bare `.npy`, a tensor of torch.save), without running anything that is in them.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ivmix.models.checkpoints.files import read_metadata, read_state
from ivmix.models.json_files import check_is_file, parse_json
from ivmix.models.quoting import printable, short

NAME = "features"  # of the tensor in a file
SUFFIXES = (".safetensors", ".npy", ".pt", ".pth", ".bin", ".ckpt")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LARGEST = 1e8  # of a feature: networks give thousands at most, and products of covariances must fit float32
LARGEST_HEADER = 10_000  # bytes that NumPy may parse of a .npy


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features (n, d) of n clips, finite, of any floating dtype.

    >>> a = FeatureSet(torch.zeros(2, 3), ("left", "right"), extractor="i3d")
    >>> b = FeatureSet(torch.ones(1, 3), ("up",), extractor="i3d")
    >>> FeatureSet.merge([a, b]).ids
    ('left', 'right', 'up')

    ValueError for other shapes, no features at all, NaN, infinite or huge ones, another number of ids than rows, or an
    id that occurs twice.
    """

    features: Tensor
    ids: tuple[str, ...] = ()  # of the clips; none where nothing is known of them
    extractor: str = ""  # the network's name, "" where unknown
    weights: str = ""  # the hash of its weights, likewise

    def __post_init__(self) -> None:
        shape = tuple(self.features.shape)
        if len(shape) != 2 or 0 in shape or self.features.dtype not in FLOATS:
            raise ValueError(f"features is {self.features.dtype} {shape}: expected floating (n, d), one row a clip")
        if rows := int((~self.features.isfinite().all(1)).sum()):
            raise ValueError(f"{rows} of {shape[0]} features hold NaN or infinity: find the clips that gave them")
        if (largest := float(self.features.abs().max())) > LARGEST:
            raise ValueError(f"features reach {largest:.3g}: expected {LARGEST:g} at most, as networks give them")
        if self.ids and len(self.ids) != shape[0]:
            raise ValueError(f"{len(self.ids)} ids for {shape[0]} features: expected one a row, or none")
        if len(set(self.ids)) != len(self.ids):
            twice = Counter(self.ids).most_common(1)[0][0]
            raise ValueError(f"id {short(twice)} occurs twice: no clip counts twice")

    def __len__(self) -> int:
        return len(self.features)

    @classmethod
    def merge(cls, parts: Sequence["FeatureSet"]) -> Self:
        """All rows in order. ValueError where parts differ in length, extractor or weights, or have a clip in common;
        ids are kept only if all parts have them."""
        for part in parts[1:]:
            check_same_features(parts[0], part, "features", "features to be merged")
        ids = tuple(name for part in parts for name in part.ids) if all(part.ids for part in parts) else ()
        known = {name: next((v for p in parts if (v := getattr(p, name))), "") for name in ("extractor", "weights")}
        return cls(torch.cat([part.features for part in parts]), ids, **known)

    def save(self, path: Path | str) -> None:
        """Writes a .safetensors file of float32; it takes the place of an older one only when it is whole."""
        path = Path(path)
        part = path.with_name(f"{path.name}.part")
        said = {"ids": json.dumps(self.ids), "extractor": self.extractor, "weights": self.weights}
        try:
            save_file({NAME: self.features.float().contiguous()}, part, said)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """What `save` wrote, or the features of any .npy, or of a .safetensors or torch file with one tensor, or with
        one by the name of `features`. A folder is what all its feature files hold together, by name.

        FileNotFoundError, or ValueError for anything else.
        """
        path = Path(path)
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and not file.name.startswith("."))
            if not files:
                raise ValueError(f"{path} is a folder without files of features: expected {', '.join(SUFFIXES)}")
            try:
                return cls.merge([cls.load(file) for file in files])
            except ValueError as error:
                raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
        check_is_file(path)
        if path.suffix not in SUFFIXES:
            raise ValueError(f"{path} is no file of features: expected a name in {', '.join(SUFFIXES)}, or a folder")
        features = _read_npy(path) if path.suffix == ".npy" else _only_tensor(path)
        said = read_metadata(path)
        try:
            return cls(features, _ids(said), said.get("extractor", ""), said.get("weights", ""))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def check_same_features(a: FeatureSet, b: FeatureSet, name_a: str, name_b: str) -> None:
    """ValueError unless both are of one length, and of one network as far as they say."""
    widths = a.features.shape[1], b.features.shape[1]
    if widths[0] != widths[1]:
        raise ValueError(f"{name_a} has features of length {widths[0]}, {name_b} of {widths[1]}: expected one length")
    for what in ("extractor", "weights"):
        known = getattr(a, what), getattr(b, what)
        if all(known) and known[0] != known[1]:
            said = [printable(text, 80) for text in known]
            raise ValueError(f"{name_a} names {what} {said[0]}, {name_b} {said[1]}: expected one for both")


def _only_tensor(path: Path) -> Tensor:
    state = read_state(path, bare=NAME)
    if NAME not in state and len(state) != 1:
        names = printable(", ".join(sorted(state)), 200) or "nothing"
        raise ValueError(f"{path} holds {names}: expected one tensor, or one named {NAME}")
    return state.get(NAME, next(iter(state.values()))).clone()  # not mapped: the file may be replaced


def _read_npy(path: Path) -> Tensor:
    """Mapped first: NumPy would set aside whatever memory a header claims."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False, max_header_size=LARGEST_HEADER)
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.dtype.itemsize > 8:
            raise ValueError(f"it holds {getattr(array, 'dtype', type(array).__name__)}, expected floating numbers")
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
    except Exception as error:  # NumPy's, the parser's and the system's: no list of them is complete
        said = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is not a readable .npy file: {printable(said, 200)}") from None


def _ids(said: dict[str, str]) -> tuple[str, ...]:
    try:
        raw = parse_json(said.get("ids", "[]").encode())
    except ValueError as error:
        raise ValueError(f"the ids of its metadata are not JSON: {printable(error, 200)}") from None
    if not isinstance(raw, list) or not all(isinstance(name, str) for name in raw):
        raise ValueError("the ids of its metadata are no list of text")
    return tuple(raw)
