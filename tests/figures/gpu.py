"""What a card makes of ivmix at full size: AnimateDiff's UNet at 512x512x16 in half precision, on random weights.

    python tests/figures/gpu.py [--only exactness,passes] [--peers FOLDER] [--json FILE]
    python tests/figures/gpu.py --device cpu --small    # every line of it, in a minute, without a GPU
    python tests/figures/gpu.py --table FILE              # the tables of an earlier run

Needs torch, einops, safetensors and tokenizers alone; diffusers, for the pass beside its own, may be missing, or lie in
--peers, a folder of wheels or of unpacked packages, with what it needs. Prints a table a section, in Markdown, and
writes the numbers behind them as JSON after each: `gpu.json` among the notebooks' data holds the README's. A section
that fails says why in its place and stops no other; the exit status is then 1. Ratios are of calls in turn, within a
round: median, least and most.

sections:
{sections}
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import numpy_missing  # before what imports ivmix
from card import Card, attention_backends, compared, paired
from forward import peer
from random_weights import filled
from traffic import forward_traffic

from ivmix.models import VAE, Condition, MotionConfig, UNet, UNetConfig, VAEConfig
from ivmix.models.compile import Compiled, Mode, compile_network
from ivmix.models.cost import forward_cost
from ivmix.models.linear import gated
from ivmix.models.meta import build
from ivmix.models.triton import missing
from ivmix.pairs.description import describe
from ivmix.samplers.reading import sampling
from ivmix.solvers import Guided, Network, Schedule, initial_noise, integrate, normal_noise

Row = dict[str, Any]
cost = cache(forward_cost)


@dataclass(frozen=True)
class Size:
    """What is run: a UNet with motion modules, its image view, and an autoencoder, on latents (frames, side, side)."""

    unet: UNetConfig
    vae: VAEConfig
    frames: int
    side: int
    steps: tuple[int, int, int]  # of plain, composite and zigzag
    rounds: int
    matrix: int  # side of the matrices that the rate is measured with
    copied: int  # bytes that the bandwidth is measured with
    heads: int  # sequences of frames that attention is measured with


FULL = Size(UNetConfig(temporal=MotionConfig()), VAEConfig(), 16, 64, (50, 20, 50), 7, 8192, 2**31, 65_536)
SMALL = Size(
    UNetConfig(
        block_out_channels=(16, 32), attention_levels=(True, False), layers_per_block=1, cross_attention_dim=24,
        num_attention_heads=2, norm_num_groups=8, temporal=MotionConfig(2),
    ),
    VAEConfig(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4),
    3, 8, (6, 3, 4), 2, 128, 2**20, 64,
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """All that the sections share, each made when it is first asked for."""

    card: Card
    size: Size
    dtype: torch.dtype

    @cached_property
    def unet(self) -> UNet:
        return filled(build(UNet, self.size.unet), self.card.device, self.dtype)

    @cached_property
    def vae(self) -> VAE:
        return filled(build(VAE, self.size.vae), self.card.device, self.dtype)

    @cached_property
    def rate(self) -> float:
        """FLOP/s of products of matrices."""
        return self.card.matrix_rate(self.dtype, self.size.matrix)

    def normal(self, *shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator(self.card.device).manual_seed(seed)
        return torch.randn(shape, device=self.card.device, generator=generator).to(self.dtype)

    def context(self, seed: int = 0) -> Tensor:
        return self.normal(2, 77, self.size.unet.cross_attention_dim, seed=1000 + seed)

    def told(self, seed: int = 0) -> tuple[Tensor, Tensor, Condition]:
        """What a guided evaluation is told: latents (b c f h w), a time, a condition."""
        z = self.normal(2, 4, self.size.frames, self.size.side, self.size.side, seed=seed)
        return z, torch.tensor(999.0 - seed, dtype=torch.float64), self.unet.condition(self.context(seed))

    def called(self, mode: Mode = "auto") -> Compiled:
        return compile_network(self.unet, mode)

    def flops(self, temporal: bool = True) -> int:
        """Of a guided evaluation."""
        size = self.size
        return cost(size.unet, size.frames, size.side, size.side, temporal=temporal, dtype=self.dtype).total

    def modes(self) -> dict[str, Mode]:
        """Ways to call a network that this device has."""
        if not self.card.cuda:
            return {"eager": "off", "auto": "auto"}
        inductor: dict[str, Mode] = {} if missing() else {"inductor": "inductor"}
        return {"eager": "off", "graphs": "graphs", "cudagraphs": "cudagraphs", **inductor}


# --- sections -------------------------------------------------------------------------------------------------------


def exactness(bench: Bench) -> list[Row]:
    """captured graphs against eager calls: the same bits, through prompts, times, both views and an earlier result"""
    graphs, rows = bench.called(), list[Row]()
    for name, temporal in (("video", True), ("image", False)):
        told = [bench.told(seed) for seed in range(4)]
        held = [graphs(*one, temporal=temporal) for one in told]
        expected = [bench.unet(*one, temporal=temporal) for one in told]
        same = all(torch.equal(a, b) for a, b in zip(held, expected, strict=True))
        worst = max(apart(a, b) for a, b in zip(held, expected, strict=True))
        rows.append({"pass": name, "by": graphs.path, "calls": len(told), "same bits": same, "difference": worst})
    own, eager = (sampled(bench, "composite", 3, way)[0] for way in (graphs, bench.called("off")))
    rows.append({"pass": "composite, 3 steps", "by": graphs.path, "calls": 1, "same bits": torch.equal(own, eager),
                 "difference": apart(own, eager)})  # fmt: skip
    return rows


def samplers(bench: Bench) -> list[Row]:
    """seconds and memory of plain-50, composite-20 and zigzag-50, as ratios, and their share of the matrix rate"""
    network, rows = bench.called(), list[Row]()
    plans = list(zip(("ddim", "composite", "zigzag"), bench.size.steps, strict=True))
    for name, _ in plans:  # shapes are recorded, memory is there
        sampled(bench, name, 3, network)
    for name, steps in plans:
        forwards: dict[str, int] = {}
        with bench.card.memory() as memory:
            run = partial(sampled, bench, name, steps, network)
            seconds = bench.card.seconds(lambda run=run, into=forwards: into.update(run()[1]))  # type: ignore[misc]
        flops = sum(count / 2 * bench.flops(temporal=side == "video") for side, count in forwards.items())
        rows.append({
            "sampler": f"{'plain' if name == 'ddim' else name}-{steps}", "forwards I": forwards.get("image", 0),
            "forwards V": forwards["video"], "seconds": seconds, "PFLOP": flops / 1e15,
            "share of the matrix rate": flops / seconds / bench.rate, **memory,
        })  # fmt: skip
    return [{**row, "ratio to plain": row["seconds"] / rows[0]["seconds"]} for row in rows]


def passes(bench: Bench) -> list[Row]:
    """a guided evaluation beside diffusers', eager and by graphs, on the same weights, in turn"""
    try:
        import diffusers

        diffusers.UNetMotionModel  # noqa: B018 - what it needs is imported here
    except Exception as error:  # an ImportError, or what diffusers makes of one
        return [{"pass": "skipped", "why": f"no diffusers ({short(error)}): --peers FOLDER adds one"}]
    theirs, call = peer(bench.unet)
    z, t, condition = bench.told()
    context, graphs = bench.context(), bench.called()
    sides: dict[str, Callable[[], Tensor]] = {
        "diffusers, eager": lambda: call(theirs, z, t, context),
        "ivmix, eager": lambda: bench.unet(z, t, condition),
        f"ivmix, {graphs.path}": lambda: graphs(z, t, condition),
    }
    out = {side: [run() for _ in range(3)][-1] for side, run in sides.items()}  # warms them up, too
    base = out["diffusers, eager"]
    times = paired(bench.card, sides, bench.size.rounds)
    ratios = {side: compared(times[side], times["diffusers, eager"]) for side in sides}
    return [
        {"pass": side, **ratios[side], "share of the matrix rate": bench.flops() / ratios[side]["seconds"] / bench.rate,
         "difference": apart(out[side], base)}
        for side in sides
    ]  # fmt: skip


def compiling(bench: Bench) -> list[Row]:
    """every way to call a network: time a call, what its first calls cost beyond that, memory, difference"""
    told = bench.told()
    expected = bench.unet(*told)
    ways = {name: partial(bench.called(mode), *told) for name, mode in bench.modes().items()}
    rows: dict[str, Row] = {}
    try:
        for name, way in ways.items():
            rows[name] = {"way": name} | first_calls(bench.card, way, expected)
        times = paired(bench.card, {name: ways[name] for name in ways if "difference" in rows[name]}, bench.size.rounds)
        return [row | (compared(times[name], times["eager"]) if name in times else {}) for name, row in rows.items()]
    finally:
        if "torch._dynamo" in sys.modules:
            torch._dynamo.reset()  # gives back what its graphs hold


def first_calls(card: Card, way: Callable[[], Tensor], expected: Tensor) -> Row:
    """What a way to call a network costs at first, or why it fails."""
    try:
        with card.memory() as memory, warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            *first, last = [card.seconds(way) for _ in range(4)]
        note = [str(w.message)[:200] for w in said if "runs eagerly" in str(w.message)]
        found = {"first calls": max(sum(first) - 3 * last, 0.0), **memory, "difference": apart(way(), expected)}
        return found | {"note": "; ".join(note)}
    except Exception as error:
        return {"note": f"failed: {short(error)}"}


def attention(bench: Bench) -> list[Row]:
    """attention over frames and over pixels of the widest level, by every backend of scaled_dot_product_attention"""
    size, rows = bench.size, list[Row]()
    heads = size.unet.temporal.num_attention_heads if isinstance(size.unet.temporal, MotionConfig) else 8
    width = size.unet.block_out_channels[0] // heads
    shapes = {"frames": (size.heads // heads, heads, size.frames, width),
              "pixels": (2 * size.frames, heads, size.side**2, width)}  # fmt: skip
    for name, shape in shapes.items():
        q, k, v = (bench.normal(*shape, seed=seed) for seed in range(3))
        for backend, chosen in attention_backends().items():
            row: Row = {"over": name, "(n, heads, tokens, d)": str(shape), "backend": backend}
            try:
                with chosen(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    seconds = bench.card.best(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v))  # noqa: B023
            except RuntimeError as error:
                rows.append({**row, "note": f"refused: {short(error)}"})
                continue
            moved = 4 * q.nbytes
            rows.append({**row, "ms": 1e3 * seconds, "GB/s": moved / seconds / 1e9, "note": ""})
    return rows


def gating(bench: Bench) -> list[Row]:
    """the gated product of a feed-forward at every level's width, by halves as ivmix has it, beside the whole of it"""
    size, rows = bench.size, list[Row]()
    for level, channels in enumerate(size.unet.block_out_channels):
        tokens = 2 * size.frames * (size.side >> level) ** 2
        x, weight, bias = (bench.normal(*shape, seed=seed) for seed, shape in
                           enumerate([(tokens, channels), (8 * channels, channels), (8 * channels,)]))  # fmt: skip

        def whole(x: Tensor = x, weight: Tensor = weight, bias: Tensor = bias) -> Tensor:
            value, gate = torch.nn.functional.linear(x, weight, bias).chunk(2, dim=-1)
            return value * torch.nn.functional.gelu(gate)

        sides = {"whole": whole, "by halves": partial(gated, x, weight, bias)}
        difference = apart(sides["by halves"](), whole())
        times = paired(bench.card, sides, size.rounds)
        for side, run in sides.items():
            with bench.card.memory() as memory:
                run()
            rows.append({"tokens x channels": f"{tokens} x {channels}", "product": side,
                         **compared(times[side], times["whole"]), **memory, "difference": difference})  # fmt: skip
    return rows


def decoding(bench: Bench) -> list[Row]:
    """the autoencoder's decoder by layout of its weights and frames at a time"""
    size, rows, expected = bench.size, list[Row](), None
    z = bench.normal(1, size.vae.latent_channels, size.frames, size.side, size.side)
    try:
        for layout in ("contiguous", "channels last"):
            bench.vae.to(memory_format=torch.channels_last if layout == "channels last" else torch.contiguous_format)
            for frames in sorted({1, 4, size.frames}):
                decode = partial(bench.vae.decode, z, frames_per_batch=frames)
                y = decode()
                expected = y if expected is None else expected
                with bench.card.memory() as memory:
                    seconds = min(bench.card.seconds(decode) for _ in range(3))
                rows.append({"layout": layout, "frames at a time": frames, "seconds": seconds, **memory,
                             "difference": apart(y, expected)})  # fmt: skip
    finally:
        bench.vae.to(memory_format=torch.contiguous_format)
    return rows


def roofline(bench: Bench) -> list[Row]:
    """a pass beside its bound: operations at the measured matrix rate, and traffic at the measured bandwidth"""
    size, bandwidth, graphs, rows = bench.size, bench.card.bandwidth(bench.size.copied), bench.called(), list[Row]()
    for name, temporal in (("video", True), ("image", False)):
        traffic = forward_traffic(
            size.unet, size.frames, size.side, size.side, temporal=temporal, dtype=bench.dtype
        )
        told = bench.told()
        seconds = bench.card.best(partial(graphs, *told, temporal=temporal), inner=3, rounds=size.rounds)
        matrix, moving = bench.flops(temporal) / bench.rate, traffic.total / bandwidth
        rows.append({
            "pass": name, "TFLOP": bench.flops(temporal) / 1e12, "GiB moved": traffic.total / 2**30,
            "kernels": traffic.kernels, "TFLOP/s": bench.rate / 1e12, "GB/s": bandwidth / 1e9,
            "matrix ms": 1e3 * matrix, "traffic ms": 1e3 * moving, "ms": 1e3 * seconds,
            "share of the matrix rate": matrix / seconds, "of the roofline": (matrix + moving) / seconds,
        })  # fmt: skip
    return rows


SECTIONS: dict[str, Callable[[Bench], list[Row]]] = {
    function.__name__: function
    for function in (exactness, passes, samplers, roofline, attention, gating, decoding, compiling)
}


# --- sampling without a pair's files --------------------------------------------------------------------------------


def sampled(bench: Bench, name: str, steps: int, network: Compiled) -> tuple[Tensor, dict[str, int]]:
    """The latents of a run as the pair `animatediff` makes it, told random text; and how many rows were evaluated."""
    raw, _, _ = describe("animatediff")
    plan = sampling(raw["defaults"], {"sampler": name, "steps": steps})
    own = [Schedule.from_config(raw[side]["schedule"]) for side in ("image", "video")]
    guided = []
    for side, schedule in zip(("image", "video"), plan.schedules(*own), strict=True):
        forward = partial(network, temporal=side == "video")
        source = Network(forward, schedule, "epsilon", side, dtype=bench.dtype)
        negative, positive = (bench.unet.condition(row[None]) for row in bench.context())
        guided.append(Guided(source(negative), source(positive)))
    sigmas = plan.grid(own[1])
    fields, legs = plan.plan(*guided, sigmas)
    shape = (4, bench.size.frames, bench.size.side, bench.size.side)
    x = own[1].start(initial_noise([0], shape).to(bench.card.device, torch.float32), legs[0].source)
    run = integrate(fields, legs, x, noise=normal_noise([0], shape), schedule=own[1])
    return run.x, dict(run.forwards)


# --- the report -----------------------------------------------------------------------------------------------------


def apart(a: Tensor, b: Tensor) -> float:
    """max|a - b| / max|b|"""
    return float((a - b).abs().max() / b.abs().max())


def short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def table(rows: Sequence[Row]) -> str:
    """Markdown: numbers to three digits."""

    def cell(value: Any) -> str:
        match value:
            case None:
                return "-"
            case bool():
                return "yes" if value else "no"
            case float():
                return f"{value:.3g}" if abs(value) < 1e3 else f"{value:,.0f}"
            case int():
                return f"{value:,}"
        return str(value).replace("|", "/")

    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---"] * len(columns), *([cell(row.get(column, "")) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(report: dict[str, Any]) -> dict[str, str]:
    """Every section of a report that has rows, as Markdown, by name."""
    return {name: table(found["rows"]) for name, found in report["sections"].items() if "rows" in found}


def run(bench: Bench, names: Sequence[str], path: Path | None) -> dict[str, Any]:
    """The sections' report, printed and written as far as it is."""
    numpy_missing.leave()
    report: dict[str, Any] = {"about": bench.card.about(), "sections": {}}
    print(", ".join(f"{name} {value}" for name, value in report["about"].items()), flush=True)
    for name in names:
        print(f"\n## {name}: {SECTIONS[name].__doc__}\n", flush=True)
        began = time.perf_counter()
        try:
            with torch.no_grad():
                found: dict[str, Any] = {"rows": SECTIONS[name](bench)}
            print(table(found["rows"]))
        except Exception as error:
            found = {"error": short(error)}
            print(f"failed: {found['error']}")
            traceback.print_exc()
        report["sections"][name] = found | {"took": time.perf_counter() - began}
        print(f"\n({report['sections'][name]['took']:.0f} s)", flush=True)
        if path is not None:
            path.write_text(json.dumps(report, indent=1) + "\n")
    return report


def add_peers(folder: Path) -> None:
    """Wheels in the folder are unpacked, its packages found, after what is installed."""
    unpacked = tempfile.mkdtemp(prefix="peers-")
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
    sys.path += [unpacked, str(folder)]


def main() -> int:
    sections = "\n".join(f"  {name:10} {function.__doc__}" for name, function in SECTIONS.items())
    parser = argparse.ArgumentParser(
        description=str(__doc__).format(sections=sections), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default=None, help="default: float16, on a CPU float32")
    parser.add_argument("--small", action="store_true", help="toy sizes")
    parser.add_argument("--only", metavar="NAME,…", help="these sections, in this order")
    parser.add_argument("--peers", type=Path, metavar="FOLDER")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--table", type=Path, metavar="FILE", help="prints the tables of an earlier run's JSON")
    given = parser.parse_args()
    if given.table:
        print("\n\n".join(f"## {name}\n\n{text}" for name, text in tables(json.loads(given.table.read_text())).items()))
        return 0
    names = given.only.split(",") if given.only else list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"--only {unknown[0]}: expected some of {', '.join(SECTIONS)}")
    if given.peers is not None:
        if not given.peers.is_dir():
            parser.error(f"--peers {given.peers}: expected a folder")
        add_peers(given.peers)
    device = torch.device(given.device)
    dtype = getattr(torch, given.dtype or ("float32" if device.type == "cpu" else "float16"))
    size = SMALL if given.small else FULL
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device {device}: torch finds no GPU here; --device cpu --small tries every line without one")
    if device.type == "cpu" and not given.small:
        parser.error("--device cpu: expected --small too; full size would take hours")
    report = run(Bench(Card(device), size, dtype), names, given.json)
    return int(any("error" in found for found in report["sections"].values()))


if __name__ == "__main__":
    sys.exit(main())
