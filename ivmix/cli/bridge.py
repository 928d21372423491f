"""`ivmix bridge`: a pair of two models whose latents are others, and what lies between, measured on pictures."""

import argparse
from typing import TYPE_CHECKING, Any

from ivmix.cli.options import output_folder, say
from ivmix.cli.preview_map import find_vae

if TYPE_CHECKING:
    from torch import Tensor


MEASURED = 64  # frames, at most, evenly among all: more tell no other levels
STEPS = 1500  # of the training of maps


def add(commands: Any) -> None:
    command = commands.add_parser(
        "bridge",
        help="make a pair of two models that have latents of their own",
        description="Writes a pair of the video model of one pair and the image model of another, each in latents of "
        "its own. Pictures tell the levels at which both latents hide as much, and what a round trip changes; with "
        "--maps, small networks are fitted to them that carry latents in place of decoding and encoding. Pictures are "
        "cropped to the video's size: some dozens like what will be drawn, for --maps some hundreds. Of the models, "
        "only the autoencoders are loaded.",
        epilog="examples:\n"
        "  ivmix bridge my-pictures/*.jpg --video animatediff --image animatediff-sdxl --scale 2 -o stills\n"
        "  ivmix sample 'a red cat' --pair stills -o out.mp4\n"
        "  ivmix bridge clip-*.mp4 --video animatediff --image animatediff --image-model my-sdxl/ --scale 2 --maps "
        "-o mine",
    )
    command.add_argument("clips", nargs="+", metavar="CLIP", help="a film, a picture, or a folder of the frames of one")
    command.add_argument("--video", required=True, metavar="NAME|FOLDER", help="whose video model it is, and its "
                         "frames, size and defaults")  # fmt: skip
    command.add_argument("--image", required=True, metavar="NAME|FOLDER", help="whose image model it is")
    command.add_argument("--video-model", metavar="SOURCE", help="in place of the video model, as in `ivmix sample`")
    command.add_argument("--motion", metavar="SOURCE", help="likewise, of its motion modules")
    command.add_argument("--image-model", metavar="SOURCE", help="in place of the image model, with its autoencoder")
    command.add_argument("--scale", type=int, default=1, metavar="K", help="frames are K times as large for the image "
                         "model: 2 for one of 1024x1024 beside a video of 512x512 (default: %(default)s)")  # fmt: skip
    command.add_argument("--maps", action="store_true", help="fit and use learned maps of latents, not pixels")
    command.add_argument("--steps", type=int, metavar="N", help=f"of their training (default: {STEPS})")
    command.add_argument("--device", default="auto", help="cpu, cuda, … (default: auto)")
    command.add_argument("-o", "--output", required=True, metavar="FOLDER", help="of the pair: it must not exist")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    import json
    import warnings
    from pathlib import Path
    from tempfile import TemporaryDirectory

    import torch

    from ivmix.devices import find_device
    from ivmix.generation.memory import frames_at_once
    from ivmix.media import write_text
    from ivmix.models import load_vae, save_folder
    from ivmix.pairs.bridge import MAPS, PairBridge, read_levels
    from ivmix.pairs.crossing import SIGMAS, encoded, level_pairs, round_trip
    from ivmix.pairs.description import describe
    from ivmix.pairs.joining import joined, one_space, own_vae
    from ivmix.pairs.mapping import check_frames, fit_maps
    from ivmix.pairs.swaps import Swaps, check_there, with_swaps
    from ivmix.progress import progress_bar
    from ivmix.typed import whole

    scale = whole("--scale", options.scale, 1, 16)
    steps = STEPS if options.steps is None else whole("--steps", options.steps, 1)
    if options.steps is not None and not options.maps:
        raise ValueError(f"--steps={steps}: expected --maps beside it, as nothing is trained without")
    folder, device = output_folder(options.output), find_device(options.device)
    if folder.exists():
        raise FileExistsError(f"-o {folder}: there already, expected the name of a new folder")
    swaps = Swaps(video_model=options.video_model, motion=options.motion), Swaps(image_model=options.image_model)
    for one in swaps:
        check_there(one)
    video, image = (
        with_swaps(describe(name)[0], Swaps.from_dict(own.to_dict()))
        for name, own in zip((options.video, options.image), swaps, strict=True)
    )
    across = own_vae(image)
    clips = read_pictures(options.clips, video)
    if options.maps:
        check_frames(clips)
    some = clips[:: -(-len(clips) // MEASURED)]
    here, there = (
        load_vae(find_vae(raw, entry["vae"]), scaling_factor=entry.get("vae_scaling"), device=device,
                 dtype=torch.float32)
        for raw, entry in ((video, video), (image, across))
    )  # fmt: skip
    at_once = frames_at_once(scale * video["height"], scale * video["width"])
    if one_space(here, there):
        warnings.warn("both models have the same autoencoder: without a bridge they mix with no loss, as `ivmix sample "
                      "--pair` with --image-model or --video-model", stacklevel=1)  # fmt: skip
    say(f"measuring levels on {len(some)} of {len(clips)} frames")
    with progress_bar(2 * len(SIGMAS), True, desc="levels", unit="level") as bar:
        levels = level_pairs(here, there, some, scale, at_once, step=bar.update)
    entry: Any = {"levels": levels, **({"scale": scale} if scale > 1 else {})}
    maps, fitted = None, {}
    if options.maps:
        with progress_bar(steps, True, desc="maps") as bar:
            maps, explained = fit_maps(here, there, clips, scale, steps, at_once, step=bar.update)
        fitted = dict(zip(MAPS, maps, strict=True))
        entry |= {name: name for name in fitted}
    raw = joined(video, image, entry, folder.name)
    with torch.no_grad():
        bridge = PairBridge(there, read_levels(entry), scale, maps).between(here, at_once)
        grey, deviation = round_trip(bridge, here, encoded(here, some, 1, at_once), at_once)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as unfinished:
        new = Path(unfinished, folder.name)
        new.mkdir()
        for name, network in fitted.items():
            save_folder(network, new / name)
        write_text(json.dumps(raw, indent=2, ensure_ascii=False) + "\n", new / "pair.json")
        describe(new)
        new.rename(folder)
    if maps is not None:
        to_image, to_video = (f"{share:.1%}" for share in explained)
        say(f"maps explain {to_image} of the image model's latents and {to_video} of the video model's, of frames they "
            "do not know")  # fmt: skip
    say("levels of equal signal to noise: " + ", ".join(f"{a:g} -> {b:g}" for a, b in levels))
    say(f"a round trip changes {grey:.1f} grey levels of 255, {deviation:.2f} of the latents' deviation")
    say(f"{folder}: {raw['about']} Try it:  ivmix sample 'a prompt' --pair {folder} -o out.mp4")


def read_pictures(paths: list[str], raw: dict[str, Any]) -> "Tensor":
    """Frames (n 3 1 H W) in [-1, 1] of all films and pictures, at most a clip's of each, cropped to a pair's size."""
    import numpy as np
    import torch

    from ivmix.media import fit, read_clip

    found = []
    for path in paths:
        frames = read_clip(path, limit=raw["frames"]).frames
        found.append(fit(frames, len(frames), raw["height"], raw["width"])[0])
    pixels = torch.from_numpy(np.concatenate(found)).permute(0, 3, 1, 2)[:, :, None]
    return pixels.float() / 127.5 - 1
