"""Captions as UMT reads them: cleaned, cut at 32 tokens, the cut ones counted; vocabularies that are none refused."""

from pathlib import Path

import pytest
import torch

from ivmix.models.measuring.wordpiece import WordPiece, plain

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "flower", "##s", "time", "lapse", "bloom", "##ing", "cafe"]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return tmp_path / "vocab.txt"


def words(vocabulary: Path, caption: str) -> list[str]:
    ids, mask, _ = WordPiece(vocabulary)([caption])
    assert mask.tolist() == (ids != 0).tolist()
    return [PIECES[i] for i in ids[0][mask[0]]]


@pytest.mark.parametrize(("caption", "read"), [
    ("Flowers, blooming!", ["flower", "##s", "bloom", "##ing"]),
    ("A time-lapse / a CAFÉ", ["a", "time", "lapse", "a", "cafe"]),
    ("flower's", ["flower", "##s"]),
    ("zebra flower", ["[UNK]", "flower"]),
    ("", []),
])  # fmt: skip
def test_a_caption_is_lower_cased_stripped_and_cut_into_pieces(
    caption: str, read: list[str], vocabulary: Path
) -> None:
    assert words(vocabulary, caption) == ["[CLS]", *read, "[SEP]"]


def test_thirty_pieces_are_read_and_longer_captions_counted(vocabulary: Path) -> None:
    read = WordPiece(vocabulary)(["a " * 30, "a " * 31, "flowers " * 15 + "a", "a"])
    assert read.ids.shape == read.mask.shape == (4, 32)
    assert read.ids.dtype == torch.int64
    assert read.cut == 2
    assert read.ids[:3, -1].tolist() == [3, 3, 3]  # the end is kept
    assert read.mask.sum(1).tolist() == [32, 32, 32, 3]


def test_no_captions_are_no_rows(vocabulary: Path) -> None:
    assert WordPiece(vocabulary)([]).ids.shape == (0, 32)


def test_cleaning_takes_the_marks_that_umt_takes_and_no_others() -> None:
    assert plain("a@b$c%d&e_f+g=h") == "a@b$c%d&e_f+g=h"
    assert plain("A\n\nB  C\n") == "a b c"
    assert plain("(x) #1: \"y\" <person> ~z; 'q' *w* ?!.") == "x 1 y person z q w"


@pytest.mark.parametrize(("content", "said"), [
    (b"a\nb\n", r"is no vocabulary of BERT's: it has no line \[PAD\]"),
    (b"\xff\xfe\x00", "is no vocabulary: 'utf-8' codec"),
    (b"", r"it has no line \[PAD\]"),
])  # fmt: skip
def test_what_is_no_vocabulary_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        WordPiece(tmp_path / "vocab.txt")


def test_what_is_no_list_of_captions_is_refused(vocabulary: Path, tmp_path: Path) -> None:
    read = WordPiece(vocabulary)
    with pytest.raises(ValueError, match="captions is 'a flower': expected a list of strings"):
        read("a flower")
    with pytest.raises(ValueError, match="has 70,000 characters: at most 65,536"):
        read(["a" * 70_000])
    with pytest.raises(ValueError, match=r"^the caption 'a \\ud800' is not text the tokenizer can read: "):
        read(["a \ud800"])
    vocabulary.write_text("a\n" * 2**21 + "a\n")
    with pytest.raises(ValueError, match="is no vocabulary: it has more than 4,194,304 bytes"):
        WordPiece(vocabulary)
    with pytest.raises(FileNotFoundError):
        WordPiece(tmp_path / "none.txt")
