"""`ivmix inspect`: what a file of weights is."""

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ivmix.models import Inspection

SHOWN = 5  # keys of a kind, unless --keys asks for all


def add(commands: Any) -> None:
    command = commands.add_parser(
        "inspect",
        help="what a file of weights is: layout, dtype, parameters, missing and extra keys",
        description="Says what files of weights are, without reading the weights: the layout (diffusers, Stable "
        "Diffusion's single file, AnimateDiff, ModelScope, VideoCrafter2, CLIP), the networks inside, their config, "
        "and every key that is missing, unexpected or of a wrong shape. Pickles (.ckpt, .pth, .bin) are read without "
        "running their code.",
        epilog="examples:\n"
        "  ivmix inspect v1-5-pruned-emaonly.safetensors     a UNet, a VAE and a text encoder in one file\n"
        "  ivmix inspect stable-diffusion-v1-5/              every file of weights in a folder\n"
        "  ivmix inspect hub:guoyww/animatediff/mm_sd_v15_v2.ckpt\n"
        "  ivmix inspect --json --keys mm_sd_v15_v2.ckpt     for programs, with every tensor's shape\n"
        "exit status: 0 if every file is whole and of a known layout, 2 if a path cannot be read, 1 otherwise",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "paths", nargs="+", metavar="PATH", help="a file, a folder, or hub:owner/name[/path][@revision]"
    )
    command.add_argument("--json", action="store_true", help="one JSON array, an object a file")
    command.add_argument("--keys", action="store_true", help="every tensor with its shape, and every problem")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from ivmix.models.inspection import inspect, weight_files

    sources: list[str | Path] = []
    for path in options.paths:
        if not path:
            raise ValueError("'': expected a file, a folder, or hub:owner/name[/path][@revision]")
        files = weight_files(Path(path)) if Path(path).is_dir() else [path]
        if not files:
            raise ValueError(f"{path} is a folder without files of weights")
        sources += files
    found, unreadable = [], False
    for source in sources:  # one file that cannot be read hides no other
        try:
            found.append(known_judge(inspect(source)))
        except (ValueError, OSError) as error:
            sys.stderr.write(f"ivmix inspect: error: {error}\n")
            unreadable = True
    if options.json:
        sys.stdout.write(json.dumps([as_json(one, options.keys) for one in found], indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(block(one, options.keys) for one in found))
    if unreadable:
        return 2
    return int(any(one.problem or any(part.problems for part in one.parts) for one in found))


def known_judge(found: "Inspection") -> "Inspection":
    """What a file of no public layout is, if its config says that it is the network which measures the sprite world."""
    from ivmix.models.build import build, misfits, shapes_of
    from ivmix.models.files import read_state
    from ivmix.models.folder import read_json
    from ivmix.models.inspection import Part
    from ivmix.models.load import read_config
    from ivmix.sprites.judge import Judge, JudgeConfig

    config_file = found.path.with_name("config.json")
    if found.problem is None or not config_file.is_file() or read_json(config_file).get("_class_name") != "Judge":
        return found
    config = read_config(JudgeConfig, config_file)
    problems = misfits(read_state(found.path), shapes_of(build(Judge, config)))
    part = Part(
        "judge", "ivmix's measure of the sprite world", "", len(found.keys), found.elements, config,
        tuple(problem for kind in problems for problem in kind),
    )  # fmt: skip
    return replace(found, parts=(part,), problem=None)


def block(found: "Inspection", keys: bool) -> str:
    from ivmix.models.folder import printable

    dtypes = ", ".join(f"{count:,} of {dtype}" for dtype, count in found.dtypes.items())
    lines = [
        f"{found.path}",
        f"  file          {found.format}, {found.size / 1e6:,.1f} MB, {found.elements:,} numbers in "
        f"{len(found.keys):,} tensors: {dtypes}",
    ]
    for part in found.parts:
        layout = f"{part.layout} behind {part.prefix}" if part.prefix else part.layout
        lines.append(f"  {part.name:13s} {layout}, {part.tensors:,} tensors, {part.parameters:,} parameters")
        if part.config is not None:
            lines.append(f"  {'':13s} {part.config}")
        state = _some(part.problems, keys) or ["whole: no key is missing or too much"]
        lines += [f"  {'':13s} {text}" for text in state]
    if found.problem:
        lines.append(f"  unknown       {found.problem}")
    if found.dropped:
        lines.append(f"  left out      {', '.join(_some(found.dropped, keys))}")
    if found.metadata:
        said = (f"{printable(name, 100)}={printable(value, 100)}" for name, value in found.metadata.items())
        lines.append(f"  metadata      {', '.join(said)}")
    if keys:
        lines += [f"  {key} {list(shape)}" for key, shape in found.keys.items()]
    return "\n".join(lines) + "\n"


def _some(texts: tuple[str, ...], every: bool) -> list[str]:
    rest = len(texts) - SHOWN
    return list(texts) if every or rest <= 0 else [*texts[:SHOWN], f"{rest} more (--keys shows them)"]


def as_json(found: "Inspection", keys: bool) -> dict[str, Any]:
    from dataclasses import asdict, is_dataclass

    parts = [
        {**part.__dict__, "config": asdict(part.config) if is_dataclass(part.config) else None}  # type: ignore[arg-type]
        for part in found.parts
    ]
    raw = {**found.__dict__, "path": str(found.path), "elements": found.elements, "parts": parts}
    return raw if keys else {name: value for name, value in raw.items() if name != "keys"}
