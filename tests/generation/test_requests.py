"""Files of prompts: every form asks for the same clips, and a line that cannot be is named."""

import pytest

from ivmix.generation.requests import Request, parse_seeds, read_requests, spread

RED, BLUE = "a red circle moving left", "a blue cross, moving up"
FORMS = {
    "a.txt": f"{RED}\n\n  {BLUE}\n",
    "a.csv": f'prompt,seed\n{RED},\n"{BLUE}",\n',
    "b.csv": f'prompt\r\n{RED}\r\n"{BLUE}"\r\n',
    "a.jsonl": f'{{"prompt": "{RED}"}}\n\n{{"prompt": "{BLUE}", "seed": null}}\n',
    "BOM.TXT": f"\ufeff{RED}\n{BLUE}",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_asks_for_the_same_clips(tmp_path, name):
    (tmp_path / name).write_text(FORMS[name], encoding="utf-8", newline="")
    assert read_requests(tmp_path / name) == [Request(RED), Request(BLUE)]


def test_a_clip_may_have_its_own_seed_and_negative_prompts(tmp_path):
    (tmp_path / "a.csv").write_text(f"seed,prompt,negative_prompt\n7,{RED},{RED}\n,{RED},\n")
    (tmp_path / "a.jsonl").write_text(f'{{"prompt": "{RED}", "image_negative_prompt": "", "source_prompt": "{RED}"}}')
    assert read_requests(tmp_path / "a.csv") == [Request(RED, 7, RED), Request(RED)]
    assert read_requests(tmp_path / "a.jsonl") == [Request(RED, image_negative_prompt="", source_prompt=RED)]


def test_only_a_new_line_ends_a_line(tmp_path):
    """str.splitlines parts at seven characters more."""
    (tmp_path / "a.txt").write_text("a red\u2028circle\x0b, moving\x85left\nb")
    (tmp_path / "a.jsonl").write_text('{"prompt": "a red\u2028circle\u2029"}')
    assert [r.prompt for r in read_requests(tmp_path / "a.txt")] == ["a red circle , moving left", "b"]
    assert read_requests(tmp_path / "a.jsonl") == [Request("a red circle")]


BAD = [
    ("a.md", RED, "unknown suffix '.md', expected .txt, .csv, .jsonl"),
    ("a.txt", " \n\n", "it asks for no clip"),
    ("a.txt", f"{RED}\na\x07b", "line 2: the prompt has the control character"),
    ("a.csv", "", "line 1: expected the names of columns, prompt among them, got None"),
    ("a.csv", f"{RED}\n{RED}\n", "line 1: expected the names of columns, prompt among them"),
    ("a.csv", f"prompt,text\n{RED},x\n", "line 2: unknown entry 'text'"),
    ("a.csv", f"prompt,seed\n{RED},x\n", "line 2: seed is 'x', expected a whole number or null"),
    ("a.csv", f"prompt,seed\n{RED},1.5\n", "line 2: seed is '1.5'"),
    ("a.csv", f"prompt,seed\n{RED}\n", "line 2: 2 cells|line 2: .* cells, expected 2"),
    ("a.csv", f"prompt\n{RED},5\n", "line 2: 2 cells, expected 1"),
    ("a.csv", "prompt,seed\n,5\n", "line 2: it lacks the entry 'prompt'"),
    ("a.csv", 'prompt\n"a red\n', "line 2: unexpected end of data|line 3: unexpected end of data"),
    ("a.jsonl", "{", "line 1: not JSON"),
    ("a.jsonl", "[" * 100_000, "line 1: not JSON"),
    ("a.jsonl", f'"{RED}"', "line 1: expected an object"),
    ("a.jsonl", '{"prompt": 5}', "line 1: prompt is 5, expected text"),
    ("a.jsonl", '{"prompt": ""}', "line 1: the prompt is empty"),
    ("a.jsonl", f'{{"prompt": "{RED}", "sed": 5}}', "line 1: unknown entry 'sed'; did you mean 'seed'"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD, ids=[f"{n} {m[:30]}" for n, _, m in BAD])
def test_a_file_that_cannot_be_read_is_refused_by_its_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_requests(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_encoding_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes("un círculo".encode("latin-1"))
    with pytest.raises(ValueError, match="expected UTF-8"):
        read_requests(tmp_path / "a.txt")


def test_seeds_go_up_from_the_first_or_to_every_prompt():
    two = [Request(RED), Request(BLUE)]
    assert [r.seed for r in spread(two, 5)] == [5, 6]
    assert [r.seed for r in spread([Request(RED, 9), Request(BLUE)], 5)] == [9, 6]
    assert [(r.prompt, r.seed) for r in spread(two, 0, [1, 2])] == [(RED, 1), (RED, 2), (BLUE, 1), (BLUE, 2)]
    with pytest.raises(ValueError, match="gives a seed of its own"):
        spread([Request(RED, 9)], 0, [1, 2])


@pytest.mark.parametrize("text", ["", "x", "3:", ":3", "5:5", "5:3", "1,,2", "1.5", "-1:2", "1:2:3"])
def test_seeds_that_cannot_be_are_refused(text):
    with pytest.raises(ValueError, match="seeds"):
        parse_seeds(text)
