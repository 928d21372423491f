"""Pairs whose networks are told of a prompt by two text encoders, and of a clip's size: SDXL's."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_pair import MOTION, XL_TEXT, XL_UNET, write_modules, write_pipeline, write_xl_pipeline

from ivmix import TextToVideo
from ivmix.models import VAE, CLIPText, Tokenizer, UNet, VAEConfig, load_vae, save_folder
from ivmix.models.text.prompts import encode
from ivmix.pairs.description import BY_TWO, EMBEDDED, PARTS, PUBLIC, SAID_SIZES, describe
from ivmix.pairs.pair import Pair, fingerprint, load_pair
from ivmix.pairs.side import Side
from ivmix.pairs.swaps import Swaps, with_swaps

SIZE = (16, 32)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Swaps:
    folder: Path = tmp_path_factory.mktemp("xl")
    write_xl_pipeline(folder / "xl")
    write_modules(folder / "mm.safetensors", XL_UNET)
    return Swaps(str(folder / "xl"), str(folder / "xl"), str(folder / "mm.safetensors"))


@pytest.fixture(scope="module")
def pair(own: Swaps) -> Pair:
    return load_pair("animatediff-sdxl", swaps=own)


def test_states_of_two_encoders_stand_side_by_side_before_the_final_norm(pair: Pair) -> None:
    side, prompts = pair.video, ["a red cat", "a cat"]
    words = side.tokenizer
    assert isinstance(words, Tokenizer)
    one, two = (reader.in_memory for reader in side.readers)
    assert isinstance(one, CLIPText)
    assert isinstance(two, CLIPText)
    first, second = (encode(words, network, prompts, 2, norm=False) for network in (one, two))
    assert first.pooled is None
    assert second.pooled is not None
    told = side.condition(prompts, size=SIZE)
    context = torch.cat([first.states, second.states], dim=-1)
    expected = side.unet.condition(context, pooled=second.pooled, sizes=(*SIZE, 0, 0, *SIZE))
    flat = [tensor for c in (told, expected) for pair in c.keys_values for tensor in pair]
    half = len(flat) // 2
    assert all(map(torch.equal, flat[:half], flat[half:]))
    assert told.embedding is not None
    assert expected.embedding is not None
    assert torch.equal(told.embedding, expected.embedding)


def test_an_empty_prompt_is_told_as_zeros_but_for_the_size_of_the_clip(pair: Pair) -> None:
    side = pair.video
    told = side.condition(["  ", "a cat"], size=SIZE)
    assert not any(bool(values[0].any()) for _, values in told.keys_values)  # values of zeros: no biases
    assert told.embedding is not None
    nothing = side.unet.condition(torch.zeros(1, 8, 80), pooled=torch.zeros(1, 20), sizes=(*SIZE, 0, 0, *SIZE))
    assert nothing.embedding is not None
    torch.testing.assert_close(told.embedding[:1], nothing.embedding)
    read = replace(side, empty_prompt="text").condition(["", "a cat"], size=SIZE)
    assert any(bool(values[0].any()) for _, values in read.keys_values)


def embedded(side: Side, sizes: tuple[int, ...]) -> torch.Tensor:
    """What is added to the time where "a cat" is read and these sizes are told."""
    with torch.no_grad():
        text = encode(side.tokenizers[1], side.readers[1].in_memory, ["a cat"], 2, norm=False)  # type: ignore[arg-type]
        told = side.unet.condition(torch.zeros(1, 8, 80), pooled=text.pooled, sizes=sizes).embedding
    assert told is not None
    return told


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({}, (*SIZE, 0, 0, *SIZE)),
        ({"original_size": (1920, 1080)}, (1920, 1080, 0, 0, *SIZE)),
        ({"original_size": (1920, 1080), "target_size": (640, 480)}, (1920, 1080, 0, 0, 640, 480)),
    ],
)
def test_a_clip_may_be_said_to_be_scaled_from_one_size_to_another(
    given: dict[str, Any], sizes: tuple[int, ...], pair: Pair
) -> None:
    """In the order of the six numbers that the network is told, whatever the clip's size is."""
    said = replace(pair.video, **given).condition(["a cat"], size=SIZE).embedding
    assert said is not None
    torch.testing.assert_close(said, embedded(pair.video, sizes))
    with pytest.raises(ValueError, match="sizes=None: expected 6 numbers"):
        pair.video.condition(["a cat"])


def test_hotshots_models_are_told_the_sizes_that_their_authors_tell_them(own: Swaps, tmp_path: Path) -> None:
    """By hotshotco/Hotshot-XL's inference.py and by the card of hotshotco/SDXL-512, of clips of any size; and of them
    alone: an image model in place of theirs is told a clip's own."""
    raw, networks = json.loads(PUBLIC["hotshot-xl"].read_text()), str(own.image_model)
    raw["vae"], raw["video"]["motion"] = f"{networks}/vae", own.motion
    for side in (raw["image"], raw["video"]):
        side |= {part: f"{networks}/{part}" for part in PARTS if part in side}
    (tmp_path / "pair.json").write_text(json.dumps(raw))
    shipped, other = load_pair(tmp_path), load_pair(tmp_path, swaps=Swaps(networks, networks))
    assert shipped.image.unet is shipped.video.unet
    told = {
        "image": (4096, 4096, 0, 0, 1024, 1024), "video": (1920, 1080, 0, 0, 512, 512),
        "other image": (*SIZE, 0, 0, *SIZE), "other video": (1920, 1080, 0, 0, 512, 512),
    }  # fmt: skip
    for name, side in zip(told, (*shipped.sides, *other.sides), strict=True):
        said = side.condition(["a cat"], size=SIZE).embedding
        assert said is not None
        torch.testing.assert_close(said, embedded(side, told[name]))


@pytest.mark.slow
def test_the_size_of_the_clip_is_what_the_network_is_told(own: Swaps) -> None:
    """Of a run: the record has all that a model was run as."""
    model = TextToVideo.from_pair("animatediff-sdxl", swaps=own)
    call = {"frames": 2, "height": 16, "width": 16, "steps": 2, "sampler": "ddim"}
    result = model("a red cat", **call)
    told = result.record.models["video"]
    said = {name: told.get(name) for name in (*BY_TWO, *SAID_SIZES)}
    assert said == {**BY_TWO, **dict.fromkeys(SAID_SIZES)}
    side = replace(model.pair.video, original_size=(1024, 1024))
    other = TextToVideo(replace(model.pair, video=side))("a red cat", **call)
    assert not torch.equal(result.latents, other.latents)


@pytest.mark.slow
def test_two_encoders_that_leave_are_read_one_by_one_and_say_the_same(own: Swaps) -> None:
    model = TextToVideo.from_pair("animatediff-sdxl", swaps=own)
    call = {"frames": 2, "height": 16, "width": 16, "steps": 2, "sampler": "composite"}
    first, weights = model("a (red:1.3) cat", **call), fingerprint(model.pair)
    model.release_text_encoders()
    assert torch.equal(model("a (red:1.3) cat", **call).latents, first.latents)
    assert [reader.network.device.type for reader in model.pair.readers] == ["meta", "meta"]
    assert fingerprint(model.pair) == weights
    assert all(reader.away for reader in model.pair.readers)  # it was read for its weights, and left again
    with torch.no_grad():
        model.pair.video.readers[1].in_memory.text_projection.weight[0, 0] += 1
    assert fingerprint(model.pair) != weights


@pytest.mark.slow
def test_nan_is_blamed_on_who_said_it_and_brings_no_encoder_back(own: Swaps, tmp_path: Path) -> None:
    """Of one that leaves, while it reads: what comes later is another network's."""
    call = {"frames": 2, "height": 16, "width": 16, "steps": 2, "sampler": "ddim"}
    model = TextToVideo.from_pair("animatediff-sdxl", swaps=own)
    model.release_text_encoders()
    with torch.no_grad():
        model.pair.video.unet.conv_in.weight[0, 0] = torch.nan  # type: ignore[operator, index]
    with pytest.raises(ValueError, match="the video model's UNet holds NaN or infinite weights, first in conv_in"):
        model("a red cat", **call)
    assert all(reader.away for reader in model.pair.readers)
    state = load_file(f"{own.video_model}/text_encoder_2/model.safetensors")
    state["text_projection.weight"][0, 0] = torch.nan
    for part in ("unet", "vae", "scheduler", "text_encoder", "tokenizer", "tokenizer_2", "text_encoder_2/config.json"):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).symlink_to(Path(str(own.video_model)) / part)
    save_file(state, tmp_path / "text_encoder_2" / "model.safetensors")
    model = TextToVideo.from_pair("animatediff-sdxl", swaps=replace(own, video_model=str(tmp_path)))
    model.release_text_encoders()
    with pytest.raises(ValueError, match=r"^a text encoder holds NaN or infinite weights, first in text_proj"):
        model("a red cat", **call)


@pytest.mark.slow
def test_the_autoencoder_runs_in_float32_or_wider(own: Swaps) -> None:
    narrow = load_pair("animatediff-sdxl", dtype="bfloat16", swaps=own)
    assert (narrow.dtype, narrow.vae.dtype) == (torch.bfloat16, torch.float32)
    assert narrow.to("float16").vae.dtype == torch.float32
    wide = narrow.to(torch.float64)
    assert {wide.dtype, wide.vae.dtype} == {next(n.parameters()).dtype for n in wide.video.networks.values()}
    clip = TextToVideo(narrow.to("bfloat16"))("a cat", frames=2, height=16, width=16, steps=2, sampler="ddim")
    assert clip.latents.isfinite().all()


@pytest.mark.slow
def test_a_single_file_s_autoencoder_has_the_scale_that_the_pair_says(own: Swaps, tmp_path: Path) -> None:
    vae = VAE(VAEConfig(block_out_channels=(32, 32), layers_per_block=1))
    save_file(vae.state_dict(), tmp_path / "sdxl_vae.safetensors")
    assert load_vae(tmp_path / "sdxl_vae.safetensors").config.scaling_factor == 0.18215
    swapped = load_pair("animatediff-sdxl", swaps=replace(own, vae=str(tmp_path / "sdxl_vae.safetensors")))
    assert swapped.vae.config.scaling_factor == 0.13025


# --- models of either kind in place of a pair's own -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:image model")
def test_a_model_brings_how_its_text_is_read(own: Swaps, tmp_path: Path) -> None:
    write_pipeline(tmp_path / "sd15")
    sd15, xl = str(tmp_path / "sd15"), str(own.image_model)
    read = {*BY_TWO, "text_encoder_2", "tokenizer_2"}
    assert read & with_swaps(describe("animatediff-sdxl")[0], Swaps(sd15))["image"].keys() == set()
    new = with_swaps(describe("animatediff")[0], Swaps(xl))
    assert new["image"] | BY_TWO == new["image"]
    assert new["image"]["text_encoder_2"] == f"{xl}/text_encoder_2"
    assert new["image"]["tokenizer_2"] == f"{xl}/tokenizer_2"
    assert read & new["video"].keys() == set()
    words = with_swaps(describe("animatediff-sdxl")[0], Swaps(tokenizer=xl))
    assert "tokenizer_2" not in words["image"]  # one serves both encoders


@pytest.mark.slow
def test_a_model_without_its_second_encoder_is_refused_as_it_is_loaded(own: Swaps, tmp_path: Path) -> None:
    for part in ("unet", "text_encoder", "tokenizer", "scheduler", "vae"):
        (tmp_path / part).symlink_to(Path(str(own.video_model)) / part)
    message = r"^video model: its UNet reads text of 80 channels, its text encoder says 32: they are not of one"
    with pytest.raises(ValueError, match=message):
        load_pair("animatediff-sdxl", swaps=replace(own, video_model=str(tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("projection", "message"),
    [(7, "the last text encoder says 7"), (None, "the last text encoder says none")],
)
def test_a_second_encoder_of_another_projection_is_refused_as_it_is_loaded(
    projection: int | None, message: str, own: Swaps, tmp_path: Path
) -> None:
    for part in ("unet", "text_encoder", "tokenizer", "tokenizer_2", "scheduler", "vae"):
        (tmp_path / part).symlink_to(Path(str(own.image_model)) / part)
    save_folder(CLIPText(replace(XL_TEXT, projection_dim=projection)), tmp_path / "text_encoder_2")
    reads = f"^image model: its UNet reads pooled text of 20 channels, {message}: they are not of one model"
    lacks = r"text_encoder_2.*holds no text_encoder_2, but a text_encoder \(transformers text\)"
    with pytest.raises(ValueError, match=reads if projection else lacks):
        load_pair("animatediff-sdxl", swaps=replace(own, image_model=str(tmp_path)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:(image|video) model")
def test_a_whole_video_model_brings_how_its_autoencoder_is_run(own: Swaps, tmp_path: Path) -> None:
    """Of a single file the pair's scale would be another autoencoder's; SDXL's overflows in float16."""
    write_pipeline(tmp_path / "sd15")
    sd15, xl = str(tmp_path / "sd15"), str(own.video_model)
    told = {"vae_scaling", "vae_dtype"}
    assert told & with_swaps(describe("animatediff-sdxl")[0], Swaps(video_model=sd15)).keys() == set()
    brought = with_swaps(describe("animatediff")[0], Swaps(video_model=xl))
    assert {name: brought[name] for name in told} == {"vae_scaling": 0.13025, "vae_dtype": "float32"}
    (tmp_path / "part").mkdir()
    for part in ("unet", "vae"):  # of which nothing says what model they are of
        (tmp_path / "part" / part).symlink_to(Path(xl) / part)
    kept = with_swaps(describe("animatediff-sdxl")[0], Swaps(video_model=str(tmp_path / "part")))
    assert {name: kept[name] for name in told} == {"vae_scaling": 0.13025, "vae_dtype": "float32"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:image model .* does not say")
def test_an_image_model_of_other_latents_is_warned_of(own: Swaps, tmp_path: Path) -> None:
    write_pipeline(tmp_path / "sd15")
    message = r"sd15/vae scales latents by 0\.18215, the pair's by 0\.13025: they seem to have no latents in common"
    with pytest.warns(UserWarning, match=message):
        load_pair("animatediff-sdxl", swaps=replace(own, image_model=str(tmp_path / "sd15")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_pair("animatediff-sdxl", swaps=own)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:video model")
def test_what_frames_were_scaled_from_leaves_with_the_modules_that_were_told_so(own: Swaps, tmp_path: Path) -> None:
    whole = UNet(replace(XL_UNET, temporal=MOTION))
    save_folder(whole, tmp_path / "unet")
    hotshot = describe("hotshot-xl")[0]
    told = set(SAID_SIZES)
    assert told <= with_swaps(hotshot, own)["video"].keys()  # other spatial weights, or the same modules' own file
    assert not told & with_swaps(hotshot, Swaps(video_model=str(tmp_path / "unet")))["video"].keys()


@pytest.mark.slow
def test_the_authors_norms_of_modules_for_sdxl_are_over_all_frames(own: Swaps) -> None:
    pair = load_pair("animatediff-sdxl", swaps=replace(own, motion_norm="authors"))
    temporal = pair.video.unet.config.temporal
    assert (temporal.joint_norm, temporal.joint_resnet_norm) == (True, False)  # as diffusers'


@pytest.mark.slow
def test_motion_modules_of_another_network_are_refused(own: Swaps, tmp_path: Path) -> None:
    wider = replace(XL_UNET, block_out_channels=(32, 96))
    write_modules(tmp_path / "mm.safetensors", wider)
    with pytest.raises(ValueError, match=r"mm\.safetensors does not fit the UNet of"):
        load_pair("animatediff-sdxl", swaps=replace(own, motion=str(tmp_path / "mm.safetensors")))


@pytest.mark.slow
def test_a_lora_of_a_second_encoder_is_refused_where_there_is_one(own: Swaps, tmp_path: Path) -> None:
    key = "text_encoder_2.text_model.encoder.layers.0.mlp.fc1"
    style = tmp_path / "style.safetensors"
    save_file({f"{key}.lora_A.weight": torch.ones(1, 48), f"{key}.lora_B.weight": torch.ones(64, 1)}, style)
    changed = load_pair("animatediff-sdxl", swaps=replace(own, video_lora=(str(style),)))
    assert changed.video.readers[1].network is not changed.image.readers[1].network
    with pytest.raises(ValueError, match=r"video model: style\.safetensors adds to a second text encoder"):
        load_pair("sprites", swaps=Swaps(video_lora=(str(style),)))


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("empty_prompt", "nothing", "empty_prompt is 'nothing'"),
        ("text_norm", 1, "text_norm is 1"),
        ("original_size", [1024], r"image: original_size is \[1024\], expected two numbers of pixels, 1 to 65536"),
        ("target_size", [0, 10], r"image: target_size is \[0, 10\], expected two numbers of pixels"),
        ("target_size", "512", "target_size is '512', expected"),
        ("vae_scaling", 0, "vae_scaling is 0, expected a factor"),
        ("vae_dtype", "float8", "vae_dtype is 'float8'"),
    ],
)
def test_entries_that_no_pair_has_are_told_in_one_line(entry: str, value: object, message: str, tmp_path: Path) -> None:
    raw = json.loads((EMBEDDED["sprites"] / "pair.json").read_text())
    (raw if entry.startswith("vae") else raw["image"])[entry] = value
    (tmp_path / "pair.json").write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=message) as caught:
        describe(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_window_over_space_is_told_its_own_size_as_if_it_were_a_clip(pair: Pair) -> None:
    """Else squares of 16 pixels would be told that they are all of a wide clip."""
    told = []

    def look(network, args, kwargs):
        told.append(args[2].embedding)

    hook = pair.video.unet.register_forward_pre_hook(look, with_kwargs=True)
    call = {"frames": 1, "height": 16, "width": 32, "sampler": "ddim", "steps": 1, "negative_prompt": "a cat"}
    with pytest.warns(UserWarning, match="windows of 1 frame of 16x16: each evaluation calls it 3 times"):
        TextToVideo(pair)("a red cat", space_window=16, **call)
    TextToVideo(pair)("a red cat", **call)
    hook.remove()
    for given, size in [*((one, (16, 16)) for one in told[:3]), (told[3], (16, 32))]:
        rows = [pair.video.condition([text], size=size).embedding for text in ("a cat", "a red cat")]
        torch.testing.assert_close(given, torch.cat(rows))
    assert not torch.equal(told[0], told[3])
