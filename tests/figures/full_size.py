"""Full-size UNets and transformers against diffusers' of the same random files, in float32.

    python tests/figures/full_size.py [animatediff modelscope image latte pixart] [--latents 4x16x16]

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
from public_pairs import DIT_CONFIG, LATTE_CONFIG, File, adapter, pipeline, transformer

NETWORKS = {  # its key list, and its text
    "animatediff": ("sd15_unet_diffusers", 77, 768),
    "modelscope": ("modelscope_unet3d_diffusers", 77, 1024),
    "image": ("sd15_unet_diffusers", 77, 768),
    "latte": ("latte1_transformer", 120, 4096),
    "pixart": ("pixart_xl2_512_transformer", 120, 4096),
}
TRANSFORMERS = {"latte": LATTE_CONFIG, "pixart": DIT_CONFIG}


def written(name: str) -> list[File]:
    """The files of a network."""
    manifest, *_ = NETWORKS[name]
    if name in TRANSFORMERS:
        return [transformer("", manifest, TRANSFORMERS[name])]
    unet, *_ = pipeline("", manifest, "clip_l_text_transformers", None)
    return [replace(unet, dtype=torch.float32), *([adapter("adapter/")] if name == "animatediff" else [])]


def ours(name: str, root: Path, z: Tensor, t: Tensor, context: Tensor) -> Tensor:
    from ivmix.models import load_transformer, load_unet
    from ivmix.models.predictor import Predictor

    network: Predictor
    motion = root / "adapter" if name == "animatediff" else None
    if name in TRANSFORMERS:
        network = load_transformer(root / "transformer")
    else:
        network = load_unet(root / "unet", motion=motion, dtype=torch.float32)
    with torch.no_grad():
        return network(z, t, network.condition(context))


def theirs(name: str, root: Path, z: Tensor, t: Tensor, context: Tensor) -> Tensor:
    import diffusers

    frames = z.shape[2]
    if name == "latte":  # which knows no fewer frames than its config says
        network = diffusers.LatteTransformer3DModel.from_pretrained(root / "transformer", video_length=frames).eval()
        with torch.no_grad():
            return network(z, t.expand(1), context).sample[:, :4]
    if name == "pixart":
        network = diffusers.PixArtTransformer2DModel.from_pretrained(root / "transformer").eval()
        images, each = z.transpose(1, 2).flatten(0, 1), context.repeat_interleave(frames, dim=0)
        with torch.no_grad():
            said = network(images, each, t.expand(frames)).sample[:, :4]
        return said.unflatten(0, (-1, frames)).transpose(1, 2)
    kind = diffusers.UNet3DConditionModel if name == "modelscope" else diffusers.UNet2DConditionModel
    network = kind.from_pretrained(root / "unet")
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
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--latents", default="4x16x16", metavar="FxHxW")
    options = parser.parse_args()
    frames, height, width = map(int, options.latents.split("x"))
    print("| network | difference | time (ours, theirs) | memory (ours, theirs) |\n|---|---|---|---|")
    for name in options.names or NETWORKS:
        _, tokens, channels = NETWORKS[name]
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(1, 4, frames, height, width, generator=generator)
        text = torch.randn(1, tokens, channels, generator=generator)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for file in written(name):
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
