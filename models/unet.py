"""One UNet for image and video: Stable Diffusion's blocks, with motion modules where the config has them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ivmix.models.folder import check_entries, one_number
from ivmix.models.layers import (
    Downsample,
    KeysValues,
    Resnet,
    SpatialTransformer,
    TimestepEmbedding,
    Upsample,
    sinusoid,
)
from ivmix.models.temporal import MotionConfig, MotionModule

# Entries of a config.json that change what a UNet computes but no key or shape of its weights.
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


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a UNet; the defaults are Stable Diffusion 1.5, `temporal=MotionConfig()` makes it AnimateDiff v3.

    Per-level tuples run from fine to coarse. `num_attention_heads` counts heads (diffusers' SD 1.5 files call that
    number `attention_head_dim`).
    """

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    layers_per_block: int = 2
    cross_attention_dim: int = 768
    num_attention_heads: int = 8
    norm_num_groups: int = 32
    temporal: MotionConfig | None = None

    def __post_init__(self) -> None:
        if len(self.attention_levels) != len(self.block_out_channels):
            raise ValueError(
                f"attention_levels has {len(self.attention_levels)} entries, block_out_channels "
                f"{len(self.block_out_channels)}: one of each per level"
            )

    def to_dict(self) -> dict[str, Any]:
        """The config.json diffusers writes for the same network (UNet2DConditionModel or UNetMotionModel)."""
        prefix, suffix = ["CrossAttn" if a else "" for a in self.attention_levels], "Motion" if self.temporal else "2D"
        down = [f"{p}DownBlock{suffix}" for p in prefix]
        up = [f"{p}UpBlock{suffix}" for p in reversed(prefix)]
        common: dict[str, Any] = {
            "_class_name": "UNetMotionModel" if self.temporal else "UNet2DConditionModel",
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "block_out_channels": list(self.block_out_channels),
            "down_block_types": down,
            "up_block_types": up,
            "layers_per_block": self.layers_per_block,
            "cross_attention_dim": self.cross_attention_dim,
            "norm_num_groups": self.norm_num_groups,
            "use_linear_projection": True,
        }
        if self.temporal is None:
            return common | {"attention_head_dim": self.num_attention_heads}
        return common | {
            "num_attention_heads": self.num_attention_heads,
            "motion_num_attention_heads": self.temporal.num_attention_heads,
            "motion_max_seq_length": self.temporal.max_frames,
            "use_motion_mid_block": self.temporal.mid_block,
        } | ({} if self.temporal.joint_norm else {"motion_joint_norm": False})  # an entry that diffusers has not

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "UNetConfig":
        """Reads `to_dict`'s form. Raises KeyError naming what is missing, ValueError for another architecture."""
        kind = raw["_class_name"]
        if kind not in ("UNet2DConditionModel", "UNetMotionModel"):
            raise ValueError(f"config _class_name {kind!r}: expected UNet2DConditionModel or UNetMotionModel")
        check_entries(raw, FIXED_ENTRIES)
        motion = None
        if kind == "UNetMotionModel":
            motion = MotionConfig(
                one_number(raw, "motion_num_attention_heads"), raw["motion_max_seq_length"],
                raw["use_motion_mid_block"], raw.get("motion_joint_norm", True),
            )  # fmt: skip
        config = cls(
            in_channels=raw["in_channels"],
            out_channels=raw["out_channels"],
            block_out_channels=tuple(raw["block_out_channels"]),
            attention_levels=tuple(name.startswith("CrossAttn") for name in raw["down_block_types"]),
            layers_per_block=one_number(raw, "layers_per_block"),
            cross_attention_dim=one_number(raw, "cross_attention_dim"),
            num_attention_heads=one_number(raw, "num_attention_heads" if motion else "attention_head_dim"),
            norm_num_groups=raw["norm_num_groups"],
            temporal=motion,
        )
        written = config.to_dict()
        for name in ("down_block_types", "up_block_types"):
            check_entries({name: list(raw[name])}, {name: written[name]})
        return config


@dataclass(frozen=True, eq=False)
class Condition:
    """What a UNet is told about one batch of prompts and what stays constant over steps: bound to one network.

    `keys_values` has one (b, heads, l, d) pair per cross-attention layer. Made by `UNet.condition`.
    """

    network: nn.Module = field(repr=False)
    keys_values: tuple[KeysValues, ...] = field(repr=False)

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
        return Condition(conditions[0].network, joined)


class Block(nn.Module):
    """One level on the way down, in the middle or up: resnets, each with its attention and motion module."""

    resnets: nn.ModuleList
    attentions: nn.ModuleList | None
    motion_modules: nn.ModuleList | None

    def __init__(self, widths: Sequence[tuple[int, int]], config: UNetConfig, attention: bool, motion: bool) -> None:
        super().__init__()
        groups, embedding = config.norm_num_groups, 4 * config.block_out_channels[0]
        self.resnets = nn.ModuleList(Resnet(i, o, groups, 1e-5, embedding) for i, o in widths)
        self.attentions = self.motion_modules = None
        if attention:
            self.attentions = nn.ModuleList(
                SpatialTransformer(o, config.num_attention_heads, config.cross_attention_dim, groups) for _, o in widths
            )
        if motion and config.temporal:
            self.motion_modules = nn.ModuleList(MotionModule(o, groups, config.temporal) for _, o in widths)

    def layer(self, j: int, x: Tensor, embedding: Tensor, condition: Condition, frames: int, temporal: bool) -> Tensor:
        x = self.resnets[j](x, embedding)
        if self.attentions is not None:
            x = self.attentions[j](x, condition.keys_values)
        if self.motion_modules is not None and temporal:
            x = self.motion_modules[j](x, frames)
        return x


class DownBlock(Block):
    def __init__(self, widths: Sequence[tuple[int, int]], config: UNetConfig, attention: bool, last: bool) -> None:
        super().__init__(widths, config, attention, motion=True)
        self.downsamplers = None if last else nn.ModuleList([Downsample(widths[-1][1])])

    def forward(self, x: Tensor, *told: Any) -> tuple[Tensor, list[Tensor]]:
        """The output, and the skips: what every layer and the downsampler leave for the way up."""
        skips = []
        for j in range(len(self.resnets)):
            x = self.layer(j, x, *told)
            skips.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)
            skips.append(x)
        return x, skips


class UpBlock(Block):
    def __init__(self, widths: Sequence[tuple[int, int]], config: UNetConfig, attention: bool, last: bool) -> None:
        super().__init__(widths, config, attention, motion=True)
        self.upsamplers = None if last else nn.ModuleList([Upsample(widths[-1][1])])

    def forward(self, x: Tensor, skips: list[Tensor], *told: Any) -> Tensor:
        """Takes one skip a layer, the last one first."""
        for j in range(len(self.resnets)):
            x = self.layer(j, torch.cat([x, skips.pop()], dim=1), *told)
        return x if self.upsamplers is None else self.upsamplers[0](x)


class MidBlock(Block):
    """Resnet, attention, (motion module), resnet: the second resnet stands alone."""

    def __init__(self, width: int, config: UNetConfig) -> None:
        motion = config.temporal is not None and config.temporal.mid_block
        super().__init__([(width, width)], config, attention=True, motion=motion)
        self.resnets.append(Resnet(width, width, config.norm_num_groups, 1e-5, 4 * config.block_out_channels[0]))

    def forward(self, x: Tensor, embedding: Tensor, *told: Any) -> Tensor:
        return self.resnets[1](self.layer(0, x, embedding, *told), embedding)


class UNet(nn.Module):
    """Noise predictor of latent diffusion: z (b c f h w) at training time t -> the same shape.

    State-dict names are diffusers' (UNet2DConditionModel, UNetMotionModel) with linear projections.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, layers, groups = config.block_out_channels, config.layers_per_block, config.norm_num_groups
        levels = len(widths)
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], 4 * widths[0])

        inputs = (widths[0], *widths[:-1])
        self.down_blocks = nn.ModuleList(
            DownBlock([(inputs[i], widths[i]), *[(widths[i], widths[i])] * (layers - 1)], config,
                      config.attention_levels[i], last=i == levels - 1)
            for i in range(levels)
        )  # fmt: skip
        self.mid_block = MidBlock(widths[-1], config)

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
            self.up_blocks.append(UpBlock(pairs, config, config.attention_levels[i], last=i == 0))
        self.conv_norm_out = nn.GroupNorm(groups, widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

        for index, layer in enumerate(self._text_layers()):
            layer.index = index

    def _text_layers(self) -> list[SpatialTransformer]:
        return [m for m in self.modules() if isinstance(m, SpatialTransformer)]

    def condition(self, context: Tensor) -> Condition:
        """Text features (b l d) -> the keys and values of every cross-attention layer, computed once per prompt."""
        if context.ndim != 3 or context.shape[-1] != self.config.cross_attention_dim:
            raise ValueError(
                f"context has shape {tuple(context.shape)}: expected (b, l, {self.config.cross_attention_dim})"
            )
        return Condition(self, tuple(layer.keys_values(context) for layer in self._text_layers()))

    def forward(self, z: Tensor, t: Tensor, condition: Condition, temporal: bool = True) -> Tensor:
        """z (b c f h w), t 0-d or (b,), condition of b rows -> (b c f h w).

        `temporal=False` leaves the motion modules out: the image model that shares these spatial weights.
        """
        if z.ndim != 5 or z.shape[1] != self.config.in_channels or 0 in z.shape:
            raise ValueError(f"z has shape {tuple(z.shape)}: expected (b, {self.config.in_channels}, f, h, w)")
        b, _, frames, h, w = z.shape
        if condition.network is not self:
            raise ValueError("the condition belongs to another network: make it with this network's condition()")
        if len(condition) != b:
            raise ValueError(f"z has {b} rows, the condition {len(condition)}: give one prompt a row")
        multiple = 2 ** (len(self.config.block_out_channels) - 1)
        if h % multiple or w % multiple:
            raise ValueError(f"latents of {h}x{w}: height and width must be multiples of {multiple}")
        if t.shape not in ((), (1,), (b,)):
            raise ValueError(f"t has shape {tuple(t.shape)}: expected () or ({b},)")

        t = t.to(z.device).expand(b)
        features = sinusoid(t, self.config.block_out_channels[0]).to(z.dtype)
        embedding = self.time_embedding(features)                                 # (b, 4 c)

        x = self.conv_in(rearrange(z, "b c f h w -> (b f) c h w"))                # frames are rows from here on
        told = (embedding, condition, frames, temporal)
        skips = [x]
        for down in self.down_blocks:
            x, left = down(x, *told)
            skips += left
        x = self.mid_block(x, *told)
        for up in self.up_blocks:
            x = up(x, skips, *told)
        x = self.conv_out(F.silu(self.conv_norm_out(x)))
        return rearrange(x, "(b f) c h w -> b c f h w", f=frames)
