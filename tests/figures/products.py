"""Linear layers on a CPU: oneDNN's products, as `ivmix.models.linear` takes them, against torch's own (MKL's).

    python tests/figures/products.py [--repeats 9] [--pass-repeats 3] [--only layers|passes] [--size 32] [--frames 2]

Layers of a guided AnimateDiff pass of 512x512 pixels and two frames, of every width, and those of the embedded pair;
then whole passes of AnimateDiff's UNet on random weights (3.6 GB) and of the embedded pair's two models. Each round
times both ways, in turn, by the CPU time of the process; ratios, MKL's / oneDNN's, are taken within a round: their
median, least and most. Differences are max|a - b| / max|b|.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from ivmix import TextToVideo
from ivmix.models import MotionConfig, UNet, UNetConfig, linear
from ivmix.models.meta import build

sys.path.append(str(Path(__file__).parent))
from random_weights import filled

LAYERS = {  # rows, channels, out
    "attention, 64x64": (16384, 320, 320), "attention, 32x32": (4096, 640, 640), "attention, 16x16": (1024, 1280, 1280),
    "keys of the text": (154, 768, 320), "time": (2, 1280, 1280), "embedded, 16x16": (4096, 32, 32),
    "embedded, 8x8": (1024, 64, 64),
}  # fmt: skip
FEED_FORWARDS = {"64x64": (16384, 320), "32x32": (4096, 640), "16x16": (1024, 1280), "embedded, 8x8": (1024, 64)}


def compared(run: Callable[[], Tensor], repeats: int) -> str:
    """A row of the table: what `run` costs both ways."""
    ratios, times, out = list[float](), list[float](), dict[bool, Tensor]()
    for i in range(repeats + 1):  # the first warms up
        spent = {}
        for ours in (True, False)[:: 1 if i % 2 else -1]:
            linear.HAS_ONEDNN = ours
            start = time.process_time()
            out[ours] = run()
            spent[ours] = time.process_time() - start
        if i:
            ratios.append(spent[False] / spent[True])
            times.append(spent[True])
    linear.HAS_ONEDNN = True
    difference = float((out[True] - out[False]).abs().max() / out[False].abs().max())
    ratio = f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    return f"{1000 * median(times):.3g} ms | {ratio} | {difference:.0e} |"


def layers(repeats: int) -> None:
    for name, (rows, channels, out) in LAYERS.items():
        x, weight, bias = torch.randn(rows, channels), torch.randn(out, channels), torch.randn(out)
        print(f"| {name}, {rows} x {channels} to {out} | {compared(partial(linear.product, x, weight, bias), repeats)}")
    for name, (rows, channels) in FEED_FORWARDS.items():
        x, weight, bias = torch.randn(rows, channels), torch.randn(8 * channels, channels), torch.randn(8 * channels)
        back = torch.randn(channels, 4 * channels)

        def run(x: Tensor = x, weight: Tensor = weight, bias: Tensor = bias, back: Tensor = back) -> Tensor:
            return linear.product(linear.gated(F.layer_norm(x, x.shape[-1:]), weight, bias), back)

        print(f"| feed-forward, {name}, {rows} x {channels} | {compared(run, repeats)}")


def passes(repeats: int, size: int, frames: int) -> None:
    pair = TextToVideo.from_pair("sprites").pair
    for side in pair.sides:
        z, t, told = torch.randn(2, 4, 8, 16, 16), torch.tensor(500), side.condition(["a red circle moving left", ""])
        run = partial(side.unet, z, t, told)
        print(f"| pass of the embedded {side.name} model | {compared(run, 10 * repeats)}")
    network = filled(build(UNet, UNetConfig(temporal=MotionConfig())), torch.device("cpu"), torch.float32)
    z, t, told = torch.randn(2, 4, frames, size, size), torch.tensor(500), network.condition(torch.randn(2, 77, 768))
    print(f"| pass of AnimateDiff, {frames} x {size}x{size} | {compared(partial(network, z, t, told), repeats)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--pass-repeats", type=int, default=3)
    parser.add_argument("--only", choices=("layers", "passes"))
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--size", type=int, default=32, help="height and width of the latents")
    chosen = parser.parse_args()
    if not linear.HAS_ONEDNN:
        parser.error("this torch has no oneDNN for this processor: both ways are the same")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), float32\n")
    print("| what | by oneDNN | MKL's time / oneDNN's | difference |\n|---|---|---|---|")
    torch.manual_seed(0)
    with torch.inference_mode():
        if chosen.only != "passes":
            layers(chosen.repeats)
        if chosen.only != "layers":
            passes(chosen.pass_repeats, chosen.size, chosen.frames)


if __name__ == "__main__":
    main()
