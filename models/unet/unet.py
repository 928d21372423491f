"""One UNet for image and video: Stable Diffusion's blocks, with temporal layers where the config has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ivmix.models.config import check_config, check_entries, one_number
from ivmix.models.layers import (
    Downsample,
    KeysValues,
    Resnet,
    SpatialTransformer,
    TimestepEmbedding,
    Upsample,
    group_norm,
    sinusoid,
    to_device,
)
from ivmix.models.unet.averaging import AveragingConfig, FrameAveraging
from ivmix.models.unet.temporal import FrameTransformer, MotionConfig, SpaceTimeConfig, TemporalConv

# Entries of a config.json that change what a UNet computes but no key or shape of its weights. `upcast_attention` is
# none of them: scaled_dot_product_attention keeps scores in float32 whatever it reads.
FIXED_ENTRIES = {
    "act_fn": "silu",
    "norm_eps": 1e-5,
    "downsample_padding": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "mid_block_scale_factor": 1,
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "only_cross_attention": False,
    "mid_block_only_cross_attention": None,
    "resnet_time_scale_shift": "default",
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1.0,
    "time_embedding_type": "positional",
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "class_embed_type": None,
    "addition_embed_type": None,
    "encoder_hid_dim_type": None,
}
# The classes whose config.json this reads. The last two are how VideoCrafter2 was ported to diffusers, by names of the
# port's own: UNet3DConditionModel with an fps embedding, unless the entry `fps_cond` is false.
PORTS = ("UNetVideoCrafter", "UNet3DVideoCrafterConditionModel")
KINDS = ("UNet2DConditionModel", "UNetMotionModel", "UNet3DConditionModel", *PORTS)


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a UNet; the defaults are Stable Diffusion 1.5, `temporal=MotionConfig()` makes it AnimateDiff v3.

    Per-level tuples run from fine to coarse. `num_attention_heads` counts heads, once for all levels or level by level.
    `averaging` adds a last layer that no public model has.
    """

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    layers_per_block: int = 2
    cross_attention_dim: int = 768
    num_attention_heads: int | tuple[int, ...] = 8
    norm_num_groups: int = 32
    temporal: MotionConfig | SpaceTimeConfig | None = None
    averaging: AveragingConfig | None = None

    def __post_init__(self) -> None:
        check_config(self)
        heads, levels = self.num_attention_heads, len(self.block_out_channels)
        if isinstance(heads, tuple) and len(set(heads)) == 1 and len(heads) == levels:
            object.__setattr__(self, "num_attention_heads", heads[0])  # one way to say it: equal configs compare equal
        for name, values in (("attention_levels", self.attention_levels), ("num_attention_heads", self.heads)):
            if len(values) != levels:
                raise ValueError(
                    f"{name} has {len(values)} entries, block_out_channels {levels}: one of each per level"
                )
        if isinstance(self.temporal, SpaceTimeConfig):
            self.head_width()

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads level by level."""
        heads = self.num_attention_heads
        return heads if isinstance(heads, tuple) else (heads,) * len(self.block_out_channels)

    @property
    def max_frames(self) -> int | None:
        """The longest video the temporal layers know positions for; None: any length."""
        return self.temporal.max_frames if isinstance(self.temporal, MotionConfig) else None

    def head_width(self) -> int:
        """Channels of one head, 64 in ModelScope. Raises ValueError where levels differ."""
        width = self.block_out_channels[0] // self.heads[0]
        if any(c != h * width for c, h in zip(self.block_out_channels, self.heads, strict=True)):
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} over block_out_channels={self.block_out_channels}: "
                "with SpaceTimeConfig the heads of all levels are equally wide"
            )
        return width

    def to_dict(self) -> dict[str, Any]:
        """The config.json diffusers writes for the same network (the classes are `KINDS`)."""
        heads = list(self.heads) if isinstance(self.num_attention_heads, tuple) else self.num_attention_heads
        own: dict[str, Any]
        match self.temporal:
            case None:
                kind, suffix = "UNet2DConditionModel", "2D"
                own = {"use_linear_projection": True, "attention_head_dim": heads}
            case MotionConfig() as motion:
                kind, suffix = "UNetMotionModel", "Motion"
                own = {
                    "use_linear_projection": True,
                    "num_attention_heads": heads,
                    "motion_num_attention_heads": motion.num_attention_heads,
                    "motion_max_seq_length": motion.max_frames,
                    "use_motion_mid_block": motion.mid_block,
                }
                # Two entries that diffusers has not, written where they say what it would not do.
                own |= {} if motion.joint_norm else {"motion_joint_norm": False}
                own |= {"motion_joint_resnet_norm": True} if motion.joint_resnet_norm else {}
            case SpaceTimeConfig() as space_time:
                kind, suffix = "UNetVideoCrafter" if space_time.fps else "UNet3DConditionModel", "3D"
                own = {"attention_head_dim": self.head_width()} | ({"fps_cond": True} if space_time.fps else {})
        if (last := self.averaging) is not None:  # entries that diffusers has not either
            own |= {"averaging_features": last.features, "averaging_timesteps": last.timesteps}
        prefix = ["CrossAttn" if attention else "" for attention in self.attention_levels]
        return {
            "_class_name": kind,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "block_out_channels": list(self.block_out_channels),
            "down_block_types": [f"{p}DownBlock{suffix}" for p in prefix],
            "up_block_types": [f"{p}UpBlock{suffix}" for p in reversed(prefix)],
            "layers_per_block": self.layers_per_block,
            "cross_attention_dim": self.cross_attention_dim,
            "norm_num_groups": self.norm_num_groups,
        } | own

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "UNetConfig":
        """Reads a public config.json. Raises KeyError naming what is missing, ValueError for another architecture."""
        kind = raw["_class_name"]
        if kind not in KINDS:
            raise ValueError(f"config _class_name {kind!r}: expected one of {', '.join(KINDS)}")
        check_entries(raw, FIXED_ENTRIES)
        widths = tuple(raw["block_out_channels"])
        temporal: MotionConfig | SpaceTimeConfig | None = None
        heads: int | tuple[int, ...]
        if kind == "UNetMotionModel":
            heads = per_level(raw["num_attention_heads"])
            temporal = MotionConfig(
                one_number(raw, "motion_num_attention_heads"), raw["motion_max_seq_length"],
                raw["use_motion_mid_block"], raw.get("motion_joint_norm", True),
                raw.get("motion_joint_resnet_norm", False),
            )  # fmt: skip
        else:
            check_entries(raw, {"num_attention_heads": None})  # diffusers never settled what it would mean
            heads = per_level(raw["attention_head_dim"])       # how many heads, in an image UNet
            if kind != "UNet2DConditionModel":                 # how wide they are, in a UNet3DConditionModel
                heads = tuple(width // one_number(raw, "attention_head_dim") for width in widths)
                temporal = SpaceTimeConfig(fps=raw.get("fps_cond", kind in PORTS))
        averaging = None
        if "averaging_features" in raw:
            averaging = AveragingConfig(raw["averaging_features"], raw["averaging_timesteps"])
        config = cls(
            in_channels=raw["in_channels"],
            out_channels=raw["out_channels"],
            block_out_channels=widths,
            attention_levels=tuple(name.startswith("CrossAttn") for name in raw["down_block_types"]),
            layers_per_block=one_number(raw, "layers_per_block"),
            cross_attention_dim=one_number(raw, "cross_attention_dim"),
            num_attention_heads=heads,
            norm_num_groups=raw["norm_num_groups"],
            temporal=temporal,
            averaging=averaging,
        )
        written = config.to_dict()
        for name in ("down_block_types", "up_block_types"):
            check_entries({name: list(raw[name])}, {name: written[name]})
        return config


def per_level(entry: int | Sequence[int]) -> int | tuple[int, ...]:
    return entry if isinstance(entry, int) else tuple(entry)


SD21_BASE = UNetConfig(cross_attention_dim=1024, num_attention_heads=(5, 10, 20, 20))
MODELSCOPE = UNetConfig(cross_attention_dim=1024, num_attention_heads=(5, 10, 20, 20), temporal=SpaceTimeConfig())
VIDEOCRAFTER2 = replace(MODELSCOPE, temporal=SpaceTimeConfig(fps=True))


@dataclass(frozen=True, eq=False)
class Condition:
    """What a UNet is told about one batch of prompts and what stays constant over steps: bound to one network.

    `keys_values` has one (b, heads, l, d) pair per cross-attention layer; `embedding` (b, 4 c) is what the frame rate
    adds to the time embedding, None for a network that is told no frame rate. Made by `UNet.condition`.
    """

    network: nn.Module = field(repr=False)
    keys_values: tuple[KeysValues, ...] = field(repr=False)
    embedding: Tensor | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.keys_values[0][0])

    @staticmethod
    def cat(conditions: Sequence["Condition"]) -> "Condition":
        """Rows of several conditions of one network, in order: one batch for one forward pass."""
        if not conditions:
            raise ValueError("no conditions to join: give at least one")
        if any(c.network is not conditions[0].network for c in conditions):
            raise ValueError("conditions of different networks cannot be joined: bind each prompt to its own network")
        lengths = [c.keys_values[0][0].shape[2] for c in conditions]
        if len(set(lengths)) > 1:
            raise ValueError(f"contexts of {lengths} tokens cannot be joined: pad them to one length")
        layers = zip(*(c.keys_values for c in conditions), strict=True)
        joined = tuple((torch.cat([k for k, _ in kv]), torch.cat([v for _, v in kv])) for kv in layers)
        embeddings = [c.embedding for c in conditions if c.embedding is not None]
        return Condition(conditions[0].network, joined, torch.cat(embeddings) if embeddings else None)


class Told(NamedTuple):
    """What the layers of one forward pass are told, besides their input."""

    embedding: Tensor  # (b, 4 c): the time, and the frame rate
    keys_values: tuple[KeysValues, ...]
    frames: int
    temporal: bool
    normed_together: int  # how many rows a resnet's group norm takes its statistics over


class Block(nn.Module):
    """One level on the way down, in the middle or up: resnets, with what follows each of them.

    The first `attentions` resnets are followed by attention to the pixels and the text, the first `motions` by an
    AnimateDiff motion module where the config has them.
    """

    def __init__(
        self, widths: Sequence[tuple[int, int]], config: UNetConfig, level: int, attentions: int, motions: int
    ) -> None:
        super().__init__()
        groups, embedding, heads = config.norm_num_groups, 4 * config.block_out_channels[0], config.heads[level]
        outputs = [output for _, output in widths]
        self.resnets = nn.ModuleList(Resnet(i, o, groups, 1e-5, embedding) for i, o in widths)
        self.attentions = nn.ModuleList(
            SpatialTransformer(o, heads, config.cross_attention_dim, groups) for o in outputs[:attentions]
        )
        self.motion_modules, self.temp_convs, self.temp_attentions = (nn.ModuleList() for _ in range(3))
        if isinstance(config.temporal, MotionConfig):
            m = config.temporal
            self.motion_modules.extend(
                FrameTransformer(o, groups, m.num_attention_heads, max_frames=m.max_frames, joint_norm=m.joint_norm)
                for o in outputs[:motions]
            )
        if isinstance(config.temporal, SpaceTimeConfig):
            self.temp_convs.extend(TemporalConv(o, groups) for o in outputs)
            self.temp_attentions.extend(FrameTransformer(o, groups, heads) for o in outputs[:attentions])

    def layer(self, j: int, x: Tensor, told: Told) -> Tensor:
        x = self.resnets[j](x, told.embedding, told.normed_together)
        if told.temporal and j < len(self.temp_convs):
            x = self.temp_convs[j](x, told.frames)
        if j < len(self.attentions):
            x = self.attentions[j](x, told.keys_values)
        if told.temporal and j < len(self.temp_attentions):
            x = self.temp_attentions[j](x, told.frames)
        if told.temporal and j < len(self.motion_modules):
            x = self.motion_modules[j](x, told.frames)
        return x


class DownBlock(Block):
    def __init__(self, widths: Sequence[tuple[int, int]], config: UNetConfig, level: int) -> None:
        super().__init__(widths, config, level, len(widths) * config.attention_levels[level], len(widths))
        last = level == len(config.block_out_channels) - 1
        self.downsamplers = None if last else nn.ModuleList([Downsample(widths[-1][1])])

    def forward(self, x: Tensor, told: Told) -> tuple[Tensor, list[Tensor]]:
        """The output, and the skips: what every layer and the downsampler leave for the way up."""
        skips = []
        for j in range(len(self.resnets)):
            x = self.layer(j, x, told)
            skips.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)
            skips.append(x)
        return x, skips


class UpBlock(Block):
    def __init__(self, widths: Sequence[tuple[int, int]], config: UNetConfig, level: int) -> None:
        super().__init__(widths, config, level, len(widths) * config.attention_levels[level], len(widths))
        self.upsamplers = None if level == 0 else nn.ModuleList([Upsample(widths[-1][1])])

    def forward(self, x: Tensor, skips: list[Tensor], told: Told) -> Tensor:
        """Takes one skip a layer, the last one first."""
        for j in range(len(self.resnets)):
            x = self.layer(j, torch.cat([x, skips.pop()], dim=1), told)
        return x if self.upsamplers is None else self.upsamplers[0](x)


class MidBlock(Block):
    """Two layers on the coarsest level. Attention and AnimateDiff's motion module follow the first alone."""

    def __init__(self, config: UNetConfig) -> None:
        width = config.block_out_channels[-1]
        motion = isinstance(config.temporal, MotionConfig) and config.temporal.mid_block
        super().__init__([(width, width)] * 2, config, level=-1, attentions=1, motions=int(motion))

    def forward(self, x: Tensor, told: Told) -> Tensor:
        return self.layer(1, self.layer(0, x, told), told)


class UNet(nn.Module):
    """Noise predictor of latent diffusion: z (b c f h w) at training time t -> the same shape.

    State-dict names are diffusers' (UNet2DConditionModel, UNetMotionModel, UNet3DConditionModel) with linear
    projections; `fps_embedding` is VideoCrafter2's, under the name of its port to diffusers.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, layers, groups = config.block_out_channels, config.layers_per_block, config.norm_num_groups
        levels = len(widths)
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], 4 * widths[0])
        self.fps_embedding: TimestepEmbedding | None = None
        self.transformer_in: FrameTransformer | None = None
        if isinstance(config.temporal, SpaceTimeConfig):
            heads, width = 8, config.head_width()
            self.transformer_in = FrameTransformer(widths[0], groups, heads, inner=heads * width)
            if config.temporal.fps:
                self.fps_embedding = TimestepEmbedding(widths[0], 4 * widths[0])

        inputs = (widths[0], *widths[:-1])
        self.down_blocks = nn.ModuleList(
            DownBlock([(inputs[i], widths[i]), *[(widths[i], widths[i])] * (layers - 1)], config, i)
            for i in range(levels)
        )
        self.mid_block = MidBlock(config)

        # Every down layer and every downsampler leaves a skip; each up layer takes the last one left.
        skips = [widths[0]]
        for i, width in enumerate(widths):
            skips += [width] * (layers + (i < levels - 1))
        self.up_blocks = nn.ModuleList()
        x = widths[-1]
        for i in reversed(range(levels)):
            pairs = []
            for _ in range(layers + 1):
                pairs.append((x + skips.pop(), widths[i]))
                x = widths[i]
            self.up_blocks.append(UpBlock(pairs, config, i))
        self.conv_norm_out = nn.GroupNorm(groups, widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)
        self.averaging: FrameAveraging | None = None
        if config.averaging is not None:
            self.averaging = FrameAveraging(config.out_channels, 4 * widths[0], config.averaging)

        for index, layer in enumerate(self._text_layers()):
            layer.index = index

    def _text_layers(self) -> list[SpatialTransformer]:
        return [m for m in self.modules() if isinstance(m, SpatialTransformer)]

    def condition(self, context: Tensor, fps: float | None = None) -> Condition:
        """Text features (b l d) -> the keys and values of every cross-attention layer, computed once per prompt.

        `fps`, frames a second, is for networks with an fps embedding (VideoCrafter2: trained around 8 to 28) and
        needed there; conditional and unconditional rows are told the same.
        """
        if context.ndim != 3 or context.shape[-1] != self.config.cross_attention_dim:
            raise ValueError(
                f"context has shape {tuple(context.shape)}: expected (b, l, {self.config.cross_attention_dim})"
            )
        if (fps is None) != (self.fps_embedding is None):
            expected = "a number, such as 24" if fps is None else "none, this network is told no frame rate"
            raise ValueError(f"fps={fps}: expected {expected}")
        embedding = None
        if self.fps_embedding is not None and fps is not None:
            features = sinusoid(torch.tensor([fps], device=context.device), self.config.block_out_channels[0])
            embedding = self.fps_embedding(features.to(context.dtype)).repeat(len(context), 1)
        return Condition(self, tuple(layer.keys_values(context) for layer in self._text_layers()), embedding)

    def forward(self, z: Tensor, t: Tensor, condition: Condition, temporal: bool = True) -> Tensor:
        """z (b c f h w), t 0-d or (b,), condition of b rows -> (b c f h w).

        `temporal=False` leaves all that joins frames out: the image model that shares these spatial weights. For
        AnimateDiff that is a model on its own; for ModelScope and VideoCrafter2, trained as a whole, an ablation.
        """
        config = self.config
        if z.ndim != 5 or z.shape[1] != config.in_channels or 0 in z.shape:
            raise ValueError(f"z has shape {tuple(z.shape)}: expected (b, {config.in_channels}, f, h, w)")
        b, _, frames, h, w = z.shape
        if condition.network is not self:
            raise ValueError("the condition belongs to another network: make it with this network's condition()")
        if len(condition) != b:
            raise ValueError(f"z has {b} rows, the condition {len(condition)}: give one prompt a row")
        multiple = 2 ** (len(config.block_out_channels) - 1)
        if h % multiple or w % multiple:
            raise ValueError(f"latents of {h}x{w}: height and width must be multiples of {multiple}")
        if t.shape not in ((), (1,), (b,)):
            raise ValueError(f"t has shape {tuple(t.shape)}: expected () or ({b},)")

        features = sinusoid(to_device(t, z.device, torch.float32).expand(b), config.block_out_channels[0])
        embedding = self.time_embedding(features.to(z.dtype))                     # (b, 4 c)
        if condition.embedding is not None:
            embedding = embedding + condition.embedding
        joint = temporal and isinstance(config.temporal, MotionConfig) and config.temporal.joint_resnet_norm
        told = Told(embedding, condition.keys_values, frames, temporal, frames if joint else 1)

        x = self.conv_in(rearrange(z, "b c f h w -> (b f) c h w"))                # frames are rows from here on
        if self.transformer_in is not None and temporal:
            x = self.transformer_in(x, frames)
        skips = [x]
        for down in self.down_blocks:
            x, left = down(x, told)
            skips += left
        x = self.mid_block(x, told)
        for up in self.up_blocks:
            x = up(x, skips, told)
        x = self.conv_out(F.silu(group_norm(self.conv_norm_out, x, told.normed_together)))
        y = rearrange(x, "(b f) c h w -> b c f h w", f=frames)
        return y if self.averaging is None or not temporal else self.averaging(y, z, t, embedding)
