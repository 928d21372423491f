"""`ivmix inspect`: what a file of weights is."""

import argparse
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ivmix.models import Inspection

SHOWN = 5  # keys of a kind, unless --keys asks for all
SIZE, FRAMES, ROWS = "64x64", 16, 2  # what --cost counts: 512x512 pixels, with and without the prompt


def add(commands: Any) -> None:
    command = commands.add_parser(
        "inspect",
        help="what a file of weights is: layout, dtype, parameters, missing and extra keys",
        description="Says what files of weights are, without reading the weights: the layout (diffusers, Stable "
        "Diffusion's single file, AnimateDiff, ModelScope, VideoCrafter2, Latte, PixArt, CLIP; I3D, VideoMAE-v2, "
        "UMT), the networks inside, their config, and every key that is missing, unexpected or of a wrong shape. "
        "Pickles (.ckpt, .pth, .bin) are read without running their code.",
        epilog="examples:\n"
        "  ivmix inspect v1-5-pruned-emaonly.safetensors     a UNet, a VAE and a text encoder in one file\n"
        "  ivmix inspect stable-diffusion-v1-5/              every file of weights in a folder\n"
        "  ivmix inspect hub:guoyww/animatediff/mm_sd_v15_v2.ckpt\n"
        "  ivmix inspect --json --keys mm_sd_v15_v2.ckpt     for programs, with every tensor's shape\n"
        "  ivmix inspect --cost --size 40x64 --frames 16 videocrafter2/unet/\n"
        "exit status: 0 if every file is whole and of a known layout, 2 if a path cannot be read, 1 otherwise",
    )
    command.add_argument(
        "paths", nargs="+", metavar="PATH", help="a file, a folder, or hub:owner/name[/path][@revision]"
    )
    command.add_argument("--json", action="store_true", help="one JSON array, an object a file")
    command.add_argument("--keys", action="store_true", help="every tensor with its shape, and every problem")
    command.add_argument(
        "--cost", action="store_true",
        help="what a guided evaluation of every UNet or transformer costs: operations and the most memory at a time, "
        f"counted by shapes for {ROWS} rows, with the prompt and without, in the dtype of the file (float32 where it "
        "has several), attention fused",
    )  # fmt: skip
    command.add_argument(
        "--size", metavar="HxW",
        help="of --cost: that of the latents, with Stable Diffusion's autoencoder an eighth of the pixels' "
        f"(default: {SIZE})",
    )  # fmt: skip
    command.add_argument(
        "--frames", type=int, metavar="N",
        help=f"of --cost: how many; an image model draws them as a batch (default: {FRAMES}, or as many as the network "
        "knows)",
    )  # fmt: skip
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from ivmix.models.checkpoints.inspection import inspect, weight_files
    from ivmix.pairs.trained_as import CONFIG
    from ivmix.sprites.averaging.unet import AVERAGING

    height, width = latents(options)
    sources: list[str | Path] = []
    for path in options.paths:
        if not path:
            raise ValueError("'': expected a file, a folder, or hub:owner/name[/path][@revision]")
        folder = Path(path)
        files = [*weight_files(folder), *sorted(folder.rglob(CONFIG))] if folder.is_dir() else [path]
        if not files:
            raise ValueError(f"{path} is a folder without files of weights")
        sources += files
    blocks, objects, faults, unreadable, counted = list[str](), list[dict[str, Any]](), False, False, False
    for source in sources:  # one file that cannot be read hides no other
        try:
            if Path(source).name == CONFIG:
                raw = scheduler(Path(source))
                blocks.append(scheduler_block(raw))
                faults |= raw["problem"] is not None
            else:
                one = known_judge(inspect(source, layouts=[AVERAGING]))
                cost = cost_of(one, options.frames, height, width) if options.cost else None
                counted |= cost is not None
                raw = as_json(one, options.keys) | ({"cost": cost} if cost else {})
                blocks.append(block(one, options.keys, cost))
                faults |= bool(one.problem or any(part.problems for part in one.parts))
            objects.append(raw)
        except (ValueError, OSError) as error:
            sys.stderr.write(f"ivmix inspect: error: {error}\n")
            unreadable = True
    sys.stdout.write(json.dumps(objects, indent=2) + "\n" if options.json else "\n".join(blocks))
    if options.cost and not (counted or unreadable):
        raise ValueError(f"--cost: {', '.join(options.paths)} holds no UNet or transformer whose config is known")
    return 2 if unreadable else int(faults)


def latents(options: argparse.Namespace) -> tuple[int, int]:
    """Height and width that --cost counts for. ValueError for what is no size, or given without --cost."""
    for name in ("size", "frames"):
        if getattr(options, name) is not None and not options.cost:
            raise ValueError(f"--{name} {getattr(options, name)}: it says what --cost counts; give --cost too")
    if options.frames is not None and options.frames < 1:
        raise ValueError(f"--frames {options.frames}: expected 1 or more")
    text = SIZE if options.size is None else options.size
    if (match := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)) is None:
        raise ValueError(f"--size {text}: expected HEIGHTxWIDTH of the latents, such as {SIZE}")
    return int(match[1]), int(match[2])


def cost_of(found: "Inspection", frames: int | None, height: int, width: int) -> dict[str, Any] | None:
    """What the UNet or transformer of a file costs, if it has one. ValueError for a size that it cannot take, or none
    can count."""
    import torch

    from ivmix.models.checkpoints.inspection import PREDICTORS
    from ivmix.models.cost import forward_cost

    config = next((part.config for part in found.parts if part.name in PREDICTORS), None)
    if config is None:
        return None
    stored = [name for name in found.dtypes if getattr(torch, name).is_floating_point]
    dtype = stored[0] if len(stored) == 1 else "float32"
    kind: torch.dtype = getattr(torch, dtype)
    frames = frames or min(FRAMES, config.max_frames or FRAMES)
    try:
        cost = forward_cost(config, frames, height, width, rows=ROWS, dtype=kind)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{found.path}: --cost: {str(error).splitlines()[0]}") from None
    return {
        "rows": ROWS, "frames": frames, "height": height, "width": width, "tokens": config.tokens, "dtype": dtype,
        "flops": dict(cost.flops), "total": cost.total, "activations": cost.activations,
        "weights": cost.parameters * kind.itemsize,
    }  # fmt: skip


def scheduler(path: "Path") -> dict[str, Any]:
    """What a scheduler_config.json says of training, in this package's words, and of sampling, in its own. `problem` is
    why it cannot be said, else None."""
    from ivmix.models.json_files import read_json
    from ivmix.pairs.trained_as import read_scheduler, sampling_facts

    raw, problem = read_json(path, infinities=True), None
    try:
        said = read_scheduler(path)
        trained = {"prediction": said.prediction, "schedule": said.schedule}
    except ValueError as error:
        trained, problem = {"prediction": None, "schedule": None}, str(error)
    return {"path": str(path), "format": "scheduler", "class": str(raw.get("_class_name", "")), **trained,
            "sampling": sampling_facts(raw), "problem": problem}  # fmt: skip


def scheduler_block(raw: dict[str, Any]) -> str:
    from ivmix.models.quoting import printable
    from ivmix.pairs.trained_as import in_words

    lines = [raw["path"], line("scheduler", printable(raw["class"], 100) or "of no class")]
    if raw["problem"]:
        lines.append(line("unknown", raw["problem"]))
    else:
        lines.append(line("taken", f"prediction {raw['prediction']}, schedule {in_words(raw['schedule'])}"))
    if raw["sampling"]:
        facts = ", ".join(f"{name}={printable(value, 60)}" for name, value in raw["sampling"].items())
        lines.append(line("not taken", f"{facts}: how to sample is said by --spacing and --solver"))
    return "\n".join(lines) + "\n"


def known_judge(found: "Inspection") -> "Inspection":
    """What a file of no public layout is, if its config says that it is the network which measures the sprite world."""
    from ivmix.models.checkpoints.files import read_state
    from ivmix.models.checkpoints.inspection import Part
    from ivmix.models.checkpoints.load import read_config
    from ivmix.models.checkpoints.state import misfits
    from ivmix.models.json_files import read_json
    from ivmix.models.meta import build, shapes_of
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


def line(name: str, text: str) -> str:
    """One line of a block, `text` in a column behind the longest name, a part's."""
    return f"  {name:14s} {text}"


def block(found: "Inspection", keys: bool, cost: dict[str, Any] | None) -> str:
    from ivmix.models.quoting import printable

    dtypes = ", ".join(f"{count:,} of {dtype}" for dtype, count in found.dtypes.items())
    held = f"{found.elements:,} numbers in {len(found.keys):,} tensors: {dtypes}"
    lines = [f"{found.path}", line("file", f"{found.format}, {found.size / 1e6:,.1f} MB, {held}")]
    for part in found.parts:
        layout = f"{part.layout} behind {part.prefix}" if part.prefix else part.layout
        lines.append(line(part.name, f"{layout}, {part.tensors:,} tensors, {part.parameters:,} parameters"))
        if part.config is not None:
            lines.append(line("", f"{part.config}"))
        state = _some(part.problems, keys) or ["whole: no key is missing or too much"]
        lines += [line("", text) for text in state]
    if cost:
        lines += cost_lines(cost)
    if found.problem:
        lines.append(line("unknown", found.problem))
    if found.dropped:
        lines.append(line("left out", ", ".join(_some(found.dropped, keys))))
    if told := trained_on(found):
        lines.append(line("trained", told))
    if found.metadata:
        said = (f"{printable(name, 100)}={printable(value, 100)}" for name, value in found.metadata.items())
        lines.append(line("metadata", ", ".join(said)))
    if keys:
        lines += [f"  {key} {list(shape)}" for key, shape in found.keys.items()]
    return "\n".join(lines) + "\n"


def cost_lines(cost: dict[str, Any]) -> list[str]:
    units = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1, ""))
    size, unit = next((size, unit) for size, unit in units if cost["total"] >= size)
    asked = f"{cost['rows']} rows of {cost['frames']} frames of {cost['height']}x{cost['width']} latents"
    needs = f"{cost['activations'] / 1e9:,.3g} GB beside {cost['weights'] / 1e9:,.3g} GB of weights"
    shares = (f"{kind} {count / cost['total']:.1%}" for kind, count in cost["flops"].items() if count)
    counted = f"{cost['tokens']} tokens, in {cost['dtype']}: {cost['total'] / size:,.3g} {unit}FLOP"
    return [line("cost", f"{asked}, {counted}, {needs}"), line("", ", ".join(shares))]


def trained_on(found: "Inspection") -> str:
    """What a file itself says of its network's training; "" for nothing."""
    from ivmix.models.checkpoints.inspection import PREDICTORS
    from ivmix.pairs.trained_as import read_file

    if not any(part.name in PREDICTORS for part in found.parts):
        return ""
    try:
        said = read_file(str(found.path), found.metadata, found.keys)
    except ValueError as error:
        return str(error)
    told = [f"prediction {said.prediction}"] if said.prediction else []
    return ", ".join([*told, *(["zero terminal SNR"] if said.zero_snr else [])])


def _some(texts: tuple[str, ...], every: bool) -> list[str]:
    rest = len(texts) - SHOWN
    return list(texts) if every or rest <= 0 else [*texts[:SHOWN], f"{rest} more (--keys shows them)"]


def as_json(found: "Inspection", keys: bool) -> dict[str, Any]:
    from dataclasses import asdict, is_dataclass

    parts = [
        {**part.__dict__, "config": asdict(part.config) if is_dataclass(part.config) else None}  # type: ignore[arg-type]
        for part in found.parts
    ]
    raw = {**found.__dict__, "path": str(found.path), "elements": found.elements, "parts": parts,
           "trained": trained_on(found)}  # fmt: skip
    return raw if keys else {name: value for name, value in raw.items() if name != "keys"}
