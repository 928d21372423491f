"""Fixtures for every folder of tests."""

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from local_hub import LocalHub
from torch import nn


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


# No test reaches a hub but the one of this machine, with a cache of its own; unless it runs, the network is gone. Said
# before huggingface_hub is imported, which reads it once; commands that tests start are told the same.
PORT, HOME = free_port(), tempfile.mkdtemp(prefix="ivmix-tests-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
    del os.environ[name]
os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{PORT}", "HF_HOME": HOME, "HF_HUB_DISABLE_XET": "1",
               "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
               "IVMIX_CACHE": os.path.join(HOME, "ivmix")}  # fmt: skip

# Tests compare bits, batches and memory of the CPU: a GPU is not seen, unless those that need one are asked for.
if not os.environ.get("IVMIX_TEST_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread a worker: they share the cores, and so do the commands they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

N = TypeVar("N", bound=nn.Module)
collect_ignore = ["fuzz.py"]  # a program, with nothing for doctest


@pytest.fixture(scope="session")
def randomised() -> Callable[..., nn.Module]:
    """`randomised(network, seed=0, dtype=torch.float64)`: the network with weights far from any neutral start.

    Fan-in scaling keeps activations of order one; norms and biases are drawn too, so that none drops out of a test.
    """

    def randomise(network: N, seed: int = 0, dtype: torch.dtype = torch.float64) -> N:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                if parameter.ndim > 1:
                    draw *= 1.5 / parameter[0].numel() ** 0.5
                else:
                    draw = 0.3 * draw + (1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0)
                parameter.copy_(draw)
        return network.to(dtype).eval().requires_grad_(False)

    return randomise


@pytest.fixture
def local_hub(tmp_path: Path) -> Iterator[LocalHub]:
    """A hub to publish on, where HF_ENDPOINT says it is, and an empty cache."""
    shutil.rmtree(Path(HOME, "hub"), ignore_errors=True)
    hub = LocalHub(tmp_path / "published", PORT)
    hub.start()
    yield hub
    hub.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)
