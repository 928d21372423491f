"""What pages share: runs told step by step, one model at a time, records of what can be drawn here, a door."""

import asyncio
import gc
import json
import socket
import sys
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ivmix.cli import main
from ivmix.demo.draw import Clip, Note, Step, Table, noting
from ivmix.demo.form import Form, default_form
from ivmix.demo.line import Cancelled
from ivmix.demo.markup import figure, notice, said
from ivmix.demo.serve import PORT, guarded, listening
from ivmix.demo.studio import Studio
from ivmix.generation.text_to_video import TextToVideo
from ivmix.pairs.swaps import Swaps

RED = "a red circle moving left"


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(lambda pair: TextToVideo.from_pair(pair, "cpu"), "sprites", tmp_path)
    yield studio
    studio.line.close()


def form(prompt: str = RED, steps: str = "3", pair: str = "sprites") -> Form:
    own = default_form(pair, prompt, sampler="ddim")
    return Form({**own.facts, "frames": "2", "height": "16", "width": "16"}, {**own.options, "steps": steps})


def test_a_run_tells_its_steps_and_its_clip_which_lies_beside_its_record(studio):
    *steps, clip = studio.run("me", "sample", form())
    assert steps == [Step("ddim", k, 3) for k in (1, 2, 3)]
    assert isinstance(clip, Clip)
    assert clip.evaluations == {"video": 3}
    assert clip.video.is_file()
    assert json.loads(clip.record.read_text())["prompts"] == [RED]


def test_a_comparison_tells_a_clip_a_sampler_and_says_why_it_is_not_measured(studio):
    facts = form().facts | {"image_negative_prompt": "a blue cross"}  # said to no sampler without an image model
    told = list(studio.run("me", "compare", Form(facts, form().options)))
    assert [event.sampler for event in told if isinstance(event, Clip)] == ["ddim", "image", "zigzag", "composite"]
    assert {(s.number, s.of) for s in told if isinstance(s, Step)} == {(k, 4) for k in (1, 2, 3, 4)}
    [note] = [event for event in told if isinstance(event, Note)]
    assert note.text.startswith("not measured: frames has shape (1, 2, 16, 16, 3)")
    assert not any(isinstance(event, Table) for event in told)


def test_what_cannot_be_compared_is_found_before_the_first_clip(studio):
    with pytest.raises(ValueError, match="outside the vocabulary"):
        next(studio.run("me", "compare", form("a purple circle moving left")))
    own = default_form("sprites", RED, sampler="mixture")  # which is drawn last
    with pytest.raises(ValueError, match="image_weight=2"):
        next(studio.run("me", "compare", Form(own.facts, own.options | {"image_weight": "2"})))


def test_what_the_model_warns_of_is_told(studio):
    options = default_form("sprites", sampler="zigzag").options | {"steps": "2"}
    zigzag = Form({**form().facts, "sampler": "zigzag"}, options)
    notes = [event.text for event in studio.run("me", "sample", zigzag) if isinstance(event, Note)]
    assert len(notes) == 1
    assert "none of 2 steps mixes" in notes[0]


def test_a_warning_is_told_once_and_what_is_for_programmers_not_at_all():
    told = list[object]()
    with noting(told.append):
        for _ in range(2):
            warnings.warn("odd", stacklevel=1)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert told == [Note("odd")]


def test_a_cancelled_run_stops_at_the_next_step_and_leaves_no_clip(studio, tmp_path):
    seen = studio.run("me", "sample", form(steps="1000"))
    assert next(seen) == Step("ddim", 1, 1000)
    studio.line.cancel("me")
    with pytest.raises(Cancelled):
        list(seen)
    assert not list(tmp_path.rglob("*.mp4*"))


def test_whoever_leaves_takes_their_clips_along_and_nobody_elses(studio, tmp_path):
    for owner in ("me", "you"):
        list(studio.run(owner, "sample", form()))
    studio.leave("me")
    assert [path.parents[1] for path in tmp_path.rglob("*.mp4")] == [studio.place("you")]


def test_whoever_calls_itself_a_path_has_its_clips_where_others_have_theirs_and_removes_no_other(studio, tmp_path):
    for owner in ("..", "", str(tmp_path / "elsewhere")):
        *_, clip = studio.run(owner, "sample", form(steps="1"))
        assert clip.video.parents[2] == tmp_path
        (kept := tmp_path / "kept").touch()
        studio.leave(owner)
        assert list(tmp_path.iterdir()) == [kept]


def test_another_pair_is_loaded_when_it_is_drawn_with_and_one_that_cannot_be_leaves_the_first_usable(studio):
    told = list(studio.run("me", "sample", form(pair="sprites-crisp")))
    assert told[0] == Note("loading sprites-crisp")
    assert json.loads(told[-1].record.read_text())["pair"] == "sprites-crisp"
    broken = Form({**form().facts, "pair": "no-such-pair"}, form().options)
    with pytest.raises(ValueError, match="no-such-pair"):
        list(studio.run("me", "sample", broken))
    assert isinstance(list(studio.run("me", "sample", form()))[-1], Clip)


@pytest.mark.slow
def test_one_model_lies_in_memory_at_a_time(tmp_path):
    models, beside = weakref.WeakSet[TextToVideo](), list[int]()

    def load(pair: str) -> TextToVideo:
        gc.collect()
        beside.append(len(models))
        models.add(model := TextToVideo.from_pair(pair, "cpu"))
        return model

    studio = Studio(load, "sprites", tmp_path)
    for pair in ("sprites", "sprites-crisp", "sprites"):
        list(studio.run("me", "sample", form(steps="1", pair=pair)))
    studio.line.close()
    assert beside == [0, 0, 0]


def test_a_record_of_other_models_or_another_machine_is_refused_or_remarked_upon(studio, tmp_path):
    *_, clip = studio.run("me", "sample", form())
    raw = json.loads(clip.record.read_text())

    def recalled(**changed):
        path = tmp_path / "changed.json"
        path.write_text(json.dumps({**raw, **changed}))
        return studio.recall(path)

    assert recalled() == (form(), [])
    assert "drawn with device cuda:0, dtype float16" in recalled(device="cuda:0", dtype="float16")[1][0]
    assert "4 clips at a time" in recalled(batch_sizes=[4], batch_places=[1])[1][0]
    with pytest.raises(ValueError, match="pair '/elsewhere'"):
        recalled(pair="/elsewhere")
    with pytest.raises(ValueError, match="other models"):
        recalled(swaps={"clip_skip": 2})


def test_a_pair_with_other_models_in_it_is_the_only_choice(tmp_path):
    swaps = Swaps(image_prediction="epsilon")
    studio = Studio(lambda pair: TextToVideo.from_pair(pair, "cpu", swaps=swaps), "sprites", tmp_path)
    assert studio.pairs == ["sprites"]
    studio.line.close()


def test_what_people_and_files_say_is_text_on_the_page():
    bad = "<script>alert('x')</script>"
    clip = Clip("ddim", Path("ddim.mp4"), Path("ddim.mp4.json"), {bad: 3}, 1.0)
    for html in (notice(bad), notice(bad, wrong=True), said(Note(bad)), figure(clip, "/clips/a", "/clips/b")):
        assert "<script" not in html
        assert "&lt;script&gt;" in html


def test_a_port_that_is_taken_is_refused_and_without_one_the_next_free_is_found():
    with listening(0) as door:
        port = door.getsockname()[1]
        assert door.getsockname()[0] == "127.0.0.1"
        with pytest.raises(ValueError, match=f"--port {port}: Address already in use"):
            listening(port)
    with pytest.raises(ValueError, match="--port 70000: expected a number"):
        listening(70000)
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", PORT))
            taken.listen()
        except OSError:
            pass  # somebody else has it
        with listening(None) as door:
            assert door.getsockname()[1] > PORT


def test_other_sites_pages_and_names_are_refused_before_the_page_hears_of_them():
    pytest.importorskip("starlette", reason="THE GUARD IS NOT TESTED: there is no gradio")
    heard, sent = [], list[dict[str, Any]]()

    async def page(scope: Any, receive: Any, send: Any) -> None:
        heard.append(scope)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    def status(**headers: str) -> int | None:
        sent.clear()
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": raw}
        asyncio.run(guarded(page)(scope, None, send))
        return sent[0]["status"] if sent else None

    here = "127.0.0.1:7860"
    assert (status(host=here), status(host=here, origin=f"http://{here}")) == (None, None)
    assert len(heard) == 2
    for origin in ("http://example.org", "null", "http://127.0.0.1:8888", f"https://{here}"):
        assert status(host=here, origin=origin) == 403
    assert status(host="example.org") == 400
    assert len(heard) == 2


def test_without_gradio_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo"]) == 2
    assert capsys.readouterr().err == "ivmix demo: error: the page needs gradio: pip install 'ivmix[demo]'\n"
