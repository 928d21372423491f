"""Every sentence of notebooks/coming_from_diffusers.md that has a mark [D1], by the test of that name."""

import inspect
import re
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
from ivmix.models import encode_prompts
from ivmix.pairs.description import PUBLIC, describe
from ivmix.pairs.swaps import Swaps
from ivmix.samplers.elsewhere import ELSEWHERE
from ivmix.samplers.reading import sampling
from ivmix.samplers.solver_names import SOLVERS
from ivmix.solvers import (
    DDIM,
    DPMSolverPP1,
    DPMSolverPP2M,
    Euler,
    Guided,
    HigherOrder,
    LowPass,
    Network,
    Schedule,
    Solver,
    composite,
    initial_noise,
    integrate,
    plain,
    repeat_rows,
)

PAGE = (Path(__file__).parent.parent.parent / "notebooks" / "coming_from_diffusers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
VP = Schedule.scaled_linear()
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ALPHA_ONE = {"set_alpha_to_one": True, "clip_sample": False}
Z = initial_noise([0, 1], (2, 2, 4, 4)).double()
PROMPT = "a red Circle, moving left!!"
SMALL = {"frames": 3, "height": 16, "width": 24}
PEERS = {"num_frames": 3, "height": 16, "width": 24}


def rows(head: str) -> list[list[str]]:
    """The cells of the page's table that begins with `head`, without what marks code."""
    lines = PAGE[PAGE.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.split(" | ")] for line in (line.strip("| ") for line in lines)]


def test_every_mark_of_the_page_has_its_test_and_every_test_its_mark() -> None:
    held = [int(found[1]) for name in globals() if (found := re.match(r"test_d(\d+)_", name))]
    marks = [int(mark) for mark in re.findall(r"\[D(\d+)\]", PAGE)]
    assert marks == held == list(range(1, len(held) + 1))


def test_links_lead_to_files_and_headings() -> None:
    here = Path(__file__).parent.parent.parent / "notebooks"
    for target, _, heading in (target.partition("#") for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGE)):
        assert (here / target).exists()
        assert not heading or f"\n## {heading.capitalize()}\n" in (here / target).read_text(encoding="utf-8")


# --- pipelines ------------------------------------------------------------------------------------------------------


@pytest.fixture
def dtype() -> torch.dtype:
    return torch.float32


@pytest.fixture
def folders(
    local: None, parts: dict[str, Any], image_unet: Any, motion_adapter: Any, clip_unet: Any, write_tokenizer: Any,
    diffusers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> Path:  # fmt: skip
    """What public repositories hold, as "base", "adapter" and "clips" of the folder the test runs in."""
    motion_adapter.save_pretrained(tmp_path / "adapter")
    files = {"steps_offset": 1, **BETAS}
    base = diffusers.StableDiffusionPipeline(
        **parts, unet=image_unet, safety_checker=None, feature_extractor=None,
        scheduler=diffusers.PNDMScheduler(skip_prk_steps=True, **files),
    )  # fmt: skip
    base.save_pretrained(tmp_path / "base")
    clips = diffusers.TextToVideoSDPipeline(
        **(parts | {"tokenizer": write_tokenizer(tmp_path / "padded with !", "!")}), unet=clip_unet,
        scheduler=diffusers.DDIMScheduler(set_alpha_to_one=False, clip_sample=False, **files),
    )  # fmt: skip
    clips.save_pretrained(tmp_path / "clips")
    monkeypatch.chdir(tmp_path)
    return tmp_path


SWAPS = {"animatediff": ("base", "base", "adapter"), "modelscope": ("base", "clips")}


def pair(name: str, **options: Any) -> TextToVideo:
    swaps = Swaps(*SWAPS[name], **options.pop("swaps", {}))
    return TextToVideo.from_pair(name, swaps=swaps, **options)


def animatediff(diffusers: ModuleType, **options: Any) -> Any:
    """The page's first pipeline."""
    adapter = diffusers.MotionAdapter.from_pretrained("adapter", **options)
    pipe = diffusers.AnimateDiffPipeline.from_pretrained("base", motion_adapter=adapter, **options)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(
        pipe.scheduler.config, beta_schedule="linear", timestep_spacing="trailing", **ALPHA_ONE
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def theirs(pipe: Any, **options: Any) -> Any:
    """What a pipeline makes of four steps from seed 3: latents, unless told otherwise."""
    call = {"num_inference_steps": 4, "generator": torch.Generator().manual_seed(3), "output_type": "latent"}
    return pipe(PROMPT, **call | PEERS | options).frames


def ours(model: TextToVideo, **options: Any) -> Any:
    return model(PROMPT, **{"sampler": "ddim", "steps": 4, "guidance": 7.5, "seed": 3} | SMALL | options)


def run_both(blocks: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The frames of diffusers' block and of ours, of clips of a hundredth of the size."""
    places = {
        "guoyww/animatediff-motion-adapter-v1-5-3": "adapter", "ali-vilab/text-to-video-ms-1.7b": "clips",
        "stable-diffusion-v1-5/stable-diffusion-v1-5": "base", "TextToVideo.from_pair": "pair",
    }  # fmt: skip
    found = []
    for block in blocks:
        for public, small in places.items():
            block = block.replace(public, small)
        block, sizes = re.subn(r"frames=16, height=\d+, width=\d+", "frames=3, height=16, width=24", block)
        assert sizes == 1
        namespace: dict[str, Any] = {"pair": pair}
        exec(compile(block, "coming_from_diffusers.md", "exec"), namespace)
        found.append(namespace["frames"])
    assert found[0].std() > 0.05  # not clamped all over
    return found[0], found[1]


@pytest.mark.slow
def test_d1_the_blocks_of_animatediff_draw_the_same(folders: Path) -> None:
    peer, mine = run_both(BLOCKS[:2])
    assert mine.shape == peer.shape == (1, 3, 16, 24, 3)
    assert np.abs(mine - 255.0 * peer).max() <= 0.5 + 255 * 1e-4
    assert (folders / "corgi.mp4").exists()


@pytest.mark.slow
def test_d2_the_blocks_of_modelscope_draw_the_same(folders: Path) -> None:
    peer, mine = run_both(BLOCKS[2:4])
    assert mine.shape == peer.shape == (1, 3, 16, 24, 3)
    assert np.abs(mine - 255.0 * peer).max() <= 0.5 + 255 * 1e-4


@pytest.mark.slow
def test_d3_their_words_are_answered_with_ours(diffusers: ModuleType) -> None:
    model = TextToVideo.from_pair("sprites")
    words = set(inspect.signature(diffusers.AnimateDiffPipeline.__call__).parameters) | {"scheduler"}
    table = {theirs.strip("`"): ours for theirs, ours in rows("theirs | here")}
    assert len(table) == 12
    assert table.keys() <= words
    for name, here in table.items():
        with pytest.raises(ValueError, match=re.escape(f"option {name!r} is not known: it is {ELSEWHERE[name]} here")):
            model("a red circle moving left", **{name: 1})
        assert any(word in here for word in re.findall(r"\w+", ELSEWHERE[name]))


# --- schedulers -----------------------------------------------------------------------------------------------------


def eps(z: Tensor, t: Any, condition: Any = None) -> Tensor:
    """A network that knows the time and its neighbours."""
    t = torch.as_tensor(t, dtype=torch.float64)
    return torch.tanh(0.7 * z + 0.3 * z.roll(1, -1) + 0.5 * torch.cos(3 * t / 1000)).to(z)


def played(scheduler: Any, n: int = 20, **options: Any) -> Tensor:
    """The last state of a scheduler of theirs, from noise z that is Z."""
    scheduler.set_timesteps(n)
    x = Z * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(eps(scheduler.scale_model_input(x, t), t), t, x, **options).prev_sample
    return x


def sampled(solver: Solver, levels: Tensor, start: Tensor | None = None, **options: Any) -> Tensor:
    network = Network(eps, VP, "epsilon", "video", **options)
    x = VP.start(Z, levels[0]) if start is None else start
    solver = replace(solver, end="euler") if isinstance(solver, HigherOrder) else solver
    return integrate(network(None), plain(levels, solver=solver), x).x


def difference(mine: Tensor, peer: Tensor) -> float:
    return float((mine - peer).abs().max() / peer.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("row", rows("theirs | `solver` | `spacing`"), ids=lambda row: row[0].strip("`"))
def test_d4_a_scheduler_is_a_solver_and_a_spacing(row: list[str], diffusers: ModuleType) -> None:
    theirs, solver, spacing, bound = (cell.strip("`") for cell in row)
    scheduler = eval(theirs.replace("Scheduler(", "Scheduler(**BETAS, "), {**vars_of(diffusers), "BETAS": BETAS})
    found = difference(sampled(SOLVERS[solver], VP.grid(20, spacing)), played(scheduler))  # type: ignore[arg-type]
    assert float(bound) / 100 < found <= float(bound)


def vars_of(diffusers: ModuleType) -> dict[str, Any]:
    return {name: getattr(diffusers, name) for name in dir(diffusers) if name.endswith("Scheduler")}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "solver"), [("EulerDiscreteScheduler", "euler"), ("HeunDiscreteScheduler", "heun")])
def test_d5_from_the_start_of_euler_and_heun_the_runs_agree(name: str, solver: str, diffusers: ModuleType) -> None:
    scheduler, levels = getattr(diffusers, name)(**BETAS, timestep_spacing="trailing"), VP.grid(20)
    peer = played(scheduler)
    assert difference(sampled(SOLVERS[solver], levels, start=Z * scheduler.init_noise_sigma), peer) < 1e-6
    assert float(VP.start(torch.tensor(1.0), levels[0]) / scheduler.init_noise_sigma) == pytest.approx(1.002, abs=5e-4)


@pytest.mark.slow
def test_d6_on_karras_levels_they_tell_whole_times(diffusers: ModuleType) -> None:
    peer = played(diffusers.DPMSolverMultistepScheduler(**BETAS, use_karras_sigmas=True))
    assert difference(sampled(DPMSolverPP2M(), VP.grid(20, "karras"), timesteps="nearest"), peer) < 2e-6


@pytest.mark.slow
def test_d7_any_grid_of_theirs_is_a_list_of_levels(diffusers: ModuleType) -> None:
    namespace: dict[str, Any] = {}
    exec(compile(BLOCKS[4], "coming_from_diffusers.md", "exec"), namespace)
    field, legs = Network(eps, VP, "epsilon", "video")(None), namespace["legs"]
    run = integrate(Guided(field, field), legs, VP.start(Z, legs[0].source))
    assert difference(run.x, played(namespace["theirs"])) < 1e-6


@pytest.mark.slow
def test_d8_zero_terminal_snr_is_their_rescaling(diffusers: ModuleType) -> None:
    peer = diffusers.DDIMScheduler(**BETAS, rescale_betas_zero_snr=True).alphas_cumprod
    torch.testing.assert_close(VP.zero_terminal_snr().alpha.square().float(), peer, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_d9_eta_is_that_of_ddim_given_the_same_noise(diffusers: ModuleType) -> None:
    fresh = torch.randn(20, *Z.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    scheduler = diffusers.DDIMScheduler(**BETAS, **ALPHA_ONE, timestep_spacing="trailing")
    scheduler.set_timesteps(20)
    peer = Z
    for t, xi in zip(scheduler.timesteps, fresh, strict=True):
        peer = scheduler.step(eps(peer, t), t, peer, eta=1.0, variance_noise=xi).prev_sample
    draws, levels = iter(fresh), VP.grid(20)
    field = Network(eps, VP, "epsilon", "video")(None)
    run = integrate(field, plain(levels, solver=DDIM(1.0)), VP.start(Z, levels[0]), noise=lambda *_: next(draws))
    assert difference(run.x, peer) < 1e-5


@pytest.mark.slow
def test_d10_files_say_leading_which_begins_below_pure_noise(diffusers: ModuleType) -> None:
    scheduler = diffusers.DDIMScheduler.from_config(diffusers.PNDMScheduler(steps_offset=1, **BETAS).config)
    scheduler.set_timesteps(25)
    chosen = sampling(describe("animatediff")[0]["defaults"], {"sampler": "ddim", "steps": 25})
    assert (int(scheduler.timesteps[0]), float(VP.t(chosen.grid(VP)[0]))) == (961, 999)
    assert float(VP.t(VP.grid(25, "leading")[0])) == 961


@pytest.mark.slow
def test_d11_without_alpha_one_theirs_ends_at_the_first_level(diffusers: ModuleType) -> None:
    options = {**BETAS, "clip_sample": False, "timestep_spacing": "trailing"}
    early, late = (played(diffusers.DDIMScheduler(**options, set_alpha_to_one=one)) for one in (False, True))
    levels = VP.grid(20)
    assert difference(sampled(Euler(), levels), late) < 1e-6
    assert 0.02 < VP.sigma_min < 0.03
    levels[-1] = VP.sigma_min
    assert difference(VP.alpha[0] * sampled(Euler(), levels), early) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(("n", "spacing"), [(30, "trailing"), (20, "linspace")])
def test_d12_their_ddim_leaves_the_grid_and_their_multistep_solvers_do_not(
    n: int, spacing: Any, diffusers: ModuleType
) -> None:
    ddim = diffusers.DDIMScheduler(**BETAS, **ALPHA_ONE, timestep_spacing=spacing)
    multistep = diffusers.DPMSolverMultistepScheduler(**BETAS, solver_order=1, timestep_spacing=spacing)
    peer, other = played(multistep, n), played(ddim, n)
    levels = VP.sigma(multistep.timesteps)
    mine = sampled(DPMSolverPP1(), torch.cat([levels, levels.new_zeros(1)]))
    assert difference(mine, peer) < 1e-6
    assert difference(sampled(Euler(), VP.grid(n, spacing)), other) > 1e-2


# --- noise, prompts, guidance ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_d13_a_list_of_seeds_is_a_list_of_generators(diffusers: ModuleType) -> None:
    draw, shape = diffusers.utils.torch_utils.randn_tensor, (4, 3, 8, 12)
    for kind in (torch.float32, torch.float16):
        generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
        assert torch.equal(draw((2, *shape), generators, dtype=kind), initial_noise([3, 4], shape).to(kind))
    first, second = draw((2, *shape), torch.Generator().manual_seed(3))
    assert torch.equal(first, initial_noise([3], shape)[0])
    assert not torch.equal(second, initial_noise([4], shape)[0])
    model, text = TextToVideo.from_pair("sprites"), "a red circle moving left"
    call = {"sampler": "ddim", "steps": 2, "frames": 2, "height": 16, "width": 16}
    drawn = model(text, seed=3, **call).latents
    assert diffusers.DDIMScheduler().init_noise_sigma == 1
    assert torch.equal(model(text, latents=initial_noise([3], (4, 2, 4, 4)), **call).latents, drawn)


def read(pipe: Any, prompt: str, **options: Any) -> Tensor:
    features: Tensor = pipe.encode_prompt(prompt, "cpu", 1, False, **options)[0]
    return features


def read_here(model: TextToVideo, prompt: str, clip_skip: int = 1, raw: bool = False) -> Tensor:
    side = model.pair.video
    return encode_prompts(side.tokenizer, side.text_encoder, [prompt], clip_skip, raw)


@pytest.mark.slow
def test_d14_brackets_are_weights_here_and_text_there(folders: Path, diffusers: ModuleType, agree: Any) -> None:
    pipe, model, text = animatediff(diffusers), pair("animatediff"), "a (red:1.3) circle"
    agree(read_here(model, r"a \(red:1.3\) circle"), read(pipe, text))
    agree(read_here(model, text, raw=True), read(pipe, text))
    assert not torch.allclose(read_here(model, text), read(pipe, text))


@pytest.mark.slow
def test_d15_what_is_too_long_is_cut_in_both(folders: Path, diffusers: ModuleType, agree: Any) -> None:
    pipe, model, text = animatediff(diffusers), pair("animatediff"), "a red circle " * 20
    with pytest.warns(UserWarning, match="cut"):
        mine = read_here(model, text)
    agree(mine, read(pipe, text))


@pytest.mark.slow
def test_d16_guidance_is_one_formula_that_theirs_leaves_below_one(
    folders: Path, diffusers: ModuleType, agree: Any
) -> None:
    pipe, model, seen = animatediff(diffusers), pair("animatediff"), list[int]()
    pipe.unet.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    for scale in (1.0, 7.5):
        agree(ours(model, guidance=scale).latents, theirs(pipe, guidance_scale=scale))
    assert seen == [1] * 4 + [2] * 4
    assert [ours(model, guidance=scale).record.forwards["video"] for scale in (1.0, 7.5)] == [4, 8]
    agree(ours(model, guidance=1.0).latents, theirs(pipe, guidance_scale=0.5))
    assert not torch.allclose(ours(model, guidance=0.5).latents, ours(model, guidance=1.0).latents)


@pytest.mark.slow
def test_d17_no_negative_prompt_is_the_empty_one(folders: Path, diffusers: ModuleType, agree: Any) -> None:
    pipe, model = animatediff(diffusers), pair("animatediff")
    assert {describe(name)[0]["defaults"]["negative_prompt"] for name in PUBLIC} == {""}
    assert torch.equal(theirs(pipe), theirs(pipe, negative_prompt=""))
    agree(ours(model).latents, theirs(pipe))
    record = model.record(PROMPT, sampler="composite", negative_prompt="blurry", image_negative_prompt="moved")
    assert (record.negative_prompts, record.image_negative_prompts) == (["blurry"], ["moved"])


@pytest.mark.slow
def test_d18_clip_skip_is_one_more_here(folders: Path, diffusers: ModuleType, agree: Any) -> None:
    pipe, model = animatediff(diffusers), pair("animatediff")
    if not hasattr(pipe.text_encoder, "text_model"):  # it asks for a part that transformers 5 no longer has
        object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)
    agree(read_here(model, PROMPT, clip_skip=2), read(pipe, PROMPT, clip_skip=1))
    assert not torch.allclose(read_here(model, PROMPT), read(pipe, PROMPT, clip_skip=1))


@pytest.mark.slow
def test_d19_the_state_is_float32(folders: Path, diffusers: ModuleType) -> None:
    pipe, model = animatediff(diffusers, torch_dtype=torch.bfloat16), pair("animatediff", dtype="bfloat16")
    assert (ours(model).latents.dtype, theirs(pipe).dtype) == (torch.float32, torch.bfloat16)


@pytest.mark.slow
def test_d20_results_are_their_floats_as_bytes_and_their_latents(
    folders: Path, diffusers: ModuleType, agree: Any
) -> None:
    pipe, result = animatediff(diffusers), ours(pair("animatediff"))
    agree(result.latents, theirs(pipe))
    peer = theirs(pipe, output_type="np")
    assert (result.frames.shape, result.frames.dtype) == (peer.shape, np.uint8)
    assert np.abs(result.frames - 255.0 * peer).max() <= 0.5 + 255 * 1e-4


@pytest.mark.slow
def test_d21_callbacks_count_from_one_and_see_z_over_alpha(folders: Path, diffusers: ModuleType, agree: Any) -> None:
    pipe, model = animatediff(diffusers), pair("animatediff")
    peers, mine = list[tuple[int, Tensor]](), list[tuple[int, int, Tensor]]()
    schedule = model.pair.video.schedule

    def on_step(pipe: Any, i: int, t: Any, given: dict[str, Any]) -> dict[str, Any]:
        peers.append((i, given["latents"]))
        return given

    def on_step_here(step: int, total: int, run: Any) -> None:
        mine.append((step, total, run.x if run.at == 0 else schedule.alpha_at(run.at) * run.x))

    theirs(pipe, callback_on_step_end=on_step)
    ours(model, callback=on_step_here)
    assert ([i for i, _ in peers], [count[:2] for count in mine]) == ([0, 1, 2, 3], [(k, 4) for k in (1, 2, 3, 4)])
    for (_, _, z), (_, peer) in zip(mine, peers, strict=True):
        agree(z.float(), peer)
    assert ours(model, callback=lambda step, total, run: step < 2).record.cancelled


@pytest.mark.slow
def test_d22_freeinit_has_their_filter_and_first_run(folders: Path, diffusers: ModuleType, agree: Any) -> None:
    pipe, model = animatediff(diffusers), pair("animatediff")
    default = inspect.signature(pipe.enable_free_init).parameters["num_iters"].default
    assert (default, ours(model, sampler="freeinit").record.sampling["iterations"]) == (3, 5)
    peer = pipe._get_free_init_freq_filter((1, 4, 8, 16, 16), "cpu", "butterworth", 4, 0.25, 0.25)
    agree(torch.fft.fftshift(LowPass().response(8, 16, 16)).float(), peer[0, 0])
    for runs, same in ((1, True), (2, False)):
        pipe.enable_free_init(num_iters=runs)
        mine, peer = ours(model, sampler="freeinit", iterations=runs).latents, theirs(pipe)
        assert torch.allclose(mine, peer, rtol=0, atol=1e-4 * float(peer.abs().max())) == same


@pytest.mark.slow
def test_d23_a_lora_has_its_weight_after_a_colon(folders: Path, diffusers: ModuleType, agree: Any) -> None:
    pytest.importorskip("peft")
    pipe, width = animatediff(diffusers), 40
    path = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    factors = [torch.randn(size, generator=torch.Generator().manual_seed(1)) for size in ((2, width), (width, 2))]
    save_file({f"{path}.lora_{side}.weight": value for side, value in zip("AB", factors, strict=True)}, "a.safetensors")
    pipe.load_lora_weights("a.safetensors", adapter_name="a")
    pipe.set_adapters("a", 0.8)
    peer = theirs(pipe)
    agree(ours(pair("animatediff", swaps={"video_lora": ("a.safetensors:0.8",)})).latents, peer)
    assert not torch.allclose(ours(pair("animatediff")).latents, peer, atol=1e-2)


# --- networks and files ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_d24_their_networks_are_mixed_as_they_are(
    local: None, image_unet: Any, motion_adapter: Any, diffusers: ModuleType, agree: Any, normal: Callable[..., Tensor]
) -> None:
    motion = diffusers.UNetMotionModel.from_unet2d(image_unet, motion_adapter).eval()
    text, empty, z = normal(1, 7, 24), normal(1, 7, 24, seed=1), normal(1, 4, 3, 8, 12, seed=2)
    namespace: dict[str, Any] = {"image_unet": image_unet, "motion_unet": motion, "text": text, "empty": empty}
    exec(compile(BLOCKS[5], "coming_from_diffusers.md", "exec"), namespace)
    for name, network, schedule in (("image", image_unet, VP), ("video", motion, Schedule.linear(0.00085, 0.012))):
        sigma = schedule.sigma(601)
        x, t = z / float(schedule.alpha_at(sigma)), torch.tensor(601)
        if name == "image":
            peer = torch.stack([network(z[:, :, k], t, text).sample for k in range(3)], dim=2)
        else:
            peer = network(z, t, repeat_rows(text, 3)).sample
        agree((x - namespace["pair"][name].cond(x, sigma)) / float(sigma), peer)
    sigmas = VP.grid(2)
    limit = composite(**namespace["pair"], guidance=2.0, reference=sigmas)
    assert integrate(limit, plain(sigmas), VP.start(z, sigmas[0])).nfe == {"image": 2, "video": 2}


@pytest.mark.slow
def test_d25_diffusers_opens_the_networks_of_a_pair(local: None, diffusers: ModuleType) -> None:
    namespace: dict[str, Any] = {}
    exec(compile(BLOCKS[6], "coming_from_diffusers.md", "exec"), namespace)
    own = TextToVideo.from_pair("sprites").pair
    for peer, mine in ((namespace["unet"], own.image.unet), (namespace["vae"], own.vae)):
        states = peer.state_dict(), mine.state_dict()
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
