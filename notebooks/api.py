"""Writes api.md: the public names by room, a line each, from signatures and docstrings.

    python notebooks/api.py

Public is what a room's `__all__` lists and what `INSIDE` adds. The folders of the solvers and of the networks have no
`__all__`: their names are those of `ivmix.solvers` and `ivmix.models`, by where each is defined.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from ivmix.samplers.samplers import SAMPLERS

PAGE = Path(__file__).with_name("api.md")
ROOT = PAGE.parents[1]
ORDER = (
    "ivmix", "ivmix.generation", "ivmix.pairs", "ivmix.samplers", "ivmix.media",
    "ivmix.solvers", "ivmix.solvers.algebra", "ivmix.solvers.schedules", "ivmix.solvers.steps", "ivmix.solvers.plans",
    "ivmix.solvers.methods", "ivmix.solvers.theory",
    "ivmix.models", "ivmix.models.unet", "ivmix.models.dit", "ivmix.models.text", "ivmix.models.checkpoints",
    "ivmix.models.measuring",
    "ivmix.evaluation", "ivmix.benchmarks", "ivmix.sprites", "ivmix.cli",
)  # fmt: skip
INSIDE = {  # what has no front door and is used from its own file
    "ivmix.generation.result": ("Result",),
    "ivmix.generation.record": ("Record", "read_record"),
    "ivmix.generation.preview": ("Preview",),
    "ivmix.pairs.pair": ("Pair", "load_pair", "fingerprint"),
    "ivmix.pairs.swaps": ("Swaps",),
    "ivmix.samplers.reading": ("sampling",),
    "ivmix.solvers.methods.catalogue": ("Method", "catalogue"),
    "ivmix.solvers.theory.analytic": (
        "Gaussian", "Mixture", "GaussianNetwork", "closed_form_pair", "exponential", "flow", "reference",
    ),
    "ivmix.solvers.theory.analysis": ("ModifiedComposite", "richardson"),
    "ivmix.models.cost": ("forward_cost",),
    "ivmix.evaluation.benchmark": ("Benchmark", "DrawnReference"),
    "ivmix.evaluation.preprocessing": ("Preprocessing", "Resize"),
    "ivmix.evaluation.extractors": ("Extractor", "load_extractor", "UMTScore"),
    "ivmix.evaluation.legend": ("Column",),
    "ivmix.evaluation.arms": ("Arm", "read_arms"),
    "ivmix.evaluation.design": ("Design",),
    "ivmix.evaluation.jobs": ("Maker",),
    "ivmix.evaluation.run": ("evaluate",),
    "ivmix.evaluation.comparison": ("compare",),
    "ivmix.evaluation.features": ("FeatureSet",),
    "ivmix.evaluation.distance": ("Distance", "Floor", "measure_distance"),
    "ivmix.evaluation.paper": ("metrics", "tables", "row_of"),
    "ivmix.evaluation.protocols": ("Protocol", "Extraction"),
    "ivmix.benchmarks.description": ("Description", "Reference", "PromptsFrom", "describe"),
    "ivmix.benchmarks.prompts": ("Prompt", "read_prompts", "nested", "clip_seed"),
    "ivmix.benchmarks.files": ("FileFrom",),
    "ivmix.benchmarks.rules": ("ClipRule",),
    "ivmix.benchmarks.plan": ("Plan",),
    "ivmix.benchmarks.clips": ("Sampled",),
    "ivmix.benchmarks.videos": ("Files", "read_ruled"),
    "ivmix.benchmarks.measuring": ("Meter",),
    "ivmix.benchmarks.setup": ("Given", "make_task"),
    "ivmix.benchmarks.estimate": ("estimate",),
    "ivmix.benchmarks.run": ("Task", "evaluate"),
    "ivmix.benchmarks.reproduce": ("reproduce",),
    "ivmix.benchmarks.exporters": ("leaderboard", "to_vbench", "to_vbench_custom", "vbench_scores"),
    "ivmix.evaluation.metrics.chronomagic": ("Coherence", "incoherence", "metamorphosis", "mean_of_parts"),
    "ivmix.evaluation.metrics.vbench": ("totals",),
    "ivmix.sprites.benchmark": ("sprites", "scorer"),
    "ivmix.sprites.truth": ("Truth",),
    "ivmix.sprites.measure": ("measure", "Scores", "load_judge"),
}  # fmt: skip
HEAD = """# Names

Every public name by room, in one line each: for whoever looks for what there is, and from where to import it. In
brackets stands what has to be given. Shapes, units, errors and sources are in the docstrings, where the links lead.
`python notebooks/api.py` writes this page."""
WIDEST = 60  # characters of a name with what it has to be given; what is longer is shown without


@cache
def rooms() -> list[str]:
    """Every room in the order of the page: one that `ORDER` does not know after that which it lies in, or last."""
    found = {
        ".".join((door, *path.parent.relative_to(ROOT / top).parts))
        for door, top in {"ivmix": "ivmix", "ivmix.solvers": "solvers", "ivmix.models": "models"}.items()
        for path in (ROOT / top).rglob("__init__.py")
    }

    def place(room: str) -> tuple[int, str]:
        known = (k for k, other in enumerate(ORDER) if room == other or (k and room.startswith(f"{other}.")))
        return max(known, default=len(ORDER)), room

    return sorted(found, key=place)


@dataclass(frozen=True)
class Name:
    """A public name, the module that defines it, and where to import it from."""

    name: str
    module: str
    door: str

    @property
    def room(self) -> str:
        """The room that it is shown under: that of its module, or the front door of the house."""
        return "ivmix" if self.door == "ivmix" else self.module.rpartition(".")[0]

    @property
    def defined(self) -> tuple[int, str]:
        """The line at which it is defined in its module, and its docstring; a module is all of it."""
        return definition(self.module, self.name) or (0, ast.get_docstring(tree(self.module)) or "")

    @property
    def place(self) -> tuple[str, int]:
        """Its module, and the line at which it is defined there."""
        return self.module, self.defined[0]

    @property
    def line(self) -> str:
        """The first sentence of its docstring."""
        return sentence(self.defined[1])

    @property
    def call(self) -> str:
        """The name, and for what can be called, what it has to be given."""
        value = getattr(import_module(self.door), self.name)
        if not (inspect.isfunction(value) or inspect.isclass(value)) or getattr(value, "_is_protocol", False):
            return self.name
        if isinstance(value, type) and issubclass(value, Exception):
            return self.name
        given = inspect.signature(value).parameters.values()
        needed = [p.name for p in given if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        rest = ["…"] * (len(needed) < len(given))
        call = f"{self.name}({', '.join(needed + rest)})"
        return call if len(call) <= WIDEST else f"{self.name}(…)"


def file_of(module: str) -> Path:
    """The file of a module, by its path in the checkout."""
    inner = module.removeprefix("ivmix.") if module.startswith(("ivmix.solvers", "ivmix.models")) else module
    folder = ROOT.joinpath(*inner.split("."))
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(file_of(module).read_text(encoding="utf-8"))


@cache
def definition(module: str, name: str) -> tuple[int, str] | None:
    """The line at which a module defines a name, and its docstring: a constant's stands under it. None: it does not."""
    body = tree(module).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node.lineno, ast.get_docstring(node) or ""
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            said = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            return node.lineno, inspect.cleandoc(str(said))
    return None


def sentence(text: str) -> str:
    """The first sentence of a docstring, on one line."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z`(])", paragraph)[0]


def source(name: str, module: str) -> str:
    """The module that defines a name, followed through imports; a module itself, if that is what the name is."""
    if definition(module, name):
        return module
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            inner = f"{node.module}.{name}"
            return inner if file_of(inner).exists() else source(name, str(node.module))
    raise ValueError(f"{module} has no {name}")


def names() -> Iterator[Name]:
    """Every public name once."""
    for door in rooms():
        listed = getattr(import_module(door), "__all__", ())
        yield from (Name(name, source(name, door), door) for name in listed if not name.startswith("_"))
    for module, inside in INSIDE.items():
        yield from (Name(name, source(name, module), module) for name in inside)


def link(path: Path) -> str:
    return (Path("..") / path.relative_to(ROOT)).as_posix()


def row(name: Name) -> str:
    says = name.line.replace("|", "\\|")
    return f"| [`{name.call}`]({link(file_of(name.module))}) | `{name.door}` | {says} |"


def section(room: str, public: list[Name]) -> str:
    """A room's heading, its docstring's first paragraph, and its names in the order in which its files define them."""
    depth = "##" if room.count(".") < 2 else "###"
    says = " ".join((ast.get_docstring(tree(room)) or "").split("\n\n")[0].split())
    parts = [f"{depth} [`{room}`]({link(file_of(room).parent)})", says]
    if public:
        rows = map(row, sorted(public, key=lambda name: name.place))
        parts.append("\n".join(["| name | from | what it is |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def samplers() -> str:
    """The samplers by the names that `sampler=` and `--sampler` take."""
    rows = (f"| `{name}` | {sentence(inspect.getdoc(kind) or '')} |" for name, kind in SAMPLERS.items())
    return "\n".join(["| `sampler=` | what it is |", "|---|---|", *rows])


def page() -> str:
    by_room: dict[str, list[Name]] = {room: [] for room in rooms()}
    for name in names():
        by_room[name.room].append(name)
    sections = {room: section(room, public) for room, public in by_room.items()}
    sections["ivmix.samplers"] += f"\n\n{samplers()}"
    return "\n\n".join([HEAD, *sections.values()]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
