"""One model of a pair, with all that it needs to be asked: UNet, text encoder, tokenizer, schedule, prediction."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from ivmix.models import CLIPText, Condition, MotionConfig, Tokenizer, UNet, perturbed
from ivmix.models.compile import Compiled, called
from ivmix.models.text.prompts import encode, joined, without_empty
from ivmix.pairs.facts import RunAs
from ivmix.pairs.trained_as import Prediction, in_words
from ivmix.solvers import Network, Schedule, enlarged
from ivmix.solvers.algebra.network import Forward, enlargement


@dataclass(frozen=True, eq=False)
class Side:
    """One model of a pair with all it needs to read a prompt."""

    name: str  # "image" or "video": the name evaluations are counted under
    unet: UNet
    text_encoder: CLIPText
    tokenizer: Tokenizer
    schedule: Schedule
    prediction: Prediction
    source: Mapping[str, str]  # of prediction and schedule: "pair", "option", or the file of the model that says it
    fps: float | None  # what a network that asks for it is told
    clip_skip: int  # the text encoder's layer that is read, counted from the end
    latent_size: int | None  # the side of latents it was trained on, to which much smaller ones are enlarged
    call: Compiled  # of the UNet
    second: tuple[CLIPText, Tokenizer] | None = None  # which read the prompts too
    text_norm: bool = True  # whether text states go through the encoder's final norm
    empty_prompt: Literal["text", "zeros"] = "text"  # what is told of an empty prompt
    original_size: tuple[int, int] | None = None  # height and width that a clip is said to be scaled from
    _views: dict[Hashable, Callable[..., Tensor]] = field(default_factory=dict, init=False, repr=False)  # `seen` so far

    @property
    def readers(self) -> list[tuple[CLIPText, Tokenizer]]:
        """The text encoders, and their tokenizers, that prompts go through."""
        first = self.text_encoder, self.tokenizer
        return [first] if self.second is None else [first, self.second]

    @property
    def networks(self) -> dict[str, nn.Module]:
        """All of the side's, by what they are called."""
        names = ("text encoder", "text encoder 2")
        return {"UNet": self.unet} | {name: reader for name, (reader, _) in zip(names, self.readers, strict=False)}

    @property
    def run_as(self) -> RunAs:
        """What the model is taken for, and what says so: all that decides its predictions beside its files."""
        temporal = self.unet.config.temporal
        norm = ("diffusers" if temporal.joint_norm else "authors") if isinstance(temporal, MotionConfig) else None
        told: RunAs = {
            "prediction": self.prediction, "schedule": self.schedule.to_config(), "from": dict(self.source),
            "clip_skip": self.clip_skip, "fps": self.fps, "latent_size": self.latent_size, "motion_norm": norm,
        }  # fmt: skip
        if self.second is not None:
            told |= {"text_norm": self.text_norm, "empty_prompt": self.empty_prompt}
            told["original_size"] = self.original_size and list(self.original_size)
        return told

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

        A network that is told pooled text is told the `size` of the clip too, height and width in pixels: that it is
        whole, and was no larger unless the side has an original size. Negative prompts are told the same.
        """
        readers, how = self.readers, (self.clip_skip, self.text_norm, raw)
        text = joined([encode(words, reader, prompts, *how) for reader, words in readers])
        if self.empty_prompt == "zeros":
            text = without_empty(text, prompts)
        if text.pooled is None:
            return self.unet.condition(text.states, fps=self.fps)
        sizes = None if size is None else (*(self.original_size or size), 0, 0, *size)
        return self.unet.condition(text.states, self.fps, text.pooled, sizes)

    def network(self, schedule: Schedule | None = None, image_frames: int | None = None) -> Network:
        """The adapter of one run, on the side's own schedule or another.

        An image model takes a video as it is: without temporal layers, frames are a batch, `image_frames` at a time.
        """

        def adapted(call: Callable[..., Tensor]) -> Forward:
            forward: Forward = partial(call, temporal=self.name == "video")
            if self.latent_size is not None:
                forward = enlarged(forward, self.latent_size)
            if self.name == "image" and image_frames is not None:
                forward = partial(in_parts, forward, image_frames)
            return forward

        return Network(
            adapted(self.call), schedule or self.schedule, self.prediction, self.name,
            dtype=self.unet.conv_in.weight.dtype, views=lambda **how: adapted(self.seen(**how)),
        )  # fmt: skip

    def seen(self, skip: tuple[str, ...] = (), identity: tuple[str, ...] = ()) -> Callable[..., Tensor]:
        """The UNet seen differently (`perturbed`), told its own conditions and called in the same way."""
        if (skip, identity) not in self._views:
            view = perturbed(self.unet, skip, identity)
            call = called(view, self.call.path, self.call.reason)
            self._views[skip, identity] = partial(_told, call, view)
        return self._views[skip, identity]

    def size_seen(self, height: int, width: int) -> tuple[int, int]:
        """The size that height x width latents have for the network."""
        k = 1 if self.latent_size is None else enlargement(height, width, self.latent_size)
        return k * height, k * width


def _told(call: Compiled, view: UNet, z: Tensor, t: Tensor, condition: Condition, temporal: bool) -> Tensor:
    """What a view says under a condition of the UNet that it is one of."""
    return call(z, t, replace(condition, network=view), temporal=temporal)


def in_parts(forward: Forward, frames: int, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
    """An image model's `forward` of z (b c f h w), `frames` frames of all rows at a time: to it they are a batch."""
    return torch.cat([forward(part, t, condition) for part in z.split(frames, dim=2)], dim=2)
