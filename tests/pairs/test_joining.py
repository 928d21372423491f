"""A pair made of the video model of one and the image model of another, of other latents and larger frames: by the
command, from small random repositories in their public layout, to a clip."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_pair import write_modules, write_pipeline, write_xl_pipeline

from ivmix import TextToVideo
from ivmix.cli import main
from ivmix.pairs.description import describe
from ivmix.pairs.joining import joined, own_vae

HUB = {
    "hub:stable-diffusion-v1-5/stable-diffusion-v1-5": "sd15",
    "hub:stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
    "hub:guoyww/animatediff-motion-adapter-v1-5-3": "mm.safetensors",
    "hub:guoyww/animatediff-motion-adapter-sdxl-beta": "mm.safetensors",
}
SIZE = {"frames": 2, "height": 32, "width": 64}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both pairs' repositories, their descriptions, and pictures."""
    folder = tmp_path_factory.mktemp("joined")
    write_pipeline(folder / "sd15")
    write_modules(folder / "mm.safetensors")
    write_xl_pipeline(folder / "sdxl", 3)
    for name in ("animatediff", "animatediff-sdxl"):
        text = json.dumps(describe(name)[0])
        for source, place in HUB.items():
            text = text.replace(source, str(folder / place))
        (folder / name).mkdir()
        (folder / name / "pair.json").write_text(json.dumps(json.loads(text) | SIZE))
    (folder / "pictures").mkdir()
    noise = np.random.default_rng(0)
    for k in range(4):
        coarse = Image.fromarray(noise.integers(0, 256, (4, 8, 3), dtype=np.uint8))
        coarse.resize((64, 40)).save(folder / "pictures" / f"{k}.png")
    return folder


def bridge(home: Path, *given: object) -> int:
    clips = sorted((home / "pictures").iterdir())
    words = [*clips, "--video", home / "animatediff", "--image", home / "animatediff-sdxl", *given]
    return main(["bridge", *map(str, words)])


@pytest.mark.slow
def test_a_pair_across_pixels_is_made_and_draws_with_an_image_model_of_frames_twice_as_large(home, capsys):
    assert bridge(home, "--scale", 2, "-o", home / "new" / "stills") == 0
    said = capsys.readouterr().err
    assert "levels of equal signal to noise: 0.03 -> " in said
    assert "a round trip changes " in said
    raw, _, _ = describe(home / "new" / "stills")
    assert raw["image"]["vae"] == str(home / "sdxl" / "vae")
    assert (raw["image"]["vae_scaling"], raw["image"]["vae_dtype"]) == (0.13025, "float32")
    assert (raw["vae"], raw["defaults"]["sampler"]) == (str(home / "sd15" / "vae"), "composite")
    assert raw["defaults"]["composite"] == describe("animatediff")[0]["defaults"]["composite"]

    model, seen = TextToVideo.from_pair(home / "new" / "stills", "cpu"), []
    hook = model.pair.image.unet.register_forward_pre_hook(lambda unet, given: seen.append((given[0], given[2])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = model("a red cat", steps=3)
    hook.remove()
    assert result.frames.shape == (1, 2, 32, 64, 3)
    assert {tuple(z.shape) for z, _ in seen} == {(2, 4, 2, 32, 64)}  # guided, latents of half of 64x128
    told = (model.pair.image.condition(["", "a red cat"], size=size).embedding for size in ((64, 128), (32, 64)))
    larger, smaller = ((seen[0][1].embedding - embedding).abs().max() for embedding in told)
    assert larger <= 1e-6 < 1e-3 < smaller  # it is told the size that it sees


@pytest.mark.slow
def test_a_pair_across_learned_maps_is_made_of_models_in_place_of_those_named_and_draws(home, capsys):
    own = ["--image-model", home / "sdxl", "--motion", home / "mm.safetensors", "--maps", "--steps", 3]
    assert bridge(home, "--image", home / "animatediff", *own, "-o", home / "mapped") == 0
    assert "maps explain " in capsys.readouterr().err
    raw, _, _ = describe(home / "mapped")
    assert raw["bridge"]["to_image"] == str(home / "mapped" / "to_image")
    assert raw["image"]["text_encoder_2"] == str(home / "sdxl" / "text_encoder_2")
    assert (raw["image"]["vae"], raw["image"]["vae_dtype"]) == (str(home / "sdxl" / "vae"), "float32")
    with pytest.warns(UserWarning, match="3 calls of a learned map"):
        TextToVideo.from_pair(home / "mapped", "cpu")("a red cat", steps=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--scale", 0], "--scale=0: expected a whole number from 1 to 16"),
        (["--image", "nosuch"], "pair 'nosuch': expected one of sprites"),
        (["--image-model", "nosuch"], "image_model: no file or folder nosuch"),
        (["--image-model", "mm.safetensors"], "expected a UNet or transformer, found motion"),
        (["--maps", "--steps", 0], "--steps=0: expected a whole number of 1 or more"),
        (["--steps", 5], "--steps=5: expected --maps beside it"),
        (["-o", "sd15"], "-o sd15: there already, expected the name of a new folder"),
    ],
)
def test_what_makes_no_pair_is_told_in_a_line_and_leaves_nothing(home, monkeypatch, capsys, given, said):
    monkeypatch.chdir(home)
    before = sorted(home.iterdir())
    assert bridge(home, "-o", "wrong", *given) != 0
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("ivmix bridge: error: ")
    assert said in line
    assert sorted(home.iterdir()) == before


@pytest.mark.slow
def test_maps_of_few_pictures_are_refused_before_anything_is_measured(home, capsys):
    words = ["--video", home / "animatediff", "--image", home / "animatediff-sdxl", "--maps", "-o", home / "few"]
    assert main(["bridge", *(str(home / "pictures" / f"{k}.png") for k in range(3)), *map(str, words)]) == 2
    said = capsys.readouterr().err
    assert said == "ivmix bridge: error: clips: got 3 frames, expected at least 4, and better some hundreds\n"


@pytest.mark.slow
def test_two_models_of_one_autoencoder_are_told_that_they_need_no_bridge(home, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert bridge(home, "--image", home / "animatediff", "-o", home / "needless") == 0
    assert "warning: both models have the same autoencoder" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"), [("0.png", "clips: expected frames that differ, got one"), ("no.png", "there is no such file")]
)
def test_pictures_that_tell_nothing_are_refused(home, capsys, name, said):
    words = [home / "pictures" / name, "--video", home / "animatediff", "--image", home / "animatediff-sdxl"]
    assert main(["bridge", *map(str, words), "-o", str(home / "one")]) != 0
    assert said in capsys.readouterr().err
    assert not (home / "one").exists()


def test_a_joined_pair_keeps_the_autoencoder_and_the_files_of_either_model():
    video, image = (describe(name)[0] for name in ("animatediff", "animatediff-sdxl"))
    raw = joined(video, image, {"levels": [[1.0, 2.0]], "scale": 2}, "stills")
    assert raw["image"] == image["image"] | {name: image[name] for name in ("vae", "vae_scaling", "vae_dtype")}
    assert (raw["video"], raw["vae"]) == (video["video"], video["vae"])
    assert "vae_dtype" not in raw
    assert len(raw["files"]) == 4 + 4  # of SDXL all but its motion modules
    assert joined(raw, describe("latte")[0], {"levels": [[1.0, 1.0]]}, "other")["release_text_encoders"]
    again = joined(video, raw, {"levels": [[1.0, 2.0]]}, "again")  # whose image model has its own already
    assert own_vae(raw) == own_vae(again) == own_vae(image)
