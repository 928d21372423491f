"""What `compile_network` gains: its paths on one video network, interleaved call by call in one process.

    python tests/figures/compiled.py [--pair sprites] [--device cpu] [--dtype float32] [--rounds 30]

The network is a pair's, or without `--pair` one level of Stable Diffusion's kind with motion modules. On CUDA: eager,
CUDA graphs, torch's of blocks, and Inductor where Triton is installed. On the CPU: eager twice, which shows the noise
of the measurement, and Inductor; `--whole` adds Inductor of the whole network, which for more than one level takes many
minutes there. "first calls" is what a shape costs before its calls are as fast as they get (the first three calls,
beyond what eager ones take). The ratio is eager time over the path's in the same round, median and quartiles over the
rounds: above 1 is faster. "calls to earn it back" is the first divided by what a call saves.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median, quantiles

import torch
from torch import Tensor

from ivmix.models import Condition, MotionConfig, UNet, UNetConfig
from ivmix.models.compile import compile_network
from ivmix.models.triton import missing
from ivmix.pairs.pair import load_pair

ONE_LEVEL = UNetConfig(
    block_out_channels=(64,), attention_levels=(True,), layers_per_block=1, cross_attention_dim=64,
    num_attention_heads=4, norm_num_groups=16, temporal=MotionConfig(4, max_frames=8),
)  # fmt: skip


def case(name: str | None, device: str, dtype: torch.dtype) -> tuple[UNet, Tensor, Condition]:
    """A network with latents and a condition of two rows, as under guidance."""
    generator = torch.Generator().manual_seed(0)
    if name is None:
        network, shape = UNet(ONE_LEVEL).to(device, dtype).eval().requires_grad_(False), (4, 8, 16, 16)
        condition = network.condition(torch.randn(2, 8, 64, generator=generator).to(device, dtype))
    else:
        pair = load_pair(name, device, dtype)
        network, condition = pair.video.unet, pair.video.condition(["", "a red circle moving left"])
        shape = pair.latent_shape(pair.frames, pair.height, pair.width)
    return network, torch.randn(2, *shape, generator=generator).to(device, dtype), condition


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", metavar="NAME")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()

    network, z, condition = case(options.pair, options.device, getattr(torch, options.dtype))
    device = torch.cuda.get_device_name() if z.is_cuda else f"CPU, {torch.get_num_threads()} threads"
    name = options.pair or "one level"
    print(f"{name} {tuple(z.shape)} {options.dtype}, {device}, torch {torch.__version__}", flush=True)

    def seconds(forward: Callable[..., Tensor], step: int) -> float:
        t = torch.tensor(999.0 - step, dtype=torch.float64)
        began = time.perf_counter()
        forward(z, t, condition)
        if z.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - began

    paths: dict[str, Callable[..., Tensor]] = {"eager": network, "eager again": compile_network(network, "off")}
    if z.is_cuda:
        paths |= {"graphs": compile_network(network, "graphs"), "cudagraphs": compile_network(network, "cudagraphs")}
    if not (z.is_cuda and missing()):
        paths["inductor"] = compile_network(network, "inductor")
    if options.whole:
        paths["inductor, whole"] = torch.compile(network, dynamic=False)
    with torch.no_grad():
        warm = min(seconds(network, step) for step in range(5))
        first = {name: sum(seconds(forward, step) for step in range(3)) - 3 * warm for name, forward in paths.items()}
        times: dict[str, list[float]] = {name: [] for name in paths}
        for step in range(options.rounds):
            for name, forward in paths.items():
                times[name].append(seconds(forward, step))

    print("| path | first calls, s | a call, ms | eager / it | calls to earn it back |\n|---|---|---|---|---|")
    for name, values in times.items():
        ratios = [base / value for base, value in zip(times["eager"], values, strict=True)]
        low, _, high = quantiles(ratios, n=4)
        saved = median(times["eager"]) - median(values)
        back = f"{first[name] / saved:.0f}" if saved > 0 and name not in ("eager", "eager again") else "-"
        print(f"| {name} | {max(first[name], 0):.1f} | {1e3 * median(values):.1f} | {median(ratios):.2f} "
              f"({low:.2f} - {high:.2f}) | {back} |")  # fmt: skip


if __name__ == "__main__":
    main()
