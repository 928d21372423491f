"""T5's prompts to ids: the row that it expects, and files of SentencePiece that nobody should trust."""

import base64
import json
import struct
from pathlib import Path

import pytest
import torch
from small_t5 import PIECES, charsmap, part, spiece, tag, varint

from ivmix.models import T5Tokenizer
from ivmix.models.text.prompts import read_prompts

A, RED, BLUE, CIRCLE = range(3, 7)
COMMA = 3 + PIECES.index(",")


def read(folder: Path, raw: bytes, length: int = 6) -> T5Tokenizer:
    (folder / "spiece.model").write_bytes(raw)
    return T5Tokenizer.from_folder(folder, length)


@pytest.fixture
def tokenizer(tmp_path: Path) -> T5Tokenizer:
    return read(tmp_path, spiece())


def test_a_row_is_pieces_end_and_padding_which_the_mask_leaves_out(tokenizer: T5Tokenizer) -> None:
    ids, mask = tokenizer(["a red circle", "", "  A Red\tCIRCLE "])
    assert ids.tolist() == [[A, RED, CIRCLE, 1, 0, 0], [1, 0, 0, 0, 0, 0], [A, RED, CIRCLE, 1, 0, 0]]
    assert mask.tolist() == [[True] * 4 + [False] * 2, [True] + [False] * 5, [True] * 4 + [False] * 2]
    assert (ids.dtype, mask.dtype) == (torch.int64, torch.bool)
    assert [tuple(t.shape) for t in tokenizer([])] == [(0, 6), (0, 6)]


def test_a_longer_prompt_keeps_its_beginning_and_its_end_token_and_a_warning_shows_the_rest(
    tokenizer: T5Tokenizer,
) -> None:
    assert tokenizer(["a a a a a"])[0].tolist() == [[A] * 5 + [1]]
    with pytest.warns(UserWarning, match="longer than the 5 tokens that are read; cut off: 'red circle'$"):
        ids, mask = tokenizer(["a a a a a Red circle"])
    assert ids.tolist() == [[A] * 5 + [1]]
    assert mask.all()


def test_weights_change_no_token_and_are_those_of_the_piece_a_token_ends_in(tokenizer: T5Tokenizer) -> None:
    """CLIP's weights cut words; T5 reads the prompt as a whole: the comma is the word's, not one behind a space."""
    ids, weights = read_prompts(tokenizer, ["a (red:2), [blue] circle"])
    assert ids.tolist() == [[A, RED, COMMA, BLUE, CIRCLE, 1]]
    assert weights.tolist() == [[1, 2, 1, 1 / 1.1, 1, 1]]
    assert torch.equal(read_prompts(tokenizer, ["a red, blue circle"])[0], ids)


def test_text_that_spells_a_special_token_is_that_token(tokenizer: T5Tokenizer) -> None:
    """As transformers has it, the hundred sentinels behind the pieces too."""
    last = 3 + len(PIECES)
    assert tokenizer(["a</s>red", "<extra_id_99><extra_id_0>"])[0].tolist() == [
        [A, 1, RED, 1, 0, 0], [last, last + 99, 1, 0, 0, 0]
    ]  # fmt: skip
    with pytest.raises(ValueError, match=f"up to {last + 99}, the text encoder knows {last + 99}"):
        tokenizer.check_fits(last + 99)
    tokenizer.check_fits(last + 100)


def test_letters_go_through_the_table_of_the_file(tmp_path: Path) -> None:
    table = charsmap({"é": "e", "ﬁ": "fi", "①": "red"})
    assert read(tmp_path, spiece(table=table))(["a ①"])[0].tolist() == [[A, RED, 1, 0, 0, 0]]
    raw = json.loads(T5Tokenizer.from_folder(tmp_path, 6).backend.to_str())
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    assert T5Tokenizer.from_folder(tmp_path, 6)(["a ①"])[0].tolist() == [[A, RED, 1, 0, 0, 0]]


# --- strangers' files -----------------------------------------------------------------------------------------------


def damaged(place: int, value: int) -> bytes:
    """A table with another unit at one place, counted from the first letter's (é is two bytes)."""
    table = bytearray(charsmap({"é": "e"}))
    struct.pack_into("<I", table, 4 + 4 * place, value)
    return bytes(table)


TABLES = [
    (b"abc", "has 3 bytes"),
    (struct.pack("<I", 8) + b"1234", "has 8 bytes, 8 of them units"),
    (struct.pack("<I", 3) + b"1234", "3 of them units"),
    (struct.pack("<I", 4) + b"1234" + b"\xff", "invalid start byte"),
    (damaged(0, 1 << 30), "leads out of itself"),  # the root
    (damaged(256 + 0xC3, 0xC3 | 1 << 30), "leads out of itself"),
    (damaged(768, 100 | 1 << 31), "points to no text"),
    (charsmap({"é": "x" * 65}), "texts of more than 64 bytes"),
    (charsmap({"x" * 64: "y"}), "entries of more than 64 bytes"),
]


@pytest.mark.parametrize(("table", "problem"), TABLES)
def test_a_table_that_a_text_could_leave_is_refused(table: bytes, problem: str, tmp_path: Path) -> None:
    """`tokenizers` would follow it, out of its array: a panic at the first text that has such a letter."""
    with pytest.raises(ValueError, match=rf"spiece\.model is not a tokenizer: .*{problem}"):
        read(tmp_path, spiece(table=table))
    good = json.loads(read(tmp_path, spiece(table=charsmap({"é": "e"}))).backend.to_str())
    good["normalizer"]["precompiled_charsmap"] = base64.b64encode(table).decode()
    (tmp_path / "tokenizer.json").write_text(json.dumps(good))
    with pytest.raises(ValueError, match=rf"tokenizer\.json is not a tokenizer: .*{problem}"):
        T5Tokenizer.from_folder(tmp_path)


def piece(text: bytes = b"x", score: float = 0.0, kind: int = 1) -> bytes:
    return part(1, part(1, text) + tag(2, 5) + struct.pack("<f", score) + tag(3, 0) + varint(kind))


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "with 0 unknown pieces"),
        (b"\xff" * 11, "has no end"),
        (b"<html>", "ends within|no entry ends"),
        (spiece()[:-1], "no entry ends before"),
        (spiece(more=tag(2, 0) + b"\1"), "the number 1 in place of"),
        (spiece(more=piece(kind=4)), "is 'x' of score 0.0 and kind 4"),
        (spiece(more=piece(b"")), "is '' of score"),
        (spiece(more=piece(score=float("nan"))), "of score nan"),
        (spiece(more=piece(b"\xff")), "invalid start byte"),
        (spiece(more=piece(kind=2)), "with 2 unknown pieces"),
        (spiece(more=part(2, tag(3, 0) + b"\2")), "of kind 2"),
        (spiece(more=part(3, tag(3, 0) + b"\0")), r"read as \[0, 1, 1\]"),
        (spiece(more=part(1, tag(1, 0) + b"\1")), "the number 1 in place of"),
        (spiece(more=part(1, part(2, b"123"))), "requires a buffer of 4 bytes"),
        (spiece(more=tag(3, 3)), "no entry ends before"),
    ],
)
def test_a_damaged_or_another_spiece_model_is_refused_in_one_line(raw: bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"spiece\.model is not a tokenizer: .*({problem})") as caught:
        read(tmp_path, raw)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_t5_s_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json, and no spiece\.model beside it"):
        T5Tokenizer.from_folder(tmp_path)
    with pytest.raises(ValueError, match="max_length=0: expected at least 1"):
        read(tmp_path, spiece(), 0)
    (tmp_path / "spiece.model").write_bytes(part(1, part(1, b"<unk>") + tag(3, 0) + b"\2"))
    with pytest.raises(ValueError, match="not a T5-style tokenizer"):
        T5Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": {}, "merges": []}}))
    with pytest.raises(ValueError, match="its model is 'BPE', expected Unigram"):
        T5Tokenizer.from_folder(tmp_path)


def test_text_that_is_no_unicode_and_text_without_end_are_refused(tokenizer: T5Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"the prompt '\\ud800' is not text the tokenizer can read"):
        tokenizer(["\ud800"])
    with pytest.raises(ValueError, match="has 65,537 characters: expected 65,536"):
        tokenizer(["x" * (2**16 + 1)])
