"""Text encoders that are in memory only while they read: the same clips, from files that are read when they have to."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_t5 import write_text

from ivmix import TextToVideo
from ivmix.generation.memory import reading, weights
from ivmix.models import T5Tokenizer, load_text_encoder
from ivmix.pairs.description import EMBEDDED, describe
from ivmix.pairs.pair import Pair, load_pair
from ivmix.pairs.reader import MOST_SAID, Reader, Reading

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
A, B = "a red circle moving left", "a blue cross moving up"
CALL = {"frames": 2, "height": 32, "width": 32, "steps": 2, "sampler": "ddim"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The embedded pair, whose text encoders do not stay in memory."""
    copy = shutil.copytree(EMBEDDED["sprites"], tmp_path / "pair")
    raw = json.loads((copy / "pair.json").read_text())
    (copy / "pair.json").write_text(json.dumps(raw | {"release_text_encoders": True}))
    return copy


@pytest.fixture
def model(folder: Path) -> TextToVideo:
    return TextToVideo.from_pair(folder)


def lose(folder: Path, pair: Pair, side: str = "*") -> None:
    """From here on nothing can be read of the text encoders' files, whose hashes a record has."""
    assert pair.files
    for file in folder.glob(f"{side}/text_encoder/*.safetensors"):
        file.unlink()


def are_there(pair: Pair) -> list[bool]:
    return [reader.network.device.type != "meta" for reader in pair.readers]


def test_clips_are_the_same_to_the_bit_and_the_encoders_are_gone_while_they_are_drawn(model: TextToVideo) -> None:
    there = []
    expected = TextToVideo.from_pair("sprites")([A, B], **CALL)
    assert are_there(model.pair) == [False, False]
    result = model([A, B], **CALL, callback=lambda *_: there.append(are_there(model.pair)))
    assert there == [[False, False]] * 4
    assert np.array_equal(result.frames, expected.frames)
    assert torch.equal(result.latents, expected.latents)


def test_prompts_that_were_read_once_need_no_file_and_a_new_one_does(model: TextToVideo, folder: Path) -> None:
    """In another batch, beside other prompts, as negative ones too."""
    model([A, B], **CALL)
    lose(folder, model.pair)
    model([B, A, B], negative_prompt=A, batch_size=2, **CALL)
    with pytest.raises(FileNotFoundError, match="text_encoder"):
        model("a green square moving up", **CALL)
    with pytest.raises(FileNotFoundError, match="text_encoder"):
        model(A, raw_prompts=True, **CALL)  # read in another way


@pytest.mark.parametrize(("sampler", "other"), [("ddim", "image"), ("image", "video")])
def test_a_model_that_a_sampler_never_evaluates_reads_nothing(
    model: TextToVideo, folder: Path, sampler: str, other: str
) -> None:
    lose(folder, model.pair, other)
    model(A, **CALL | {"sampler": sampler})
    with pytest.raises(FileNotFoundError, match="text_encoder"):
        model(A, **CALL | {"sampler": "composite"})


def test_prompts_of_calls_to_come_are_read_together(model: TextToVideo, folder: Path) -> None:
    model.read_ahead([A, B])
    assert are_there(model.pair) == [False, False]
    lose(folder, model.pair)
    for prompt in (A, B):
        model(prompt, **CALL)


def test_of_a_pair_whose_encoders_stay_they_leave_when_asked_to(folder: Path) -> None:
    shutil.copy(EMBEDDED["sprites"] / "pair.json", folder)
    model = TextToVideo.from_pair(folder)
    model.read_ahead([A])
    first = model(A, **CALL)
    assert are_there(model.pair) == [True, True]
    model.release_text_encoders()
    assert are_there(model.pair) == [False, False]
    assert torch.equal(model(A, **CALL).latents, first.latents)
    assert are_there(model.pair) == [False, False]
    lose(folder, model.pair)
    assert torch.equal(model(A, **CALL).latents, first.latents)


def test_files_are_checked_when_the_pair_is_loaded_though_they_are_not_read(folder: Path) -> None:
    config = folder / "image" / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"intermediate_size": 3}))
    with pytest.raises(ValueError, match="does not fit CLIPText"):
        load_pair(folder)


def test_another_dtype_is_read_anew(model: TextToVideo) -> None:
    first = model(A, **CALL).latents
    model.to(torch.float64)
    assert model.pair.video.text_encoder.text_model.final_layer_norm.weight.dtype == torch.float64
    assert not torch.equal(model(A, **CALL).latents, first)


def test_what_is_gone_when_a_run_begins_is_counted_apart(model: TextToVideo) -> None:
    stays = load_pair("sprites")
    texts = [sum(p.nbytes for p in side.text_encoder.parameters()) for side in stays.sides]
    assert weights(stays) == weights(model.pair) + sum(texts)
    assert (reading(stays), reading(model.pair)) == (0, max(texts))
    assert weights(model.pair) == weights(load_pair(EMBEDDED["sprites"])) - sum(texts)


def test_whether_they_leave_is_true_or_false(folder: Path) -> None:
    raw = json.loads((folder / "pair.json").read_text())
    (folder / "pair.json").write_text(json.dumps(raw | {"release_text_encoders": "yes"}))
    with pytest.raises(ValueError, match="release_text_encoders is 'yes', expected true or false"):
        describe(folder)


# --- T5 -------------------------------------------------------------------------------------------------------------


def reader(folder: Path, dtype: torch.dtype, stays: bool) -> tuple[Reader, Reading]:
    write_text(folder)

    def load(device: torch.device, dtype: torch.dtype) -> object:
        return load_text_encoder(folder, device=device, dtype=dtype)

    how = Reading(T5Tokenizer.from_folder(folder / "tokenizer", 12))
    return Reader(load(CPU if stays else torch.device("meta"), dtype), load, CPU, dtype, stays), how


@pytest.mark.parametrize("stays", [True, False])
def test_t5_s_states_come_with_the_mask_of_the_text(stays: bool, tmp_path: Path) -> None:
    reads, how = reader(tmp_path, torch.float32, stays)
    text = reads.read(["a red circle", "", "A red circle "], how)
    assert text.mask is not None
    assert text.states.shape == (3, 12, 32)
    assert text.mask.sum(dim=1).tolist() == [4, 1, 4]
    assert torch.equal(text.states[0], text.states[2])
    assert (text.states.device, text.mask.device) == (CPU, CPU)


def test_t5_is_bfloat16_beside_networks_in_float16(tmp_path: Path) -> None:
    reads, how = reader(tmp_path, torch.float16, False)
    size = reads.bytes
    assert reads.read(["a cat"], how).states.dtype == torch.bfloat16
    assert reads.in_memory.shared.weight.dtype == torch.bfloat16
    reads.release()
    assert (reads.bytes, reads.network.shared.weight.dtype) == (size, torch.bfloat16)
    reads.move(CPU, torch.float64)
    assert reads.bytes == 4 * size
    assert reads.read(["a cat"], how).states.dtype == torch.float64
    reads.move(CPU, torch.float16)
    assert reads.in_memory.shared.weight.dtype == torch.bfloat16


def test_all_that_is_read_ahead_together_is_kept_however_many_they_are(tmp_path: Path) -> None:
    """Or the first of them would bring it back, beside the networks, for every batch of a run."""
    reads, how = reader(tmp_path, torch.float32, False)
    raw, few = Reading(how.tokenizer, raw=True), [f"a cat {letter}" for letter in "abcd"]
    reads.keeps = 3
    reads.read_ahead([(how, [few[2], "a", "b"])])
    reads.read_ahead([(how, few), (how, few[:1]), (raw, few[:1])])  # five in all, of which one was the oldest
    assert len(reads.said) == 5
    for file in tmp_path.glob("text_encoder/*.safetensors"):
        file.unlink()
    for prompt in few:
        reads.read([prompt], how)
    reads.read(few[:1], raw)
    assert reads.away
    with pytest.raises(FileNotFoundError, match="text_encoder"):
        reads.read(["a cat e"], how)


def test_what_was_said_is_kept_of_so_many_prompts(tmp_path: Path) -> None:
    reads, how = reader(tmp_path, torch.float32, False)
    reads.said = dict.fromkeys(((how, str(k)) for k in range(MOST_SAID)), reads.read(["a"], how))
    reads.read(["a cat", "0"], how)
    assert len(reads.said) == MOST_SAID
    assert {(how, "a cat"), (how, "0")} < reads.said.keys()
    assert (how, "1") not in reads.said
