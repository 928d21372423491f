"""The page on samplers, from what declares them: `python -m ivmix.pairs.samplers_page > notebooks/samplers.md`."""

import sys
from collections.abc import Iterable

from ivmix.pairs.description import describe
from ivmix.samplers.declared import declared
from ivmix.samplers.options import Option, describe_samplers
from ivmix.samplers.reading import completed, written

PAGE = """# Samplers and their options

Made by `python -m ivmix.pairs.samplers_page > notebooks/samplers.md` from the declarations in
`ivmix/samplers/options.py` and the pairs' defaults; a test holds it to them. What they play, with papers, evaluations
and limits, is on the page of [methods](methods.md).

{samplers}

An option is `--image-guidance` on the command line, `image_guidance=` in Python and `"image_guidance"` in a record or a
pair's defaults. What is not given is the pair's default for the sampler; an option that the sampler does not have is an
error. A ramp BEGIN:END:RHO goes over the run from BEGIN to END (one number: both), evenly in its RHO-th root
(7, if none is said).

{options}

## The defaults of `{embedded}`, the embedded pair

A dash leaves it to the sampler; an empty cell is an option that the sampler does not have.

{embedded_defaults}

## The defaults of `{public}`

Other public pairs take them over but for a few, which `ivmix pairs NAME` shows.

{public_defaults}
"""


def page(embedded: str = "sprites", public: str = "animatediff") -> str:
    """The whole page, in Markdown, with the defaults of two pairs."""
    return PAGE.format(
        samplers=samplers_table(), options=options_table(), embedded=embedded, public=public,
        embedded_defaults=defaults_table(embedded), public_defaults=defaults_table(public),
    )  # fmt: skip


def samplers_table() -> str:
    return table(["sampler", "what it is"], ([f"`{name}`", line] for name, line in describe_samplers().items()))


def options_table() -> str:
    """Every option: what it means, what it may be, and which samplers have it."""
    rows = []
    for name, one in declared().items():
        missing = [sampler for sampler in describe_samplers() if sampler not in one.samplers]
        of = ", ".join(one.samplers) if len(missing) > 1 else " but ".join(["all", *missing])
        rows.append([f"`{name}`", one.option.help, accepted(one.option), of])
    return table(["option", "what it means", "value", "samplers"], rows)


def accepted(option: Option) -> str:
    """What an option may be, in words.

    >>> accepted(Option("outer steps", "N", "whole", least=1, most=1000))
    'a whole number from 1 to 1000'
    """
    if option.choices is not None:
        return ", ".join(f"`{choice}`" for choice in option.choices)
    words = {"whole": "a whole number", "number": "a number", "text": "a text", "ramp": "a ramp, `4` or `4:2:1`",
             "part": "a part of the run, `0:0.5`"}[option.kind]  # fmt: skip
    if option.most is not None:
        return f"{words} from {option.least} to {option.most}"
    if option.least is not None:
        return f"{words} of {option.least} or more"
    return words if option.above is None else f"{words} above {option.above}"


def defaults_table(pair: str) -> str:
    """A row an option, a column a sampler: what a run of the pair is told."""
    found = completed(describe(pair)[0]["defaults"])
    rows = []
    for option in declared():
        cells = [written(options[option]) if option in options else "" for options in found.values()]
        rows.append([f"`{option}`", *("–" if cell == "None" else cell for cell in cells)])
    return table(["", *(f"`{name}`" for name in found)], rows)


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(page())
