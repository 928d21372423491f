"""The most memory that features of a folder of videos take: a tenth of UCF-101 by default, 1,332 clips.

    python tests/benchmarks/stream_memory.py [--clips 1332] [--distinct 60]

Writes --distinct AVIs of UCF-101's kind (XviD, 320x240, 25 frames a second, 7.2 s) and gives them --clips names by
links. A process of its own takes 16 frames of each from a random place and makes of them features as long as I3D's, 400
means of pixels, so that what is seen is the reading and not a network. The table has its peak of resident memory after
the first 100 clips and after more. It should grow by the features, 1,600 bytes a clip, and no further once malloc has
found places for blocks of a clip's size (glibc asks for them anew, and so finds them at once, with
MALLOC_MMAP_THRESHOLD_=1000000 in the environment). Then the same of one film of five minutes, against what the process
had before. Linux or macOS; 40 MB of disk.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from ivmix.benchmarks.rules import ClipRule
from ivmix.benchmarks.videos import VideoSet, features_of, read_ruled
from ivmix.evaluation.extractors import Extractor
from ivmix.evaluation.preprocessing import Preprocessing, Resize
from ivmix.evaluation.protocols import Extraction

RULE, LENGTH, SIZE = ClipRule(16, start="random"), 180, (240, 320)
WATCHED = (100, 250, 500, 1000)  # clips after which memory is looked at, and after all
LONG = 5 * 60 * 25  # frames


def film(path: Path, length: int, seed: int) -> None:
    """Random colours that drift: no two frames alike."""
    h, w = SIZE
    ground = np.random.default_rng(seed).integers(0, 256, (h // 16, w // 16, 3), dtype=np.uint8)
    ground = ground.repeat(16, 0).repeat(16, 1)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = h, w, "yuv420p"
        stream.codec_context.max_b_frames, stream.codec_context.codec_tag = 2, "XVID"
        for time in range(length):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(ground, 2 * time, 1)), format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 25)
            output.mux(stream.encode(picture.reformat(format="yuv420p")))
        output.mux(stream.encode(None))


def dataset(folder: Path, clips: int, distinct: int) -> None:
    """Class/v_Class_gXX_cYY.avi, a hundred a class, as many links to each film."""
    for seed in range(min(distinct, clips)):
        film(folder / f"{seed}.avi", LENGTH, seed)
    for k in range(clips):
        name = f"Class{k // 100:03}"
        (folder / name).mkdir(exist_ok=True)
        os.link(folder / f"{k % distinct}.avi", folder / name / f"v_{name}_g{k % 100 // 4 + 1:02}_c{k % 4 + 1:02}.avi")


def peak() -> int:
    """Bytes; macOS counts in bytes, Linux in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Watched:
    """Pooled pixels; and the peak and the time after so many clips."""

    def __init__(self, clips: int) -> None:
        self.done, self.begin = 0, time.perf_counter()
        self.at = {*WATCHED, clips}
        self.seen: list[tuple[int, int, float]] = []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(1 c f h w) -> (1, h w)."""
        self.done += 1
        if self.done in self.at:
            self.seen.append((self.done, peak(), time.perf_counter() - self.begin))
        return x.mean((1, 2)).flatten(1)


def watch(folder: Path) -> list[tuple[int, int, float]]:
    """Clips so far, peak, seconds."""
    torch.set_num_threads(1)
    videos = VideoSet.of_pattern(folder, "*/v_*.avi", RULE)
    shown, network = Preprocessing(16, resize=Resize("square", side=20)), Watched(len(videos))
    pooled = Extractor("pooled", Extraction("i3d", shown), network, {}, torch.device("cpu"))
    assert features_of(videos, pooled).shape == (len(videos), 400)
    return network.seen


def one(path: Path) -> tuple[int, float]:
    """Peak beyond what the process had, after a short film; seconds."""
    read_ruled(path.with_name("0.avi"), RULE, "")
    before, begin = peak(), time.perf_counter()
    read_ruled(path, RULE, path.name)
    return peak() - before, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1332)
    parser.add_argument("--distinct", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, context = Path(temporary), multiprocessing.get_context("spawn")
        dataset(folder, options.clips, options.distinct)
        film(folder / "long.avi", LONG, 0)
        with ProcessPoolExecutor(1, context) as process:
            table = process.submit(watch, folder).result()
        with ProcessPoolExecutor(1, context) as process:
            more, seconds = process.submit(one, folder / "long.avi").result()
    frame = SIZE[0] * SIZE[1] * 3
    columns = ["clips", "peak memory", "more than at first", "features", "frames taken", "time a clip"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for clips, most, passed in table:
        print(
            f"| {clips:,} | {most / 1e6:.1f} MB | {(most - table[0][1]) / 1e6:.2f} MB | {clips * 1600 / 1e6:.2f} MB "
            f"| {clips * 16 * frame / 1e6:,.0f} MB | {1e3 * passed / clips:.0f} ms |"
        )
    print(
        f"\n16 frames of one film of {LONG:,}: {more / 1e6:.1f} MB more, {seconds:.1f} s; "
        f"all its frames are {LONG * frame / 1e6:,.0f} MB"
    )


if __name__ == "__main__":
    main()
