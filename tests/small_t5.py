"""A T5 text encoder of a few channels, and SentencePiece's file written by hand."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase

from torch import nn

from ivmix.models import T5Config, T5Text, save_folder

WORDS = ("▁a", "▁red", "▁blue", "▁circle", "▁cat", "▁moving", "▁left")
PIECES = (*WORDS, "▁", *ascii_lowercase, ",", ".")
TEXT = T5Config(128 + len(PIECES), 32, 8, 48, 2, 4)


def write_text(folder: Path, config: T5Config = TEXT) -> T5Text:
    """A pipeline's subfolders text_encoder and tokenizer; of the encoder, the weights that it has."""
    network = T5Text(config)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    save_folder(network, folder / "text_encoder")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "spiece.model").write_bytes(spiece())
    return network


def spiece(pieces: Sequence[str] = PIECES, table: bytes = b"", more: bytes = b"") -> bytes:
    """A model of pieces, the longer the likelier, behind T5's three special ones."""
    special = [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2)]
    rows = [*special, *((piece, len(piece) - 20.0, 1) for piece in pieces)]
    entries = (
        part(1, piece.encode()) + tag(2, 5) + struct.pack("<f", score) + tag(3, 0) + varint(kind)
        for piece, score, kind in rows
    )
    return b"".join(part(1, entry) for entry in entries) + (part(3, part(2, table)) if table else b"") + more


def part(field: int, value: bytes) -> bytes:
    return tag(field, 2) + varint(len(value)) + value


def tag(field: int, kind: int) -> bytes:
    return varint(field << 3 | kind)


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def charsmap(texts: Mapping[str, str]) -> bytes:
    """A table that turns each key into its text: a double array whose every node has 256 units to itself."""
    ends = {key.encode(): text.encode() for key, text in texts.items()}
    nodes = sorted({key[:n] for key in ends for n in range(len(key) + 1)})
    base = {node: 256 * (k + 1) for k, node in enumerate(nodes)}
    units, blob = [0] * 256 * (len(nodes) + 1), b""
    units[0] = base[b""] << 10
    for node in nodes[1:]:
        at = base[node[:-1]] ^ node[-1]
        units[at] = node[-1] | (at ^ base[node]) << 10
        if node in ends:
            units[at] |= 1 << 8
            units[base[node]] = len(blob) | 1 << 31
            blob += ends[node] + b"\0"
    return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + blob
