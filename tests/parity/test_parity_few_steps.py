"""Few steps beside diffusers: LCMScheduler and trailing Euler, by themselves and behind AnimateDiffPipeline."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ivmix import TextToVideo
from ivmix.solvers import Boundary, Network, Schedule, few_step, initial_noise, integrate, normal_noise, plain

pytestmark = pytest.mark.slow

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear"}
LINEAR = Schedule.linear(0.00085, 0.012)
SHAPE = (2, 4, 3, 4, 5)
Z = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
WORDS = {"epsilon": "epsilon", "v": "v_prediction", "x0": "sample"}


def output(z: Tensor, t: Any, condition: Any = None) -> Tensor:
    """A network that knows the time and its neighbours."""
    t = torch.as_tensor(t, dtype=torch.float64)
    return torch.tanh(0.7 * z + 0.3 * z.roll(1, -1) + 0.5 * torch.cos(3 * t / 1000)).to(z)


def in_float64(scheduler: Any) -> Any:
    """The same schedule, which theirs keeps in float32 whatever the networks are."""
    scheduler.alphas_cumprod = LINEAR.alpha**2
    return scheduler


def lcm(diffusers: ModuleType, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    """Theirs, told its times as numbers: of tensors its scalings are float32."""

    class LCM(diffusers.LCMScheduler):  # type: ignore[name-defined, misc]
        def step(self, output: Tensor, t: Any, sample: Tensor, *rest: Any, **given: Any) -> Any:
            return super().step(output, int(t), sample, *rest, **given)

    scheduler = LCM(**BETAS, **options)
    return in_float64(scheduler) if dtype == torch.float64 else scheduler


@pytest.mark.parametrize("n", range(1, 51))
def test_steps_are_picked_from_the_levels_of_distillation(n: int, diffusers: ModuleType) -> None:
    theirs = diffusers.LCMScheduler(**BETAS)
    theirs.set_timesteps(n)
    assert LINEAR.t(LINEAR.grid(n, "lcm")[:-1]).tolist() == theirs.timesteps.tolist()


@pytest.mark.parametrize("n", [1, 2, 4, 5, 10, 20])
def test_of_the_hundred_levels_of_animatelcms_own_code_steps_that_divide_it_are_trailing(
    n: int, diffusers: ModuleType
) -> None:
    theirs = diffusers.LCMScheduler(**BETAS, original_inference_steps=100)
    theirs.set_timesteps(n)
    assert LINEAR.t(LINEAR.grid(n)[:-1]).tolist() == theirs.timesteps.tolist()


@pytest.mark.parametrize("prediction", WORDS)
@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_few_steps_with_the_boundary_are_lcms(n: int, prediction: Any, diffusers: ModuleType, agree: Any) -> None:
    theirs = lcm(diffusers, prediction_type=WORDS[prediction])
    theirs.set_timesteps(n)
    z, states, generator = Z, list[Tensor](), torch.Generator().manual_seed(1)
    for t in theirs.timesteps:
        z, x0 = theirs.step(output(z, t), t, z, generator=generator, return_dict=False)
        states += [x0, z]
    sigmas, generator = LINEAR.grid(n, "lcm"), torch.Generator().manual_seed(1)
    network = Network(output, LINEAR, prediction, "video", boundary=Boundary())
    run = integrate(
        network(None), few_step(sigmas), LINEAR.start(Z, sigmas[0]), trace=True,
        noise=lambda *_: torch.randn(SHAPE, generator=generator, dtype=torch.float64),
    )  # fmt: skip
    agree(run.x, states[-1])
    mine = [LINEAR.alpha_at(record.leg.target) * record.x for record in run.trace]
    agree(torch.stack(mine), torch.stack(states[:-1]))  # the last is x0 twice


def test_at_the_lowest_level_the_boundary_shows_and_is_lcms(diffusers: ModuleType, agree: Any) -> None:
    """At t = 0 what is shown is kept, whatever the network says; at t = 1 a 400th of it."""
    theirs = lcm(diffusers)
    network = Network(output, LINEAR, "epsilon", "video", boundary=Boundary())
    for t in (0, 1):
        theirs.set_timesteps(timesteps=[999, t])
        theirs.set_begin_index(1)
        sigma = LINEAR.sigma(float(t))
        peer = theirs.step(output(Z, t), theirs.timesteps[1], Z, return_dict=False)[1]
        agree(network(None)(LINEAR.start(Z, sigma), sigma), peer)
        if t == 0:
            assert torch.allclose(peer, Z, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_trailing_euler_is_that_of_lightning(n: int, diffusers: ModuleType, agree: Any) -> None:
    """Their Euler's levels and steps are float32 whatever they are given; their DDIM's, which are the same, are not."""
    sigmas = LINEAR.grid(n)
    theirs = diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing="trailing")
    theirs.set_timesteps(n)
    assert LINEAR.t(sigmas[:-1]).tolist() == theirs.timesteps.tolist()
    torch.testing.assert_close(theirs.sigmas.double(), sigmas, rtol=1e-5, atol=0)
    field, start = Network(output, LINEAR, "epsilon", "video")(None), LINEAR.start(Z, sigmas[0])
    mine = integrate(field, plain(sigmas), start).x
    x = start.float()
    for t in theirs.timesteps:
        x = theirs.step(output(theirs.scale_model_input(x, t), t.double()), t, x).prev_sample
    assert float((mine - x).abs().max() / mine.abs().max()) < 1e-5
    ddim = in_float64(diffusers.DDIMScheduler(
        **BETAS, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True
    ))  # fmt: skip
    ddim.set_timesteps(n)
    z = Z
    for t in ddim.timesteps:
        z = ddim.step(output(z, t), t, z).prev_sample
    agree(mine, z)


PROMPTS, NEGATIVE = ["a red Circle, moving left!!", "24 circles"], "blurry, moved"
SEEDS, FRAMES, HEIGHT, WIDTH = [3, 4], 3, 16, 24
LATENT = (4, FRAMES, HEIGHT // 2, WIDTH // 2)


def write_pair(folder: Path, scheduler: dict[str, Any]) -> None:
    """A pair as animatelcm is one, of files in its own folder."""
    side = {"unet": "base/unet", "text_encoder": "base/text_encoder", "tokenizer": "base/tokenizer",
            "schedule": scheduler, "prediction": "epsilon"}  # fmt: skip
    few = {"motion": "adapter", "lora": "lora.safetensors:0.8", "consistency": True}
    raw = {
        "format": 1, "name": "few", "vae": "base/vae", "image": side, "video": side | few, "frames": FRAMES,
        "height": HEIGHT, "width": WIDTH, "fps": 8, "defaults": {"from": "animatelcm"},
    }  # fmt: skip
    (folder / "pair.json").write_text(json.dumps(raw))


def test_animatelcm_is_diffusers_pipeline(
    parts: dict[str, Any], image_unet: Any, motion_adapter: Any, diffusers: ModuleType, agree: Any, local: None,
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pytest.importorskip("peft")
    motion_adapter.save_pretrained(tmp_path / "adapter")
    base = diffusers.StableDiffusionPipeline(
        **parts, unet=image_unet, safety_checker=None, feature_extractor=None,
        scheduler=diffusers.PNDMScheduler(steps_offset=1, skip_prk_steps=True),
    )  # fmt: skip
    base.save_pretrained(tmp_path / "base")
    factors = [torch.randn(size, generator=torch.Generator().manual_seed(1)) for size in ((2, 40), (40, 2))]
    kohya = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    names = (f"{kohya}.lora_down.weight", f"{kohya}.lora_up.weight")
    lora = {**dict(zip(names, factors, strict=True)), f"{kohya}.alpha": torch.tensor(1.0)}
    save_file(lora, tmp_path / "lora.safetensors")
    write_pair(tmp_path, BETAS)

    theirs = diffusers.AnimateDiffPipeline.from_pretrained(
        tmp_path / "base", torch_dtype=dtype, local_files_only=True,
        motion_adapter=diffusers.MotionAdapter.from_pretrained(tmp_path / "adapter", torch_dtype=dtype),
        scheduler=lcm(diffusers, dtype),
    )  # fmt: skip
    theirs.load_lora_weights(tmp_path / "lora.safetensors", adapter_name="lcm")
    theirs.set_adapters("lcm", 0.8)
    theirs.set_progress_bar_config(disable=True)
    fresh = normal_noise(SEEDS, LATENT)
    monkeypatch.setattr(  # the peer's noise is ours: everything else of its step is its own
        "diffusers.schedulers.scheduling_lcm.randn_tensor", lambda *_, **__: fresh(torch.ones(()), None).to(dtype)
    )
    peer = theirs(
        prompt=PROMPTS, negative_prompt=[NEGATIVE] * 2, num_frames=FRAMES, height=HEIGHT, width=WIDTH,
        num_inference_steps=4, guidance_scale=1.5, latents=initial_noise(SEEDS, LATENT).to(dtype),
        output_type="latent",
    ).frames  # fmt: skip

    model = TextToVideo.from_pair(str(tmp_path), dtype=dtype)
    result = model(PROMPTS, negative_prompt=NEGATIVE, seed=SEEDS, steps=4, batch_size=2)
    assert result.record.sampling["sampler"] == "lcm"
    assert result.record.models["video"]["consistency"]
    agree(result.latents, peer)
    if dtype == torch.float32:
        assert float((result.latents - peer).abs().max() / peer.abs().max()) < 1e-5
