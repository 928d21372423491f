"""What the four benchmarks are said to be, and how a description of one's own is read or told to be wrong."""

import json
import re
import shutil
from pathlib import Path

import pytest

from ivmix.benchmarks import description
from ivmix.benchmarks.description import NAMES, describe
from ivmix.benchmarks.files import FileFrom
from ivmix.benchmarks.rules import ClipRule
from ivmix.evaluation.paper import metrics, tables

ROOM = Path(description.__file__).parent
PUBLISHED = [name for name in NAMES if describe(name).published]
OWN = {
    "format": 1, "name": "kettles", "about": "…", "licence": "…", "samples": 2, "layout": "{sample}/{id}.mp4",
    "prompts": {"file": {"source": "kettles.txt"}, "format": "lines"}, "distances": {"umt_fvd": "cd-fvd-videomae"},
}  # fmt: skip


def write(folder: Path, raw: object) -> Path:
    path = folder / "own.json"
    path.write_text(json.dumps(raw))
    return path


def test_every_file_of_the_room_is_a_known_benchmark():
    assert {path.stem for path in ROOM.glob("*.json")} == set(NAMES)
    assert set(PUBLISHED) >= {"ucf101", "msrvtt", "chronomagic-150", "chronomagic-1649"}


@pytest.mark.parametrize("name", NAMES)
def test_a_known_benchmark_is_called_as_its_file_and_says_how_to_get_what_it_does_not_bring(name):
    found = describe(name)
    assert found.name == name
    assert found.prompts.count
    assert found.prompts.file.source or found.prompts.file.hint
    assert found.reference.features or found.reference.hint


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_known_benchmark_measures_what_the_paper_has_of_it_by_the_protocols_that_match(name):
    found, table = describe(name), tables(name)[0]
    printed = {metric for row in table.rows for metric in row.numbers}
    assert {*found.distances, *found.scores} == printed - {"gpt4o_mtscore"}
    assert found.distances == {metric: metrics()[metric].protocol for metric in found.distances}
    assert found.published == name
    assert found.reference.features.keys() <= set(found.distances.values())


@pytest.mark.parametrize(("name", "clips"), [("ucf101", 2020), ("msrvtt", 1491), ("chronomagic-150", 450),
                                             ("chronomagic-1649", 4947)])  # fmt: skip
def test_as_many_clips_as_are_published_have_names_of_their_own(name, clips):
    found = describe(name)
    ids, samples = range(found.prompts.count), range(1, found.samples + 1)
    assert len({found.layout.format(id=id, sample=sample) for id in ids for sample in samples}) == clips


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_the_paper_does_not_say_is_said_in_sentences_with_what_is_done_here(name):
    unknown = describe(name).unknown
    assert len(unknown) >= 5
    assert all(one[0].isupper() and one.endswith(".") and re.search(r"\bhere\b", one) for one in unknown)


def test_a_file_of_ones_own_is_read_with_paths_beside_it(tmp_path):
    found = describe(write(tmp_path, OWN))
    assert found.prompts.file == FileFrom(str(tmp_path / "kettles.txt"))
    assert (found.comparisons, found.scores, found.clip) == (("parts",), (), ClipRule())


def test_one_from_a_known_benchmark_is_that_one_but_for_what_it_says(tmp_path):
    base = describe("ucf101")
    said = {
        "format": 1, "from": "ucf101", "name": "ucf101-few", "samples": 3, "distances": {"fvd_videogpt": "cd-fvd-i3d"},
        "prompts": {"file": {"source": "own.csv"}}, "reference": {"clip": {"frames": 16, "start": "first"}},
    }  # fmt: skip
    found = describe(write(tmp_path, said))
    assert (found.name, found.samples, found.distances) == ("ucf101-few", 3, {"fvd_videogpt": "cd-fvd-i3d"})
    assert (found.layout, found.unknown, found.published) == (base.layout, base.unknown, "ucf101")
    assert (found.prompts.format, found.prompts.count) == ("classes", 101)
    assert found.prompts.file == FileFrom(str(tmp_path / "own.csv"))
    assert found.reference.clip == ClipRule(16, 1, "first")
    assert (found.reference.videos, found.reference.count) == (base.reference.videos, 13320)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2: this version reads format 1"),
        ({"sample": 2}, "unknown entry 'sample'; did you mean 'samples'"),
        ({"name": None}, "name is None, expected text"),
        ({"name": "../x"}, "name is '../x': expected 1 to 64 of a-z"),
        ({"name": "msrvtt"}, "name is 'msrvtt', which is a known benchmark's"),
        ({"samples": 0}, "samples=0: expected a whole number of 1 or more"),
        ({"samples": "3"}, "samples is '3', expected a whole number"),
        ({"layout": "{sample}.mp4"}, r"layout '\{sample\}.mp4': all prompts would be one file; put \{id\} in it"),
        ({"layout": "{id}.mp4"}, r"layout '\{id\}.mp4': the 2 samples of a prompt would be one file"),
        ({"layout": "{id.__class__}{id}/{sample}.mp4"}, "layout .*: unknown field"),
        ({"distances": {"fvd": "plain"}}, "distances 'fvd': expected one of umt_fvd, fvd_styleganv, fvd_videogpt"),
        ({"distances": {"umt_fvd": "plain"}}, "distances: umt_fvd 'plain': expected one of stylegan-v, .*umt$"),
        ({"distances": {}}, "distances and scores are empty"),
        ({"scores": ["chscore"]}, "scores 'chscore': expected one of umt_score"),
        ({"scores": "umt_score"}, "scores is 'umt_score', expected list"),
        ({"comparisons": ["parts", "parts"]}, "comparisons is .*: expected some of parts, tiled, pooled, none twice"),
        ({"comparisons": ["whole"]}, r"comparisons\[0\] is 'whole', expected 'parts' or 'tiled' or 'pooled'"),
        ({"clip": {"frames": 0}}, "clip: frames=0: expected"),
        ({"clip": {"start": "last"}}, "clip: start is 'last', expected 'first' or 'middle' or 'random'"),
        ({"published": "ucf"}, "benchmark 'ucf': expected one of chronomagic-150"),
        ({"unknown": [3]}, r"unknown\[0\] is 3, expected text"),
        ({"from": "ucf"}, "from 'ucf': expected one of ucf101, msrvtt"),
        ({"prompts": {"file": {"source": "x"}, "format": "csv"}}, "prompts: format 'csv': expected one of chronomagic"),
        ({"prompts": {"format": "lines"}}, "prompts: it lacks the entry 'file'"),
        ({"prompts": {"file": {"source": ""}, "format": "lines"}}, "prompts: file: source is empty"),
        ({"prompts": {"file": {"source": "x", "sha256": "AB"}, "format": "lines"}}, "sha256 is 'AB': expected 64"),
        ({"prompts": {"file": {"source": "hub:a/b"}, "format": "lines"}}, "expected hub:owner/name/file"),
        ({"prompts": {"file": {"source": "a\nb"}, "format": "lines"}}, "source is .*control characters"),
        ({"reference": {"features": {"umt": {"source": "x"}}}}, "reference: protocol 'umt': expected one of style"),
        ({"reference": {"videos": "../*.mp4"}}, "reference: videos is '../\\*.mp4': expected a pattern below a folder"),
    ],
)  # fmt: skip
def test_a_description_that_cannot_be_is_told_in_one_line_with_its_file(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as told:
        describe(write(tmp_path, OWN | changes))
    assert "own.json" in str(told.value)
    assert "\n" not in str(told.value)


def test_what_is_neither_a_known_benchmark_nor_a_file_is_told(tmp_path):
    for name in ("ucf", str(tmp_path), "ucf101.json"):
        with pytest.raises(ValueError, match=r"expected one of ucf101, .*chronomagic-1649\b.*, or a JSON file"):
            describe(name)


def test_a_copy_of_a_known_file_needs_a_name_of_its_own(tmp_path):
    with pytest.raises(ValueError, match="a known benchmark's"):
        describe(shutil.copy(ROOM / "msrvtt.json", tmp_path))
