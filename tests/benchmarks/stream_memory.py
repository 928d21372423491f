"""The most memory that features of a folder of videos take: a tenth of UCF-101 by default, 1,332 clips.

    python tests/benchmarks/stream_memory.py [--clips 1332] [--distinct 60]

Writes --distinct AVIs of UCF-101's kind (XviD, 320x240, 25 frames a second, 7.2 s) and gives them --clips names by
links. A process of its own takes 16 frames of each from a random place and makes of them features as long as I3D's, 400
means of pixels, so that what is seen is the reading and not a network. Its peak of resident memory stands in the table
after the first 100 clips and after more; it may grow by the features alone, 1,600 bytes a clip. Then the same of one
film of five minutes, against what it had before. Linux or macOS; 20 MB of disk.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from ivmix.benchmarks.rules import ClipRule
from ivmix.benchmarks.videos import VideoSet, read_ruled
from ivmix.evaluation.extractors import Extractor
from ivmix.evaluation.preprocessing import Preprocessing, Resize
from ivmix.evaluation.protocols import Extraction

RULE, BATCH, LENGTH, SIZE = ClipRule(16, start="random"), 8, 180, (240, 320)
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


def features_of(folder: Path) -> list[tuple[int, int, float, int]]:
    """Clips so far, peak, seconds, bytes of features."""
    torch.set_num_threads(1)
    shown = Preprocessing(16, resize=Resize("square", side=20))
    pooled = Extractor("pooled", Extraction("i3d", shown), lambda x: x.mean((1, 2)).flatten(1), {}, torch.device("cpu"))
    videos, begin = VideoSet.of_pattern(folder, "*/v_*.avi", RULE), time.perf_counter()
    rows: list[torch.Tensor] = []

    def measured() -> Iterator[tuple[int, int, float, int]]:
        for batch in videos.batches(BATCH, shown):
            rows.extend(pooled(batch).unbind())
            done, before = len(rows), len(rows) - len(batch)
            if done == len(videos) or any(before < at <= done for at in WATCHED):
                yield done, peak(), time.perf_counter() - begin, sum(row.nbytes for row in rows)

    return list(measured())


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
            table = process.submit(features_of, folder).result()
        with ProcessPoolExecutor(1, context) as process:
            more, seconds = process.submit(one, folder / "long.avi").result()
    print("| clips | peak memory | more than before | features | as frames | time a clip |\n|---|---|---|---|---|---|")
    frames = RULE.frames * SIZE[0] * SIZE[1] * 3
    last = None
    for clips, most, passed, features in table:
        grown = "" if last is None else f"{(most - last) / 1e6:.2f} MB"
        print(
            f"| {clips:,} | {most / 1e6:.1f} MB | {grown} | {features / 1e6:.2f} MB | {clips * frames / 1e6:,.0f} MB "
            f"| {1e3 * passed / clips:.0f} ms |"
        )  # fmt: skip
        last = most
    print(
        f"\n{RULE.frames} frames of one film of {LONG:,}: {more / 1e6:.1f} MB more, {seconds:.1f} s; "
        f"all its frames are {LONG * frames / RULE.frames / 1e6:,.0f} MB"
    )


if __name__ == "__main__":
    main()
