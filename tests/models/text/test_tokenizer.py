"""Prompts to ids: the layout CLIP expects, and every kind of text nobody expects."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors

from ivmix.models import Tokenizer
from ivmix.models.text.tokenizer import BOS, CLIP_WORDS, EOS, check_pattern

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


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    """A folder as Stable Diffusion's repositories have it: vocab.json, merges.txt, special_tokens_map.json."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("r", "e"), ("re", "d</w>"), ("!", "!</w>")]
    words = [*letters, *(f"{x}</w>" for x in letters), *(a + b for a, b in merges), BOS, EOS]
    (tmp_path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"bos_token": {"content": BOS}, "pad_token": EOS}))
    return tmp_path


def tokens(tokenizer: Tokenizer, prompt: str) -> list[str]:
    """The tokens of a prompt between begin and the first end."""
    ids = tokenizer([prompt])[0].tolist()
    return [tokenizer.backend.id_to_token(i) for i in ids[1 : ids.index(tokenizer.eos)]]


def test_the_longest_prompt_that_fits_leaves_room_for_one_end(tokenizer: Tokenizer) -> None:
    assert tokenizer(["a a a a"]).tolist() == [[0, A, A, A, A, 1]]


@pytest.mark.parametrize(
    ("prompt", "cut"), [("a a a a  Red LEFT", "'Red LEFT'"), ("a red a red circle", "'circle'")]
)
def test_a_longer_prompt_keeps_its_beginning_and_one_warning_shows_the_words_cut(
    prompt: str, cut: str, tokenizer: Tokenizer
) -> None:
    with pytest.warns(UserWarning, match="longer than the 4 tokens") as caught:
        ids = tokenizer(["left", prompt])
    assert ids[1].tolist() == [0, *[A if word == "a" else RED for word in prompt.split()[:4]], 1]
    assert [str(w.message).partition("cut off: ")[2] for w in caught] == [cut]


def test_the_same_long_prompt_read_again_and_again_is_one_warning(tokenizer: Tokenizer) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # as Python starts
        tokenizer(["a a a a left", "a a a a left", "red a a a left"])
        Tokenizer.from_words(WORDS, 6)(["a a a a left"])
    assert len(caught) == 1


def test_what_is_cut_of_a_word_in_pieces_is_shown_from_its_first_lost_character(byte_pairs: Tokenizer) -> None:
    with pytest.warns(UserWarning, match=r"longer than the 6 tokens that are read; cut off: 'xüz é'$"):
        ids = byte_pairs(["abrecdexüz é"])  # "re" is one token
    assert ids[0, -2:].tolist() == [byte_pairs.backend.token_to_id("e"), byte_pairs.eos]


def test_pieces_are_read_one_by_one_and_cut_together(tokenizer: Tokenizer) -> None:
    row = tokenizer.row(["a ", "red", " a", " circle left"])
    assert row.ids == [0, A, RED, A, CIRCLE, 1]
    assert row.pieces == [-1, 0, 1, 2, 3, -1]
    assert row.cut == "left"
    assert tokenizer.row(["", "a"]).pieces == [-1, 1, -1, -1, -1, -1]
    assert tokenizer.row(["a a a a", "", " left", " red"]).cut == "left red"


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


def test_thousands_of_words_are_one_short_error_or_warning(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="outside the vocabulary") as error:
        tokenizer([" ".join(["nonsense"] * 5000)])
    assert len(str(error.value)) < 300
    with pytest.warns(UserWarning, match=r"… \(4996 words\)$") as caught:
        tokenizer([" ".join(["a"] * 5000)])
    assert len(str(caught[0].message)) < 500


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


def test_clip_s_words_are_single_digits_contractions_letters_and_the_rest(clip_folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(clip_folder, 30)
    assert tokens(tokenizer, "RED 42") == ["red</w>", "4</w>", "2</w>"]
    assert tokens(tokenizer, "red's\n red!!") == ["red</w>", "'", "s</w>", "red</w>", "!!</w>"]
    assert tokens(tokenizer, "e\u0301") == tokens(tokenizer, "É") == ["Ã", "©</w>"]


def test_the_special_tokens_map_decides_what_pads_and_then_that_text_is_the_token(clip_folder: Path) -> None:
    """ViT-H/14's repositories say `!` there and <|endoftext|> in tokenizer_config.json; `!` it was trained with."""
    large = Tokenizer.from_folder(clip_folder, 6)
    (clip_folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": EOS, "model_max_length": 77}))
    (clip_folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "!"}}))
    huge = Tokenizer.from_folder(clip_folder, 6)
    red, bang = large.backend.token_to_id("red</w>"), huge.backend.token_to_id("!")
    assert large(["red"]).tolist() == [[large.bos, red, large.eos, large.eos, large.eos, large.eos]]
    assert huge(["red"]).tolist() == [[huge.bos, red, huge.eos, bang, bang, bang]]
    assert bang == 0
    assert tokens(large, "red!!") == ["red</w>", "!!</w>"]
    assert tokens(huge, "red!!") == ["red</w>", "!", "!"]  # as transformers reads it
    (clip_folder / "special_tokens_map.json").unlink()
    assert Tokenizer.from_folder(clip_folder, 6).pad == large.eos


def test_a_tokenizer_json_s_own_truncation_and_padding_are_not_used(clip_folder: Path, tmp_path: Path) -> None:
    backend = Tokenizer.from_folder(clip_folder, 6).backend
    backend.enable_truncation(2)
    backend.enable_padding(length=5)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert len(tokens(Tokenizer.from_folder(tmp_path, 9), "red 1 2 3")) == 4


@pytest.mark.parametrize(
    "pattern",
    [CLIP_WORDS, r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", r"\s+",
     r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"],
)  # fmt: skip
def test_the_regular_expressions_of_clip_and_gpt_2_are_no_search_for_ever(pattern: str) -> None:
    check_pattern(pattern)


def test_a_tokenizer_json_as_transformers_writes_it_is_read(clip_folder: Path, tmp_path: Path) -> None:
    """With a post-processor and a decoder, of which nothing is read."""
    plain = Tokenizer.from_folder(clip_folder, 9)
    special = [(BOS, plain.bos), (EOS, plain.eos)]
    plain.backend.post_processor = processors.RobertaProcessing(special[1], special[0], add_prefix_space=False)
    plain.backend.save(str(tmp_path / "tokenizer.json"))
    assert torch.equal(Tokenizer.from_folder(tmp_path, 9)(["red's 42!"]), plain(["red's 42!"]))


@pytest.mark.parametrize("pad", ["<pad>", 3, {"content": 3}])
def test_a_padding_token_that_is_none_is_refused(pad: object, clip_folder: Path) -> None:
    (clip_folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": pad}))
    with pytest.raises(ValueError, match=r"padding token '<pad>'|pad_token is .*3.*, expected text"):
        Tokenizer.from_folder(clip_folder, 6)


def test_room_for_begin_and_end_is_asked_for() -> None:
    with pytest.raises(ValueError, match="max_length=1: expected at least 2"):
        Tokenizer.from_words(WORDS, 1)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*tokenizer\.json, and no vocab\.json with merges\.txt"):
        Tokenizer.from_folder(tmp_path, 6)
    (tmp_path / "merges.txt").write_text("a b\n")
    with pytest.raises(FileNotFoundError, match=r"no file .*tokenizer\.json"):
        Tokenizer.from_folder(tmp_path, 6)
    for text in ("", "<html>", "[]", '{"a": "b"}', '{"a": 0}', "\x00"):
        (tmp_path / "vocab.json").write_text(text)
        with pytest.raises(ValueError, match=r"vocab\.json is not a tokenizer"):
            Tokenizer.from_folder(tmp_path, 6)
    for text in ("", "<html>", "[]", "{}", '{"model": 3}', "\x00"):
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer"):
            Tokenizer.from_folder(tmp_path, 6)


def test_a_tokenizer_without_begin_and_end_is_refused() -> None:
    with pytest.raises(ValueError, match="not a CLIP-style tokenizer"):
        Tokenizer(Backend(models.WordLevel({"a": 0}, unk_token="")), 6)
