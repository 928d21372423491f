"""The tokenizers of a pair: as their text encoders were trained with them."""

from collections.abc import Callable
from pathlib import PurePath
from typing import TypeVar

from ivmix.models import CLIPTextConfig, T5Config, T5Tokenizer, Tokenizer
from ivmix.models.checkpoints.folders import PICKLES, SAFETENSORS
from ivmix.models.checkpoints.sources import Source, locate
from ivmix.models.text.tokenizer import EOS

T = TypeVar("T", Tokenizer, T5Tokenizer)


def tokenizer(source: Source, text_encoder: str, config: CLIPTextConfig) -> Tokenizer:
    """The tokenizer at `source`, which says how rows are padded if the text encoder lies beside it.

    Otherwise it may have been another encoder's, and padding is what this one was trained with: "!" for OpenCLIP's
    ViT-H/14 and ViT-bigG/14 (the exact gelu), the end of text for CLIP's.
    """
    found = fitting(Tokenizer.from_folder(locate(source, "tokenizer").root, config.max_position_embeddings),
                    source, text_encoder, config.vocab_size)  # fmt: skip
    beside, encoder = (PurePath(place.partition("@")[0]) for place in (str(source), text_encoder))
    came_along = beside.parent == encoder.parent and beside.name.endswith("_2") == encoder.name.endswith("_2")
    if found.words or (came_along and encoder.suffix not in (SAFETENSORS, *PICKLES)):
        return found
    return Tokenizer(found.backend, found.max_length, "!" if config.hidden_act == "gelu" else EOS)


def t5_tokenizer(source: Source, text_encoder: str, config: T5Config) -> T5Tokenizer:
    """The tokenizer at `source`, which pads to as many tokens as PixArt and Latte were trained on."""
    found = T5Tokenizer.from_folder(locate(source, "tokenizer").root)
    return fitting(found, source, text_encoder, config.vocab_size)


TOKENIZERS: dict[type, Callable[..., Tokenizer | T5Tokenizer]] = {CLIPTextConfig: tokenizer, T5Config: t5_tokenizer}


def fitting(found: T, source: Source, text_encoder: str, vocab_size: int) -> T:
    """The tokenizer, if its encoder knows all its tokens. ValueError, naming both."""
    try:
        found.check_fits(vocab_size)
    except ValueError as error:
        raise ValueError(f"tokenizer {source} with text encoder {text_encoder}: {error}") from None
    return found
