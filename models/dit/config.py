"""The sizes of a diffusion transformer, as its weights have them and as a public config.json says them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ivmix.models.config import check_config, check_entries

if TYPE_CHECKING:
    from ivmix.models.dit.dit import DiT

# Entries of a config.json that change what a transformer computes but no key or shape of its weights.
FIXED_ENTRIES = {
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_type": "default",
    "double_self_attention": False,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "norm_type": "ada_norm_single",
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "upcast_attention": False,
    "use_linear_projection": False,
}
# Those that have other defaults in one of the classes: they have to be there.
WRITTEN = ("activation_fn", "attention_bias", "norm_elementwise_affine", "norm_eps", "norm_type")
IMAGE, VIDEO = "PixArtTransformer2DModel", "LatteTransformer3DModel"
KINDS = (IMAGE, VIDEO, "Transformer2DModel")  # the last is what PixArt's class was called when its files were written
TOLD_SIZES = 128  # of latents: diffusers tells those that were trained on larger images their size, unless it is said
REFERENCE = 64  # of latents: positions of larger ones are drawn together to this size's, unless it is said


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of a transformer; the defaults are PixArt-alpha XL/2 at 512x512, `temporal=16` makes it Latte-1.

    `sample_size` is the side of the latents it was trained on: positions of their patches are 1/`interpolation_scale`
    apart, and those of other sizes run over the same range. `temporal` is the number of frames that its temporal blocks
    know, None for an image model. What it gives besides noise (`out_channels` twice `in_channels`: a variance) is
    dropped.
    """

    in_channels: int = 4
    out_channels: int = 8
    patch_size: int = 2
    num_layers: int = 28
    num_attention_heads: int = 16
    attention_head_dim: int = 72
    caption_channels: int = 4096
    sample_size: int = 64
    interpolation_scale: float = 1
    temporal: int | None = None

    def __post_init__(self) -> None:
        check_config(self)
        if self.out_channels not in (self.in_channels, 2 * self.in_channels):
            raise ValueError(
                f"out_channels is {self.out_channels}, expected {self.in_channels} (noise) or {2 * self.in_channels} "
                "(noise and its variance)"
            )
        if self.width % 4:
            raise ValueError(f"{self.width} channels do not hold sines and cosines of two positions: give 4 times more")
        if self.sample_size < self.patch_size:
            raise ValueError(f"patch_size is {self.patch_size}, but sample_size {self.sample_size}")

    @property
    def network(self) -> "type[DiT]":
        """The class of networks that this describes."""
        from ivmix.models.dit.dit import DiT  # which imports this module

        return DiT

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def base_size(self) -> int:
        """Patches along a side of the latents it was trained on."""
        return self.sample_size // self.patch_size

    @property
    def max_frames(self) -> int | None:
        """The longest video the temporal blocks know positions for; None: any length."""
        return self.temporal

    @property
    def multiple(self) -> int:
        """What the height and width of latents are multiples of."""
        return self.patch_size

    @property
    def tokens(self) -> int:
        """Of text, that it was trained with."""
        return 120

    @property
    def context_dim(self) -> int:
        """Channels of the text features."""
        return self.caption_channels

    def to_dict(self) -> dict[str, Any]:
        """The config.json diffusers writes for the same network."""
        own: dict[str, Any] = {"_class_name": VIDEO, "video_length": self.temporal}
        if self.temporal is None:
            own = {
                "_class_name": IMAGE, "interpolation_scale": self.interpolation_scale,
                "use_additional_conditions": False,
            }  # fmt: skip
        elif self.interpolation_scale != drawn_together(self.sample_size):  # which diffusers' class has no word for
            own["interpolation_scale"] = self.interpolation_scale
        return own | {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "patch_size": self.patch_size,
            "num_layers": self.num_layers,
            "num_attention_heads": self.num_attention_heads,
            "attention_head_dim": self.attention_head_dim,
            "cross_attention_dim": self.width,
            "caption_channels": self.caption_channels,
            "sample_size": self.sample_size,
            "num_embeds_ada_norm": 1000,
        } | {name: FIXED_ENTRIES[name] for name in WRITTEN}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "DiTConfig":
        """Reads a public config.json. Raises KeyError naming what is missing, ValueError for another architecture."""
        kind = raw["_class_name"]
        if kind not in KINDS:
            raise ValueError(f"config _class_name {kind!r}: expected one of {', '.join(KINDS)}")
        check_entries(dict(raw) | {name: raw[name] for name in WRITTEN}, FIXED_ENTRIES)
        size = raw["sample_size"]
        told = raw.get("use_additional_conditions")
        if told or (told is None and kind != VIDEO and size == TOLD_SIZES):
            raise ValueError(
                "its network is told the size and aspect of images (use_additional_conditions, which a sample_size of "
                f"{TOLD_SIZES} means without that entry): not supported, expected a model that is told none, such as "
                "PixArt-alpha/PixArt-XL-2-512x512"
            )
        scale = raw.get("interpolation_scale")
        config = cls(
            in_channels=raw["in_channels"],
            out_channels=raw["in_channels"] if raw["out_channels"] is None else raw["out_channels"],
            patch_size=raw["patch_size"],
            num_layers=raw["num_layers"],
            num_attention_heads=raw["num_attention_heads"],
            attention_head_dim=raw["attention_head_dim"],
            caption_channels=raw["caption_channels"],
            sample_size=size,
            interpolation_scale=1 if scale is None else scale,
            temporal=raw["video_length"] if kind == VIDEO else None,
        )
        check_entries({"cross_attention_dim": raw["cross_attention_dim"]}, {"cross_attention_dim": config.width})
        return replace(config, interpolation_scale=drawn_together(config.sample_size)) if scale is None else config


def drawn_together(sample_size: int) -> int:
    """How much closer positions lie than patches where a config does not say, as diffusers has it."""
    return max(sample_size // REFERENCE, 1)
