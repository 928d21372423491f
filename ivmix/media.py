"""Frames at the product's edges: video files, PNG folders, contact sheets and labelled grids.

Frames are uint8 arrays `f h w c` (c = 3, RGB). Whatever is written goes to a temporary name beside its target first and
is renamed when it is whole, so that an error, Ctrl-C or a full disk leaves the target as it was. The same frames give
the same bytes: encoders run in one thread and write no dates.
"""

import io
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
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from torch import Tensor  # a type only: `ivmix` answers before torch loads

Frames = NDArray[np.uint8]  # f h w c
StrPath = str | os.PathLike[str]

SUFFIXES = (".mp4", ".gif", ".webp", "")  # "" is a folder of PNG files
SHORTEST = 256  # pixels on the shorter side of a written video
SHEET = 96  # pixels on the shorter side of a sheet's frames

_PAPER, _INK, _TITLE = (252, 252, 250), (72, 72, 76), (24, 24, 28)

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
    """Frames `f h w c` enlarged by the smallest even factor that brings the shorter side to at least `shortest` pixels.

    Every pixel becomes a square (nearest neighbour), nothing is blended; an even factor keeps the squares aligned with
    the halved colour planes of video files. Frames that are large enough come back as they are.
    """
    _check_frames(frames)
    if min(frames.shape[1:3]) >= shortest:
        return frames
    factor = 2 * math.ceil(shortest / min(frames.shape[1:3]) / 2)
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


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
    """The file or folder that `path` names, and its suffix in lower case ("" for a folder)."""
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

    place = Path(os.path.realpath(target))  # links are followed, and stay
    parent = place.parent
    if not parent.exists():
        refuse(FileNotFoundError, f"folder {str(parent)!r} does not exist; create it first: mkdir -p {parent}")
    if not parent.is_dir():
        refuse(NotADirectoryError, f"{str(parent)!r} is not a folder; choose another place")
    try:
        found = place.exists()
    except OSError as error:  # a name too long, a loop of links
        raise OSError(error.errno, f"cannot write {str(target)!r}: {error.strerror}; choose another name") from None
    if found and folder:
        if not place.is_dir():
            refuse(NotADirectoryError, "a file of that name exists; remove it, or give a suffix such as .mp4")
        strange = sorted(p.name for p in place.iterdir() if not _FRAME.fullmatch(p.name))
        if strange:
            refuse(FileExistsError, f"the folder holds other files ({strange[0]}); choose a new or an empty folder")
    elif found and not place.is_file():
        refuse(IsADirectoryError, "it exists and is not a regular file; choose another name")
    if found and not os.access(place, os.W_OK):
        refuse(PermissionError, "it exists and is write-protected; choose another name")
    probe = _beside(place)
    try:  # asking the file system is the only sure way
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = f"folder {str(parent)!r} is not writable ({error.strerror}); choose another place"
        raise OSError(error.errno, f"cannot write {str(target)!r}: {reason}") from None


def _beside(target: Path) -> Path:
    """A name for a temporary file or folder next to `target`, short so that it fits wherever `target` does."""
    return target.with_name(f".{secrets.token_hex(4)}.tmp")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that takes its place if the block succeeds and is removed if it does not."""
    target = Path(os.path.realpath(target))
    temporary, old = _beside(target), _beside(target)
    try:
        yield temporary
        if target.is_dir():  # a folder cannot be renamed onto a full one
            target.rename(old)
            temporary.rename(target)
        else:
            temporary.replace(target)
    except OSError as error:  # say which target, not which temporary file
        message = f"cannot write {str(target)!r}: {error.strerror or error}; nothing was changed there"
        raise OSError(error.errno, message) from error
    finally:
        if old.exists() and not target.exists():  # stopped between the two renames
            old.rename(target)
        for path in (temporary, old):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def write_text(text: str, path: StrPath) -> None:
    """Writes `text` as UTF-8, atomically. Raises OSError naming path and remedy."""
    target, _ = _target(path)
    _check_place(target)
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_image(image: Image.Image, path: StrPath) -> None:
    """Writes `image` as a .png file, atomically. Raises ValueError for another suffix, OSError naming path, remedy."""
    check_writable(path, (".png",))
    with replacing(_target(path)[0]) as temporary:
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
    faststart = {"movflags": "+faststart"}  # a browser can play it while it loads
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
    if not 0.1 <= fps <= 1000:
        raise ValueError(f"fps is {fps}; expected frames per second, from 0.1 to 1000")
    check_writable(path)
    target, suffix = _target(path)
    with replacing(target) as temporary:
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
    _check_frames(frames)
    first, *rest = (Image.fromarray(frame) for frame in upscale(frames))
    buffer = io.BytesIO()
    first.save(buffer, "png", save_all=True, append_images=rest, duration=1000 / fps, loop=0)
    return buffer.getvalue()


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


# Figures


def contact_sheet(rows: Sequence[tuple[str, Frames]], title: str | None = None) -> Image.Image:
    """One labelled row a clip, its frames from left to right, under an optional title.

    `rows` are (label, frames `f h w c`), of any lengths and sizes; a label may hold line breaks. Small frames are
    enlarged (`upscale`, to 96 pixels). The text grows with the sheet, so that it reads at any clip size. It is set in
    Pillow's built-in font, which knows ASCII alone. Raises ValueError if there are no rows.
    """
    clips = _check_clips("rows", rows)
    strips = [upscale(frames, SHEET) for frames in clips]
    cell = max(frames.shape[1] for frames in strips)
    gap = max(4, cell // 24)  # between frames; everything else is in gaps
    widths = [len(frames) * (frames.shape[2] + gap) - gap for frames in strips]
    font = _font(min(max(cell / 7, max(widths) / 60), cell / 3))
    boxes = [_measure(label, font) for label, _ in rows]
    column = max(width for width, _ in boxes)
    left = 3 * gap + column + 3 * gap if column else 3 * gap
    heights = [max(frames.shape[1], box[1]) for frames, box in zip(strips, boxes, strict=True)]
    sheet_width = left + max(widths) + 3 * gap

    title_font = _font(font.size * 1.2)
    title = _wrap(title or "", title_font, sheet_width - 6 * gap)
    title_box = _measure(title, title_font)
    top = 3 * gap + (title_box[1] + 2 * gap if title else 0)
    sheet_height = top + sum(heights) + 2 * gap * (len(rows) - 1) + 3 * gap

    sheet = Image.new("RGB", (max(sheet_width, title_box[0] + 6 * gap), sheet_height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((3 * gap, 3 * gap), title, fill=_TITLE, font=title_font)
    y = top
    for (label, _), frames, box, height in zip(rows, strips, boxes, heights, strict=True):
        draw.multiline_text((3 * gap, y + (height - box[1]) // 2), label, fill=_INK, font=font)
        for index, frame in enumerate(frames):
            x = left + index * (frames.shape[2] + gap)
            sheet.paste(Image.fromarray(frame), (x, y + (height - frames.shape[1]) // 2))
        y += height + 2 * gap
    return sheet


def side_by_side(clips: Sequence[tuple[str, Frames]], columns: int | None = None) -> Frames:
    """A grid of labelled clips as one video: frames `f H W c`.

    `clips` are (label, frames `f h w c`) of one common shape, filled in row by row; small ones are enlarged
    (`upscale`). `columns` defaults to a single row of up to three, then to a grid about as wide as it is high. Labels
    are as in `contact_sheet`. Raises ValueError if there are no clips, if their shapes differ, or for `columns` outside
    1 … the number of clips.
    """
    shapes = {frames.shape for frames in _check_clips("clips", clips)}
    if len(shapes) != 1:
        raise ValueError(f"clips have the shapes {sorted(shapes)}; expected one shape for all")
    if columns is None:
        columns = len(clips) if len(clips) <= 3 else math.ceil(math.sqrt(len(clips)))
    if not 1 <= columns <= len(clips):
        raise ValueError(f"columns is {columns}; expected 1 to {len(clips)}, the number of clips")
    enlarged = [upscale(frames) for _, frames in clips]
    f, h, w, _ = enlarged[0].shape
    gap = 2 * max(2, min(h, w) // 40)  # even, as are h and w: see `upscale`
    font = _font(min(h, w) / 15)
    boxes = [_measure(label, font) for label, _ in clips]
    head = 2 * math.ceil((max(height for _, height in boxes) + gap / 2) / 2)
    width = 2 * math.ceil(max(w, *(width for width, _ in boxes)) / 2)
    rows = math.ceil(len(clips) / columns)

    page = Image.new("RGB", (2 * gap + columns * (width + gap) - gap, 2 * gap + rows * (head + h + gap) - gap), _PAPER)
    draw = ImageDraw.Draw(page)
    cells = (divmod(k, columns) for k in range(len(clips)))
    places = [(gap + row * (head + h + gap), gap + column * (width + gap)) for row, column in cells]
    for (label, _), box, (y, x) in zip(clips, boxes, places, strict=True):
        draw.multiline_text((x, y + head - gap // 2 - box[1]), label, fill=_INK, font=font)
    grid = np.repeat(np.asarray(page)[None], f, axis=0)
    for frames, (y, x) in zip(enlarged, places, strict=True):
        grid[:, y + head : y + head + h, x : x + w] = frames
    return grid


def _check_clips(name: str, clips: Sequence[tuple[str, Frames]]) -> list[Frames]:
    if not clips:
        raise ValueError(f"{name} is empty; expected at least one (label, frames)")
    for index, (_, frames) in enumerate(clips):
        _check_frames(frames, f"{name}[{index}]")
    return [frames for _, frames in clips]


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=round(max(size, 12)))
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this build of Pillow lacks FreeType and cannot draw labels; its wheels on PyPI have it")
    return font


def _measure(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Width and height in pixels of `text` drawn at its top left corner; the height does not depend on its letters."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    _, _, right, _ = draw.multiline_textbbox((0, 0), text, font=font)
    _, _, _, bottom = draw.multiline_textbbox((0, 0), re.sub(r"[^\n]+|^$", "Ag", text), font=font)
    return math.ceil(right), math.ceil(bottom)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """`text` with line breaks at spaces, so that its lines are at most `width` pixels unless one word is longer."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)
