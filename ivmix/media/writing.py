"""Frames written as videos: .mp4, .gif, .webp, folders of PNG files, and animated PNG for notebooks."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Real
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream
from PIL import Image

from ivmix.media.files import StrPath, check_writable, replacing, target_of
from ivmix.media.frames import Frames, check_frames, upscale


@dataclass(frozen=True)
class _Encoder:
    """How FFmpeg writes one kind of file."""

    container: str
    codec: str
    pixels: str
    options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)


def _encoder(suffix: str) -> _Encoder:
    """The encoder of a suffix, visually lossless or better."""
    if suffix == ".gif":
        return _Encoder("gif", "gif", "pal8", container_options={"loop": "0"})
    if suffix == ".webp":
        return _Encoder("webp", "libwebp", "bgra", {"lossless": "1"}, {"loop": "0"})
    faststart = {"movflags": "+faststart"}  # a browser can play it while it loads
    if "libx264" in av.codecs_available:
        return _Encoder("mp4", "libx264", "yuv420p", {"crf": "14"}, faststart)
    return _Encoder("mp4", "mpeg4", "yuv420p", {"qmin": "1", "qmax": "2"}, faststart)


def check_fps(fps: float) -> None:
    """Raises ValueError unless videos can be written at `fps` frames per second."""
    if not isinstance(fps, Real) or not 0.1 <= fps <= 1000:
        raise ValueError(f"fps is {fps!r}; expected frames per second, from 0.1 to 1000")


def write_video(frames: Frames, path: StrPath, fps: float = 8, upscaled: bool = True) -> None:
    """Writes frames `f h w c` as a video; the suffix of `path` decides how.

    .mp4 is H.264 (MPEG-4 part 2 where FFmpeg lacks libx264), yuv420p, BT.709, visually lossless; an odd side is made
    even by repeating its last row or column. .webp is animated and lossless, .gif has one palette of 256 colours. No
    suffix, or a trailing slash, is a folder of frame_000.png … at no particular rate; an existing folder is replaced if
    it holds nothing but such frames. Small frames are enlarged first (`upscale`), unless `upscaled` is False: then .mp4
    holds one colour for each square of 2 x 2 pixels, as its format has it.

    Atomic and deterministic: see `ivmix.media`. Raises ValueError naming the argument, OSError naming path and remedy.
    """
    check_frames(frames)
    check_fps(fps)
    check_writable(path)
    target, suffix = target_of(path)
    if upscaled:
        frames = upscale(frames)
    with replacing(target) as temporary:
        if suffix:
            _encode(frames, temporary, _encoder(suffix), Fraction(float(fps)).limit_denominator(1001))
        else:
            temporary.mkdir()
            for index, frame in enumerate(frames):
                Image.fromarray(frame).save(temporary / f"frame_{index:03d}.png")


def _encode(frames: Frames, path: Path, encoder: _Encoder, rate: Fraction) -> None:
    if encoder.pixels == "yuv420p":
        frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    options = {"fflags": "+bitexact", **encoder.container_options}
    with av.open(str(path), "w", format=encoder.container, options=options) as output:
        stream = cast(VideoStream, output.add_stream(encoder.codec, rate=rate, options=dict(encoder.options)))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = encoder.pixels
        stream.codec_context.thread_count = 1
        if encoder.pixels == "yuv420p":  # without these tags, players guess the matrix
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
        for index, picture in enumerate(_pictures(frames, encoder.pixels)):
            picture.pts = index
            picture.time_base = 1 / rate
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))


def _pictures(frames: Frames, pixels: str) -> Iterator[av.VideoFrame]:
    """FFmpeg's own frames, in the encoder's pixel format."""
    if pixels == "pal8":
        f, h, w, _ = frames.shape
        flat = Image.fromarray(frames.reshape(f * h, w, 3))
        indexed = flat.quantize(256)  # one palette for all frames: exact, or a good one to dither with
        table = np.array(indexed.getpalette(), np.uint8).reshape(-1, 3)
        palette = np.full((256, 4), 255, np.uint8)  # alpha, red, green, blue
        palette[: len(table), 1:] = table
        exact = flat.getcolors(256) is not None
        for frame, indices in zip(frames, np.asarray(indexed).reshape(f, h, w), strict=True):
            if not exact:
                indices = np.asarray(Image.fromarray(frame).quantize(palette=indexed))
            yield av.VideoFrame.from_ndarray((indices, palette), format="pal8")  # type: ignore[arg-type]
        return
    for frame in frames:
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        if pixels == "yuv420p":
            picture = picture.reformat(format=pixels, dst_colorspace="ITU709", interpolation="AREA")
        yield picture


def animated_png(frames: Frames, fps: float = 8) -> bytes:
    """Frames `f h w c` as an animated PNG, lossless and endless: what notebooks show, as any page shows a PNG.

    Small frames are enlarged first (`upscale`). Raises ValueError for anything but such frames.
    """
    check_frames(frames)
    first, *rest = (Image.fromarray(frame) for frame in upscale(frames))
    buffer = io.BytesIO()
    first.save(buffer, "png", save_all=True, append_images=rest, duration=1000 / fps, loop=0)
    return buffer.getvalue()
