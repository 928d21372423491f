"""Offloaded weights: the same bytes, one network on the device at a time, and as many bytes moved as the plan says.

Beside a device that is none (`far_device.py`), which counts what it holds. Only a GPU can show how long bytes take,
that pinned memory is fetched without waiting, and what its allocator keeps beside what is counted.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from far_device import beside_far
from safetensors.torch import save_file
from small_pair import (
    DIT,
    VIDEO_DIT,
    XL_UNET,
    write_modules,
    write_pipeline,
    write_transformers,
    write_xl_pipeline,
)
from torch import nn

from ivmix.generation.announcements import two_digits
from ivmix.generation.job import make_job
from ivmix.generation.memory import Load, needs, weights
from ivmix.generation.preview import Preview
from ivmix.generation.traffic import moved, turns
from ivmix.pairs.offload import Offload, size_of, tensors_of
from ivmix.pairs.pair import Pair, load_pair
from ivmix.pairs.swaps import Swaps

RED, BLUE = "a red circle moving left", "a blue cross moving up"
SIZES = {"frames": 2, "height": 16, "width": 16}
SMALL = ["--frames", "2", "--size", "16x16"]
SHARED = ["--pair", "animatediff", "--image-model", "sd", "--video-model", "sd", "--motion", "mm.safetensors"]
STYLED = [*SHARED, "--image-lora", "lora.safetensors"]
XL = ["--pair", "animatediff-sdxl", "--image-model", "xl", "--video-model", "xl", "--motion", "mm-xl.safetensors"]
LATTE = ["--pair", "latte", "--image-model", "pixart", "--video-model", "latte"]
RUNS = {  # the words of a command, and the same as a call
    "composite": ([RED, "--steps", "2"], {"sampler": "composite", "steps": 2}),
    "zigzag": ([RED, "--steps", "4"], {"sampler": "zigzag", "steps": 4}),
    "inverted": (
        [RED, "--steps", "4", "--init", "composite.gif", "--source-prompt", BLUE],
        {"sampler": "zigzag", "steps": 4, "video": "composite.gif", "source_prompt": BLUE},
    ),
    "stg": ([RED, "--steps", "2"], {"sampler": "stg", "steps": 2}),
    "freeinit": ([RED, "--steps", "2", "--iterations", "2"], {"sampler": "freeinit", "steps": 2, "iterations": 2}),
    "shared": (["a cat", *SHARED, "--steps", "4"], {"sampler": "zigzag", "steps": 4}),
    "seen": (["a cat", *SHARED, "--steps", "4", "--preview", "now.png"], {"sampler": "zigzag", "steps": 4}),
    "styled": (["a cat", *STYLED, "--steps", "4"], {"sampler": "zigzag", "steps": 4}),
    "two encoders": (["a cat", *XL, "--steps", "2"], {"sampler": "composite", "steps": 2}),
    "across": ([RED, "--pair", "sprites-bridged", "--steps", "3"], {"sampler": "composite", "steps": 3}),
    "leaving": (["a cat", *LATTE, "--steps", "2"], {"sampler": "composite", "steps": 2}),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pipelines of Stable Diffusion with motion modules and a LoRA, of XL, of PixArt and of Latte, small."""
    place = tmp_path_factory.mktemp("offload")
    write_pipeline(place / "sd")
    write_modules(place / "mm.safetensors")
    write_xl_pipeline(place / "xl")
    write_modules(place / "mm-xl.safetensors", XL_UNET)
    write_transformers(place / "latte", VIDEO_DIT, 0)
    write_transformers(place / "pixart", DIT, 1)
    module = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora"
    factors = {f"{module}_A.weight": torch.randn(2, 32), f"{module}_B.weight": torch.randn(32, 2)}
    save_file(factors, place / "lora.safetensors")
    return place


def pair_of(name: str, place: Path) -> Pair:
    """What the command loads, on the CPU."""
    sd = str(place / "sd")
    own = Swaps(sd, sd, motion=str(place / "mm.safetensors"))
    match name:
        case "shared" | "seen":
            return load_pair("animatediff", "cpu", swaps=own)
        case "styled":
            lora = (str(place / "lora.safetensors"),)
            return load_pair("animatediff", "cpu", swaps=Swaps(sd, sd, motion=own.motion, image_lora=lora))
        case "two encoders":
            xl = str(place / "xl")
            return load_pair("animatediff-sdxl", "cpu", swaps=Swaps(xl, xl, str(place / "mm-xl.safetensors")))
        case "leaving":
            return load_pair("latte", "cpu", swaps=Swaps(str(place / "pixart"), str(place / "latte")))
    return load_pair("sprites-bridged" if name == "across" else "sprites", "cpu")


@pytest.fixture(scope="module")
def ends(place: Path) -> dict[str, tuple[dict, dict]]:
    """What became of every command, without and with offload."""
    commands = []
    for name, (words, call) in RUNS.items():
        typed = ["sample", *words, *SMALL, "--sampler", str(call["sampler"]), "--dtype", "float32", "-o"]
        commands += [[*typed, f"{name}.gif"], [*typed, f"{name}-offload.gif", "--offload"]]
    found = beside_far(place, commands)
    return dict(zip(RUNS, zip(found[::2], found[1::2], strict=True), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_clip_is_the_same_to_the_byte_and_so_is_its_record(name, place, ends):
    assert [end["status"] for end in ends[name]] == [0, 0], ends[name]
    assert (place / f"{name}.gif").read_bytes() == (place / f"{name}-offload.gif").read_bytes()
    plain, offloaded = (json.loads((place / f"{name}{end}.gif.json").read_text()) for end in ("", "-offload"))
    assert plain | {"seconds": 0} == offloaded | {"seconds": 0}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_no_two_networks_are_there_at_a_time(name, place, ends):
    """The most that is there with all of them is more than all of them: what is over it are tensors. Text encoders that
    leave are there alone. What a bridge is made of stays."""
    plain, offloaded = ends[name]
    pair = pair_of(name, place)
    networks = [*(s.unet for s in pair.sides), *(r.network for r in pair.readers)]
    crossed = [] if pair.bridge is None else [pair.vae, pair.bridge.vae]
    networks += [] if crossed else [pair.vae]
    largest, tensors = max(size_of(tensors_of(n)) for n in networks), plain["most"] - weights(pair)
    assert offloaded["most"] <= size_of(tensors_of(*crossed)) + largest + tensors < plain["most"]
    assert weights(replace(pair, offload=Offload(torch.device("meta")))) == size_of(tensors_of(*crossed)) + largest


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_as_many_bytes_move_as_the_plan_says_before_the_run(name, place, ends):
    came = sum(size for line, size in ends[name][1]["came"].items() if line.startswith("offload.py"))
    pair, (words, call) = pair_of(name, place), RUNS[name]
    given = {"video": place / str(call["video"])} if "video" in call else {}
    shown = {"callback": Preview(pair, place / "now.png")} if "--preview" in words else {}
    job = make_job(pair, words[0], **SIZES, **{**call, **given, **shown})
    assert came == moved(turns(job))
    said = f"offload: {two_digits(came / 1e9)} GB of weights go to far:0 for every batch, at PCIe"
    assert said in ends[name][1]["said"]


@pytest.mark.slow
def test_weights_that_both_sides_share_stay_from_leg_to_leg(place):
    pair = pair_of("shared", place)
    text, unet, vae = (size_of(tensors_of(n)) for n in (pair.readers[0].network, pair.video.unet, pair.vae))
    for steps in (4, 8):
        job = make_job(pair, "a cat", **SIZES, sampler="zigzag", steps=steps)
        assert moved(turns(job)) == 2 * (text + unet) + vae
    styled = pair_of("styled", place)
    own = tensors_of(styled.image.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q)
    alone = [t for t in tensors_of(styled.image.unet) if t not in set(tensors_of(styled.video.unet))]
    assert 0 < size_of(alone) <= size_of(own)


@pytest.mark.slow
def test_a_device_that_only_offloaded_weights_fit_is_told_so_and_draws_then(place):
    pair, load = load_pair("sprites", "cpu"), Load(1, 2, 128, 128)
    by_turns = replace(pair, offload=Offload(torch.device("meta")))  # counted as if
    all_there, alone = needs(pair, load), needs(by_turns, load)
    typed = ["sample", RED, "--frames", "2", "--size", "128x128", "--sampler", "composite", "--steps", "1", "-o"]
    both = [[*typed, "a.gif"], [*typed, "b.gif", "--offload"]]
    ends = beside_far(place, both, FAR_MEMORY=str((all_there + alone) // 2))
    assert [end["status"] for end in ends] == [2, 0], ends
    assert "GB in all: try " in ends[0]["said"]
    assert ", offload, float16\n" in ends[0]["said"]
    pixels = 4 * 2 * 3 * 128 * 128  # counted as if the last frames were not among those that wait
    assert alone - pixels <= ends[1]["most"] < all_there
    (end,) = beside_far(place, [both[0]], FAR_MEMORY=str((weights(pair) + weights(by_turns)) // 2))
    assert end["said"].endswith("GB in all; try float16, offload\n")


def test_a_move_that_fails_is_made_again_when_it_is_asked_for():
    """As where memory ends on the way: weights of CPU memory do not become those of meta."""
    network, offload = nn.Linear(2, 2, bias=False), Offload(torch.device("meta"))
    offload.bring(nn.Identity())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="incompatible tensor type"):
            offload.bring(network)
        assert offload.at_work is None


def test_what_cannot_be_offloaded_is_one_line():
    with pytest.raises(ValueError, match="offload on cpu: weights are in its memory already, expected an accelerator"):
        load_pair("sprites", "cpu", offload=True)
    with pytest.raises(ValueError, match="compile='auto' with offload: graphs and compiled code need"):
        load_pair("sprites", "cpu", compile="auto", offload=True)
