"""The catalogue: what each method is, said once, in its own file, and read from all of them.

>>> row = catalogue()["w2sd"]
>>> row.evaluations, row.limit
({'strong': '2n - 1', 'weak': 'n - 1'}, '2·D_s - D_w')
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path


@dataclass(frozen=True)
class Method:
    """A method's row: a file of `ivmix.solvers.methods` has one, as `METHOD = Method(...)`.

    `papers`: arXiv numbers, none for what is this package's own. `does`: what it is in our algebra. `evaluations`: by
    network, as a formula of n, the steps of a grid that ends at 0, with Euler's method and the defaults; "all" stands
    for all networks together. `limit`: the mean denoiser of the ODE that runs converge to as grids are refined,
    as a formula; or "its own field" of what is a field rather than a plan; or "none, because …". `licence`: of the
    authors' code, or of what public code has it.
    """

    name: str
    papers: tuple[str, ...]
    does: str
    evaluations: Mapping[str, str]
    limit: str
    licence: str
    training_free: str = "yes"


def catalogue() -> dict[str, Method]:
    """Every method's row, by the name of its file."""
    return {name: import_module(f"ivmix.solvers.methods.{name}").METHOD for name in files()}


def files() -> list[str]:
    """The files of methods, by name: all but this one."""
    here = Path(__file__)
    return [found.name for found in pkgutil.iter_modules([str(here.parent)]) if found.name != here.stem]
