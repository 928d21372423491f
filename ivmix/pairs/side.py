"""One model of a pair, with all that it needs to be asked: network, text encoder, tokenizer, schedule, prediction."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from ivmix.models import Condition, MotionConfig, T5Tokenizer, Tokenizer, perturbed
from ivmix.models.checkpoints.load import TextEncoder
from ivmix.models.compile import Compiled, called
from ivmix.models.predictor import Predictor
from ivmix.pairs.facts import RunAs
from ivmix.pairs.reader import Reader, Reading
from ivmix.pairs.trained_as import Prediction, in_words
from ivmix.solvers import Boundary, Network, Schedule, Windows, enlarged, windowed
from ivmix.solvers.algebra.network import Forward, enlargement


@dataclass(frozen=True, eq=False)
class Side:
    """One model of a pair with all it needs to read a prompt."""

    name: str  # "image" or "video": the name evaluations are counted under
    unet: Predictor  # or a transformer: whatever predicts
    reader: Reader  # of its prompts
    tokenizer: Tokenizer | T5Tokenizer
    schedule: Schedule
    prediction: Prediction
    source: Mapping[str, str]  # of prediction and schedule: "pair", "option", or the file of the model that says it
    fps: float | None  # what a network that asks for it is told
    clip_skip: int  # the text encoder's layer that is read, counted from the end
    latent_size: int | None  # the side of latents it was trained on, to which much smaller ones are enlarged
    call: Compiled  # of the network
    consistency: bool = False  # whether it tells where a trajectory ends, and has no scores
    _views: dict[Hashable, Callable[..., Tensor]] = field(default_factory=dict, init=False, repr=False)  # `seen` so far

    @property
    def text_encoder(self) -> TextEncoder:
        """Read from its files if it is not in memory."""
        return self.reader.in_memory

    @property
    def run_as(self) -> RunAs:
        """What the model is taken for, and what says so: all that decides its predictions beside its files."""
        temporal = self.unet.config.temporal
        norm = ("diffusers" if temporal.joint_norm else "authors") if isinstance(temporal, MotionConfig) else None
        run_as: RunAs = {
            "prediction": self.prediction, "schedule": self.schedule.to_config(), "from": dict(self.source),
            "clip_skip": self.clip_skip, "fps": self.fps, "latent_size": self.latent_size, "motion_norm": norm,
        }  # fmt: skip
        return {**run_as, "consistency": True} if self.consistency else run_as

    @property
    def announcement(self) -> str:
        """Prediction and schedule in one line."""
        told = {"prediction": self.prediction, "schedule": in_words(self.schedule.to_config())}
        if len(set(self.source.values())) == 1:
            return f"{self.name} model: prediction {' on '.join(told.values())} ({self.source['schedule']})"
        said = (f"{value} ({self.source[name]})" for name, value in told.items())
        return f"{self.name} model: prediction {' on '.join(said)}"

    def condition(self, prompts: Sequence[str], raw: bool = False) -> Condition:
        """Reads the prompts and, unless `raw`, their weights once: what this side's network is told at every step."""
        text = self.reader.read(prompts, self.how(raw))
        states = text.states.to(self.unet.dtype)
        self.unet.check_context(states)  # first of all: another family is told other things beside it
        return self.unet.condition(states, fps=self.fps, **({} if text.mask is None else {"mask": text.mask}))

    def how(self, raw: bool) -> Reading:
        """How its prompts are read."""
        return Reading(self.tokenizer, self.clip_skip, raw)

    def network(
        self, schedule: Schedule | None = None, image_frames: int | None = None, windows: Sequence[Windows] = ()
    ) -> Network:
        """The adapter of one run, on the side's own schedule or another, asked by `windows` of the latents.

        An image model takes a video as it is: without temporal layers, frames are a batch, `image_frames` at a time.
        """

        def adapted(call: Callable[..., Tensor]) -> Forward:
            forward: Forward = partial(call, temporal=self.name == "video")
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
            call = called(view, self.call.path, self.call.reason)
            self._views[skip, identity] = partial(_told, call, view)
        return self._views[skip, identity]

    def size_seen(self, height: int, width: int) -> tuple[int, int]:
        """The size that height x width latents have for the network."""
        k = 1 if self.latent_size is None else enlargement(height, width, self.latent_size)
        return k * height, k * width


def _told(call: Compiled, view: Predictor, z: Tensor, t: Tensor, condition: Condition, temporal: bool) -> Tensor:
    """What a view says under a condition of the network that it is one of."""
    return call(z, t, replace(condition, network=view), temporal=temporal)


def in_parts(forward: Forward, frames: int, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
    """An image model's `forward` of z (b c f h w), `frames` frames of all rows at a time: to it they are a batch."""
    return torch.cat([forward(part, t, condition) for part in z.split(frames, dim=2)], dim=2)
