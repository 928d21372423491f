"""What loading the UNet of Stable Diffusion 1.5 costs: ours against diffusers' from_pretrained, on the same file.

    python tests/figures/loading.py [--folder /tmp/loading] [--repeats 3]

Random weights in half precision, 1.72 GB, are written to --folder once, as diffusers' folder and as a single file in
LDM's layout. Every run is a process of its own, the sides in turn; the file is in the page cache. "load" is the CPU
time of the call, which other programs hardly change, "used" that until every weight has been read once: a memory map
puts off what it costs to bring the file in. "peak" is the most resident memory of the process during both, beyond what
it had before, in units of the weights as loaded. Pages of the file itself are part of the page cache, given back when
memory is short: "own" leaves them out (read at the end).
"""

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median

CHILD = """
import sys, time, torch
from pathlib import Path
side, source, dtype = sys.argv[1], sys.argv[2], getattr(torch, sys.argv[3])
torch.set_num_threads(1)

def status(name):
    row = next(r for r in Path("/proc/self/status").read_text().splitlines() if r.startswith(name + ":"))
    return 1024 * int(row.split()[1])

if side == "ours":
    from ivmix.models import load_unet
    load = lambda: load_unet(source, dtype=dtype)
else:
    from diffusers import UNet2DConditionModel
    load = lambda: UNet2DConditionModel.from_pretrained(source, torch_dtype=dtype)
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before, own = status("VmRSS"), status("RssAnon")
begin = time.process_time()
network = load()
loaded = time.process_time()
for parameter in network.parameters():
    parameter.sum()
used = time.process_time()
size = sum(p.nbytes for p in network.parameters())
print(loaded - begin, used - begin, (status("VmHWM") - before) / size, (status("RssAnon") - own) / size)
"""


def write(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from ivmix.models import UNet, UNetConfig, save_folder
    from ivmix.models.checkpoints.layouts import LAYOUTS

    if not (folder / "unet" / "config.json").exists():
        torch.manual_seed(0)
        network = UNet(UNetConfig())
        save_folder(network, folder / "unet", torch.float16)
    if not (folder / "ldm.safetensors").exists():
        (layout,) = (layout for layout in LAYOUTS if layout.name == "LDM UNet")
        state = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
        theirs = {}
        for key, tensor in state.items():
            names = layout.sources(key)  # an upsampler's place depends on whether an attention stands before it
            name = names[0] if len(names) == 1 or key.startswith("up_blocks.0.") else names[1]
            theirs["model.diffusion_model." + name] = tensor
        save_file(theirs, folder / "ldm.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/loading"))
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    write(given.folder)
    folder, single = str(given.folder / "unet"), str(given.folder / "ldm.safetensors")
    runs = [
        ("ours", folder, "float16"), ("diffusers", folder, "float16"), ("ours", single, "float16"),
        ("ours", folder, "float32"), ("diffusers", folder, "float32"),
    ]  # fmt: skip
    rows: dict[tuple[str, str, str], list[list[float]]] = {run: [] for run in runs}
    for _ in range(given.repeats):
        for run in runs:
            done = subprocess.run([sys.executable, "-c", CHILD, *run], check=True, capture_output=True, text=True)
            rows[run].append([float(number) for number in done.stdout.split()[-4:]])
    print("side       source            as          load s   used s   peak    own")
    for (side, source, dtype), numbers in rows.items():
        load, used, peak, own = (median(column) for column in zip(*numbers, strict=True))
        print(f"{side:10s} {Path(source).name:17s} {dtype:10s} {load:7.2f}  {used:7.2f}  {peak:5.2f}  {own:5.2f}")


if __name__ == "__main__":
    main()
