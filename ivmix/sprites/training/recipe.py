"""The recipe of the embedded pairs: which network is trained when, on what and for how long, and their defaults.

"sprites-crisp" is the control of "sprites": it shares all but the image model, and both have the same defaults.
"sprites-few", which is not shipped, has a student of few steps in the video model's place, and shares the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ivmix.models import VAE
from ivmix.pairs.description import FORMAT
from ivmix.sprites.judge import Judge, JudgeConfig
from ivmix.sprites.training.bridged import (
    OTHER_VAE_CONFIG,
    TRANSFORMER_CONFIG,
    Maps,
    maps_loss,
    other_vae_loss,
    save_maps,
    save_other_vae,
    save_transformer,
    transformer_loss,
)
from ivmix.sprites.training.loop import Loss, Settings
from ivmix.sprites.training.losses import (
    crisp_loss,
    detail_loss,
    half_loss,
    image_loss,
    judge_stage_loss,
    motion_loss,
    vae_loss,
    video_loss,
)
from ivmix.sprites.training.networks import (
    HALF_CONFIG,
    IMAGE_CONFIG,
    SCHEDULE,
    VIDEO_CONFIG,
    Conditioned,
    averaging_video,
    grown_vae,
    load_conditioned,
    save_conditioned,
    save_crisp,
    save_half,
    save_judge,
    save_vae,
    video_network,
)
from ivmix.sprites.training.student import save_student, student, student_loss
from ivmix.sprites.world import FRAMES, SIZE


@dataclass(frozen=True)
class Stage:
    """One training of the recipe. `needs` names stages whose saved networks it reads from the pair's folder."""

    name: str
    needs: tuple[str, ...]
    settings: Settings
    build: Callable[[Path], nn.Module]  # from the pair's folder
    loss: Callable[[Path, torch.device], Loss]
    save: Callable[[nn.Module, Path], None]


STAGES = (
    Stage("half", (), Settings(steps=3000), lambda _: VAE(HALF_CONFIG), half_loss, save_half),
    Stage("judge", (), Settings(steps=1500), lambda _: Judge(JudgeConfig()), judge_stage_loss, save_judge),
    Stage(
        "image", ("half",), Settings(steps=4000),
        lambda _: Conditioned(IMAGE_CONFIG), image_loss, save_conditioned("image"),
    ),
    Stage(
        "motion", ("half",), Settings(steps=4500, learning_rate=5e-4, warmup=20),
        lambda _: video_network(), motion_loss, save_conditioned("video"),
    ),
    Stage(
        "video", ("half", "motion"), Settings(steps=2200, learning_rate=5e-4),
        load_conditioned("video", VIDEO_CONFIG), video_loss, save_conditioned("video"),
    ),
    Stage(
        "detail", ("half", "video"), Settings(steps=4000, learning_rate=5e-4),
        load_conditioned("video", VIDEO_CONFIG), detail_loss, save_conditioned("video"),
    ),
    Stage(
        "still", ("half", "detail"), Settings(steps=3500, learning_rate=5e-4, rates={"averaging": 4.0}),
        averaging_video, detail_loss, save_conditioned("video"),
    ),
    Stage("vae", ("half",), Settings(steps=4000), grown_vae, vae_loss, save_vae),
    Stage(
        "crisp", ("vae", "image"), Settings(steps=2000, learning_rate=3e-4),
        load_conditioned("image", IMAGE_CONFIG), crisp_loss, save_crisp,
    ),
    Stage(
        "student", ("vae", "still"), Settings(steps=3000, learning_rate=3e-4), student, student_loss, save_student,
    ),
    Stage(
        "other-vae", (), Settings(steps=2000, learning_rate=2e-3),
        lambda _: VAE(OTHER_VAE_CONFIG), other_vae_loss, save_other_vae,
    ),
    Stage(
        "transformer", ("other-vae",), Settings(steps=6000),
        lambda _: Conditioned(TRANSFORMER_CONFIG), transformer_loss, save_transformer,
    ),
    Stage("maps", ("vae", "other-vae"), Settings(steps=1500), lambda _: Maps(), maps_loss, save_maps),
)  # fmt: skip
# What each sampler does unless told otherwise: chosen on seeds that are not among those reported in the model card.
DEFAULTS = {
    "sampler": "composite",
    "negative_prompt": "",
    "ddim": {"steps": 20, "guidance": 2.0},
    "image": {"steps": 20, "image_guidance": "3"},
    "zigzag": {
        "steps": 20, "guidance": 2.0, "pattern": "IV-IV", "sequence": "down-first", "image_guidance": "1",
        "video_guidance": "1", "interval": [0.0, 1.0],
    },
    "composite": {
        "steps": 10, "solver": "dpm++2m", "end": "euler", "guidance": 2.0, "pattern": "IV-IV", "image_guidance": "0.7",
        "video_guidance": "0.5", "interval": [0.0, 1.0],
    },
    "mixture": {
        "steps": 20, "solver": "dpm++2m", "end": "euler", "guidance": 2.0, "image_guidance": "3", "image_weight": 0.7,
        "interval": [0.7, 1.0],
    },
    "freeinit": {"steps": 20, "guidance": 2.0, "iterations": 5},
    "freqprior": {"steps": 20, "guidance": 2.0, "iterations": 3},
    "fdg": {"steps": 20, "guidance": 2.0, "detail_guidance": 12.0},
    "videoelevator": {"steps": 20, "guidance": 2.0, "image_guidance": "3"},
    "zsampling": {"steps": 20, "guidance": 2.0, "inversion_guidance": 0.0},
    "w2sd": {"steps": 20, "guidance": 2.0, "inversion_guidance": 0.0},
    "autoguidance": {
        "steps": 20, "solver": "dpm++2m", "end": "euler", "guidance": 2.0, "image_guidance": "0", "contrast": 2.0,
    },
    "switch": {
        "steps": 20, "solver": "dpm++2m", "end": "euler", "guidance": 2.0, "image_guidance": "3", "switch_at": 0.7,
    },
    "cfgpp": {"steps": 20, "x0_guidance": 0.9},
    "videoguide": {
        "steps": 20, "guidance": 2.0, "interval": [0.0, 0.1], "teacher_weight": 0.2, "teacher_steps": 10,
    },
    "bivdiff": {
        "steps": 20, "guidance": 2.0, "image_guidance": "3", "image_weight": 1.0, "inversion_guidance": 0.0,
    },
    # The middle of so small a UNet, the authors' layer, hardly matters to a clip: all attention to pixels does.
    "pag": {"steps": 20, "guidance": 2.0, "perturbed_layers": "attentions", "perturbed_guidance": 1.5},
    "stg": {
        "steps": 20, "guidance": 2.0, "perturbed_layers": "up_blocks.1.attentions.1,up_blocks.1.motion_modules.1",
        "perturbed_guidance": 1.0,
    },
    # Of a teacher, which is no consistency model: what its student has is in the student's pair.json.
    "lcm": {"steps": 4, "guidance": 2.0},
    "blend": {"steps": 4, "guidance": 2.0, "image_guidance": "3", "image_weight": 0.7, "interval": [0.5, 1.0]},
    "turns": {"steps": 8, "guidance": 2.0, "image_guidance": "3"},
    "official": {
        "steps": 50, "variant": "animatediff", "guidance": 2.0, "image_guidance": "1", "video_guidance": "1",
    },
}  # fmt: skip


ABOUT = "One sprite that moves. The image model draws crisp frames for captions, soft ones for the empty prompt."
ABOUT_CRISP = "The control of sprites: an image model that draws crisp frames for the empty prompt as well."
ABOUT_BRIDGED = "The video model of sprites, and an image model of other latents: a transformer, across pixels."
ABOUT_MAPPED = "The models of sprites-bridged, across learned maps of latents in place of decoding and encoding."
ABOUT_FEW = "The image model of sprites, and a student of its video model: a consistency model of few steps."


def describe(name: str = "sprites", about: str = ABOUT, shared: str = "", own: str = "image") -> dict[str, Any]:
    """pair.json of an embedded pair, whose folder is `shared` ("../pair/") but for its `own` model."""

    def side(model: str, prediction: str) -> dict[str, Any]:
        folder = model if model == own else f"{shared}{model}"
        return {"unet": f"{folder}/unet", "text_encoder": f"{folder}/text_encoder", "tokenizer": f"{shared}tokenizer",
                "schedule": SCHEDULE, "prediction": prediction}  # fmt: skip

    return {
        "format": FORMAT, "name": name, "about": about, "licence": "Apache-2.0", "vae": f"{shared}vae",
        "image": side("image", "epsilon"), "video": side("video", "v"),
        **({"judge": f"{shared}judge"} if shared else {}), "frames": FRAMES, "height": SIZE, "width": SIZE, "fps": 8,
        "defaults": DEFAULTS,
    }  # fmt: skip


def describe_crisp() -> dict[str, Any]:
    """pair.json of the control."""
    return describe("sprites-crisp", ABOUT_CRISP, "../pair/")


def describe_bridged(levels: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """pair.json of the pair whose image model lies across a bridge of pixels, of these `levels` (`Levels`)."""
    return across("sprites-bridged", ABOUT_BRIDGED, "", {"levels": levels})


def describe_mapped(levels: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """pair.json of the same across a bridge of learned maps."""
    maps = {name: name for name in ("to_image", "to_video")}
    return across("sprites-mapped", ABOUT_MAPPED, "../bridged/", {"levels": levels, **maps})


def across(name: str, about: str, folder: str, bridge: dict[str, Any]) -> dict[str, Any]:
    """pair.json of a pair whose image model, in `folder`, has latents of its own."""
    raw = describe(name, about, "../pair/", own="")
    image = {part: f"{folder}image/{part}" for part in ("transformer", "text_encoder")}
    kept = {entry: raw["image"][entry] for entry in ("tokenizer", "schedule", "prediction")}
    defaults = {"from": "sprites", "why": "What crosses is the same kind of direction, chosen for as little as there."}
    return raw | {"image": {**image, **kept, "vae": f"{folder}vae"}, "bridge": bridge, "defaults": defaults}


def describe_few() -> dict[str, Any]:
    """pair.json of the student's pair."""
    raw = describe("sprites-few", ABOUT_FEW, "../pair/", own="video")
    few = {name: {"guidance": 1.0} for name in ("lcm", "blend", "turns")}
    defaults = {"from": "sprites", "why": "Guidance is built into the student.", "sampler": "blend", **few}
    return raw | {"video": raw["video"] | {"consistency": True}, "defaults": defaults}
