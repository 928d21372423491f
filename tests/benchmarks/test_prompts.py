"""Prompts from files of the published formats, all invented here, and the order in which a short run takes them."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from ivmix.benchmarks.prompts import Prompt, clip_seed, nested, prompts_hash, read_prompts

CHRONOMAGIC = (
    "videoid,name,sub_category,main_category\n"
    'kettle_boiling_03,"Time-lapse of a kettle, boiling:\n""steam"" rises.",kettle_boiling,physical\n'
    "kettle_boiling_11.0,A second kettle.,kettle_boiling,\n"
    "moss_growing_02,Moss grows.,moss_growing,biological\n"
)
UMT = [{"caption_id": "moss_growing_02", "video": "moss_growing_02.mp4", "caption": "Moss grows."}]
MSRVTT = {
    "info": {"year": "2016"},
    "videos": [
        {"video_id": "video5", "split": "validate", "category": 9, "url": "…", "start time": 1.5, "id": 5},
        {"video_id": "video2", "split": "train", "category": 3},
        {"video_id": "video3", "split": "validate", "category": 3},
    ],
    "sentences": [
        {"video_id": "video5", "caption": "a third one", "sen_id": 30},
        {"video_id": "video5", "caption": "a first one", "sen_id": 4},
        {"video_id": "video3", "caption": "of another", "sen_id": 5},
        {"video_id": "video2", "caption": "of training", "sen_id": 6},
        {"video_id": "video5", "caption": "a second one", "sen_id": 12},
    ],
}


def write(folder: Path, name: str, content: object, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_of_captions_is_read_with_its_commas_quotes_and_line_breaks(tmp_path, encoding, end):
    path = write(tmp_path, "captions.csv", CHRONOMAGIC.replace("\n", end), encoding)
    assert read_prompts(path, "chronomagic", 3) == (
        Prompt("kettle_boiling_03", ('Time-lapse of a kettle, boiling: "steam" rises.',), "kettle_boiling"),
        Prompt("kettle_boiling_11.0", ("A second kettle.",), "kettle_boiling"),
        Prompt("moss_growing_02", ("Moss grows.",), "moss_growing"),
    )


def test_both_files_of_chronomagic_give_the_same_prompts(tmp_path):
    from_csv = read_prompts(write(tmp_path, "captions.csv", CHRONOMAGIC), "chronomagic")
    assert read_prompts(write(tmp_path, "umt.json", UMT), "chronomagic") == from_csv[-1:]


def test_samples_of_msrvtt_show_the_captions_of_validation_in_the_order_of_sen_id(tmp_path):
    found = read_prompts(write(tmp_path, "info.json", MSRVTT, "utf-8-sig"), "msrvtt", 2)
    assert found == (
        Prompt("video5", ("a first one", "a second one", "a third one"), "9"),
        Prompt("video3", ("of another",), "3"),
    )
    assert [found[0].text(sample) for sample in (1, 2, 3, 4)] == [*found[0].texts, "a first one"]
    assert found[1].text(3) == "of another"


def test_classes_are_the_same_from_a_list_from_its_numbered_form_and_from_folders(tmp_path):
    for name in ("SnowRolling", "PeelLongCarrots"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data" / "readme.txt").write_text("no class")
    wanted = {Prompt("SnowRolling", ("snow rolling",)), Prompt("PeelLongCarrots", ("peel long carrots",))}
    plain = write(tmp_path, "plain.txt", "SnowRolling\nPeelLongCarrots\n\n")
    numbered = write(tmp_path, "classInd.txt", "1 SnowRolling\r\n2 PeelLongCarrots\r\n")
    assert all(set(read_prompts(path, "classes", 2)) == wanted for path in (plain, numbered, tmp_path / "data"))
    own = write(tmp_path, "own.csv", 'id,prompt\nSnowRolling,"somebody rolls a ball, of snow"\n')
    assert read_prompts(own, "classes") == (Prompt("SnowRolling", ("somebody rolls a ball, of snow",)),)


def test_lines_are_called_by_their_number_and_tables_by_their_ids(tmp_path):
    lines = write(tmp_path, "p.txt", "a red ball\u2028on ice\n\n  two balls \n", "utf-8-sig")
    assert read_prompts(lines, "lines") == (Prompt("0001", ("a red ball on ice",)), Prompt("0003", ("two balls",)))
    table = [{"id": "b", "prompt": "two", "category": "x"}, {"id": "a", "prompt": "one"}]
    wanted = (Prompt("b", ("two",), "x"), Prompt("a", ("one",)))
    assert read_prompts(write(tmp_path, "t.json", table), "table") == wanted
    assert read_prompts(write(tmp_path, "t.csv", "id,category,prompt\nb,x,two\na,,one\n"), "table") == wanted


SENTENCE = MSRVTT["sentences"][0]


def changed(**entries: object) -> dict:
    return {**MSRVTT, **entries}


@pytest.mark.parametrize(
    ("name", "format", "content", "message"),
    [
        ("p.csv", "chronomagic", CHRONOMAGIC, r"p\.csv: it holds 3 prompts, expected 150$"),
        ("p.csv", "chronomagic", CHRONOMAGIC + "moss_growing_02,x,y,z\n", "line 6: the id 'moss_growing_02' occurs"),
        ("p.csv", "chronomagic", "videoid,name\nx_1,  \n", r"p\.csv, line 2: the prompt is empty"),
        ("p.csv", "chronomagic", "videoid,name\n,x\n", r"p\.csv, line 2: the id is empty"),
        ("p.csv", "chronomagic", "videoid,name\nx_1,\x07\n", r"p\.csv, line 2: .* control character U\+0007"),
        ("p.csv", "chronomagic", "id,prompt\nx,y\n", r"columns \['id', 'prompt'\], expected videoid and name"),
        ("p.csv", "chronomagic", "videoid,name\nx_1\n", r"p\.csv, line 2: it has not 2 cells"),
        ("p.csv", "chronomagic", "videoid,name\nx_1,a,b\n", r"p\.csv, line 2: it has not 2 cells"),
        ("p.csv", "chronomagic", 'videoid,name\nx_1,"open\n', r"p\.csv, line 2: unexpected end of data"),
        ("p.csv", "chronomagic", "", r"line 1: columns \[\], expected videoid and name"),
        ("p.json", "chronomagic", [{**UMT[0], "caption": "none"}], "caption is 'none', .* expected one for UMTScore"),
        ("p.json", "chronomagic", [{"caption_id": "x"}], r"p\.json\[0\]: it lacks the entry 'caption'"),
        ("p.json", "chronomagic", {"x": 1}, "expected a list of objects with caption_id, caption"),
        ("p.json", "chronomagic", "[{]", r"p\.json is not JSON: "),
        ("p.json", "msrvtt", UMT, "expected an object with videos and sentences"),
        ("p.json", "msrvtt", changed(videos=None), "videos is None, expected a list of objects with video_id, split"),
        ("p.json", "msrvtt", changed(sentences=[]), r"videos\[0\]: no sentence is of 'video5'"),
        ("p.json", "msrvtt", changed(sentences=[SENTENCE] * 2), r"sentences\[1\]: sen_id 30 of 'video5' occurs twice"),
        ("p.json", "msrvtt", changed(sentences=[{**SENTENCE, "caption": 3}]), "caption is 3, expected text"),
        ("p.json", "msrvtt", changed(videos=[]), "it holds 0 prompts, expected 497"),
        ("p.txt", "classes", "1 SnowRolling\n2 snow rolling\n", "line 2: '2 snow rolling', expected the name of a"),
        ("p.txt", "classes", "1 SnowRolling\n2 SnowRolling\n", "line 2: the id 'SnowRolling' occurs twice"),
        ("p.txt", "lines", "\n \n", "it holds 0 prompts, expected one or more"),
        ("p.csv", "table", "id,prompt,categorie\na,b,c\n", "unknown entry 'categorie'; did you mean 'category'"),
        ("p.json", "table", [{"id": 3, "prompt": "b"}], r"p\.json\[0\]: id is 3, expected text"),
        ("p.json", "tabel", "", "format 'tabel': expected one of chronomagic, msrvtt, classes, lines, table"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_such_file_is_told_in_one_line_with_its_place(tmp_path, name, format, content, message):
    path, count = write(tmp_path, name, content), {"msrvtt": 497, "lines": None}.get(format, 150)
    with pytest.raises(ValueError, match=message) as told:
        read_prompts(path, format, count)
    assert "\n" not in str(told.value)
    assert format == "tabel" or str(told.value).startswith(str(path))


def test_a_file_of_another_encoding_or_none_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"p\.txt: expected UTF-8 text"):
        read_prompts(write(tmp_path, "p.txt", "über", "latin-1"), "lines")
    with pytest.raises(ValueError, match=r"p\.json: expected UTF-8 text"):
        read_prompts(write(tmp_path, "p.json", "über", "latin-1"), "table")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_prompts(tmp_path / "gone.csv", "table")
    with pytest.raises(ValueError, match="is a folder"):
        read_prompts(tmp_path, "chronomagic")


# --- the order of a short run ----------------------------------------------------------------------------------------


def drawn(sizes: list[int]) -> list[Prompt]:
    return [Prompt(f"{kind}_{n}", ("…",), f"kind {kind}") for kind, size in enumerate(sizes) for n in range(size)]


@pytest.mark.parametrize("seed", range(8))
def test_every_beginning_has_each_category_within_one_prompt_of_its_share(seed):
    chance = random.Random(seed)
    sizes = [chance.choice((1, 1, 2, 3, 20, 90)) for _ in range(chance.randint(1, 40))]
    order, seen = nested(drawn(sizes), "invented"), Counter[str]()
    for taken, prompt in enumerate(order, 1):
        seen[prompt.category] += 1
        assert all(abs(seen[f"kind {k}"] * len(order) - size * taken) < len(order) for k, size in enumerate(sizes))
    assert seen == {f"kind {k}": size for k, size in enumerate(sizes)}


def test_the_order_is_the_same_whatever_that_of_the_file_and_another_for_another_benchmark():
    prompts = drawn([1, 5, 9, 2])
    order = nested(prompts, "invented")
    assert set(order) == set(prompts)
    for seed in range(4):
        assert nested(random.Random(seed).sample(prompts, len(prompts)), "invented") == order
    assert nested(prompts, "other") != order


def test_which_of_a_category_comes_first_is_by_chance_and_not_by_its_id():
    order = [prompt.id for prompt in nested(drawn([100]), "invented")]
    assert order != sorted(order)
    first = {nested(drawn([3, 3, 3]), f"benchmark {n}")[0].category for n in range(40)}
    assert first == {"kind 0", "kind 1", "kind 2"}


def test_a_seed_depends_on_run_prompt_and_sample_and_on_each_of_them():
    ids, samples = ("a", "b", "a1", "1"), range(1, 21)
    seeds = {clip_seed(seed, id, sample) for seed in range(5) for id in ids for sample in samples}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62
    assert clip_seed(1, "1", 11) != clip_seed(11, "1", 1) != clip_seed(1, "11", 1)


def test_the_hash_of_prompts_tells_their_texts_their_ids_and_their_order_apart():
    a, b = Prompt("a", ("one", "two")), Prompt("b", ("three",))
    others = [(b, a), (a,), (Prompt("a", ("one two",)), b), (Prompt("c", a.texts), b), (Prompt("a", ("two", "one")), b)]
    assert len({prompts_hash(one) for one in [(a, b), *others]}) == 6
    assert prompts_hash((a, b)) == prompts_hash([Prompt("a", ("one", "two"), "x"), b])
    assert len(prompts_hash(())) == 64
