"""Triton broken or too old: packages of that name that raise on import, or lack what torch wants of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAULTY = {
    "broken": "raise RuntimeError('0 active drivers\\nat line 12')\n",
    "missing a library": "raise OSError('libtriton.so: undefined symbol')\n",
    "too old": "__version__ = '2.0.0'\n",
    "without a version": "",
}
SAID = {
    "broken": "RuntimeError: 0 active drivers", "missing a library": "OSError: libtriton.so: undefined symbol",
    "too old": "AttributeError: module 'triton' has no attribute 'Config'",
    "without a version": "AttributeError: module 'triton' has no attribute '__version__'",
}  # fmt: skip


@pytest.fixture(params=FAULTY)
def faulty(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict[str, str], str]:
    """The environment of a process that finds such a Triton, and what is wrong with it."""
    package = tmp_path / "packages" / "triton"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(FAULTY[request.param])
    return {**os.environ, "PYTHONPATH": str(package.parent)}, SAID[request.param]


RUN = """
import torch
from ivmix.models import UNet, UNetConfig
from ivmix.models.compile import Graphs, InBlocks, choose
from ivmix.models.cost import forward_cost

network = UNet(UNetConfig(block_out_channels=(8,), attention_levels=(True,), norm_num_groups=4, cross_attention_dim=8))

def record(function, device):
    output = function()
    return output, lambda: output.copy_(function())

auto = Graphs(network, record)
assert choose("auto", "cuda")[0] == choose("graphs", "cuda")[0] == "cuda graphs"
assert choose("off", "cuda")[0] == "eager"
with torch.no_grad():
    for seed in range(3):
        torch.manual_seed(seed)
        z, t, condition = torch.randn(1, 4, 2, 8, 8), torch.tensor(9.0 + seed), network.condition(torch.randn(1, 5, 8))
        assert torch.equal(auto(z, t, condition), network(z, t, condition))
assert None not in auto.programs.values()
assert forward_cost(network.config, 2, 8, 8).total > 0
torch.compiler.config.force_cudagraph_gc  # what torch.cuda.graph reads
assert choose("cudagraphs", "cuda")[0] == "cudagraphs"
with torch.no_grad():
    compiled, eager = InBlocks(network, "aot_eager")(z, t, condition), network(z, t, condition)
torch.testing.assert_close(compiled, eager, rtol=0, atol=1e-5)  # by MKL's products and by oneDNN's: rounding
try:
    choose("inductor", "cuda")
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_all_but_inductor_on_a_gpu_takes_a_faulty_triton_for_a_missing_one(faulty: tuple[dict[str, str], str]) -> None:
    environment, wrong = faulty
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, env=environment)
    assert done.stdout == (
        f"mode='inductor' compiles to Triton on a GPU, which does not work here ({wrong}): pip install triton (on "
        "Windows triton-windows), or take mode='auto', which does not need it\n"
    ), done.stderr


@pytest.mark.slow
def test_the_command_runs_beside_a_faulty_triton(faulty: tuple[dict[str, str], str], tmp_path: Path) -> None:
    prompt = ["a red circle moving left", "--sampler", "ddim", "--steps", "2", "-o", str(tmp_path / "out")]
    command = [sys.executable, "-m", "ivmix", "sample", *prompt, "--device", "cpu", "--compile", "auto"]
    done = subprocess.run(command, capture_output=True, text=True, env=faulty[0], check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.json").exists()
