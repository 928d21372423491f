"""SentencePiece's `spiece.model`, read as the file of a stranger: pieces with their scores, and a table of characters.

It is a protocol buffer (sentencepiece_model.proto), of which the few entries that T5 has are read. The library itself
would be one more dependency, and crashes on damaged files; `tokenizers`, which is here, cuts texts in the same pieces.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ivmix.models.json_files import LARGEST_JSON, check_is_file

NORMAL, UNKNOWN, CONTROL = 1, 2, 3  # kinds of pieces; others are no T5's
UNIGRAM = 1
LARGEST_TABLE = 2**20  # bytes; SentencePiece's own have a quarter of it
LONGEST_KEY, LONGEST_TEXT = 64, 64  # bytes of a table's entries; its own have up to 12 and 33


@dataclass(frozen=True)
class Pieces:
    """`scores` are the pieces and their log probabilities, in the order of their ids; `table` may be empty."""

    scores: list[tuple[str, float]]
    unknown: int  # the id of what is no piece
    table: bytes


def read_spiece(path: Path) -> Pieces:
    """Raises FileNotFoundError, or ValueError for what is no unigram model that puts a space before a text and one for
    all white space, as T5's does."""
    check_is_file(path)
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(f"it has more than {LARGEST_JSON:,} bytes")
    scores, unknown, table = list[tuple[str, float]](), list[int](), b""
    trained, spaces = UNIGRAM, {3: 1, 4: 1, 5: 1}  # what stands for what the file does not say
    for field, value in fields(path.read_bytes()):
        if field == 1:
            piece, score, kind = "", 0.0, NORMAL
            for inner, part in fields(of_bytes(value)):
                if inner == 1:
                    piece = of_bytes(part).decode()
                elif inner == 2:
                    (score,) = struct.unpack("<f", of_bytes(part))
                elif inner == 3:
                    kind = of_number(part)
            if not piece or not math.isfinite(score) or kind not in (NORMAL, UNKNOWN, CONTROL):
                raise ValueError(f"its piece {len(scores)} is {piece!r:.60} of score {score} and kind {kind}")
            unknown += [len(scores)] * (kind == UNKNOWN)
            scores.append((piece, score))
        elif field == 2:
            trained = next((of_number(part) for inner, part in fields(of_bytes(value)) if inner == 3), UNIGRAM)
        elif field == 3:
            for inner, part in fields(of_bytes(value)):
                if inner == 2:
                    table = of_bytes(part)
                elif inner in spaces:
                    spaces[inner] = of_number(part)
    if trained != UNIGRAM or len(unknown) != 1 or set(spaces.values()) != {1}:
        raise ValueError(
            f"it is of kind {trained}, with {len(unknown)} unknown pieces and spaces read as {list(spaces.values())}: "
            f"expected kind {UNIGRAM} (unigram), one unknown piece, [1, 1, 1]"
        )
    if table:
        check_table(table)
    return Pieces(scores, unknown[0], table)


def fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol buffer's entries. ValueError for what is none."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = 0
        for shift in range(0, 70, 7):
            byte = raw[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError(f"its number before byte {at:,} has no end")

    try:
        while at < len(raw):
            key = varint()
            if key & 7 == 0:
                yield key >> 3, varint()
                continue
            size = {1: 8, 5: 4}.get(key & 7) or (varint() if key & 7 == 2 else 0)
            if key & 7 not in (1, 2, 5) or at + size > len(raw):
                raise ValueError(f"no entry ends before byte {at:,}")
            yield key >> 3, raw[at : at + size]
            at += size
    except IndexError:
        raise ValueError("it ends within an entry") from None


def of_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError(f"it has the number {value} in place of text or of a part")
    return value


def of_number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("it has text in place of a number")
    return value


def check_table(raw: bytes) -> None:
    """Raises ValueError for a table of characters (`precompiled_charsmap`) that a text could leave.

    It is a double array (darts-clone) of 32-bit units, whose leaves are places in the texts behind it. `tokenizers`
    follows them without looking: every unit that any text may lead to is looked at here.
    """
    size = int.from_bytes(raw[:4], "little")
    if not 0 < size <= min(len(raw) - 4, LARGEST_TABLE) or size % 4:
        raise ValueError(f"its table of characters has {len(raw):,} bytes, {size:,} of them units")
    units, texts = np.frombuffer(raw, "<u4", size // 4, 4).astype(np.int64), raw[4 + size :]
    texts.decode()
    labels, offsets, leaf = units & 0x800000FF, (units >> 10) << ((units & 512) >> 6), (units >> 8) & 1 == 1
    places = np.arange(len(units))
    above = places ^ labels  # the node that a unit would be below, by its letter
    letters = (labels > 0) & (labels < 256) & (above < len(units))
    nodes = np.zeros(len(units), bool)
    new = offsets[:1]
    for _ in range(LONGEST_KEY):
        if (new | 255).max() >= len(units):
            raise ValueError("its table of characters leads out of itself")
        nodes[new] = True
        found = places[letters & nodes[np.where(letters, above, 0)]]
        letters[found] = False
        new = found ^ offsets[found]
        ends = new[leaf[found]]
        if len(ends) and (ends >= len(units)).any():
            raise ValueError("its table of characters leads out of itself")
        _check_texts(units[ends] & 0x7FFFFFFF, texts)
        if not len(new):
            return
    raise ValueError(f"its table of characters has entries of more than {LONGEST_KEY} bytes")


def _check_texts(begins: np.ndarray, texts: bytes) -> None:
    """Raises ValueError for a text that begins nowhere, within a letter, or never ends."""
    letters = np.frombuffer(texts + b"\0", np.uint8)
    if not len(begins):
        return
    if begins.max() > len(texts) or (letters[begins] & 0xC0 == 0x80).any():
        raise ValueError("its table of characters points to no text")
    stops = np.flatnonzero(letters == 0)
    if (stops[np.searchsorted(stops, begins)] - begins).max() > LONGEST_TEXT:
        raise ValueError(f"its table of characters has texts of more than {LONGEST_TEXT} bytes")
