r"""Prompts with weights, as AUTOMATIC1111's web UI reads them, to text features.

| written | weight |
|---|---|
| `(word:1.5)` | 1.5 |
| `(word)`, `((word))` | 1.1, 1.1² |
| `[word]` | 1 / 1.1 |
| `(a (b:2) c:1.5)` | nested weights multiply: 1.5, 3, 1.5 |
| `\(word\)` `\[` `\\` | brackets and a backslash as text |

As there, a closing bracket without an opening one is text, one never closed reaches the end, and a colon counts only as
`:number)`. Unlike there, `[word:0.5]` and `[a|b]`, which mean editing a prompt during the run, are errors; `BREAK` and
`AND` are words; a backslash before anything else is text. Prompts that are read raw have no weights: all they hold is
text.
"""

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from ivmix.models.text.clip import CLIPText
from ivmix.models.text.t5 import T5Text
from ivmix.models.text.t5_tokenizer import T5Tokenizer
from ivmix.models.text.text import Text
from ivmix.models.text.tokenizer import Row, Tokenizer, as_ids, check_strings, warn_cut

STRONGER, WEAKER = 1.1, 1 / 1.1
SYNTAX = re.compile(
    r"\\(?P<escaped>[()\[\]\\])|:\s*(?P<weight>[+-]?[\d.]+)\s*\)|(?P<mark>[()\[\]])|[^\\():\[\]]+|[\\:]"
)
EDITING = re.compile(r"(?<!\\)\[[^\[\]]*(:\s*[\d.]+\s*|\|[^\[\]]*)\]")

WHITE_SPACE = re.compile(r"[^\S\x1c-\x1f]+")  # Unicode's, of which Python has four more
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")  # no white space; halves of UTF-16


def clean(prompt: str, name: str = "prompt") -> str:
    """A prompt whose white space, of any kind and length, is one space, and none at its ends: as CLIP reads it.

    >>> clean("a red\\u3000circle,\\n\\tmoving left ")
    'a red circle, moving left'

    Raises ValueError for other control characters. Those that join or mark their neighbours, as in emoji, are text.
    """
    if control := CONTROLS.search(prompt):
        code, place = ord(control.group()), control.start() + 1
        raise ValueError(f"the {name} has the control character U+{code:04X}, its character {place}: remove it")
    return WHITE_SPACE.sub(" ", prompt).strip(" ")


def parse_weights(prompt: str) -> list[tuple[str, float]]:
    r"""A prompt's pieces with their weights, neighbours of equal weight joined.

    >>> parse_weights("a (red:1.3) circle")
    [('a ', 1.0), ('red', 1.3), (' circle', 1.0)]
    >>> parse_weights(r"a \(plain\) word, (to the end")
    [('a (plain) word, ', 1.0), ('to the end', 1.1)]

    Raises ValueError for a weight that is no finite number, and for prompt editing.
    """
    if editing := EDITING.search(prompt):
        raise ValueError(
            f"{editing.group()!r} in the prompt would edit it during the run, which is not supported; "
            r"a weight is (word:0.8), brackets as text are \[ and \]"
        )
    pieces = list[tuple[str, float]]()
    opened: dict[str, list[int]] = {"(": [], "[": []}  # where the pieces inside each open bracket begin

    def close(bracket: str, factor: float) -> None:
        begin = opened[bracket].pop()
        pieces[begin:] = [(text, weight * factor) for text, weight in pieces[begin:]]

    for found in SYNTAX.finditer(prompt):
        text, number, mark = found.group(), found["weight"], found["mark"]
        if mark in ("(", "["):
            opened[mark].append(len(pieces))
        elif mark == ")" and opened["("]:
            close("(", STRONGER)
        elif mark == "]" and opened["["]:
            close("[", WEAKER)
        elif number and opened["("]:
            close("(", _number(number))
        else:
            pieces.append((found["escaped"] or text, 1.0))
    for bracket, factor in (("(", STRONGER), ("[", WEAKER)):
        while opened[bracket]:
            close(bracket, factor)

    joined = list[tuple[str, float]]()
    for text, weight in pieces:
        if not math.isfinite(weight):
            raise ValueError(f"the weights of {text[:40]!r} multiply to {weight}: weaken them")
        if joined and joined[-1][1] == weight:
            joined[-1] = (joined[-1][0] + text, weight)
        else:
            joined.append((text, weight))
    return joined


def read_prompts(
    tokenizer: Tokenizer | T5Tokenizer, prompts: Sequence[str], raw: bool = False
) -> tuple[Tensor, Tensor]:
    """Prompts with weights -> token ids (b, l) int64 and their weights (b, l) float64; 1 for begin, end and padding.

    CLIP reads pieces of different weight one by one: no token spans two. Errors and warnings as in the tokenizers.
    """
    rows, weights = read_rows(tokenizer, prompts, raw)
    return as_ids(rows, tokenizer.max_length), weights


def read_rows(
    tokenizer: Tokenizer | T5Tokenizer, prompts: Sequence[str], raw: bool = False
) -> tuple[list[Row], Tensor]:
    """As `read_prompts`, the ids in rows that say what they were read from."""
    check_strings(prompts)
    parsed = [[(prompt, 1.0)] if raw else parse_weights(prompt) for prompt in prompts]
    rows = [tokenizer.row([text for text, _ in p], prompt) for p, prompt in zip(parsed, prompts, strict=True)]
    warn_cut(rows)
    weights = [
        [1.0 if piece < 0 else pieces[piece][1] for piece in row.pieces]
        for pieces, row in zip(parsed, rows, strict=True)
    ]
    return rows, torch.tensor(weights, dtype=torch.float64).reshape(len(rows), tokenizer.max_length)


def encode_prompts(
    tokenizer: Tokenizer, text_encoder: CLIPText, prompts: Sequence[str], clip_skip: int = 1, raw: bool = False
) -> Tensor:
    """Prompts with weights (`raw`: without) -> text features (b, l, d), on the encoder's device and in its dtype.

    Each token's features are multiplied by its weight; then, as in the web UI, one factor a prompt gives them the mean
    they had. Where no weight differs from 1 they are the encoder's to the bit. With a closed vocabulary (the embedded
    pair's) the weights act alone: the mean of those features is 0 (0.001 at a standard deviation of 1), no measure of
    size, and keeping it would multiply all of "a (blue:2) cross moving up" by -2.9.

    Raises ValueError as `read_prompts` and `CLIPText` do, and for weights that turn the mean's sign around.
    """
    return encode(tokenizer, text_encoder, prompts, clip_skip, raw=raw).states


def encode(
    tokenizer: Tokenizer, text_encoder: CLIPText, prompts: Sequence[str], clip_skip: int = 1, norm: bool = True,
    raw: bool = False,
) -> Text:  # fmt: skip
    """`encode_prompts`, with pooled text where the encoder has its projection; `norm` as in `CLIPText.read`. Weights
    act on the features of tokens alone."""
    tokenizer.check_fits(text_encoder.config.vocab_size)
    ids, weights = read_prompts(tokenizer, prompts, raw)
    ends = (ids == tokenizer.eos).int().argmax(dim=1)
    text = text_encoder.read(ids.to(text_encoder.device), clip_skip, norm, ends.to(text_encoder.device))
    for row in (weights != 1).any(dim=1).nonzero().flatten().tolist():
        text.states[row] = emphasise(text.states[row], weights[row], keep_mean=not tokenizer.words)
    return text


def encode_captions(tokenizer: T5Tokenizer, text_encoder: T5Text, prompts: Sequence[str], raw: bool = False) -> Text:
    """Prompts with weights (`raw`: without) -> T5's features (b, n, d), on its device and in its dtype, and which of
    them are text (b, n) bool.

    Prompt by prompt, so that one is read to the same bits whatever beside it. Weights act alone: nothing is known of
    what the mean of T5's features measures. Raises ValueError as `read_prompts` and `T5Text` do.
    """
    tokenizer.check_fits(text_encoder.config.vocab_size)
    rows, weights = read_rows(tokenizer, prompts, raw)
    device, ids = text_encoder.device, as_ids(rows, tokenizer.max_length)
    mask = tokenizer.mask(rows).to(device)
    features = torch.cat([text_encoder(*one) for one in zip(ids.to(device).split(1), mask.split(1), strict=True)])
    for row in (weights != 1).any(dim=1).nonzero().flatten().tolist():
        features[row] = emphasise(features[row], weights[row], keep_mean=False)
    return Text(features, mask=mask)


def emphasise(features: Tensor, weights: Tensor, keep_mean: bool = True) -> Tensor:
    """One prompt's features (l, d) times the weights (l,) of its tokens, with the mean they had unless told not to."""
    exact = features.to(torch.promote_types(features.dtype, torch.float32))
    weighted = exact * weights.to(exact)[:, None]
    if keep_mean:
        factor = float(exact.mean() / weighted.mean())
        if not 0 < factor < math.inf:
            raise ValueError(f"a prompt's weights turn its features' mean around (factor {factor:g}): weaken them")
        weighted = weighted * factor
    return weighted.to(features.dtype)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"the weight {text!r} in the prompt is not a number, such as 1.3") from None
