"""A network's config from the shapes of its weights, under our names, for files that come without a config.json.

Shapes tell widths, levels and layers. What they cannot tell (heads, norm groups, the activation) is taken from the
public model with these sizes; where none is known, the caller must give a config.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ivmix.models.dit.config import DiTConfig
from ivmix.models.text.clip import CLIPTextConfig
from ivmix.models.text.t5 import T5Config
from ivmix.models.unet.config import SIZES, TextTimeConfig, UNetConfig
from ivmix.models.unet.temporal import TABLE, MotionConfig, SpaceTimeConfig
from ivmix.models.vae import VAEConfig

Shapes = Mapping[str, tuple[int, ...]]
GROUPS = 32  # of every group norm in every public model here


def count(shapes: Shapes, key: str) -> int:
    """How many of `key.format(0)`, `key.format(1)`, … there are before one is missing."""
    n = 0
    while key.format(n) in shapes:
        n += 1
    return n


def first(shapes: Shapes, key: str, of: int) -> tuple[int, ...]:
    """`shapes[key.format(i)][0]` for i < of: output widths."""
    return tuple(shapes[key.format(i)][0] for i in range(of))


def unet(shapes: Shapes) -> UNetConfig:
    """Heads: 8 where the text has 768 channels (Stable Diffusion 1), 64 channels a head where it has 1024 or SDXL's
    2048. Sizes of an image have 256 channels each."""
    levels = count(shapes, "down_blocks.{}.resnets.0.conv2.weight")
    widths = first(shapes, "down_blocks.{}.resnets.0.conv2.weight", levels)
    check_groups(widths)
    context = shapes["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"][1]
    if context not in (768, 1024, 2048):
        raise ValueError(f"text of {context} channels does not tell the number of heads")
    heads: int | tuple[int, ...] = 8 if context == 768 else tuple(width // 64 for width in widths)
    blocks = "down_blocks.{}.attentions.0.transformer_blocks.{{}}.norm1.weight"
    added = shapes.get("add_embedding.linear_1.weight")
    return UNetConfig(
        in_channels=shapes["conv_in.weight"][1],
        out_channels=shapes["conv_out.weight"][0],
        block_out_channels=widths,
        attention_levels=tuple(f"down_blocks.{i}.attentions.0.norm.weight" in shapes for i in range(levels)),
        layers_per_block=count(shapes, "down_blocks.0.resnets.{}.conv1.weight"),
        cross_attention_dim=context,
        num_attention_heads=heads,
        temporal=temporal(shapes),
        transformer_depth=tuple(max(count(shapes, blocks.format(i)), 1) for i in range(levels)),
        text_time=None if added is None else TextTimeConfig(added[1] - SIZES * TextTimeConfig.size_channels),
    )


def temporal(shapes: Shapes) -> MotionConfig | SpaceTimeConfig | None:
    if "transformer_in.norm.weight" in shapes:
        return SpaceTimeConfig(fps="fps_embedding.linear_1.weight" in shapes)
    return motion(shapes) if is_motion(shapes) else None


def is_motion(shapes: Shapes) -> bool:
    return any(".motion_modules." in key for key in shapes)


def motion(shapes: Shapes) -> MotionConfig:
    """v1 knows 24 frames, v2 and v3 know 32, AnimateLCM, whose files leave the tables out, 64; v2 and AnimateLCM have a
    module in the middle; 8 heads throughout."""
    stored = any(key.endswith(TABLE) for key in shapes)
    frames = shapes[f"down_blocks.0.motion_modules.0.transformer_blocks.0{TABLE}"][1] if stored else 64
    return MotionConfig(8, frames, any(key.startswith("mid_block.motion_modules.") for key in shapes))


def for_xl(shapes: Shapes) -> bool:
    """Whether motion modules are for SDXL, whose UNet has three levels."""
    return count(shapes, "down_blocks.{}.motion_modules.0.norm.weight") == 3


def around(shapes: Shapes) -> UNetConfig:
    """A UNet that motion modules fit into, as far as they tell; its text and heads are Stable Diffusion 1's."""
    levels = count(shapes, "down_blocks.{}.motion_modules.0.norm.weight")
    return UNetConfig(
        block_out_channels=first(shapes, "down_blocks.{}.motion_modules.0.norm.weight", levels),
        attention_levels=(False,) * levels,
        layers_per_block=count(shapes, "down_blocks.0.motion_modules.{}.norm.weight"),
        temporal=motion(shapes),
    )


def dit(shapes: Shapes) -> DiTConfig:
    """Heads, latents and frames: Latte-1's, where the blocks over frames have 1152 channels. An image model's latents
    no shape tells: PixArt-alpha's at 256x256 and at 512x512 have the same."""
    width, channels, patch, _ = shapes["pos_embed.proj.weight"]
    if width != 1152:
        raise ValueError(f"a transformer of {width} channels does not tell the number of heads")
    if "temporal_transformer_blocks.0.scale_shift_table" not in shapes:
        raise ValueError("no weight tells the size of the images it was trained on")
    return DiTConfig(
        in_channels=channels,
        out_channels=shapes["proj_out.bias"][0] // patch**2,
        patch_size=patch,
        num_layers=count(shapes, "transformer_blocks.{}.scale_shift_table"),
        caption_channels=shapes["caption_projection.linear_1.weight"][1],
        temporal=16,
    )


def vae(shapes: Shapes, scaling_factor: float = VAEConfig.scaling_factor) -> VAEConfig:
    """The scaling factor is Stable Diffusion 1's and 2's unless it is given: no weight tells it."""
    levels = count(shapes, "encoder.down_blocks.{}.resnets.0.conv2.weight")
    widths = first(shapes, "encoder.down_blocks.{}.resnets.0.conv2.weight", levels)
    check_groups(widths)
    return VAEConfig(
        in_channels=shapes["encoder.conv_in.weight"][1],
        out_channels=shapes["decoder.conv_out.weight"][0],
        latent_channels=shapes["decoder.conv_in.weight"][1],
        block_out_channels=widths,
        layers_per_block=count(shapes, "encoder.down_blocks.0.resnets.{}.conv1.weight"),
        scaling_factor=scaling_factor,
    )


def text(shapes: Shapes) -> CLIPTextConfig:
    """ViT-L/14 has 768 channels and the quick gelu, ViT-H/14 has 1024 and ViT-bigG/14 1280 and the exact one; heads
    have 64 channels."""
    vocabulary, width = shapes["text_model.embeddings.token_embedding.weight"]
    if width not in (768, 1024, 1280):
        raise ValueError(f"a text encoder of {width} channels is none of ViT-L/14, ViT-H/14 and ViT-bigG/14")
    projection = shapes.get("text_projection.weight")
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=shapes["text_model.encoder.layers.0.mlp.fc1.weight"][0],
        num_hidden_layers=count(shapes, "text_model.encoder.layers.{}.mlp.fc1.weight"),
        num_attention_heads=width // 64,
        max_position_embeddings=shapes["text_model.embeddings.position_embedding.weight"][0],
        hidden_act="quick_gelu" if width == 768 else "gelu",
        projection_dim=None if projection is None else projection[0],
    )


def t5(shapes: Shapes) -> T5Config:
    """The farthest distance and the norms' epsilon are those of every public T5."""
    attention, gate = "encoder.block.0.layer.0.SelfAttention.{}.weight", "encoder.block.0.layer.1.DenseReluDense.wi_0"
    vocabulary, width = shapes["shared.weight"]
    buckets, heads = shapes[attention.format("relative_attention_bias")]
    return T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=shapes[attention.format("q")][0] // heads,
        d_ff=shapes[f"{gate}.weight"][0],
        num_layers=count(shapes, "encoder.block.{}.layer.0.layer_norm.weight"),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
    )


TELL: dict[Any, Callable[[Shapes], Any]] = {T5Config: t5}  # by the config that a layout has to itself


def check_groups(widths: tuple[int, ...]) -> None:
    if any(width % GROUPS for width in widths):
        raise ValueError(f"levels of {widths} channels do not tell the groups of their norms")
