"""The script for a GPU, tried without one: every line at toy size, and its few CUDA calls on stand-ins."""

import importlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ivmix.models.compile import Compiled
from ivmix.models.graphs import Graphs, Recorder

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "figures" / "gpu.py"
DATA = ROOT / "notebooks" / "data" / "gpu.json"

# As on a machine of torch, einops, safetensors and tokenizers alone.
BARE = """
import runpy, sys
for name in ("av", "PIL", "tqdm", "huggingface_hub", "diffusers", "transformers", "matplotlib", "scipy", "numpy"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(sys, "path", [str(SCRIPT.parent), *sys.path])
    yield importlib.import_module("gpu")
    for name in ("gpu", "card", "numpy_missing", "traffic", "random_weights"):
        sys.modules.pop(name, None)


@pytest.fixture
def bench(gpu: Any) -> Any:
    return gpu.Bench(gpu.Card(torch.device("cpu")), gpu.SMALL, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("bare", [False, True])
def test_every_section_runs_at_toy_size(bare: bool, tmp_path: Path) -> None:
    path, start = tmp_path / "gpu.json", ["-c", BARE] if bare else []
    command = [sys.executable, *start, str(SCRIPT), "--device", "cpu", "--small", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(path.read_text())
    assert list(report["sections"]) == [
        "exactness", "passes", "samplers", "roofline", "attention", "gating", "decoding", "compiling"
    ]  # fmt: skip
    rows = {name: found["rows"] for name, found in report["sections"].items()}
    assert [row["same bits"] for row in rows["exactness"]] == [True] * 3
    if bare:
        assert rows["passes"][0]["pass"] == "skipped"
    else:
        assert [row["pass"] for row in rows["passes"]] == ["diffusers, eager", "ivmix, eager"]
        assert max(row["difference"] for row in rows["passes"]) < 1e-4
    plain = rows["samplers"][0]
    assert (plain["forwards V"], plain["ratio to plain"]) == (2 * 6, 1)  # cond and uncond of every step
    assert all(row["PFLOP"] > 0 for row in rows["samplers"])
    assert [row["way"] for row in rows["compiling"]] == ["eager", "auto"]
    assert [row["product"] for row in rows["gating"]] == ["whole", "by halves"] * 2
    assert max(row["difference"] for row in rows["gating"]) < 1e-5  # rounding of sums of 16 and 32 products
    again = subprocess.run(
        [sys.executable, str(SCRIPT), "--table", str(path)], capture_output=True, text=True, check=True
    )
    for table in again.stdout.split("\n\n")[1::2]:
        assert table.strip() in done.stdout


@pytest.mark.slow
def test_a_section_that_fails_says_why_and_stops_no_other(gpu: Any, bench: Any, tmp_path: Path, capsys: Any) -> None:
    broken = replace(bench, size=replace(gpu.SMALL, copied=-1))  # bytes that the bandwidth is measured with
    report = gpu.run(broken, ["roofline", "attention"], tmp_path / "gpu.json")
    assert report == json.loads((tmp_path / "gpu.json").read_text())
    assert "RuntimeError" in report["sections"]["roofline"]["error"]
    assert report["sections"]["attention"]["rows"]
    assert "failed: RuntimeError" in capsys.readouterr().out
    assert set(gpu.tables(report)) == {"attention"}


@pytest.mark.slow
def test_a_way_to_call_a_network_that_fails_is_a_row_that_says_why(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Inductor would, on a card that it does not know."""
    modes = {"eager": "off", "graphs": "graphs", "auto": "auto"}
    monkeypatch.setattr(type(bench), "modes", lambda _: modes)
    with pytest.raises(ValueError, match="needs an NVIDIA GPU"):
        sys.modules["gpu"].compiling(bench)

    def fail() -> torch.Tensor:
        raise RuntimeError("no kernel image is available")

    row = sys.modules["gpu"].first_calls(bench.card, fail, torch.ones(1))
    assert row == {"note": "failed: RuntimeError: no kernel image is available"}


@pytest.mark.slow
def test_what_is_asked_of_the_command_is_checked(tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False,
                              env={"CUDA_VISIBLE_DEVICES": "", "PATH": ""})  # fmt: skip
        assert done.returncode == 2, done.stderr
        return done.stderr.splitlines()[-1]

    assert "torch finds no GPU here; --device cpu --small tries every line" in refused()
    assert "--only speed: expected some of exactness, passes" in refused("--only", "speed")


def test_peers_are_found_in_a_folder_of_wheels_and_packages(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    with zipfile.ZipFile(tmp_path / "peer-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("peer_in_a_wheel/__init__.py", "data = __import__('pathlib').Path(__file__).is_file()")
    (tmp_path / "peer_unpacked").mkdir()
    (tmp_path / "peer_unpacked" / "__init__.py").write_text("here = True")
    gpu.add_peers(tmp_path)
    assert importlib.import_module("peer_in_a_wheel").data
    assert importlib.import_module("peer_unpacked").here


def test_random_weights_are_those_of_a_network_that_learned(gpu: Any, bench: Any) -> None:
    y = bench.unet(*bench.told())
    assert 0.1 < float(y.std()) < 10
    assert not torch.equal(y, bench.unet(*bench.told(1)))
    assert not torch.equal(y, bench.unet(*bench.told(), temporal=False))
    table = dict(bench.unet.named_buffers())
    assert all(float(t.abs().max()) <= 1 for t in table.values())
    assert len(table) > 0


# --- what only CUDA has ---------------------------------------------------------------------------------------------


@pytest.fixture
def card(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A card whose clock goes on by 20 ms whenever work is waited for, and whose memory is 3 GiB, 5 at most."""
    clock = [0.0]

    class Event:
        def __init__(self, enable_timing: bool = False) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = clock[0]
            clock[0] += 0.02

        def elapsed_time(self, end: Any) -> float:
            return 1e3 * (end.at - self.at)

    names = SimpleNamespace(name="a card", total_memory=2**37)
    stands_in: dict[str, Any] = {
        "Event": Event, "synchronize": lambda device: None, "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda device: None, "memory_reserved": lambda device: 3 * 2**30,
        "max_memory_reserved": lambda device: 5 * 2**30, "get_device_properties": lambda device: names,
    }  # fmt: skip
    for name, function in stands_in.items():
        monkeypatch.setattr(torch.cuda, name, function)  # raises for a name that torch does not have
    return gpu.Card(torch.device("cuda"))


def test_time_and_memory_are_the_devices_own(card: Any) -> None:
    assert card.best(lambda: None, inner=10) == pytest.approx(0.002)
    with card.memory() as found:
        pass
    assert found == {"peak GiB": 5.0, "beyond GiB": 2.0}
    assert card.about()["device"] == "a card"
    assert card.about()["memory GiB"] == 128
    assert card.seconds(lambda: None) < 1


@pytest.mark.slow
def test_every_section_runs_on_a_card_and_by_graphs(gpu: Any, card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU taken for a card, a function computed again for a graph."""

    def record(function: Callable[[], torch.Tensor], device: torch.device) -> Any:
        output = function().fill_(torch.nan)
        return output, lambda: output.copy_(function())

    def by_graphs(network: Any, mode: str) -> Compiled:
        forward = network if mode == "off" else Graphs(network, record)
        return Compiled(forward, "eager" if mode == "off" else "cuda graphs", "", Recorder())

    monkeypatch.setattr(gpu.Card, "cuda", True)
    monkeypatch.setattr(gpu, "compile_network", by_graphs)
    report = gpu.run(gpu.Bench(gpu.Card(torch.device("cpu")), gpu.SMALL, torch.float32), list(gpu.SECTIONS), None)
    assert not [found["error"] for found in report["sections"].values() if "error" in found]
    rows = {name: found["rows"] for name, found in report["sections"].items()}
    assert [(row["by"], row["same bits"]) for row in rows["exactness"]] == [("cuda graphs", True)] * 3
    assert rows["passes"][-1]["pass"] == "ivmix, cuda graphs"
    assert [row["way"] for row in rows["compiling"]] == ["eager", "graphs", "cudagraphs"]
    assert all(row["difference"] == 0 for row in rows["compiling"])
    measured = [*rows["samplers"], *rows["decoding"], *rows["compiling"]]
    assert all((row["peak GiB"], row["beyond GiB"]) == (5, 2) for row in measured)
    assert rows["roofline"][0]["of the roofline"] > rows["roofline"][0]["share of the matrix rate"] > 0


def test_a_card_calls_networks_in_every_way_it_has(gpu: Any, card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = gpu.Bench(card, gpu.SMALL, torch.float16)
    for triton in (True, False):
        monkeypatch.setattr(gpu, "missing", lambda triton=triton: not triton)
        assert list(bench.modes()) == ["eager", "graphs", "cudagraphs", *(["inductor"] if triton else [])]


def test_backends_of_attention_are_torchs(gpu: Any) -> None:
    q = torch.randn(2, 2, 4, 8)
    for name, chosen in gpu.attention_backends().items():
        with chosen():
            if name != "torch's choice":
                enabled = {n: getattr(torch.backends.cuda, f"{n}_sdp_enabled")() for n in SWITCHES.values()}
                assert [n for n, on in enabled.items() if on] == [SWITCHES[name]]
    assert torch.nn.functional.scaled_dot_product_attention(q, q, q).shape == q.shape


SWITCHES = {
    "FLASH_ATTENTION": "flash", "EFFICIENT_ATTENTION": "mem_efficient", "CUDNN_ATTENTION": "cudnn", "MATH": "math",
}  # fmt: skip


# --- traffic --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_kernel_reads_its_tensors_and_writes_what_it_makes(gpu: Any) -> None:
    from traffic import Moved

    with torch.device("meta"):
        a, b, bias = torch.empty(8, 16), torch.empty(16, 32), torch.empty(32)
    with Moved() as moved:
        y = torch.addmm(bias, a, b)                       # 32 + 128 + 512 read, 256 written
        y.view(16, 16).transpose(0, 1).expand(3, 16, 16)  # a view
        y.add_(1)                                         # 256 read, 256 written
        torch.cat([y, y])                                 # 256 read twice, 512 written
        bias.expand(8, 32) + y                            # 32 read, not 256
    assert moved.bytes == {"addmm": 4 * 928, "add_": 4 * 512, "cat": 4 * 1024, "add": 4 * (32 + 256 + 256)}
    assert moved.kernels == 4


@pytest.mark.slow
def test_traffic_grows_with_frames_and_not_with_what_is_computed_once(gpu: Any) -> None:
    from traffic import forward_traffic

    two, three, four = (forward_traffic(gpu.SMALL.unet, frames, 8, 8) for frames in (2, 3, 4))
    assert two.kernels == three.kernels == four.kernels
    assert four.total - three.total == three.total - two.total > 0


# --- the README -----------------------------------------------------------------------------------------------------


def test_the_readmes_tables_of_a_gpu_are_those_of_the_data(gpu: Any) -> None:
    """Every table there whose header is a section's is that section's, whole; and none is there without data."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = gpu.tables(json.loads(DATA.read_text(encoding="utf-8"))) if DATA.exists() else {}
    for table in found.values():
        assert table in readme or table.splitlines()[0] not in readme
    assert found or "share of the matrix rate" not in readme
