"""What one forward pass of a UNet costs: ours against diffusers', interleaved in one process, on the same weights.

    python tests/figures/forward.py [--small] [--repeats 9] [--only image] [--frames 4] [--size 16] [--dtype float32]

Shapes of Stable Diffusion 1.5, AnimateDiff v3 and ModelScope, and of AnimateDiff's SDXL where it is asked for, 11.2 GB
in float32; random weights, which the two networks share in memory; `--small` has them four times narrower. Two rows,
one conditional and one not. Times are CPU times of the process, so that other programs on the machine hardly matter.
Each round times both sides, in turn; ratios, theirs / ours, are taken within a round. Ours is told a condition made
once, as in a run of many steps, whose making is timed too.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ivmix.models import MotionConfig, SpaceTimeConfig, UNet, UNetConfig
from ivmix.models.meta import build

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from public_configs import SDXL_BASE
from random_weights import filled

CONFIGS = {
    "image": UNetConfig(),
    "animatediff": UNetConfig(temporal=MotionConfig()),
    "modelscope": UNetConfig(
        cross_attention_dim=1024, num_attention_heads=(5, 10, 20, 20), temporal=SpaceTimeConfig()
    ),
    "animatediff-sdxl": replace(SDXL_BASE, temporal=MotionConfig()),
}
UNASKED = [name for name in CONFIGS if name != "animatediff-sdxl"]
SIZES = (1024, 1024, 0, 0, 1024, 1024)


def narrow(config: UNetConfig) -> UNetConfig:
    widths = tuple(width // 4 for width in config.block_out_channels)
    heads = 4 if isinstance(config.num_attention_heads, int) else tuple(w // 16 for w in widths)
    return replace(config, block_out_channels=widths, num_attention_heads=heads, norm_num_groups=16)


def peer(ours: UNet, pooled: Tensor | None = None) -> tuple[Any, Callable[[Any, Tensor, Tensor, Tensor], Tensor]]:
    """diffusers' network with our very tensors, and how to call it on z (b c f h w), t () and a context (b l d)."""
    import diffusers

    beside = {}
    if pooled is not None:
        sizes = torch.tensor([SIZES] * len(pooled), dtype=pooled.dtype)
        beside = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes}}

    def video(network: Any, z: Tensor, t: Tensor, context: Tensor) -> Tensor:
        return network(z, t, context, return_dict=False, **beside)[0]

    def motion(network: Any, z: Tensor, t: Tensor, context: Tensor) -> Tensor:
        return video(network, z, t, context.repeat_interleave(z.shape[2], dim=0))

    def image(network: Any, z: Tensor, t: Tensor, context: Tensor) -> Tensor:
        frames = z.transpose(1, 2).flatten(0, 1)
        out = video(network, frames, t, context.repeat_interleave(z.shape[2], dim=0))
        return out.unflatten(0, (len(z), -1)).transpose(1, 2)

    raw = ours.config.to_dict()
    cls = getattr(diffusers, raw["_class_name"])
    with torch.device("meta"):
        network = cls(**{name: value for name, value in raw.items() if not name.startswith("_")})
    network.load_state_dict(ours.state_dict(), assign=True)
    calls = {"UNet2DConditionModel": image, "UNetMotionModel": motion, "UNet3DConditionModel": video}
    return network.eval().requires_grad_(False), calls[raw["_class_name"]]


def seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def measure(name: str, config: UNetConfig, frames: int, size: int, dtype: torch.dtype, repeats: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ours, pooled = filled(build(UNet, config), torch.device("cpu"), dtype), None
    if config.text_time is not None:
        pooled = torch.randn(2, config.text_time.pooled_dim, generator=generator).to(dtype)
    told: dict[str, Any] = {} if pooled is None else {"pooled": pooled, "sizes": SIZES}
    theirs, call = peer(ours, pooled)
    z = torch.randn(2, 4, frames, size, size, generator=generator).to(dtype)
    context = torch.randn(2, 77, config.cross_attention_dim, generator=generator).to(dtype)
    t, condition = torch.tensor(500), ours.condition(context, **told)

    sides = {"ours": lambda: ours(z, t, condition), "theirs": lambda: call(theirs, z, t, context)}
    out = {side: run() for side, run in sides.items()}  # warms both up, too
    difference = float((out["ours"] - out["theirs"]).abs().max() / out["theirs"].abs().max())
    once = min(seconds(lambda: ours.condition(context, **told)) for _ in range(3))
    times: dict[str, list[float]] = {side: [] for side in sides}
    for i in range(repeats):
        for side in list(sides)[:: 1 if i % 2 else -1]:
            times[side].append(seconds(sides[side]))
    ratios = [b / a for a, b in zip(times["ours"], times["theirs"], strict=True)]
    print(
        f"{name:12} z {tuple(z.shape)}: ours {median(times['ours']):.3f} s (+ {once:.3f} s once), "
        f"theirs {median(times['theirs']):.3f} s, theirs / ours median {median(ratios):.3f} "
        f"(min {min(ratios):.3f}, max {max(ratios):.3f}), outputs differ by {difference:.0e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--only", choices=CONFIGS)
    parser.add_argument("--frames", type=int, default=4, help="of the video networks; the image network is given one")
    parser.add_argument("--size", type=int, default=16, help="height and width of the latents")
    parser.add_argument("--dtype", default="float32")
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {chosen.dtype}")
    with torch.inference_mode():
        for name, config in CONFIGS.items():
            if chosen.only == name or (chosen.only is None and name in UNASKED):
                size = narrow(config) if chosen.small else config
                shape = (size, chosen.frames if config.temporal else 1, chosen.size)
                measure(name, *shape, getattr(torch, chosen.dtype), chosen.repeats)


if __name__ == "__main__":
    main()
