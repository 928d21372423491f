"""A pair: one image and one video diffusion model that share latents, in one folder described by pair.json.

pair.json, version 1:

    {"format": 1, "name": "…", "licence": "…", "vae": "vae",
     "image": {"unet": "…", "text_encoder": "…", "tokenizer": "…", "schedule": {"kind": …}, "prediction": "epsilon"},
     "video": {… the same keys …},
     "frames": 8, "height": 32, "width": 32, "fps": 8,
     "defaults": {"sampler": "…", "negative_prompt": "", "<sampler>": {option: value, …}, …}}

Paths are relative to the folder and may coincide. Each of them is a diffusers-style subfolder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ivmix.models import VAE, CLIPText, CLIPTextConfig, Condition, Tokenizer, UNet, UNetConfig, VAEConfig, load_folder
from ivmix.models.folder import read_json
from ivmix.solvers import Network, Schedule

FORMAT = 1
EMBEDDED = {"sprites": Path(__file__).parent / "sprites" / "pair"}


@dataclass(frozen=True, eq=False)
class Side:
    """One model of a pair with all it needs to read a prompt."""

    name: str  # "image" or "video": the name evaluations are counted under
    unet: UNet
    text_encoder: CLIPText
    tokenizer: Tokenizer
    schedule: Schedule
    prediction: Any  # "epsilon", "x0", "v" or "flow"

    def condition(self, prompts: Sequence[str]) -> Condition:
        """Reads the prompts once: what this side's network is told at every step."""
        tokens = self.tokenizer(prompts).to(self.unet.conv_in.weight.device)
        return self.unet.condition(self.text_encoder(tokens))

    def network(self) -> Network:
        """The adapter of one run. An image model takes a video as it is: without motion modules, frames are a batch."""
        return Network(self.unet, self.schedule, self.prediction, self.name, dtype=self.unet.conv_in.weight.dtype)


@dataclass(frozen=True, eq=False)
class Pair:
    name: str
    source: str  # what names it: an embedded pair's name, or its folder
    folder: Path
    image: Side
    video: Side
    vae: VAE
    frames: int
    height: int  # pixels, like width
    width: int
    fps: int
    defaults: dict[str, Any]

    @property
    def device(self) -> torch.device:
        return self.vae.post_quant_conv.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.vae.post_quant_conv.weight.dtype

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(c, f, h, w) of one sample. Raises ValueError for sizes the networks cannot take."""
        factor = self.vae.config.factor
        multiple = factor * 2 ** max(len(s.unet.config.block_out_channels) - 1 for s in (self.image, self.video))
        for name, value in (("height", height), ("width", width)):
            if value < 1 or value % multiple:
                raise ValueError(
                    f"{name}={value}: expected a positive multiple of {multiple} pixels for pair {self.name!r}"
                )
        longest = self.video.unet.config.max_frames
        if frames < 1 or (longest and frames > longest):
            upper = f" to {longest}" if longest else " or more"
            raise ValueError(f"frames={frames}: expected 1{upper} for pair {self.name!r}")
        return self.vae.config.latent_channels, frames, height // factor, width // factor


def locate(name_or_folder: str | Path) -> Path:
    """The folder of a pair: an embedded one by name, or any folder that holds a pair.json."""
    if str(name_or_folder) in EMBEDDED:
        return EMBEDDED[str(name_or_folder)]
    folder = Path(name_or_folder)
    if (folder / "pair.json").is_file():
        return folder
    raise ValueError(
        f"pair {str(name_or_folder)!r}: expected one of {', '.join(sorted(EMBEDDED))}, or a folder with a pair.json"
    )


def load_pair(
    name_or_folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Pair:
    """Loads every network of a pair; folders named twice are loaded once. Raises ValueError or FileNotFoundError."""
    folder = locate(name_or_folder)
    source = str(name_or_folder) if str(name_or_folder) in EMBEDDED else str(folder.resolve())
    raw = read_json(folder / "pair.json")
    if raw.get("format") != FORMAT:
        raise ValueError(f"{folder / 'pair.json'} has format {raw.get('format')!r}: this version reads format {FORMAT}")
    loaded: dict[Path, Any] = {}

    def load(network: Any, config: Any, path: str) -> Any:
        place = (folder / path).resolve()
        if place not in loaded:
            loaded[place] = load_folder(network, config, place, device, dtype)
        return loaded[place]

    def side(name: str) -> Side:
        entry = raw[name]
        text_encoder = load(CLIPText, CLIPTextConfig, entry["text_encoder"])
        tokenizer = Tokenizer.from_folder(folder / entry["tokenizer"], text_encoder.config.max_position_embeddings)
        unet = load(UNet, UNetConfig, entry["unet"])
        return Side(name, unet, text_encoder, tokenizer, Schedule.from_config(entry["schedule"]), entry["prediction"])

    try:
        return Pair(
            raw["name"], source, folder, side("image"), side("video"), load(VAE, VAEConfig, raw["vae"]), raw["frames"],
            raw["height"], raw["width"], raw["fps"], raw["defaults"],
        )  # fmt: skip
    except KeyError as missing:
        raise ValueError(f"{folder / 'pair.json'} lacks the entry {missing}") from None
