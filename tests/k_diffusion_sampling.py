"""k-diffusion's samplers without what the package depends on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from unittest.mock import MagicMock, patch

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
    with patch.dict(sys.modules, {name: MagicMock() for name in needless} | {"k_diffusion": package}):
        for name in ("k_diffusion.sampling", "k_diffusion.utils"):
            sys.modules.pop(name, None)
        yield import_module("k_diffusion.sampling")
