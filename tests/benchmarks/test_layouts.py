"""Names of clips: what a layout gives, what it refuses, and anyone's files found by it."""

from pathlib import Path

import pytest

from ivmix.benchmarks.layouts import check_layout, check_names, find, path_of, paths_of

OPEN, UCF, VBENCH = "{sample}/{id}.mp4", "{id}/v_{id}_g{sample:02}_c01.mp4", "{prompt}-{index}.mp4"
ENTRIES = [("day2night_13.0", "Day becomes night."), ("animal_04", "A cat")]


def lay(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_names_are_those_of_the_original_tools():
    assert path_of(OPEN, "animal_04", 3).as_posix() == "3/animal_04.mp4"
    assert path_of(UCF, "Baking", 20).as_posix() == "Baking/v_Baking_g20_c01.mp4"
    assert path_of(VBENCH, "7", 1, "A cat").as_posix() == "A cat-0.mp4"
    assert [path.as_posix() for path in paths_of(OPEN, ENTRIES, 2)] == [
        "1/day2night_13.0.mp4", "2/day2night_13.0.mp4", "1/animal_04.mp4", "2/animal_04.mp4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("{id.mp4", "expected '}'"),
        ("{}.mp4", "unknown field {}; expected {id}"),
        ("{video}.mp4", "unknown field {video}"),
        ("{id.__class__}.mp4", "unknown field"),
        ("{id!r}.mp4", "format that is not read"),
        ("{id:>{sample}}.mp4", "format that is not read"),
        ("{id}{sample:>99999999}.mp4", "format that is not read"),
        ("{id}{sample:x}.mp4", "format that is not read"),
        ("{sample}/clip.mp4", "all prompts would be one file"),
        ("{id}.mp4", "3 samples of a prompt would be one file"),
        ("../{sample}/{id}.mp4", "below a folder"),
        ("/{sample}/{id}.mp4", "below a folder"),
        ("C:{sample}{id}.mp4", "below a folder"),
        ("{sample}\\{id}.mp4", "below a folder"),
        ("{sample}//{id}.mp4", "below a folder"),
        ("{sample}/{id}\n.mp4", "below a folder"),
        ("{sample}/{id}", "names no video"),
        ("{sample}/{id}.txt", "names no video"),
        ("", "all prompts would be one file"),
    ],
)
def test_a_layout_that_is_none_is_refused_in_one_line(layout, said):
    with pytest.raises(ValueError, match=r"^layout [^\n]*$") as error:
        check_layout(layout, 3)
    assert said in str(error.value)


def test_one_sample_needs_no_number():
    check_layout("{id}.mp4", 1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a/b", "holds a /"), ("..\\b", "holds a /"), ("..", "another folder"), ("", "is empty"), (" ", "is empty"),
        ("a\nb", "control"), ("a\0b", "control"), ("a\ud800", "control"),
        ("é" * 126, "256 bytes, and a name 255 at most"),
    ],
)  # fmt: skip
def test_what_no_file_can_be_named_is_refused_as_an_id_and_as_a_prompt(name, said):
    with pytest.raises(ValueError, match="2 prompts cannot name") as error:
        check_names("{sample}/{id}.mp4", [("fine", ""), (name, "")], 3)
    assert said in str(error.value)
    assert "give these prompts other ids" in str(error.value)
    with pytest.raises(ValueError, match=r"name clips by \{id\} instead") as error:
        check_names("{sample}/{prompt}.mp4", [("fine", "fine"), ("2", name)], 3)
    assert said in str(error.value)
    assert str(error.value).isprintable()
    with pytest.raises(ValueError, match="layout"):
        path_of("{sample}/{id}.mp4", name, 1)
    check_names("{sample}/{id}.mp4", [("fine", name)], 3)  # a prompt that names nothing may be anything


def test_a_name_of_255_bytes_can_be_written_and_one_of_256_is_refused(tmp_path):
    longest = "x" * 251
    check_names(OPEN, [(longest, "")], 1)
    lay(tmp_path, f"1/{longest}.mp4")
    assert find(tmp_path, OPEN, [(longest, "")], 1) == [tmp_path / "1" / f"{longest}.mp4"]
    (tmp_path / "1" / f"{longest}.mp4").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 1"):  # not the 256 bytes of the same in .webm
        find(tmp_path, OPEN, [(longest, "")], 1)
    with pytest.raises(ValueError, match="256 bytes"):
        check_names(OPEN, [("x" * 252, "")], 1)


@pytest.mark.parametrize("other", ["fleur_é", "Fleur_é", "fleur_e\u0301", "FLEUR_E\u0301"])
def test_names_that_a_file_system_may_take_for_one_are_refused(other):
    with pytest.raises(ValueError, match="3 of 6 clips would lie where another does") as error:
        check_names(OPEN, [("fleur_é", "a"), (other, "b")], 3)
    assert "fleur_é" in str(error.value)


def test_names_that_run_into_each_other_are_refused():
    with pytest.raises(ValueError, match=r"'a11\.mp4'"):
        check_names("{id}{sample}.mp4", [("a", ""), ("a1", "")], 11)


def test_many_faults_are_counted_and_three_are_named():
    with pytest.raises(ValueError, match="9 of 9 prompts") as error:
        check_names(OPEN, [(f"a/{number}", "") for number in range(9)], 3)
    assert "'a/2'" in str(error.value)
    assert "'a/3'" not in str(error.value)


def test_files_are_found_in_the_order_of_the_prompts_by_any_suffix_of_a_video(tmp_path):
    lay(tmp_path, "1/animal_04.webm", "2/animal_04.mp4", "2/animal_04.avi", "1/day2night_13.0.gif")
    lay(tmp_path, "2/day2night_13.0.mkv")
    found = find(tmp_path, OPEN, ENTRIES, 2)
    assert [file.relative_to(tmp_path).as_posix() for file in found] == [
        "1/day2night_13.0.gif", "2/day2night_13.0.mkv", "1/animal_04.webm", "2/animal_04.mp4",
    ]  # fmt: skip


def test_a_single_sample_may_lie_without_its_folder(tmp_path):
    lay(tmp_path, "animal_04.mp4", "day2night_13.0.mp4", "1/animal_04.mp4")
    assert [f.parent for f in find(tmp_path, OPEN, ENTRIES, 1)] == [tmp_path] * 2  # never some here and some there
    lay(tmp_path, "1/day2night_13.0.mp4")
    assert [f.parent for f in find(tmp_path, OPEN, ENTRIES, 1)] == [tmp_path / "1"] * 2
    lay(tmp_path, "Baking/v_Baking_g01_c01.mp4")
    assert find(tmp_path, UCF, [("Baking", "")], 1)


def test_missing_files_are_one_error_that_says_where_they_were_looked_for(tmp_path):
    lay(tmp_path, "animal_04.mp4")
    with pytest.raises(FileNotFoundError) as error:
        find(tmp_path, OPEN, ENTRIES, 3)
    for said in ("6 of 6", "1/day2night_13.0.mp4", ", …", OPEN, ".mp4, .avi, .webm", "{id}.mp4 would do"):
        assert said in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"1 of 2 .*: day2night_13\.0\.mp4 ") as error:
        find(tmp_path, OPEN, ENTRIES, 1)
    assert "{sample}/{id}.mp4 and {id}.mp4" in str(error.value)
    with pytest.raises(FileNotFoundError, match="no folder"):
        find(tmp_path / "none", OPEN, ENTRIES, 1)


def test_names_by_prompts_are_found_as_vbench_counts_them(tmp_path):
    lay(tmp_path, *(f"{prompt}-{index}.mp4" for _, prompt in ENTRIES for index in range(5)))
    assert find(tmp_path, VBENCH, ENTRIES, 5)[4].name == "Day becomes night.-4.mp4"
