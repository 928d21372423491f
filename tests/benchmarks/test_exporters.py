"""What is handed to the tools of ChronoMagic-Bench and VBench, and what VBench hands back."""

import errno
import json
import os
from pathlib import Path

import pytest

from ivmix.benchmarks.exporters import LEADERBOARD, leaderboard, to_vbench, to_vbench_custom, vbench_scores
from ivmix.benchmarks.layouts import find, paths_of
from ivmix.evaluation.metrics.vbench import totals
from ivmix.evaluation.paper import metrics

ENTRIES = [("1", "A house."), ("2", "a fantasy landscape"), ("3", "A fantasy landscape"), ("4", "façades")]
OPEN = "{sample}/{id}.mp4"


def clips(folder: Path, entries=ENTRIES, samples=5, suffix=".mp4") -> list[Path]:
    for path in paths_of(OPEN, entries, samples):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).with_suffix(suffix).write_bytes(f"{path}".encode())
    return find(folder, OPEN, entries, samples)


def test_the_leaderboard_has_its_five_columns_and_minus_one_where_nothing_was_measured():
    raw = json.loads(leaderboard("ours", {"umt_fvd": 228.6, "chscore": 4}))
    assert raw == {
        "ours": {
            "Average_MTScore": -1, "Average_CHScore": 4.0, "Average_GPT4o-MTScore": -1, "Average_UMT-FVD": 228.6,
            "Average_UMTScore": -1,
        }
    }  # fmt: skip


def test_the_leaderboard_takes_the_names_of_the_published_numbers():
    assert LEADERBOARD.keys() == metrics().keys() - {"fvd_styleganv", "fvd_videogpt"}


def test_the_leaderboard_refuses_what_it_would_show_wrongly():
    with pytest.raises(ValueError, match=r"did you mean 'umt_fvd'"):
        leaderboard("ours", {"umtfvd": 1.0})
    with pytest.raises(ValueError, match="umt_fvd is nan, expected a finite number"):
        leaderboard("ours", {"umt_fvd": float("nan")})
    with pytest.raises(ValueError, match="model ' '"):
        leaderboard(" ", {})


def test_vbenchs_folder_holds_links_by_prompts_that_count_from_0(tmp_path):
    files = clips(tmp_path / "ours")
    if os.path.exists(tmp_path / "OURS"):
        pytest.skip("this file system takes a for A")
    to_vbench(files, ENTRIES, 5, tmp_path / "v1.0")
    assert sorted(os.listdir(tmp_path / "v1.0")) == sorted(f"{p}-{i}.mp4" for _, p in ENTRIES for i in range(5))
    assert (tmp_path / "v1.0" / "A fantasy landscape-4.mp4").read_bytes() == b"5/3.mp4"
    assert (tmp_path / "v1.0" / "A house.-0.mp4").samefile(files[0])


def test_a_linked_source_is_exported_as_what_it_leads_to(tmp_path):
    files = clips(tmp_path / "ours", ENTRIES[:1])
    links = [tmp_path / f"{number}.mp4" for number in range(5)]
    for link, file in zip(links, files, strict=True):
        link.symlink_to(os.path.relpath(file, tmp_path))
    to_vbench(links, ENTRIES[:1], 5, tmp_path / "vbench")
    assert (tmp_path / "vbench" / "A house.-2.mp4").read_bytes() == b"3/1.mp4"


def test_a_folder_on_another_file_system_has_copies(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    files = clips(tmp_path / "ours", ENTRIES[:1])
    monkeypatch.setattr(os, "link", refuse)
    to_vbench(files, ENTRIES[:1], 5, tmp_path / "vbench")
    assert (tmp_path / "vbench" / "A house.-2.mp4").read_bytes() == b"3/1.mp4"
    assert not (tmp_path / "vbench" / "A house.-2.mp4").samefile(files[2])


def test_a_prompt_that_is_there_twice_has_the_clips_of_its_first(tmp_path):
    twice = [("1", "A house."), ("2", "A house.")]
    to_vbench(clips(tmp_path / "ours", twice), twice, 5, tmp_path / "vbench")
    assert len(os.listdir(tmp_path / "vbench")) == 5
    assert (tmp_path / "vbench" / "A house.-2.mp4").read_bytes() == b"3/1.mp4"


@pytest.mark.parametrize(
    ("prompt", "said"), [("and/or", "holds a /"), ("..\\a", "holds a /"), ("x" * 250, "256 bytes"), ("", "is empty")]
)
def test_prompts_that_are_no_names_are_refused_for_vbenchs_suite_and_go_by_ids_in_its_custom_mode(
    tmp_path, prompt, said
):
    entries = [("1", "A house."), ("2", prompt)]
    files = clips(tmp_path / "ours", entries)
    with pytest.raises(ValueError, match="1 of 2 prompts") as error:
        to_vbench(files, entries, 5, tmp_path / "vbench")
    assert said in str(error.value)
    assert not (tmp_path / "vbench").exists()
    beside = to_vbench_custom(files, entries, 5, tmp_path / "vbench")
    assert beside == tmp_path / "vbench.json"
    prompts = json.loads(beside.read_bytes())
    assert prompts.keys() == set(os.listdir(tmp_path / "vbench"))  # a file that is no video would be VBench's first
    assert prompts["2-4.mp4"] == prompt
    assert (tmp_path / "vbench" / "2-4.mp4").read_bytes() == b"5/2.mp4"


def test_what_vbench_would_misread_is_refused_and_leaves_nothing(tmp_path):
    files = clips(tmp_path / "ours")
    webm = clips(tmp_path / "webm", ENTRIES[:1], suffix=".webm")
    for given, entries, samples, said in (
        (files[:12], ENTRIES, 3, "3 samples a prompt"), (files[:-1], ENTRIES, 5, "files: 19, expected 20"),
        (webm, ENTRIES[:1], 5, "files end in .webm"),
        ([*webm[:1], *files[1:5]], ENTRIES[:1], 5, "files end in .mp4, .webm"),
        ([tmp_path / "gone.mp4", *files[1:]], ENTRIES, 5, "no file"),
    ):  # fmt: skip
        with pytest.raises((ValueError, OSError)) as error:
            to_vbench(given, entries, samples, tmp_path / "vbench")
        assert said in str(error.value)
        assert sorted(os.listdir(tmp_path)) == ["ours", "webm"]


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    files = clips(tmp_path / "ours", ENTRIES[:1])
    (tmp_path / "vbench").mkdir()
    with pytest.raises(FileExistsError, match="exists already"):
        to_vbench(files, ENTRIES[:1], 5, tmp_path / "vbench")
    (tmp_path / "mine.json").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already"):
        to_vbench_custom(files, ENTRIES[:1], 5, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def results(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_vbenchs_results_give_its_totals(tmp_path):
    videos = [{"video_path": "v/A house.-0.mp4", "video_results": True}]
    one = results(tmp_path / "a_eval_results.json", json.dumps({"dynamic_degree": [0.5, videos]}))
    two = results(tmp_path / "b_eval_results.json", json.dumps({"object_class": [0.9, []], "scene": [0.4111, []]}))
    scores = vbench_scores(one, two)
    assert scores == {"dynamic_degree": 0.5, "object_class": 0.9, "scene": 0.4111}
    assert totals(scores).quality == pytest.approx(0.5 * 0.5 / 6.5)
    assert totals(scores).semantic == pytest.approx((0.9 + 0.5) / 9)


@pytest.mark.parametrize("value", ["0.5", "[]", "[[0.5]]", "[true, []]", "[NaN, []]", "{}", '["0.5"]'])
def test_results_of_another_kind_are_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"'scene' is .*, expected \[score"):
        vbench_scores(results(tmp_path / "r.json", f'{{"scene": {value}}}'))


def test_a_dimension_of_two_files_is_refused(tmp_path):
    file = results(tmp_path / "r.json", '{"scene": [0.5, []]}')
    with pytest.raises(ValueError, match="'scene' is in another"):
        vbench_scores(file, file)
