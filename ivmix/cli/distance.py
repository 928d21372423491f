"""`ivmix distance`: how far sets of features are apart, as a published protocol has it."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ivmix.evaluation.distance import Distance

REAL = "real"  # of an evaluation's features, beside those of its rows
NAMES = (
    "stylegan-v", "cmvq-styleganv", "cmvq-videogpt", "cd-fvd-i3d", "cd-fvd-videomae", "chronomagic-umt", "plain",
)  # fmt: skip


def add(commands: Any) -> None:
    command = commands.add_parser(
        "distance",
        help="how far features of clips are from those of real ones, by a published protocol",
        description="Compares files of features, a row a clip, by the arithmetic of a published protocol: Fréchet "
        "distances by one name differ in what covariances are divided by, in precision, in the clips that are taken. "
        "Beside the value stand what belongs to it: the same of full sets with a standard error (jackknife over the "
        "clips of FAKE), an unbiased distance (polynomial MMD of degree 3), and what real clips are from real ones at "
        "the same number of clips. A protocol also says how clips become features, which is for you to have done.",
        epilog="files: .safetensors, or a torch file (.pt, .pth, .bin, .ckpt), of one tensor\n"
        "(n, d) or one named 'features'; .npy; or a folder of such files, taken\n"
        "together. Pickles are read without running their code. Where files name their\n"
        "extractor, it must be one.\n"
        "protocols:\n"
        "  stylegan-v       ÷n, all clips; meant for 2,048 of either side\n"
        "  cmvq-styleganv   ÷(n−1), all clips, as many of either side\n"
        "  cmvq-videogpt    the same in single precision throughout\n"
        "  cd-fvd-i3d       ÷n, all clips; cd-fvd-videomae the same of other features\n"
        "  chronomagic-umt  ÷n, the mean over subsets of 32, 64, 128, 256, 300, 512\n"
        "                   and 1,024 clips with four seeds each, all clips where\n"
        "                   there are no more\n"
        "  plain            ÷n, all clips, of any features\n"
        "examples:\n"
        "  ivmix distance real.safetensors fake.safetensors --protocol stylegan-v\n"
        "  ivmix distance gt150_feats.pt 1.npy 2.npy 3.npy --protocol chronomagic-umt --pool gt1649_feats.pt\n"
        "  ivmix distance real/ fake/ --protocol plain --json      every file of a folder, for programs",
    )  # fmt: skip
    command.add_argument("real", metavar="REAL", help="features of the reference")
    command.add_argument(
        "fakes", nargs="+", metavar="FAKE",
        help="features to compare; several files are parts, such as the samples of every prompt: each is compared with "
        "REAL, and the value is the mean",
    )  # fmt: skip
    command.add_argument(
        "--protocol", required=True, choices=NAMES, metavar="NAME", help="one of those listed below"
    )
    command.add_argument(
        "--pool", metavar="FILE",
        help="features of more real clips, to say what real is from real where REAL has not twice the clips of FAKE; "
        "those that are in REAL are left out",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="one JSON object, the distance by the name of value")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    import json
    import warnings

    from ivmix.evaluation.distance import measure_distance
    from ivmix.evaluation.features import FeatureSet
    from ivmix.evaluation.protocols import PROTOCOLS

    for path in (options.real, *options.fakes):
        if (Path(path) / f"{REAL}.safetensors").is_file():
            raise ValueError(
                f"{path} holds {REAL}.safetensors, the reference of an evaluation, beside its rows: name the files of "
                "one row, such as ROW-1.safetensors"
            )
    real, fakes = FeatureSet.load(options.real), [FeatureSet.load(path) for path in options.fakes]
    pool = FeatureSet.load(options.pool) if options.pool is not None else None
    found = measure_distance(PROTOCOLS[options.protocol], real, fakes, pool, [options.real, *options.fakes])
    for said in found.warnings:
        warnings.warn(said, stacklevel=1)
    sys.stdout.write(json.dumps(as_json(found, options), indent=2) + "\n" if options.json else block(found))


def block(found: "Distance") -> str:
    """For people."""
    protocol, counts = found.protocol, ", ".join(f"{n:,}" for n in found.fake)
    rule = f"÷{'n' if protocol.ddof == 0 else '(n−1)'}, {'single' if protocol.single else 'double'} precision"
    if protocol.sizes:
        sizes, seeds = (", ".join(map(str, numbers)) for numbers in (protocol.sizes, protocol.seeds))
        rule += f", mean of subsets of {sizes} by seeds {seeds}"
    parts = f"  (mean of {', '.join(f'{part:z.4f}' for part in found.parts)})" if len(found.parts) > 1 else ""
    floor = found.floor
    at = f"±{floor.deviation:.2f} over {floor.draws} draws of {floor.clips:,} against {floor.against:,}, " \
         f"{floor.low:.2f} to {floor.high:.2f}" if floor else ""  # fmt: skip
    lines = [
        f"{protocol.name:14s} {found.value:z.4f}{parts}",
        f"full sets      {found.full:z.4f}{error(found.full_error)}",
        f"MMD, unbiased  {found.mmd:.6g}{error(found.mmd_error)}",
        f"real from real {f'{floor.mean:z.4f} {at}' if floor else f'unknown: {found.no_floor}'}",
        f"rule           {rule}",
        f"clips          {found.real:,} real, {counts} others, features of length {found.length}",
    ]
    if found.extractor or found.weights:
        lines.append(f"extractor      {' '.join(filter(None, (found.extractor, found.weights)))}")
    return "\n".join(lines) + "\n"


def error(value: float | None) -> str:
    return "" if value is None else f" ±{value:.2g} (jackknife)"


def as_json(found: "Distance", options: argparse.Namespace) -> dict[str, Any]:
    from dataclasses import asdict

    return {"value": found.value, **asdict(found), "files": {"real": options.real, "fakes": options.fakes}}
