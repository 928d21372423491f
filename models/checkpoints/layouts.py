"""Other people's names for the same weights: tables from every public layout to diffusers' names, which are ours.

They are written in the rules of `ivmix.models.checkpoints.rules`; what a file holds is found by its keys.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from ivmix.models.checkpoints.measuring_layouts import MEASURING
from ivmix.models.checkpoints.rules import Layout, LayoutError, Rule, drop, same
from ivmix.models.quoting import printable
from ivmix.models.text.t5 import T5Config

# --- UNets ----------------------------------------------------------------------------------------------------------

# SD 1.5 stores the projections around a transformer as 1x1 convolutions, ModelScope's original those over time.
DIFFUSERS_UNET = (
    *same(
        "{conv_in|conv_norm_out|conv_out}.{weight|bias}",
        "{time|fps|add}_embedding.linear_{1|2}.{weight|bias}",
        "{block}.{resnets|temp_convs|motion_modules}.{n}.{rest}",
        "{block}.{down|up}samplers.0.conv.{weight|bias}",
    ),
    *same("{block}.{attentions|temp_attentions}.{n}.{transformer}", "transformer_in.{transformer}", linear=True),
)

RESNET = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2",
    "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip


def resnet(source: str, target: str, leaves: Iterable[str] = RESNET) -> tuple[Rule, ...]:
    leaf = "{weight|bias}"
    return tuple(Rule(f"{source}.{theirs}.{leaf}", f"{target}.{RESNET[theirs]}.{leaf}") for theirs in leaves)


EQUAL_WIDTHS = [theirs for theirs in RESNET if theirs != "skip_connection"]

# LDM counts every layer of a side: input_blocks.0 is conv_in, then two layers and a downsampler a level.
LDM_COMMON = (
    Rule("time_embed.0.{weight|bias}", "time_embedding.linear_1.{weight|bias}"),
    Rule("time_embed.2.{weight|bias}", "time_embedding.linear_2.{weight|bias}"),
    Rule("input_blocks.0.0.{weight|bias}", "conv_in.{weight|bias}"),
    *resnet("input_blocks.{1+3i+j}.0", "down_blocks.{i}.resnets.{j}"),
    Rule("input_blocks.{1+3i+j}.1.{transformer}", "down_blocks.{i}.attentions.{j}.{transformer}", linear=True),
    *resnet("middle_block.0", "mid_block.resnets.0", EQUAL_WIDTHS),
    Rule("middle_block.1.{transformer}", "mid_block.attentions.0.{transformer}", linear=True),
    *resnet("output_blocks.{3i+j}.0", "up_blocks.{i}.resnets.{j}"),
    Rule("output_blocks.{3i+j}.1.{transformer}", "up_blocks.{i}.attentions.{j}.{transformer}", linear=True),
    Rule("output_blocks.{2+3i}.{1|2|3}.conv.{weight|bias}", "up_blocks.{i}.upsamplers.0.conv.{weight|bias}"),
    Rule("out.0.{weight|bias}", "conv_norm_out.{weight|bias}"),
    Rule("out.2.{weight|bias}", "conv_out.{weight|bias}"),
)
LDM_UNET = (
    *LDM_COMMON,
    *resnet("middle_block.2", "mid_block.resnets.1", EQUAL_WIDTHS),
    Rule("input_blocks.{3+3i}.0.op.{weight|bias}", "down_blocks.{i}.downsamplers.0.conv.{weight|bias}"),
    Rule("label_emb.0.0.{weight|bias}", "add_embedding.linear_1.{weight|bias}"),  # SDXL's pooled text and sizes
    Rule("label_emb.0.2.{weight|bias}", "add_embedding.linear_2.{weight|bias}"),
)

# ModelScope and its heir VideoCrafter2: in every resnet a convolution over time, after every attention one over time.
SPACE_TIME = (
    *LDM_COMMON,
    Rule("input_blocks.{1+3i+j}.0.temopral_conv.{rest}", "down_blocks.{i}.temp_convs.{j}.{rest}"),
    Rule("input_blocks.{1+3i+j}.2.{transformer}", "down_blocks.{i}.temp_attentions.{j}.{transformer}", linear=True),
    *resnet("middle_block.3", "mid_block.resnets.1", EQUAL_WIDTHS),
    Rule("middle_block.0.temopral_conv.{rest}", "mid_block.temp_convs.0.{rest}"),
    Rule("middle_block.3.temopral_conv.{rest}", "mid_block.temp_convs.1.{rest}"),
    Rule("middle_block.2.{transformer}", "mid_block.temp_attentions.0.{transformer}", linear=True),
    Rule("output_blocks.{3i+j}.0.temopral_conv.{rest}", "up_blocks.{i}.temp_convs.{j}.{rest}"),
    Rule("output_blocks.{3i+j}.2.{transformer}", "up_blocks.{i}.temp_attentions.{j}.{transformer}", linear=True),
)
MODELSCOPE_UNET = (
    *SPACE_TIME,
    Rule("input_blocks.0.1.{transformer}", "transformer_in.{transformer}", linear=True),
    Rule("input_blocks.{3+3i}.op.{weight|bias}", "down_blocks.{i}.downsamplers.0.conv.{weight|bias}"),
)
VIDEOCRAFTER_UNET = (
    *SPACE_TIME,
    Rule("init_attn.0.{transformer}", "transformer_in.{transformer}", linear=True),
    Rule("input_blocks.{3+3i}.0.op.{weight|bias}", "down_blocks.{i}.downsamplers.0.conv.{weight|bias}"),
    Rule("fps_embedding.0.{weight|bias}", "fps_embedding.linear_1.{weight|bias}"),
    Rule("fps_embedding.2.{weight|bias}", "fps_embedding.linear_2.{weight|bias}"),
)

# --- transformers ---------------------------------------------------------------------------------------------------

DIFFUSERS_DIT = (
    *same(
        "scale_shift_table",
        "{pos_embed.proj|proj_out|adaln_single.linear}.{weight|bias}",
        "{adaln_single.emb.timestep_embedder|caption_projection}.linear_{1|2}.{weight|bias}",
        "{transformer_blocks|temporal_transformer_blocks}.{n}.{rest}",
        # Of models that are told the size of images, which their config says and is refused for.
        "adaln_single.emb.{resolution_embedder|aspect_ratio_embedder}.linear_{1|2}.{weight|bias}",
    ),
    # What stood for no caption in PixArt's training, in files that were converted from its authors': nothing reads it.
    *drop("caption_projection.y_embedding"),
)

# --- AnimateDiff's motion modules -----------------------------------------------------------------------------------

ADAPTER = same("{block}.motion_modules.{n}.{transformer}")


def motion_module(theirs: str, table: str) -> tuple[Rule, ...]:
    """A module as its authors wrote it, under the name `theirs`; `table` is what holds positions."""
    ours = "{block}.motion_modules.{n}"
    block, our_block = f"{theirs}.transformer_blocks.0", f"{ours}.transformer_blocks.0"
    return (
        Rule(f"{theirs}.{{norm|proj_in|proj_out}}.{{weight|bias}}",
             f"{ours}.{{norm|proj_in|proj_out}}.{{weight|bias}}"),
        Rule(f"{block}.attention_blocks.0.to_{{rest}}", f"{our_block}.attn1.to_{{rest}}"),
        Rule(f"{block}.attention_blocks.1.to_{{rest}}", f"{our_block}.attn2.to_{{rest}}"),
        Rule(f"{block}.attention_blocks.{{0|1}}.pos_encoder.{table}", f"{our_block}.pos_embed.pe"),  # one, stored twice
        Rule(f"{block}.norms.0.{{weight|bias}}", f"{our_block}.norm1.{{weight|bias}}"),
        Rule(f"{block}.norms.1.{{weight|bias}}", f"{our_block}.norm2.{{weight|bias}}"),
        Rule(f"{block}.ff_norm.{{weight|bias}}", f"{our_block}.norm3.{{weight|bias}}"),
        Rule(f"{block}.ff.{{rest}}", f"{our_block}.ff.{{rest}}"),
    )  # fmt: skip


ANIMATEDIFF = motion_module("{block}.motion_modules.{n}.temporal_transformer", "pe")
HOTSHOT = motion_module("{block}.temporal_attentions.{n}", "positional_encoding")

# --- VAEs -----------------------------------------------------------------------------------------------------------

_CODER, _ATTENTION = "{encoder|decoder}", "{encoder|decoder}.mid_block.attentions.0"
VAE_COMMON = same(
    "{quant_conv|post_quant_conv}.{weight|bias}",
    f"{_CODER}.{{conv_in|conv_out}}.{{weight|bias}}",
)
DIFFUSERS_VAE_COMMON = (
    *VAE_COMMON,
    *same(
        f"{_CODER}.conv_norm_out.{{weight|bias}}",
        f"{_CODER}.{{block}}.resnets.{{n}}.{{resnet}}",
        f"{_CODER}.{{block}}.resnets.{{n}}.conv_shortcut.{{weight|bias}}",
        f"{_CODER}.{{block}}.{{down|up}}samplers.0.conv.{{weight|bias}}",
        f"{_ATTENTION}.group_norm.{{weight|bias}}",
    ),
)
DIFFUSERS_VAE = (
    *DIFFUSERS_VAE_COMMON,
    *same(f"{_ATTENTION}.{{to_q|to_k|to_v|to_out.0}}.{{weight|bias}}", linear=True),
)
OLD_VAE = (
    *DIFFUSERS_VAE_COMMON,
    *(Rule(f"{_ATTENTION}.{theirs}.{{weight|bias}}", f"{_ATTENTION}.{ours}.{{weight|bias}}", linear=True)
      for theirs, ours in {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}.items()),
)  # fmt: skip
LDM_VAE = (
    *VAE_COMMON,
    Rule("encoder.down.{i}.block.{j}.{resnet}", "encoder.down_blocks.{i}.resnets.{j}.{resnet}"),
    Rule("encoder.down.{i}.block.{j}.nin_shortcut.{weight|bias}",
         "encoder.down_blocks.{i}.resnets.{j}.conv_shortcut.{weight|bias}"),
    Rule("encoder.down.{i}.downsample.conv.{weight|bias}",
         "encoder.down_blocks.{i}.downsamplers.0.conv.{weight|bias}"),
    Rule("decoder.up.{3-i}.block.{j}.{resnet}", "decoder.up_blocks.{i}.resnets.{j}.{resnet}"),  # counted from the end
    Rule("decoder.up.{3-i}.block.{j}.nin_shortcut.{weight|bias}",
         "decoder.up_blocks.{i}.resnets.{j}.conv_shortcut.{weight|bias}"),
    Rule("decoder.up.{3-i}.upsample.conv.{weight|bias}", "decoder.up_blocks.{i}.upsamplers.0.conv.{weight|bias}"),
    Rule(f"{_CODER}.mid.block_{{1+j}}.{{resnet}}", f"{_CODER}.mid_block.resnets.{{j}}.{{resnet}}"),
    Rule(f"{_CODER}.mid.attn_1.norm.{{weight|bias}}", f"{_ATTENTION}.group_norm.{{weight|bias}}"),
    Rule(f"{_CODER}.mid.attn_1.{{q|k|v}}.{{weight|bias}}", f"{_ATTENTION}.to_{{q|k|v}}.{{weight|bias}}", linear=True),
    Rule(f"{_CODER}.mid.attn_1.proj_out.{{weight|bias}}", f"{_ATTENTION}.to_out.0.{{weight|bias}}", linear=True),
    Rule(f"{_CODER}.norm_out.{{weight|bias}}", f"{_CODER}.conv_norm_out.{{weight|bias}}"),
    *drop("loss.{rest}"),
)  # fmt: skip

# --- text encoders --------------------------------------------------------------------------------------------------

_TEXT = ("embeddings.{token|position}_embedding.weight", "encoder.layers.{n}.{rest}", "final_layer_norm.{weight|bias}")
TRANSFORMERS_TEXT = (
    *same(*(f"text_model.{key}" for key in _TEXT)),
    *drop(
        "text_model.embeddings.position_ids",  # 0, 1, 2, …: written before transformers 4.31
        "vision_model.{rest}", "{text|visual}_projection.weight", "logit_scale",  # the rest of a whole CLIP
    ),
)
BARE_TEXT = (  # transformers 5, and single files that were merged by tools
    *(Rule(key, f"text_model.{key}") for key in _TEXT),
    *drop("embeddings.position_ids"),
)
PROJECTED_TEXT = (
    *same(*(f"text_model.{key}" for key in _TEXT), "text_projection.weight"),
    *drop("text_model.embeddings.position_ids"),
)


def open_clip(layers: str) -> tuple[Rule, ...]:
    """open_clip's text tower, of whose layers these are used."""
    theirs, ours = f"transformer.resblocks.{layers}", f"text_model.encoder.layers.{layers}"
    return (
        Rule("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
        Rule("positional_embedding", "text_model.embeddings.position_embedding.weight"),
        Rule(f"{theirs}.ln_{{1|2}}.{{weight|bias}}", f"{ours}.layer_norm{{1|2}}.{{weight|bias}}"),
        Rule(f"{theirs}.attn.in_proj_{{weight|bias}}", f"{ours}.self_attn.{{q,k,v}}_proj.{{weight|bias}}"),
        Rule(f"{theirs}.attn.out_proj.{{weight|bias}}", f"{ours}.self_attn.out_proj.{{weight|bias}}"),
        Rule(f"{theirs}.mlp.c_fc.{{weight|bias}}", f"{ours}.mlp.fc1.{{weight|bias}}"),
        Rule(f"{theirs}.mlp.c_proj.{{weight|bias}}", f"{ours}.mlp.fc2.{{weight|bias}}"),
        Rule("ln_final.{weight|bias}", "text_model.final_layer_norm.{weight|bias}"),
    )


OPEN_CLIP_TEXT = (
    *open_clip("{all but 23}"),
    # ViT-H's last layer is not used: the models here were trained on what leaves the last but one.
    *drop("transformer.resblocks.23.{rest}"),
    *drop("{text_projection|logit_scale|attn_mask}", "visual.{rest}"),  # the rest of a whole CLIP; next, of OpenAI's
    *drop("{input_resolution|context_length|vocab_size}"),
)
OPEN_CLIP_PROJECTED = (
    *open_clip("{n}"),
    Rule("text_projection", "text_projection.weight", transposed=True),
    *drop("logit_scale"),
)

_T5_ATTENTION = "encoder.block.0.layer.0.SelfAttention"
T5_TEXT = (
    *same("shared.weight", "encoder.block.{n}.layer.{0|1}.{rest}", "encoder.final_layer_norm.weight"),
    Rule("encoder.embed_tokens.weight", "shared.weight"),  # the same embeddings, which some files hold twice
    *drop("{decoder|lm_head}.{rest}"),  # the rest of a whole T5
)

# --- files ----------------------------------------------------------------------------------------------------------

AUTHORS = "AnimateDiff motion module"
THEIRS = (AUTHORS, "Hotshot-XL motion module")  # motion modules as their authors wrote them
LAYOUTS = (
    Layout("diffusers UNet", "unet", "conv_in.weight", DIFFUSERS_UNET),
    Layout("LDM UNet", "unet", "middle_block.2.in_layers.0.weight", LDM_UNET),
    Layout("ModelScope UNet", "unet", "input_blocks.0.1.norm.weight", MODELSCOPE_UNET),
    Layout("VideoCrafter2 UNet", "unet", "init_attn.0.norm.weight", VIDEOCRAFTER_UNET),
    Layout("diffusers transformer", "transformer", "adaln_single.linear.weight", DIFFUSERS_DIT),
    Layout("diffusers MotionAdapter", "motion", "down_blocks.0.motion_modules.0.norm.weight", ADAPTER),
    Layout(THEIRS[0], "motion", "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight", ANIMATEDIFF),
    Layout(THEIRS[1], "motion", "down_blocks.0.temporal_attentions.0.norm.weight", HOTSHOT),
    Layout("diffusers VAE", "vae", "decoder.mid_block.attentions.0.to_q.weight", DIFFUSERS_VAE),
    Layout("diffusers VAE, old names", "vae", "decoder.mid_block.attentions.0.query.weight", OLD_VAE),
    Layout("LDM VAE", "vae", "decoder.mid.attn_1.q.weight", LDM_VAE),
    Layout("transformers text", "text_encoder", "text_model.embeddings.token_embedding.weight", TRANSFORMERS_TEXT),
    Layout("transformers text, no prefix", "text_encoder", "embeddings.token_embedding.weight", BARE_TEXT),
    Layout("open_clip text", "text_encoder", "token_embedding.weight", OPEN_CLIP_TEXT),
    Layout("T5 text", "text_encoder", f"{_T5_ATTENTION}.relative_attention_bias.weight", T5_TEXT, T5Config),
    Layout("transformers text, projected", "text_encoder_2", "text_projection.weight", PROJECTED_TEXT),
    Layout("open_clip text, projected", "text_encoder_2", "text_projection", OPEN_CLIP_PROJECTED),
    *MEASURING,
)  # fmt: skip

# A file with several parts puts one of these before the keys of each; the last tells which of two encoders it is.
PREFIXES = {
    "model.diffusion_model.": "", "first_stage_model.": "", "cond_stage_model.transformer.": "",
    "cond_stage_model.model.": "", "conditioner.embedders.0.transformer.": "",
    "conditioner.embedders.1.model.": "text_encoder_2",
}  # fmt: skip
EXTRAS = drop(  # what a file may hold besides, dropped on purpose
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "{sqrt|sqrt_one_minus|log_one_minus}_alphas_cumprod",
    "{sqrt_recip|sqrt_recipm1}_alphas_cumprod", "posterior_{variance|log_variance_clipped|mean_coef1|mean_coef2}",
    "scale_arr", "logvar", "model_ema.{rest}", "{control_model|adapter}.{rest}",
    "embedding_manager.{rest}", "denoiser.{sigmas|log_sigmas}", "cond_stage_model.logit_scale",  # merges' and trainers'
    "{v_pred|ztsnr}",  # empty: they say what the model predicts, and of its schedule
)  # fmt: skip
STRANGERS = {  # motion modules that read more than noise: how other keys of their files begin
    "conv_in.": "PIA, which continues a given image",
    "img_encoder.": "AnimateLCM-I2V, which continues a given image",
}


@dataclass(frozen=True)
class Found:
    """A part of a file: the layout its keys are in, and the prefix they stand behind."""

    layout: Layout
    prefix: str
    keys: tuple[str, ...]  # with the prefix

    def take(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This part of the file's state, under our names."""
        return self.layout.convert({key.removeprefix(self.prefix): state[key] for key in self.keys})


def find(keys: Collection[str], own: Sequence[Layout] = (), wanted: str = "") -> dict[str, Found]:
    """The parts of a file by name; `own` are layouts beside the public ones. A file of one part, which several layouts
    may know, is taken for the part that is `wanted` if it may be that.

    Raises LayoutError, with the nearest layout and the first keys unknown to it.
    """
    behind: dict[str, list[str]] = {}
    for key in keys:
        behind.setdefault(next((prefix for prefix in PREFIXES if key.startswith(prefix)), ""), []).append(key)
    alone = [key for key in behind.pop("", []) if not _is_extra(key)]
    if behind:
        _check_known("a single file of several parts", len(keys), alone)
    elif alone:
        behind[""] = alone
    parts: dict[str, Found] = {}
    for prefix, members in behind.items():
        layout = detect([key.removeprefix(prefix) for key in members], prefix, own, PREFIXES.get(prefix, wanted))
        if layout.part in parts:
            raise LayoutError(f"two parts are a {layout.part}, behind {parts[layout.part].prefix!r} and {prefix!r}")
        parts[layout.part] = Found(layout, prefix, tuple(members))
    return parts


def of_xl(parts: Mapping[str, Found]) -> bool:
    """Whether a file is of an SDXL, as its second text encoder tells, or a UNet that reads pooled text."""
    unet = parts.get("unet")
    told = () if unet is None else unet.layout.sources("add_embedding.linear_1.weight")
    return "text_encoder_2" in parts or any(unet is not None and unet.prefix + key in unet.keys for key in told)


def detect(keys: Collection[str], prefix: str = "", own: Sequence[Layout] = (), wanted: str = "") -> Layout:
    """The layout that knows every one of `keys`, of the part that is `wanted` if one may be. Raises LayoutError."""
    if "conv_out.weight" not in keys and any(".motion_modules." in key for key in keys):
        for start, kind in STRANGERS.items():
            if any(key.startswith(start) for key in keys):
                raise LayoutError(f"its {start}* says that it holds motion modules of {kind}: not supported")
    layouts = (*own, *LAYOUTS)  # the first of those that know as many keys
    anchored = [layout for layout in layouts if layout.anchor in keys]
    anchored = [layout for layout in anchored if layout.part == wanted] or anchored
    nearest, *others = anchored or layouts
    if others:
        sample = list(islice(keys, 500))  # enough to tell
        nearest = max(nearest, *others, key=lambda layout: sum(layout.look_up(key) is not None for key in sample))
    _check_known(nearest.name, len(keys), [prefix + key for key in keys if nearest.look_up(key) is None])
    if not anchored:
        raise LayoutError(f"nearest layout {nearest.name}, but the key {prefix + nearest.anchor!r} is missing")
    return nearest


def _is_extra(key: str) -> bool:
    return any(rule.targets(key) is not None for rule in EXTRAS)


def _check_known(name: str, total: int, unknown: list[str], shown: int = 5) -> None:
    if unknown:
        first = ", ".join(printable(key, 100) for key in unknown[:shown])
        raise LayoutError(f"nearest layout {name}, which knows {total - len(unknown)} of {total} keys, not: {first}")
