"""Triton, which nothing here needs. Torch looks for it unasked, as when it counts operations or computes on meta: to
one that is missing it minds nothing, but one that is there and cannot be imported is an error wherever it looks."""

import importlib
import sys
from functools import cache
from importlib.util import find_spec

# What torch (2.13) imports of it wherever it finds it.
WANTED = (
    ("triton", "__version__"), ("triton", "Config"), ("triton.language", "dtype"),
    ("triton.compiler", "CompiledKernel"), ("triton.runtime.jit", "JITFunction"),
    ("triton.runtime.autotuner", "OutOfResources"),
)  # fmt: skip


def missing() -> bool:
    """Whether no Triton is installed, or one that is missing from here on because of its `fault`."""
    return fault() is not None or find_spec("triton") is None


@cache
def fault() -> str | None:
    """What is wrong with an installed Triton, broken or too old, in a line; None for nothing, and for none installed.

    A faulty one is missing to all that asks for it from here on: ask before torch does.
    """
    if find_spec("triton") is None:
        return None
    try:
        for module, name in WANTED:
            getattr(importlib.import_module(module), name)
    except Exception as error:
        for loaded in [name for name in sys.modules if name.partition(".")[0] == "triton"]:
            del sys.modules[loaded]
        sys.modules["triton"] = None  # type: ignore[assignment]  # which is how Python writes that there is none
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    return None
