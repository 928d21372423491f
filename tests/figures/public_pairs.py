"""Public pairs run as a user types them, on random weights in the public files: their layouts, keys, sizes and types.

    python tests/figures/public_pairs.py                      # every case, full size: 13 GB of memory, 10 GB of disk
    python tests/figures/public_pairs.py modelscope --small   # narrower networks under the same keys: seconds

Each case writes its files to a temporary folder, those that a hub serves into a hub's cache there, runs `ivmix sample`
on them without a network, and is one row of a table: what it cost. `--write FOLDER` leaves the files instead.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ivmix.models.unet.temporal import frame_positions

MANIFESTS = Path(__file__).parent.parent / "data" / "manifests"
Shapes = dict[str, tuple[int, ...]]

# --- weights --------------------------------------------------------------------------------------------------------


def manifest(name: str) -> Shapes:
    def flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, tuple[int, ...]]]:
        for key, node in tree.items():
            if isinstance(node, dict):
                yield from flatten(node, f"{prefix}{key}.")
            else:
                yield prefix + key, tuple(node)

    return dict(flatten(json.loads((MANIFESTS / f"{name}.json").read_text())["keys"]))


VOCABULARY = {False: 49408, True: 1024}
TEXTS = {49408: 1024, 3072: 96, 4096: 128}  # ViT-L/14 and ViT-H/14: their width tells which is which, so it stays
TEXT_BIGG = {49408: 1024, 5120: 160}
SPACE_TIME = {320 * k: 64 * k for k in range(1, 33)}  # heads of 64 channels, so no fewer
DIT = {1152: 48, 6912: 288, 4608: 192, 4096: 64}
WIDTHS: dict[str, dict[int, int]] = {
    "sd15_unet": {320 * k: 32 * k for k in range(1, 33)},
    "sd15_vae": {128: 32, 256: 64, 512: 128},
    "clip_l": TEXTS,
    "clip_h": {n: m for n, m in TEXTS.items() if n != 3072},  # its fused q, k, v have 3072 rows
    "openclip_bigg": TEXT_BIGG,
    "sdxl_unet": SPACE_TIME,
    "animatediff_sdxl": SPACE_TIME,
    "hotshot_xl": SPACE_TIME,
    "animatediff": {320 * k: 32 * k for k in range(1, 33)},
    "lora_lcm_sd15": {320 * k: 32 * k for k in range(1, 33)},
    "modelscope": SPACE_TIME,
    "videocrafter2_unet": SPACE_TIME,
    "t5": {4096: 64, 10240: 96, 64: 4},
    "latte1": DIT,
    "pixart": DIT,
}
LAYERS = {  # what is left out of small ones
    "clip": [f"{stem}.{n}." for stem in ("layers", "resblocks") for n in range(2, 23)],  # ViT-H's 24th nobody reads
    "openclip": [f"{stem}.{n}." for stem in ("layers", "resblocks") for n in range(2, 32)],
    "t5": [f"block.{n}." for n in range(2, 24)],
    "latte1": [f"transformer_blocks.{n}." for n in range(2, 28)],
    "pixart": [f"transformer_blocks.{n}." for n in range(2, 28)],
}


def shapes_of(name: str, small: bool) -> Shapes:
    """A published file's keys and shapes; `small`: narrower, text encoders and transformers of two layers."""
    shapes = manifest(name)
    if not small:
        return shapes
    widths = next((table for part, table in WIDTHS.items() if name.startswith(part)), {})
    dropped = next((stems for part, stems in LAYERS.items() if name.startswith(part)), [])
    return {
        key: tuple(widths.get(n, n) for n in shape)
        for key, shape in shapes.items()
        if not any(stem in key for stem in dropped)
    }


def draw(shapes: Shapes, dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
    """Unit variance through every layer: what comes out is finite, and far from zero."""
    generator = torch.Generator().manual_seed(seed)

    def tensor(key: str, shape: tuple[int, ...]) -> Tensor:
        if key.endswith("position_ids"):
            return torch.arange(shape[-1]).reshape(shape)
        if key.endswith(".alpha"):
            return torch.tensor(8.0, dtype=dtype)
        if key.endswith((".pe", ".positional_encoding")):
            return frame_positions(*shape[1:]).reshape(shape).to(dtype)
        if len(shape) < 2:
            return torch.full(shape, float(key.endswith("weight")), dtype=dtype)
        values = torch.randn(shape, generator=generator)
        return values.div_(max(1, values[0].numel()) ** 0.5).to(dtype)

    state = {key: tensor(key, shape) for key, shape in shapes.items()}
    twins = {"encoder.embed_tokens.weight": "shared.weight"}  # one weight, which T5's files hold twice
    return state | {one: state[other].clone() for one, other in twins.items() if one in state}


# --- files ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    """One file of weights: the manifests it holds, and the config.json beside it."""

    path: str
    manifests: tuple[str, ...]
    dtype: torch.dtype = torch.float16
    config: dict[str, Any] | None = None
    wrapped: bool = False  # under "state_dict", as trainers write it
    renamed: tuple[str, str] = ("", "")  # what stands in place of another beginning
    besides: tuple[tuple[str, tuple[int, ...]], ...] = ()  # what it holds that no manifest has

    def write(self, root: Path, small: bool) -> None:
        path = root / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        shapes = {key: shape for name in self.manifests for key, shape in shapes_of(name, small).items()}
        shapes = {key.replace(*self.renamed, 1): shape for key, shape in shapes.items()} | dict(self.besides)
        state = draw(shapes, self.dtype, seed=len(self.path))
        if path.suffix == ".json":
            write_shards(state, path)
        elif path.suffix == ".safetensors":
            save_file(state, path, metadata={"format": "pt"})
        else:
            torch.save({"state_dict": state, "global_step": 1} if self.wrapped else state, path)
        if self.config is not None:
            raw = self.config | (SMALL.get(self.manifests[0], {}) if small else {})
            path.with_name("config.json").write_text(json.dumps(raw))


def write_shards(state: dict[str, Tensor], index: Path) -> None:
    """In two files, as what is larger than a few GB comes."""
    names = [f"{index.name.partition('.')[0]}-0000{k}-of-00002.safetensors" for k in (1, 2)]
    place = {key: names[2 * n // len(state)] for n, key in enumerate(state)}
    for name in names:
        part = {key: value for key, value in state.items() if place[key] == name}
        save_file(part, index.with_name(name), metadata={"format": "pt"})
    index.write_text(json.dumps({"metadata": {}, "weight_map": place}))


def write_tokenizer(folder: Path, pad: str, size: int) -> None:
    """CLIP's vocab.json and merges.txt with its letters and special tokens, and none of its words."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(n) for n in (*range(33, 127), *range(161, 173), *range(174, 256))]  # "!" is 0, as in CLIP's
    letters += [chr(256 + n) for n in range(68)]
    words = {word: n for n, word in enumerate([*letters, *(x + "</w>" for x in letters)])}
    words |= {"<|startoftext|>": size - 2, "<|endoftext|>": size - 1}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    specials = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(specials | {"pad_token": pad}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))


def write_t5_tokenizer(folder: Path) -> None:
    """T5's special tokens and letters, and none of its words."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(n) for n in range(97, 123)]
    pieces = [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", -10.0], ["▁", -3.0], [",", -4.0], *([x, -4.0] for x in letters)]
    special = [
        {"id": k, "content": pieces[k][0], "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False} for k in range(3)
    ]  # fmt: skip
    stages = [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}]
    raw = {
        "version": "1.0", "added_tokens": special, "normalizer": None, "post_processor": None, "decoder": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": stages},
        "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(raw))


def unet_config(name: str, suffix: str, heads: int, context: int) -> dict[str, Any]:
    down = [f"CrossAttnDownBlock{suffix}"] * 3 + [f"DownBlock{suffix}"]
    return {
        "_class_name": name, "act_fn": "silu", "attention_head_dim": heads,
        "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": context, "down_block_types": down,
        "downsample_padding": 1, "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1,
        "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4,
        "up_block_types": [block.replace("Down", "Up") for block in reversed(down)],
    }  # fmt: skip


def text_config(width: int, hidden: int, layers: int, act: str) -> dict[str, Any]:
    return {
        "architectures": ["CLIPTextModel"], "hidden_act": act, "hidden_size": width, "intermediate_size": hidden,
        "layer_norm_eps": 1e-05, "max_position_embeddings": 77, "model_type": "clip_text_model",
        "num_attention_heads": width // 64, "num_hidden_layers": layers, "vocab_size": 49408, "bos_token_id": 0,
        "eos_token_id": 2, "pad_token_id": 1,
    }  # fmt: skip


SDXL_UNET = unet_config("UNet2DConditionModel", "2D", 8, 2048) | {
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280], "projection_class_embeddings_input_dim": 2816,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True,
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
}  # fmt: skip
SD_UNET = unet_config("UNet2DConditionModel", "2D", 8, 768)
VIDEO_UNET = unet_config("UNet3DConditionModel", "3D", 64, 1024)
TEXT_L, TEXT_H = text_config(768, 3072, 12, "quick_gelu"), text_config(1024, 4096, 23, "gelu")
TEXT_G = text_config(1280, 5120, 32, "gelu") | {
    "architectures": ["CLIPTextModelWithProjection"], "projection_dim": 1280,
}  # fmt: skip
VAE_CONFIG = {
    "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4, "in_channels": 3, "latent_channels": 4, "layers_per_block": 2,
    "norm_num_groups": 32, "out_channels": 3, "sample_size": 512, "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip
ADAPTER = {
    "_class_name": "MotionAdapter", "block_out_channels": [320, 640, 1280, 1280], "motion_layers_per_block": 2,
    "motion_max_seq_length": 32, "motion_mid_block_layers_per_block": 1, "motion_norm_num_groups": 32,
    "motion_num_attention_heads": 8, "use_motion_mid_block": False,
}  # fmt: skip
T5_CONFIG = {
    "architectures": ["T5EncoderModel"], "d_ff": 10240, "d_kv": 64, "d_model": 4096, "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5", "num_heads": 64, "num_layers": 24,
    "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32, "vocab_size": 32128,
}  # fmt: skip
DIT_CONFIG = {
    "_class_name": "Transformer2DModel", "activation_fn": "gelu-approximate", "attention_bias": True,
    "attention_head_dim": 72, "caption_channels": 4096, "cross_attention_dim": 1152, "in_channels": 4,
    "norm_elementwise_affine": False, "norm_eps": 1e-06, "norm_type": "ada_norm_single", "num_attention_heads": 16,
    "num_embeds_ada_norm": 1000, "num_layers": 28, "out_channels": 8, "patch_size": 2, "sample_size": 64,
}  # fmt: skip
NO_CAPTION = (("caption_projection.y_embedding", (120, 4096)),)  # of its training, in PixArt's files
LATTE_CONFIG = DIT_CONFIG | {"_class_name": "LatteTransformer3DModel", "video_length": 16}
SDXL_ADAPTER = ADAPTER | {"block_out_channels": [320, 640, 1280]}
SMALL_DIT = {"attention_head_dim": 3, "caption_channels": 64, "cross_attention_dim": 48, "num_layers": 2}
SMALL = {
    "t5_v1_1_xxl_encoder": {"d_ff": 96, "d_kv": 16, "d_model": 64, "num_heads": 4, "num_layers": 2},
    "latte1_transformer": SMALL_DIT,
    "pixart_xl2_512_transformer": SMALL_DIT,
    "sdxl_unet_diffusers": {"block_out_channels": [64, 128, 256], "attention_head_dim": [1, 2, 4]},
    "openclip_bigg_text_transformers": {"intermediate_size": 160, "num_hidden_layers": 2, "vocab_size": 1024},
    "animatediff_sdxl_beta_adapter_diffusers": {"block_out_channels": [64, 128, 256]},
    "sd15_unet_diffusers": {"block_out_channels": [32, 64, 128, 128]},
    "modelscope_unet3d_diffusers": {"block_out_channels": [64, 128, 256, 256]},
    "sd15_vae_diffusers": {"block_out_channels": [32, 64, 128, 128]},
    "sd15_vae_diffusers_old": {"block_out_channels": [32, 64, 128, 128]},
    "clip_l_text_transformers": {"intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 1024},
    "clip_h_text_transformers": {"intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 1024},
    "animatediff_v2_adapter_diffusers": {"block_out_channels": [32, 64, 128, 128]},
    "animatediff_v3_adapter_diffusers": {"block_out_channels": [32, 64, 128, 128]},
}  # fmt: skip


def hub(repository: str) -> str:
    """A repository's folder in a hub's cache."""
    return f"hub/models--{repository.replace('/', '--')}/snapshots/0/"


def pipeline(
    folder: str, unet: str, text: str, vae: str | None = "sd15_vae_diffusers", variant: str = ""
) -> list[File]:
    """A pipeline's folder."""
    network = f"diffusion_pytorch_model{variant}.safetensors"
    files = [
        File(f"{folder}unet/{network}", (unet,), config=VIDEO_UNET if "3d" in unet else SD_UNET),
        File(f"{folder}text_encoder/model{variant}.safetensors", (text,), config=TEXT_H if "_h_" in text else TEXT_L),
    ]
    return [*files, *([File(f"{folder}vae/{network}", (vae,), config=VAE_CONFIG)] if vae else [])]


def adapter(folder: str, variant: str = "") -> File:
    """The motion modules of AnimateDiff v3 as diffusers has them, stored in float32 whatever the file is called."""
    name = f"{folder}diffusion_pytorch_model{variant}.safetensors"
    return File(name, ("animatediff_v3_adapter_diffusers",), torch.float32, ADAPTER)


def transformer(folder: str, name: str, config: dict[str, Any]) -> File:
    network = f"{folder}transformer/diffusion_pytorch_model.safetensors"
    return File(network, (name,), torch.float32, config)


def t5(folder: str) -> File:
    index = f"{folder}text_encoder/model.safetensors.index.json"
    return File(index, ("t5_v1_1_xxl_encoder",), torch.float32, T5_CONFIG)


PIXART, LATTE = "PixArt-alpha/PixArt-XL-2-512x512", "maxin-cn/Latte-1"
SD, MS = "stable-diffusion-v1-5/stable-diffusion-v1-5", "ali-vilab/text-to-video-ms-1.7b"
MOTION = "guoyww/animatediff-motion-adapter-v1-5-3"
LCM, LIGHTNING = "wangfuyun/AnimateLCM", "ByteDance/AnimateDiff-Lightning"
XL, XL_MOTION = "stabilityai/stable-diffusion-xl-base-1.0", "guoyww/animatediff-motion-adapter-sdxl-beta"
L, H = ("<|endoftext|>", "!")  # what pads a row
T5 = "</s>"  # a row's end: what tells its tokenizer


def sdxl(folder: str, variant: str = "") -> list[File]:
    """Stable Diffusion XL's folder."""
    network, text = (f"{stem}{variant}.safetensors" for stem in ("diffusion_pytorch_model", "model"))
    return [
        File(f"{folder}unet/{network}", ("sdxl_unet_diffusers",), config=SDXL_UNET),
        File(f"{folder}text_encoder/{text}", ("clip_l_text_transformers",), config=TEXT_L),
        File(f"{folder}text_encoder_2/{text}", ("openclip_bigg_text_transformers",), config=TEXT_G),
        File(f"{folder}vae/{network}", ("sd15_vae_diffusers",), config=VAE_CONFIG | {"scaling_factor": 0.13025}),
    ]


SDXL_FILE = File(
    "sd_xl_base_1.0.safetensors",
    ("sdxl_unet_ldm", "clip_l_text_ldm", "openclip_bigg_text_openclip", "sd15_vae_ldm"),
    renamed=("cond_stage_model.", "conditioner.embedders.0."),
)
SDXL_WORDS = {hub(XL) + "tokenizer": L, hub(XL) + "tokenizer_2": H}


@dataclass(frozen=True)
class Case:
    """What is on disk, and what is typed."""

    pair: str
    files: list[File]
    tokenizers: dict[str, str]  # folder -> padding, or T5's end
    options: dict[str, str] = field(default_factory=dict)  # names of options -> files
    flags: tuple[str, ...] = ()  # what else is typed

    def write(self, root: Path, small: bool) -> None:
        for file in self.files:
            file.write(root, small)
        for folder, pad in self.tokenizers.items():
            if pad == T5:
                write_t5_tokenizer(root / folder)
            else:
                write_tokenizer(root / folder, pad, VOCABULARY[small])

    def arguments(self, root: Path) -> list[str]:
        given = [text for name, place in self.options.items() for text in (name, str(root / place))]
        return ["sample", "a red circle, moving left", "--pair", self.pair, *given, *self.flags]


SPATIAL = pipeline("sd15/", "sd15_unet_diffusers", "clip_l_text_transformers", None)
CASES = {
    "animatediff": Case(
        "animatediff",
        [
            *pipeline(hub(SD), "sd15_unet_diffusers", "clip_l_text_transformers", variant=".fp16"),
            adapter(hub(MOTION)),
        ],
        {hub(SD) + "tokenizer": L},
    ),
    "animatediff, folders": Case(
        "animatediff",
        [
            *pipeline("sd15/", "sd15_unet_diffusers", "clip_l_text_transformers", variant=".fp16"),
            adapter("adapter/", ".fp16"),
        ],
        {"sd15/tokenizer": L},
        {"--image-model": "sd15", "--video-model": "sd15", "--motion": "adapter"},
    ),
    "animatediff-paper": Case(
        "animatediff-paper",
        [
            File(
                "v1-5-pruned-emaonly.safetensors",
                ("sd15_unet_ldm", "sd15_vae_ldm", "clip_l_text_ldm", "sd15_ldm_extras"),
                torch.float32,
            ),
            File("realisticVision.ckpt", ("sd15_unet_ldm", "clip_l_text_ldm", "sd15_vae_ldm"), wrapped=True),
            File("v3_sd15_mm.ckpt", ("animatediff_v3_orig",), torch.float32),
            File("vae/diffusion_pytorch_model.safetensors", ("sd15_vae_diffusers_old",), torch.float32, VAE_CONFIG),
        ],
        {hub(SD) + "tokenizer": L, hub("SG161222/Realistic_Vision_V5.1_noVAE") + "tokenizer": L},
        {
            "--image-model": "v1-5-pruned-emaonly.safetensors", "--video-model": "realisticVision.ckpt",
            "--motion": "v3_sd15_mm.ckpt", "--vae": "vae",
        },
    ),
    "latte": Case(
        "latte",
        [
            replace(transformer(hub(PIXART), "pixart_xl2_512_transformer", DIT_CONFIG), besides=NO_CAPTION),
            t5(hub(PIXART)),
            transformer(hub(LATTE), "latte1_transformer", LATTE_CONFIG),
            File(f"{hub(LATTE)}vae/diffusion_pytorch_model.safetensors", ("sd15_vae_diffusers",), config=VAE_CONFIG),
        ],
        {hub(PIXART) + "tokenizer": T5},
    ),
    "latte, its own images": Case(
        "latte",
        [
            transformer("latte/", "latte1_transformer", LATTE_CONFIG),
            t5("latte/"),
            File("latte/vae/diffusion_pytorch_model.safetensors", ("sd15_vae_diffusers",), config=VAE_CONFIG),
        ],
        {"latte/tokenizer": T5},
        {"--image-model": "latte", "--video-model": "latte"},
    ),
    "animatelcm": Case(
        "animatelcm",
        [
            *pipeline(hub(SD), "sd15_unet_diffusers", "clip_l_text_transformers", variant=".fp16"),
            File(
                hub(LCM) + "diffusion_pytorch_model.fp16.safetensors", ("animatediff_v2_adapter_diffusers",),
                config=ADAPTER | {"use_motion_mid_block": True},
            ),
            File(hub(LCM) + "AnimateLCM_sd15_t2v_lora.safetensors", ("lora_lcm_sd15_kohya",)),
        ],
        {hub(SD) + "tokenizer": L},
        flags=("--sampler", "turns"),
    ),
    "animatediff-lightning": Case(
        "animatediff-lightning",
        [
            *pipeline(hub(SD), "sd15_unet_diffusers", "clip_l_text_transformers", variant=".fp16"),
            File(
                hub(LIGHTNING) + "animatediff_lightning_4step_diffusers.safetensors",
                ("animatediff_v2_adapter_diffusers",),
            ),
        ],
        {hub(SD) + "tokenizer": L},
        flags=("--sampler", "mixture"),
    ),
    "animatediff-sdxl": Case(
        "animatediff-sdxl",
        [
            *sdxl(hub(XL), ".fp16"),
            File(
                hub(XL_MOTION) + "diffusion_pytorch_model.fp16.safetensors",
                ("animatediff_sdxl_beta_adapter_diffusers",), config=SDXL_ADAPTER,
            ),
        ],
        SDXL_WORDS,
    ),
    "animatediff-sdxl, original": Case(
        "animatediff-sdxl",
        [SDXL_FILE, File("mm_sdxl_v10_beta.ckpt", ("animatediff_sdxl_beta_orig",), torch.float32)],
        SDXL_WORDS,
        {
            "--image-model": "sd_xl_base_1.0.safetensors", "--video-model": "sd_xl_base_1.0.safetensors",
            "--motion": "mm_sdxl_v10_beta.ckpt",
        },
    ),
    "hotshot-xl": Case(
        "hotshot-xl",
        [*sdxl(hub("hotshotco/SDXL-512")), File(
            hub("hotshotco/Hotshot-XL") + "hsxl_temporal_layers.f16.safetensors", ("hotshot_xl_orig",)
        )],
        {hub("hotshotco/SDXL-512") + "tokenizer": L, hub("hotshotco/SDXL-512") + "tokenizer_2": H},
    ),
    "modelscope": Case(
        "modelscope",
        [*SPATIAL, *pipeline("ms/", "modelscope_unet3d_diffusers", "clip_h_text_transformers")],
        {"sd15/tokenizer": L, "ms/tokenizer": H},
        {"--image-model": "sd15", "--video-model": "ms"},
    ),
    "modelscope, original": Case(
        "modelscope",
        [
            *SPATIAL,
            *pipeline(hub(MS), "modelscope_unet3d_diffusers", "clip_h_text_transformers", None, ".fp16")[1:],
            File("text2video_pytorch_model.pth", ("modelscope_unet_orig",)),
            File("VQGAN_autoencoder.pth", ("sd15_vae_ldm",), torch.float32, wrapped=True),
        ],
        {"sd15/tokenizer": L, hub(MS) + "tokenizer": H},
        {
            "--image-model": "sd15", "--video-model": "text2video_pytorch_model.pth", "--vae": "VQGAN_autoencoder.pth",
        },
    ),
    "videocrafter2": Case(
        "videocrafter2",
        [
            *SPATIAL,
            File(
                "model.ckpt",
                ("videocrafter2_unet_orig", "sd15_vae_ldm", "clip_h_text_openclip", "videocrafter2_extras"),
                torch.float32, wrapped=True,
            ),
        ],
        {"sd15/tokenizer": L, hub(MS) + "tokenizer": H},
        {"--image-model": "sd15", "--video-model": "model.ckpt"},
    ),
}  # fmt: skip

# --- runs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """`memory` is the most that was resident; of that, `mapped` belongs to files, and can be given back at any time."""

    seconds: float
    memory: float  # GB
    mapped: float  # GB, at that time


def run(arguments: list[str], cache: Path) -> tuple[subprocess.CompletedProcess[str], Cost]:
    """`ivmix` without a network, in a process of its own. On Linux its memory is followed."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "ivmix", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    most = [0, 0]

    def follow() -> None:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            try:
                entries = dict(line.split(":", 1) for line in status.read_text().splitlines())
                anonymous, mapped = (int(entries[name].split()[0]) for name in ("RssAnon", "RssFile"))
            except (OSError, KeyError, ValueError):
                return
            most[:] = max(most, [anonymous + mapped, mapped])
            time.sleep(0.05)

    watch = threading.Thread(target=follow)
    watch.start()
    out, err = process.communicate()
    watch.join()
    cost = Cost(time.perf_counter() - began, most[0] * 1024 / 1e9, most[1] * 1024 / 1e9)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err), cost


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("cases", nargs="*", metavar="CASE", help=f"{'; '.join(CASES)} (default: all)")
    arguments.add_argument("--small", action="store_true", help="narrower networks under the same keys")
    arguments.add_argument("--write", type=Path, metavar="FOLDER", help="write the files there and run nothing")
    options, rest = arguments.parse_known_args()
    rest = rest or ["--frames", "2", "--size", "64x64", "--steps", "4"]
    print("| case | on disk | time | memory | of it mapped | evaluations |\n|---|---|---|---|---|---|")
    for name in options.cases or CASES:
        if options.write:
            CASES[name].write(options.write, options.small)
            continue
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            CASES[name].write(root, options.small)
            disk = sum(file.stat().st_size for file in root.rglob("*") if file.is_file()) / 1e9
            video = root / "out.gif"
            done, cost = run([*CASES[name].arguments(root), "-o", str(video), "--quiet", *rest], root)
            if done.returncode:
                sys.exit(f"{name}: {done.stderr}")
            nfe = json.loads(Path(f"{video}.json").read_text())["nfe"]
        evaluations = " + ".join(f"{count} {side}" for side, count in nfe.items())
        print(
            f"| {name} | {disk:.1f} GB | {cost.seconds:.0f} s | {cost.memory:.1f} GB | {cost.mapped:.1f} GB "
            f"| {evaluations} |", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
