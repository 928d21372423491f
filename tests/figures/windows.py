"""What windows keep of a clip: the embedded pair's video model, whose clips have 8 frames, at 32 and 64.

    python tests/figures/windows.py [--clips 8] [--steps 10] [-o notebooks/data/windows.json] [--sheet windows.png]

Beside windows of 8 frames stand a clip repeated and clips drawn one by one, both of which have a joint every 8 frames.
Everything is of a step from one frame to the next, as the judge reads it: at joints (of windows: at the same frames)
and elsewhere. Per arm, means over clips and their standard errors.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ivmix import TextToVideo
from ivmix.media import contact_sheet, write_image
from ivmix.pairs.pair import fingerprint
from ivmix.progress import progress_bar
from ivmix.sprites.judge import Judge
from ivmix.sprites.measure import CLEAR, distance_to_sprite, load_judge
from ivmix.sprites.world import MOTIONS, balanced_captions, parse

OWN = 8  # frames of the pair's own clips
COLUMNS = {
    "step": "pixels that the sprite moves from a frame to the next, away from joints",
    "jump": "the same at joints: every 8th frame",
    "longest": "the longest such step of the clip",
    "onward": "share of steps of more than a pixel that go the way asked",
    "change": "grey levels (0-255) that the background changes by from a frame to the next, away from joints",
    "change_at_joints": "the same at joints",
    "drift": "grey levels that the background differs by between frames half a clip apart",
    "identity": "share of frames that agree with the clip's most frequent colour and shape",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("-o", "--output", type=Path, default=Path("notebooks/data/windows.json"))
    parser.add_argument("--sheet", type=Path, help="a picture of the first clip of every arm of 32 frames")
    given = parser.parse_args()
    model = TextToVideo.from_pair("sprites", "cpu")
    judge = load_judge(model.pair)
    assert judge is not None
    captions, call = balanced_captions()[: given.clips], {"sampler": "ddim", "steps": given.steps}

    def clips(frames: int, seed: int = 0, **options: object) -> np.ndarray:
        return np.concatenate([
            model(caption, seed=seed + 100 * k, frames=frames, **call, **options).frames
            for k, caption in enumerate(captions)
        ])  # fmt: skip

    found: dict[str, dict[str, object]] = {}
    report = {"pair": model.pair.name, "weights": fingerprint(model.pair), "torch": torch.__version__,
              "clips": len(captions), **call, "window": OWN, "columns": COLUMNS, "arms": found}  # fmt: skip
    sheet: list[tuple[str, np.ndarray]] = []
    lengths = {
        32: {"overlap 0": {"overlap": 0}, "overlap 2": {"overlap": 2}, "overlap 4": {}, "overlap 6": {"overlap": 6},
             "overlap 4, freenoise": {"noise": "freenoise"}},
        64: {"overlap 4": {}, "overlap 4, freenoise": {"noise": "freenoise"}},
    }  # fmt: skip
    with progress_bar(max(lengths) // OWN + sum(map(len, lengths.values())), desc="arms") as bar:

        def add(label: str, frames: np.ndarray) -> None:
            found[label] = summary(frames, captions, judge)
            sheet.append((label, frames[0]))
            given.output.write_text(json.dumps(report, indent=1) + "\n")
            bar.update()

        one_by_one = []
        for seed in range(max(lengths) // OWN):
            one_by_one.append(clips(OWN, seed))
            bar.update()
        for length, arms in lengths.items():
            count = length // OWN
            add(f"{length} frames, repeated", np.concatenate(one_by_one[:1] * count, 1))
            add(f"{length} frames, one by one", np.concatenate(one_by_one[:count], 1))
            for label, options in arms.items():
                add(f"{length} frames, {label}", clips(length, **{"window": OWN, **options}))
    if given.sheet is not None:
        rows = [(label, frames) for label, frames in sheet if len(frames) == min(lengths)]
        write_image(contact_sheet(rows, title=captions[0]), given.sheet)


@torch.no_grad()
def summary(frames: np.ndarray, captions: Sequence[str], judge: Judge) -> dict[str, object]:
    """Of clips (b f 64 64 3), a column each: its mean over clips and the standard error of that."""
    b, f = frames.shape[:2]
    video = torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1  # (b c f h w)
    reading = judge(video.transpose(1, 2).flatten(0, 1))
    position = reading.position.double().unflatten(0, (b, f))
    kinds = (4 * reading.colour.argmax(1) + reading.shape.argmax(1)).unflatten(0, (b, f))
    move = position.diff(dim=1)  # (b f-1 2)
    length, joint = move.norm(dim=-1), torch.arange(1, f) % OWN == 0
    way = torch.tensor(list(MOTIONS.values()), dtype=torch.float64)[[parse(caption)[2] for caption in captions]]
    along, moving = (move * way[:, None]).sum(-1) / length.clamp(min=1e-9), length > 1
    change = background_change(video, position, 1)
    columns = {
        "step": length[:, ~joint].mean(1), "jump": length[:, joint].mean(1), "longest": length.amax(1),
        "onward": ((along > 0.5) & moving).sum(1) / moving.sum(1).clamp(min=1),
        "change": change[:, ~joint].mean(1), "change_at_joints": change[:, joint].mean(1),
        "drift": background_change(video, position, f // 2).mean(1),
        "identity": (kinds == kinds.mode(dim=1).values[:, None]).double().mean(1),
    }  # fmt: skip
    return {
        name: {"mean": round(values.double().mean().item(), 4),
               "error": round((values.double().std() / math.sqrt(b)).item(), 4) if b > 1 else None}
        for name, values in columns.items()
    }  # fmt: skip


def background_change(video: Tensor, position: Tensor, apart: int) -> Tensor:
    """Mean absolute difference of frames so far apart, 0-255, where neither has its sprite: (b, f - apart)."""
    clear = distance_to_sprite(position) > CLEAR
    both = (clear[:, apart:] & clear[:, :-apart])[:, None].double()
    change = (video[:, :, apart:] - video[:, :, :-apart]).abs().double() * 127.5
    return (change * both).sum((1, 3, 4)) / (3 * both.sum((1, 3, 4))).clamp(min=1)


if __name__ == "__main__":
    main()
