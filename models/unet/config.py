"""The sizes of a UNet, as its weights have them and as a public config.json says them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ivmix.models.config import check_config, check_entries, one_number
from ivmix.models.unet.temporal import MotionConfig, SpaceTimeConfig

if TYPE_CHECKING:
    from ivmix.models.unet.unet import UNet

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
    "reverse_transformer_layers_per_block": None,
    "transformer_layers_per_mid_block": None,
    "encoder_hid_dim_type": None,
}
# The classes whose config.json this reads. The last two are how VideoCrafter2 was ported to diffusers, by names of the
# port's own: UNet3DConditionModel with an fps embedding, unless the entry `fps_cond` is false.
PORTS = ("UNetVideoCrafter", "UNet3DVideoCrafterConditionModel")
KINDS = ("UNet2DConditionModel", "UNetMotionModel", "UNet3DConditionModel", *PORTS)


SIZES = 6  # numbers that a network with `TextTimeConfig` is told of an image: before a crop, its corner, after it


@dataclass(frozen=True)
class TextTimeConfig:
    """SDXL's additions to the time embedding (arXiv 2307.01952, section 2.2): pooled text of `pooled_dim` channels, and
    six sizes of an image, a sinusoid of `size_channels` each."""

    pooled_dim: int = 1280
    size_channels: int = 256

    def __post_init__(self) -> None:
        check_config(self)

    @property
    def features(self) -> int:
        """Channels of all of them together, 2816 in SDXL."""
        return self.pooled_dim + SIZES * self.size_channels


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a UNet; the defaults are Stable Diffusion 1.5, `temporal=MotionConfig()` makes it AnimateDiff v3.

    Per-level tuples run from fine to coarse. `num_attention_heads` counts heads, once for all levels or level by level;
    so does `transformer_depth` the blocks of a spatial transformer.
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
    transformer_depth: int | tuple[int, ...] = 1
    text_time: TextTimeConfig | None = None

    def __post_init__(self) -> None:
        check_config(self)
        levels = len(self.block_out_channels)
        for name in ("num_attention_heads", "transformer_depth"):
            values = getattr(self, name)
            if isinstance(values, tuple) and len(set(values)) == 1 and len(values) == levels:
                object.__setattr__(self, name, values[0])  # one way to say it: equal configs compare equal
        for name, values in (
            ("attention_levels", self.attention_levels), ("num_attention_heads", self.heads),
            ("transformer_depth", self.depths),
        ):  # fmt: skip
            if len(values) != levels:
                raise ValueError(
                    f"{name} has {len(values)} entries, block_out_channels {levels}: one of each per level"
                )
        if isinstance(self.temporal, SpaceTimeConfig):
            self.head_width()

    @property
    def network(self) -> "type[UNet]":
        """The class of networks that this describes; a subclass of both is another architecture."""
        from ivmix.models.unet.unet import UNet  # which imports this module

        return UNet

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads level by level."""
        return self._per_level(self.num_attention_heads)

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks of a spatial transformer level by level; the middle has the last level's."""
        return self._per_level(self.transformer_depth)

    def _per_level(self, entry: int | tuple[int, ...]) -> tuple[int, ...]:
        return entry if isinstance(entry, tuple) else (entry,) * len(self.block_out_channels)

    @property
    def max_frames(self) -> int | None:
        """The longest video the temporal layers know positions for; None: any length."""
        return self.temporal.max_frames if isinstance(self.temporal, MotionConfig) else None

    @property
    def multiple(self) -> int:
        """What the height and width of latents are multiples of."""
        return int(2 ** (len(self.block_out_channels) - 1))

    @property
    def tokens(self) -> int:
        """Of text, that it was trained with."""
        return 77

    @property
    def context_dim(self) -> int:
        """Channels of the text features."""
        return self.cross_attention_dim

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
        more: dict[str, Any] = {}
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
        if self.transformer_depth != 1:
            more["transformer_layers_per_block"] = list(self.depths)
        if self.text_time is not None:
            more |= {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": self.text_time.size_channels,
                "projection_class_embeddings_input_dim": self.text_time.features,
            }
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
        } | own | more

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
            transformer_depth=per_level(raw.get("transformer_layers_per_block", 1)),
            text_time=read_text_time(raw),
        )
        written = config.to_dict()
        for name in ("down_block_types", "up_block_types"):
            check_entries({name: list(raw[name])}, {name: written[name]})
        return config


def per_level(entry: int | Sequence[int]) -> int | tuple[int, ...]:
    return entry if isinstance(entry, int) else tuple(entry)


def read_text_time(raw: Mapping[str, Any]) -> TextTimeConfig | None:
    """SDXL's entries of a config.json; None where there are none."""
    kind = raw.get("addition_embed_type")
    if kind is None:
        return None
    check_entries(raw, {"addition_embed_type": "text_time"})
    channels = raw["addition_time_embed_dim"]
    return TextTimeConfig(raw["projection_class_embeddings_input_dim"] - SIZES * channels, channels)
