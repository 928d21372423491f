"""Stands in for NumPy, where there is none, while ivmix is imported: import this first, and `leave` afterwards.

A GPU may be at hand on a machine with torch and little else. ivmix imports NumPy, which no network or sampler uses, and
torch does without where it is missing, not where it is another.
"""

import importlib.util
import sys
from types import ModuleType

STAND_IN = ModuleType("numpy")
STAND_IN.ndarray = type("ndarray", (), {})  # type: ignore[attr-defined]

if importlib.util.find_spec("numpy") is None:
    sys.modules["numpy"] = STAND_IN


def leave() -> None:
    if sys.modules.get("numpy") is STAND_IN:
        del sys.modules["numpy"]
