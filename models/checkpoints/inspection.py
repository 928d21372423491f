"""What a file is: its layout, its parts, what they lack or have too much. Tensors are mapped, and none is read."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ivmix.models.checkpoints import configs
from ivmix.models.checkpoints.files import read_metadata, read_state
from ivmix.models.checkpoints.folders import PICKLES, SAFETENSORS, STEMS, shards
from ivmix.models.checkpoints.layouts import Found, find, of_xl
from ivmix.models.checkpoints.load import Weights, matching, motion_config, vae_config
from ivmix.models.checkpoints.lora import parse_lora, read_config
from ivmix.models.checkpoints.measuring import MEASURING, described
from ivmix.models.checkpoints.rules import Layout, LayoutError
from ivmix.models.checkpoints.sources import Source, locate
from ivmix.models.checkpoints.state import misfits
from ivmix.models.dit.config import DiTConfig
from ivmix.models.meta import build, shapes_of
from ivmix.models.text.clip import CLIPTextConfig
from ivmix.models.unet.config import UNetConfig
from ivmix.models.unet.temporal import tables_left_out
from ivmix.models.unet.unet import UNet
from ivmix.models.vae import VAE

PREDICTORS: dict[str, tuple[Any, Any]] = {  # part -> its config, and what tells it of shapes
    "unet": (UNetConfig, configs.unet),
    "transformer": (DiTConfig, configs.dit),
}


@dataclass(frozen=True)
class Part:
    """One network in a file. `problems` are the keys that do not fit it, or why its config cannot be told."""

    name: str  # "unet", "transformer", "motion", "vae", "text_encoder", "text_encoder_2", "lora", or one that measures
    layout: str
    prefix: str
    tensors: int
    parameters: int  # position tables and other buffers not counted
    config: Any
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found in a file of weights, to print or to read.

    `dtypes` counts tensors; `dropped` are the keys that loading leaves out on purpose. `problem` is why no layout fits,
    if none does: then there are no parts.
    """

    path: Path
    format: str  # "safetensors" or "torch pickle", "in shards"
    size: int  # bytes
    dtypes: dict[str, int]
    parts: tuple[Part, ...]
    dropped: tuple[str, ...]
    metadata: dict[str, str]
    keys: dict[str, tuple[int, ...]]
    problem: str | None

    @property
    def elements(self) -> int:
        return sum(math.prod(shape) for shape in self.keys.values())


def inspect(source: Source, drop: Sequence[str] = (), layouts: Sequence[Layout] = ()) -> Inspection:
    """What a file of weights is, or the one file of a folder, or one on the hub (downloaded first).

    `drop` are patterns of keys that are left out besides, and `layouts` known besides, as in `load_unet`. Raises
    FileNotFoundError or ValueError for what is no readable file of weights; a file in an unknown layout, or one that
    lacks keys, is reported and no error.
    """
    path = Path(str(source))
    if not path.is_dir():
        path = locate(source, "").weights
    else:
        files = weight_files(path)
        if len(files) != 1:
            names = ", ".join(str(file.relative_to(path)) for file in files) or "none"
            raise ValueError(f"{path} is a folder with {len(files)} files of weights ({names}): name one")
        path = files[0]
    state = read_state(path)
    sharded = path.suffix == ".json"
    files = shards(path) if sharded else [path]
    parts, dropped, problem = _parts(path, state, drop, layouts)
    kind = "safetensors" if files[0].suffix == SAFETENSORS else "torch pickle"
    return Inspection(
        path=path,
        format=kind + (", in shards" if sharded else ""),
        size=sum(file.stat().st_size for file in files),
        dtypes=dict(Counter(str(tensor.dtype).removeprefix("torch.") for tensor in state.values())),
        parts=parts,
        dropped=dropped,
        metadata=read_metadata(path),
        keys={key: tuple(tensor.shape) for key, tensor in state.items()},
        problem=problem,
    )


def weight_files(folder: Path) -> list[Path]:
    """The files of weights in a folder and its subfolders; an index stands for its shards."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    indices = [path for path in files if path.name.endswith(".json") and ".index" in path.name]
    counted = {shard for index in indices for shard in _shards(index)}
    return [f for f in files if f in indices or (f.suffix in (SAFETENSORS, *PICKLES) and f not in counted)]


def _shards(index: Path) -> list[Path]:
    """The files beside an index that its shards would be called."""
    stem = index.name.partition(".")[0]
    return sorted(path for path in index.parent.glob(f"{stem}*-of-*") if path.suffix in (SAFETENSORS, *PICKLES))


def _parts(
    path: Path, state: dict[str, Tensor], drop: Sequence[str], layouts: Sequence[Layout]
) -> tuple[tuple[Part, ...], tuple[str, ...], str | None]:
    if any("lora" in key for key in state):
        return (_lora(path, state),), (), None
    try:
        out = set(matching(state, drop))
        found = find([key for key in state if key not in out], layouts, path.parent.name)  # as a pipeline's folder is
    except LayoutError as error:
        return (), (), str(error)
    dropped = set(state) - {key for part in found.values() for key in part.keys}
    parts = []
    for part in found.values():
        dropped |= {key for key in part.keys if not part.layout.names(key.removeprefix(part.prefix))}
        parts.append(_part(path, part, state, of_xl(found)))
    return tuple(parts), tuple(key for key in state if key in dropped), None


def _lora(path: Path, state: dict[str, Tensor]) -> Part:
    try:
        lora = parse_lora(path.name, state, read_config(path))
    except ValueError as error:
        return Part("lora", "LoRA", "", len(state), _elements(state), None, (str(error),))
    modules = " and ".join(f"{len(found):,} modules of a {part}" for part, found in lora.factors.items())
    layout = f"LoRA ({', '.join(lora.families)}) of rank {', '.join(map(str, lora.ranks))} for {modules}"
    return Part("lora", layout, "", len(state), _elements(state), None, ())


def _part(path: Path, found: Found, state: dict[str, Tensor], xl: bool) -> Part:
    name, layout = found.layout.part, found.layout.name
    try:
        ours = found.take(state)
    except LayoutError as error:
        return Part(name, layout, found.prefix, len(found.keys), 0, None, (str(error),))
    described_by = path.with_name("config.json")
    known = path.name.partition(".")[0] in STEMS and described_by.is_file()
    try:
        weights = Weights(path, ours, described_by if known else None, found.layout, xl=xl)
        config, wanted = _described(name, weights)
        wanted = {key: shape for key, shape in wanted.items() if key not in tables_left_out(ours, wanted)}
    except (ValueError, RuntimeError) as error:
        return Part(name, layout, found.prefix, len(found.keys), _elements(ours), None, (str(error),))
    problems = tuple(problem for kind in misfits(ours, wanted) for problem in kind)
    return Part(name, layout, found.prefix, len(found.keys), _elements(ours), config, problems)


def _described(part: str, weights: Weights) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """The config of a part, and the shapes of the network that it describes."""
    config: Any
    if part in MEASURING:
        return described(part, weights)
    if part == "motion":
        config = motion_config(weights)
        around = replace(weights, config_file=None).config(UNetConfig, configs.around)
        shapes = shapes_of(build(UNet, replace(around, temporal=config)))
        return config, {key: shape for key, shape in shapes.items() if ".motion_modules." in key}
    if part in PREDICTORS:
        config = weights.config(*PREDICTORS[part])
        return config, shapes_of(build(config.network, config))
    if part == "vae":
        config = vae_config(weights)
        return config, shapes_of(build(VAE, config))
    config = weights.config(CLIPTextConfig, configs.text)
    if part == "text_encoder" and isinstance(config, CLIPTextConfig):
        config = replace(config, projection_dim=None)
    return config, shapes_of(build(config.network, config))


def _elements(state: dict[str, Tensor]) -> int:
    """How many of a network's numbers are trained: position tables are computed, not trained."""
    return sum(tensor.numel() for key, tensor in state.items() if not key.endswith(".pe"))
