"""What a model was trained on is read from its files, said by its user, or taken as the pair's; and never guessed."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ivmix import TextToVideo
from ivmix.cli import main
from ivmix.generation.announcements import announcements
from ivmix.generation.job import make_job
from ivmix.models import UNet, UNetConfig
from ivmix.models.checkpoints.load import load_unet
from ivmix.pairs.description import EMBEDDED, describe
from ivmix.pairs.pair import load_pair
from ivmix.pairs.swaps import Swaps, with_swaps
from ivmix.pairs.trained_as import read_scheduler
from ivmix.samplers.samplers import SAMPLERS
from ivmix.solvers import Schedule

SPRITES = EMBEDDED["sprites"]
SD15 = {"_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
        "trained_betas": None, "clip_sample": False}  # fmt: skip
SCALED = {"kind": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "timesteps": 1000}
PLAIN = {"clip_skip": 1, "fps": None, "latent_size": None, "motion_norm": None}  # what a record says besides
ZERO = {"kind": "zero_terminal_snr", "of": SCALED}
V_ZERO = SD15 | {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
                 "timestep_spacing": "trailing"}  # fmt: skip
RED = "a red circle moving left"
QUICK = {"sampler": "ddim", "steps": 3, "frames": 2, "height": 16, "width": 16}
COMMAND = ["--sampler", "ddim", "--steps", "3", "--frames", "2", "--size", "16x16"]


def written(folder: Path, raw: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scheduler_config.json"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return path


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """The image model of the sprites as a pipeline's folder that says it predicts v at zero terminal SNR."""
    folder = tmp_path / "pipeline"
    folder.mkdir()
    for part in ("unet", "text_encoder"):
        shutil.copytree(SPRITES / "image" / part, folder / part)
    written(folder / "scheduler", V_ZERO)
    return folder


def single(path: Path, network: nn.Module | None = None, *, markers: tuple[str, ...] = (), **metadata: str) -> str:
    """A UNet in one file, as merges are."""
    network = network or UNet(UNetConfig(block_out_channels=(32, 32), attention_levels=(True, False)))
    state = network.state_dict() | {name: torch.ones(0) for name in markers}
    save_file(state, path, metadata={name.replace("__", "."): value for name, value in metadata.items()})
    return str(path)


def sides(swaps: Swaps, pair: str = "sprites") -> tuple[dict, dict]:
    """Prediction, schedule and origin of both sides, as they will be."""
    new = with_swaps(describe(pair)[0], swaps)
    names = ("prediction", "schedule", "from")
    return tuple({name: new[side][name] for name in names} for side in ("image", "video"))  # type: ignore[return-value]


# --- a pipeline's scheduler_config.json -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "prediction", "schedule"),
    [
        ({}, "epsilon", SCALED),
        ({"lambda_min_clipped": float("-inf")}, "epsilon", SCALED),  # no JSON, but what diffusers writes
        ({"prediction_type": "sample"}, "x0", SCALED),
        ({"beta_schedule": "linear"}, "epsilon", SCALED | {"kind": "linear"}),
        ({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, "v", ZERO),
        ({"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 500}, "epsilon",
         {"kind": "cosine", "timesteps": 500}),
        ({"trained_betas": [0.5, 0.5]}, "epsilon", {"kind": "alpha_bar", "alpha_bar": [0.5, 0.25]}),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, "flow",
         {"kind": "rectified_flow", "timesteps": 1000, "t_max": 1000}),
        ({"prediction_type": "flow_prediction", "use_flow_sigmas": True}, "flow",
         {"kind": "rectified_flow", "timesteps": 1000, "t_max": 1000}),
    ],
)  # fmt: skip
def test_a_scheduler_is_read_in_our_words(changes: dict, prediction: str, schedule: dict, tmp_path: Path) -> None:
    said = read_scheduler(written(tmp_path, SD15 | changes))
    assert (said.prediction, said.schedule) == (prediction, schedule)
    assert Schedule.from_config(schedule).to_config().items() >= schedule.items()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (SD15 | {"prediction_type": "velocity"}, r"prediction_type is 'velocity', expected one .*--image-prediction"),
        (SD15 | {"prediction_type": ["epsilon"]}, "prediction_type is "),
        (SD15 | {"prediction_type": "flow_prediction"}, "is 'flow_prediction', but its schedule is no rectified flow"),
        (SD15 | {"use_flow_sigmas": True, "prediction_type": "epsilon"}, "but its schedule is a rectified flow"),
        (SD15 | {"beta_schedule": "sigmoid"}, "beta_schedule: got 'sigmoid', expected one .*--image-schedule or --"),
        ({"prediction_type": "epsilon"}, "beta_schedule: got none, expected one of linear"),
        ({"beta_schedule": "linear", "beta_start": 0.1}, "beta_end: got none, expected a number with beta_s"),
        (SD15 | {"beta_start": "0.1"}, "beta_start"),
        (SD15 | {"beta_end": float("inf")}, "beta_end"),
        (SD15 | {"beta_start": 0.5}, "beta_start, beta_end: got 0.5"),
        (SD15 | {"num_train_timesteps": 10**9}, "num_train_timesteps: got 1000000000, expected a whole number f"),
        (SD15 | {"trained_betas": 5}, "trained_betas: got 5, expected a list"),
        (SD15 | {"trained_betas": [0.1, 2.0]}, "alpha"),
        (SD15 | {"rescale_betas_zero_snr": "yes"}, "rescale_betas_zero_snr: got 'yes', expected true"),
        (SD15 | {"snr_shift_scale": 3.0}, "snr_shift_scale: got 3.0, expected 1.0"),
        (SD15 | {"timestep_type": "continuous"}, "timestep_type: got 'continuous', expected 'discr"),
        ("<html>", "is not JSON"),
    ],
)
def test_a_scheduler_that_no_schedule_here_can_be_is_one_line_with_the_remedy(
    raw: object, message: str, pipeline: Path
) -> None:
    path = written(pipeline / "scheduler", raw)
    with pytest.raises(ValueError, match=message) as caught:
        sides(Swaps(image_model=str(pipeline)))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_swapped_pipeline_is_what_its_own_scheduler_says(pipeline: Path) -> None:
    """The whole way: loaded as v at zero terminal SNR, sampled from an infinite level, recorded with what said so."""
    model = TextToVideo.from_pair("sprites", swaps=Swaps(image_model=str(pipeline)))
    side = model.pair.image
    assert side.prediction == "v"
    assert torch.equal(side.schedule.alpha, Schedule.scaled_linear().zero_terminal_snr().alpha)
    result = model(RED, **QUICK | {"sampler": "image"})
    assert result.latents.isfinite().all()
    file = str(pipeline / "scheduler" / "scheduler_config.json")
    assert json.loads(json.dumps(result.record.models)) == {
        "image": {"prediction": "v", "schedule": ZERO, "from": {"prediction": file, "schedule": file}, **PLAIN},
        "video": {"prediction": "v", "schedule": SCALED, "from": {"prediction": "pair", "schedule": "pair"}, **PLAIN,
                  "motion_norm": "diffusers"},
    }  # fmt: skip


def test_a_unet_s_own_folder_is_what_the_scheduler_beside_it_says(pipeline: Path) -> None:
    image, _ = sides(Swaps(image_model=str(pipeline / "unet")))
    assert (image["prediction"], image["schedule"]) == ("v", ZERO)
    assert image["from"]["schedule"] == str(pipeline / "scheduler" / "scheduler_config.json")


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "official"])
def test_both_models_at_zero_terminal_snr_sample_by_every_sampler(sampler: str) -> None:
    zero = {"image_prediction": "v", "image_schedule": "zero-snr", "video_schedule": "zero-snr"}
    model = TextToVideo.from_pair("sprites", swaps=Swaps(**zero))
    assert model.pair.video.schedule.sigma_max == float("inf")
    assert model(RED, **QUICK | {"sampler": sampler, "steps": 4}).latents.isfinite().all()


def test_a_model_that_predicts_epsilon_does_not_begin_at_zero_terminal_snr() -> None:
    model = TextToVideo.from_pair("sprites", swaps=Swaps(video_prediction="epsilon", video_schedule="zero-snr"))
    with pytest.raises(ValueError, match=r"video model predicts epsilon.* zero terminal SNR.*'leading'.*--video-p"):
        model.record(RED, **QUICK)
    assert model(RED, **QUICK, spacing="leading").latents.isfinite().all()
    both = Swaps(image_prediction="epsilon", image_schedule="zero-snr", video_schedule="zero-snr")
    model = TextToVideo.from_pair("sprites", swaps=both)
    with pytest.warns(UserWarning, match="the video model takes 1 of 3 steps alone"):
        result = model(RED, **QUICK | {"sampler": "composite"})
    assert result.latents.isfinite().all()
    assert not [*announcements(make_job(model.pair, RED, **QUICK | {"sampler": "ddim"}))]  # which takes all of them


def test_spacings_that_begin_at_the_schedule_s_end_say_that_it_is_infinite() -> None:
    model = TextToVideo.from_pair("sprites", swaps=Swaps(video_schedule="zero-snr"))
    with pytest.raises(ValueError, match="spacing='karras' has no level to begin at where the schedule's last is"):
        model.record(RED, **QUICK, spacing="karras")


# --- motion modules and the spatial half around them ----------------------------------------------------------------


def test_motion_modules_keep_their_schedule_whatever_the_spatial_half_was_trained_on(pipeline: Path) -> None:
    written(pipeline / "scheduler", SD15 | {"prediction_type": "v_prediction"})
    _, video = sides(Swaps(video_model=str(pipeline)), "animatediff")
    assert (video["prediction"], video["schedule"]["kind"], video["from"]["schedule"]) == ("v", "linear", "pair")
    assert video["from"]["prediction"] == str(pipeline / "scheduler" / "scheduler_config.json")
    written(pipeline / "scheduler", V_ZERO)
    with pytest.warns(UserWarning, match="zero terminal SNR, is not its motion modules': they keep the pair's, linear"):
        sides(Swaps(video_model=str(pipeline)), "animatediff")
    _, video = sides(Swaps(video_model=str(pipeline), video_schedule="zero-snr"), "animatediff")
    assert video["schedule"] == {"kind": "zero_terminal_snr", "of": SCALED | {"kind": "linear"}}


def test_a_video_pipeline_with_modules_of_its_own_brings_its_schedule(pipeline: Path) -> None:
    shutil.rmtree(pipeline / "unet")
    shutil.copytree(SPRITES / "video" / "unet", pipeline / "unet")
    _, video = sides(Swaps(video_model=str(pipeline)), "animatediff")
    assert (video["prediction"], video["schedule"]) == ("v", ZERO)
    assert "motion" not in with_swaps(describe("animatediff")[0], Swaps(video_model=str(pipeline)))["video"]


# --- single files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("markers", "metadata", "prediction", "schedule"),
    [
        (("v_pred", "ztsnr"), {}, "v", ZERO),
        (("v_pred",), {"modelspec__prediction_type": "v"}, "v", None),
        ((), {"modelspec__prediction_type": "epsilon"}, "epsilon", None),
        ((), {"modelspec__prediction_type": "v"}, "v", None),
        ((), {"format": "pt"}, None, None),
    ],
)
def test_a_single_file_is_what_it_says_and_the_pair_s_where_it_does_not(
    markers: tuple[str, ...], metadata: dict, prediction: str | None, schedule: dict | None, tmp_path: Path
) -> None:
    file = single(tmp_path / "a.safetensors", markers=markers, **metadata)
    lacking = [name for name, told in (("prediction", prediction), ("schedule", schedule)) if told is None]
    if lacking:
        options = " and ".join(f"--image-{name}" for name in lacking)
        line = f"does not say its {' and '.join(lacking)}: taken to be the pair's, .*; say otherwise by {options}$"
        with pytest.warns(UserWarning, match=line):
            image, _ = sides(Swaps(image_model=file))
    else:
        image, _ = sides(Swaps(image_model=file))
    assert image == {
        "prediction": prediction or "epsilon", "schedule": schedule or SCALED,
        "from": {"prediction": file if prediction else "pair", "schedule": file if schedule else "pair"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("markers", "told", "message"),
    [(("v_pred",), "epsilon", "is 'epsilon', its tensor v_pred says v"), ((), "vpred", "is 'vpred', expected v or e")],
)
def test_a_single_file_that_contradicts_itself_is_refused_unless_its_user_says(
    markers: tuple[str, ...], told: str, message: str, tmp_path: Path
) -> None:
    file = single(tmp_path / "a.safetensors", markers=markers, modelspec__prediction_type=told)
    with pytest.raises(ValueError, match=message + ".*--image-prediction"):
        sides(Swaps(image_model=file))
    with pytest.warns(UserWarning, match="does not say its schedule"):
        image, _ = sides(Swaps(image_model=file, image_prediction="v"))
    assert (image["prediction"], image["from"]["prediction"]) == ("v", "option")


# --- what the user says ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "schedule"),
    [
        ("scaled_linear", SCALED),
        ("linear", SCALED | {"kind": "linear"}),
        ("zero-snr", ZERO),
        (json.dumps(ZERO), ZERO),
        (json.dumps(V_ZERO), ZERO),
        (ZERO, ZERO),
        ("{file}", ZERO),
        ("{folder}", ZERO),
    ],
)
def test_a_schedule_is_said_by_name_as_json_or_as_a_file(given: object, schedule: dict, tmp_path: Path) -> None:
    file = written(tmp_path / "scheduler", V_ZERO)
    places = {"{file}": str(file), "{folder}": str(file.parent)}
    swaps = Swaps(image_schedule=places.get(str(given), given))  # type: ignore[arg-type]
    image, video = sides(swaps)
    assert (image["schedule"], image["from"]) == (schedule, {"prediction": "pair", "schedule": "option"})
    assert video["from"] == {"prediction": "pair", "schedule": "pair"}
    assert Swaps.from_dict(json.loads(json.dumps(swaps.to_dict()))) == swaps


def test_zero_snr_is_of_the_schedule_that_the_model_itself_says(pipeline: Path) -> None:
    written(pipeline / "scheduler", SD15 | {"beta_schedule": "linear"})
    image, _ = sides(Swaps(image_model=str(pipeline), image_schedule="zero-snr"))
    assert image["schedule"] == {"kind": "zero_terminal_snr", "of": SCALED | {"kind": "linear"}}


def test_what_the_user_says_is_not_read_from_a_file_that_cannot_say_it(pipeline: Path) -> None:
    written(pipeline / "scheduler", SD15 | {"beta_schedule": "sigmoid", "prediction_type": "v_prediction"})
    image, _ = sides(Swaps(image_model=str(pipeline), image_schedule="scaled_linear"))
    assert (image["prediction"], image["schedule"]) == ("v", SCALED)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image_prediction": "v_prediction"}, "image_prediction is 'v_prediction', expected 'epsilon' or 'x0' or 'v'"),
        ({"image_schedule": "karras"}, "image_schedule is 'karras', expected scaled_linear, linear, zero-snr, JSON, o"),
        ({"video_schedule": "{"}, "video_schedule is not JSON"),
        ({"video_schedule": '{"kind": "linear", "beta": 1}'}, "video_schedule: linear: got unknown keys"),
        ({"video_schedule": '{"kind": "fading"}'}, "video_schedule: fading: got no of, expected"),
        ({"video_schedule": {"kind": "table", "alpha": "x"}}, "video_schedule: table: got no sigma_vp"),
        ({"video_schedule": "{}"}, "video_schedule: kind: got None, expected one of .*, or the entries of diffusers'"),
        ({"video_schedule": '{"trained_betas": 5}'}, "video_schedule: trained_betas: got 5, expected a list"),
    ],
)
def test_what_the_user_says_wrong_is_one_line(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        sides(Swaps(**given))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image_model": Path("sd15")}, r"swaps: image_model is PosixPath\('sd15'\), expected text or null"),
        ({"video_lora": "style.safetensors"}, "swaps: video_lora is 'style.safetensors', expected a list, each text"),
        ({"drop": "optimizer.*"}, r"swaps: drop is 'optimizer\.\*', expected a list"),
        ({"image_schedule": 5}, "swaps: image_schedule is 5, expected text or an object or null"),
        ({"clip_skip": "1"}, "swaps: clip_skip is '1', expected a whole number or null"),
    ],
)
def test_a_swap_of_another_type_is_refused_by_name(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Swaps(**given)


def test_a_schedule_that_fades_has_no_zero_terminal_snr() -> None:
    with pytest.raises(ValueError, match=r"video_schedule: the schedule .*x0 fading to 0\.7 cannot be rescaled"):
        sides(Swaps(video_schedule="zero-snr"), "videocrafter2")


# --- motion_norm and drop in a pair ---------------------------------------------------------------------------------


def test_whose_norms_motion_modules_have_is_an_entry_of_the_pair_and_a_swap(tmp_path: Path) -> None:
    raw = json.loads((SPRITES / "pair.json").read_text())
    for side in ("image", "video"):
        for part in ("unet", "text_encoder", "tokenizer"):
            raw[side][part] = str(SPRITES / raw[side][part])
    raw |= {"vae": str(SPRITES / "vae"), "judge": str(SPRITES / "judge")}
    raw["video"]["motion_norm"] = "authors"

    def norm(**swaps: str) -> bool:
        (tmp_path / "pair.json").write_text(json.dumps(raw))
        return load_pair(tmp_path, swaps=Swaps(**swaps)).video.unet.config.temporal.joint_norm  # type: ignore[arg-type,union-attr]

    assert [norm(), norm(motion_norm="diffusers")] == [False, True]
    raw["video"]["motion_norm"] = "mine"
    with pytest.raises(ValueError, match="motion_norm is 'mine', expected 'authors' or 'diffusers'"):
        norm()


def test_a_pattern_leaves_keys_out_of_whichever_file_has_them(pipeline: Path) -> None:
    unet = load_unet(SPRITES / "image" / "unet")
    weights = pipeline / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(unet.state_dict() | {"optimizer.step": torch.zeros(1)}, weights)
    swaps = Swaps(image_model=str(pipeline))
    with pytest.raises(ValueError, match=r"not: optimizer\.step"):
        load_pair("sprites", swaps=swaps)
    with pytest.warns(UserWarning, match="1 keys left out as asked, first optimizer.step"):
        pair = load_pair("sprites", swaps=replace(swaps, drop=("optimizer.*",)))
    assert torch.equal(pair.image.unet.conv_in.weight, load_pair("sprites").image.unet.conv_in.weight)
    with pytest.raises(ValueError, match=r"drop='scaler\.\*' fits no key of any file of weights"):
        load_pair("sprites", swaps=replace(swaps, drop=("optimizer.*", "scaler.*")))


def test_a_stray_key_of_a_single_file_is_named_where_no_unet_is_found(tmp_path: Path) -> None:
    network = UNet(UNetConfig(block_out_channels=(32, 32), attention_levels=(True, False)))
    network.register_buffer("stray", torch.zeros(1))
    file = single(tmp_path / "a.safetensors", network, markers=("v_pred", "ztsnr"))
    with pytest.raises(ValueError, match=r"expected a UNet or .*, found nothing known: .*not: stray; --drop PATTERN"):
        sides(Swaps(image_model=file))
    image, _ = sides(Swaps(image_model=file, drop=("stray",)))
    assert image["prediction"] == "v"


@pytest.mark.parametrize(
    ("swaps", "message"),
    [
        (Swaps(image_model="o/n"), "image_model: no file .* o/n; a repository of the hub is hub:o/n$"),
        (Swaps(vae="https://huggingface.co/o/n/"), r"vae: no file .*; a repository of the hub is hub:o/n$"),
        (Swaps(motion="/nowhere/mm.ckpt"), r"motion: no file or folder /nowhere/mm\.ckpt$"),
        (Swaps(tokenizer="a/b/c"), "tokenizer: no file or folder a/b/c$"),
    ],
)
def test_a_model_that_is_not_there_is_named_with_its_option_and_what_may_be_meant(swaps: Swaps, message: str) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        load_pair("sprites", swaps=swaps)


def test_a_file_of_which_all_is_left_out_says_so(tmp_path: Path) -> None:
    save_file({"betas": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"expected a UNet or .*, found nothing known: all that it holds is left out"):
        sides(Swaps(image_model=str(tmp_path / "a.safetensors")))


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_says_what_was_taken_from_where_and_its_record_makes_it_again(
    pipeline: Path, tmp_path: Path
) -> None:
    def sample(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ivmix", "sample", "--quiet", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    options = [*COMMAND, "--image-model", "pipeline", "--video-prediction", "v", "--video-schedule", "zero-snr"]
    said = sample(RED, "-o", "out.webp", *options).stderr.splitlines()
    file = pipeline / "scheduler" / "scheduler_config.json"
    words = "scaled_linear (0.00085 to 0.012), zero terminal SNR"
    assert said == [
        f"image model: prediction v on {words} ({file})",
        f"video model: prediction v on {words} (option)",
    ]
    record = json.loads((tmp_path / "out.webp.json").read_text())
    assert record["models"]["video"] == {
        "prediction": "v", "schedule": ZERO, "from": {"prediction": "option", "schedule": "option"}, **PLAIN,
        "motion_norm": "diffusers",
    }  # fmt: skip
    sample("--from", "out.webp.json", "-o", "again.webp")
    assert (tmp_path / "again.webp").read_bytes() == (tmp_path / "out.webp").read_bytes()
    assert json.loads((tmp_path / "again.webp.json").read_text())["models"] == record["models"]


def test_the_pair_s_own_models_are_not_announced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", RED, "-o", str(tmp_path / "out.webp"), "--quiet", *COMMAND]) == 0
    assert capsys.readouterr().err == ""


def test_a_scheduler_that_cannot_be_is_one_line_of_the_command(
    pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(pipeline / "scheduler", SD15 | {"beta_schedule": "sigmoid"})
    assert main(["sample", RED, "-o", str(tmp_path / "out.webp"), *COMMAND, "--image-model", str(pipeline)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "beta_schedule: got 'sigmoid', expected one of linear, scaled_linear, squaredcos_cap_v2" in line


def test_inspect_shows_what_of_a_scheduler_is_taken_and_what_is_not(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(pipeline)]) == 0
    block = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert block == [
        str(pipeline / "scheduler" / "scheduler_config.json"),
        "  scheduler      DDIMScheduler",
        "  taken          prediction v, schedule scaled_linear (0.00085 to 0.012), zero terminal SNR",
        "  not taken      timestep_spacing=trailing, steps_offset=1, set_alpha_to_one=False, clip_sample=False: how to "
        "sample is said by --spacing and --solver",
    ]
    written(pipeline / "scheduler", SD15 | {"beta_schedule": "sigmoid"})
    assert main(["inspect", "--json", str(pipeline / "scheduler" / "scheduler_config.json")]) == 1
    (raw,) = json.loads(capsys.readouterr().out)
    assert (raw["class"], raw["schedule"], raw["sampling"]["steps_offset"]) == ("PNDMScheduler", None, 1)
    assert "beta_schedule: got 'sigmoid'" in raw["problem"]


def test_inspect_shows_what_a_single_file_says_of_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", single(tmp_path / "a.safetensors", markers=("v_pred", "ztsnr"))]) == 0
    said = capsys.readouterr().out
    assert "  trained        prediction v, zero terminal SNR\n" in said
    assert "  left out       v_pred, ztsnr\n" in said
