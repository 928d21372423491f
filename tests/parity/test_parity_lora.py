"""Merged networks against diffusers' and PEFT's with the same file, and against small layers beside the weights."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ivmix.models import (
    CLIPText,
    MotionConfig,
    UNet,
    UNetConfig,
    load_text_encoder,
    load_unet,
    merge_loras,
    read_lora,
    save_folder,
)

pytestmark = pytest.mark.slow

Make = Callable[..., Tensor]
Agree = Callable[[Tensor, Tensor], None]
Layers = dict[str, tuple[Tensor, Tensor, float]]  # path of a module -> down, up, alpha

LIKE_SD = UNetConfig(
    block_out_channels=(16, 32, 32), attention_levels=(True, True, False), cross_attention_dim=24,
    num_attention_heads=4, norm_num_groups=8,
)  # fmt: skip
LIKE_ANIMATEDIFF = replace(LIKE_SD, temporal=MotionConfig(4, max_frames=8, mid_block=True))
FRAMES, WEIGHT, RANK = 3, 0.7, 4
ATTENTION = r"attn\d\.to_(q|k|v|out\.0)$|self_attn\.\w+_proj$"


@pytest.fixture(scope="session")
def peft() -> ModuleType:
    return pytest.importorskip("peft")


@pytest.fixture
def image_unet(diffusers: ModuleType, randomised: Callable[..., Any], dtype: torch.dtype) -> Any:
    """As Stable Diffusion 1.5 is published: projections around the transformers are convolutions."""
    raw = {name: value for name, value in LIKE_SD.to_dict().items() if not name.startswith("_")}
    return randomised(diffusers.UNet2DConditionModel(**raw | {"use_linear_projection": False}), dtype=dtype)


@pytest.fixture
def video_unet(diffusers: ModuleType, randomised: Callable[..., Any], dtype: torch.dtype) -> Any:
    raw = {name: value for name, value in LIKE_ANIMATEDIFF.to_dict().items() if not name.startswith("_")}
    return randomised(diffusers.UNetMotionModel(**raw), dtype=dtype)


@pytest.fixture
def text_encoder(transformers: ModuleType, randomised: Callable[..., Any], dtype: torch.dtype) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=100, hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=11,
    )  # fmt: skip
    return randomised(transformers.CLIPTextModel(config), dtype=dtype)


def draw(network: nn.Module, pattern: str, normal: Make, alphas: tuple[float, float] = (8.0, 2.0)) -> Layers:
    """Factors as large as the weights they change, for the peer's own modules and in its own shapes; two alphas."""
    layers: Layers = {}
    for path, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and re.search(pattern, path):
            weight, seed = module.weight, len(layers)
            down = normal(RANK, *weight.shape[1:], seed=seed) / weight[0].numel() ** 0.5
            up = normal(len(weight), RANK, *[1] * (weight.ndim - 2), seed=seed + 1000)
            layers[path] = down, up, alphas[seed % 2]
    return layers


def text_path(path: str) -> str:
    """As public files name it; transformers 5 leaves `text_model.` out."""
    return path if path.startswith("text_model.") else f"text_model.{path}"


def kohya(layers: Layers, part: str) -> dict[str, Tensor]:
    state = {}
    for path, (down, up, alpha) in layers.items():
        key = "lora_unet_" + path if part == "unet" else "lora_te_" + text_path(path)
        key = key.replace(".", "_")
        state |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(alpha)}
    return state


def old_diffusers(layers: Layers, part: str) -> dict[str, Tensor]:
    state = {}
    for path, (down, up, _) in layers.items():
        block, _, layer = path.replace(".to_out.0", ".to_out").rpartition(".")
        key = f"{part}.{block}.processor.{layer}_lora"
        if part == "text_encoder":
            key = f"{part}.{text_path(block)}.to_{layer.removesuffix('_proj')}_lora"
        state |= {f"{key}.down.weight": down, f"{key}.up.weight": up}
    return state


def new_diffusers(layers: Layers, part: str) -> dict[str, Tensor]:
    state = {}
    for path, (down, up, _) in layers.items():
        key = f"unet.{path}.lora" if part == "unet" else f"text_encoder.{text_path(path)}.lora_linear_layer"
        state |= {f"{key}.down.weight": down, f"{key}.up.weight": up}
    return state


def peft_names(layers: Layers, part: str) -> dict[str, Tensor]:
    state = {}
    for path, (down, up, _) in layers.items():
        key = f"{part}.{path if part == 'unet' else text_path(path)}"
        state |= {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}
    return state


def pipeline(diffusers: ModuleType, **networks: Any) -> Any:
    """A pipeline that can load a LoRA into these networks, and do nothing else."""
    if isinstance(networks.get("unet"), diffusers.UNetMotionModel):
        networks = {"text_encoder": None, **networks, "motion_adapter": None}
        return diffusers.AnimateDiffPipeline(vae=None, tokenizer=None, scheduler=diffusers.DDIMScheduler(), **networks)
    return diffusers.StableDiffusionPipeline(
        vae=None, tokenizer=None, scheduler=None, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False, **{"text_encoder": None, "unet": None, **networks},
    )  # fmt: skip


def compare_images(ours: UNet, theirs: Any, normal: Make, agree: Agree) -> None:
    z, t, context = normal(2, 4, 1, 8, 12), torch.tensor([3.0, 700.0]), normal(2, 7, 24, seed=1)
    agree(ours(z, t, ours.condition(context)), theirs(z[:, :, 0], t, context).sample[:, :, None])


def compare_videos(ours: UNet, theirs: Any, normal: Make, agree: Agree) -> None:
    z, t, context = normal(2, 4, FRAMES, 8, 12), torch.tensor([3.0, 700.0]), normal(2, 7, 24, seed=1)
    agree(ours(z, t, ours.condition(context)), theirs(z, t, context.repeat_interleave(FRAMES, dim=0)).sample)


def compare_texts(ours: CLIPText, theirs: Any, agree: Agree) -> None:
    tokens = torch.arange(22).reshape(2, 11)
    agree(ours(tokens), theirs(tokens).last_hidden_state)


def run_beside(network: nn.Module, layers: Layers) -> None:
    """The definition of LoRA: each layer's output, plus weight · alpha / rank · up(down(input))."""

    def hook(down: Tensor, up: Tensor, scale: float) -> Callable[..., Tensor]:
        def added(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if down.ndim == 2:
                return output + scale * (inputs[0] @ down.T @ up.T)
            small = nn.functional.conv2d(inputs[0], down, None, module.stride, module.padding)
            return output + scale * nn.functional.conv2d(small, up)

        return added

    for path, (down, up, alpha) in layers.items():
        network.get_submodule(path).register_forward_hook(hook(down, up, WEIGHT * alpha / RANK))


@pytest.mark.parametrize(
    ("name", "modules", "compare"),
    [
        ("image_unet", "attn|ff|proj_|resnets|samplers", compare_images),
        ("video_unet", f"motion_modules.*({ATTENTION})", compare_videos),
    ],
)
def test_a_merged_unet_computes_what_layers_beside_the_weights_do(
    name: str, modules: str, compare: Callable[..., None], request: pytest.FixtureRequest, normal: Make, agree: Agree,
    tmp_path: Path,
) -> None:  # fmt: skip
    theirs = request.getfixturevalue(name)
    theirs.save_pretrained(tmp_path / "unet")
    layers = draw(theirs, modules, normal)
    save_file(kohya(layers, "unet"), tmp_path / "style.safetensors")
    ours = merge_loras(load_unet(tmp_path / "unet"), [(read_lora(tmp_path / "style.safetensors"), WEIGHT)])
    run_beside(theirs, layers)
    compare(ours, theirs, normal, agree)


def test_a_merged_text_encoder_computes_what_layers_beside_the_weights_do(
    text_encoder: Any, normal: Make, agree: Agree, tmp_path: Path
) -> None:
    text_encoder.save_pretrained(tmp_path / "text_encoder")
    layers = draw(text_encoder, "self_attn|mlp", normal)
    save_file(kohya(layers, "text_encoder"), tmp_path / "style.safetensors")
    loras = [(read_lora(tmp_path / "style.safetensors"), WEIGHT)]
    ours = merge_loras(load_text_encoder(tmp_path / "text_encoder"), loras)
    run_beside(text_encoder, layers)
    compare_texts(ours, text_encoder, agree)


FAMILIES = {
    "kohya, convolutions": (kohya, "attn|ff|proj_|resnets|samplers|self_attn|mlp"),
    "diffusers 2022-23": (old_diffusers, ATTENTION),
    "diffusers 0.21": (new_diffusers, ATTENTION),
    "PEFT": (peft_names, "attn|ff|resnets|samplers|self_attn|mlp"),
}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_diffusers_reads_the_same_from_a_file_and_fuses_the_same(
    family: str, diffusers: ModuleType, peft: ModuleType, image_unet: Any, text_encoder: Any, normal: Make,
    agree: Agree, tmp_path: Path,
) -> None:  # fmt: skip
    """One alpha a file, as trainers write: of an attention layer diffusers 0.42 loses an alpha of its own."""
    write, pattern = FAMILIES[family]
    theirs = {"unet": image_unet, "text_encoder": text_encoder}
    state: dict[str, Tensor] = {}
    for part, network in theirs.items():
        network.save_pretrained(tmp_path / part)
        state |= write(draw(network, pattern, normal, alphas=(2.0, 2.0)), part)
    save_file(state, tmp_path / "style.safetensors")

    pipe = pipeline(diffusers, **theirs)
    pipe.load_lora_weights(tmp_path, weight_name="style.safetensors")
    pipe.fuse_lora(lora_scale=WEIGHT)
    loras = [(read_lora(tmp_path / "style.safetensors"), WEIGHT)]
    compare_images(merge_loras(load_unet(tmp_path / "unet"), loras), pipe.unet, normal, agree)
    compare_texts(merge_loras(load_text_encoder(tmp_path / "text_encoder"), loras), pipe.text_encoder, agree)


def test_diffusers_fuses_a_motion_lora_the_same(
    diffusers: ModuleType, peft: ModuleType, video_unet: Any, normal: Make, agree: Agree, tmp_path: Path
) -> None:
    """As diffusers re-released AnimateDiff's; two at once, each with a weight of its own."""
    video_unet.save_pretrained(tmp_path / "unet")
    pipe = pipeline(diffusers, unet=video_unet)
    loras = []
    for name, weight, scope in (("pan", 0.7, "motion_modules"), ("style", -0.4, "blocks")):
        layers = draw(video_unet, f"{scope}.*({ATTENTION})", normal)
        save_file(old_diffusers(layers, "unet"), tmp_path / f"{name}.safetensors")
        pipe.load_lora_weights(tmp_path, weight_name=f"{name}.safetensors", adapter_name=name)
        loras.append((read_lora(tmp_path / f"{name}.safetensors"), weight))
    pipe.set_adapters(["pan", "style"], [weight for _, weight in loras])
    pipe.fuse_lora(adapter_names=["pan", "style"])
    compare_videos(merge_loras(load_unet(tmp_path / "unet"), loras), pipe.unet, normal, agree)


PEFT_CONFIGS: list[Mapping[str, Any]] = [
    {"r": RANK, "lora_alpha": 6},
    {"r": RANK, "lora_alpha": 6, "use_rslora": True},
    {"r": RANK, "lora_alpha": 6, "alpha_pattern": {"mid_block.attentions.0.transformer_blocks.0.attn1.to_k": 1,
                                                   "attn2.to_q": 3}, "rank_pattern": {"attn1.to_v": 7}},
]  # fmt: skip


@pytest.mark.parametrize("config", PEFT_CONFIGS, ids=["alpha", "root of the rank", "patterns"])
@pytest.mark.parametrize("writer", ["peft", "diffusers", "pipeline"])
def test_peft_writes_alpha_where_we_read_it(
    config: Mapping[str, Any], writer: str, diffusers: ModuleType, peft: ModuleType, image_unet: Any,
    normal: Make, agree: Agree, dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    image_unet.save_pretrained(tmp_path / "unet")
    lora_config = peft.LoraConfig(**config, target_modules=["to_q", "to_k", "to_v", "to_out.0", "conv1"], bias="none")
    if writer == "peft":
        adapted = peft.get_peft_model(image_unet, lora_config)
    else:
        image_unet.add_adapter(lora_config)
        adapted = image_unet
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    adapted.to(dtype).eval().requires_grad_(False)
    if writer == "peft":
        adapted.save_pretrained(tmp_path / "lora")
    elif writer == "diffusers":
        adapted.save_lora_adapter(tmp_path / "lora")
    else:
        from diffusers.training_utils import _collate_lora_metadata

        diffusers.StableDiffusionPipeline.save_lora_weights(
            tmp_path / "lora", unet_lora_layers=peft.get_peft_model_state_dict(adapted),
            **_collate_lora_metadata({"unet": adapted}),
        )  # fmt: skip
    ours = merge_loras(load_unet(tmp_path / "unet"), [(read_lora(tmp_path / "lora"), 1.0)])
    compare_images(ours, adapted, normal, agree)


def test_weights_that_ours_saves_after_merging_open_in_diffusers(
    diffusers: ModuleType, opened: Callable[..., Any], video_unet: Any, normal: Make, agree: Agree, dtype: torch.dtype,
    tmp_path: Path,
) -> None:  # fmt: skip
    video_unet.save_pretrained(tmp_path / "unet")
    save_file(kohya(draw(video_unet, "attn|ff", normal), "unet"), tmp_path / "style.safetensors")
    ours = merge_loras(load_unet(tmp_path / "unet"), [(read_lora(tmp_path / "style.safetensors"), WEIGHT)])
    save_folder(ours, tmp_path / "merged")
    compare_videos(ours, opened(diffusers.UNetMotionModel, tmp_path / "merged", torch_dtype=dtype), normal, agree)
