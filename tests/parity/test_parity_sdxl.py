"""SDXL against diffusers and transformers, on small random networks: the UNet and its motion modules, the second text
encoder, and from prompts to frames with AnimateDiffSDXLPipeline, of the same files.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ivmix import TextToVideo
from ivmix.models import (
    CLIPText,
    CLIPTextConfig,
    Tokenizer,
    UNet,
    UNetConfig,
    load_folder,
    load_text_encoder,
    load_unet,
    merge_loras,
    read_lora,
    save_folder,
)
from ivmix.models.text.prompts import encode
from ivmix.models.unet.config import TextTimeConfig
from ivmix.pairs.pair import load_pair
from ivmix.pairs.swaps import Swaps
from ivmix.solvers import initial_noise

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local")]

Make, Agree, Randomised = Callable[..., Tensor], Callable[[Tensor, Tensor], None], Callable[..., Any]

POOLED, WIDTH, WIDTH_2 = 20, 24, 40  # pooled text, and what the two encoders read of a token
CONFIG = UNetConfig(
    block_out_channels=(16, 32, 48), attention_levels=(False, True, True), cross_attention_dim=WIDTH + WIDTH_2,
    num_attention_heads=(2, 4, 3), norm_num_groups=8, transformer_depth=(1, 2, 3), text_time=TextTimeConfig(POOLED, 12),
)  # fmt: skip
SIZES = (1024, 768, 16, 0, 512, 640)
FRAMES = 3


def raw_of(config: UNetConfig) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if not name.startswith("_")}


def told(rows: int, pooled: Tensor) -> dict[str, Tensor]:
    """What diffusers tells a UNet beside text, a row of sizes each."""
    return {"text_embeds": pooled, "time_ids": torch.tensor([SIZES] * rows, dtype=pooled.dtype)}


# --- networks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_the_unet_computes_what_diffusers_does_of_one_file(
    whose: str, diffusers: ModuleType, randomised: Randomised, opened: Callable[..., Any], normal: Make, agree: Agree,
    dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    if whose == "ours":
        ours = randomised(UNet(CONFIG), dtype=dtype)
        save_folder(ours, tmp_path)
        theirs = opened(diffusers.UNet2DConditionModel, tmp_path, torch_dtype=dtype)
    else:
        theirs = randomised(diffusers.UNet2DConditionModel(**raw_of(CONFIG)), dtype=dtype)
        theirs.save_pretrained(tmp_path)
        ours = load_folder(UNet, UNetConfig, tmp_path)
        assert ours.config == CONFIG
    z, context, pooled = normal(2, 4, 1, 8, 12), normal(2, 7, WIDTH + WIDTH_2, seed=1), normal(2, POOLED, seed=2)
    for t in (torch.tensor(999), torch.tensor([0.0, 500.25], dtype=torch.float64)):
        condition = ours.condition(context, pooled=pooled, sizes=SIZES)
        want = theirs(z[:, :, 0], t, context, added_cond_kwargs=told(2, pooled)).sample
        agree(ours(z, t, condition)[:, :, 0], want)


def adapter_of(diffusers: ModuleType, randomised: Randomised, dtype: torch.dtype) -> Any:
    adapter = diffusers.MotionAdapter(
        block_out_channels=CONFIG.block_out_channels, motion_layers_per_block=2, motion_num_attention_heads=4,
        motion_norm_num_groups=8, motion_max_seq_length=16, use_motion_mid_block=False,
    )  # fmt: skip
    return randomised(adapter, 4, dtype)


def whole(joined: Any, image: Any) -> Any:
    """diffusers' `from_unet2d` leaves the embedding of pooled text and sizes as it was drawn (pull request 6721)."""
    joined.add_embedding.load_state_dict(image.add_embedding.state_dict())
    return joined.to(image.dtype).eval()


def test_motion_modules_join_the_unet_as_in_diffusers(
    diffusers: ModuleType, randomised: Randomised, normal: Make, agree: Agree, dtype: torch.dtype, tmp_path: Path
) -> None:
    image = randomised(diffusers.UNet2DConditionModel(**raw_of(CONFIG)), dtype=dtype)
    adapter = adapter_of(diffusers, randomised, dtype)
    image.save_pretrained(tmp_path / "unet")
    adapter.save_pretrained(tmp_path / "adapter")
    theirs = whole(diffusers.UNetMotionModel.from_unet2d(image, adapter), image)
    theirs.save_pretrained(tmp_path / "joined")
    z, t = normal(2, 4, FRAMES, 8, 12), torch.tensor(400)
    context, pooled = normal(2, 7, WIDTH + WIDTH_2, seed=1), normal(2, POOLED, seed=2)
    want = theirs(z, t, context.repeat_interleave(FRAMES, 0), added_cond_kwargs=told(2, pooled)).sample
    separate = load_unet(tmp_path / "unet", motion=tmp_path / "adapter")
    for ours in (separate, load_folder(UNet, UNetConfig, tmp_path / "joined")):
        agree(ours(z, t, ours.condition(context, pooled=pooled, sizes=SIZES)), want)


# --- text -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def text_2(
    transformers: ModuleType, randomised: Randomised, dtype: torch.dtype, write_tokenizer: Any, tmp_path: Path
) -> dict[str, Any]:
    """The second text encoder, and its tokenizer, padded with "!"."""
    words = write_tokenizer(tmp_path / "words_2", "!")
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTH_2, intermediate_size=48, num_hidden_layers=3, num_attention_heads=5,
        max_position_embeddings=77, hidden_act="gelu", projection_dim=POOLED, eos_token_id=2,  # as the public file says
    )  # fmt: skip
    encoder = randomised(transformers.CLIPTextModelWithProjection(config), 5, dtype)
    return {"tokenizer_2": words, "text_encoder_2": encoder}


PROMPTS, NEGATIVE = ["a red Circle, moving left!!", "Été: 24 circles"], "blurry, moved"


@pytest.mark.parametrize("clip_skip", [1, 2, 3])
def test_states_go_without_the_norm_and_pooled_text_with_it(
    clip_skip: int, text_2: dict[str, Any], agree: Agree, dtype: torch.dtype, tmp_path: Path
) -> None:
    """transformers' hidden_states[-n] and text_embeds, whatever the layer of the states is."""
    text_2["text_encoder_2"].save_pretrained(tmp_path / "pipeline" / "text_encoder_2")
    ours = load_text_encoder(tmp_path / "pipeline", part="text_encoder_2")
    assert isinstance(ours, CLIPText)
    assert ours.config.projection_dim == POOLED
    ids = text_2["tokenizer_2"]([*PROMPTS, ""], padding="max_length", return_tensors="pt").input_ids
    theirs = text_2["text_encoder_2"](ids, output_hidden_states=True)
    text = ours.read(ids, clip_skip, norm=False, ends=ids.argmax(dim=1))
    agree(text.states, theirs.hidden_states[-clip_skip])
    assert text.pooled is not None
    agree(text.pooled, theirs.text_embeds)


def test_transformers_opens_our_projected_encoder(
    transformers: ModuleType, randomised: Randomised, opened: Callable[..., Any], agree: Agree, dtype: torch.dtype,
    tmp_path: Path,
) -> None:  # fmt: skip
    ours = randomised(CLIPText(CLIPTextConfig(40, 48, 96, 2, 3, 77, "gelu", projection_dim=POOLED)), dtype=dtype)
    save_folder(ours, tmp_path)
    theirs = opened(transformers.CLIPTextModelWithProjection, tmp_path, dtype=dtype)
    ids = torch.tensor([[38, 5, 7, 39, 0, 0], [38, 1, 2, 3, 4, 39]])
    pooled = ours.read(ids, ends=ids.argmax(dim=1)).pooled
    assert pooled is not None
    theirs.config.eos_token_id = theirs.text_model.eos_token_id = 39
    agree(pooled, theirs(ids).text_embeds)


# --- LoRA -----------------------------------------------------------------------------------------------------------

LORA_MODULES = {
    "unet": [
        "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q", "down_blocks.2.attentions.1.proj_in",
        "mid_block.attentions.0.transformer_blocks.2.attn2.to_k",
        "up_blocks.0.attentions.2.transformer_blocks.0.ff.net.2",
    ],
    "text_encoder": ["text_model.encoder.layers.1.self_attn.out_proj", "text_model.encoder.layers.0.mlp.fc1"],
    "text_encoder_2": ["text_model.encoder.layers.2.self_attn.out_proj", "text_model.encoder.layers.0.mlp.fc2"],
}  # fmt: skip
LDM_BLOCKS = {  # as kohya calls the blocks above, counted as in the single file
    "down_blocks.1.attentions.0": "input_blocks.4.1", "down_blocks.2.attentions.1": "input_blocks.8.1",
    "mid_block.attentions.0": "middle_block.1", "up_blocks.0.attentions.2": "output_blocks.2.1",
}  # fmt: skip
KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}


@pytest.mark.parametrize("names", ["kohya", "diffusers"])
def test_a_lora_of_all_three_networks_is_merged_as_diffusers_fuses_it(
    names: str, pipeline: Path, diffusers: ModuleType, normal: Make, agree: Agree, dtype: torch.dtype, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    theirs = diffusers.StableDiffusionXLPipeline.from_pretrained(pipeline / "base", torch_dtype=dtype)
    base = pipeline / "base"
    ours: dict[str, Any] = {
        "unet": load_unet(base), "text_encoder": load_text_encoder(base),
        "text_encoder_2": load_text_encoder(base, part="text_encoder_2"),
    }  # fmt: skip
    state = {}
    for part, modules in LORA_MODULES.items():
        for seed, path in enumerate(modules):
            out, width = ours[part].get_parameter(f"{path}.weight").shape
            down, up = normal(2, width, seed=seed), normal(out, 2, seed=seed + 9)
            if names == "kohya":
                block = next((block for block in LDM_BLOCKS if path.startswith(block)), "")
                key = KOHYA[part] + path.replace(block, LDM_BLOCKS.get(block, ""), 1).replace(".", "_")
                state |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
                state[f"{key}.alpha"] = torch.tensor(1.0 if part == "unet" else 2.0)  # text's it does not find
            else:
                state |= {f"{part}.{path}.lora_A.weight": down, f"{part}.{path}.lora_B.weight": up}
    save_file(state, tmp_path / "style.safetensors")
    theirs.load_lora_weights(tmp_path / "style.safetensors")
    theirs.fuse_lora(lora_scale=0.7, components=list(LORA_MODULES))
    theirs.unload_lora_weights()
    lora = read_lora(tmp_path / "style.safetensors")
    for part, modules in LORA_MODULES.items():
        merged = merge_loras(ours[part], [(lora, 0.7)])
        for path in modules:
            peer = dict(getattr(theirs, part).named_parameters())
            name = path if f"{path}.weight" in peer else path.removeprefix("text_model.")
            agree(merged.get_parameter(f"{path}.weight").detach(), peer[f"{name}.weight"].detach())
    own = Swaps(str(base), str(base), str(pipeline / "adapter"), video_lora=(f"{tmp_path}/style.safetensors:0.7",))
    pair = load_pair("animatediff-sdxl", dtype=dtype, swaps=own)
    for network, part in zip(pair.video.networks.values(), ("unet", "text_encoder", "text_encoder_2"), strict=True):
        name = f"{LORA_MODULES[part][0]}.weight"
        want = merge_loras(ours[part], [(lora, 0.7)]).get_parameter(name)
        assert torch.equal(network.get_parameter(name), want)
        assert not torch.equal(network.get_parameter(name), ours[part].get_parameter(name))


# --- the whole pipeline ---------------------------------------------------------------------------------------------

SEEDS, HEIGHT, WIDTH_PX, STEPS = [3, 4], 16, 24, 5


@pytest.fixture
def pipeline(
    diffusers: ModuleType, parts: dict[str, Any], text_2: dict[str, Any], randomised: Randomised, dtype: torch.dtype,
    tmp_path: Path,
) -> Path:  # fmt: skip
    """The folders "base", SDXL's, and "adapter"."""
    parts["vae"].register_to_config(scaling_factor=0.13025)
    unet = randomised(diffusers.UNet2DConditionModel(**raw_of(CONFIG)), 3, dtype)
    scheduler = diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    base = diffusers.StableDiffusionXLPipeline(**parts, **text_2, unet=unet, scheduler=scheduler)
    base.save_pretrained(tmp_path / "base")
    adapter_of(diffusers, randomised, dtype).save_pretrained(tmp_path / "adapter")
    return tmp_path


@pytest.mark.parametrize("negative", [None, NEGATIVE], ids=["no negative prompt", "a negative prompt"])
def test_animatediff_sdxl_is_diffusers_pipeline(
    negative: str | None, pipeline: Path, diffusers: ModuleType, agree: Agree, dtype: torch.dtype
) -> None:
    """On the betas that the pair has, and with nothing told of an empty negative prompt, as both have it by default."""
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.02, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1,
        set_alpha_to_one=True, timestep_spacing="trailing",
    )  # fmt: skip
    if dtype == torch.float64:
        scheduler.alphas_cumprod = (1 - torch.linspace(0.00085**0.5, 0.02**0.5, 1000, dtype=dtype) ** 2).cumprod(0)
    theirs = diffusers.AnimateDiffSDXLPipeline.from_pretrained(
        pipeline / "base", torch_dtype=dtype, local_files_only=True, scheduler=scheduler,
        motion_adapter=diffusers.MotionAdapter.from_pretrained(pipeline / "adapter", torch_dtype=dtype),
    )  # fmt: skip
    theirs.set_progress_bar_config(disable=True)
    whole(theirs.unet, diffusers.UNet2DConditionModel.from_pretrained(pipeline / "base" / "unet", torch_dtype=dtype))
    base = str(pipeline / "base")
    model = TextToVideo.from_pair("animatediff-sdxl", dtype=dtype, swaps=Swaps(base, base, str(pipeline / "adapter")))
    assert model.pair.image.unet is model.pair.video.unet  # one set of weights
    result = model(
        PROMPTS, negative_prompt=negative or "", seed=SEEDS, frames=FRAMES, height=HEIGHT, width=WIDTH_PX, steps=STEPS,
        batch_size=2, sampler="ddim", spacing="trailing", guidance=7.5,
    )  # fmt: skip
    noise = initial_noise(SEEDS, (4, FRAMES, HEIGHT // 2, WIDTH_PX // 2)).to(dtype)
    call = {
        "prompt": PROMPTS, "num_frames": FRAMES, "height": HEIGHT, "width": WIDTH_PX, "num_inference_steps": STEPS,
        "guidance_scale": 7.5, "latents": noise, "negative_prompt": None if negative is None else [negative] * 2,
    }  # fmt: skip
    latents = theirs(**call, output_type="latent").frames
    agree(result.latents, latents)
    assert (result.latents - latents).abs().max() <= 1e-5 * latents.abs().max()  # float32's error through five steps
    frames = theirs(**call, output_type="np").frames
    assert np.abs(result.frames - 255.0 * frames).max() <= 0.5 + 255 * 1e-4
    assert result.frames.std() > 20


def test_an_empty_prompt_that_is_to_be_read_is_read(pipeline: Path, dtype: torch.dtype) -> None:
    base = str(pipeline / "base")
    pair = load_pair("animatediff-sdxl", dtype=dtype, swaps=Swaps(base, base, str(pipeline / "adapter")))
    size = (HEIGHT, WIDTH_PX)
    read = replace(pair.video, empty_prompt="text").condition(["", "a red circle"], size=size)
    zeros = pair.video.condition(["", "a red circle"], size=size)
    assert read.embedding is not None
    assert zeros.embedding is not None
    assert not torch.equal(read.embedding[0], zeros.embedding[0])
    assert torch.equal(read.embedding[1], zeros.embedding[1])
    assert not any(bool(values[0].any()) for _, values in zeros.keys_values)
    words, words_2 = pair.video.tokenizers
    assert isinstance(words_2, Tokenizer)
    assert words_2(["a"])[0, -1] == words_2.backend.token_to_id("!")
    assert words(["a"])[0, -1] == words.eos
    second = pair.video.readers[1].in_memory
    assert isinstance(second, CLIPText)
    assert encode(words_2, second, ["a"], 2, norm=False).states.shape == (1, 77, WIDTH_2)
