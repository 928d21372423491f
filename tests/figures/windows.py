"""What windows keep of a clip: of one whose frames are alike, in closed form, and of the embedded pair's, whose own
clips have 8 frames, at 32 and 64.

    python tests/figures/windows.py [--clips 8] [--steps 10] [-o notebooks/data/windows.json] [--sheet windows.png]

Beside windows of 8 frames stand a clip repeated and clips drawn one by one, both of which have a joint every 8 frames.
Of those everything is of a step from one frame to the next, as the judge reads it: at joints (of windows: at the same
frames) and elsewhere. Per arm, means over clips and their standard errors. In closed form it is the covariance of the
clips that the windowed ODE draws.
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
from ivmix.solvers import (
    Denoiser,
    DPMSolverPP2M,
    Schedule,
    Windows,
    as_affine,
    initial_noise,
    integrate,
    plain,
    rescheduled_noise,
    windowed,
)
from ivmix.solvers.theory.analytic import Gaussian
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


def closed_form(frames: int = 64, alike: float = 0.9) -> dict[str, dict[str, float]]:
    """Of Gaussian clips any two of whose frames have correlation `alike`, drawn in windows of `OWN`: the variance of a
    frame, 1 in truth, and the correlation of frames so far apart."""

    def alike_among(n: int) -> Gaussian:
        return Gaussian(0.0, alike * torch.ones(n, n, dtype=torch.float64) + (1 - alike) * torch.eye(n))

    sigmas = Schedule.ve(0.002, 1000.0).grid(300, "karras")
    start = sigmas[0] * torch.eye(frames, dtype=torch.float64).reshape(frames, 1, frames, 1, 1)  # one noise a row

    def drawn(denoise: Denoiser, repeated: Tensor | None = None) -> dict[str, float]:
        run = integrate(as_affine(denoise, "video"), plain(sigmas, solver=DPMSolverPP2M()), start)
        linear = run.x.reshape(frames, frames).mT
        linear = linear if repeated is None else linear @ repeated
        K = linear @ linear.mT
        R = K / K.diag().sqrt() / K.diag().sqrt()[:, None]
        apart = {f"{d} apart": round(R.diagonal(d).mean().item(), 3) for d in (1, 4, 8, 12, 16, 32)}
        return {"variance": round(K.diag().mean().item(), 3), **apart}

    found = {"whole": drawn(alike_among(frames))}
    for overlap in (0, 2, 4, 6):
        found[f"overlap {overlap}"] = drawn(windowed(alike_among(OWN), Windows(OWN, overlap)))
    elsewhere = Windows(OWN, OWN // 2, shift=lambda sigma: 618 * sigma.item() % 1)  # as good as at random
    found["overlap 4, shifted at every level"] = drawn(windowed(alike_among(OWN), elsewhere))
    order = rescheduled_noise([0], (1, frames, 1, 1), OWN, OWN // 2).reshape(frames, 1)
    repeated = (order == initial_noise([0], (1, OWN, 1, 1)).reshape(1, OWN)).double()
    found["overlap 4, freenoise"] = drawn(windowed(alike_among(OWN), Windows(OWN, OWN // 2)), repeated)
    return found


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
    report = {"pair": model.pair.name, "weights": fingerprint(model.pair, judge=judge), "torch": torch.__version__,
              "clips": len(captions), **call, "window": OWN, "closed_form": closed_form(), "columns": COLUMNS,
              "arms": found}  # fmt: skip
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
