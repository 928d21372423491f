"""LoRA: low-rank additions to the weights of a network, W + weight · (alpha / rank) · up @ down (arXiv 2106.09685).

Files name their tensors in half a dozen ways. A key is a prefix (which network), a module and a suffix (which part),
each read by a table. Modules are compared as flat names ('_' for '.'): turning '_' back into '.' would be ambiguous,
flattening the paths of a network we own is not, nor is what other layouts call its weights.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ivmix.models.checkpoints.files import read_metadata, read_state
from ivmix.models.checkpoints.layouts import LAYOUTS
from ivmix.models.checkpoints.sources import Source, locate
from ivmix.models.checkpoints.state import StateError
from ivmix.models.config import LARGEST_SIZE
from ivmix.models.json_files import parse_json, read_json
from ivmix.models.quoting import printable
from ivmix.models.sharing import sharing_tensors
from ivmix.models.text.clip import CLIPText
from ivmix.models.text.t5 import T5Text

N = TypeVar("N", bound=nn.Module)

PREFIXES = {
    "lora_unet_": "unet",                                     # kohya
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",                              # of two
    "lora_te2_": "text_encoder_2",
    "unet.": "unet",                                          # diffusers
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "": "",                                                   # AnimateDiff, plain PEFT: the module tells
}  # fmt: skip
SUFFIXES = {
    r"\.lora_down\.weight": ("down", "kohya"),
    r"\.lora_up\.weight": ("up", "kohya"),
    r"_lora\.down\.weight": ("down", "diffusers 2022-23"),    # AnimateDiff's own files too
    r"_lora\.up\.weight": ("up", "diffusers 2022-23"),
    r"\.lora(_linear_layer)?\.down\.weight": ("down", "diffusers 0.21"),
    r"\.lora(_linear_layer)?\.up\.weight": ("up", "diffusers 0.21"),
    r"\.lora_A(\.[^.]+)?\.weight": ("down", "PEFT"),          # an adapter's name may stand before `.weight`
    r"\.lora_B(\.[^.]+)?\.weight": ("up", "PEFT"),
    r"\.alpha": ("alpha", ""),
}  # fmt: skip
UNSUPPORTED = {
    r"\.(dora_scale|lora_magnitude_vector)\b": "DoRA",
    r"\.hada_": "LoHa",
    r"\.lokr_": "LoKr",
    r"\.lora_mid\.": "LoCon with a Tucker core (lora_mid)",
    r"\.diff(_b)?$": "a full difference of weights",
    r"\.lora_B(\.[^.]+)?\.bias$": "LoRA with biases",
}

# What the families of 2022-23 call a module, flat, and what it is called since.
SPELLINGS = {
    "_processor_": "_",
    "_self_attn_to_(q|k|v|out)$": r"_self_attn_\1_proj",
    "_to_out$": "_to_out_0",
}


@dataclass(frozen=True, eq=False)
class Factors:
    """What one module's weight is given: scale · up @ down, up (out, r, ...) and down (r, in, ...); `key` is down's."""

    down: Tensor
    up: Tensor
    scale: float
    key: str

    def fit(self, shape: Sequence[int]) -> bool:
        """Whether up @ down makes a weight of this shape, 1x1 convolutions and linear layers being one."""
        return len(self.up) == shape[0] and without_ones(self.down.shape[1:]) == without_ones(shape[1:])


@dataclass(frozen=True, eq=False)
class LoRA:
    """The factors in one file, by network ("unet", "text_encoder") and flat module name. Made by `read_lora`.

    Those of a second text encoder are "text_encoder_2".
    """

    name: str
    families: tuple[str, ...]
    factors: Mapping[str, Mapping[str, Factors]] = field(repr=False)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Every rank that occurs, ascending."""
        return tuple(sorted({len(f.down) for part in self.factors.values() for f in part.values()}))


def read_lora(source: Source) -> LoRA:
    """Reads a LoRA: a file (.safetensors, .ckpt, .pth, .pt, .bin), a folder that holds one, or `hub:owner/name/file`.

    Known families: kohya (with convolutions: LoCon; modules by diffusers' or by LDM's names), diffusers of 2022-23 and
    from 0.21 on, PEFT (alpha from the file's header or from adapter_config.json beside it), AnimateDiff's MotionLoRA
    and domain adapter. Where nothing tells alpha, it is the rank. Raises FileNotFoundError, or ValueError naming the
    key at fault: unknown, incomplete, of shapes that do not multiply, or of another kind (DoRA, LoHa, LoKr, …).
    """
    path = locate(source, "lora").weights
    return parse_lora(path.name, read_state(path), read_config(path))


def merge_loras(network: N, loras: Sequence[tuple[LoRA, float]]) -> N:
    """A network like `network` (UNet or CLIPText) with several LoRAs added, each times its weight.

    `network` itself is not touched: going on with it is what others call unmerging, to the bit. The two share every
    tensor that no LoRA changes, so one side of a pair can be merged where both sides are one network. A changed weight
    is summed in float32 or better and rounded once to its own dtype: merge what is used together in one call.
    Conditions belong to the network that made them, and compilation comes after merging.

    Each LoRA must have a part for this network, and all of that part must fit. AnimateDiff's own converter ignores
    alpha: the weight strength · rank / alpha repeats what it does. Raises ValueError for a weight that is not finite or
    a LoRA without such a part, StateError naming the keys that fit no module.

    >>> import ivmix
    >>> unet = ivmix.models.UNet(ivmix.models.UNetConfig(block_out_channels=(8,), attention_levels=(True,),
    ...     cross_attention_dim=4, num_attention_heads=2, norm_num_groups=4))
    >>> key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    >>> lora = parse_lora("style", {f"{key}.lora_A.weight": torch.ones(1, 4), f"{key}.lora_B.weight": torch.ones(8, 1)})
    >>> merged = merge_loras(unet, [(lora, 0.5)])
    >>> to_k = key.removeprefix("unet.") + ".weight"
    >>> bool((merged.get_parameter(to_k) == unet.get_parameter(to_k) + 0.5).all())
    True
    """
    terms = match(network, loras)
    merged = sharing_tensors(network)
    for path, added in terms.items():
        module = merged.get_submodule(path)
        old: nn.Parameter = module.weight  # type: ignore[assignment]
        module.weight = nn.Parameter(summed(old.detach(), added), requires_grad=old.requires_grad)
    return merged


def part_for(network: nn.Module) -> str:
    """What of a LoRA is for this network; of two text encoders, the second is the one with its projection."""
    if isinstance(network, CLIPText):
        return "text_encoder" if network.text_projection is None else "text_encoder_2"
    return "text_encoder" if isinstance(network, T5Text) else "unet"


def match(network: nn.Module, loras: Sequence[tuple[LoRA, float]]) -> dict[str, list[tuple[float, Factors]]]:
    """Path of a module -> what is added to its weight, and how much of it. Raises as `merge_loras` does."""
    part = part_for(network)
    names = names_of_modules(network)
    terms: dict[str, list[tuple[float, Factors]]] = {}
    for lora, weight in loras:
        if not abs(weight) <= LARGEST_SIZE:
            raise ValueError(f"{lora.name} has the weight {weight}: expected a finite number, at most {LARGEST_SIZE:,}")
        if part not in lora.factors:
            raise ValueError(f"{lora.name} adds to {' and '.join(lora.factors)} only, not to {type(network).__name__}")
        lost, double, unfit = [], [], []
        reached: dict[str, str] = {}                                              # path -> key
        for name, factors in lora.factors[part].items():
            if name not in names:
                lost.append(f"no module for {factors.key}")
                continue
            path = names[name]
            if reached.setdefault(path, factors.key) != factors.key:
                double.append(f"{reached[path]} and {factors.key} are one module")
            shape = network.get_parameter(f"{path}.weight").shape
            if not factors.fit(shape):
                sizes = f"{tuple(factors.down.shape)} and its up {tuple(factors.up.shape)}"
                unfit.append(f"{factors.key} {sizes} do not make {tuple(shape)}")
            elif weight != 0:
                terms.setdefault(path, []).append((weight * factors.scale, factors))
        if lost or double or unfit:
            raise StateError(Path(lora.name), type(network).__name__, [lost, double, unfit])
    return terms


def names_of_modules(network: nn.Module) -> dict[str, str]:
    """Flat name -> path, in our layout and in all others, of every module whose weight is a matrix or a kernel."""
    texts = ("text_encoder", "text_encoder_2")
    parts = texts if isinstance(network, CLIPText | T5Text) else ("unet", "motion")
    layouts = [layout for layout in LAYOUTS if layout.part in parts]
    names: dict[str, str] = {}
    for key, weight in network.named_parameters():
        if key.endswith(".weight") and weight.ndim > 1:
            path = key.removesuffix(".weight")
            for source in {key, *(source for layout in layouts for source in layout.sources(key))}:
                flat = source.removesuffix(".weight").replace(".", "_")
                if source.endswith(".weight") and names.setdefault(flat, path) != path:
                    raise AssertionError(f"{flat} may be {names[flat]} or {path}")  # a fault of the networks or tables
    return names


def summed(weight: Tensor, added: Sequence[tuple[float, Factors]]) -> Tensor:
    """weight + Σ scale · up @ down, with the weight's shape (o, i, ...), dtype, device and memory format."""
    total = weight.flatten(1).to(torch.promote_types(weight.dtype, torch.float32))        # (o, (i ...))
    for scale, factors in added:
        up, down = factors.up.flatten(1).to(total), factors.down.flatten(1).to(total)     # (o, r), (r, (i ...))
        total = torch.addmm(total, up, down, alpha=scale)
    return torch.empty_like(weight).copy_(total.view_as(weight))


def parse_lora(name: str, state: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> LoRA:
    """The tensors of a file as a `LoRA`; `config` is PEFT's, its entries with or without the prefix of a network."""
    for key in state:
        for pattern, kind in UNSUPPORTED.items():
            if re.search(pattern, key):
                raise ValueError(f"{name} is {kind} ({key}): only plain LoRA is supported")
    parts: dict[tuple[str, str], dict[str, str]] = {}                             # (network, module) -> part -> key
    families = set()
    for key in state:
        network, module, part, family = parse_key(name, key)
        keys = parts.setdefault((network, module), {})
        if part in keys:
            raise ValueError(f"{name} has two keys of one meaning: {keys[part]} and {key}")
        keys[part] = key
        families.add(family)
    if not parts:
        raise ValueError(f"{name} holds no tensors: expected a LoRA")
    factors: dict[str, dict[str, Factors]] = {}
    for (network, module), keys in parts.items():
        factors.setdefault(network, {})[module] = multiply(name, state, keys, network, config or {})
    return LoRA(name, tuple(sorted(families - {""})), factors)


def parse_key(name: str, key: str) -> tuple[str, str, str, str]:
    """(network, flat module name, part, family) of a key in the file `name`. Raises ValueError for an unknown key."""
    prefix = next(p for p in PREFIXES if key.startswith(p))
    ends = [(found, *said) for suffix, said in SUFFIXES.items() if (found := re.search(suffix + "$", key))]
    if len(ends) != 1:
        raise ValueError(f"{name} is no LoRA of a known kind: cannot read the key {key}")
    [(end, part, family)] = ends
    module = key[len(prefix) : end.start()].removeprefix("base_model.model.").replace(".", "_")
    for theirs, ours in SPELLINGS.items():
        module = re.sub(theirs, ours, module)
    network = PREFIXES[prefix] or ("text_encoder" if module.startswith(("text_model_", "encoder_")) else "unet")
    return network, module, part, family


def multiply(
    name: str, state: Mapping[str, Tensor], keys: Mapping[str, str], network: str, config: Mapping[str, Any]
) -> Factors:
    """One module's factors, once it is sure that they multiply. Raises ValueError naming the keys at fault."""
    missing = {"down", "up"} - keys.keys()
    if missing:
        raise ValueError(f"{name} has {' and '.join(keys.values())}, but no {' and no '.join(sorted(missing))} for it")
    down, up = state[keys["down"]], state[keys["up"]]
    if not (down.is_floating_point() and up.is_floating_point()):
        raise ValueError(f"{name}: {keys['down']} is {down.dtype}, its up {up.dtype}: expected floating point")
    if min(down.ndim, up.ndim) < 2 or without_ones(up.shape[2:]) or down.shape[0] != up.shape[1] or not len(down):
        shapes = f"{keys['down']} {tuple(down.shape)} and {keys['up']} {tuple(up.shape)}"
        raise ValueError(f"{name}: {shapes} do not multiply, expected (r, in, ...) and (out, r)")
    rank = len(down)
    alpha, divisor = float(rank), float(rank)
    if "alpha" in keys:
        alpha = state[keys["alpha"]].item() if state[keys["alpha"]].numel() == 1 else math.nan
    elif ".lora_A" in keys["down"]:
        try:
            alpha, divisor = peft_alpha(config, network, keys["down"].split(".lora_A")[0], rank)
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{name}: PEFT's config of it cannot be read: {printable(error, 200)}") from None
    if not abs(alpha) <= LARGEST_SIZE:
        raise ValueError(f"{name}: the alpha of {keys['down']} is not one finite number up to {LARGEST_SIZE:,}")
    return Factors(down, up, alpha / divisor, keys["down"])


def peft_alpha(config: Mapping[str, Any], network: str, module: str, rank: int) -> tuple[float, float]:
    """What PEFT's config says of a module: alpha, and what divides it, the rank or its root (arXiv 2312.03732)."""
    entries = {k.removeprefix(f"{network}."): v for k, v in config.items()}
    alpha = entries.get("lora_alpha", rank)
    for path, own in entries.get("alpha_pattern", {}).items():
        if not re.fullmatch(r"[\w.]+", path):
            raise ValueError(f"alpha_pattern {path[:60]!r}: only paths of modules are supported")
        if f".{module}".endswith(f".{path}"):
            alpha = own
    return float(alpha), math.sqrt(rank) if entries.get("use_rslora", False) else float(rank)


def read_config(path: Path) -> dict[str, Any]:
    """PEFT's config of the adapter in `path`: from its header, as diffusers writes it, or from the file beside it."""
    header = read_metadata(path).get("lora_adapter_metadata")
    if header is not None:
        try:
            return dict(parse_json(header.encode()))
        except (ValueError, TypeError) as error:
            what = "lora_adapter_metadata in its header is no JSON object"
            raise ValueError(f"{path}: {what}: {printable(error)}") from None
    beside = path.with_name("adapter_config.json")
    return read_json(beside) if beside.is_file() else {}


def without_ones(shape: Sequence[int]) -> list[int]:
    """The sizes without the ones at the end: (64, 320, 1, 1) -> [64, 320]."""
    sizes = list(shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    return sizes
