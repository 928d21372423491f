"""Full-size UNets against diffusers' of the same random files, in float32.

    python tests/figures/full_size.py [animatediff modelscope image] [--latents 4x16x16]

Writes the files that are published, opens them here and there, each in a process of its own, and prints
max|ours - theirs| / max|theirs| with what each side cost. Needs the peers (`pip install ivmix[parity]`), 11 GB of
memory and 6 GB of disk.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from public_pairs import adapter, pipeline

UNETS = {
    "animatediff": ("sd15_unet_diffusers", 768),
    "modelscope": ("modelscope_unet3d_diffusers", 1024),
    "image": ("sd15_unet_diffusers", 768),
}


def ours(name: str, root: Path, z: Tensor, t: Tensor, context: Tensor) -> Tensor:
    from ivmix.models import load_unet

    motion = root / "adapter" if name == "animatediff" else None
    network = load_unet(root / "unet", motion=motion, dtype=torch.float32)
    with torch.no_grad():
        return network(z, t, network.condition(context))


def theirs(name: str, root: Path, z: Tensor, t: Tensor, context: Tensor) -> Tensor:
    import diffusers

    kind = diffusers.UNet3DConditionModel if name == "modelscope" else diffusers.UNet2DConditionModel
    network = kind.from_pretrained(root / "unet")
    frames = z.shape[2]
    with torch.no_grad():
        if name == "modelscope":
            return network.eval()(z, t, context).sample
        each = context.repeat_interleave(frames, dim=0)
        if name == "animatediff":
            adapter = diffusers.MotionAdapter.from_pretrained(root / "adapter")
            return diffusers.UNetMotionModel.from_unet2d(network, adapter).eval()(z, t, each).sample
        images = network.eval()(z.transpose(1, 2).flatten(0, 1), t, each).sample
        return images.unflatten(0, (-1, frames)).transpose(1, 2)


def compute(side: Any, *arguments: Any) -> tuple[list[Any], float, float]:
    began = time.perf_counter()
    out = side(*arguments)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return out.tolist(), time.perf_counter() - began, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(UNETS)} (default: all)")
    parser.add_argument("--latents", default="4x16x16", metavar="FxHxW")
    options = parser.parse_args()
    frames, height, width = map(int, options.latents.split("x"))
    print("| UNet | difference | time (ours, theirs) | memory (ours, theirs) |\n|---|---|---|---|")
    for name in options.names or UNETS:
        manifest, channels = UNETS[name]
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(1, 4, frames, height, width, generator=generator)
        text = torch.randn(1, 77, channels, generator=generator)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            unet, *_ = pipeline("", manifest, "clip_l_text_transformers", None)
            files = [replace(unet, dtype=torch.float32), *([adapter("adapter/")] if name == "animatediff" else [])]
            for file in files:
                file.write(root, small=False)
            results = []
            for side in (ours, theirs):
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                    future = process.submit(compute, side, name, root, z, torch.tensor(600), text)
                    results.append(future.result())
        (mine, *my_cost), (peer, *peer_cost) = results
        a, b = torch.tensor(mine), torch.tensor(peer)
        difference = float((a - b).abs().max() / b.abs().max())
        seconds, memory = zip(my_cost, peer_cost, strict=True)
        print(
            f"| {name} | {difference:.1e} | {seconds[0]:.0f} s, {seconds[1]:.0f} s "
            f"| {memory[0]:.1f} GB, {memory[1]:.1f} GB |", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
