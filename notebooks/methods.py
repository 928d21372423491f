"""Writes methods.md: the methods of `ivmix.solvers`, a row each, from the rows that their files declare.

    python notebooks/methods.py
"""

from pathlib import Path

from ivmix.pairs.samplers_page import table
from ivmix.solvers.methods.catalogue import Method, catalogue

PAGE = Path(__file__).with_name("methods.md")
TEXT = """# Methods

Ways to draw from several models, or from one in several ways, each in a file of its own with its equation on top and
its tests beside it. `python notebooks/methods.py` writes this page from the rows that the files declare; tests hold
the evaluations to the plans, and the limits that are formulas to what the theory computes of them.

Evaluations are those of n steps of a grid that ends at 0, with Euler's method and a method's defaults; one under
guidance counts once. A limit is the denoiser of the ODE that runs converge to as their grids are refined: D_V, D_I of
the video and the image network, D_s, D_w of a strong and a weak one, d their guidance direction, w and gamma scales.

{methods}
"""


def page() -> str:
    """The whole page, in Markdown."""
    head = ["method", "paper", "what it is here", "evaluations", "limit", "training-free", "licence of the code"]
    return TEXT.format(methods=table(head, (row(file, method) for file, method in catalogue().items())))


def row(file: str, method: Method) -> list[str]:
    papers = ", ".join(f"[{paper}](https://arxiv.org/abs/{paper})" for paper in method.papers)
    limit = method.limit if method.limit.startswith(("its own field", "none, because")) else f"`{method.limit}`"
    counts = ", ".join(f"{name} {number}" for name, number in method.evaluations.items())
    name = f"[{method.name}](../solvers/methods/{file}.py)"
    return [name, papers or "–", method.does, counts, limit, method.training_free, method.licence]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
