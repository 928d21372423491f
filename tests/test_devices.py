"""Devices that nobody named, and one without float64, which MPS does not have either."""

import json
import shutil

import pytest
import torch
from far_device import beside_far

from ivmix.devices import find_device, find_dtype
from ivmix.generation.memory import Load, activations, weights
from ivmix.pairs.description import EMBEDDED, PUBLIC, describe
from ivmix.pairs.pair import load_pair

pytestmark = pytest.mark.slow  # commands, each in a process that has a device of the tests' own

RED, BLUE = "a red circle moving left", "a blue cross moving up"
SMALL = ["--frames", "2", "--size", "16x16"]
SAMPLE = ["sample", RED, *SMALL, "-o"]
COMMANDS = {
    "two": [*SAMPLE, "two.gif", "--sampler", "composite", "--steps", "2"],
    "four": [*SAMPLE, "four.gif", "--sampler", "composite", "--steps", "4"],
    "zigzag": [*SAMPLE, "zigzag.gif", "--sampler", "zigzag", "--steps", "4", "--solver", "heun", "--image-frames", "1"],
    "churn": [*SAMPLE, "churn.gif", "--steps", "3", "--pattern", "RV-IV", "--solver", "sde-dpm++2m", "--vae-tile", "2"],
    "freeinit": [*SAMPLE, "freeinit.gif", "--sampler", "freeinit", "--steps", "2", "--iterations", "2"],
    "video": [*SAMPLE, "video.gif", "--init", "two.gif", "--source-prompt", RED, "--steps", "3"],
    "half": [*SAMPLE, "half.gif", "--pair", "half", "--steps", "1"],
    "brain": [*SAMPLE, "brain.gif", "--pair", "brain", "--steps", "1"],
    "double": [*SAMPLE, "double.gif", "--dtype", "float64"],
    "five": ["sample", RED, BLUE, RED, BLUE, RED, *SMALL, "-o", "five.gif", "--steps", "1", "--quiet"],
}


@pytest.fixture(scope="module")
def far(tmp_path_factory):
    """The folder in which all commands ran beside a device that two clips fit, and what became of each."""
    place = tmp_path_factory.mktemp("far")
    for name, dtype in (("half", "float16"), ("brain", "bfloat16")):
        shutil.copytree(EMBEDDED["sprites"], place / name)
        raw = json.loads((place / name / "pair.json").read_text())
        (place / name / "pair.json").write_text(json.dumps(raw | {"dtype": dtype}))
    pair = load_pair("sprites", "cpu")
    room = weights(pair) + 2 * activations(pair, Load(2, 2, 16, 16))
    ends = beside_far(place, list(COMMANDS.values()), FAR_MEMORY=str(room), FAR_LACKS="bfloat16")
    return place, dict(zip(COMMANDS, ends, strict=True))


def record(far, name: str) -> dict:
    return json.loads((far[0] / f"{name}.gif.json").read_text())


def test_a_run_goes_to_the_accelerator_and_says_and_records_where(far):
    assert "on far:0 in float32\n" in far[1]["two"]["said"]
    assert (record(far, "two")["device"], record(far, "two")["dtype"]) == ("far:0", "float32")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "double"])
def test_no_float64_reaches_a_device_and_no_tensor_is_where_it_should_not_be(far, name):
    assert far[1][name]["status"] == 0, far[1][name]["said"]


def test_an_evaluation_measures_what_a_device_without_float64_drew(tmp_path):
    (tmp_path / "arms.json").write_text(json.dumps([{"label": "ddim", "options": {"sampler": "ddim", "steps": 1}}]))
    typed = ["evaluate", "-o", "run", "--clips", "3", "--seeds", "1", "--references", "4", "--arms", "arms.json"]
    (end,) = beside_far(tmp_path, [typed], LOCAL_RANK="3")  # under torchrun, of more processes than devices
    assert end["status"] == 0, end["said"]


def test_a_process_of_torchruns_draws_on_its_own_device_of_the_kind_that_a_record_names(tmp_path):
    (there,) = beside_far(tmp_path, [[*SAMPLE, "a.gif", "--steps", "1"]], LOCAL_RANK="3")
    again = ["sample", "--from", "a.gif.json", "-o", "b.gif"]
    here = [*SAMPLE, "c.gif", "--steps", "1", "--device", "cpu"]
    again, here = beside_far(tmp_path, [again, here], LOCAL_RANK="1")
    assert ["on far:0 in" in end["said"] for end in (there, again, here)] == [True, True, False]
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_nothing_waits_for_the_device_from_step_to_step(far):
    two, four = (far[1][name]["waits"] for name in ("two", "four"))
    assert two == four
    assert sum(two.values()) > 3  # weights went there, and frames came back


@pytest.mark.parametrize("name", ["sprites-bridged", "sprites-mapped"])
def test_nothing_waits_for_the_device_at_a_bridge(name, tmp_path):
    """What hides a clip across is drawn by the CPU, and goes to the device once."""
    typed = ["sample", RED, "--pair", name, "--frames", "2", "--size", "32x32", "--sampler", "composite", "-o"]
    three, four = beside_far(tmp_path, [[*typed, f"{steps}.gif", "--steps", steps] for steps in ("3", "4")])
    assert [three["status"], four["status"]] == [0, 0], (three["said"], four["said"])
    assert three["waits"] == four["waits"]


def test_a_pairs_own_dtype_is_taken_where_the_device_computes_in_it(far):
    assert (record(far, "half")["dtype"], record(far, "brain")["dtype"]) == ("float16", "float32")


def test_a_dtype_that_the_device_does_not_know_is_one_line(far):
    assert far[1]["double"]["status"] == 2
    assert far[1]["double"]["said"].startswith("ivmix sample: error: dtype float64: far does not know it")
    assert far[1]["double"]["said"].count("\n") == 1


def test_as_many_clips_run_together_as_the_device_holds_in_all(far):
    made = [record(far, f"five-00{k}")["batch_sizes"] for k in range(5)]
    assert made == [[2], [2], [2], [2], [1]]


def test_auto_is_float32_on_the_cpu_whatever_the_pair_says():
    cpu = torch.device("cpu")
    assert find_dtype("auto", cpu, "float16") == find_dtype("auto", cpu) == torch.float32
    assert find_dtype("float16", cpu) == torch.float16


def test_auto_is_the_accelerator_or_the_cpu():
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    assert find_device("auto").type == (accelerator.type if accelerator else "cpu")


def test_public_pairs_run_in_half_precision_and_the_embedded_ones_in_whole():
    assert {describe(name)[0].get("dtype") for name in PUBLIC} == {"float16"}
    assert {describe(name)[0].get("dtype") for name in EMBEDDED} == {None}
