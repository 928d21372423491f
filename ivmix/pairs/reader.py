"""What reads prompts for a model of a pair: a text encoder that stays in memory, or is there only while it reads.

One that stays reads a batch of prompts whenever it is asked. One that does not reads them one by one, and what it said
of each is kept: only a prompt that it has not seen brings it back, from its files, which were checked when the pair was
loaded. All that are read ahead together are kept, however many: 1 MB of CPU memory each, of T5 in bfloat16.

To stay is the rule: CLIP's 0.25 GB are little beside a UNet's 1.7, and no run waits for a file. To leave is for what is
larger than all that comes after it: T5 v1.1 XXL takes 9.5 GB in bfloat16, Latte and PixArt 3.3 in float16.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from ivmix.models import CLIPText, T5Text, T5Tokenizer, Text, Tokenizer, encode_captions, first_not_finite
from ivmix.models.checkpoints.load import TextEncoder
from ivmix.models.meta import build
from ivmix.models.text.prompts import encode
from ivmix.pairs.offload import Offload

MOST_SAID = 4096  # prompts that are kept at the least; 4 GB of T5's features, less than half of what it takes itself


@dataclass(frozen=True)
class Reading:
    """How prompts are read, but for the encoder."""

    tokenizer: Tokenizer | T5Tokenizer
    clip_skip: int = 1
    norm: bool = True
    raw: bool = False


def _read_clip(network: CLIPText, prompts: Sequence[str], how: Reading) -> Text:
    assert isinstance(how.tokenizer, Tokenizer)
    return encode(how.tokenizer, network, prompts, how.clip_skip, how.norm, how.raw)


def _read_t5(network: T5Text, prompts: Sequence[str], how: Reading) -> Text:
    assert isinstance(how.tokenizer, T5Tokenizer)
    return encode_captions(how.tokenizer, network, prompts, how.raw)


READ: dict[type, Callable[..., Text]] = {CLIPText: _read_clip, T5Text: _read_t5}


@dataclass(eq=False)
class Reader:
    """A text encoder of a pair, which sides may share.

    `network` is on meta, where shapes take no memory, while it is not in memory; `load` reads it from its files.
    """

    network: TextEncoder
    load: Callable[[torch.device, torch.dtype], TextEncoder]
    device: torch.device
    dtype: torch.dtype
    stays: bool = True
    offload: Offload | None = None  # what brings it to the device, where it stays in CPU memory
    said: dict[tuple[Reading, str], Text] = field(default_factory=dict, repr=False)  # of one that leaves, on the CPU
    keeps: int = MOST_SAID  # of what it said, the newest: no fewer than were ever read ahead together

    @property
    def away(self) -> bool:
        """Whether it is not in memory."""
        return self.network.device.type == "meta"

    @property
    def in_memory(self) -> TextEncoder:
        """The network, read from its files if it is not there."""
        if self.away:
            self.network = self.load(self.device, self.dtype)
        return self.network

    @property
    def at_work(self) -> TextEncoder:
        """The network on its device: alone there, where weights are offloaded."""
        if self.offload is None:
            return self.in_memory
        if not self.stays:
            self.offload.leave()
            return self.in_memory
        return self.offload.bring(self.in_memory)

    @property
    def bytes(self) -> int:
        """What it takes of memory while it is there."""
        return sum(tensor.nbytes for tensor in (*self.network.parameters(), *self.network.buffers()))

    def read(self, prompts: Sequence[str], how: Reading) -> Text:
        """Raises ValueError as `encode` and `encode_captions` do."""
        read = READ[type(self.network)]
        if self.stays:
            return read(self.at_work, prompts, how)
        for prompt in dict.fromkeys(prompts):
            known = self.said.pop((how, prompt), None)  # and in again as the newest
            self.said[how, prompt] = known or self._sound(read(self.at_work, [prompt], how).to("cpu"))
        text = Text.cat([self.said[how, prompt] for prompt in prompts]).to(self.device)
        for oldest in list(self.said)[: -self.keeps]:
            del self.said[oldest]
        return text

    def read_ahead(self, wanted: Sequence[tuple[Reading, Sequence[str]]]) -> None:
        """Reads all these prompts, keeps what it said of every one of them, and leaves."""
        self.keeps = max(self.keeps, len({(how, prompt) for how, prompts in wanted for prompt in prompts}))
        for how, prompts in wanted:
            if prompts:
                self.read(prompts, how)
        self.release()

    def _sound(self, text: Text) -> Text:
        """The text. ValueError for NaN and infinite values, while the network that is to blame is still there."""
        if not all(said.isfinite().all() for said in (text.states, text.pooled) if said is not None):
            key, dtype = first_not_finite(self.network), self.network.config.runs_in(self.dtype)
            held = f"holds NaN or infinite weights, first in {key}" if key else "says NaN or infinite values"
            raise ValueError(f"a text encoder {held}: is the file whole, or {dtype} too narrow for it?")
        return text

    def release(self) -> None:
        """Frees its memory; what it said is kept."""
        config = self.network.config
        self.network = build(config.network, config).to(config.runs_in(self.dtype))

    def move(self, device: torch.device, dtype: torch.dtype) -> None:
        """To a device and a dtype; what it said in another is forgotten."""
        self.device, self.dtype = device, dtype
        place = "meta" if self.away else device
        self.network.to(place, self.network.config.runs_in(dtype))
        self.said.clear()
