"""Clips read from whatever people have: films, animations, pictures and folders of them."""

import os
import re
import struct
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData, SideDataContainer
from av.stream import Disposition
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ivmix.media.files import StrPath
from ivmix.media.frames import Frames

Picture = NDArray[np.uint8]  # h w c
Shown = tuple[Picture, Fraction]  # and the seconds that it is shown, 0 for a still

_PILLOW = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM")  # FFmpeg has the rest
_FOLDER = (".png", ".jpg", ".jpeg", ".webp")
_DAMAGED = (  # Pillow's readers raise them all
    av.FFmpegError, OSError, EOFError, SyntaxError, TypeError, AttributeError, LookupError, ArithmeticError,
    struct.error,
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class Clip:
    """Frames that `read_clip` found, and their rate."""

    frames: Frames  # f h w c
    fps: float | None  # the mean rate; None where there is none: a picture, a folder of pictures

    def __repr__(self) -> str:
        return f"Clip(frames={'x'.join(map(str, self.frames.shape))}, fps={self.fps})"


def read_clip(path: StrPath, limit: int | None = None) -> Clip:
    """The first `limit` frames (None: all) of any video or picture that FFmpeg or Pillow reads, or of a folder.

    The content decides, not the suffix. A folder's .png, .jpg, .jpeg and .webp files are one clip, in the order of the
    numbers in their names. Frames are as they are stored, whatever the time between them, and no more than `limit` are
    decoded. They become upright RGB of 8 bits: films are turned as their display matrix says, pictures as EXIF says;
    transparent pixels are laid over black; grey and 16-bit levels are converted. Pixels are taken as square, and
    colours as sRGB: profiles and HDR curves are not applied. What `write_video` wrote to a folder or .webp comes back
    exactly, at its written size (`fit` undoes the enlargement).

    Raises FileNotFoundError for a missing path, OSError for one that cannot be opened, and ValueError, with the path
    and what is wrong, for whatever is no picture, holds no video, is damaged or cut short before `limit`, or changes
    its size. MPEG transport streams, and Matroska or WebM written live, do not say how long they are: cut between two
    frames, they are shorter clips.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected the most frames to read, 1 or more, or None for all")
    pictures, times = zip(*_frames(path, range(sys.maxsize if limit is None else limit)), strict=True)
    seconds = sum(times, Fraction(0))
    return Clip(np.stack(pictures), float(len(pictures) / seconds) if seconds and len(pictures) > 1 else None)


def read_video(path: StrPath) -> Frames:
    """Frames `f h w c` alone: see `read_clip`."""
    return read_clip(path).frames


def read_frames(path: StrPath, wanted: Sequence[int]) -> Frames:
    """The frames `f h w c` of `read_clip` by their numbers, from 0 and rising; fewer if the clip ends before.

    No others are held, and none after the last is decoded. A film is decoded from its beginning: where a search lands
    is not exact in all of them. Raises ValueError if none of the frames is there, and what `read_clip` raises.
    """
    pictures = [picture for picture, _ in _frames(path, wanted)]
    if not pictures:
        raise ValueError(f"cannot read {os.fspath(path)!r}: it ends before frame {wanted[0]}")
    return np.stack(pictures)


def count_frames(path: StrPath) -> int:
    """How many frames `read_clip` would give, in the memory of one.

    A film is decoded to its end, though not brought to RGB: the length that a header claims may be wrong, and a packet
    is not always one frame (XviD packs two into one, and leaves an empty one behind). So a damaged film raises what it
    raises in `read_clip`.
    """
    return sum(1 for source in _sources(os.fspath(path)) for _ in _decode(source, ()))


def _frames(path: StrPath, wanted: Sequence[int]) -> Iterator[Shown]:
    """The wanted frames of all files in turn, all of one size."""
    index, shape = 0, None
    for source in _sources(os.fspath(path)):
        offset = index
        for shown in islice(_decode(source, wanted, offset), wanted[-1] + 1 - offset):
            if shown:
                shape = shape or shown[0].shape
                if shown[0].shape != shape:
                    now, before = ("{}x{}".format(*size) for size in (shown[0].shape, shape))
                    message = f"frame {index} is {now}, those before are {before}; expected one size for all"
                    raise ValueError(f"cannot read {str(source)!r}: {message}")
                yield shown
            index += 1


def _sources(path: str) -> list[Path]:
    """The files that `path` stands for, in order."""
    source = Path(path)
    if not path or "\0" in path:
        raise ValueError(f"cannot read {path!r}: it names no file")
    if source.is_dir():
        found = [p for p in source.iterdir() if p.suffix.lower() in _FOLDER and p.name[0] != "." and p.is_file()]
        if not found:
            raise ValueError(f"cannot read {path!r}: the folder holds no pictures ({', '.join(_FOLDER)})")
        return sorted(found, key=_natural)
    if not source.exists():
        raise FileNotFoundError(f"cannot read {path!r}: there is no such file or folder")
    if not source.is_file():
        raise ValueError(f"cannot read {path!r}: it is not a regular file")
    if source.stat().st_size == 0:
        raise ValueError(f"cannot read {path!r}: the file is empty")
    return [source]


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Sorts 2 before 10."""
    parts = re.split(r"(\d+)", path.name)  # every other one is a number
    return [int(part) if k % 2 else part for k, part in enumerate(parts)], path.name


def _decode(source: Path, wanted: Container[int], offset: int = 0) -> Iterator[Shown | None]:
    """Every picture of one file; None for those whose number, the first being `offset`, is not wanted. Raises
    ValueError naming the file."""
    count = 0
    with source.open("rb") as named, open(named.fileno(), "rb", closefd=False) as file:  # nameless: no suffix misleads
        try:
            for shown in _pictures(file, source):
                yield shown() if offset + count in wanted else None
                count += 1
        except _DAMAGED as error:
            reason = getattr(error, "strerror", None) or error
            message = f"it is damaged or cut short after {count} frames: {reason}"
            raise ValueError(f"cannot read {str(source)!r}: {message}") from None
        except (ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"cannot read {str(source)!r}: {error}") from None
    if count == 0:
        raise ValueError(f"cannot read {str(source)!r}: it holds no frames")


def _pictures(file: BinaryIO, source: Path) -> Iterator[Callable[[], Shown]]:
    """What Pillow reads in a file, and what FFmpeg does if Pillow does not know it. Called in turn, if at all."""
    try:
        image = Image.open(file, formats=_PILLOW)
    except UnidentifiedImageError:
        file.seek(0)
        yield from _film(file, source)
        return
    first = 1 if image.info.get("default_image") else 0  # an animated PNG may begin with a picture beside the animation
    count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # after a photograph come its depth and gain
    for index in range(first, count):
        image.seek(index)
        yield partial(_still, image)


def _film(file: BinaryIO, source: Path) -> Iterator[Callable[[], Shown]]:
    try:  # no protocol: a playlist opens no other files
        container = cast(InputContainer, av.open(file, options={"protocol_whitelist": "none"}))
    except av.FFmpegError:
        raise ValueError("it is no video or picture that FFmpeg or Pillow reads, or it is cut short") from None
    with container:
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream) or stream.disposition & Disposition.attached_pic:
            raise ValueError("it holds no video")
        rate = stream.average_rate or stream.guessed_rate
        for packet in container.demux(stream):
            for picture in packet.decode():
                if packet.is_corrupt or picture.is_corrupt:
                    raise EOFError("a frame is incomplete")
                yield partial(_moving, picture, 1 / rate if rate else Fraction(0))
        if container.format.name.startswith("matroska") and _cut_off(source):
            raise EOFError("the file is shorter than it says")


def _still(image: Image.Image) -> Shown:
    return _rgb(image), Fraction(image.info.get("duration", 0)) / 1000  # WebP knows it once it is decoded


def _moving(picture: av.VideoFrame, lasts: Fraction) -> Shown:
    return _upright(picture), lasts


def _upright(picture: av.VideoFrame) -> Picture:
    """A decoded frame in RGB, turned and mirrored as its display matrix says."""
    kind = "rgba" if any(part.is_alpha for part in picture.format.components) else "rgb24"
    untold = picture.colorspace == 2 and picture.height >= 720  # high definition is BT.709 unless it says otherwise
    pixels = _rgb(Image.fromarray(picture.to_ndarray(format=kind, src_colorspace="ITU709" if untold else None)))
    sides = SideDataContainer(picture)  # type: ignore[call-arg]  # not its own one, by which a frame would hold itself
    matrix = sides.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return pixels
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32)  # (x, y) is shown at (a x + c y, b x + d y) and a shift
    lying = abs(b) > abs(a)
    right, down = (c, b) if lying else (a, d)
    if lying:
        pixels = pixels.transpose(1, 0, 2)
    return pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


def _rgb(image: Image.Image) -> Picture:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 0xFFFF:
            raise ValueError(f"its levels are {levels.min()} to {levels.max()}; expected 8 or 16 bits")
        image = Image.fromarray((levels / 257).round().astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; expected 8 or 16 bits")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def _cut_off(source: Path) -> bool:
    """Whether a Matroska file ends before its segment, which FFmpeg does not mind: RFC 8794, variable-size integers."""
    with source.open("rb") as file:
        head = file.read(4096)
    start = head.find(b"\x18\x53\x80\x67") + 4
    length = 9 - head[start].bit_length()  # of the number, in bytes
    unknown = (1 << 7 * length) - 1  # written live
    size = int.from_bytes(head[start : start + length]) & unknown
    return size != unknown and start + length + size > source.stat().st_size
