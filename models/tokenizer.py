"""Prompts to token ids: begin, words or byte pairs, end, padding to a fixed length."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers
from torch import Tensor

BOS, EOS = "<|startoftext|>", "<|endoftext|>"


class Tokenizer:
    """Wraps a `tokenizer.json`. Calling it maps prompts to ids (b, max_length) int64.

    A word-level tokenizer without an unknown token refuses words outside its vocabulary and says which words it knows.
    """

    def __init__(self, backend: Backend, max_length: int) -> None:
        self.backend = backend
        self.max_length = max_length
        self.bos, self.eos = (backend.token_to_id(token) for token in (BOS, EOS))
        if self.bos is None or self.eos is None:
            raise ValueError(f"the tokenizer knows no {BOS!r} or no {EOS!r}: it is not a CLIP-style tokenizer")
        self.words = not isinstance(backend.model, models.BPE)

    @classmethod
    def from_words(cls, words: Sequence[str], max_length: int) -> "Tokenizer":
        """A closed vocabulary: lower-cased words separated by white space."""
        backend = Backend(models.WordLevel({token: i for i, token in enumerate([BOS, EOS, *words])}, unk_token=""))
        backend.normalizer = normalizers.Lowercase()
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return cls(backend, max_length)

    @classmethod
    def from_folder(cls, folder: Path | str, max_length: int) -> "Tokenizer":
        path = Path(folder) / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}")
        try:
            return cls(Backend.from_file(str(path)), max_length)
        except ValueError:
            raise
        except Exception as error:  # the backend raises bare Exceptions of its own
            raise ValueError(f"{path} is not a tokenizer: {error}") from None

    def save(self, folder: Path | str) -> None:
        path = Path(folder) / "tokenizer.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.backend.save(f"{path}.part")
        Path(f"{path}.part").replace(path)

    @property
    def vocabulary(self) -> list[str]:
        return sorted(self.backend.get_vocab().keys() - {BOS, EOS})

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Raises ValueError for unknown words (closed vocabularies) and for prompts longer than `max_length` - 2."""
        if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
            raise ValueError(f"prompts is {_short(prompts)}: expected a list of strings, one a row")
        rows = []
        for prompt in prompts:
            if self.words:
                self._check_words(prompt)
            try:
                ids = self.backend.encode(prompt, add_special_tokens=False).ids
            except Exception as error:  # bare again, and lone surrogates
                raise ValueError(f"the prompt {_short(prompt)} is not text the tokenizer can read: {error}") from None
            if len(ids) > self.max_length - 2:
                raise ValueError(
                    f"the prompt {_short(prompt)} has {len(ids)} tokens, at most {self.max_length - 2} fit: shorten it"
                )
            rows.append([self.bos, *ids] + [self.eos] * (self.max_length - 1 - len(ids)))
        return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), self.max_length)

    def _check_words(self, prompt: str) -> None:
        known = self.backend.get_vocab().keys() - {BOS, EOS}
        words = re.findall(r"[\S\x1c-\x1f]+", prompt.lower())  # Unicode's white space: str.split has four more
        unknown = [word for word in words if word not in known]
        if unknown:
            raise ValueError(
                f"the prompt {_short(prompt)} has words outside the vocabulary: {_short(' '.join(unknown))}; "
                f"the words known are: {', '.join(self.vocabulary)}"
            )


def _short(text: object, limit: int = 60) -> str:
    """Quoted, control characters escaped, cut to `limit`."""
    text = text if isinstance(text, str) else repr(text)
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")
