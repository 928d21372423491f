"""`ivmix preview-map`: what `ivmix sample --preview` shows latents by."""

import argparse
from typing import TYPE_CHECKING, Any

from ivmix.cli.options import MODEL, say

if TYPE_CHECKING:
    from ivmix.models.checkpoints.folders import Local


def add(commands: Any) -> None:
    command = commands.add_parser(
        "preview-map",
        help="fit the colours of latents, for previews without a decode",
        description="Fits the linear map from an autoencoder's latents to colours that `ivmix sample --preview` reads: "
        "clips are encoded, and each latent's channels are held against the mean of the pixels that it is decoded to. "
        "What it explains of clips that it does not know is said, and written with it. A few dozen clips or pictures "
        "are enough, best of what will be drawn. Without a map, previews decode a piece of each clip at every step.",
        epilog="examples:\n"
        "  ivmix preview-map clip-*.webp                                    of the embedded pair\n"
        "  ivmix preview-map --pair modelscope --vae ms/vae holiday.mp4     of a folder, for whoever uses it",
    )
    command.add_argument("clips", nargs="+", metavar="CLIP", help="a film, a picture, or a folder of the frames of one")
    command.add_argument("--pair", default=MODEL["pair"], metavar="NAME|FOLDER", help="whose autoencoder it is, and at "
                         "what size and how many frames clips are read (default: %(default)s)")  # fmt: skip
    command.add_argument("--vae", metavar="SOURCE", help="another autoencoder, as in `ivmix sample` (default: the "
                         "pair's)")  # fmt: skip
    command.add_argument("--device", default=MODEL["device"], help="cpu, cuda, … (default: auto)")
    command.add_argument("-o", "--output", metavar="FILE", help="the map (default: beside the autoencoder's weights, "
                         "where alone --preview looks for it); it replaces what is there")  # fmt: skip
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    import torch

    from ivmix._version import __version__
    from ivmix.devices import find_device
    from ivmix.generation.latent_rgb import LatentRGB, block_means, held_out, map_path, write_map
    from ivmix.generation.memory import frames_at_once
    from ivmix.media import check_writable, fit, read_clip
    from ivmix.models import load_vae
    from ivmix.pairs.description import describe

    raw, _, _ = describe(options.pair)
    device = find_device(options.device)
    local = find_vae(raw, options.vae)
    path = options.output or map_path(local)
    if options.output is None and local.commit is not None:
        raise ValueError(f"{local} lies in the hub's cache: name a file with -o, for "
                         "ivmix.generation.latent_rgb.read_map")  # fmt: skip
    check_writable(path, (".json",))
    vae = load_vae(local, device=device, dtype=torch.float32)
    height, width = raw["height"], raw["width"]
    at_once = frames_at_once(height, width)
    latents, seen = list[torch.Tensor](), list[torch.Tensor]()
    for clip in options.clips:
        frames = read_clip(clip, limit=raw["frames"]).frames
        fitted, _ = fit(frames, len(frames), height, width)
        video = torch.from_numpy(fitted).to(device).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        with torch.no_grad():
            z = vae.encode(video, at_once)
            latents.append(z.cpu())
            seen.append(block_means(vae.decode(z, at_once), z.shape[-1]))
    r2, psnr = held_out(latents, seen)
    colours = LatentRGB.fitted(*(torch.cat(clips, dim=2) for clips in (latents, seen)))
    counts = {"frame": sum(z.shape[2] for z in latents), "clip": len(latents)}
    data = " of ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items())
    write_map(colours, path, f"ivmix {__version__} preview-map, of {data}", r2, psnr)
    whose = "clips that are not the map's own" if len(latents) > 1 else "this one clip"
    say(f"{path}: fitted to {data}; {r2:.1%} of the variance of {whose} explained, {psnr:.1f} dB from the decode")


def find_vae(raw: dict[str, Any], source: str | None) -> "Local":
    """The files of an autoencoder: of a source, or a pair's own."""
    from ivmix.models.checkpoints.hub import Hub
    from ivmix.models.checkpoints.sources import locate

    if source == "":
        raise ValueError("--vae '': expected a folder, a file or hub:owner/name")
    source = source or raw["vae"]
    if not source.startswith("hub:"):
        return locate(source, "vae")
    hub, variant = Hub(), raw.get("files", {}).get(source, {}).get("variant")
    found = hub.fetch(source, "vae", variant, fall_back=True)
    hub.tell_plain()
    return found
