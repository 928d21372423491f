"""What is asked of a GPU: time, memory, rates. Each question has an answer of the CPU's, so that it is tried there."""

import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

GIB = 2**30


@dataclass(frozen=True)
class Card:
    """A device, whose every function does the same on the CPU as far as there is such a thing."""

    device: torch.device

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def about(self) -> dict[str, Any]:
        """What a measurement was made with."""
        said: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__}
        for package in ("triton", "diffusers", "einops"):
            try:
                said[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                said[package] = None
        if not self.cuda:
            return {"device": f"CPU, {torch.get_num_threads()} threads", **said}
        properties = torch.cuda.get_device_properties(self.device)
        return {
            "device": properties.name, "memory GiB": properties.total_memory / GIB, **said,
            "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
        }  # fmt: skip

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def seconds(self, function: Callable[[], object]) -> float:
        """What one call takes, from an idle device to an idle device."""
        self.wait()
        began = time.perf_counter()
        function()
        self.wait()
        return time.perf_counter() - began

    def best(self, function: Callable[[], object], inner: int = 10, rounds: int = 5) -> float:
        """Seconds of a call among `inner` in a row, by the fastest of some rounds; by the device's own clock."""
        function()
        if not self.cuda:
            return min(self.seconds(lambda: [function() for _ in range(inner)]) for _ in range(rounds)) / inner
        times = []
        for _ in range(rounds):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(inner):
                function()
            end.record()
            self.wait()
            times.append(begin.elapsed_time(end) / 1e3)
        return min(times) / inner

    @contextmanager
    def memory(self) -> Iterator[dict[str, float | None]]:
        """GiB that the allocator held at a time, graphs' own included: in all, and beyond what it held before. None on
        the CPU."""
        found: dict[str, float | None] = {"peak GiB": None, "beyond GiB": None}
        if not self.cuda:
            yield found
            return
        self.wait()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_reserved(self.device)
        yield found
        self.wait()
        peak = torch.cuda.max_memory_reserved(self.device)
        found |= {"peak GiB": peak / GIB, "beyond GiB": (peak - before) / GIB}

    def matrix_rate(self, dtype: torch.dtype, side: int) -> float:
        """FLOP/s of a product of two square matrices."""
        a, b = (torch.randn(side, side, device=self.device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        return 2 * side**3 / self.best(lambda: torch.mm(a, b, out=out))

    def bandwidth(self, size: int) -> float:
        """Bytes a second of a copy of so many bytes, read and written."""
        a = torch.empty(size, device=self.device, dtype=torch.uint8)
        b = torch.empty_like(a)
        return 2 * size / self.best(lambda: b.copy_(a))


def attention_backends() -> dict[str, Callable[[], AbstractContextManager[Any]]]:
    """Name -> what makes a context in which attention goes by that backend or not at all; first torch's own choice."""
    names = ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "MATH")
    return {"torch's choice": nullcontext, **{name: partial(sdpa_kernel, getattr(SDPBackend, name)) for name in names}}


def paired(card: Card, sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every side, once a round, in an order that turns about."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in list(sides)[:: 1 if number % 2 else -1]:
            times[side].append(card.seconds(sides[side]))
    return times


def compared(times: list[float], base: list[float]) -> dict[str, float]:
    """Median seconds; how many times as long `base` took in the same round: median, least and most."""
    ratios = [b / a for a, b in zip(times, base, strict=True)]
    return {"seconds": statistics.median(times), "times as fast": statistics.median(ratios),
            "least": min(ratios), "most": max(ratios)}  # fmt: skip
