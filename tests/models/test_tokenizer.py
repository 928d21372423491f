"""Prompts to ids: the layout CLIP expects, and every kind of text nobody expects."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from ivmix.models import Tokenizer
from ivmix.models.tokenizer import BOS, EOS

WORDS = ("a", "red", "circle", "left", "été")
A, RED, CIRCLE, LEFT, ETE = range(2, 7)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.from_words(WORDS, max_length=6)


@pytest.fixture
def byte_pairs() -> Tokenizer:
    """A byte-level tokenizer as public checkpoints have it, with one merge."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*letters, "re", BOS, EOS])}
    backend = Backend(models.BPE(vocabulary, [("r", "e")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return Tokenizer(backend, max_length=8)


def test_a_row_is_begin_words_end_and_ends_for_padding(tokenizer: Tokenizer) -> None:
    ids = tokenizer(["a red circle", "left", ""])
    assert ids.dtype == torch.int64
    assert ids.tolist() == [[0, A, RED, CIRCLE, 1, 1], [0, LEFT, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]]


def test_no_prompts_are_no_rows(tokenizer: Tokenizer) -> None:
    assert tokenizer([]).shape == (0, 6)


def test_the_longest_prompt_that_fits_leaves_room_for_one_end(tokenizer: Tokenizer) -> None:
    assert tokenizer(["a a a a"]).tolist() == [[0, A, A, A, A, 1]]
    with pytest.raises(ValueError, match="the prompt 'a a a a a' has 5 tokens, at most 4 fit: shorten it"):
        tokenizer(["a a a a a"])


@pytest.mark.parametrize(
    "prompt", ["A RED Circle", "  a \t red\n\ncircle ", "a\u00a0red\u3000circle", "a\x85red\u2028circle"]
)
def test_case_and_unicode_white_space_do_not_matter(prompt: str, tokenizer: Tokenizer) -> None:
    assert tokenizer([prompt]).tolist() == [[0, A, RED, CIRCLE, 1, 1]]


def test_words_with_accents_are_words(tokenizer: Tokenizer) -> None:
    assert tokenizer(["ÉTÉ"]).tolist() == [[0, ETE, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a purple circle", "'purple'"),
        ("a purple hexagon", "'purple hexagon'"),
        ("a red circle.", "'circle.'"),
        ("赤い 円", "'赤い 円'"),
        ("красный", "'красный'"),
        ("دائرة حمراء", "'دائرة حمراء'"),
        ("🔴", "'🔴'"),
        ("red\x00circle", r"'red\x00circle'"),
        ("red\x1bcircle", r"'red\x1bcircle'"),
        ("red\x1ccircle", r"'red\x1ccircle'"),  # white space to Python, not to Unicode
        ("red\u200bcircle", r"'red\u200bcircle'"),
        ("e\u0301te\u0301", "'e\u0301te\u0301'"),  # another spelling in code points
        ("\ud800", r"'\ud800'"),
        (BOS, f"'{BOS}'"),
        (f"a {EOS}", f"'{EOS}'"),
    ],
)
def test_unknown_words_are_named_and_the_known_listed(prompt: str, named: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="has words outside the vocabulary") as caught:
        tokenizer(["a", prompt])
    message = str(caught.value)
    assert f"words outside the vocabulary: {named};" in message
    assert message.endswith("the words known are: a, circle, left, red, été")
    assert message.isprintable() or "\u0301" in message  # nothing reaches a terminal that could steer it


@pytest.mark.parametrize("word", ["a", "nonsense"])
def test_thousands_of_words_are_one_short_error(word: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"5000 tokens, at most 4 fit|outside the vocabulary") as caught:
        tokenizer([" ".join([word] * 5000)])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("prompts", ["a red circle", [1], [None], [["a"]], [b"a"]])
def test_anything_but_a_list_of_strings_is_refused(prompts: object, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="expected a list of strings"):
        tokenizer(prompts)  # type: ignore[arg-type]


def test_vocabulary_is_the_words_without_begin_and_end(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocabulary == ["a", "circle", "left", "red", "été"]


def test_a_saved_tokenizer_behaves_like_the_first(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "new" / "folder")
    loaded = Tokenizer.from_folder(tmp_path / "new" / "folder", 6)
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["tokenizer.json"]
    assert torch.equal(loaded(["a red circle"]), tokenizer(["a red circle"]))
    with pytest.raises(ValueError, match="outside the vocabulary: 'purple'"):
        loaded(["purple"])


def test_byte_pairs_have_no_unknown_words(byte_pairs: Tokenizer) -> None:
    letter = byte_pairs.backend.token_to_id
    assert byte_pairs(["red"]).tolist() == [[byte_pairs.bos, letter("re"), letter("d"), *[byte_pairs.eos] * 5]]
    assert byte_pairs(["円"]).tolist()[0][4:] == [byte_pairs.eos] * 4  # three bytes
    assert byte_pairs([""]).tolist() == [[byte_pairs.bos, *[byte_pairs.eos] * 7]]


def test_text_that_is_no_unicode_is_one_error_for_byte_pairs_too(byte_pairs: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"the prompt '\\ud800' is not text the tokenizer can read"):
        byte_pairs(["\ud800"])


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*tokenizer\.json"):
        Tokenizer.from_folder(tmp_path, 6)
    for text in ("", "<html>", "[]", "{}", '{"model": 3}', "\x00"):
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer"):
            Tokenizer.from_folder(tmp_path, 6)


def test_a_tokenizer_without_begin_and_end_is_refused() -> None:
    with pytest.raises(ValueError, match="not a CLIP-style tokenizer"):
        Tokenizer(Backend(models.WordLevel({"a": 0}, unk_token="")), 6)
