"""The one loader: a network from a folder, a single file of any public layout, or the hub.

The layout is found from the keys, the config read from config.json or told from the shapes, the network built on meta,
and the memory-mapped weights checked and assigned: a network is loaded whole, or not at all.
"""

import math
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ivmix.models.checkpoints import configs
from ivmix.models.checkpoints.files import read_state
from ivmix.models.checkpoints.layouts import THEIRS, find, of_xl
from ivmix.models.checkpoints.rules import Layout, LayoutError
from ivmix.models.checkpoints.sources import Source, locate
from ivmix.models.checkpoints.state import assign, check_state
from ivmix.models.config import Config, check_entries, one_number
from ivmix.models.dit.config import DiTConfig
from ivmix.models.dit.dit import DiT
from ivmix.models.json_files import read_json
from ivmix.models.meta import build, shapes_of
from ivmix.models.quoting import printable
from ivmix.models.text.clip import CLIPText, CLIPTextConfig
from ivmix.models.text.t5 import T5Config, T5Text
from ivmix.models.unet.config import UNetConfig
from ivmix.models.unet.temporal import MotionConfig, MotionNorm, frame_positions, normed, tables_left_out
from ivmix.models.unet.unet import UNet
from ivmix.models.vae import VAE, VAEConfig

N = TypeVar("N", bound=nn.Module)
Device = torch.device | str
TextEncoder = CLIPText | T5Text

XL_SCALING = 0.13025  # of latents, in SDXL (arXiv 2307.01952)


def load_unet(
    source: Source,
    *,
    motion: Source | None = None,
    motion_norm: MotionNorm | None = None,
    config: UNetConfig | None = None,
    variant: str | None = None,
    drop: Sequence[str] = (),
    layouts: Sequence[Layout] = (),
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
) -> UNet:
    """A UNet from `source`: diffusers' folder (or a pipeline's, whose subfolder `unet` is taken), a single file as
    Stable Diffusion, ModelScope or VideoCrafter2 publish it, or `hub:owner/name[/path][@revision]`.

    `motion` joins AnimateDiff's motion modules, the authors' file or a MotionAdapter, to the spatial weights;
    `motion_norm` says whose group norms they have (`normed`; default: the authors' in the authors' layout, diffusers'
    otherwise). `config` overrides config.json, or what the shapes tell. `variant` names a file of a folder ("fp16": a
    name, which says nothing of its dtype); of a single file, "ema" takes the averaged copy. `drop` are patterns
    (fnmatch) of keys to leave out, which a warning counts. `layouts` are known beside the public ones: a UNet that no
    public one is, a subclass of `UNet`, has one of its own. Frozen, in evaluation mode, on `device` as `dtype`
    (default: as stored; then memory-mapped, so leave the file as it is). Raises FileNotFoundError, or ValueError:
    StateError for weights that do not fit, LayoutError for keys of no known layout.
    """
    pieces = [read("unet", source, variant, drop, layouts)]
    if motion is not None:
        if configs.is_motion(pieces[0].shapes):
            raise ValueError(
                f"motion={str(motion)!r}, but {pieces[0].path} has motion modules of its own: leave motion out"
            )
        pieces.append(read("motion", motion, None, drop))
    check_dropped(pieces, drop)
    config = config or pieces[0].config(UNetConfig, configs.unet)
    if motion is not None and not isinstance(config.temporal, MotionConfig):
        config = replace(config, temporal=motion_config(pieces[1], config))
    if motion_norm is not None:
        if not isinstance(config.temporal, MotionConfig):
            raise ValueError(f"motion_norm={motion_norm!r}, but {pieces[0].path} has no motion modules: leave it out")
        config = replace(config, temporal=normed(config.temporal, motion_norm, xl=config.text_time is not None))
    return assemble(config.network, config, pieces, device, dtype)


def load_transformer(
    source: Source,
    *,
    config: DiTConfig | None = None,
    variant: str | None = None,
    drop: Sequence[str] = (),
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
) -> DiT:
    """The transformer of `source`: diffusers' folder (or a pipeline's, whose subfolder `transformer` is taken), a
    single file with diffusers' keys, or `hub:owner/name[/path][@revision]`.

    Without a config.json only Latte-1's tells its config: no weight says on what size an image model was trained.
    Options and errors as in `load_unet`.
    """
    weights = read("transformer", source, variant, drop)
    check_dropped([weights], drop)
    config = config or weights.config(DiTConfig, configs.dit)
    return assemble(config.network, config, [weights], device, dtype)


def load_vae(
    source: Source,
    *,
    config: VAEConfig | None = None,
    scaling_factor: float | None = None,
    variant: str | None = None,
    drop: Sequence[str] = (),
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
) -> VAE:
    """The VAE of `source`, which may be any that `load_unet` takes (subfolder `vae`), or a VAE's own file.

    A file without config.json does not tell what latents are scaled by: it is `scaling_factor`, by default 0.13025 of
    one that holds SDXL's UNet or text encoders besides, or else Stable Diffusion 1's and 2's 0.18215. SDXL's own VAE
    overflows in float16. Options and errors as in `load_unet`.
    """
    weights = read("vae", source, variant, drop)
    check_dropped([weights], drop)
    return assemble(VAE, config or vae_config(weights, scaling_factor), [weights], device, dtype)


def load_text_encoder(
    source: Source,
    *,
    part: str = "text_encoder",
    config: CLIPTextConfig | T5Config | None = None,
    variant: str | None = None,
    drop: Sequence[str] = (),
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
) -> TextEncoder:
    """The text encoder of `source`, which may be any that `load_unet` takes (subfolder `text_encoder`), or one of
    transformers or of open_clip (whose last layer is left out). `part` "text_encoder_2" is the second of SDXL's, with
    its projection and all of its layers. Options and errors as in `load_unet`; a T5, which overflows float16, is
    bfloat16 where that is asked for.
    """
    weights = read(part, source, variant, drop)
    check_dropped([weights], drop)
    told = config or weights.config(CLIPTextConfig, configs.text)
    if part == "text_encoder" and isinstance(told, CLIPTextConfig):
        told = replace(told, projection_dim=None)  # whatever a file has of it
    dtype = None if dtype is None else told.runs_in(dtype)
    return assemble(told.network, told, [weights], device, dtype)


PARTS: dict[type[nn.Module], str] = {
    UNet: "unet", DiT: "transformer", VAE: "vae", CLIPText: "text_encoder", T5Text: "text_encoder",
}  # fmt: skip


def load_folder(
    network: type[N], config: type[Config], folder: Source, device: Device = "cpu", dtype: torch.dtype | None = None
) -> N:
    """Any network that `save_folder` wrote, of these classes or others; options and errors as in `load_unet`."""
    weights = read(PARTS.get(network, ""), folder, None)
    return assemble(network, weights.config(config, None), [weights], device, dtype)


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """One part of a source, under our names. `config_file` is None for a single file.

    `dropped` are the file's keys that the caller had left out, `missed` which of them a network might need, by our
    names, and `xl` whether the file is of an SDXL.
    """

    path: Path
    state: dict[str, Tensor]
    config_file: Path | None
    layout: Layout | None = None
    dropped: tuple[str, ...] = ()
    missed: dict[str, Tensor] = field(default_factory=dict)
    xl: bool = False

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all that is in the file: a network does not shrink with what is left out of it."""
        return {key: tuple(value.shape) for key, value in (self.state | self.missed).items()}

    def config(self, kind: Any, tell: Callable[[configs.Shapes], Any] | None) -> Any:
        """The config of config.json, or for a single file what `tell` makes of the shapes; a `kind` unless the layout
        has one of its own."""
        if self.layout is not None and self.layout.config is not None:
            kind, tell = self.layout.config, configs.TELL.get(self.layout.config)
        if self.config_file is not None:
            return read_config(kind, self.config_file)
        try:
            if tell is None:
                raise ValueError("there is no config.json")
            return tell(self.shapes)
        except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            what = f"{self.path} does not tell its config ({reason})"
            remedy = f"give config=, a {kind.__name__}, or put it into a folder with its config.json"
            raise ValueError(f"{what}: {remedy}") from None


def read(
    part: str, source: Source, variant: str | None, drop: Sequence[str] = (), layouts: Sequence[Layout] = ()
) -> Weights:
    """`part` of a source under our names; a network without layouts of its own, `part` "", as it is stored."""
    here = locate(source, part, variant)
    path, config, variant = here.weights, here.config, here.variant
    state = read_state(path)
    if config is None and variant is not None:
        state = _averaged(path, state, variant)
    if not part:
        return Weights(path, state, config)
    dropped = {key: state.pop(key) for key in matching(state, drop)}
    if dropped:
        warnings.warn(f"{path}: {len(dropped):,} keys left out as asked, first {next(iter(dropped))}", stacklevel=3)
    try:
        found = find(state, layouts, part)
        if part not in found:
            held = ", ".join(f"a {name} ({other.layout.name})" for name, other in found.items())
            raise LayoutError(f"it holds no {part}, but {held or 'nothing known'}")
        own = found[part]
        missed = dict[str, Tensor]()
        for key, tensor in dropped.items():
            hit = own.layout.look_up(key.removeprefix(own.prefix)) if key.startswith(own.prefix) else None
            missed |= dict.fromkeys(hit[1] if hit else (), tensor)
        return Weights(path, own.take(state), config, own.layout, tuple(dropped), missed, of_xl(found))
    except LayoutError as error:
        left = f" (without the {len(dropped):,} keys that drop names)" if dropped else ""
        raise LayoutError(
            f"{path}: {error}{left}. `ivmix inspect --keys` shows all it holds; --drop PATTERN (drop= in Python) "
            "leaves out keys that are no network's"
            + (", layouts= (in Python) reads those of a network of your own" if part == "unet" else "")
        ) from None


def matching(keys: Iterable[str], patterns: Collection[str]) -> list[str]:
    """The keys that one of the patterns (fnmatch, in upper and lower case) fits."""
    return [key for key in keys if any(fnmatchcase(key, pattern) for pattern in patterns)]


def check_dropped(pieces: Iterable[Weights], drop: Sequence[str]) -> None:
    """Raises ValueError for a pattern that no key of the pieces fits."""
    pieces = list(pieces)
    for pattern in drop:
        if not any(matching(piece.dropped, [pattern]) for piece in pieces):
            raise ValueError(f"drop={pattern!r} fits no key of {' or '.join(str(piece.path) for piece in pieces)}")


def read_config(kind: type[Config], path: Path) -> Any:
    """A config.json as a `kind`. Raises ValueError naming what it lacks, or why it describes no such network."""
    raw = read_json(path)
    try:
        return kind.from_dict(raw)
    except KeyError as missing:
        raise ValueError(f"{path} lacks the entry {missing}") from None
    except (AttributeError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{path} describes no {kind.__name__.removesuffix('Config')}: {printable(error)}") from None


def _averaged(path: Path, state: dict[str, Tensor], variant: str) -> dict[str, Tensor]:
    """The state with the UNet's running averages in its place: `model_ema.` and the UNet's key without its dots."""
    if variant != "ema":
        raise ValueError(f"variant={variant!r} chooses a file of a folder, but {path} is one: only 'ema' may be in it")
    prefix = "model.diffusion_model."
    names = {key: "model_ema." + key.removeprefix("model.").replace(".", "") for key in state if key.startswith(prefix)}
    if lacking := [name for name in names.values() if name not in state] or ([] if names else ["model_ema.*"]):
        raise ValueError(f"variant='ema', but {path} holds no averaged UNet, such as {lacking[0]}: leave variant out")
    return state | {key: state[name] for key, name in names.items()}


def motion_config(modules: Weights, spatial: UNetConfig | None = None) -> MotionConfig:
    """Told by the shapes, and by a MotionAdapter's config.json if there is one, which is to fit the UNet `spatial`.

    Unless it is said, the group norms are of the code that the layout is written for.
    """
    theirs = modules.layout is not None and modules.layout.name in THEIRS
    try:
        xl = configs.for_xl(modules.shapes) if spatial is None else spatial.text_time is not None
        config = normed(configs.motion(modules.shapes), "authors" if theirs else "diffusers", xl)
    except (KeyError, IndexError) as missing:
        raise ValueError(f"{modules.path} does not tell how many frames it knows: no {missing}") from None
    if modules.config_file is None:
        return config
    raw = read_json(modules.config_file)
    try:
        check_entries(raw, {"_class_name": "MotionAdapter"})
        if spatial is not None:
            check_entries(raw, {"motion_norm_num_groups": spatial.norm_num_groups})
        return replace(config, num_attention_heads=one_number(raw, "motion_num_attention_heads"))
    except (KeyError, TypeError, ValueError) as error:
        what = f"{modules.config_file} describes no MotionAdapter{' for this UNet' if spatial else ''}"
        raise ValueError(f"{what}: {printable(error)}") from None


def vae_config(weights: Weights, scaling_factor: float | None = None) -> VAEConfig:
    """Of config.json, or told by the shapes and, unless a scaling factor is given, by what lies beside them."""
    if scaling_factor is None:
        scaling_factor = XL_SCALING if weights.xl else VAEConfig.scaling_factor
    config: VAEConfig = weights.config(VAEConfig, lambda shapes: configs.vae(shapes, scaling_factor))
    return config


# --- building -------------------------------------------------------------------------------------------------------


def assemble(
    network: type[N], config: Any, pieces: Iterable[Weights], device: Device, dtype: torch.dtype | None
) -> N:
    """The network with the weights of all pieces; motion modules are looked for in the last of several."""
    pieces = list(pieces)
    try:
        module = build(network, config)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        where = pieces[0].config_file or f"the config of {pieces[0].path}"
        raise ValueError(f"{where} describes no {network.__name__}: {printable(error)}") from None
    wanted = shapes_of(module)
    for piece in pieces:
        if needed := next((key for key in piece.missed if key in wanted), None):
            raise ValueError(f"drop leaves {needed} out of {piece.path}, which {network.__name__} needs")
    tables = tables_left_out([key for piece in pieces for key in piece.state], wanted)
    wanted = {key: shape for key, shape in wanted.items() if key not in tables}
    if len(pieces) == 1:
        check_state(pieces[0].path, pieces[0].state, wanted, network.__name__)
    else:
        spatial, modules = pieces
        own = {key: shape for key, shape in wanted.items() if ".motion_modules." in key}
        rest = {key: shape for key, shape in wanted.items() if key not in own}
        check_state(spatial.path, spatial.state, rest, network.__name__)
        check_state(modules.path, modules.state, own, f"the UNet of {spatial.path}")
    state = {key: value for piece in pieces for key, value in piece.state.items()}
    if sum(map(math.prod, tables.values())) > sum(value.numel() for value in state.values()):
        where = pieces[-1].config_file or pieces[-1].path
        frames = f"the positions of {config.max_frames:,} frames"
        raise ValueError(f"{where}: {frames}, which the file leaves out, would be larger than all that it holds")
    like = next(iter(pieces[-1].state.values()), torch.empty(0))
    state |= {key: frame_positions(frames, channels).to(like) for key, (_, frames, channels) in tables.items()}
    for piece in pieces:
        piece.state.clear()
    try:
        return assign(module, state, device, dtype)
    except ValueError as error:
        raise ValueError(f"{' and '.join(str(piece.path) for piece in pieces)}: {error}") from None
