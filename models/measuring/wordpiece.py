"""Captions to token ids as UMT was trained on them: BERT's word pieces of lower-cased text without punctuation."""

import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers
from torch import Tensor

from ivmix.models.json_files import check_is_file
from ivmix.models.quoting import short
from ivmix.models.text.tokenizer import refusing

PAD, UNKNOWN, BEGIN, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
LENGTH = 32  # tokens of a caption, begin and end included
LARGEST = 2**22  # bytes of a vocabulary; BERT's has a quarter of a million
LONGEST_TEXT = 2**16  # characters of a caption


class Captions(NamedTuple):
    """`ids` (b, 32) int64; `mask` (b, 32) bool, False on padding; `cut`, of how many captions the end is not read."""

    ids: Tensor
    mask: Tensor
    cut: int


def plain(caption: str) -> str:
    """A caption as UMT's code cleans it.

    >>> plain("A time-lapse:  two people's *shadows*, (moving)!")
    'a time lapse two peoples shadows moving'
    """
    text = re.sub(r"[,.'!?\"()*#:;~]", "", caption.lower())
    text = re.sub(r"[-/]", " ", text).replace("<person>", "person")
    return re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")


class WordPiece:
    """Captions -> `Captions`, by the words and pieces of `vocabulary`, a file with one a line: BERT's `vocab.txt`.

    Raises FileNotFoundError, or ValueError for a file that is no such vocabulary.
    """

    def __init__(self, vocabulary: Path | str) -> None:
        path = Path(vocabulary)
        check_is_file(path)
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path} is no vocabulary: it has more than {LARGEST:,} bytes")
        try:
            pieces = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no vocabulary: {error}") from None
        numbers = {piece: number for number, piece in enumerate(pieces)}
        if lacking := [piece for piece in (PAD, UNKNOWN, BEGIN, END) if piece not in numbers]:
            raise ValueError(f"{path} is no vocabulary of BERT's: it has no line {lacking[0]}")
        self.size = len(pieces)
        self.sha256 = sha256(path.read_bytes()).hexdigest()
        self.pad, self.begin, self.end = (numbers[piece] for piece in (PAD, BEGIN, END))
        self.backend = Backend(models.WordPiece(numbers, unk_token=UNKNOWN, max_input_chars_per_word=100))
        self.backend.normalizer = normalizers.BertNormalizer()
        self.backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def check_fits(self, vocab_size: int) -> None:
        """Raises ValueError if a text encoder of that many tokens does not know all of them."""
        if self.size > vocab_size:
            raise ValueError(f"the vocabulary has {self.size:,} lines, the text encoder knows {vocab_size:,} tokens")

    def __call__(self, captions: Sequence[str]) -> Captions:
        """ValueError for what is no list of texts, or a text of more than 65,536 characters."""
        if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
            raise ValueError(f"captions is {short(captions)}: expected a list of strings, one a clip")
        if long := [caption for caption in captions if len(caption) > LONGEST_TEXT]:
            raise ValueError(f"the caption {short(long[0])} has {len(long[0]):,} characters: at most {LONGEST_TEXT:,}")
        read = []
        for caption in captions:
            with refusing(f"the caption {short(caption)} is not text the tokenizer can read"):
                read.append(self.backend.encode(plain(caption)).ids)
        ids = torch.full((len(read), LENGTH), self.pad, dtype=torch.int64)
        for row, pieces in zip(ids, read, strict=True):
            kept = [self.begin, *pieces[: LENGTH - 2], self.end]
            row[: len(kept)] = torch.tensor(kept)
        lengths = torch.tensor([min(len(pieces) + 2, LENGTH) for pieces in read])
        mask = torch.arange(LENGTH) < lengths[:, None]
        return Captions(ids, mask, sum(len(pieces) > LENGTH - 2 for pieces in read))
