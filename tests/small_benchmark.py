"""A benchmark in small: prompts, real videos, a network that measures and a pair that draws, each in files."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ivmix.benchmarks.report import Report
from ivmix.benchmarks.run import Task, evaluate
from ivmix.media import write_video
from ivmix.models import UMT, UMTConfig, ViTConfig, save_folder
from ivmix.models.measuring.bert import BertConfig
from ivmix.pairs.description import EMBEDDED

DRAWS = 3  # of a floor
PROTOCOL = "cmvq-styleganv"
REAL = 8  # videos
FRAMES = 10  # the least that it takes
CAPTIONS = {
    "red_01": "a red circle moving left", "red_02": "a red square moving right", "red_03": "a red cross moving up",
    "blue_01": "a blue triangle moving down", "blue_02": "a blue cross moving up",
}  # fmt: skip
ARMS = [
    {"label": "video model alone", "options": {"sampler": "ddim", "steps": 1}},
    {"label": "two steps", "options": {"sampler": "ddim", "steps": 2}},
]
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "blue", "moving", "circle", "square", "cross", "up", "left")


class StandIn(nn.Module):
    """Called as stylegan-v's file is; colours, contrast and change of a clip times a `scale`."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        x = x.float()
        change = (x[:, :, 1:] - x[:, :, :-1]).abs()
        return self.scale * torch.cat([x.mean((2, 3, 4)), x.std((2, 3, 4)), change.mean((2, 3, 4))], 1)


def write_script(path: Path, scale: float = 10.0) -> Path:
    torch.jit.script(StandIn(scale)).save(str(path))
    return path


def write_pair(folder: Path, frames: int = FRAMES) -> Path:
    """The embedded pair, of clips of a sixteenth of its pixels."""
    shutil.copytree(EMBEDDED["sprites"], folder)
    raw = json.loads((folder / "pair.json").read_text())
    (folder / "pair.json").write_text(json.dumps(raw | {"frames": frames, "height": 16, "width": 16}))
    return folder


def write_prompts(path: Path, captions: dict[str, str] | None = None) -> Path:
    rows = [f"{id},{text},{id[:-3]}" for id, text in (captions or CAPTIONS).items()]
    path.write_text("\n".join(["id,prompt,category", *rows]) + "\n")
    return path


def write_videos(folder: Path, names: Sequence[str], frames: int = 12, seed: int = 0) -> Path:
    """Blocks that drift over grounds of any colour."""
    rng = np.random.default_rng(seed)
    for name in names:
        clip = np.broadcast_to(rng.integers(256, size=3, dtype=np.uint8), (frames, 32, 32, 3)).copy()
        colour, (y, x) = rng.integers(256, size=3, dtype=np.uint8), rng.integers(0, 16, 2)
        for f in range(frames):
            clip[f, y : y + 12, x + f // 2 : x + f // 2 + 12] = colour
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(clip, folder / name)
    return folder


def write_description(path: Path, **changes: Any) -> Path:
    raw = {
        "format": 1, "name": "small", "about": "Five captions.", "licence": "none needed",
        "prompts": {"file": {"source": "prompts.csv"}, "format": "table"}, "samples": 2,
        "layout": "{sample}/{id}.mp4", "distances": {"fvd_styleganv": PROTOCOL},
        "comparisons": ["parts", "tiled", "pooled"],
        "reference": {"videos": "*.mp4", "clip": {"frames": FRAMES, "start": "random"}, "count": REAL},
    }  # fmt: skip
    path.write_text(json.dumps(raw | changes))
    return path


def write_umt(folder: Path) -> Path:
    """A small one, whose features differ from clip to clip."""
    vision = ViTConfig(width=16, depth=1, heads=2, inner=16, patch=32, tubelet=1, frames=12, size=224)
    config = UMTConfig(vision, BertConfig(len(WORDS), 16, 16, 2, 2, 32, 1, 16), features=6)
    torch.manual_seed(0)
    network = UMT(config)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1.5 / parameter[0].numel() ** 0.5)
    save_folder(network, folder)
    return folder


@dataclass(frozen=True)
class House:
    """Where all of it lies."""

    folder: Path

    @classmethod
    def build(cls, folder: Path) -> "House":
        write_pair(folder / "pair")
        write_prompts(folder / "prompts.csv")
        write_script(folder / "i3d_torchscript.pt")
        write_videos(folder / "real", [f"v_{k:02}.mp4" for k in range(REAL)])
        (folder / "arms.json").write_text(json.dumps(ARMS))
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        write_description(folder / "small.json")
        return cls(folder)

    def command(self, output: Path | str, *more: str, benchmark: str = "small.json") -> list[str]:
        """Draws and measures all of it."""
        return ["evaluate", "--benchmark", str(self.folder / benchmark), "--pair", str(self.folder / "pair"), "-o",
                str(output), "--arms", str(self.folder / "arms.json"), "--batch-size", "2", "--quiet", "--device",
                "cpu", *self.measured, *more]  # fmt: skip

    @property
    def measured(self) -> list[str]:
        script = self.folder / "i3d_torchscript.pt"
        return ["--real", str(self.folder / "real"), "--extractor", f"{PROTOCOL}={script}"]


def report_of(task: Task, **options: Any) -> Report:
    found = evaluate(task, draws=DRAWS, **options)
    assert found is not None
    return found


def contents(folder: Path) -> dict[str, Any]:
    """All that a run keeps, but when files were written and how long clips took."""
    found: dict[str, Any] = {}
    for path in [path for name in ("parts", "features") for path in (folder / name).rglob("*.safetensors")]:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        if path.is_relative_to(folder / "parts"):
            metadata = {name: json.loads(text) for name, text in metadata.items()}
            metadata["cost"].pop("seconds", None)
            metadata["settings"].get("of", {}).pop("files", None)
        tensors = {name: (tensor.dtype, tensor.numpy().tobytes()) for name, tensor in load_file(path).items()}
        found[path.relative_to(folder).as_posix()] = metadata, tensors
    for path in (folder / "videos").rglob("*.mp4"):
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    if (folder / "report.json").exists():
        found["report.json"] = timeless(folder)
    return found


def timeless(folder: Path) -> dict[str, Any]:
    """A report without the seconds."""
    raw = json.loads((folder / "report.json").read_text())
    return raw | {"rows": [row | {"seconds": 0} for row in raw["rows"]]}
