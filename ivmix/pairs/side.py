"""One model of a pair, with all that it needs to be asked: network, text encoder, tokenizer, schedule, prediction."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ivmix.models import VAE, CLIPTextConfig, Condition, MotionConfig, T5Config, T5Tokenizer, Tokenizer, perturbed
from ivmix.models.checkpoints.load import TextEncoder
from ivmix.models.compile import Compiled
from ivmix.models.predictor import Predictor
from ivmix.models.text.text import Text, joined, read_as_far, without_empty
from ivmix.pairs.facts import RunAs
from ivmix.pairs.offload import Offload
from ivmix.pairs.reader import Reader, Reading
from ivmix.pairs.trained_as import Prediction, in_words
from ivmix.solvers import Boundary, Network, Schedule, Windows, enlarged, windowed
from ivmix.solvers.algebra.network import Forward, enlargement


@dataclass(frozen=True, eq=False)
class Side:
    """One model of a pair with all it needs to read a prompt."""

    name: str  # "image" or "video": the name evaluations are counted under
    unet: Predictor  # or a transformer: whatever predicts
    readers: tuple[Reader, ...]  # of its prompts: one, or two whose states stand side by side
    tokenizers: tuple[Tokenizer | T5Tokenizer, ...]  # theirs
    schedule: Schedule
    prediction: Prediction
    source: Mapping[str, str]  # of prediction and schedule: "pair", "option", or the file of the model that says it
    fps: float | None  # what a network that asks for it is told
    clip_skip: int  # the text encoder's layer that is read, counted from the end
    latent_size: int | None  # the side of latents it was trained on, to which much smaller ones are enlarged
    call: Compiled  # of the network
    consistency: bool = False  # whether it tells where a trajectory ends, and has no scores
    text_norm: bool = True  # whether text states go through the encoder's final norm
    empty_prompt: Literal["text", "zeros"] = "text"  # what is told of an empty prompt
    original_size: tuple[int, int] | None = None  # that a clip is said to be scaled from, in pixels
    target_size: tuple[int, int] | None = None  # and to
    offload: Offload | None = None  # what brings the network to the device, where it is not always there
    motion: str | None = None  # the source of its motion modules, where they are a file of their own
    motion_for_steps: Mapping[str, str] = field(default_factory=dict)  # of those distilled for so many steps each
    _views: dict[Hashable, Callable[..., Tensor]] = field(default_factory=dict, init=False, repr=False)  # `seen` so far

    @property
    def text_encoder(self) -> TextEncoder:
        """The first, read from its files if it is not in memory."""
        return self.readers[0].in_memory

    @property
    def tokenizer(self) -> Tokenizer | T5Tokenizer:
        """The first text encoder's."""
        return self.tokenizers[0]

    @property
    def networks(self) -> dict[str, nn.Module]:
        """All of the side's, by what they are called; text encoders that left memory are on meta."""
        names = ("text encoder", "text encoder 2")
        texts = {name: reader.network for name, reader in zip(names[: len(self.readers)], self.readers, strict=True)}
        return {self.unet.kind: self.unet, **texts}

    @property
    def run_as(self) -> RunAs:
        """What the model is taken for, and what says so: all that decides its predictions beside its files."""
        temporal = self.unet.config.temporal
        norm = ("diffusers" if temporal.joint_norm else "authors") if isinstance(temporal, MotionConfig) else None
        run_as: RunAs = {
            "prediction": self.prediction, "schedule": self.schedule.to_config(), "from": dict(self.source),
            "clip_skip": self.clip_skip, "fps": self.fps, "latent_size": self.latent_size, "motion_norm": norm,
        }  # fmt: skip
        if self.consistency:
            run_as["consistency"] = True
        if len(self.readers) > 1:
            run_as |= {"text_norm": self.text_norm, "empty_prompt": self.empty_prompt}
            run_as["original_size"] = self.original_size and list(self.original_size)
            run_as["target_size"] = self.target_size and list(self.target_size)
        return run_as

    @property
    def for_steps(self) -> int | None:
        """The only number of steps that its motion modules were distilled for, None where that is not known."""
        return next((int(n) for n, source in self.motion_for_steps.items() if source == self.motion), None)

    @property
    def announcement(self) -> str:
        """Prediction and schedule in one line."""
        told = {"prediction": self.prediction, "schedule": in_words(self.schedule.to_config())}
        if len(set(self.source.values())) == 1:
            return f"{self.name} model: prediction {' on '.join(told.values())} ({self.source['schedule']})"
        said = (f"{value} ({self.source[name]})" for name, value in told.items())
        return f"{self.name} model: prediction {' on '.join(said)}"

    def condition(self, prompts: Sequence[str], raw: bool = False, size: tuple[int, int] | None = None) -> Condition:
        """Reads the prompts and, unless `raw`, their weights once: what this side's network is told at every step.

        A network that is told pooled text is told the `size` of the clip too, height and width in pixels: that it was
        scaled from there to there, and is whole, unless the side has sizes of its own. Negative prompts are told the
        same.
        """
        return self.told(self.read(prompts, raw), size)

    def read(self, prompts: Sequence[str], raw: bool = False) -> Text:
        """What the side's text encoders make of the prompts."""
        text = joined([reader.read(prompts, how) for reader, how in self.readings(raw)])
        return without_empty(text, prompts) if self.empty_prompt == "zeros" else text

    def read_both(self, negatives: Sequence[str], prompts: Sequence[str], raw: bool = False) -> tuple[Text, Text]:
        """Negative prompts and prompts, clip by clip: as `read`, but that a network may read padding of the first."""
        negative, positive = (self.read(own, raw) for own in (negatives, prompts))
        return read_as_far(negative, positive) if self.unet.reads_padding else negative, positive

    def told(self, text: Text, size: tuple[int, int] | None = None) -> Condition:
        """The condition of what was read, of a clip of that size."""
        if self.offload is not None:
            self.offload.bring(self.unet)
        text = text.to(dtype=self.unet.dtype)
        self.unet.check_context(text.states)  # first of all: another family is told other things beside it
        beside: dict[str, Any] = {} if text.mask is None else {"mask": text.mask}
        if text.pooled is not None:
            sizes = None if size is None else (*(self.original_size or size), 0, 0, *(self.target_size or size))
            beside |= {"pooled": text.pooled, "sizes": sizes}
        return self.unet.condition(text.states, fps=self.fps, **beside)

    def readings(self, raw: bool) -> list[tuple[Reader, Reading]]:
        """What reads its prompts, and how."""
        how = [Reading(tokenizer, self.clip_skip, self.text_norm, raw) for tokenizer in self.tokenizers]
        return list(zip(self.readers, how, strict=True))

    def network(
        self, schedule: Schedule | None = None, image_frames: int | None = None, windows: Sequence[Windows] = ()
    ) -> Network:
        """The adapter of one run, on the side's own schedule or another, asked by `windows` of the latents.

        An image model takes a video as it is: without temporal layers, frames are a batch, `image_frames` at a time.
        """

        def adapted(call: Callable[..., Tensor]) -> Forward:
            forward: Forward = partial(call, temporal=self.name == "video")
            if self.offload is not None:
                forward = self.offload.brought(self.unet, forward)
            if self.latent_size is not None:
                forward = enlarged(forward, self.latent_size)
            if self.name == "image" and image_frames is not None:
                forward = partial(in_parts, forward, image_frames)
            return windowed(forward, *windows)

        return Network(
            adapted(self.call), schedule or self.schedule, self.prediction, self.name,
            dtype=self.unet.dtype, views=lambda **how: adapted(self.seen(**how)),
            boundary=Boundary() if self.consistency else None,
        )  # fmt: skip

    def seen(self, skip: tuple[str, ...] = (), identity: tuple[str, ...] = ()) -> Callable[..., Tensor]:
        """The network seen differently (`perturbed`), told its own conditions and called in the same way."""
        if (skip, identity) not in self._views:
            view = perturbed(self.unet, skip, identity)
            self._views[skip, identity] = partial(_told, self.call.of(view), view)
        return self._views[skip, identity]

    def size_seen(self, height: int, width: int) -> tuple[int, int]:
        """The size that height x width latents have for the network."""
        k = 1 if self.latent_size is None else enlargement(height, width, self.latent_size)
        return k * height, k * width


def check_text(name: str, network: Predictor, encoders: Sequence[CLIPTextConfig | T5Config]) -> None:
    """ValueError where text encoders do not say, of a token and together, and the last of a prompt as a whole, as much
    as their network reads."""
    pooled, last = network.told(1).get("pooled"), encoders[-1].projection_dim
    read, whole = network.config.context_dim, None if pooled is None else pooled.shape[1]
    said = [config.channels for config in encoders]
    who = "its text encoder says" if len(said) == 1 else f"its {len(said)} text encoders say"
    what = ""
    if sum(said) != read:
        what = f"reads text of {read} channels, {who} {' + '.join(map(str, said))}"
    elif last != whole:
        what = f"reads pooled text of {whole or 'no'} channels, the last text encoder says {last or 'none'}"
    if what:
        reason = "they are not of one model, or an encoder is missing"
        raise ValueError(f"{name} model: its {network.kind} {what}: {reason}")


def check_latents(side: Side, vae: VAE) -> None:
    """ValueError where a network reads other latents than its autoencoder makes, as one that paints in what a mask
    leaves out does."""
    read, made = side.unet.config.in_channels, vae.config.latent_channels
    if read != made:
        raise ValueError(
            f"{side.name} model: its {side.unet.kind} reads latents of {read} channels, the autoencoder makes {made}: "
            "expected a model that reads latents alone, no inpainting or depth model"
        )


def _told(call: Compiled, view: Predictor, z: Tensor, t: Tensor, condition: Condition, temporal: bool) -> Tensor:
    """What a view says under a condition of the network that it is one of."""
    return call(z, t, replace(condition, network=view), temporal=temporal)


def in_parts(forward: Forward, frames: int, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
    """An image model's `forward` of z (b c f h w), `frames` frames of all rows at a time: to it they are a batch."""
    return torch.cat([forward(part, t, condition) for part in z.split(frames, dim=2)], dim=2)
