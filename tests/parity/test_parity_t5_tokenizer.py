"""Our T5 tokenizer against transformers' and SentencePiece's own: pieces trained here, by SentencePiece."""

import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hard_texts import NASTY, mixtures

from ivmix.models import T5Tokenizer
from ivmix.models.text.spiece import read_spiece

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:a prompt is longer")]

GLUE = ("", " ", "  ", "'", "!", ".", "<", ">", "7", "\n", "</s>", "<pad>", "<unk>", "<extra_id_7>", "▁")


@pytest.fixture(scope="module")
def sentencepiece() -> ModuleType:
    pytest.importorskip("google.protobuf")  # which transformers reads spiece.model by
    return pytest.importorskip("sentencepiece")


@pytest.fixture(scope="module")
def public(sentencepiece: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as PixArt's and Latte's repositories have it, its pieces trained on the strings above; the ids of the
    special ones are T5's."""
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(NASTY * 5), model_writer=file, vocab_size=400, hard_vocab_limit=False, pad_id=0,
        eos_id=1, unk_id=2, bos_id=-1, character_coverage=0.98, minloglevel=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("public")
    (folder / "spiece.model").write_bytes(file.getvalue())
    return folder


@pytest.fixture(scope="module")
def theirs(public: Path, transformers: ModuleType) -> Any:
    return transformers.T5TokenizerFast.from_pretrained(public)


@pytest.fixture(scope="module", params=["spiece.model", "tokenizer.json"])
def ours(
    request: pytest.FixtureRequest, public: Path, theirs: Any, tmp_path_factory: pytest.TempPathFactory
) -> T5Tokenizer:
    """From the public file, and from what transformers saves."""
    if request.param == "spiece.model":
        return T5Tokenizer.from_folder(public)
    saved = tmp_path_factory.mktemp("saved")
    theirs.save_pretrained(saved)
    assert json.loads((saved / "tokenizer.json").read_text())["normalizer"]["type"] == "Precompiled"
    return T5Tokenizer.from_folder(saved)


@pytest.mark.parametrize("texts", [NASTY, mixtures(2000, GLUE)], ids=["nasty", "mixtures"])
def test_any_text_has_the_ids_and_the_mask_that_transformers_gives_it(
    texts: list[str], ours: T5Tokenizer, theirs: Any
) -> None:
    """Of the texts as the pipelines of PixArt and Latte pass them on, to as many tokens."""
    plain = [text.lower().strip() for text in texts]
    expected = theirs(plain, padding="max_length", truncation=True, max_length=120, return_tensors="pt")
    ids, mask = ours(texts)
    for k, text in enumerate(texts):
        assert torch.equal(ids[k], expected.input_ids[k]), repr(text)
        assert torch.equal(mask[k], expected.attention_mask[k].bool()), repr(text)


def test_a_spiece_model_is_read_as_sentencepiece_reads_it(public: Path, sentencepiece: ModuleType) -> None:
    """Its pieces, and texts in the same pieces but for two things: a next line (U+0085), which is white space to
    `tokenizers` and in a prompt's cleaning, and pieces that are as likely in another order."""
    peer = sentencepiece.SentencePieceProcessor(model_file=str(public / "spiece.model"))
    pieces = read_spiece(public / "spiece.model")
    assert pieces.scores == [(peer.id_to_piece(k), peer.get_score(k)) for k in range(len(peer))]
    assert pieces.unknown == peer.unk_id()
    ours = T5Tokenizer.from_folder(public).backend
    for text in [text for text in NASTY if "\x85" not in text and "aaaa" not in text]:
        assert ours.encode(text, add_special_tokens=False).ids == peer.encode(text), repr(text)
