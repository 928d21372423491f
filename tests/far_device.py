"""A device that is none, held to the rules of one: `python far_device.py COMMANDS.json` runs them beside it.

Its tensors are computed by the CPU, and it is torch's accelerator. As MPS, it has no float64: TypeError; as any, it
takes no tensor of another device but 0-d ones, which go along as numbers. What is read are lists of `ivmix`'s words;
what is printed, the exit status of each, what it said, how often the device was waited for, line by line, as its
numbers were read or others copied to it, how many bytes came there, and the most that were there at a time. FAR_MEMORY
is what it holds in bytes, FAR_LACKS, such as bfloat16, what else it does not know.
"""

import json
import os
import subprocess
import sys
import weakref
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils import swap_tensors
from torch.utils._python_dispatch import TorchDispatchMode

from ivmix.cli import main

aten = torch.ops.aten
LACKS = {torch.float64, torch.complex128} | {getattr(torch, name) for name in os.environ.get("FAR_LACKS", "").split()}


class Module:
    """What stands at torch.far, as torch.cuda does."""

    def is_initialized(self):
        return True

    def is_available(self):
        return True

    def current_device(self):
        return 0

    def device_count(self):
        return 1

    def _is_in_bad_fork(self):
        return False

    def manual_seed_all(self, seed):
        pass

    def get_device_properties(self, device):
        return SimpleNamespace(total_memory=int(os.environ.get("FAR_MEMORY", 2**40)))


class Far(Tensor):
    @staticmethod
    def __new__(cls, near):
        return Tensor._make_wrapper_subclass(
            cls, near.shape, near.stride(), near.storage_offset(), dtype=near.dtype, device="far:0"
        )

    def __init__(self, near):
        self.near = near

    def tolist(self):  # torch's own refuses subclasses
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} of a far tensor outside of the mode")


class FarAway(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.waits, self.came = Counter(), Counter()
        self.storages, self.now, self.most = set(), 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, tensors, far = dict(kwargs or {}), [], []

        def near(value):
            tensors.append(value)
            if type(value) is not Far:
                return value
            far.append(value)
            return value.near

        here = each(near, args), {name: each(near, value) for name, value in kwargs.items()}
        given = kwargs.get("device")
        there = bool(far) if given is None else torch.device(given).type == "far"
        copied = func is aten.copy_.default and len(far) == 1
        there = there and not (copied and type(args[0]) is not Far)
        if copied or (far and not there) or (there and given and len(far) < len(tensors)):
            self.waits[self.place()] += 1
            if there:
                self.came[self.place()] += sum(tensor.nbytes for tensor in tensors if type(tensor) is not Far)
        elif far and func is aten._local_scalar_dense.default:
            self.waits[self.place()] += 1
            there = False
        elif 0 < len(far) < len(tensors) and any(tensor.ndim for tensor in tensors if type(tensor) is not Far):
            raise RuntimeError(f"{func} of tensors on two devices")
        if far and func is aten._fused_sdp_choice.default:
            return 0  # the kernel that every device has
        if given is not None and there:
            here[1]["device"] = "cpu"
        out = func(*here[0], **here[1])
        known = {id(tensor.near): tensor for tensor in far}  # what an operation changes in place comes back as it was
        return each(lambda y: known[id(y)] if id(y) in known else self.wrap(y), out) if there else out

    def wrap(self, near):
        if near.dtype in LACKS:
            raise TypeError(f"the far device has no {near.dtype}")
        self.hold(near.untyped_storage())
        return Far(near)

    def hold(self, storage):
        if id(storage) not in self.storages:
            self.storages.add(id(storage))
            weakref.finalize(storage, self.release, id(storage), storage.nbytes())
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)

    def release(self, key, size):
        self.storages.discard(key)
        self.now -= size

    def place(self):
        frame = sys._getframe()
        while frame and "/ivmix/" not in frame.f_code.co_filename:
            frame = frame.f_back
        return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else "elsewhere"


def each(function, values):
    """The same lists and tuples with `function` of every tensor."""
    if isinstance(values, Tensor):
        return function(values)
    return type(values)(each(function, value) for value in values) if type(values) in (list, tuple) else values


class Constants(TorchFunctionMode):
    """What makes tensors of Python's numbers goes past dispatch: made by the CPU and copied, as everywhere."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and (device := kwargs.pop("device", None)) is not None:
            return func(*args, **kwargs).to(device)
        if func == Tensor.data.__set__ and type(args[1]) is not type(args[0].data):
            param = isinstance(args[0], Parameter)
            swap_tensors(args[0], Parameter(args[1], args[0].requires_grad) if param else args[1].detach())
            return None  # what torch does by itself where the device is CUDA
        if func is Tensor.new_tensor and isinstance(args[0], Far):
            return torch.tensor(args[1], dtype=args[0].dtype).to(args[0].device)
        return func(*args, **kwargs)


def run(typed):
    with redirect_stderr(StringIO()) as said, redirect_stdout(StringIO()), Constants(), FarAway() as mode:
        status = main(typed)
    return {"status": status, "said": said.getvalue(), "waits": mode.waits, "came": mode.came, "most": mode.most}


def beside_far(place: Path, commands: list[list[str]], **environment: str) -> list[dict]:
    """What became of commands beside a far device, in the folder `place`."""
    if not hasattr(pytest.importorskip("torch.utils.backend_registration"), "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch takes no device from Python")
    (place / "commands.json").write_text(json.dumps(commands))
    done = subprocess.run(
        [sys.executable, __file__, "commands.json"], cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


if __name__ == "__main__":
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend("far", Module())
    print(json.dumps([run(typed) for typed in json.loads(Path(sys.argv[1]).read_text())]))
