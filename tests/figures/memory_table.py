"""What of the public pairs fits which card, and with which switches: counted, not measured.

    python tests/figures/memory_table.py                 # writes the tables of notebooks/memory.md
    python tests/figures/memory_table.py --only animatediff modelscope  # prints their rows alone
    python tests/figures/memory_table.py --resident      # the count beside what a full-size network takes of a CPU

Pairs are as `load_pair` makes them, in float16, their networks on meta, of the sizes in the key lists of the public
files; what they need is what `ivmix.generation.memory` says before a run. --resident takes 3 GB and a minute or two, in
processes of their own; Linux.
"""

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from pair_costs import config, held, in_vae, manifest, shapes
from torch import nn

from ivmix.generation.job import Job, planned
from ivmix.generation.memory import Load, before, moments, weights
from ivmix.generation.traffic import LINK, moved, turns
from ivmix.generation.windows import RunWindows
from ivmix.models import VAE
from ivmix.models.checkpoints import configs
from ivmix.models.compile import Compiled
from ivmix.models.graphs import Recorder
from ivmix.models.meta import build
from ivmix.pairs.description import PUBLIC, describe, network_of
from ivmix.pairs.offload import Offload
from ivmix.pairs.pair import Pair
from ivmix.pairs.reader import Reader
from ivmix.pairs.side import Side
from ivmix.pairs.swaps import Swaps
from ivmix.samplers.reading import sampling
from ivmix.solvers import Schedule, Windows

PAGE = Path(__file__).parents[2] / "notebooks" / "memory.md"
META, HALF = torch.device("meta"), torch.float16
CARDS = (8, 12, 16, 24)  # GB
TILE, PART = 32, 4
SAMPLED = {
    "ddim, 50 steps": {"sampler": "ddim", "steps": 50},
    "composite, 20": {"sampler": "composite", "steps": 20},
    "zigzag, 50": {"sampler": "zigzag", "steps": 50},
}
MORE = {"animatediff": [(64, 512, 512), (16, 768, 768), (16, 256, 256)]}  # frames, height, width beside a pair's own


@dataclass(frozen=True)
class Switch:
    """What takes less memory, and its name on the page."""

    name: str
    released: bool = False
    offload: bool = False
    parts: bool = False
    window: bool = False


# The dearer a switch, the later it comes: for nothing, for new prompts alone, for bytes that move, for another picture.
LADDER = (
    Switch("as it is"),
    Switch("parts", parts=True),
    Switch("parts, released", released=True, parts=True),
    Switch("parts, offload", offload=True, parts=True),
    Switch("parts, offload, window", offload=True, parts=True, window=True),
)


class Held(nn.Module):
    """A text encoder, as far as its size."""

    def __init__(self, bytes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(bytes // 2, dtype=HALF, device=META), requires_grad=False)


@cache
def pair_of(name: str) -> Pair:
    """A public pair on meta."""
    raw, folder, source = describe(name)
    stays = not raw.get("release_text_encoders", False)

    @cache
    def network(which: tuple[str, str]) -> Any:
        own = config(next(raw[name] for name in ("video", "image") if network_of(raw[name]) == which))
        return build(own.network, own).to(HALF)

    @cache
    def reader(place: int, source: str) -> Reader:
        bytes = HALF.itemsize * manifest(held(source)[place])["parameters"]
        return Reader(Held(bytes), lambda *_: Held(bytes), META, HALF, stays)  # type: ignore[arg-type, return-value]

    def side(name: str) -> Side:
        entry, one = raw[name], network(network_of(raw[name]))
        parts = enumerate(("text_encoder", "text_encoder_2"), 1)
        readers = tuple(reader(place, entry[part]) for place, part in parts if part in entry)
        return Side(
            name, one, readers, (), Schedule.from_config(entry["schedule"]), entry["prediction"], {}, None, 1,
            entry.get("latent_size"), Compiled(one, "eager", "", Recorder()),
        )  # fmt: skip

    image, video = side("image"), side("video")
    vae = build(VAE, configs.vae(shapes("sd15_vae_diffusers"))).to(in_vae(raw))
    return Pair(
        raw["name"], source, folder, Swaps(), "off", image, video, vae, None, None, {}, None,  # type: ignore[arg-type]
        raw["frames"], raw["height"], raw["width"], raw["fps"], raw["defaults"],
    )  # fmt: skip


def switched(pair: Pair, frames: int, height: int, width: int, how: Switch) -> tuple[Pair, Load]:
    """The pair and what it is to hold."""
    if how.released:
        readers = {reader: replace(reader, stays=False) for reader in pair.readers}
        image, video = (replace(s, readers=tuple(readers[r] for r in s.readers)) for s in pair.sides)
        pair = replace(pair, image=image, video=video)
    if how.offload:
        pair = replace(pair, offload=Offload(META))
    longest = pair.video.unet.config.max_frames
    length = pair.frames // 2 if how.window else pair.frames if frames > (longest or frames) else None
    windows = RunWindows() if length is None else RunWindows(Windows(length, length // 2))
    tile, part = (TILE, PART) if how.parts else (None, None)
    return pair, Load(1, frames, height, width, tile, part, windows=windows)


def enough(pair: Pair, load: Load, times: int) -> int:
    """Bytes of weights and `times` the tensors of the dearest moment; a text encoder that leaves before it included."""
    return max(before(pair), *(weights(pair, at) + times * n for at, n in moments(pair, load).items()))


def row(name: str, frames: int, height: int, width: int) -> tuple[list[str], list[str]]:
    """GB by switch; by card, the first switch that fits it."""
    held = {how: switched(pair_of(name), frames, height, width, how) for how in LADDER}
    once, twice = ({how: enough(*there, times) for how, there in held.items()} for times in (1, 2))

    def first(card: int) -> str:
        for found, doubt in ((twice, ""), (once, " ?")):
            for how, bytes in found.items():
                if bytes <= 1e9 * card:
                    return how.name + doubt
        return "-"

    return [f"{bytes / 1e9:.1f}" for bytes in once.values()], [first(card) for card in CARDS]


def sizes(name: str) -> list[tuple[int, int, int]]:
    pair = pair_of(name)
    return [(pair.frames, pair.height, pair.width), *MORE.get(name, [])]


def lines(name: str) -> list[str]:
    """A pair's rows of the table."""
    found = []
    for frames, height, width in sizes(name):
        needed, fitting = row(name, frames, height, width)
        size = f"{frames} x {height}x{width}"
        found.append(f"| `{name}` | {size} | {' | '.join(needed)} | {' | '.join(fitting)} |")
    return found


def price(name: str, options: dict[str, Any]) -> int:
    """Bytes that go to the device for a batch, with offload."""
    pair = pair_of(name)
    chosen = sampling(pair.defaults, options)
    schedules = chosen.schedules(pair.image.schedule, pair.video.schedule)
    sigmas, legs = planned(pair, chosen, schedules)
    job = Job(pair, chosen, schedules, sigmas, [], legs, None, None, RunWindows(), [], None, [], False, None)  # type: ignore[arg-type]
    return moved(turns(job))


def priced(name: str) -> str:
    """A pair's row of the table of prices."""
    bytes = [price(name, options) for options in SAMPLED.values()]
    return f"| `{name}` | {' | '.join(f'{n / 1e9:.0f} GB, {n / LINK:.1f} s' for n in bytes)} |"


def tables() -> list[str]:
    """Both of the page, in Markdown."""
    ladder, cards = [how.name for how in LADDER], [f"{card} GB" for card in CARDS]
    heads = ["pair", "frames", *ladder, *cards], ["pair", *SAMPLED]
    rows = [line for name in PUBLIC for line in lines(name)], [priced(name) for name in PUBLIC]
    return [
        "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *body])
        for head, body in zip(heads, rows, strict=True)
    ]


def written(page: str) -> str:
    """The page with its tables of pairs made anew."""
    found = iter(tables())
    return re.sub(r"^\| pair \|.*(\n\|.*)+", lambda _: next(found), page, flags=re.MULTILINE)


UNET = """
import re, torch
from pathlib import Path
from ivmix.models import UNet, UNetConfig
from ivmix.models.meta import build
from ivmix.models.cost import forward_cost
torch.set_num_threads(1)
def resident(name):
    return 1024 * int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
config, size = UNetConfig(), 32
torch.nn.functional.conv2d(torch.randn(1, 4, 8, 8).bfloat16(), torch.randn(4, 4, 3, 3).bfloat16())
start = resident("VmRSS")
network = build(UNet, config).to(torch.bfloat16).to_empty(device="cpu")
for p in network.parameters():
    torch.nn.init.uniform_(p, -0.01, 0.01)
weights = sum(p.nbytes for p in network.parameters())
held = resident("VmRSS") - start
with torch.no_grad():
    condition = network.condition(torch.randn(2, 77, 768).bfloat16())
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    network(torch.randn(2, 4, 1, size, size).bfloat16(), torch.tensor(500.0), condition, temporal=False)
cost = forward_cost(config, 1, size, size, rows=2, temporal=False, dtype=torch.bfloat16)
print(weights, held, cost.activations, resident("VmHWM") - before)
"""
DECODER = """
import re, torch
from pathlib import Path
from ivmix.generation.memory import decoder_activations
from ivmix.models import VAE, VAEConfig
torch.set_num_threads(1)
def resident(name):
    return 1024 * int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
start = resident("VmRSS")
vae = VAE(VAEConfig()).requires_grad_(False)
weights = sum(p.nbytes for p in vae.parameters())
held = resident("VmRSS") - start
vae.decode_images(torch.randn(1, 4, 8, 8))
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
vae.decode_images(torch.randn(1, 4, 32, 32))
print(weights, held, decoder_activations(VAEConfig(), 1, 32, 32, torch.float32), resident("VmHWM") - before)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resident", action="store_true")
    parser.add_argument("--only", nargs="+", choices=PUBLIC, metavar="PAIR")
    given = parser.parse_args()
    if given.only:
        print(*(line for name in given.only for line in (*lines(name), priced(name))), sep="\n")
        return
    if not given.resident:
        PAGE.write_text(written(PAGE.read_text()))
        return
    print("| network | weights counted | resident | tensors counted | peak beside weights |\n|---|---|---|---|---|")
    for name, script in (("UNet, bfloat16", UNET), ("VAE, float32", DECODER)):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        print(f"| {name} | {' | '.join(f'{int(n) / 1e9:.3f} GB' for n in done.stdout.split())} |")


if __name__ == "__main__":
    main()
