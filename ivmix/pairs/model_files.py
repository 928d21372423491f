"""What a model's own files hold and say: a pipeline's folder or repository, a part's folder, or a single file."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ivmix.models import UNetConfig, VAEConfig, inspect
from ivmix.models.checkpoints.folders import Local
from ivmix.models.checkpoints.hub import Hub, parse
from ivmix.models.checkpoints.load import read_config
from ivmix.pairs.description import NETWORKS, PARTS
from ivmix.pairs.trained_as import CONFIG, TrainedAs, read_file, read_scheduler
from ivmix.sprites.averaging.unet import AVERAGING


def parts_of(model: str, hub: Hub, drop: Sequence[str] = ()) -> dict[str, str]:
    """Sources of the parts of a model: subfolders of a pipeline's folder or repository, or all in one file."""
    if model.startswith("hub:"):
        place, names = parse(model), hub.names(model)
        held = [part for part in (*PARTS, "vae", "scheduler") if any(name.startswith(f"{part}/") for name in names)]
        if held:
            return {part: str(place / part) for part in held}
    elif any((Path(model) / part).is_dir() for part in NETWORKS):
        return {part: str(Path(model) / part) for part in (*PARTS, "vae", "scheduler") if (Path(model) / part).is_dir()}
    parts = {part.name: model for part in inspect(on_this_machine(model, hub), drop, [AVERAGING]).parts}
    return parts | (scheduler_beside(model, hub) if parts.keys() & set(NETWORKS) else {})


def read_trained_as(
    model: str, held: Mapping[str, str], needed: Collection[str], hub: Hub, drop: Sequence[str]
) -> TrainedAs:
    """What a model's own files say of `needed`: a pipeline's scheduler, or a single file itself."""
    if (scheduler := held.get("scheduler")) is not None:
        if scheduler.startswith("hub:"):
            return replace(read_scheduler(hub.fetch(scheduler, "scheduler").weights, needed), file=scheduler)
        return read_scheduler(Path(scheduler, CONFIG), needed)
    if model not in held.values():  # a pipeline without one
        return TrainedAs(model)
    found = inspect(on_this_machine(model, hub), drop)
    return read_file(model, found.metadata, found.keys, needed)


def scheduler_beside(network: str, hub: Hub) -> dict[str, str]:
    """The scheduler of the pipeline that a network's folder lies in, if it does."""
    if network.startswith("hub:"):
        place = parse(network)
        pipeline = replace(place, path=place.path.rpartition("/")[0])
        inside = PurePosixPath(place.path).name in NETWORKS and f"scheduler/{CONFIG}" in hub.names(str(pipeline))
        return {"scheduler": str(pipeline / "scheduler")} if inside else {}
    folder = Path(network).absolute()
    inside = folder.name in NETWORKS and (folder.parent / "scheduler" / CONFIG).is_file()
    return {"scheduler": str(folder.parent / "scheduler")} if inside else {}


def latent_scale(vae: str, hub: Hub, drop: Sequence[str] = ()) -> float | None:
    """What a model's own autoencoder scales latents by; None where that is not to be had without its weights."""
    if vae.startswith("hub:"):
        try:
            return read_config(VAEConfig, hub.fetch(str(parse(vae) / "config.json"), "vae").weights).scaling_factor
        except (FileNotFoundError, ValueError):
            return None
    if (config := Path(vae, "config.json")).is_file():
        return read_config(VAEConfig, config).scaling_factor
    found = [part.config for part in inspect(vae, drop).parts if part.name == "vae"]
    return found[0].scaling_factor if found and found[0] is not None else None


def nothing_known(model: str, hub: Hub, drop: Sequence[str]) -> str:
    """Why a file holds no network, and what may help."""
    problem = inspect(on_this_machine(model, hub), drop).problem or "all that it holds is left out"
    return f"nothing known: {problem}; --drop PATTERN (drop= in Python) leaves out keys that are no network's"


def on_this_machine(model: str, hub: Hub) -> str | Local:
    """A folder or file as it is named, one of the hub as the file that it is here."""
    return hub.fetch(model, "") if model.startswith("hub:") else model


def has_temporal_layers(unet: str, hub: Hub, drop: Sequence[str] = ()) -> bool:
    """Whether a UNet has them: then it needs no motion modules."""
    if unet.startswith("hub:"):
        place = parse(unet) / "config.json"
        beside = place.path.removeprefix(parse(unet).prefix) in hub.names(unet)
        config = hub.fetch(str(place), "unet").weights if beside else None
        unet = str(config.parent if config else hub.fetch(unet, "unet").weights)
    config = Path(unet) / "config.json"
    if config.is_file():
        return read_config(UNetConfig, config).temporal is not None
    configs = [part.config for part in inspect(unet, drop, [AVERAGING]).parts if part.name == "unet"]
    return any(config is not None and config.temporal is not None for config in configs)


def check_scale(own: str, scale: float | None, shared: float) -> None:
    """Warns of an image model whose own autoencoder is another than the pair's, as far as their scales tell."""
    if scale is not None and scale != shared:
        warnings.warn(
            f"image model: its own autoencoder {own} scales latents by {scale:g}, the pair's by {shared:g}: they seem "
            "to have no latents in common, and what it says of the video model's is then meaningless", stacklevel=3,
        )  # fmt: skip
