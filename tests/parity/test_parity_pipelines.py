"""Prompts to latents and frames: public pairs on small random models against diffusers' pipelines of the same files.

Each side reads the prompts with its own tokenizer and text encoder, plays DDIM with its own scheduler, and decodes with
its own VAE; what they share is the files, the prompts and the initial noise. diffusers keeps its schedule in float32
whatever the networks are: in float64 it is given the same schedule in float64.
"""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from small_t5 import TEXT, write_text
from torch import Tensor

from ivmix import TextToVideo
from ivmix.generation.text_to_video import Result
from ivmix.models import DiTConfig, T5Tokenizer
from ivmix.pairs.swaps import Swaps
from ivmix.solvers import Schedule, initial_noise

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local")]

PROMPTS, NEGATIVE = ["a red Circle, moving left!!", "Été: 24 circles"], "blurry, moved"
SEEDS = [3, 4]
FRAMES, HEIGHT, WIDTH, STEPS = 3, 16, 24, 5


def ddim(diffusers: ModuleType, dtype: torch.dtype, betas: str, **options: Any) -> Any:
    """Stable Diffusion's scheduler: betas 0.00085 to 0.012, offset 1; options are the test's."""
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule=betas, clip_sample=False, steps_offset=1, **options
    )
    if dtype == torch.float64:
        power = {"linear": 1, "scaled_linear": 0.5}[betas]
        rates = torch.linspace(0.00085**power, 0.012**power, 1000, dtype=dtype) ** (1 / power)
        scheduler.alphas_cumprod = (1 - rates).cumprod(0)
        if not scheduler.config.set_alpha_to_one:
            scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    return scheduler


class Trajectory(NamedTuple):
    """The latents after every step (steps b c f h w), and the decoded videos (b c f h w) in [-1, 1], not clamped."""

    latents: Tensor
    video: Tensor


def ours(
    model: TextToVideo, schedule: Schedule, prompts: list[str] = PROMPTS, negative: str = NEGATIVE, **options: Any
) -> tuple[Trajectory, Result]:
    """Our states are x = z / alpha; the last, at sigma = 0, is z itself."""
    states: list[Tensor] = []
    result = model(
        prompts, negative_prompt=negative, seed=SEEDS[: len(prompts)], frames=FRAMES, height=HEIGHT, width=WIDTH,
        steps=STEPS, batch_size=len(prompts), callback=lambda step, total, run: states.append(run.x), **options,
    )  # fmt: skip
    sigmas = schedule.grid(STEPS, options["spacing"])[1:-1]
    latents = [schedule.alpha_at(sigma) * x for sigma, x in zip(sigmas, states, strict=False)]
    assert torch.equal(result.latents, states[-1])
    return Trajectory(torch.stack([*latents, states[-1]]), model.pair.vae.decode(result.latents)), result


def noise(dtype: torch.dtype) -> Tensor:
    return initial_noise(SEEDS, (4, FRAMES, HEIGHT // 2, WIDTH // 2)).to(dtype)


def as_images(video: Tensor) -> Tensor:
    return video.transpose(1, 2).flatten(0, 1)


def as_video(images: Tensor) -> Tensor:
    return images.unflatten(0, (-1, FRAMES)).transpose(1, 2)


def decode(pipeline: Any, latents: Tensor) -> Tensor:
    """As the pipelines decode, without the cast to float32 that video pipelines end with."""
    return as_video(pipeline.vae.decode(as_images(latents) / pipeline.vae.config.scaling_factor).sample)


def check_frames(result: Result, theirs: np.ndarray) -> None:
    """Our bytes are the peer's floats in [0, 1], rounded: half a level apart, and float32's error."""
    assert result.frames.shape == theirs.shape
    assert np.abs(result.frames - 255.0 * theirs).max() <= 0.5 + 255 * 1e-4
    assert result.frames.std() > 20  # the comparison sees more than clamped frames


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_animatediff_is_diffusers_pipeline(
    spacing: str, parts: dict[str, Any], image_unet: Any, motion_adapter: Any, diffusers: ModuleType, agree: Any,
    dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    motion_adapter.save_pretrained(tmp_path / "adapter")
    base = diffusers.StableDiffusionPipeline(
        **parts, unet=image_unet, safety_checker=None, feature_extractor=None,
        scheduler=diffusers.PNDMScheduler(steps_offset=1, skip_prk_steps=True),
    )  # fmt: skip
    base.save_pretrained(tmp_path / "base")

    # Both from the same files. `set_alpha_to_one`: the last step goes to sigma = 0, as ours does.
    theirs = diffusers.AnimateDiffPipeline.from_pretrained(
        tmp_path / "base", torch_dtype=dtype, local_files_only=True,
        motion_adapter=diffusers.MotionAdapter.from_pretrained(tmp_path / "adapter", torch_dtype=dtype),
        scheduler=ddim(diffusers, dtype, "linear", set_alpha_to_one=True, timestep_spacing=spacing),
    )  # fmt: skip
    theirs.set_progress_bar_config(disable=True)
    swaps = Swaps(str(tmp_path / "base"), str(tmp_path / "base"), str(tmp_path / "adapter"))
    model = TextToVideo.from_pair("animatediff", dtype=dtype, swaps=swaps)

    mine, result = ours(model, model.pair.video.schedule, sampler="ddim", spacing=spacing, guidance=7.5)
    states: list[Tensor] = []

    def keep(pipeline: Any, step: int, t: Any, given: dict[str, Any]) -> dict[str, Any]:
        states.append(given["latents"])
        return given

    call = {
        "prompt": PROMPTS, "negative_prompt": [NEGATIVE] * 2, "num_frames": FRAMES, "height": HEIGHT, "width": WIDTH,
        "num_inference_steps": STEPS, "guidance_scale": 7.5, "latents": noise(dtype), "callback_on_step_end": keep,
    }  # fmt: skip
    frames = theirs(**call, output_type="np").frames
    agree(mine.latents, torch.stack(states))
    agree(mine.video, decode(theirs, states[-1]))
    check_frames(result, frames)

    # With the scheduler as Stable Diffusion's files have it, which stops at the first training level instead.
    states.clear()
    theirs.scheduler = ddim(diffusers, dtype, "linear", set_alpha_to_one=False, timestep_spacing=spacing)
    theirs(**call, output_type="latent")
    agree(mine.latents[:-1], torch.stack(states[:-1]))
    agree(stopped_early(mine.latents, model.pair.video.schedule, spacing), states[-1])


def stopped_early(latents: Tensor, schedule: Schedule, spacing: Any) -> Tensor:
    """The last step, which is straight in sigma, played to the first training level only."""
    before, first = schedule.grid(STEPS, spacing)[-2], schedule.sigmas[0]
    x, x0 = latents[-2] / schedule.alpha_at(before), latents[-1]
    return schedule.alpha[0] * (x0 + float(first / before) * (x - x0))


def test_modelscope_is_diffusers_pipeline(
    parts: dict[str, Any], image_unet: Any, clip_unet: Any, write_tokenizer: Any, diffusers: ModuleType, agree: Any,
    dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    scheduler = ddim(diffusers, dtype, "scaled_linear", set_alpha_to_one=True, timestep_spacing="leading")
    theirs = diffusers.TextToVideoSDPipeline(
        **(parts | {"tokenizer": write_tokenizer(tmp_path / "padded with !", "!")}),
        unet=clip_unet, scheduler=scheduler,
    )  # fmt: skip
    theirs.save_pretrained(tmp_path / "video")
    theirs.set_progress_bar_config(disable=True)
    image = diffusers.StableDiffusionPipeline(
        **parts, unet=image_unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None,
    )  # fmt: skip
    image.save_pretrained(tmp_path / "image")
    model = TextToVideo.from_pair(
        "modelscope", dtype=dtype, swaps=Swaps(str(tmp_path / "image"), str(tmp_path / "video"))
    )

    mine, result = ours(model, model.pair.video.schedule, sampler="ddim", spacing="leading", guidance=9.0)
    states: list[Tensor] = []
    frames = theirs(
        prompt=PROMPTS, negative_prompt=[NEGATIVE] * 2, num_frames=FRAMES, height=HEIGHT, width=WIDTH,
        num_inference_steps=STEPS, guidance_scale=9.0, latents=noise(dtype), output_type="np",
        callback=lambda step, t, latents: states.append(latents),
    ).frames  # fmt: skip
    agree(mine.latents, torch.stack(states))
    agree(mine.video, decode(theirs, states[-1]))
    check_frames(result, frames)


def test_the_image_sampler_is_diffusers_image_pipeline_on_every_frame(
    parts: dict[str, Any], image_unet: Any, diffusers: ModuleType, agree: Any, dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    scheduler = ddim(diffusers, dtype, "scaled_linear", set_alpha_to_one=True, timestep_spacing="trailing")
    theirs = diffusers.StableDiffusionPipeline(
        **parts, unet=image_unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None,
    )  # fmt: skip
    theirs.save_pretrained(tmp_path / "image")
    theirs.set_progress_bar_config(disable=True)
    swaps = Swaps(str(tmp_path / "image"), str(tmp_path / "image"))
    pair = TextToVideo.from_pair("modelscope", dtype=dtype, swaps=swaps).pair
    model = TextToVideo(replace(pair, image=replace(pair.image, latent_size=None)))  # it sees small latents as they are

    mine, result = ours(model, model.pair.image.schedule, sampler="image", spacing="trailing", image_guidance=7.5)
    states: list[Tensor] = []

    def keep(pipeline: Any, step: int, t: Any, given: dict[str, Any]) -> dict[str, Any]:
        states.append(as_video(given["latents"]))
        return given

    images = theirs(
        prompt=[p for p in PROMPTS for _ in range(FRAMES)], negative_prompt=[NEGATIVE] * 2 * FRAMES, height=HEIGHT,
        width=WIDTH, num_inference_steps=STEPS, guidance_scale=7.5, latents=as_images(noise(dtype)), output_type="np",
        callback_on_step_end=keep,
    ).images  # fmt: skip
    agree(mine.latents, torch.stack(states))
    agree(mine.video, decode(theirs, states[-1]))
    check_frames(result, images.reshape(result.frames.shape))


# --- transformers ---------------------------------------------------------------------------------------------------

DIT = DiTConfig(
    num_layers=2, num_attention_heads=2, attention_head_dim=12, caption_channels=TEXT.d_model, sample_size=8
)


@pytest.fixture
def of_transformers(
    parts: dict[str, Any], transformers: ModuleType, diffusers: ModuleType, tmp_path: Path
) -> dict[str, Any]:
    """What both pipelines have beside their transformer: T5 and its tokenizer, and the betas that both say."""
    write_text(tmp_path / "text")
    tokenizer = tmp_path / "text" / "tokenizer"
    T5Tokenizer.from_folder(tokenizer).backend.save(str(tokenizer / "tokenizer.json"))
    (tokenizer / "spiece.model").unlink()
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.0001, beta_end=0.02, beta_schedule="linear", clip_sample=False, set_alpha_to_one=True,
        timestep_spacing="trailing",
    )  # fmt: skip
    return {
        "vae": parts["vae"],
        "scheduler": scheduler,
        "text_encoder": transformers.T5EncoderModel.from_pretrained(tmp_path / "text" / "text_encoder").eval(),
        "tokenizer": transformers.T5TokenizerFast.from_pretrained(
            tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", extra_ids=0
        ),
    }


def transformer(config: DiTConfig, randomised: Any, diffusers: ModuleType) -> Any:
    """A random one of theirs, that says noise of a size that can be: from level 157 another grows past all rounding."""
    raw = config.to_dict()
    kind = getattr(diffusers, raw["_class_name"])
    network = randomised(kind(**{name: value for name, value in raw.items() if name[0] != "_"}), 5, torch.float32)
    network.proj_out.weight.mul_(0.15)
    return network


def close(ours: Tensor, theirs: Tensor) -> None:
    """To 1e-5: float32 through ten evaluations of two layers, and a decoder."""
    assert ours.shape == theirs.shape
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    print(f"max|ours - theirs| / max|theirs| = {difference:.1e}")
    assert difference <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float32], ids=["float32"], indirect=True)
@pytest.mark.parametrize("negative", ["", "a blue cat"])
def test_latte_is_diffusers_pipeline_clip_by_clip(
    negative: str, of_transformers: dict[str, Any], diffusers: ModuleType, randomised: Any, dtype: torch.dtype,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Ours of a batch of prompts of any length, no shorter than the negative one, which theirs would cut; theirs of one
    after another, as its authors draw: of several at once it has no mask."""
    network = transformer(replace(DIT, temporal=FRAMES), randomised, diffusers)
    theirs = diffusers.LattePipeline(**of_transformers, transformer=network)
    theirs.save_pretrained(tmp_path / "latte")
    theirs.set_progress_bar_config(disable=True)
    swaps = Swaps(str(tmp_path / "latte"), str(tmp_path / "latte"))
    model = TextToVideo.from_pair("latte", dtype=dtype, swaps=swaps)
    assert model.pair.image.unet is model.pair.video.unet

    _, mask = model.pair.video.tokenizer([*PROMPTS, negative])
    lengths = mask.sum(dim=1).tolist()
    assert lengths[0] != lengths[1]
    assert max(lengths) < 120
    mine, result = ours(
        model, model.pair.video.schedule, PROMPTS, negative, sampler="ddim", spacing="trailing", guidance=7.5
    )
    states: list[list[Tensor]] = []

    def keep(pipeline: Any, step: int, t: Any, given: dict[str, Any]) -> dict[str, Any]:
        states[-1].append(given["latents"])
        return given

    frames = []
    for k, prompt in enumerate(PROMPTS):
        states.append([])
        clip = theirs(
            prompt, negative, num_inference_steps=STEPS, guidance_scale=7.5, video_length=FRAMES, height=HEIGHT,
            width=WIDTH, latents=noise(dtype)[k : k + 1], clean_caption=False, output_type="np",
            callback_on_step_end=keep,
        )  # fmt: skip
        frames.append(clip.frames)
    drawn = torch.cat([torch.stack(clip) for clip in states], dim=1)
    close(mine.latents, drawn)
    close(mine.video, decode(theirs, drawn[-1]))
    check_frames(result, np.concatenate(frames))


@pytest.mark.parametrize("dtype", [torch.float32], ids=["float32"], indirect=True)
def test_the_image_model_of_latte_is_diffusers_pixart_on_every_frame(
    of_transformers: dict[str, Any], diffusers: ModuleType, randomised: Any, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Of several clips, prompts of any length."""
    theirs = diffusers.PixArtAlphaPipeline(**of_transformers, transformer=transformer(DIT, randomised, diffusers))
    theirs.save_pretrained(tmp_path / "pixart")
    theirs.set_progress_bar_config(disable=True)
    swaps = Swaps(str(tmp_path / "pixart"), str(tmp_path / "pixart"))
    model = TextToVideo.from_pair("latte", dtype=dtype, swaps=swaps)

    mine, result = ours(
        model, model.pair.image.schedule, sampler="image", spacing="trailing", image_guidance=4.5,
        image_negative_prompt=NEGATIVE,
    )  # fmt: skip
    states: list[Tensor] = []
    images = theirs(
        [p for p in PROMPTS for _ in range(FRAMES)], [NEGATIVE] * 2 * FRAMES, num_inference_steps=STEPS,
        guidance_scale=4.5, height=HEIGHT, width=WIDTH, latents=as_images(noise(dtype)), clean_caption=False,
        use_resolution_binning=False, output_type="np", callback=lambda step, t, z: states.append(as_video(z)),
    ).images  # fmt: skip
    close(mine.latents, torch.stack(states))
    close(mine.video, decode(theirs, states[-1]))
    check_frames(result, images.reshape(result.frames.shape))
