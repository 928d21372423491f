"""What CONTRIBUTING.md says of adding things, done: a small real one of each, written into a copy of the checkout.

`THINGS` has an entry a row of its table; tests/test_contributing.py adds them, one copy a thing, and runs their tests.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat


@dataclass(frozen=True)
class Thing:
    """How a thing is added to a copy; the files of its new tests, and what the names of these hold; old tests of it."""

    add: Callable[[Path], None]
    tests: tuple[str, ...]
    named: str
    also: tuple[str, ...] = ()


def new(root: Path, path: str, text: str) -> None:
    """A new file of the copy."""
    assert not (root / path).exists(), path
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def swap(root: Path, path: str, old: str, text: str) -> None:
    """Puts a text in place of one that is there once."""
    before = (root / path).read_text(encoding="utf-8")
    assert before.count(old) == 1, f"{path} has {old!r} {before.count(old)} times"
    (root / path).write_text(before.replace(old, text), encoding="utf-8")


def after(root: Path, path: str, line: str, added: str) -> None:
    """Adds a line after one that is there once."""
    swap(root, path, f"{line}\n", f"{line}\n{added}\n")


def run(root: Path, *arguments: str) -> str:
    """What Python says in the copy, as a contributor runs it."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=root, check=True, env=environment(root), text=True, stdout=subprocess.PIPE)
    return done.stdout


def pages(root: Path) -> None:
    """Writes the pages that are made from the code."""
    run(root, "notebooks/api.py")
    run(root, "notebooks/methods.py")
    (root / "notebooks" / "samplers.md").write_text(run(root, "-m", "ivmix.pairs.samplers_page"), encoding="utf-8")


def environment(root: Path) -> dict[str, str]:
    """That of a process which imports the copy, not what is installed."""
    return {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}


# --- solvers --------------------------------------------------------------------------------------------------------

RALSTON = '''"""Ralston's method."""

from dataclasses import dataclass
from typing import ClassVar

from ivmix.solvers.steps.onestep import RungeKutta
from ivmix.solvers.steps.stages import Tableau


@dataclass(frozen=True)
class Ralston(RungeKutta):
    """Ralston's method in sigma; order 2, two evaluations, the second at two thirds of the step.

    Of all such methods, that of the least bound on the error. Source: Ralston, 1962, Mathematics of Computation 16.
    """

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 2
    tableau: ClassVar[Tableau] = Tableau((2 / 3, 1.0), ((2 / 3,), (1 / 4, 3 / 4)))
'''


def solver(root: Path) -> None:
    new(root, "solvers/steps/ralston.py", RALSTON)
    door = "solvers/__init__.py"
    after(root, door, "from ivmix.solvers.steps.higher_order import HigherOrder",
          "from ivmix.solvers.steps.ralston import Ralston")  # fmt: skip
    after(root, door, '    "Progress",', '    "Ralston",')
    after(root, "ivmix/samplers/options.py", '    "midpoint": "Midpoint",', '    "ralston": "Ralston",')
    after(root, "notebooks/which_solver.md", "| `rk4` | 4 | 4 | reference runs |", "| `ralston` | 2 | 2 | as `heun` |")
    tests = "tests/solvers/steps/test_solver.py"
    after(root, tests, "    Midpoint,", "    Ralston,")
    after(root, tests, "    (Midpoint(), [64, 128]),", "    (Ralston(), [64, 128]),")
    pages(root)


GRID = '''

def even_roots(sigma_max: float, sigma_min: float, n: int) -> Tensor:
    """n levels from sigma_max to sigma_min, evenly spaced in sqrt(sigma); float64."""
    return karras(sigma_max, sigma_min, n, rho=2.0)
'''


def grid(root: Path) -> None:
    path = "solvers/schedules/grids.py"
    after(root, path, "    return _with_ends(sigmas, sigma_max, sigma_min)", GRID)
    path = "solvers/schedules/spacings.py"
    line = '    "sgm_uniform", "simple", "beta", "lcm", "linear_quadratic", "shifted-flow",'
    after(root, path, line, '    "even-roots",')
    after(root, path, '    "shifted-flow": (_shifted_flow, {"shift"}),',
          '    "even-roots": (_between("even-roots", grids.even_roots), {"sigma_min", "sigma_max"}),')  # fmt: skip
    path = "ivmix/samplers/options.py"
    after(root, path, '    "sgm_uniform", "simple", "beta", "lcm", "linear_quadratic",', '    "even-roots",')
    swap(root, path, "sigma^(1/7) (karras) or", "sigma^(1/7) (karras), in sqrt(sigma) (even-roots) or")
    after(root, "notebooks/which_solver.md", "and `linear_quadratic`, as ComfyUI has them.", "`even-roots` is ours.")
    swap(root, "tests/solvers/schedules/test_grids.py", 'TWO_ENDS = {"karras"', 'TWO_ENDS = {"even-roots", "karras"')
    pages(root)


LIMITED = '''"""Guidance in a range of levels alone (arXiv 2404.07724).

    D = D_u + w(sigma)·(D_c - D_u),      w = scale if low < sigma <= high, else 1
"""

from torch import Tensor

from ivmix.solvers.algebra.affine import Affine
from ivmix.solvers.algebra.guidance import Guided
from ivmix.solvers.methods.catalogue import Method

METHOD = Method(
    "interval guidance",
    papers=("2404.07724",),
    does="guidance in a range of levels: weights that depend on the level",
    evaluations={"video": "n"},
    limit="its own field",
    licence="Apache-2.0",
)


def limited(guided: Guided, scale: float, low: float, high: float) -> Affine:
    """`guided` at `scale` where low < sigma <= high, elsewhere its conditional prediction, which costs half as much.

    Raises ValueError for a range that holds no level.
    """
    if not 0 <= low < high:
        raise ValueError(f"low, high: got {low:g}, {high:g}, expected 0 <= low < high")

    def weight(sigma: Tensor) -> float:
        return scale if low < sigma <= high else 1.0

    return guided.at(weight)
'''
LIMITED_TEST = '''import pytest
import torch

from ivmix.solvers import integrate, limited, plain

SIGMAS = torch.tensor([4.0, 3.0, 1.0, 0.0])


def test_limited_guidance_is_guidance_in_its_range_and_the_conditional_prediction_outside(pair, x):
    field = limited(pair["video"], 3.0, low=1.0, high=3.5)
    assert torch.equal(field(x, 3.0), pair["video"].at(3.0)(x, 3.0))
    assert torch.equal(field(x, 1.0), pair["video"].cond(x, 1.0))


def test_limited_guidance_costs_one_row_outside(pair):
    run = integrate(limited(pair["video"], 3.0, 1.0, 3.5), plain(SIGMAS), torch.zeros(1, 3, 4, 2, 1))
    assert (run.nfe, run.forwards) == ({"video": 3}, {"video": 4})


def test_limited_guidance_of_no_level_is_refused(pair):
    with pytest.raises(ValueError, match="low, high"):
        limited(pair["video"], 3.0, low=2.0, high=2.0)
'''


def method(root: Path) -> None:
    new(root, "solvers/methods/limited.py", LIMITED)
    new(root, "tests/solvers/methods/test_limited.py", LIMITED_TEST)
    door = "solvers/__init__.py"
    after(root, door, "from ivmix.solvers.methods.ivmixed import IVMixed, parse_pattern",
          "from ivmix.solvers.methods.limited import limited")  # fmt: skip
    after(root, door, '    "level",', '    "limited",')
    tests = "tests/solvers/methods/test_catalogue.py"
    after(root, tests, "    freeinit,", "    limited,")
    after(root, tests, '    "ivmixed": lambda sigmas: (IVMixed().legs(sigmas), None),',
          '    "limited": lambda sigmas: (plain(sigmas), limited(VIDEO, 3.0, 1.0, 3.5)),')  # fmt: skip
    pages(root)


# --- the product ----------------------------------------------------------------------------------------------------

SAMPLER = '''"""Samplers that add fresh noise as they go."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ivmix.samplers.alone import VideoAlone
from ivmix.samplers.base import Plan
from ivmix.solvers import Guided, ancestral


@dataclass(frozen=True, kw_only=True)
class Ancestral(VideoAlone):
    """The video model, each step a little too far down, and fresh noise up to the grid (`ivmix.solvers.ancestral`)."""

    name: ClassVar[str] = "ancestral"

    def plan(self, image: Guided, video: Guided, sigmas: Tensor) -> Plan:
        return {"video": video}, ancestral(sigmas, self.guidance, self.rule)
'''


def sampler(root: Path) -> None:
    new(root, "ivmix/samplers/noisy.py", SAMPLER)
    path = "ivmix/samplers/samplers.py"
    after(root, path, "from ivmix.samplers.mixed import Composite, Mixture, Switch, Zigzag",
          "from ivmix.samplers.noisy import Ancestral")  # fmt: skip
    swap(root, path, "PAG, STG, Official,", "PAG, STG, Ancestral, Official,")
    line = '        "stg": "the video model, pushed away from itself with fewer layers",'
    after(root, "ivmix/samplers/options.py", line, '        "ancestral": "the video model, fresh noise as it goes",')
    line = '    "zsampling": {"steps": 20, "guidance": 2.0, "inversion_guidance": 0.0},'
    after(root, "ivmix/sprites/training/recipe.py", line, '    "ancestral": {"steps": 20, "guidance": 2.0},')
    for path in ("sprites/pair/pair.json", "sprites/crisp/pair.json", "pairs/animatediff.json"):
        file = root / "ivmix" / path
        raw = json.loads(file.read_text())
        raw["defaults"]["ancestral"] = {"steps": 20, "guidance": 2.0}
        file.write_text(json.dumps(raw, indent=2) + "\n")
    pages(root)


def pair(root: Path) -> None:
    pairs = root / "ivmix" / "pairs"
    raw = json.loads((pairs / "modelscope.json").read_text())
    raw |= {"name": "modelscope-dreamshaper", "about": "ModelScope's text-to-video 1.7b with DreamShaper 8."}
    for part in ("unet", "text_encoder"):
        raw["image"][part] = f"hub:Lykon/dreamshaper-8/{part}"
    kept = {raw["vae"], *(side[part] for side in (raw["image"], raw["video"]) for part in ("unet", "text_encoder"))}
    raw["files"] = {source: known for source, known in raw["files"].items() if source in kept}
    new(root, "ivmix/pairs/modelscope-dreamshaper.json", json.dumps(raw, indent=2) + "\n")
    row = "| `modelscope` | ModelScope 1.7b | Stable Diffusion 1.5, shown latents of 64x64 | 16 frames, 256x256 |"
    ours = row.replace("modelscope`", "modelscope-dreamshaper`").replace("Stable Diffusion 1.5", "DreamShaper 8")
    after(root, "notebooks/public_checkpoints.md", row, ours)


COMMAND = '''"""`ivmix levels`: which levels a grid visits."""

import argparse
from typing import Any


def add(commands: Any) -> None:
    command = commands.add_parser(
        "levels",
        help="print the levels of a grid",
        description="Prints the levels that N steps of Stable Diffusion visit, a line each.",
        epilog="example:\\n  ivmix levels 10",
    )
    command.add_argument("steps", type=int, metavar="N", help="how many steps")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from ivmix.solvers import Schedule

    print(*Schedule.scaled_linear().grid(options.steps).tolist(), sep="\\n")
'''
COMMAND_TEST = '''from ivmix.cli import main
from ivmix.solvers import Schedule


def test_levels_are_those_of_the_grid(capsys):
    assert main(["levels", "4"]) == 0
    assert [float(line) for line in capsys.readouterr().out.split()] == Schedule.scaled_linear().grid(4).tolist()


def test_levels_of_no_steps_are_an_error(capsys):
    assert main(["levels", "0"]) == 2
    assert "0" in capsys.readouterr().err
'''


def command(root: Path) -> None:
    new(root, "ivmix/cli/levels.py", COMMAND)
    new(root, "tests/cli/test_levels.py", COMMAND_TEST)
    door = "ivmix/cli/__init__.py"
    swap(root, door, "    inspect,\n    pairs,\n", "    inspect,\n    levels,\n    pairs,\n")  # imported
    swap(root, door, "bench, inspect, pairs,", "bench, inspect, levels, pairs,")  # and added


# --- networks -------------------------------------------------------------------------------------------------------

LAYOUT = '''SHORT_VAE = (
    *DIFFUSERS_VAE_COMMON,
    *(Rule(f"{_ATTENTION}.{theirs}.{{weight|bias}}", f"{_ATTENTION}.{ours}.{{weight|bias}}", linear=True)
      for theirs, ours in {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}.items()),
)  # fmt: skip
'''


def layout(root: Path) -> None:
    path = "models/checkpoints/layouts.py"
    swap(root, path, "LDM_VAE = (\n", f"{LAYOUT}LDM_VAE = (\n")
    after(root, path,
          '    Layout("diffusers VAE, old names", "vae", "decoder.mid_block.attentions.0.query.weight", OLD_VAE),',
          '    Layout("short VAE", "vae", "decoder.mid_block.attentions.0.q.weight", SHORT_VAE),')  # fmt: skip
    manifests = root / "tests" / "data" / "manifests"
    raw = json.loads((manifests / "sd15_vae_diffusers.json").read_text())
    for side in ("encoder", "decoder"):
        attention = raw["keys"][side]["mid_block"]["attentions"]["0"]
        attention |= {"q": attention.pop("to_q"), "k": attention.pop("to_k"), "v": attention.pop("to_v")}
        attention["out"] = attention.pop("to_out")["0"]
    (manifests / "sd15_vae_short.json").write_text(json.dumps(raw, indent=1))
    tests = "tests/models/checkpoints/test_layouts.py"
    after(root, tests, '    "sd15_vae_ldm": ("vae", "LDM VAE", 0),', '    "sd15_vae_short": ("vae", "short VAE", 0),')
    after(root, tests, '    "sd15_vae_ldm": (VAE, VAEConfig()),', '    "sd15_vae_short": (VAE, VAEConfig()),')
    after(root, tests, '    ("sd15_vae_ldm", "sd15_vae_diffusers"),', '    ("sd15_vae_short", "sd15_vae_diffusers"),')


# --- measurement ----------------------------------------------------------------------------------------------------

BENCHMARK = '''"""How light clips are: a benchmark of any pair, whose prompts and reference need no world."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ivmix.evaluation.benchmark import Benchmark
from ivmix.evaluation.legend import Column


def light(prompts: Sequence[str], reference: Tensor) -> Benchmark:
    """Mean colours (m, 3) of photographs, which clips of `prompts` are compared with."""
    return Benchmark(
        "light", prompts, features=mean_colour, features_of="mean colour", reference=reference,
        reference_of="photographs", measure=measure, columns={"light": Column("grey levels (0-255)", main=True)},
    )  # fmt: skip


def mean_colour(frames: np.ndarray) -> Tensor:
    """Of clips (b f h w 3) uint8, float32 (b, 3)."""
    return torch.from_numpy(frames).float().mean((1, 2, 3))


def measure(frames: np.ndarray, prompts: Sequence[str], fps: float) -> dict[str, np.ndarray]:
    return {"light": frames.mean((1, 2, 3, 4))}
'''
BENCHMARK_TEST = '''import pytest
import torch

from ivmix import TextToVideo
from ivmix.evaluation.arms import Arm
from ivmix.evaluation.design import Design
from ivmix.evaluation.run import evaluate
from ivmix.light.benchmark import light


@pytest.mark.filterwarnings("ignore:there will be no plots")
def test_light_is_measured_and_reported(tmp_path):
    model, arms = TextToVideo.from_pair("sprites"), [Arm("few steps", {"sampler": "ddim", "steps": 2})]
    prompts = ["a red circle moving left", "a blue cross moving up", "a green square moving down"]
    benchmark = light(prompts, 255 * torch.rand(9, 3, generator=torch.Generator().manual_seed(0)))
    report = evaluate(model, benchmark, arms, Design(clips=3, repeats=1), tmp_path)
    (row,) = report.arms
    assert 0 < row.columns["light"].mean < 255
    assert "photographs" in (tmp_path / "report.md").read_text()
'''


def benchmark(root: Path) -> None:
    new(root, "ivmix/light/__init__.py", '"""Another world to measure clips of."""\n')
    new(root, "ivmix/light/benchmark.py", BENCHMARK)
    new(root, "tests/light/test_benchmark.py", BENCHMARK_TEST)
    run(root, "notebooks/api.py")


TEAPOTS = {
    "format": 1, "name": "teapots", "about": "Teapots on a table, drawn once each.", "licence": "Apache-2.0",
    "prompts": {"file": {"source": "https://example.org/teapots.csv"}, "format": "table", "count": 12},
    "samples": 1, "layout": "{id}.mp4", "distances": {"umt_fvd": "chronomagic-umt"}, "comparisons": ["pooled"],
    "reference": {"videos": "*.mp4", "count": 12, "hint": "films of teapots"},
}  # fmt: skip


def public_benchmark(root: Path) -> None:
    new(root, "ivmix/benchmarks/teapots.json", json.dumps(TEAPOTS, indent=2))
    names = '"chronomagic-150", "chronomagic-1649")'
    swap(root, "ivmix/benchmarks/description.py", names, f'{names[:-1]}, "teapots")')


def protocol(root: Path) -> None:
    line = '        Protocol("plain", "any features", None, None, ddof=0),'
    text = '        Protocol("unbiased", "any features", None, None, ddof=1),'
    after(root, "ivmix/evaluation/protocols.py", line, text)
    command = "ivmix/cli/distance.py"
    swap(root, command, '"chronomagic-umt", "plain",\n', '"chronomagic-umt", "plain", "unbiased",\n')
    line = '        "  plain            ÷n, all clips, of any features\\n"'
    after(root, command, line, '        "  unbiased         ÷(n−1), likewise\\n"')
    line = '    "plain": (population, 1e-8), "cmvq-styleganv": (sample, 1e-8), "cmvq-videogpt": (single, 1e-4),'
    after(root, "tests/evaluation/test_protocols.py", line, '    "unbiased": (sample, 1e-8),')


# --- pages ----------------------------------------------------------------------------------------------------------


def link(root: Path, page: str) -> None:
    readme = root / "README.md"
    readme.write_text(f"{readme.read_text(encoding='utf-8')}\n[Levels]({page})\n", encoding="utf-8")


def page(root: Path) -> None:
    new(root, "notebooks/levels.md", """# Levels

```python
from ivmix.solvers import Schedule

print(len(Schedule.scaled_linear().grid(10)))  # 11
```
""")
    link(root, "notebooks/levels.md")


FIRST = '''import plots  # notebooks/plots.py, which has to lie beside this page

from ivmix.solvers import Schedule

grid = Schedule.scaled_linear().grid(10)[:-1]
axis = plots.panels(["sigma"], x="step")[0]
plots.curves(axis, {"trailing": list(enumerate(grid.tolist()))}, [plots.look("ddim")])'''


def notebook(root: Path) -> None:
    cells = [
        nbformat.v4.new_markdown_cell("# Levels\n\nWhich levels ten steps visit."),
        nbformat.v4.new_code_cell(FIRST),
        nbformat.v4.new_code_cell('assert len(grid) == 10\nprint("ten levels")'),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks" / "10_levels.ipynb")
    run(root, "notebooks/run.py", "10_levels")
    link(root, "notebooks/10_levels.ipynb")


ORDERS, GRIDS = "tests/solvers/steps/test_solver.py", "tests/solvers/schedules/test_grids.py"
DESCRIBED, NUMBERS = "tests/benchmarks/test_description.py", "tests/evaluation/test_protocols.py"
LAYOUTS, PAGES = "tests/models/checkpoints/test_layouts.py", "tests/test_pages.py"
CATALOGUE = "tests/solvers/methods/test_catalogue.py"
METHODS = f"{PAGES}::test_the_page_of_methods_is_what_its_script_writes"
SOLVERS = f"{PAGES}::test_the_table_of_solvers_is_what_their_classes_say"
PAIRS = f"{PAGES}::test_the_table_of_pairs_has_every_pair"
LINKED = f"{PAGES}::test_every_page_is_linked_from_the_readme_or_from_one_that_is"
BY_NAME = ("tests/samplers", "tests/pairs/test_samplers_page.py")
DEFAULTS = ("tests/pairs/test_description.py", "tests/sprites/training/test_run.py")
THINGS = {
    "a solver": Thing(solver, (ORDERS,), "Ralston", (SOLVERS, *BY_NAME)),
    "a grid": Thing(grid, (GRIDS,), "even-roots", BY_NAME),
    "a method": Thing(method, ("tests/solvers/methods/test_limited.py", CATALOGUE), "limited", (METHODS,)),
    "a sampler": Thing(sampler, ("tests/generation/test_text_to_video.py",), "ancestral", (*DEFAULTS, *BY_NAME)),
    "a layout of a checkpoint": Thing(layout, (LAYOUTS,), "sd15_vae_short", (LAYOUTS,)),
    "a public pair": Thing(pair, ("tests/pairs/test_pair.py",), "modelscope-dreamshaper", (PAIRS,)),
    "a benchmark": Thing(benchmark, ("tests/light/test_benchmark.py",), "light"),
    "a public benchmark": Thing(public_benchmark, (DESCRIBED,), "teapots", (DESCRIBED,)),
    "a protocol": Thing(protocol, (NUMBERS,), "unbiased", ("tests/cli/test_distance.py",)),
    "a command": Thing(command, ("tests/cli/test_levels.py",), "levels"),
    "a page": Thing(page, (PAGES,), "levels.md", (LINKED,)),
    "a notebook": Thing(notebook, ("tests/test_notebooks.py",), "10_levels", (LINKED,)),
}
