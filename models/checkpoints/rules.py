"""What the tables of layouts are written in: rules, which take a key of another layout to ours.

A rule is a pair of templates. In braces stand what they share: alternatives, `{weight|bias}`; a word of `WORDS`,
`{rest}`; or a number, where `{1+3i+j}` in one list is level `{i}`, layer `{j}` in the other. `{q,k,v}` cuts a fused
tensor in equal parts. A template matches a key as a whole, and each key must match exactly one rule: order cannot
matter. A rule without a target drops its keys on purpose; whatever no rule names is an error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

import torch
from torch import Tensor

from ivmix.models.config import Config

LEVELS, LAYERS = 4, 3  # i < 4 and j < 3: what the formulas of the tables range over
WORDS = {
    "n": r"\d+",
    "rest": r".+",
    "block": r"down_blocks\.\d+|up_blocks\.\d+|mid_block",
    "resnet": r"(?:norm1|conv1|norm2|conv2)\.(?:weight|bias)",
    "transformer": r"(?:norm|proj_in|proj_out|transformer_blocks)\..+",
    "all but 23": r"(?!23\.)\d+",
}


@cache
def number(formula: str, i: int, j: int) -> int:
    """`number("1+3i+j", 2, 1)` is 8."""
    terms = re.findall(r"([+-]?)(\d*)([ij]?)", formula)
    return sum(int(sign + (digits or "1")) * {"i": i, "j": j, "": 1}[v] for sign, digits, v in terms if digits or v)


@cache
def numbers(formula: str) -> dict[str, dict[str, int]]:
    """What a formula in i, j or both can be -> the i and j it stands for."""
    grid = [(i, j) for i in range(LEVELS if "i" in formula else 1) for j in range(LAYERS if "j" in formula else 1)]
    found = [(number(formula, i, j), {"i": i, "j": j}) for i, j in grid]
    return {str(n): {name: ij[name] for name in "ij" if name in formula} for n, ij in found if n >= 0}


class Template:
    """Text with fields in braces: a pattern to match keys with, and a form to fill."""

    def __init__(self, text: str) -> None:
        self.parts = re.split(r"\{(.*?)\}", text)  # literal, field, literal, …, literal
        self.fields = self.parts[1::2]

    @staticmethod
    @cache
    def is_formula(field: str) -> bool:
        return re.fullmatch(r"[ij\d+-]+", field) is not None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        def alternatives(field: str) -> str:
            if self.is_formula(field):
                return "|".join(numbers(field))
            return WORDS.get(field) or "|".join(map(re.escape, re.split(r"[|,]", field)))

        texts = [f"({alternatives(part)})" if k % 2 else re.escape(part) for k, part in enumerate(self.parts)]
        return re.compile("".join(texts))

    def match(self, key: str) -> dict[str, str | int] | None:
        """What stands in each field, or None; a formula gives `i` and `j`."""
        match = self.pattern.fullmatch(key)
        if match is None:
            return None
        values: dict[str, str | int] = {}
        for field, text in zip(self.fields, match.groups(), strict=True):
            for name, value in (numbers(field)[text] if self.is_formula(field) else {field: text}).items():
                if values.setdefault(name, value) != value:
                    return None
        return values

    def fill(self, values: Mapping[str, str | int]) -> str:
        def text(field: str) -> str:
            if self.is_formula(field):
                return str(number(field, int(values.get("i", 0)), int(values.get("j", 0))))
            return str(values[field])

        return "".join(text(part) if k % 2 else part for k, part in enumerate(self.parts))


@dataclass(frozen=True)
class Rule:
    """`source` in another layout is `target` in ours, or dropped. `linear`: a 1x1 convolution is taken as a matrix;
    `transposed`: it is stored the other way round."""

    source: str
    target: str | None
    linear: bool = False
    transposed: bool = False

    @cached_property
    def templates(self) -> tuple[Template, Template | None]:
        return Template(self.source), None if self.target is None else Template(self.target)

    def targets(self, key: str) -> list[str] | None:
        """Our names of a key: none for one that is dropped, several for a fused one; None if the rule is another's."""
        source, target = self.templates
        values = source.match(key)
        if values is None or target is None:
            return None if values is None else []
        fused = next((field for field in target.fields if "," in field), None)
        return [target.fill({**values, **({fused: name} if fused else {})}) for name in (fused or "-").split(",")]

    def sources(self, key: str) -> list[str]:
        """The other way: what the other layout calls our `key`, or may call it."""
        source, target = self.templates
        values = target.match(key) if target else None
        if values is None:
            return []
        free = [field for field in source.fields if "|" in field and field not in values]
        choices = product(*(field.split("|") for field in free))
        return [source.fill({**values, **dict(zip(free, choice, strict=True))}) for choice in choices]


class LayoutError(ValueError):
    """Keys that fit no layout, or a part that a file does not hold."""


@dataclass(frozen=True)
class Layout:
    """One way of naming one part of a model. `anchor` is a key that no file of another layout has.

    `config` is the class of the network's config where it is not that of the part's other networks.
    """

    name: str
    part: str  # "unet", "transformer", "motion", "vae", "text_encoder", "text_encoder_2", or one that measures: "i3d"
    anchor: str
    rules: tuple[Rule, ...]
    config: type[Config] | None = None

    def look_up(self, key: str) -> tuple[Rule, list[str]] | None:
        """The rule for `key` and our names: none for one that is dropped. None if no rule knows the key."""
        hits = [(rule, names) for rule in self.rules if (names := rule.targets(key)) is not None]
        if len(hits) > 1:
            raise AssertionError(f"{key!r} matches {len(hits)} rules of {self.name}")  # a fault of the table
        return hits[0] if hits else None

    def names(self, key: str) -> list[str]:
        """Our names for a key; none if it is dropped. Raises LayoutError for an unknown key."""
        hit = self.look_up(key)
        if hit is None:
            raise LayoutError(f"{key!r} is no key of {self.name}")
        return hit[1]

    def sources(self, key: str) -> list[str]:
        """What this layout may call our `key`: one name but for what it stores twice, or in two forms."""
        return [name for rule in self.rules for name in rule.sources(key)]

    def convert(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state under our names. Raises LayoutError for an unknown key, or one weight stored with two values."""
        ours: dict[str, Tensor] = {}
        for key, tensor in state.items():
            hit = self.look_up(key)
            if hit is None:
                raise LayoutError(f"{key!r} is no key of {self.name}")
            rule, names = hit
            if rule.linear and tensor.ndim > 2 and set(tensor.shape[2:]) == {1}:
                tensor = tensor.reshape(tensor.shape[:2])
            if rule.transposed:
                if tensor.ndim != 2:
                    raise LayoutError(f"{key!r} has shape {tuple(tensor.shape)}: expected a matrix")
                tensor = tensor.t().contiguous()
            if len(names) > 1 and (tensor.ndim == 0 or tensor.shape[0] % len(names)):
                raise LayoutError(f"{key!r} has shape {tuple(tensor.shape)}: expected {len(names)} equal parts")
            pieces = tensor.tensor_split(len(names)) if len(names) > 1 else (tensor,) * len(names)  # none if dropped
            for name, piece in zip(names, pieces, strict=True):
                twin = ours.setdefault(name, piece)
                if twin is not piece and not (twin.shape == piece.shape and (twin.is_meta or torch.equal(twin, piece))):
                    raise LayoutError(f"{key!r} is another tensor than its twin: both are {name}")
        return ours


def same(*sources: str, linear: bool = False) -> tuple[Rule, ...]:
    return tuple(Rule(source, source, linear) for source in sources)


def drop(*sources: str) -> tuple[Rule, ...]:
    return tuple(Rule(source, None) for source in sources)
