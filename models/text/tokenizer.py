"""Prompts to token ids as CLIP reads them: begin, words or byte pairs, end, padding to a fixed length."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend
from torch import Tensor

from ivmix.models.json_files import LARGEST_JSON, read_json
from ivmix.models.quoting import printable, short

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
SHOWN = 400  # characters of a cut-off end that its warning shows

# What CLIP calls a word (arXiv 2103.00020's released code): contractions, letters, single digits, anything else.
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

# Of tokenizer.json: what strangers may have a text go through. The rest is no CLIP's.
MODELS = ("BPE", "WordLevel")
STAGES = (
    "Sequence", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "Nmt", "BertNormalizer", "Replace",
    "Prepend", "ByteLevel", "Split", "Whitespace", "WhitespaceSplit", "Digits", "Punctuation", "BertPreTokenizer",
    "Metaspace", "UnicodeScripts", "CharDelimiterSplit",
)  # fmt: skip
MOST_GROWTH = 64  # of a text, by all that replaces and prepends; CLIP's one replacement, a space, may double it
LONGEST_TEXT = 2**16  # characters of a prompt, of which some hundred are read


@dataclass(frozen=True)
class Row:
    """One prompt: `ids` (max_length), the piece each id was read from (-1: begin, end, padding), what did not fit."""

    ids: list[int]
    pieces: list[int]
    cut: str


class Tokenizer:
    """Prompts -> token ids (b, max_length) int64, by a backend of `tokenizers`.

    A prompt that is too long loses its end, and a UserWarning shows what. A word-level tokenizer without an unknown
    token refuses words outside its vocabulary and says which words it knows. `pad` is the token that fills a row after
    the first end: the end again for ViT-L/14, "!" (id 0) for OpenCLIP's ViT-H/14.
    """

    def __init__(self, backend: Backend, max_length: int, pad: str = EOS) -> None:
        backend.no_truncation()  # a tokenizer.json may ask for either; both are done here
        backend.no_padding()
        self.backend = backend
        self.max_length = max_length
        begin, end, filler = (backend.token_to_id(token) for token in (BOS, EOS, pad))
        if begin is None or end is None:
            raise ValueError(f"the tokenizer knows no {BOS!r} or no {EOS!r}: it is not a CLIP-style tokenizer")
        if filler is None:
            raise ValueError(f"the tokenizer does not know its own padding token {short(pad)}")
        self.bos, self.eos, self.pad = begin, end, filler
        self.largest = max(backend.get_vocab().values())  # id
        if max_length < 2:
            raise ValueError(f"max_length={max_length}: expected at least 2, room for begin and end")
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
        """Reads `tokenizer.json`, or else CLIP's `vocab.json` and `merges.txt`.

        Special tokens are those of special_tokens_map.json, then of tokenizer_config.json, as in transformers; so is
        that text which spells one is that one token ("!" too, where it pads). Raises FileNotFoundError or ValueError.
        """
        folder = Path(folder)
        whole, vocabulary, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
        path = whole if whole.is_file() else vocabulary
        if path == vocabulary and not (vocabulary.is_file() and merges.is_file()):
            raise FileNotFoundError(f"no file {whole}, and no {vocabulary.name} with {merges.name} beside it")
        with refusing(f"{path} is not a tokenizer"):
            if path == whole:
                backend = Backend.from_str(json.dumps(checked(read_json(whole))))
            else:
                read_json(vocabulary)
                if merges.stat().st_size > LARGEST_JSON:
                    raise ValueError(f"{merges.name} has more than {LARGEST_JSON:,} bytes")
                backend = clip_backend(models.BPE.from_file(
                    str(vocabulary), str(merges), unk_token=EOS, end_of_word_suffix="</w>", continuing_subword_prefix=""
                ))  # fmt: skip
        if not isinstance(backend.model, models.BPE):
            return cls(backend, max_length)
        special = special_tokens(folder)
        settled = {token.content for token in backend.get_added_tokens_decoder().values()}
        new = [token for token in special.values() if token.content not in settled]
        backend.add_special_tokens([token for token in new if backend.token_to_id(token.content) is not None])
        return cls(backend, max_length, special["pad_token"].content)

    def save(self, folder: Path | str) -> None:
        path = Path(folder) / "tokenizer.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.backend.save(f"{path}.part")
        Path(f"{path}.part").replace(path)

    @property
    def vocabulary(self) -> list[str]:
        return sorted(self.backend.get_vocab().keys() - {BOS, EOS})

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Raises ValueError for unknown words (closed vocabularies); warns of prompts longer than `max_length` - 2."""
        check_strings(prompts)
        rows = [self.row([prompt]) for prompt in prompts]
        warn_cut(rows)
        return as_ids(rows, self.max_length)

    def check_fits(self, vocab_size: int) -> None:
        """Raises ValueError if a text encoder of that many tokens does not know all of them."""
        check_fits(self.largest, vocab_size)

    def row(self, pieces: Sequence[str], prompt: str | None = None) -> Row:
        """One prompt from pieces that are read one by one: a token never spans two. Says nothing of what is cut.

        `prompt` is how errors show it.
        """
        prompt = "".join(pieces) if prompt is None else prompt
        if len(prompt) > LONGEST_TEXT:
            raise ValueError(f"the prompt {short(prompt)} has {len(prompt):,} characters: expected {LONGEST_TEXT:,}")
        room = self.max_length - 2
        ids, owners, cut = list[int](), list[int](), ""
        for number, piece in enumerate(pieces):
            found, starts = self._read(piece, prompt)
            if len(ids) <= room < len(ids) + len(found):
                cut = piece[starts[room - len(ids)] :] + "".join(pieces[number + 1 :])
            ids += found
            owners += [number] * len(found)
        ids, owners = ids[:room], owners[:room]
        padding = room - len(ids)
        return Row([self.bos, *ids, self.eos] + [self.pad] * padding, [-1, *owners, -1] + [-1] * padding, cut)

    def _read(self, text: str, prompt: str) -> tuple[list[int], list[int]]:
        """All tokens of a piece of a prompt, and the character each begins at."""
        if self.words:
            self._check_words(text, prompt)
        with refusing(f"the prompt {short(prompt)} is not text the tokenizer can read"):
            encoding = self.backend.encode(text, add_special_tokens=False)
        return encoding.ids, [start for start, _ in encoding.offsets]

    def _check_words(self, text: str, prompt: str) -> None:
        known = self.backend.get_vocab().keys() - {BOS, EOS}
        words = re.findall(r"[\S\x1c-\x1f]+", text.lower())  # Unicode's white space: str.split has four more
        unknown = [word for word in words if word not in known]
        if unknown:
            raise ValueError(
                f"the prompt {short(prompt)} has words outside the vocabulary: {short(' '.join(unknown))}; "
                f"the words known are: {', '.join(self.vocabulary)}"
            )


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """The backend's errors as ValueErrors that begin with `what`: bare Exceptions, and panics, which are not even
    those."""
    try:
        yield
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"
        if isinstance(error, MemoryError) or not (isinstance(error, Exception) or panic):
            raise
        raise ValueError(f"{what}: {printable(error)}") from None


def checked(
    raw: Mapping[str, Any], known: Sequence[str] = MODELS, through: Sequence[str] = STAGES
) -> dict[str, Any]:
    """What is read of a tokenizer.json: its vocabulary, and what a text goes through before.

    Raises ValueError for a model or a stage of another kind, and for what may take any time or memory.
    """
    model = raw.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") not in known:
        kind = model.get("type") if isinstance(model, dict) else model
        raise ValueError(f"its model is {short(kind)}, expected {' or '.join(known)}")
    if model.get("dropout"):
        raise ValueError(f"its model has dropout {short(model['dropout'])}, which would draw tokens at random")
    growth = 1
    for stage in [*stages(raw.get("normalizer"), through), *stages(raw.get("pre_tokenizer"), through)]:
        pattern = stage.get("pattern")
        if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
            check_pattern(pattern["Regex"])
        growth *= 1 + len(str(stage.get("content", stage.get("prepend", ""))))
    if growth > MOST_GROWTH:
        raise ValueError(f"its replacements may make a text longer by far (up to {growth:.2g} times)")
    parts = {name: raw.get(name) for name in ("normalizer", "pre_tokenizer")}
    unread = dict.fromkeys(("truncation", "padding", "post_processor", "decoder"))
    return {"version": "1.0", "added_tokens": raw.get("added_tokens") or [], "model": model, **parts, **unread}


def stages(raw: Any, through: Sequence[str] = STAGES) -> list[dict[str, Any]]:
    """A normalizer or pre-tokenizer and all that is in it. Raises ValueError for one that is none of `through`."""
    if raw is None:
        return []
    kind = raw.get("type") if isinstance(raw, dict) else raw
    if not isinstance(raw, dict) or kind not in through:
        raise ValueError(f"a text would go through {short(kind)}: expected one of {', '.join(through)}")
    inner = raw.get("normalizers", raw.get("pretokenizers", [])) if kind == "Sequence" else []
    return [raw, *(stage for one in (inner if isinstance(inner, list) else [inner]) for stage in stages(one, through))]


def check_pattern(pattern: str) -> None:
    """Raises ValueError for a regular expression that may search for ever: repeated groups, references to groups, more
    than one repetition before the next `|`. CLIP's and GPT-2's have none of these."""
    atoms = re.sub(r"\\[pP]\{[^}]*\}|\\[^0-9kg]|\[(?:\\.|[^\]\\])*\]", "x", pattern)
    loops = max(len(re.findall(r"[*+]|\{\d*,\d*\}", part)) for part in atoms.split("|"))
    if loops > 1 or re.search(r"\)[*+?{]|\}[*+{]|\\|\(\?[^=!:<i]|\(\*", atoms):
        raise ValueError(f"its regular expression {short(pattern)} may search for ever")


def special_tokens(folder: Path) -> dict[str, AddedToken]:
    """The special tokens a folder's files name, over CLIP's; what special_tokens_map.json says wins."""
    raw: dict[str, object] = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            raw |= {token: value for token, value in read_json(folder / name).items() if token in raw and value}
    tokens = dict[str, AddedToken]()
    for token, value in raw.items():
        entry = value if isinstance(value, dict) else {"content": value}
        content = entry.get("content")
        if not isinstance(content, str):
            raise ValueError(f"{folder}: {token} is {short(value)}, expected text")
        options = {k: bool(entry.get(k)) for k in ("single_word", "lstrip", "rstrip", "normalized")}
        tokens[token] = AddedToken(content, special=True, **options)
    return tokens


def clip_backend(model: models.BPE) -> Backend:
    """CLIP's reading of a text around its byte pairs: NFC, white space made one space, lower case, words, bytes."""
    backend = Backend(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    backend.decoder = decoders.ByteLevel()
    return backend


def as_ids(rows: Sequence[Row], length: int) -> Tensor:
    """The ids of all rows (b, length) int64."""
    return torch.tensor([row.ids for row in rows], dtype=torch.int64).reshape(len(rows), length)


def check_fits(largest: int, vocab_size: int) -> None:
    """Raises ValueError if a text encoder of that many tokens does not know all up to the `largest`."""
    if largest >= vocab_size:
        raise ValueError(
            f"the tokenizer numbers its tokens up to {largest:,}, the text encoder knows {vocab_size:,}: "
            "they are not of one model"
        )


def check_strings(prompts: Sequence[str]) -> None:
    if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
        raise ValueError(f"prompts is {short(prompts)}: expected a list of strings, one a row")


def warn_cut(rows: Sequence[Row]) -> None:
    """One warning for each text that did not fit; raised from one place always, Python shows it once."""
    for cut, room in {row.cut: sum(piece >= 0 for piece in row.pieces) for row in rows if row.cut}.items():
        number = f" ({len(cut.split())} words)" if len(cut) > SHOWN else ""
        message = f"a prompt is longer than the {room} tokens that are read; cut off: {short(cut, SHOWN)}{number}"
        warnings.warn(message, stacklevel=1)
