"""Full-size networks that measure against their peers' of the same random files, in float32.

    python tests/figures/full_size_measuring.py [i3d videomae umt]

Writes each file in its public layout, opens it here and there, each in a process of its own, and prints
max|ours - theirs| / max|theirs| with what each side cost for one clip. Needs the peers (`pip install ivmix[parity]`
and `pip install --no-deps cd-fvd`), 10 GB of memory and 4 GB of disk.
"""

import argparse
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from full_size import compute
from measuring_peers import fusion, text, vision
from public_pairs import manifest

from ivmix.models import UMTConfig, load_i3d, load_umt, load_videomae

FILES = {"i3d": "i3d_kinetics400", "videomae": "videomae_g_ssv2", "umt": "umt_l16"}
FRAMES = {"i3d": 16, "videomae": 16, "umt": 12}


def write(name: str, path: Path) -> None:
    """A file of the manifest's keys and shapes: weights by fan-in, norms near 1."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in manifest(FILES[name]).items():
        draw = torch.randn(shape, generator=generator)
        near_one = key.lower().endswith(("norm.weight", "norm1.weight", "norm2.weight", "bn.weight", "running_var"))
        if key.endswith("num_batches_tracked"):
            draw = torch.tensor(0)
        elif key.endswith("position_ids"):
            draw = torch.arange(shape[1])[None]
        elif len(shape) > 1:
            draw *= draw[0].numel() ** -0.5
        else:
            draw = (1 + 0.2 * draw).clamp(min=0.1) if near_one else 0.1 * draw
        state[key] = draw
    torch.save({"model": state}, path)


def captions() -> tuple[Tensor, Tensor]:
    ids = torch.randint(1000, 30000, (1, 32), generator=torch.Generator().manual_seed(2))
    return ids, torch.arange(32)[None] < 20


@torch.no_grad()
def ours(name: str, path: Path, clips: Tensor) -> Tensor:
    if name == "i3d":
        return load_i3d(path, bn_eps=1e-5)(clips)
    if name == "videomae":
        return load_videomae(path)(clips)
    network, (ids, mask) = load_umt(path), captions()
    tokens, times = network.vision_encoder(clips)
    first = network.text_encoder.fuse(network.text_encoder.text(ids, mask), mask, tokens)[0, 0]
    return torch.cat([network.vision_proj(times).mean(1)[0], first, network.itm_head(first)])


@torch.no_grad()
def theirs(name: str, path: Path, clips: Tensor) -> Tensor:
    state = torch.load(path, mmap=True)["model"]
    if name == "i3d":
        from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d

        network = InceptionI3d(400, in_channels=3)
        network.load_state_dict(state)
        return network.eval()(clips)
    if name == "videomae":
        from cdfvd.third_party.VideoMAEv2.videomaev2_finetune import vit_giant_patch14_224

        network = vit_giant_patch14_224(img_size=224, num_classes=174, all_frames=16, tubelet_size=2)
        network.load_state_dict(state, assign=True)
        return network.eval().forward_features(clips)
    config = UMTConfig()

    def below(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}

    tokens = vision(config.vision, below("vision_encoder.encoder."))(clips.transpose(1, 2)).last_hidden_state
    norm = below("vision_encoder.pool_norm.")
    times = F.layer_norm(tokens.unflatten(1, (12, -1)).mean(2), (1024,), norm["weight"], norm["bias"], 1e-6)
    features = F.linear(times, state["vision_proj.weight"], state["vision_proj.bias"]).mean(1)
    ids, mask = captions()
    bert = {key: value for key, value in below("text_encoder.").items() if not key.endswith("position_ids")}
    states = text(config.text, bert)(ids, attention_mask=mask.long()).last_hidden_state
    first = fusion(config.text, bert)(states, mask, tokens)[0, 0]
    return torch.cat([features[0], first, F.linear(first, state["itm_head.weight"], state["itm_head.bias"])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(FILES)} (default: all)")
    print("| network | difference | time (ours, theirs) | memory (ours, theirs) |\n|---|---|---|---|")
    for name in parser.parse_args().names or FILES:
        clips = torch.rand(1, 3, FRAMES[name], 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.pth"
            write(name, path)
            results = []
            for side in (ours, theirs):
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                    results.append(process.submit(compute, side, name, path, clips).result())
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
