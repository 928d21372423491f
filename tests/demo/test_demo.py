"""`ivmix demo` in a real browser: what somebody does on the page, and that nothing of it leaves the machine."""

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from chromium import Page, Server, chromium

from ivmix.generation.record import read_record

pytestmark = pytest.mark.slow
RED = "a red circle moving left"
SMALL = {"frames": "2", "height": "16", "width": "16"}


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    driver = chromium()
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def server(driver: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("gradio", reason="THE PAGE IS NOT TESTED: there is no gradio")
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture
def page(driver: Any, server: Server) -> Iterator[Page]:
    page = Page(driver, server)
    yield page
    page.look()
    page.close()


def begin_long(page: Page) -> None:
    """A run of some minutes that is on its way."""
    page.fill(prompt=RED)
    page.type("#option-steps", "1000")
    page.click("sample")
    page.until(lambda: "composite: step" in page.said())


def quick(page: Page) -> None:
    """A run of a second."""
    page.fill(prompt=RED, **SMALL)
    page.type("#option-steps", "2")
    page.click("sample")


def test_a_prompt_becomes_a_clip_that_plays_and_the_command_draws_the_same_bytes(page, server, tmp_path):
    page.fill(prompt=RED, seed="5", **SMALL)
    page.choose("#sampler", "ddim")
    page.until(lambda: page.value("#option-steps") == "20" and not page.find("#option-pattern"))
    page.type("#option-steps", "3")
    page.choose("#option-solver", "heun")
    page.click("sample")
    assert page.clips(1) == ["ddim"]
    [video] = page.find(".clips video")
    assert video.get_property("loop")
    page.until(lambda: video.get_property("videoWidth") >= 256)  # enlarged to be seen
    times = {page.until(lambda: video.get_property("currentTime"))}
    page.until(lambda: times.add(video.get_property("currentTime")) or len(times) > 3)
    [clip], [record] = page.links("clip"), page.links("record")
    (tmp_path / "page.mp4").write_bytes(server.get(clip))
    (tmp_path / "page.mp4.json").write_bytes(server.get(record))
    again, same = tmp_path / "again.mp4", tmp_path / "same.mp4"
    options = ["--seed", "5", "--frames", "2", "--size", "16x16", "--sampler", "ddim", "--steps", "3"]
    for output, given in (
        (again, ["--from", str(tmp_path / "page.mp4.json")]),
        (same, [RED, *options, "--solver", "heun", "--device", "cpu"]),
    ):
        drawn = server.run("-m", "ivmix", "sample", *given, "-o", str(output), "--quiet")
        assert drawn.returncode == 0, drawn.stderr
        assert output.read_bytes() == (tmp_path / "page.mp4").read_bytes()
        assert read_record(output.with_name(f"{output.name}.json")).asks_as(read_record(tmp_path / "page.mp4.json"))


def test_a_record_fills_in_the_page_and_its_clip_is_drawn_again(page, server, tmp_path):
    output = tmp_path / "out.mp4"
    options = ["--seed", "7", "--frames", "2", "--size", "16x32", "--sampler", "zigzag", "--steps", "4"]
    options += ["--sequence", "up-first", "--negative-prompt", "blue", "--image-negative-prompt", "a green cross"]
    server.run("-m", "ivmix", "sample", RED, *options, "--device", "cpu", "-o", str(output))
    [upload] = page.find("input[type=file]")
    upload.send_keys(f"{output}.json")
    page.until(lambda: page.value("#seed") == "7")
    shown = {name: page.value(f"#{name}") for name in ("prompt", "sampler", "frames", "height", "width")}
    assert shown == {"prompt": RED, "sampler": "zigzag", "frames": "2", "height": "16", "width": "32"}
    assert [page.value(f"#option-{name}") for name in ("steps", "sequence")] == ["4", "up-first"]
    page.unfold("Negative prompts")
    page.until(lambda: page.find("#image_negative_prompt input, #image_negative_prompt textarea"))
    assert [page.value(f"#{name}_prompt") for name in ("negative", "image_negative")] == ["blue", "a green cross"]
    page.click("sample")
    assert page.clips(1) == ["zigzag"]
    assert server.get(page.links("clip")[0]) == output.read_bytes()
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps({"prompts": [RED]}))
    upload.send_keys(str(broken))
    page.until(lambda: "broken.json is not a record of `ivmix sample`" in page.said())
    assert page.value("#seed") == "7"


def test_samplers_are_compared_from_the_same_noise_and_measured(page, server):
    page.fill(prompt=RED, seed="3")
    page.click("compare")
    assert page.clips(4) == ["ddim", "image", "zigzag", "composite"]
    made = [json.loads(server.get(link)) for link in page.links("record")]
    assert [(r["seeds"], r["prompts"]) for r in made] == 4 * [([3], [RED])]
    assert made[2]["nfe"] == {"image": 36, "video": 56}
    assert "36 image + 56 video evaluations" in page.find(".clips figcaption")[2].text
    page.until(lambda: all(v.get_property("currentTime") for v in page.find(".clips video")))
    rows = [[cell.text for cell in row.find_elements("css selector", "td")] for row in page.find("#table tbody tr")]
    assert [row[0] for row in rows] == ["ddim", "image", "zigzag", "composite"]
    degradation = [float(row[1]) for row in rows]
    assert degradation[0] > 0.7
    assert max(degradation[2:]) < 0.3


def test_cancel_stops_a_run_and_the_next_one_is_drawn(page):
    begin_long(page)
    assert not page.find("#sample")[0].is_enabled()
    page.click("cancel")
    page.until(lambda: page.said() == "Cancelled.")
    assert not page.find(".clips figure")
    quick(page)
    assert page.clips(1) == ["composite"]


@pytest.mark.parametrize(
    ("button", "field", "text", "said"),
    [
        ("sample", "#prompt", "a purple circle moving left", "words outside the vocabulary: 'purple'"),
        ("compare", "#prompt", "<img src=x onerror=alert(1)>", "words outside the vocabulary"),
        ("compare", "#frames", "0", "frames=0: expected a whole number of 1 or more"),
        ("sample", "#option-steps", "many", "steps 'many': expected a whole number"),
    ],
)
def test_what_cannot_be_is_one_line_on_the_page_and_nothing_is_drawn(page, button, field, text, said):
    page.fill(prompt=RED)
    page.type(field, text)
    page.click(button)
    page.until(lambda: page.find(".said.wrong") and page.find("#sample")[0].is_enabled())
    assert said in page.said()
    assert len(page.find("#said .said")) == 1
    assert not page.find(".clips figure, #said img")
    page.fill(prompt="a blue cross moving up", **SMALL)
    page.type("#option-steps", "2")
    page.click("sample")
    page.clips(1)
    assert page.said() == ""


def test_a_reload_begins_anew_cancels_what_ran_and_removes_what_was_drawn(page, server):
    quick(page)
    page.clips(1)
    [clip] = page.links("clip")
    assert server.has(clip)
    begin_long(page)
    page.open()
    assert page.value("#option-steps") == "10"
    assert not page.find(".clips figure, #said .said")
    page.until(lambda: not server.has(clip))
    quick(page)
    page.clips(1)


def test_a_second_page_waits_in_line_is_told_so_and_drawn_when_the_first_is_closed(page, driver, server):
    first = Page(driver, server)
    begin_long(first)
    page.look()
    quick(page)
    page.until(lambda: page.said() == "Waiting in line: 1 run before yours.")
    first.look().close()
    page.look()
    page.clips(1)


def test_another_pair_brings_its_own_defaults_and_is_drawn(page, server):
    page.unfold("Pair of models")
    page.until(lambda: page.find("#pair input"))
    page.choose("#pair", "sprites-crisp")
    page.until(lambda: "The control of sprites" in page.find("#about")[0].text)
    quick(page)
    page.clips(1)
    assert json.loads(server.get(page.links("record")[0]))["pair"] == "sprites-crisp"


def test_nothing_is_asked_of_any_other_machine(page, server):
    """By the browser, from its log; by the server, which is guarded; and the guard does notice."""
    page.requests()
    page.open()
    quick(page)
    page.clips(1)
    asked = [urlsplit(address) for address in page.requests()]
    assert any(one.path.endswith("composite.mp4") for one in asked)
    here = urlsplit(server.address).netloc
    assert {one.netloc for one in asked if one.scheme not in ("data", "blob")} == {here}
    assert server.calls == ""
    server.run("-c", "import socket; socket.create_connection(('192.0.2.1', 9))")
    assert "192.0.2.1" in server.calls


def test_the_page_is_for_this_machine_alone_and_may_ask_nobody_else(server):
    place = urlsplit(server.address)
    elsewhere = {"Host": "example.org"}  # as by a name that was made to point here
    for headers, status in (({}, 200), ({"Origin": server.address}, 200), (elsewhere, 400), ({"Origin": "null"}, 403)):
        link = http.client.HTTPConnection("127.0.0.1", place.port)
        link.request("GET", "/", headers=headers)
        answer = link.getresponse()
        assert answer.status == status
        assert "default-src 'self'" in (answer.getheader("content-security-policy") or "")


def test_ctrl_c_ends_it_in_the_middle_of_a_run_and_leaves_no_file(driver, tmp_path):
    pytest.importorskip("gradio", reason="THE PAGE IS NOT TESTED: there is no gradio")
    server = Server(tmp_path)
    page = Page(driver, server)
    quick(page)
    page.clips(1)
    begin_long(page)
    assert list(server.temporary.iterdir())
    assert server.stop() == (130, "ivmix demo: interrupted; nothing half-written is left")
    assert not list(server.temporary.iterdir())
    page.close()
