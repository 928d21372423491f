"""Prompts to token ids as T5 reads them: pieces of words, end, padding to a fixed length."""

import base64
import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend
from torch import Tensor

from ivmix.models.json_files import read_json
from ivmix.models.quoting import short
from ivmix.models.text.spiece import Pieces, check_table, read_spiece
from ivmix.models.text.tokenizer import (
    LONGEST_TEXT,
    STAGES,
    Row,
    as_ids,
    check_fits,
    check_strings,
    checked,
    refusing,
    stages,
    warn_cut,
)

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
SENTINELS = 100  # <extra_id_99> to <extra_id_0>, which follow the pieces
LENGTH = 120  # tokens that PixArt and Latte were trained on


class T5Tokenizer:
    """Prompts -> token ids (b, max_length) int64, and which are no padding (b, max_length) bool.

    In lower case and without white space at its ends, which is all that the pipelines of PixArt and Latte do to a
    prompt with `clean_caption=False`, or where beautifulsoup4 or ftfy is missing. (What DeepFloyd's cleaning does
    besides is for captions from the web: it takes out HTML, addresses, names of files, brackets, long numbers and
    Chinese characters, and sets a space after commas.) A prompt that is too long loses its end, and a UserWarning shows
    what.
    """

    def __init__(self, backend: Backend, max_length: int = LENGTH) -> None:
        backend.no_truncation()  # a tokenizer.json may ask for either; both are done here
        backend.no_padding()
        self.backend, self.max_length = backend, max_length
        end, pad = backend.token_to_id(END), backend.token_to_id(PAD)
        if end is None or pad is None:
            raise ValueError(f"the tokenizer knows no {END!r} or no {PAD!r}: it is not a T5-style tokenizer")
        if max_length < 1:
            raise ValueError(f"max_length={max_length}: expected at least 1, room for the end")
        self.end, self.pad = end, pad
        self.largest = max(backend.get_vocab().values())  # id

    @classmethod
    def from_folder(cls, folder: Path | str, max_length: int = LENGTH) -> "T5Tokenizer":
        """Reads `tokenizer.json`, or else SentencePiece's `spiece.model`. Raises FileNotFoundError or ValueError."""
        whole, pieces = (Path(folder) / name for name in ("tokenizer.json", "spiece.model"))
        path = whole if whole.is_file() else pieces
        if not path.is_file():
            raise FileNotFoundError(f"no file {whole}, and no {pieces.name} beside it")
        with refusing(f"{path} is not a tokenizer"):
            return cls(of_json(whole) if path == whole else of_pieces(read_spiece(pieces)), max_length)

    def __call__(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Warns of prompts longer than `max_length` - 1 tokens."""
        check_strings(prompts)
        rows = [self.row([prompt]) for prompt in prompts]
        warn_cut(rows)
        return as_ids(rows, self.max_length), self.mask(rows)

    def check_fits(self, vocab_size: int) -> None:
        """Raises ValueError if a text encoder of that many tokens does not know all of them."""
        check_fits(self.largest, vocab_size)

    def row(self, pieces: Sequence[str], prompt: str | None = None) -> Row:
        """One prompt, read as a whole: a token is of the piece that its last letter is in. Says nothing of what is cut.

        `prompt` is how errors show it.
        """
        prompt = "".join(pieces) if prompt is None else prompt
        pieces = [piece.lower() for piece in pieces]
        if pieces:
            pieces[0], pieces[-1] = pieces[0].lstrip(), pieces[-1].rstrip()
        text = "".join(pieces)
        if len(text) > LONGEST_TEXT:
            raise ValueError(f"the prompt {short(prompt)} has {len(text):,} characters: expected {LONGEST_TEXT:,}")
        with refusing(f"the prompt {short(prompt)} is not text the tokenizer can read"):
            read = self.backend.encode(text, add_special_tokens=False)
        room = self.max_length - 1
        cut = text[read.offsets[room][0] :] if len(read.ids) > room else ""
        ends = list(accumulate(map(len, pieces)))
        owners = [next(k for k, end in enumerate(ends) if stop <= end) for _, stop in read.offsets[:room]]
        ids = [*read.ids[:room], self.end]
        padding = self.max_length - len(ids)
        return Row(ids + [self.pad] * padding, [*owners, -1] + [-1] * padding, cut)

    def mask(self, rows: Sequence[Row]) -> Tensor:
        """Which tokens (b, max_length) are no padding: all up to the end."""
        lengths = [1 + sum(piece >= 0 for piece in row.pieces) for row in rows]
        return torch.arange(self.max_length) < torch.tensor(lengths, dtype=torch.int64)[:, None]


def of_json(path: Path) -> Backend:
    """What a tokenizer.json describes. ValueError for a model or a stage that is no T5's."""
    raw = checked(read_json(path), ("Unigram",), (*STAGES, "Precompiled"))
    for stage in stages(raw["normalizer"], (*STAGES, "Precompiled")):
        if stage["type"] == "Precompiled":
            check_table(base64.b64decode(stage["precompiled_charsmap"], validate=True))
    return Backend.from_str(json.dumps(raw))


def of_pieces(pieces: Pieces) -> Backend:
    """What transformers makes of them: NFKC and the like by their table, words at white space, each behind a "▁"."""
    sentinels = [f"<extra_id_{k}>" for k in reversed(range(SENTINELS))]
    backend = Backend(models.Unigram([*pieces.scores, *((one, 0.0) for one in sentinels)], pieces.unknown))
    if pieces.table:
        backend.normalizer = normalizers.Precompiled(pieces.table)
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
    ])  # fmt: skip
    known = [one for one in (PAD, END, UNKNOWN, *sentinels) if backend.token_to_id(one) is not None]
    backend.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in known])
    return backend
