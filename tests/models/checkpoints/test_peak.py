"""What loading takes of memory: the network as it is asked for, and little else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ivmix.models import T5Config, T5Text
from ivmix.models.meta import build, shapes_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

CONFIG = T5Config(30_000, 1024, 64, 2048, 6, 16)  # 94 million numbers, a third of them in one tensor

# Resident memory that belongs to no file: pages of the mapped file are the page cache's, which gives them back. Looked
# at every millisecond, since Linux keeps no peak of it.
CHILD = """
import re, sys, threading, time
from pathlib import Path
import torch
from ivmix.models import load_text_encoder
torch.set_num_threads(1)
torch.zeros(1000, dtype=torch.float32).to(torch.bfloat16)

def own():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def look():
    global most
    while not done:
        most = max(most, own())
        time.sleep(1e-3)

done, before = False, own()
most = before
thread = threading.Thread(target=look)
thread.start()
network = load_text_encoder(sys.argv[1], dtype=torch.bfloat16)
done = True
thread.join()
print(max(most, own()) - before, sum(p.nbytes for p in network.parameters()))
"""


@pytest.mark.parametrize("extension", ["safetensors", "bin"])
def test_shards_are_cast_tensor_by_tensor_from_where_they_are_mapped(extension: str, tmp_path: Path) -> None:
    """375 MB in float32 become 187 in bfloat16. Beside these at most one tensor may be there as stored, of 123 MB, and
    what names and tables take, for which 8 MB are allowed: a file or a shard read whole (125 MB or more) is too much.
    Measured: half a megabyte beside the 187."""
    shapes = shapes_of(build(T5Text, CONFIG))
    shards: dict[str, dict[str, torch.Tensor]] = {}
    for k, (key, shape) in enumerate(shapes.items()):
        shards.setdefault(f"part-{k % 3}.{extension}", {})[key] = torch.rand(shape)
    for name, state in shards.items():
        if extension == "bin":
            torch.save(state, tmp_path / name)
        else:
            save_file(state, tmp_path / name)
    where = {key: name for name, state in shards.items() for key in state}
    stem = "pytorch_model.bin" if extension == "bin" else "model.safetensors"
    (tmp_path / f"{stem}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    largest = max(tensor.nbytes for state in shards.values() for tensor in state.values())
    del shards, state
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, check=True)
    peak, target = map(int, done.stdout.split())
    print(f"peak {peak / 1e6:.1f} MB, target {target / 1e6:.1f} MB, largest tensor {largest / 1e6:.1f} MB")
    assert peak > 0.99 * target  # what is loaded is there, not mapped
    assert peak <= target + largest + 8e6
