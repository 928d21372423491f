"""k-diffusion's samplers without what the package depends on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

HOW = "pip install --no-deps -c tests/constraints.txt k-diffusion"


@contextmanager
def k_diffusion_sampling() -> Iterator[ModuleType]:
    """Its sampling module. The package's __init__, which imports all that it trains with, is not run, and what the
    samplers import but do not call here is stood in for. ImportError if it is not installed."""
    found = find_spec("k_diffusion")
    if found is None:
        raise ImportError(f"k-diffusion is not installed: {HOW}")
    package = module_from_spec(ModuleSpec("k_diffusion", None, is_package=True))
    package.__path__ = list(found.submodule_search_locations or ())
    needless = ("torchdiffeq", "torchsde", "torchvision", "torchvision.transforms")
    stand_ins: dict[str, Any] = {name: MagicMock() for name in needless} | {"k_diffusion": package}
    before = {name: sys.modules.get(name) for name in (*stand_ins, "k_diffusion.sampling", "k_diffusion.utils")}
    try:
        for name in before:
            sys.modules.pop(name, None)
        sys.modules.update(stand_ins)
        yield import_module("k_diffusion.sampling")
    finally:  # what else was imported meanwhile stays
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
