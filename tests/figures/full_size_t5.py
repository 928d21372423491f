"""T5 v1.1 XXL's encoder at full size, random weights: what loading it and reading two prompts takes.

    python tests/figures/full_size_t5.py [--folder FOLDER] [--dtype bfloat16]

Writes the 220 tensors that are published, 9.8 GB in float16, as twelve shards and their index, then, in a process of
its own, loads them as --dtype and reads two rows of 120 tokens, one of them full. "own" is the most resident memory
that belongs to no file, looked at every 10 ms; pages of the mapped files are the page cache's, which gives them back.
Needs 10 GB of disk and, in bfloat16, as much memory. What it computes is compared on small networks (tests/parity).
"""

import argparse
import json
import multiprocessing
import re
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))
from public_pairs import draw, manifest

BLOCKS, SHARDS = 24, 12


def write(folder: Path) -> None:
    from ivmix.models import T5Config

    shapes, where = manifest("t5_v1_1_xxl_encoder"), dict[str, str]()
    for n in range(SHARDS):
        blocks = tuple(f"encoder.block.{k}." for k in range(n, BLOCKS, SHARDS))
        own = {key: shape for key, shape in shapes.items() if key.startswith(blocks) or (n == 0 and "block" not in key)}
        state = draw(own, torch.float16, seed=n)
        for key, value in state.items():
            if ".q." in key:
                value /= 8  # the scale of the scores, which the initial weights have
        if n == 0:  # stored under both names
            state["encoder.embed_tokens.weight"] = state["shared.weight"].clone()
        name = f"model-{n + 1:05d}-of-{SHARDS:05d}.safetensors"
        save_file(state, folder / name, metadata={"format": "pt"})
        where |= dict.fromkeys(own, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "config.json").write_text(json.dumps(T5Config().to_dict()))


def own_memory() -> int:
    return 1024 * int(re.findall(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def compute(folder: Path, dtype: torch.dtype) -> tuple[float, float, float, float, bool]:
    """Seconds to load and to read, the most memory of its own and what the weights have of it, in GB; whether all
    states are finite."""
    from ivmix.models import load_text_encoder

    most, done = own_memory(), threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(0.01):
            most = max(most, own_memory())

    thread = threading.Thread(target=look)
    thread.start()
    ids = torch.randint(3, 32_000, (2, 120), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(120) < torch.tensor([[120], [9]])
    began = time.perf_counter()
    network = load_text_encoder(folder, dtype=dtype)
    loaded = time.perf_counter()
    states = torch.cat([network(*row) for row in zip(ids.split(1), mask.split(1), strict=True)])
    read = time.perf_counter()
    done.set()
    thread.join()
    size = sum(parameter.nbytes for parameter in network.parameters())
    return loaded - began, read - loaded, most / 1e9, size / 1e9, bool(states.isfinite().all())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the files are, or are written to and stay")
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "config.json").exists():
            write(folder)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            found = process.submit(compute, folder, getattr(torch, options.dtype)).result()
    print("| load s | two rows s | own GB | weights GB | finite |\n|---|---|---|---|---|")
    print("| {:.0f} | {:.0f} | {:.2f} | {:.2f} | {} |".format(*found))


if __name__ == "__main__":
    main()
