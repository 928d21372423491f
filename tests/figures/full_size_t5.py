"""T5 v1.1 XXL's encoder at full size, random weights: what loading and reading two prompts takes, and the peer's.

    python tests/figures/full_size_t5.py [--peer] [--folder FOLDER] [--dtype bfloat16]

Writes the 220 tensors that are published, 9.8 GB in float16, as twelve shards and their index, then loads them as
--dtype and reads two rows of 120 tokens, one of them full. In a process of its own, as transformers' after it with
--peer. "own" is the most resident memory that belongs to no file, looked at every 10 ms. Needs 10 GB of disk, and
10.5 GB of memory beside the file's pages, which the system takes back when it needs them.
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
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from public_pairs import draw, manifest

NAME, BLOCKS_A_SHARD = "t5_v1_1_xxl_encoder", 2


def write(folder: Path) -> None:
    from ivmix.models import T5Config

    shapes, where = manifest(NAME), dict[str, str]()
    for first in range(0, 24, BLOCKS_A_SHARD):
        blocks = [f"encoder.block.{first + k}." for k in range(BLOCKS_A_SHARD)]
        own = {key: shape for key, shape in shapes.items() if key.startswith(tuple(blocks))}
        if first == 0:
            own |= {key: shape for key, shape in shapes.items() if ".block." not in key}
        state = draw(own, torch.float16, seed=first)
        for key, value in state.items():
            if ".q." in key:
                value /= 8  # the scale of the scores, which the initial weights have
            if key.endswith(("shared.weight", "embed_tokens.weight")):
                state[key] = state["shared.weight"].clone()
        name = f"model-{first // BLOCKS_A_SHARD + 1:05d}-of-00012.safetensors"
        save_file(state, folder / name, metadata={"format": "pt"})
        where |= dict.fromkeys(own, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "config.json").write_text(json.dumps(T5Config().to_dict()))


def ours(folder: Path, dtype: torch.dtype) -> Any:
    from ivmix.models import load_text_encoder

    return load_text_encoder(folder, dtype=dtype)


def theirs(folder: Path, dtype: torch.dtype) -> Any:
    import transformers

    network = transformers.T5EncoderModel.from_pretrained(folder, dtype=dtype)
    return lambda ids, mask: network(ids, mask).last_hidden_state


def status(name: str) -> int:
    return 1024 * int(re.findall(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def compute(side: Any, folder: Path, dtype: torch.dtype) -> tuple[list[Any], float, float, float]:
    """States of both rows, seconds to load and to read, and the most memory of its own in GB."""
    most, done = status("RssAnon"), threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(0.01):
            most = max(most, status("RssAnon"))

    thread = threading.Thread(target=look)
    thread.start()
    ids = torch.randint(3, 32_000, (2, 120), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(120) < torch.tensor([[120], [9]])
    began = time.perf_counter()
    network = side(folder, dtype)
    loaded = time.perf_counter()
    with torch.no_grad():
        states: Tensor = torch.cat([network(*row) for row in zip(ids.split(1), mask.split(1), strict=True)])
    read = time.perf_counter()
    done.set()
    thread.join()
    return states.float().tolist(), loaded - began, read - loaded, most / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="store_true", help="transformers' too, afterwards")
    parser.add_argument("--folder", type=Path, help="where the files are, or are written to and stay")
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "config.json").exists():
            write(folder)
        print("| | load s | two rows s | own GB |\n|---|---|---|---|")
        rows = list[Tensor]()
        for side in (ours, theirs)[: 1 + options.peer]:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                states, load, read, own = process.submit(
                    compute, side, folder, getattr(torch, options.dtype)
                ).result()
            rows.append(torch.tensor(states))
            print(f"| {side.__name__} | {load:.0f} | {read:.0f} | {own:.2f} |", flush=True)
        print(f"finite: {bool(rows[0].isfinite().all())}; mean square {float(rows[0].square().mean()):.3f}")
        if options.peer:
            text = torch.arange(120) < torch.tensor([[120], [9]])
            difference = (rows[0] - rows[1])[text].norm() / rows[1][text].norm()
            print(f"|ours - theirs| / |theirs| over the text: {float(difference):.1e}")


if __name__ == "__main__":
    main()
