"""Frames at the product's edges: video files, PNG folders, contact sheets and labelled grids.

Frames are uint8 arrays `f h w c` (c = 3, RGB). Whatever is written goes to a temporary name beside its target first and
is renamed when it is whole, so that an error, Ctrl-C or a full disk leaves the target as it was. The same frames give
the same bytes: encoders run in one thread and write no dates.
"""

import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.reformatter import Colorspace
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from torch import Tensor                                          # a type only: `ivmix` answers before torch loads

Frames = NDArray[np.uint8]                                            # f h w c
StrPath = str | os.PathLike[str]

SUFFIXES = (".mp4", ".gif", ".webp", "")                              # "" is a folder of PNG files
SHORTEST = 256                                                        # pixels on the shorter side of a written video

_FRAME = re.compile(r"frame_(\d{3,})\.png")


# Frames


def to_frames(video: "Tensor") -> Frames:
    """Pixels `b c f h w` in [-1, 1] as uint8 frames `b f h w c`, to the nearest of 256 levels.

    Values outside [-1, 1] show as the nearest displayable level: the one place where values are clamped. Raises
    ValueError for another shape and for NaN or infinite values.
    """
    if video.ndim != 5 or video.shape[1] != 3:
        raise ValueError(f"video is {tuple(video.shape)}; expected b c f h w with c = 3")
    if not bool(video.isfinite().all()):
        raise ValueError("video holds NaN or infinite values: it cannot be shown")
    levels = video.detach().cpu().float().add(1).mul(127.5).round().clamp(0, 255)
    frames: Frames = levels.permute(0, 2, 3, 4, 1).contiguous().numpy().astype(np.uint8)
    return frames


def upscale(frames: Frames, shortest: int = SHORTEST) -> Frames:
    """Frames `f h w c` enlarged by the smallest integer that brings the shorter side to at least `shortest` pixels.

    Every pixel becomes a square (nearest neighbour), nothing is blended. Larger frames come back as they are.
    """
    _check_frames(frames)
    factor = math.ceil(shortest / min(frames.shape[1:3]))
    return frames if factor <= 1 else frames.repeat(factor, axis=1).repeat(factor, axis=2)


def _check_frames(frames: Frames, name: str = "frames") -> None:
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
        raise ValueError(f"{name} is {getattr(frames, 'dtype', type(frames).__name__)}; expected a uint8 array f h w c")
    if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(f"{name} is {frames.shape}; expected f h w c with c = 3 and nothing empty")


# Files


def check_writable(path: StrPath, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Fails now if `path` could not be written later, and leaves nothing behind.

    `suffixes` are the accepted ones, "" for a folder of PNG files. Raises ValueError when the name itself will not do,
    OSError when the place will not.
    """
    target, suffix = _target(path)
    if suffix not in suffixes:
        accepted = ", ".join(s or "no suffix (a folder of PNG files)" for s in suffixes)
        hint = "; a folder whose name has a dot ends in /" if "" in suffixes else ""
        raise ValueError(f"cannot write {str(path)!r}: unknown suffix {suffix!r}, accepted: {accepted}{hint}")
    _check_place(target, folder=suffix == "")


def _target(path: StrPath) -> tuple[Path, str]:
    """The file or folder `path` names, and its suffix in lower case ("" for a folder)."""
    text = os.fspath(path)
    target = Path(text)
    if target.name in ("", ".."):
        raise ValueError(f"cannot write {text!r}: it names no file; give one such as 'out.mp4'")
    folder = text.endswith(("/", os.sep)) or "." not in target.name
    return target, "" if folder else "." + target.name.rpartition(".")[2].lower()


def _check_place(target: Path, folder: bool = False) -> None:
    """Raises OSError if `target` cannot be created or replaced."""

    def refuse(error: type[OSError], reason: str) -> None:
        raise error(f"cannot write {str(target)!r}: {reason}")

    parent = target.parent
    if not parent.exists():
        refuse(FileNotFoundError, f"folder {str(parent)!r} does not exist; create it first: mkdir -p {parent}")
    if not parent.is_dir():
        refuse(NotADirectoryError, f"{str(parent)!r} is not a folder; choose another place")
    try:
        found = target.exists()
    except OSError as error:                                          # a name too long, a loop of links
        raise OSError(error.errno, f"cannot write {str(target)!r}: {error.strerror}; choose another name") from None
    if found and folder:
        if not target.is_dir():
            refuse(NotADirectoryError, "a file of that name exists; remove it, or give a suffix such as .mp4")
        strange = sorted(p.name for p in target.iterdir() if not _FRAME.fullmatch(p.name))
        if strange:
            refuse(FileExistsError, f"the folder holds other files ({strange[0]}); choose a new or an empty folder")
    elif found and not target.is_file():
        refuse(IsADirectoryError, "it exists and is not a regular file; choose another name")
    if found and not os.access(target, os.W_OK):
        refuse(PermissionError, "it exists and is write-protected; choose another name")
    probe = _beside(target)
    try:                                                              # asking the file system is the only sure way
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = f"folder {str(parent)!r} is not writable ({error.strerror}); choose another place"
        raise OSError(error.errno, f"cannot write {str(target)!r}: {reason}") from None


def _beside(target: Path) -> Path:
    """A name for a temporary file or folder next to `target`, short so that it fits wherever `target` does."""
    return target.with_name(f".{secrets.token_hex(4)}.tmp")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that takes its place if the block succeeds and is removed if it does not."""
    temporary, old = _beside(target), _beside(target)
    try:
        yield temporary
        if target.is_dir():                                           # a folder cannot be renamed onto a full one
            target.rename(old)
            try:
                temporary.rename(target)
            except BaseException:
                old.rename(target)
                raise
        else:
            temporary.replace(target)
    finally:
        for path in (temporary, old):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def write_text(text: str, path: StrPath) -> None:
    """Writes `text` as UTF-8, atomically. Raises OSError naming path and remedy."""
    target = Path(path)
    _check_place(target)
    with _replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_image(image: Image.Image, path: StrPath) -> None:
    """Writes `image` as a PNG file, atomically. Raises ValueError for another suffix, OSError naming path and remedy."""
    check_writable(path, (".png",))
    with _replacing(Path(path)) as temporary:
        image.save(temporary, format="png")


# Videos


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
    faststart = {"movflags": "+faststart"}                            # a browser can play it while it loads
    if "libx264" in av.codecs_available:
        return _Encoder("mp4", "libx264", "yuv420p", {"crf": "14"}, faststart)
    return _Encoder("mp4", "mpeg4", "yuv420p", {"qmin": "1", "qmax": "2"}, faststart)


def write_video(frames: Frames, path: StrPath, fps: float = 8) -> None:
    """Writes frames `f h w c` as a video; the suffix of `path` decides how.

    .mp4 is H.264 (MPEG-4 part 2 where FFmpeg lacks libx264), yuv420p, BT.709, visually lossless; an odd side is made
    even by repeating its last row or column. .webp is animated and lossless, .gif has one palette of 256 colours. No
    suffix, or a trailing slash, is a folder of frame_000.png … at no particular rate; an existing folder is replaced if
    it holds nothing but such frames. Small frames are enlarged first (`upscale`).

    Atomic and deterministic: see the module. Raises ValueError naming the argument, OSError naming path and remedy.
    """
    _check_frames(frames)
    if not (math.isfinite(fps) and 0 < fps <= 1000):
        raise ValueError(f"fps is {fps}; expected a number of frames per second above 0, at most 1000")
    check_writable(path)
    target, suffix = _target(path)
    with _replacing(target) as temporary:
        if suffix:
            _encode(upscale(frames), temporary, _encoder(suffix), Fraction(fps).limit_denominator(1001))
        else:
            temporary.mkdir()
            for index, frame in enumerate(upscale(frames)):
                Image.fromarray(frame).save(temporary / f"frame_{index:03d}.png")


def _encode(frames: Frames, path: Path, encoder: _Encoder, rate: Fraction) -> None:
    if encoder.pixels == "yuv420p":
        frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    options = {"fflags": "+bitexact", **encoder.container_options}
    with av.open(str(path), "w", format=encoder.container, options=options) as output:
        stream = output.add_stream(encoder.codec, rate=rate, options=dict(encoder.options))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = encoder.pixels
        stream.codec_context.thread_count = 1
        if encoder.pixels == "yuv420p":                               # without these tags, players guess the matrix
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
        for index, picture in enumerate(_pictures(frames, encoder.pixels)):
            picture.pts = index
            picture.time_base = 1 / rate
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))


def _pictures(frames: Frames, pixels: str) -> Iterator[av.VideoFrame]:
    """FFmpeg's own frames, in the encoder's pixel format."""
    if pixels == "pal8":                                              # one palette, so that still parts do not flicker
        f, h, w, c = frames.shape
        palette = Image.fromarray(frames.reshape(f * h, w, c)).quantize(256, Image.Quantize.MEDIANCUT)
        colours = np.zeros((256, 4), np.uint8)
        table = np.array(palette.getpalette(), np.uint8).reshape(-1, 3)
        colours[: len(table), 1:], colours[:, 0] = table, 255         # alpha, red, green, blue
        for frame in frames:
            indices = np.asarray(Image.fromarray(frame).quantize(palette=palette))
            yield av.VideoFrame.from_ndarray((indices, colours), format="pal8")
        return
    for frame in frames:
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        if pixels == "yuv420p":
            picture = picture.reformat(format=pixels, dst_colorspace=Colorspace.ITU709, interpolation="AREA")
        yield picture


def read_video(path: StrPath) -> Frames:
    """Frames `f h w c` of what `write_video` wrote, at their written size.

    PNG folders and WebP give back `upscale(frames)` exactly. Raises OSError for an unreadable file, ValueError for a
    suffix that `write_video` does not write or a folder without frames.
    """
    target, suffix = _target(path)
    if target.is_dir():
        found = sorted((int(m[1]), p) for p in target.iterdir() if (m := _FRAME.fullmatch(p.name)))
        if not found:
            raise ValueError(f"cannot read {str(path)!r}: it holds no frame_000.png")
        return np.stack([np.asarray(Image.open(p).convert("RGB")) for _, p in found])
    if suffix == ".mp4":
        with av.open(str(target)) as file:
            return np.stack([picture.to_ndarray(format="rgb24") for picture in file.decode(video=0)])
    if suffix not in SUFFIXES:
        raise ValueError(f"cannot read {str(path)!r}: unknown suffix {suffix!r}, accepted: .mp4, .gif, .webp, a folder")
    with Image.open(target) as image:
        frames = []
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")))
    return np.stack(frames)
