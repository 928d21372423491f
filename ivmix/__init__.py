"""ivmix: image and video diffusion models sampled together (IV-Mixed Sampler, arXiv 2410.04171), in pure PyTorch.

`ivmix.solvers` is the algebra of samplers and needs torch alone; `ivmix.models` holds the networks; everything else
is imported on first use (PEP 562), so that `import ivmix.solvers` costs no more than torch itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ivmix._version import __version__

if TYPE_CHECKING:
    from ivmix.generation.text_to_video import TextToVideo

_LAZY = {"TextToVideo": "ivmix.generation.text_to_video"}

__all__ = ["TextToVideo", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ivmix' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
