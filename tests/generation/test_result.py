"""What a call returns: short to look at, whole when kept, one clip at a time."""

import json

import numpy as np
import pytest

from ivmix import TextToVideo
from ivmix.generation.record import read_record
from ivmix.generation.result import Result
from ivmix.media import read_clip
from ivmix.solvers import DormandPrince54

PROMPTS = ["a red circle moving left", "a blue cross moving up"]
CALL = {"sampler": "ddim", "steps": 2, "frames": 2, "height": 32, "width": 32}


@pytest.fixture(scope="module")
def model() -> TextToVideo:
    return TextToVideo.from_pair("sprites")


@pytest.fixture(scope="module")
def result(model) -> Result:
    return model(PROMPTS, seed=4, **CALL)


def test_its_repr_is_one_line_without_pixels(result):
    seconds = f"{result.record.seconds:.1f}"
    assert repr(result) == f"Result(2 clips of 2 frames 32x32, ddim, 2 video evaluations a clip, {seconds} s)"


def test_it_is_a_sequence_of_clips_with_records_of_their_own(result):
    assert len(result) == len(list(result)) == 2
    assert np.array_equal(result[1].frames[0], result.frames[1])
    assert result[-1].record.prompts == PROMPTS[1:]
    assert [clip.record.seeds for clip in result] == [[4], [5]]
    assert result[:1].record.prompts == PROMPTS[:1]
    for beyond in (2, -3):
        with pytest.raises(IndexError, match=rf"result\[{beyond}\]: it has 2 clips"):
            result[beyond]


def test_a_clip_is_not_saved_under_the_word_none(result, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match="not NoneType"):
        result.save(None)
    assert not list(tmp_path.iterdir())


def test_a_clip_is_saved_with_the_record_that_makes_it_again(model, result, tmp_path):
    assert result[0].save(tmp_path / "a.webp", upscaled=False) == [tmp_path / "a.webp"]
    assert np.array_equal(read_clip(tmp_path / "a.webp").frames, result.frames[0])
    record = read_record(tmp_path / "a.webp.json")
    again = model(record.prompts, seed=record.seeds, frames=2, height=32, width=32, **record.sampling)
    assert np.abs(again.frames[0].astype(int) - result.frames[0]).max() <= 1


def test_a_record_that_cannot_make_its_clip_again_says_so(model, tmp_path):
    for call in ({"video": np.zeros((2, 32, 32, 3), np.uint8)}, {"solver": DormandPrince54(rtol=0.1), "steps": 2}):
        with pytest.warns(UserWarning, match="the record cannot make the clip again"):
            model(PROMPTS[0], **(CALL | call)).save(tmp_path / "a.webp")


def test_several_clips_are_numbered(result, tmp_path):
    paths = result.save(tmp_path / "a.gif", fps=4)
    assert paths == [tmp_path / "a-000.gif", tmp_path / "a-001.gif"]
    assert read_clip(paths[0]).fps == 4
    assert json.loads((tmp_path / "a-001.gif.json").read_text())["prompts"] == PROMPTS[1:]


def test_nothing_is_written_if_one_of_the_files_could_not_be(result, tmp_path):
    (tmp_path / "a-001.webp.json").touch()
    with pytest.raises(FileExistsError, match=r"a-001\.webp\.json"):
        result.save(tmp_path / "a.webp", clobber=False)
    for path, fps, message in ((tmp_path / "a.avi", None, "unknown suffix"), (tmp_path / "a.mp4", 0, "fps is 0")):
        with pytest.raises(ValueError, match=message):
            result.save(path, fps=fps)
    assert [path.name for path in tmp_path.iterdir()] == ["a-001.webp.json"]
